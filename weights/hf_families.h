/*
 * hf_families.h - functions that put the keys of a family's architecture (struct hf_family), after conversion/ of ggml-org/llama.cpp.
 */
#ifndef FOURWAY_WEIGHTS_HF_FAMILIES_H
#define FOURWAY_WEIGHTS_HF_FAMILIES_H

#include "weights/hf_config.h"

/* hf_families.c: what mixtures share with dense models. */
void hf_put_llama(struct hf_config *c);
void hf_put_mistral(struct hf_config *c);
void hf_put_qwen(struct hf_config *c);
/* Which layers slide, where it is not as usual: all but every usual-th. */
void hf_put_pattern(struct hf_config *c, uint64_t usual);

/* hf_mixtures.c */
void hf_put_mixtral(struct hf_config *c);
void hf_put_qwen3_moe(struct hf_config *c);
void hf_put_gpt_oss(struct hf_config *c);
void hf_put_glm4_moe(struct hf_config *c);
void hf_put_minimax_m2(struct hf_config *c);
void hf_put_deepseek_v2(struct hf_config *c);
void hf_put_deepseek_v3(struct hf_config *c);
void hf_put_yuan_keys(struct hf_config *c);

#endif
