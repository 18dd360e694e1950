/*
 * tokenizer_internal.h - what the files of the tokenizer share.
 *
 *   tokenizer.c          open, close, the driver of encoding, getters
 *   tokenizer_vocab.c    tokens of the file -> decoded pieces, types, text -> id
 *   tokenizer_special.c  bos and its like, the stop set, finding special tokens in a text
 *   tokenizer_merge.c    the loop of both kinds: join the best adjacent pair until none is left
 *   tokenizer_bpe.c      gpt2: which pairs join, by the list of merges
 *   tokenizer_spm.c      llama: which pairs join, by scores; bytes for what is no token
 *   pretokenizer.c       gpt2: a text -> the pieces that are merged on their own; nfc.c before it for some models
 *   detokenizer.c        ids -> text, as a stream
 *
 * Both kinds work on decoded bytes: a piece is the text that a token stands for, without the byte-to-letter mapping
 * of gpt2 files and with spaces for the U+2581 of llama files. So nothing is mapped while encoding or decoding.
 */
#ifndef FOURWAY_WEIGHTS_TOKENIZER_INTERNAL_H
#define FOURWAY_WEIGHTS_TOKENIZER_INTERNAL_H

#include "common/buf.h"
#include "weights/gguf.h"
#include "weights/name_table.h"
#include "weights/tokenizer.h"

enum token_type {
    TOKEN_NORMAL = 1, TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER_DEFINED = 4, TOKEN_UNUSED = 5, TOKEN_BYTE = 6
};

enum {
    TOKENIZER_MAX_VOCAB = 2097152,      /* the largest published ones have 2^18 */
    TOKENIZER_MAX_TOKEN = 65536,        /* bytes of a token's text: rule T1 */
    TOKENIZER_MAX_SPECIAL = 256         /* longer special tokens are not matched, so that matching is linear; 89 is the longest seen */
};

struct vocabulary {
    size_t n;
    uint8_t *types;                 /* [n] enum token_type */
    struct gguf_string *pieces;     /* [n] decoded texts, in `bytes` */
    char *bytes;
    struct name_table ids;          /* pieces that merging may make: normal, unused and user-defined tokens */
    size_t longest;                 /* bytes of the longest of these */
};

struct special_token {
    struct gguf_string text;
    int32_t id;
    bool control;                   /* matched only where the caller allows it */
};

struct special_table {
    struct special_token *tokens;   /* sorted by text */
    size_t n;
    uint32_t first[257];            /* tokens[first[b]] to tokens[first[b + 1] - 1] begin with the byte b */
};

/* One entry of the table of merges. */
struct merge_slot {
    uint64_t pair;                  /* left id << 32 | right id */
    uint32_t rank;
    int32_t id;                     /* what the two become; -1: the slot is empty */
};

struct bpe {
    struct merge_slot *slots;
    size_t n_slots;                 /* a power of two */
    uint64_t seed;
    int32_t byte_ids[256];          /* -1: no token */
};

struct spm {
    uint32_t *ranks;                /* [V] 0 for the highest score; equal scores have equal ranks */
    int32_t byte_ids[256];
    bool inner_space[256];          /* some token has a space after this byte */
    bool by_merges;                 /* the list of merges says what joins, not the scores */
    bool add_space_prefix;
};

struct pretokenizer;
struct pretokenizer_match;
struct pretokenizer_rule;

struct tokenizer {
    bool byte_level;                /* gpt2; else llama */
    struct vocabulary vocab;
    struct special_table specials;
    int32_t bos, eos, unknown;      /* -1: none */
    bool add_bos, add_eos;
    int32_t *stop_ids;
    size_t n_stop_ids;
    const struct pretokenizer_rule *rule;       /* gpt2 */
    struct pretokenizer *pretokenizer;
    struct bpe bpe;
    struct spm spm;
};

/* A part of the text while it is merged, stored at the place of its first byte; the next one begins at its end. */
struct symbol {
    uint32_t len;                   /* 0: joined to the symbol before it */
    uint32_t prev;                  /* place of the symbol before it; NO_SYMBOL: none */
    int32_t id;                     /* -1: not known */
    uint32_t pair_rank;             /* of joining it with the next one; NO_RANK: they do not join */
    int32_t pair_id;
};
#define NO_SYMBOL UINT32_MAX
#define NO_RANK UINT32_MAX

/* The memory of one call of tokenizer_encode. */
struct encoder {
    const struct tokenizer *t;
    struct token_ids *out;
    struct symbol *symbols;
    size_t n_symbols;               /* room, not use. Likewise n_heap */
    uint64_t *heap;
    size_t n_heap;
    struct buf text;                /* the text in the form that is merged, where it differs from the caller's */
    struct pretokenizer_match *match;
};

