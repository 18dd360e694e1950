/*
 * hf_pretokenizer.c - knows the normalizer and pre_tokenizer of a tokenizer.json as one of those that have a name in GGUF.
 *
 * llama.cpp's converter encodes a test text and looks the ids up in a list of models; here the patterns themselves are compared, so
 * that a vocabulary of any size and origin is known. What is compared is the text of the published files: another text is refused
 * although it might split alike, because a wrong splitter gives plausible but worse answers.
 */
#include <errno.h>
#include <string.h>

#include "common/buf.h"
#include "weights/hf_tokenizer.h"

#define ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CAMEL(after) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" after "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" after
#define CLASSIC(digits) ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define SPLIT(pattern) "split " pattern "\n"

enum { EITHER = 2 };

/* One row a name: the steps as describe() writes them. */
static const struct {
    const char *name, *steps;
    int ignore_merges, nfc;         /* 0, 1, or EITHER */
} rows[] = {
    { "gpt-2", "gpt2\n", 0, 0 },
    { "smollm", "digits\ngpt2\n", 0, 0 },
    { "llama-bpe", SPLIT(CLASSIC("\\p{N}{1,3}")) "bytes\n", 1, 0 },
    { "dbrx", SPLIT(CLASSIC("\\p{N}{1,3}")) "bytes\n", 0, 0 },
    { "qwen2", SPLIT(CLASSIC("\\p{N}")) "bytes\n", 0, 1 },
    { "deepseek-r1-qwen", SPLIT(CLASSIC("\\p{N}")) "bytes\n", 0, 0 },
    { "qwen35", SPLIT(ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES)
      "bytes\n", 0, 1 },
    { "gpt-4o", SPLIT(CAMEL(ENDINGS "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES) "bytes\n", EITHER, 0 },
    { "tekken", SPLIT(CAMEL("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES) "bytes\n", 1, 0 },
    { "deepseek-v3", SPLIT("\\p{N}{1,3}") SPLIT("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+")
      SPLIT("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|"
            SPACES) "bytes\n", 0, 0 },
};

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));

    return type ? type : "";
}

static const char *quote_type(const json_t *object, char out[GGUF_QUOTED])
{
    return object ? gguf_quote((struct gguf_string){ type_of(object), strlen(type_of(object)) }, out) : "null";
}

static bool is_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

/* A pattern, in which some files write a newline as such and others as \n. */
static void append_pattern(struct buf *out, const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '\r' || *pattern == '\n')
            buf_puts(out, *pattern == '\r' ? "\\r" : "\\n");
        else
            buf_putc(out, *pattern);
    }
}

/* One step of the pre_tokenizer as a line; a step that has none is written as its type, which no row contains. */
static void describe_step(const json_t *step, struct buf *out)
{
    const char *type = type_of(step), *pattern = text_of(json_object_get(step, "pattern"), "Regex");
    const char *behavior = text_of(step, "behavior");
    /* What matches is a piece, and so is what lies between; or only the former, where the patterns leave nothing out. */
    const bool isolated = !strcmp(behavior, "Isolated") && !is_true(step, "invert");
    const bool matches = !strcmp(behavior, "Removed") && is_true(step, "invert");

    if (!strcmp(type, "Split") && *pattern && (isolated || (matches && strstr(pattern, "\\s+(?!\\S)|\\s+")))) {
        buf_puts(out, "split ");
        append_pattern(out, pattern);
    } else if (!strcmp(type, "ByteLevel") && !is_true(step, "add_prefix_space")) {
        buf_puts(out, json_is_false(json_object_get(step, "use_regex")) ? "bytes" : "gpt2");
    } else if (!strcmp(type, "Digits") && is_true(step, "individual_digits")) {
        buf_puts(out, "digits");
    } else {
        buf_printf(out, "%.64s as it is set here", type);
    }
    buf_putc(out, '\n');
}

/* A Sequence, or the one step. */
static void describe(const json_t *pre, struct buf *out)
{
    const json_t *steps = json_object_get(pre, "pretokenizers");
    const json_t *step;
    size_t i;

    if (strcmp(type_of(pre), "Sequence")) {
        describe_step(pre, out);
        return;
    }
    json_array_foreach(steps, i, step)
        describe_step(step, out);
}

bool hf_pretokenizer_is_byte_level(const json_t *tokenizer)
{
    const json_t *pre = json_object_get(tokenizer, "pre_tokenizer");
    const json_t *step;
    size_t i;

    if (!strcmp(type_of(pre), "ByteLevel"))
        return true;
    json_array_foreach(json_object_get(pre, "pretokenizers"), i, step)
        if (!strcmp(type_of(step), "ByteLevel"))
            return true;
    return false;
}

int hf_pretokenizer_name(const struct hf_json *json, const char **name)
{
    const json_t *normalizer = hf_get(json->root, "normalizer");
    const int nfc = normalizer && !strcmp(type_of(normalizer), "NFC");
    const int ignore_merges = is_true(json_object_get(json->root, "model"), "ignore_merges");
    struct buf steps = { 0 };
    char quoted[GGUF_QUOTED];
    int err = 0;

    *name = NULL;
    if (normalizer && !nfc)
        return hf_fail(json, "normalizer of type %s is not supported with byte-level BPE (null and NFC are)",
                       quote_type(normalizer, quoted));
    describe(json_object_get(json->root, "pre_tokenizer"), &steps);
    buf_puts(&steps, "");
    for (size_t i = 0; !*name && !steps.failed && i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!strcmp(rows[i].steps, steps.data) && (rows[i].ignore_merges == EITHER || rows[i].ignore_merges == ignore_merges) &&
            rows[i].nfc == nfc)
            *name = rows[i].name;
    if (steps.failed)
        err = -ENOMEM;
    else if (!*name)
        err = hf_fail(json, "pre_tokenizer %s (normalizer %s, ignore_merges %s) is none of those supported",
                      gguf_quote((struct gguf_string){ steps.data, steps.len }, quoted), nfc ? "NFC" : "null",
                      ignore_merges ? "true" : "false");
    buf_free(&steps);
    return err;
}

/* Replace " " by U+2581. */
static bool is_replace(const json_t *step)
{
    return !strcmp(type_of(step), "Replace") && !strcmp(text_of(json_object_get(step, "pattern"), "String"), " ") &&
           !strcmp(text_of(step, "content"), "\u2581");
}

/* 1: a space in front and Replace; 0: Replace; -1: neither. */
static int spaces_of_normalizer(const json_t *normalizer)
{
    const json_t *steps = json_object_get(normalizer, "normalizers");

    if (is_replace(normalizer))
        return 0;
    if (strcmp(type_of(normalizer), "Sequence"))
        return -1;
    if (json_array_size(steps) == 1 && is_replace(json_array_get(steps, 0)))
        return 0;
    const json_t *prepend = json_array_get(steps, 0);
    if (json_array_size(steps) == 2 && is_replace(json_array_get(steps, 1)) && !strcmp(type_of(prepend), "Prepend") &&
        !strcmp(text_of(prepend, "prepend"), "\u2581"))
        return 1;
    return -1;
}

int hf_pretokenizer_spaces(const struct hf_json *json)
{
    const json_t *normalizer = hf_get(json->root, "normalizer"), *pre = hf_get(json->root, "pre_tokenizer");
    const char *scheme = text_of(pre, "prepend_scheme");
    int spaces = normalizer ? spaces_of_normalizer(normalizer) : -1;
    char a[GGUF_QUOTED], b[GGUF_QUOTED];

    /* Gemma splits at spaces of which its normalizer has left none. */
    const bool no_step = !pre || (!strcmp(type_of(pre), "Split") && !strcmp(text_of(json_object_get(pre, "pattern"), "String"), " "));
    if (!normalizer && !strcmp(type_of(pre), "Metaspace") && !strcmp(text_of(pre, "replacement"), "\u2581") &&
        json_is_false(json_object_get(pre, "split"))) {
        if (!strcmp(scheme, "always"))
            return 1;
        if (!strcmp(scheme, "never"))
            return 0;
    }
    if (spaces < 0 || !no_step) {
        hf_fail(json, "normalizer %s with pre_tokenizer %s, as they are set here, is not supported for BPE over characters; "
                "tokenizer.model beside it would be used", quote_type(normalizer, a), quote_type(pre, b));
        return -1;
    }
    return spaces;
}
