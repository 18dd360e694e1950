/*
 * check_golden.c - a model's logits and greedy text against reference data.
 *
 *   check_golden MODEL.gguf GOLDEN.json [--activations auto|q8|bf16|f32] [--kl BOUND] [--logprob BOUND] [--llama-cpp]
 *
 * --kl: bound of the mean KL divergence from the reference, over the 8 stored tokens plus one class for the rest; the first choice must
 * be the reference's wherever that leads by more than 0.5 nat. --logprob: bound of every stored logprob's difference; the greedy
 * text must be the reference's up to its first gap below 0.01. --llama-cpp: no worse than llama.cpp on the same file, as
 * stored in the golden file: the largest difference of the last position's logprobs (mean over prompts), and greedy tokens in common.
 *
 * Of a mixture of experts, whose router may have two experts a hair apart, first choices, --logprob and greedy texts are asked up to where the choice of experts is
 * another one than that of the same model with float32 activations, which is opened beside it.
 *
 * All tokens are read as a prompt, but that --llama-cpp, which asks for the program's own text, reads greedy ones as generated.
 */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "model/model_internal.h"
#include "tests/model/golden.h"

enum { MOST_POSITIONS = 512, FEWEST_POSITIONS = 8 };       /* fewer to judge say nothing */

struct tally {
    const json_t *top;          /* of the prompt under way, */
    size_t n_alike;             /* which has so many positions with the reference's experts */
    size_t n_positions, n_all_alike, n_wrong_first, n_led;
    double kl, worst, last_worst;
    int32_t last_choice;
};

static void compare(void *arg, size_t position, const float *logits, struct logits_norm norm)
{
    struct tally *t = arg;
    const json_t *top = json_array_get(t->top, position);
    double p_rest = 1, q_rest = 1, kl = 0, lead = 0, last = 0;

    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        int32_t id = (int32_t)json_integer_value(json_array_get(pair, 0));
        double want = json_number_value(json_array_get(pair, 1)), got = (double)sampler_logprob(logits, norm, id);
        if (i == 0)
            lead = want;
        if (i == 1)
            lead -= want;
        kl += exp(want) * (want - got);
        p_rest -= exp(want);
        q_rest -= exp(got);
        last = fmax(last, fabs(want - got));
    }
    if (p_rest > 1e-12 && q_rest > 1e-12)
        kl += p_rest * log(p_rest / q_rest);
    t->kl += kl;
    t->n_positions++;
    t->last_worst = last;
    t->last_choice = norm.argmax;
    if (position >= t->n_alike)
        return;
    t->n_all_alike++;
    t->worst = fmax(t->worst, last);
    if (lead > 0.5) {
        bool wrong = norm.argmax != (int32_t)json_integer_value(json_array_get(json_array_get(top, 0), 0));
        if (wrong)
            printf("position %zu: chose %d (logprob %.3f) where the reference's first choice leads by %.3f\n", position, norm.argmax,
                   (double)sampler_logprob(logits, norm, norm.argmax), lead);
        t->n_led++;
        t->n_wrong_first += wrong;
    }
}

/* Which experts a token went to in all layers, as a number: what the counters of their use grew by (they are halved at a thousand tokens an
 * expert, far beyond what is read here). */
struct experts {
    struct model *m;
    uint32_t *before;                       /* [layers][experts] */
    uint64_t of_position[MOST_POSITIONS];
};

static uint64_t count_experts(struct experts *x)
{
    const size_t n_experts = x->m->config.n_experts;
    uint64_t hash = 0;

    for (size_t layer = 0; layer < x->m->config.n_layers; layer++) {
        const struct expert_use *use = x->m->layers[layer].use;
        for (size_t e = 0; use && e < n_experts; e++) {
            uint32_t *before = &x->before[layer * n_experts + e];
            assert(use->n_of[e] >= *before);
            hash = hash * 0x9E3779B97F4A7C15 + use->n_of[e] - *before;
            *before = use->n_of[e];
        }
    }
    return hash;
}

static void keep_experts(void *arg, size_t position, const float *logits, struct logits_norm norm)
{
    struct experts *x = arg;

    (void)logits;
    (void)norm;
    x->of_position[position] = count_experts(x);
}

