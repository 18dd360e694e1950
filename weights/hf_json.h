/*
 * hf_json.h - the JSON files of a Hugging Face folder, and values of them with their ranges checked.
 *
 * A file is a stranger's: bounded in bytes, depth and values before it is parsed. What is wrong is logged as
 * "PATH: "key" is VALUE, expected LEAST..MOST". A key whose value is null counts as absent, as it does for the Python code.
 */
#ifndef FOURWAY_WEIGHTS_HF_JSON_H
#define FOURWAY_WEIGHTS_HF_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "common/buf.h"
#include "weights/gguf.h"

struct hf_json {
    char *path;                 /* of the file, for messages */
    json_t *root;               /* an object; NULL: the file is not there */
};

/*
 * Read the file `name` of a folder. Returns 0; -ENOENT when there is none (nothing is logged); else another negative errno, logged.
 * hf_json_free() in any case.
 */
int hf_json_read(struct hf_json *f, const char *folder, const char *name);
void hf_json_free(struct hf_json *f);

/* A whole file of at most `most` bytes. As hf_json_read(); buf_free() in any case. */
int hf_read_file(const char *folder, const char *name, size_t most, struct buf *text);

/* The value of a key that is there and not null, or NULL. `object` may be NULL. */
const json_t *hf_get(const json_t *object, const char *key);

/*
 * Typed access to a key of `object`, part of f. Return 0; -ENOENT when it is absent (*out is untouched); -EINVAL (logged).
 * A whole number that is written as a real is an integer.
 */
int hf_get_u64(const struct hf_json *f, const json_t *object, const char *key, uint64_t least, uint64_t most, uint64_t *out);
int hf_get_f64(const struct hf_json *f, const json_t *object, const char *key, double least, double most, double *out);
int hf_get_bool(const struct hf_json *f, const json_t *object, const char *key, bool *out);
int hf_get_string(const struct hf_json *f, const json_t *object, const char *key, struct gguf_string *out);

/* Log "PATH: ..." and return -EINVAL. */
int hf_fail(const struct hf_json *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A JSON number that is an integer of 0 to `most`. */
bool hf_integer(const json_t *value, uint64_t most, uint64_t *out);
struct gguf_string hf_text(const json_t *string);

#endif
