/*
 * sentencepiece.h - pieces and settings of a tokenizer.model, which is a protobuf message of google/sentencepiece
 * (src/sentencepiece_model.proto).
 *
 * Only the fields that encoding needs are read, by the wire format alone; unknown ones are passed over, as protobuf wants it. Every
 * length is compared with what is left.
 */
#ifndef FOURWAY_WEIGHTS_SENTENCEPIECE_H
#define FOURWAY_WEIGHTS_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/gguf.h"

/* The numbers of the file, which are those of GGUF's token types, too. */
enum sentencepiece_type {
    SENTENCEPIECE_NORMAL = 1, SENTENCEPIECE_UNKNOWN, SENTENCEPIECE_CONTROL, SENTENCEPIECE_USER_DEFINED, SENTENCEPIECE_UNUSED,
    SENTENCEPIECE_BYTE
};

struct sentencepiece_piece { struct gguf_string text; float score; enum sentencepiece_type type; };     /* text: not NUL-terminated */

struct sentencepiece {
    struct sentencepiece_piece *pieces;     /* index = id; texts lie in the caller's bytes */
    size_t n_pieces;
    uint32_t model_type;                    /* 1 unigram, 2 BPE, 3 word, 4 char */
    bool add_dummy_prefix, remove_extra_whitespaces, has_charsmap;
};

/*
 * Read bytes[n], which must outlive s. Returns 0, -EINVAL with *why (static) and *at set, or -ENOMEM. sentencepiece_free() in any case.
 */
int sentencepiece_read(struct sentencepiece *s, const char *bytes, size_t n, const char **why, size_t *at);
void sentencepiece_free(struct sentencepiece *s);

#endif
