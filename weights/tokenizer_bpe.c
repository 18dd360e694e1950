/*
 * tokenizer_bpe.c - byte-level BPE (Radford et al. 2019, "GPT-2"): which pairs of ids join, by the file's list of merges. Vocabularies
 * of kind llama that have merges use the table, too (tokenizer_spm.c).
 *
 * Every byte is a token; a merge is an entry (left id, right id) -> (rank, id) of a hash table. The texts of the list
 * are looked up once, when the model opens.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "weights/tokenizer_internal.h"

static const char merges_key[] = "tokenizer.ggml.merges";

static size_t slot_of(const struct bpe *b, uint64_t pair)
{
    /* Two rounds of multiply and fold; the seed keeps a file from choosing pairs that meet in one slot. */
    uint64_t x = (pair ^ b->seed) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return (size_t)(x >> 32) & (b->n_slots - 1);
}

static struct merge_slot *find_slot(const struct bpe *b, uint64_t pair)
{
    size_t i = slot_of(b, pair);

    while (b->slots[i].id >= 0 && b->slots[i].pair != pair)
        i = (i + 1) & (b->n_slots - 1);
    return &b->slots[i];
}

bool bpe_lookup(const struct tokenizer *t, const char *text, const struct symbol *left, const struct symbol *right,
                       uint32_t *rank, int32_t *id)
{
    const struct merge_slot *slot;

    (void)text;
    if (left->id < 0 || right->id < 0)
        return false;
    slot = find_slot(&t->bpe, (uint64_t)left->id << 32 | (uint32_t)right->id);
    *rank = slot->rank;
    *id = slot->id;
    return slot->id >= 0;
}

/* Resolve "left right" to three ids; `decode` makes pieces of texts. Returns false when one of them is no token. */
static bool resolve(const struct vocabulary *v, struct gguf_string merge, int64_t (*decode)(const char *text, size_t n, char *out),
                    char *scratch, uint64_t *pair, int32_t *id)
{
    const char *space = merge.len > 1 ? memchr(merge.data + 1, ' ', merge.len - 1) : NULL;
    if (!space)
        return false;

    size_t n_text = (size_t)(space - merge.data);
    int64_t n_left = decode(merge.data, n_text, scratch);
    if (n_left < 0)
        return false;
    int64_t n_right = decode(space + 1, merge.len - n_text - 1, scratch + n_left);
    if (n_right < 0)
        return false;
    int32_t left = vocabulary_find(v, scratch, (size_t)n_left);
    int32_t right = vocabulary_find(v, scratch + n_left, (size_t)n_right);
    *id = vocabulary_find(v, scratch, (size_t)(n_left + n_right));
    *pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return left >= 0 && right >= 0 && *id >= 0;
}

static int load_merges(struct tokenizer *t, const struct gguf *g, const struct gguf_string *merges, uint64_t n)
{
    int64_t (*const decode)(const char *text, size_t n, char *out) = t->byte_level ? byte_level_decode : spaces_decode;
    struct bpe *b = &t->bpe;
    uint64_t n_bad = 0, first_bad = 0;
    char quoted[GGUF_QUOTED];
    char *scratch = malloc(2 * TOKENIZER_MAX_TOKEN);

    for (b->n_slots = 64; b->n_slots < 2 * n;)
        b->n_slots *= 2;
    b->slots = malloc(b->n_slots * sizeof(*b->slots));
    if (!b->slots || !scratch) {
        free(scratch);
        return -ENOMEM;
    }
    for (size_t i = 0; i < b->n_slots; i++)
        b->slots[i] = (struct merge_slot){ .id = -1 };
    if (getrandom(&b->seed, sizeof(b->seed), GRND_NONBLOCK) < 0)
        b->seed = (uint64_t)(uintptr_t)b;       /* early at boot: the address is better than nothing */

    for (uint64_t i = 0; i < n; i++) {
        uint64_t pair;
        int32_t id;
        if (merges[i].len > 2 * TOKENIZER_MAX_TOKEN || !resolve(&t->vocab, merges[i], decode, scratch, &pair, &id)) {
            if (!n_bad++)
                first_bad = i;
            continue;
        }
        struct merge_slot *slot = find_slot(b, pair);
        if (slot->id < 0)       /* of two equal merges the first is the better one */
            *slot = (struct merge_slot){ .pair = pair, .rank = (uint32_t)i, .id = id };
    }
    if (n_bad)
        tokenizer_warn(g, merges_key, "%" PRIu64 " of %" PRIu64 " merges join no tokens of this vocabulary and are ignored; "
                       "the first is number %" PRIu64 ", %s", n_bad, n, first_bad, gguf_quote(merges[first_bad], quoted));
    free(scratch);
    return 0;
}

