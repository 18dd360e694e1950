/*
 * hf_names.h - from the names of tensors in a Hugging Face folder to those of GGUF, and from their shapes and types to GGUF's.
 */
#ifndef FOURWAY_WEIGHTS_HF_NAMES_H
#define FOURWAY_WEIGHTS_HF_NAMES_H

#include "weights/gguf_build.h"
#include "weights/safetensors.h"

struct hf_config;

/* What stands between "model.layers.N." and ".weight" or ".bias"; a table of them ends with a NULL. */
struct hf_name {
    const char *hf, *gguf;
    /* Q, K: rows of rotated pairs, where the family has them. WHOLE_NAME: nothing follows in the file; `gguf` says all. */
    enum { HF_AS_IS, HF_ROTATED_Q, HF_ROTATED_K, HF_WHOLE_NAME } rows;
};

/*
 * Put the tensors of a list that the model needs, under GGUF's names. Returns 0, or -EINVAL (logged: the first tensor that is wrong)
 * or -ENOMEM. A tensor that is no part of the language model is left out; one that nobody knows, with a warning.
 */
int hf_names_put(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b);

#endif
