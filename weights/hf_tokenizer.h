/*
 * hf_tokenizer.h - the vocabulary of a Hugging Face folder as the keys "tokenizer." of a GGUF file.
 *
 * tokenizer.json of byte-level BPE becomes model "gpt2"; its pre-tokenizer is known by its patterns (hf_pretokenizer.c). tokenizer.model
 * (SentencePiece BPE) becomes "llama" with its scores, as does a tokenizer.json of that kind, whose merges then come along, because
 * scores cannot say all of them. Anything else is refused by name.
 *
 * Beside GGUF's keys: tokenizer.ggml.by_merges, a bool: the merges of a "llama" vocabulary count, not its scores; and
 * tokenizer.ggml.eos_token_ids, u32[]: all ids of generation_config.json that end a text.
 */
#ifndef FOURWAY_WEIGHTS_HF_TOKENIZER_H
#define FOURWAY_WEIGHTS_HF_TOKENIZER_H

#include "weights/hf_config.h"

/* A vocabulary while it is collected: one entry an id. */
struct hf_vocabulary {
    const struct hf_config *c;
    const char *folder;
    struct gguf_builder *b;
    /* tokenizer.json, tokenizer_config.json, generation_config.json, added_tokens.json; a root is NULL where the file is not there. */
    struct hf_json json, config, generation, added;
    size_t n;
    struct gguf_string *texts;      /* [n] data NULL: no token has the id so far */
    int32_t *types;
    float *scores;
};

/* Put all keys of the vocabulary. Returns 0, or a negative errno (logged). */
int hf_tokenizer_put(struct hf_config *c, const char *folder, struct gguf_builder *b);

/* For the parts below. Set a token; `replace`: it may have another text so far. Returns 0 or -EINVAL (logged, of file f). */
int hf_vocabulary_set(struct hf_vocabulary *v, const struct hf_json *f, uint64_t id, struct gguf_string text, int32_t type, float score,
                      bool replace);
/* The id with this text, or -1. */
int64_t hf_vocabulary_find(const struct hf_vocabulary *v, struct gguf_string text);

/* hf_pretokenizer.c: GGUF's name (static) for how tokenizer.json splits a text. Returns 0, -EINVAL (logged) or -ENOMEM. */
int hf_pretokenizer_name(const struct hf_json *json, const char **name);
/* True for byte-level BPE. */
bool hf_pretokenizer_is_byte_level(const json_t *tokenizer);
/* The same for what SentencePiece does before merging: 1 with a space in front of a text, 0 without, -1 after a message. */
int hf_pretokenizer_spaces(const struct hf_json *json);

/* hf_special.c: keys of bos and the like, add_bos_token, the chat template. */
int hf_special_put(struct hf_vocabulary *v);

#endif
