/*
 * tokenizer.h - text <-> token ids, from the vocabulary of a model file.
 *
 * Two kinds: byte-level BPE with merges (GGUF model "gpt2"; pre-tokenizer patterns by PCRE2) and SentencePiece-style BPE
 * with scores and byte fallback (GGUF model "llama": Llama 2, Gemma). Special tokens are matched only where the caller
 * allows it: text that came from a user must not produce control tokens.
 *
 * Read-only once open: any number of threads may encode and decode at once.
 */
#ifndef FOURWAY_WEIGHTS_TOKENIZER_H
#define FOURWAY_WEIGHTS_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "weights/gguf.h"

struct tokenizer;

struct token_ids { int32_t *ids; size_t n, cap; };     /* free(ids) by the caller; append by tokenizer_encode */

enum {
    TOKENIZE_ADD_BOS = 1,       /* put BOS (and append EOS) if the vocabulary asks for it */
    TOKENIZE_SPECIAL = 2        /* the texts of control tokens in the input are those tokens */
};

/* Returns 0, -EINVAL (logged: which key), or -ENOMEM. */
int tokenizer_open_gguf(struct tokenizer **t, const struct gguf *g);
void tokenizer_close(struct tokenizer *t);

/*
 * Append the ids of text[n] to `out`. `literal`, if not NULL, has n bytes; where it is 1 the text came from a
 * user and no control token may begin in, or reach into, it, whatever the flags say. Text must be valid UTF-8.
 * Returns 0, -EINVAL (not UTF-8; a regex limit), or -ENOMEM. O(n log n).
 */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, const uint8_t *literal, unsigned flags,
                     struct token_ids *out);

/* The bytes of a token as decoded text (a piece may be no valid UTF-8). NULL for an id outside the vocabulary. */
const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *n);

size_t tokenizer_vocab_size(const struct tokenizer *t);
bool tokenizer_is_control(const struct tokenizer *t, int32_t id);      /* type control or unknown: no text of its own */
int32_t tokenizer_bos(const struct tokenizer *t);      /* -1: none. Likewise eos */
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_adds_bos(const struct tokenizer *t);
const char *tokenizer_kind(const struct tokenizer *t);         /* "gpt2" or "llama" */
const char *tokenizer_pre(const struct tokenizer *t);          /* pre-tokenizer name, "" for llama */

/* Ids that end a text: eos, eot, eom and those known by their texts (tokenizer_special.c). Sorted; owned by t. */
const int32_t *tokenizer_stop_ids(const struct tokenizer *t, size_t *n);

/*
 * Streaming detokenisation of one sequence: bytes are released only as whole characters, and what can never become
 * valid UTF-8 becomes U+FFFD, one per maximal subpart (Unicode 3.9). The deltas joined equal the decode of all ids.
 * `skip_special`: control tokens give no text. SentencePiece: the space that add_space_prefix put in front of a text
 * is removed from its first piece when `strip_prefix` is set.
 */
struct detokenizer {
    const struct tokenizer *tokenizer;
    bool skip_special, strip_prefix;
    bool started;
    char held[4];
    size_t n_held;
};
void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_special, bool strip_prefix);
void detokenizer_push(struct detokenizer *d, int32_t id, struct buf *out);
void detokenizer_finish(struct detokenizer *d, struct buf *out);

#endif