/* tokenizer_vocab.c */
/* One line "PATH: key KEY at byte OFFSET: ...", as an error or a warning. Returns -EINVAL. */
int tokenizer_complain(const struct gguf *g, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
void tokenizer_warn(const struct gguf *g, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
int vocabulary_load_types(struct vocabulary *v, const struct gguf *g, const struct gguf_string **texts);
int vocabulary_load_pieces(struct vocabulary *v, const struct gguf *g, const struct gguf_string *texts, bool byte_level);
void vocabulary_free(struct vocabulary *v);
/* Id of the piece, or -1. */
int32_t vocabulary_find(const struct vocabulary *v, const char *piece, size_t n);
/* Decode text[n] of a gpt2 file to out[n]; returns the length, or -1 when it is not written in the 256 letters. */
int64_t byte_level_decode(const char *text, size_t n, char *out);
/* The same for a llama file, which writes a space as U+2581. */
int64_t spaces_decode(const char *text, size_t n, char *out);

/* tokenizer_special.c */
int special_load_ids(struct tokenizer *t, const struct gguf *g);
/* Collects the stop set; tokens known by their texts become control tokens where an old file calls them normal. */
int special_load_stops(struct tokenizer *t, const struct gguf *g, const struct gguf_string *texts);
int special_table_build(struct special_table *s, const struct vocabulary *v, const char *path);
void special_table_free(struct special_table *s);
/* The first special token of text[n] at or after `from`, leftmost, then longest. Returns its place, or n with *found = NULL. */
size_t special_find(const struct special_table *s, const char *text, size_t n, const uint8_t *literal, bool control, size_t from,
                    const struct special_token **found);

/* tokenizer_merge.c */
/* Whether text[left->len + right->len] at `text` joins: false, or true with its rank (lower first) and its id. */
typedef bool (*merge_lookup)(const struct tokenizer *t, const char *text, const struct symbol *left, const struct symbol *right,
                             uint32_t *rank, int32_t *id);
/* Room for the symbols of n bytes. Returns them, or NULL. */
struct symbol *merge_reserve(struct encoder *e, size_t n);
/* Join the symbols that the caller has set (len, prev, id) until nothing joins. Returns 0 or -ENOMEM. */
int merge_symbols(struct encoder *e, const char *text, size_t n, merge_lookup lookup);
/* Append an id. Returns 0 or -ENOMEM. */
int emit_id(struct token_ids *out, int32_t id);

/* tokenizer_bpe.c, tokenizer_spm.c: load needs the vocabulary; encode appends the ids of a text without special tokens */
int bpe_load(struct tokenizer *t, const struct gguf *g);
/* Only the table of merges: -ENOENT when the file has none. */
int bpe_load_merges(struct tokenizer *t, const struct gguf *g);
bool bpe_lookup(const struct tokenizer *t, const char *text, const struct symbol *left, const struct symbol *right, uint32_t *rank,
                int32_t *id);
void bpe_free(struct bpe *b);
int bpe_encode(struct encoder *e, const char *text, size_t n);
int spm_load(struct tokenizer *t, const struct gguf *g);
void spm_free(struct spm *s);
int spm_encode(struct encoder *e, const char *text, size_t n);

/* pretokenizer.c */
struct pretokenizer_rule {
    const char *name;
    bool ignore_merges;             /* a piece that is a token is not merged */
    bool add_bos;                   /* unless the file says otherwise */
    bool nfc;                       /* texts are brought to normal form C */
    const char *const *patterns;    /* NULL-terminated; each splits what the one before it left */
};
/* NULL for a name that is not known. */
const struct pretokenizer_rule *pretokenizer_rule_find(const char *name, size_t n);
/* Returns 0, -EINVAL (logged) or -ENOMEM. */
int pretokenizer_open(struct pretokenizer **p, const struct pretokenizer_rule *rule);
void pretokenizer_close(struct pretokenizer *p);
/* Memory for matching, for one thread at a time; NULL: none left. */
struct pretokenizer_match *pretokenizer_match_create(void);
void pretokenizer_match_free(struct pretokenizer_match *m);
/* Call piece(arg, text, n) for the pieces of text[n] in order, until it returns an error. -EINVAL: the match limit. */
int pretokenizer_split(const struct pretokenizer *p, struct pretokenizer_match *match, const char *text, size_t n,
                       int (*piece)(void *arg, const char *text, size_t n), void *arg);

/* nfc.c */
/* False: the text is in normal form C already (a quick test, wrong only towards true). */
bool nfc_may_change(const char *text, size_t n);
/* Append valid UTF-8 text[n] in normal form C. Returns 0 or -ENOMEM. Linear in n. */
int nfc_append(struct buf *out, const char *text, size_t n);

#endif
