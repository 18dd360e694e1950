/*
 * pretokenizer.c - splits a text into the pieces that byte-level BPE merges on their own, by the name in `pre`.
 *
 * The patterns are those of the published tokenizers (llama.cpp src/llama-vocab.cpp names them), run by PCRE2 with JIT. A model was trained
 * behind one of them, and another one gives plausible but worse text; so a name that is not in the table is an error.
 *
 * Several patterns in a row: each splits every piece that the one before it left. Matches are pieces, and so is what lies
 * between them.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "common/log.h"
#include "weights/tokenizer_internal.h"

enum {
    MAX_STAGES = 8,
    /* Of each match, as PCRE2 counts steps. A million, and more for long texts: the patterns look back over
     * a run of blanks for a newline, once for each byte of it. A quadratic search is still stopped early. */
    MATCH_LIMIT = 1000000,
    MATCH_LIMIT_PER_BYTE = 4
};

/* White space written out: PCRE2's \s has U+180E too, which no other engine counts. Inside a class, as a class, and its opposite. */
#define WHITE "\\t-\\r\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define S "[" WHITE "]"
#define NOT_S "[^" WHITE "]"
#define ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES S "*[\\r\\n]+|" S "+(?!" NOT_S ")|" S "+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WHITE "\\p{L}\\p{N}]+|" S "+(?!" NOT_S ")"
#define CAMEL(after) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" after "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" after
#define OTHERS(after) " ?[^" WHITE "\\p{L}\\p{N}]+" after

static const char *const gpt2[] = { GPT2, NULL };
static const char *const digits[] = { "\\p{N}", GPT2, NULL };
static const char *const falcon[] = { "[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]", NULL };
static const char *const old_default[] = { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]", NULL };
static const char *const llama3[] = {
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" OTHERS("[\\r\\n]*") "|" SPACES, NULL
};
static const char *const qwen2[] = {
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" OTHERS("[\\r\\n]*") "|" SPACES, NULL
};
static const char *const qwen35[] = {
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WHITE "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES, NULL
};
static const char *const o200k[] = { CAMEL(ENDINGS "?") "|\\p{N}{1,3}|" OTHERS("[\\r\\n/]*") "|" SPACES, NULL };
static const char *const tekken[] = { CAMEL("") "|\\p{N}|" OTHERS("[\\r\\n/]*") "|" SPACES, NULL };
static const char *const deepseek3[] = {
    "\\p{N}{1,3}",
    "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES,
    NULL
};
static const char *const deepseek_coder[] = {
    "[\\r\\n]", S "?\\p{L}+", S "?\\p{P}+", "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}", NULL
};

enum { IGNORE_MERGES = 1, ADD_BOS = 2, NFC = 4 };
#define RULE(name, patterns, flags) { name, !!((flags) & IGNORE_MERGES), !!((flags) & ADD_BOS), !!((flags) & NFC), patterns }

static const struct pretokenizer_rule rules[] = {
    RULE("default", old_default, 0),
    RULE("gpt-2", gpt2, 0), RULE("phi-2", gpt2, 0), RULE("mpt", gpt2, 0), RULE("olmo", gpt2, 0), RULE("jais", gpt2, 0),
    RULE("exaone4", gpt2, 0), RULE("modern-bert", gpt2, 0), RULE("gigachat", gpt2, 0), RULE("trillion", gpt2, 0),
    RULE("granite-docling", gpt2, 0),
    RULE("smollm", digits, 0), RULE("starcoder", digits, 0), RULE("refact", digits, 0), RULE("command-r", digits, 0),
    RULE("codeshell", digits, 0), RULE("exaone", digits, 0), RULE("minerva-7b", digits, 0),
    RULE("falcon", falcon, 0),
    RULE("llama3", llama3, IGNORE_MERGES | ADD_BOS), RULE("llama-v3", llama3, IGNORE_MERGES | ADD_BOS),
    RULE("llama-bpe", llama3, IGNORE_MERGES | ADD_BOS), RULE("falcon3", llama3, IGNORE_MERGES | ADD_BOS),
    RULE("pixtral", llama3, IGNORE_MERGES | ADD_BOS), RULE("lfm2", llama3, IGNORE_MERGES | ADD_BOS),
    RULE("glm4", llama3, IGNORE_MERGES), RULE("glm5", llama3, IGNORE_MERGES),
    RULE("chatglm-bpe", llama3, 0), RULE("dbrx", llama3, 0), RULE("smaug-bpe", llama3, 0),
    RULE("qwen2", qwen2, NFC), RULE("deepseek-r1-qwen", qwen2, 0), RULE("kormo", qwen2, 0), RULE("megrez", qwen2, 0),
    RULE("stablelm2", qwen2, 0), RULE("hunyuan", qwen2, 0), RULE("solar-open", qwen2, 0), RULE("grok-2", qwen2, 0),
    RULE("qwen35", qwen35, NFC),
    RULE("gpt-4o", o200k, 0), RULE("llama4", o200k, 0), RULE("kanana2", o200k, 0), RULE("minimax-m2", o200k, 0),
    RULE("tekken", tekken, IGNORE_MERGES | ADD_BOS),
    RULE("deepseek-v3", deepseek3, 0), RULE("hunyuan-dense", deepseek3, 0), RULE("joyai-llm", deepseek3, 0),
    RULE("deepseek-coder", deepseek_coder, 0),
};

