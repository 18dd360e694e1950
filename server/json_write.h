/*
 * json_write.h - JSON straight into a growing buffer, without a tree: replies and events are written in one pass.
 *
 * The caller writes punctuation and keys with buf_puts/buf_printf; these functions write the values that need care.
 */
#ifndef FOURWAY_SERVER_JSON_WRITE_H
#define FOURWAY_SERVER_JSON_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* "text", quoted and escaped; what is no valid UTF-8 becomes U+FFFD, one per maximal subpart. */
void json_write_bytes(struct buf *b, const char *text, size_t n);
void json_write_string(struct buf *b, const char *text);

/* "text", or null for NULL. */
void json_write_string_or_null(struct buf *b, const char *text);

/* 9 significant digits: equal values are equal texts, and the float comes back exactly. -infinity is no JSON: -9999.0. */
void json_write_logprob(struct buf *b, float logprob);

/* [0.5,-1] with 9 significant digits, so that floats come back exactly; `floats` need not be aligned. All finite. */
void json_write_floats(struct buf *b, const void *floats, size_t n);

/* "AACAPw==": RFC 4648. */
void json_write_base64(struct buf *b, const void *bytes, size_t n);

/* [1,2,3] */
void json_write_ids(struct buf *b, const int32_t *ids, size_t n);

/* [80,97]: the bytes as numbers. */
void json_write_byte_list(struct buf *b, const char *bytes, size_t n);

#endif