static void read_experts(struct model *m, struct experts *x, const int32_t *ids, size_t n)
{
    struct kv_sequence s;

    x->m = m;
    x->before = calloc(m->config.n_layers * m->config.n_experts, sizeof(*x->before));
    if (!x->before || n > MOST_POSITIONS || kv_sequence_create(&s, MOST_POSITIONS))
        exit(1);
    count_experts(x);
    golden_read(m, &s, ROLE_PROMPT, ids, n, 0, 1, keep_experts, x);
    kv_cache_release(model_kv_cache(m), &s);
    kv_sequence_destroy(&s);
    free(x->before);
}

/* How many positions of the prompt and its greedy continuation come before the first for which the two choose other experts. */
static size_t positions_alike(struct model *m, struct model *exact, const json_t *prompt)
{
    static struct experts ours, theirs;
    size_t n, n_greedy, alike = 0;
    int32_t *ids = golden_ids(json_object_get(prompt, "ids"), &n), *greedy = golden_ids(json_object_get(prompt, "greedy"), &n_greedy);
    int32_t *all = malloc((n + n_greedy + 1) * sizeof(*all));

    assert(all);
    memcpy(all, ids, n * sizeof(*all));
    memcpy(all + n, greedy, n_greedy * sizeof(*all));
    read_experts(m, &ours, all, n + n_greedy);
    read_experts(exact, &theirs, all, n + n_greedy);
    while (alike < n + n_greedy && ours.of_position[alike] == theirs.of_position[alike])
        alike++;
    free(all);
    free(greedy);
    free(ids);
    return alike;
}

struct choices { size_t first; int32_t best[MOST_POSITIONS]; };

static void keep_best(void *arg, size_t position, const float *logits, struct logits_norm norm)
{
    struct choices *c = arg;
    (void)logits;
    c->best[position - c->first] = norm.argmax;
}

/*
 * Greedy tokens equal to the reference's before the first difference; *settled counts those before the first gap below 0.01. The
 * reference's tokens are read many at once: up to the first difference they are what greedy decoding would have read, one by one.
 */
static size_t greedy_equal(struct model *m, struct kv_sequence *s, enum token_role role, const json_t *prompt, size_t n_ids, int32_t first,
                           size_t *settled)
{
    struct choices choices = { .first = n_ids };
    const json_t *gaps = json_object_get(prompt, "greedy_gap");
    size_t n, equal = 0;
    int32_t *want = golden_ids(json_object_get(prompt, "greedy"), &n);

    *settled = 0;
    while (*settled < n && json_number_value(json_array_get(gaps, *settled)) >= 0.01)
        ++*settled;
    golden_read(m, s, role, want, n, n_ids, 32, keep_best, &choices);
    while (equal < n && (equal ? choices.best[equal - 1] : first) == want[equal])
        equal++;
    free(want);
    return equal;
}

static bool fails(bool bad, const char *what, double got, double bound)
{
    printf("%-44s %10.6f  bound %.6f%s\n", what, got, bound, bad ? "   FAILED" : "");
    return bad;
}