struct pretokenizer {
    pcre2_code *stages[MAX_STAGES];
    size_t n_stages;
};

struct pretokenizer_match {
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

const struct pretokenizer_rule *pretokenizer_rule_find(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strlen(rules[i].name) == n && !memcmp(rules[i].name, name, n))
            return &rules[i];
    }
    return NULL;
}

static int compile(pcre2_code **code, const struct pretokenizer_rule *rule, const char *pattern)
{
    uint32_t matches_empty = 0;
    PCRE2_SIZE place;
    int reason;

    *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &reason, &place, NULL);
    if (!*code) {
        PCRE2_UCHAR words[128];
        pcre2_get_error_message(reason, words, sizeof(words));
        log_error("pre-tokenizer \"%s\": pattern \"%s\" at %zu: %s", rule->name, pattern, (size_t)place, (const char *)words);
        return -EINVAL;
    }
    pcre2_pattern_info(*code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty) {
        log_error("pre-tokenizer \"%s\": pattern \"%s\" can match nothing", rule->name, pattern);
        return -EINVAL;
    }
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);       /* where the system forbids it, pcre2_match interprets: slower */
    return 0;
}

int pretokenizer_open(struct pretokenizer **out, const struct pretokenizer_rule *rule)
{
    struct pretokenizer *p = calloc(1, sizeof(*p));
    int err = 0;

    *out = p;
    if (!p)
        return -ENOMEM;
    while (p->n_stages < MAX_STAGES && rule->patterns[p->n_stages] && !err) {
        err = compile(&p->stages[p->n_stages], rule, rule->patterns[p->n_stages]);
        p->n_stages++;
    }
    return err;
}

void pretokenizer_close(struct pretokenizer *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_stages; i++)
        pcre2_code_free(p->stages[i]);
    free(p);
}

struct pretokenizer_match *pretokenizer_match_create(void)
{
    struct pretokenizer_match *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->data = pcre2_match_data_create(1, NULL);         /* the place of the whole match is all that is asked */
    m->limits = pcre2_match_context_create(NULL);
    if (!m->data || !m->limits) {
        pretokenizer_match_free(m);
        return NULL;
    }
    return m;
}

void pretokenizer_match_free(struct pretokenizer_match *m)
{
    if (!m)
        return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->limits);
    free(m);
}

struct split {
    const struct pretokenizer *p;
    struct pretokenizer_match *match;
    int (*piece)(void *arg, const char *text, size_t n);
    void *arg;
};

static int split_stage(const struct split *s, size_t stage, const char *text, size_t n)
{
    size_t at = 0;
    int err = 0;

    if (!n)
        return 0;
    if (stage == s->p->n_stages)
        return s->piece(s->arg, text, n);
    while (at < n && !err) {
        int found = pcre2_match(s->p->stages[stage], (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, s->match->data,
                                s->match->limits);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0)
            return found == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EINVAL;
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(s->match->data);
        size_t begin = place[0], end = place[1];        /* the next stage writes to *place */
        err = split_stage(s, stage + 1, text + at, begin - at);
        if (!err)
            err = split_stage(s, stage + 1, text + begin, end - begin);
        at = end;
    }
    return err ? err : split_stage(s, stage + 1, text + at, n - at);
}

int pretokenizer_split(const struct pretokenizer *p, struct pretokenizer_match *match, const char *text, size_t n,
                       int (*piece)(void *arg, const char *text, size_t n), void *arg)
{
    const struct split s = { p, match, piece, arg };
    size_t limit = n < (UINT32_MAX - MATCH_LIMIT) / MATCH_LIMIT_PER_BYTE ? MATCH_LIMIT + n * MATCH_LIMIT_PER_BYTE : UINT32_MAX;

    pcre2_set_match_limit(match->limits, (uint32_t)limit);
    return split_stage(&s, 0, text, n);
}
