/*
 * hf_quantized.h - weights that a Hugging Face folder has quantized: which they are, and how their rows become those of a GGUF type.
 *
 * GPTQ, AWQ, compressed-tensors and FP8 in blocks, as config.json's quantization_config names them. Which matrices are quantized is
 * told by the tensors that are there, not by the lists of that file. Values stay exactly what they are (quantized_rows.h); what cannot
 * stay so is refused with its name. After the readers of transformers, AutoGPTQ, AutoAWQ and compressed-tensors.
 */
#ifndef FOURWAY_WEIGHTS_HF_QUANTIZED_H
#define FOURWAY_WEIGHTS_HF_QUANTIZED_H

#include "weights/gguf_build.h"
#include "weights/safetensors.h"

struct hf_config;

/* What quantization_config says that no tensor does. */
struct hf_quantization {
    enum { HF_NOT_QUANTIZED, HF_GPTQ, HF_AWQ, HF_COMPRESSED, HF_FP8 } method;
    uint32_t bits;                          /* GPTQ, AWQ */
    uint64_t group;                         /* columns; 0: the file does not say, UINT64_MAX: all */
    bool symmetric;
    uint8_t zero_plus;                      /* as in struct quantized_rows */
    uint64_t block_rows, block_columns;     /* of one scale; 0: there are no such blocks */
};

/* Read quantization_config to c->quantization; c->failed after a message. */
void hf_quantization_read(struct hf_config *c);

/*
 * The name of a tensor's matrix, ending in ".weight" whatever the codes are called; otherwise the name as it is. Returns false for
 * scales, zero points and the like, which are a part of another tensor's matrix. *codes: it is the codes of one.
 */
bool hf_quantized_name(const struct hf_config *c, const struct safetensors_tensor *t, char out[SAFETENSORS_MAX_NAME + 1], bool *codes);

struct hf_quantized_matrix {
    uint32_t type;                          /* enum dtype that its values have exactly */
    uint64_t n_columns;
    struct tensor_piece rows;               /* all of them */
};

/*
 * The quantized matrix called `name`, which ends in ".weight". Returns 1, 0 when no such matrix is there, -EINVAL (logged: what of it is
 * wrong) or -ENOMEM.
 */
int hf_quantized_find(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b, const char *name,
                      struct hf_quantized_matrix *out);

#endif
