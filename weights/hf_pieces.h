/*
 * hf_pieces.h - tensors of GGUF that a Hugging Face folder has in several, or in another order: stacked experts, latent attention, and
 * the matrices of gpt-oss (hf_gpt_oss.c) and Yuan (hf_yuan.c).
 */
#ifndef FOURWAY_WEIGHTS_HF_PIECES_H
#define FOURWAY_WEIGHTS_HF_PIECES_H

#include "weights/gguf_build.h"
#include "weights/safetensors.h"

struct hf_config;

/* Functions of families (struct hf_family), which put what they assemble. Return 0 or a negative errno (logged). */
int hf_put_mixtral_experts(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b);
int hf_put_qwen_experts(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b);
int hf_put_deepseek_pieces(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b);
int hf_put_gpt_oss_pieces(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b);
int hf_put_yuan(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b);

#endif