int main(int argc, char **argv)
{
    struct model_options o = { 0 };
    double kl_bound = 0, logprob_bound = 0, theirs = 0, ours = 0;
    size_t their_greedy = 0, our_greedy = 0, short_greedy = 0;
    bool against_llama_cpp = false, failed = false;
    struct tally t = { 0 };

    if (argc < 3) {
        fputs("usage: check_golden MODEL GOLDEN [--activations auto|q8|bf16|f32] [--kv-type q8] [--gemm onednn|openblas] [--kl B]"
              " [--logprob B] [--llama-cpp] [--threads N]\n", stderr);
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--llama-cpp"))
            against_llama_cpp = true;
        else if (!strcmp(argv[i], "--activations") && !strcmp(value, "f32"))
            o.activations = ACTIVATIONS_F32, o.kv_type = KV_F32, i++;
        else if (!strcmp(argv[i], "--activations") && !strcmp(value, "bf16"))
            o.activations = ACTIVATIONS_BF16, i++;
        else if (!strcmp(argv[i], "--activations") && !strcmp(value, "q8"))
            o.activations = ACTIVATIONS_Q8, i++;
        else if (!strcmp(argv[i], "--kv-type") && !strcmp(value, "q8"))
            o.kv_type = KV_Q8, i++;
        else if (!strcmp(argv[i], "--gemm"))
            o.gemm = !strcmp(value, "onednn") ? GEMM_ONEDNN : GEMM_OPENBLAS, i++;
        else if (!strcmp(argv[i], "--kl"))
            kl_bound = atof(value), i++;
        else if (!strcmp(argv[i], "--logprob"))
            logprob_bound = atof(value), i++;
        else if (!strcmp(argv[i], "--isa"))
            o.isa_given = isa_parse(value, &o.isa), i++;
        else if (!strcmp(argv[i], "--threads"))
            o.n_threads = strtoul(value, NULL, 10), i++;
    }
    json_t *golden = json_load_file(argv[2], 0, NULL);
    struct model *m = golden ? golden_open(argv[1], &o) : NULL;
    if (!m) {
        fprintf(stderr, "check_golden: cannot open %s or %s\n", argv[1], argv[2]);
        return 1;
    }
    const json_t *prompts = json_object_get(golden, "prompts");
    struct model *exact = NULL;
    if (model_n_moe_layers(m) && o.activations != ACTIVATIONS_F32) {
        o.activations = ACTIVATIONS_F32, o.kv_type = KV_F32;
        exact = golden_open(argv[1], &o);
        if (!exact)
            return 1;
    }
    for (size_t i = 0; i < json_array_size(prompts); i++) {
        const json_t *p = json_array_get(prompts, i);
        struct kv_sequence s;
        size_t n, settled;
        int32_t *ids = golden_ids(json_object_get(p, "ids"), &n);
        if (kv_sequence_create(&s, 512))
            return 1;
        t.top = json_object_get(p, "top");
        t.n_alike = exact ? positions_alike(m, exact, p) : MOST_POSITIONS;
        golden_read(m, &s, ROLE_PROMPT, ids, n, 0, 128, compare, &t);
        const json_t *stored = json_object_get(json_object_get(p, "llama_cpp"), "as_stored");
        theirs += json_number_value(json_object_get(stored, "last_position_top8_max_diff"));
        their_greedy += (size_t)json_integer_value(json_object_get(stored, "same_greedy"));
        ours += t.last_worst;
        size_t equal = greedy_equal(m, &s, against_llama_cpp ? ROLE_GENERATED : ROLE_PROMPT, p, n, t.last_choice, &settled);
        our_greedy += equal;
        short_greedy += equal < settled && n + equal <= t.n_alike;
        kv_cache_release(model_kv_cache(m), &s);
        kv_sequence_destroy(&s);
        free(ids);
    }
    double n_prompts = (double)json_array_size(prompts), kl = t.kl / (double)t.n_positions;
    printf("%zu prompts, %zu positions, the first choice leads at %zu; greedy tokens in common %zu (llama.cpp %zu)\n",
           json_array_size(prompts), t.n_positions, t.n_led, our_greedy, their_greedy);
    if (exact)
        printf("%zu of the positions have the experts of float32 activations, and all before them\n", t.n_all_alike);
    failed |= fails(t.n_all_alike < FEWEST_POSITIONS, "positions to judge", (double)t.n_all_alike, FEWEST_POSITIONS);
    failed |= fails(!(kl <= kl_bound) && kl_bound > 0, "mean KL divergence", kl, kl_bound);
    failed |= fails(t.n_wrong_first > 0, "positions with a wrong, clear first choice", (double)t.n_wrong_first, 0);
    failed |= fails(!(t.worst <= logprob_bound) && logprob_bound > 0, "largest difference of a logprob", t.worst, logprob_bound);
    if (logprob_bound > 0)
        failed |= fails(short_greedy > 0, "greedy texts that leave the reference early", (double)short_greedy, 0);
    if (against_llama_cpp) {
        failed |= fails(ours > theirs, "last position, beside llama.cpp's", ours / n_prompts, theirs / n_prompts);
        failed |= fails(our_greedy < their_greedy, "greedy tokens in common, beside llama.cpp's", (double)our_greedy, (double)their_greedy);
    }
    model_close(m);
    model_close(exact);
    json_decref(golden);
    return failed;
}
