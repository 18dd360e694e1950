#include "tests/model/golden.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONTEXT = 512, ROWS = 128 };

struct model *golden_open(const char *path, const struct model_options *o)
{
    struct model_options options = *o;
    struct gguf *g;
    struct model *m = NULL;

    if (gguf_open(&g, path))
        return NULL;
    options.n_ctx = options.n_ctx ? options.n_ctx : CONTEXT;
    options.max_batch = options.max_batch ? options.max_batch : 1;
    options.max_step_logits = ROWS;
    model_open(&m, g, &options, NULL, NULL);
    gguf_close(g);
    return m;
}

void golden_read(struct model *m, struct kv_sequence *s, enum token_role role, const int32_t *ids, size_t n, size_t first, size_t chunk,
                 golden_visit visit, void *arg)
{
    struct step_token tokens[ROWS];
    struct model_info info;

    model_info(m, &info);
    for (size_t i = 0; i < n; i += chunk) {
        size_t k = n - i < chunk ? n - i : chunk;
        kv_cache_slide(model_kv_cache(m), s, first + i);
        if (chunk > ROWS || kv_cache_reserve(model_kv_cache(m), s, first + i + k)) {
            fprintf(stderr, "no room for %zu tokens in steps of %zu\n", first + n, chunk);
            exit(1);
        }
        for (size_t j = 0; j < k; j++)
            tokens[j] = (struct step_token){ .id = ids[i + j], .position = (uint32_t)(first + i + j), .sequence = s, .wants_logits = true,
                                             .rope_length = rope_length(&info.rope_lengths, first ? first : n), .role = role };
        model_step(m, tokens, k);
        for (size_t j = 0; j < k; j++) {
            size_t n_segments;
            const struct segment_stats *stats = model_logit_stats(m, j, &n_segments);
            visit(arg, first + i + j, model_logits(m, j), sampler_norm(stats, n_segments));
        }
    }
}

int32_t *golden_ids(const json_t *array, size_t *n)
{
    int32_t *ids = malloc((json_array_size(array) + 1) * sizeof(*ids));

    assert(ids);
    *n = json_array_size(array);
    for (size_t i = 0; i < *n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}