int bpe_load_merges(struct tokenizer *t, const struct gguf *g)
{
    const struct gguf_string *merges = NULL;
    uint64_t n = 0;
    int err = gguf_get_strings(g, merges_key, &merges, &n);

    if (err)
        return err;
    if (n > 2 * (uint64_t)TOKENIZER_MAX_VOCAB)
        return tokenizer_complain(g, merges_key, "%" PRIu64 " merges, at most %d", n, 2 * TOKENIZER_MAX_VOCAB);
    return load_merges(t, g, merges, n);
}

int bpe_load(struct tokenizer *t, const struct gguf *g)
{
    int n_missing = 0, first_missing = 0;
    int err = bpe_load_merges(t, g);

    if (err == -ENOENT)
        return tokenizer_complain(g, merges_key, "missing, a vocabulary of kind gpt2 needs it");
    if (err)
        return err;
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        t->bpe.byte_ids[b] = vocabulary_find(&t->vocab, &byte, 1);
        /* Not worth a word: bytes that UTF-8 has not, and those of control characters and planes without
         * letters, which SmolLM2 left out. */
        bool matters = (b >= 0x20 && b < 0xf1 && b != 0x7f && b != 0xc0 && b != 0xc1) || (b >= '\t' && b <= '\r');
        if (matters && t->bpe.byte_ids[b] < 0 && !n_missing++)
            first_missing = b;
    }
    if (n_missing)
        tokenizer_warn(g, "tokenizer.ggml.tokens", "%d bytes have no token, the first is 0x%02x; %s", n_missing, (unsigned)first_missing,
                       t->unknown >= 0 ? "they become the unknown token" : "they will be missing from texts");
    return 0;
}

void bpe_free(struct bpe *b)
{
    free(b->slots);
    *b = (struct bpe){ 0 };
}

static int encode_piece(void *arg, const char *text, size_t n)
{
    struct encoder *e = arg;
    const struct tokenizer *t = e->t;
    int32_t whole = t->rule->ignore_merges ? vocabulary_find(&t->vocab, text, n) : -1;
    int err;

    if (whole >= 0)
        return emit_id(e->out, whole);
    struct symbol *symbols = merge_reserve(e, n);
    if (!symbols)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        symbols[i].len = 1;
        symbols[i].prev = i ? (uint32_t)i - 1 : NO_SYMBOL;
        symbols[i].id = t->bpe.byte_ids[(unsigned char)text[i]];
    }
    err = merge_symbols(e, text, n, bpe_lookup);
    for (size_t at = 0; at < n && !err; at += symbols[at].len) {
        int32_t id = symbols[at].id >= 0 ? symbols[at].id : t->unknown;
        if (id >= 0)
            err = emit_id(e->out, id);
    }
    return err;
}

int bpe_encode(struct encoder *e, const char *text, size_t n)
{
    if (e->t->rule->nfc && nfc_may_change(text, n)) {
        buf_clear(&e->text);
        int err = nfc_append(&e->text, text, n);
        if (err)
            return err;
        text = e->text.data;
        n = e->text.len;
    }
    if (!e->match) {
        e->match = pretokenizer_match_create();
        if (!e->match)
            return -ENOMEM;
    }
    return pretokenizer_split(e->t->pretokenizer, e->match, text, n, encode_piece, e);
}
