/*
 * check_folder.c - a Hugging Face folder and the GGUF file that was made of it give the same logits, bit for bit.
 *
 *   check_folder FOLDER MODEL.gguf GOLDEN.json
 *
 * The prompts are those of the golden file. Two virtual nodes on three workers cut the rows of heads otherwise than the file does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/golden.h"

enum { MAX_POSITIONS = 128 };

struct kept { float *logits; size_t vocab, n; };

static void keep(void *arg, size_t position, const float *logits, struct logits_norm norm)
{
    struct kept *k = arg;

    (void)norm;
    memcpy(k->logits + position * k->vocab, logits, k->vocab * sizeof(float));
    k->n = position + 1;
}

static int read_prompt(const char *path, const struct model_options *o, const int32_t *ids, size_t n, struct kept *k)
{
    struct model *m = golden_open(path, o);
    struct kv_sequence s;

    if (!m || kv_sequence_create(&s, 512))
        return 1;
    k->vocab = model_config(m)->vocab_size;
    k->logits = malloc(MAX_POSITIONS * k->vocab * sizeof(float));
    if (!k->logits)
        return 1;
    golden_read(m, &s, ROLE_PROMPT, ids, n, 0, 32, keep, k);
    kv_cache_release(model_kv_cache(m), &s);
    kv_sequence_destroy(&s);
    model_close(m);
    return 0;
}

int main(int argc, char **argv)
{
    static const size_t n_nodes[] = { 0, 2 };
    json_t *golden = argc == 4 ? json_load_file(argv[3], 0, NULL) : NULL;
    const json_t *prompts = json_object_get(golden, "prompts");
    int failed = 0;

    if (!json_array_size(prompts)) {
        fputs("usage: check_folder FOLDER MODEL.gguf GOLDEN.json\n", stderr);
        return 2;
    }
    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < json_array_size(prompts); i++) {
            const struct model_options o = { .n_virtual_nodes = n_nodes[v], .n_threads = n_nodes[v] ? 3 : 0 };
            struct kept a = { 0 }, b = { 0 };
            size_t n;
            int32_t *ids = golden_ids(json_object_get(json_array_get(prompts, i), "ids"), &n);
            if (n > MAX_POSITIONS || read_prompt(argv[1], &o, ids, n, &a) || read_prompt(argv[2], &o, ids, n, &b))
                return 1;
            const bool same = a.n == n && b.n == n && a.vocab == b.vocab && !memcmp(a.logits, b.logits, n * a.vocab * sizeof(float));
            printf("prompt %zu, %zu virtual nodes: %zu positions of %zu logits %s\n", i, n_nodes[v], n, a.vocab, same ? "equal" : "DIFFER");
            failed |= !same;
            free(a.logits);
            free(b.logits);
            free(ids);
        }
    json_decref(golden);
    return failed;
}
