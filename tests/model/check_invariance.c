/*
 * check_invariance.c - same request, same bits: whatever the nodes, threads, prefill chunks and batch mates.
 *
 *   check_invariance --tiny              the tiny models: the full product of the axes, at every ISA level
 *   check_invariance --quick [--isa L]   the tiny models: a few settings; at amx with emulated tiles where the machine has none
 *   check_invariance --threads           the tiny models: nodes and workers alone, for the thread sanitizer
 *   check_invariance MODEL [--isa L]     one axis at a time
 *
 * Requests of different lengths and samplings, and embeddings, run through the real engine. A run's record is every event's bytes: token,
 * logprob, alternatives, prompt logprobs, reason, vector. Records must equal those of the first run: one worker, one node, one request at
 * a time, at that level. Levels that share their definitions must give equal records, too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/amx/amx_emulator.h"
#include "tests/model/requests.h"
#include "tests/model/tiny_model.h"

static size_t n_runs, n_wrong;

/* Run with this setting and compare with `want`, whose records stay. */
static void compare(const struct gguf *g, const struct setting *s, const struct run *want, const char *name)
{
    struct run got;

    requests_run(g, s, &got, NULL);
    n_runs++;
    if (s->room && !(s->room == ROOM_TO_SPILL ? got.spills : got.recomputes)) {
        printf("%s: nothing was preempted, so that was not tested\n", name);
        n_wrong++;
    }
    for (size_t i = 0; i < N_REQUESTS; i++) {
        const struct buf *a = &want->records[i].bytes, *b = &got.records[i].bytes;
        if (a->len == b->len && !memcmp(a->data, b->data, a->len))
            continue;
        size_t at = 0;
        while (at < a->len && at < b->len && a->data[at] == b->data[at])
            at++;
        printf("%s: request %zu differs at byte %zu of %zu: nodes %zu, threads %zu, chunk %zu, %s, %s%s\n", name, i, at, a->len, s->nodes,
               s->threads, s->chunk, s->together ? "together" : "alone", isa_name(s->isa), s->room == ROOM_TO_SPILL ? ", spilled" : s->room ? ", few pages" : "");
        n_wrong++;
    }
    requests_free(&got);
}

/* Attention over bf16 has one definition below avx512bf16, one there and one at amx, where prompts of BF16 and quantised weights have
 * another, too; everything else has one at all levels. */
static bool levels_agree(enum isa a, enum isa b)
{
    return (a >= ISA_AVX512BF16) == (b >= ISA_AVX512BF16) && (a >= ISA_AMX) == (b >= ISA_AMX);
}

static const size_t nodes[] = { 1, 2, 3, 4, 8 }, threads[] = { 1, 2, 3 }, chunks[] = { 7, 64, 512 };
enum { N_NODES = 5, N_THREADS = 3, N_CHUNKS = 3 };

static void full_product(const struct gguf *g, const char *name, enum isa lowest, enum isa highest)
{
    struct run want, first;

    for (enum isa isa = lowest; isa <= highest; isa++) {
        requests_run(g, &(struct setting){ 1, 1, 512, false, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, NULL);
        const bool is_first = isa == lowest || !levels_agree(isa, isa - 1);
        if (is_first) {
            if (isa != lowest)
                requests_free(&first);
            first = want;
        }
        for (size_t n = 0; n < N_NODES; n++)
            for (size_t t = 0; t < N_THREADS; t++)
                for (size_t c = 0; c < N_CHUNKS; c++)
                    for (int together = 0; together < 2; together++)
                        compare(g, &(struct setting){ nodes[n], threads[t], chunks[c], together, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want,
                                name);
        /* Few pages: sequences are preempted, and computed again or brought back from spare memory. */
        compare(g, &(struct setting){ 2, 2, 64, true, isa, ROOM_FOR_ONE, GEMM_AUTO, KV_BF16 }, &want, name);
        compare(g, &(struct setting){ 2, 2, 64, true, isa, ROOM_TO_SPILL, GEMM_AUTO, KV_BF16 }, &want, name);
        /* Every arithmetic is defined in plain C: the levels agree, too. */
        compare(g, &(struct setting){ 1, 1, 512, false, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &first, "levels");
        if (!is_first)
            requests_free(&want);
    }
    requests_free(&first);
}

/*
 * oneDNN for prompt tokens, native kernels for generated ones: below amx, too, a step then has two arithmetics, and a sequence that is
 * preempted keeps the role of each of its tokens. Only from AVX-512 on has oneDNN an implementation whose rows have the same bits in every
 * call.
 */
static void two_roles(const struct gguf *g, const char *name, enum isa isa)
{
    struct run want;

    if (isa < ISA_AVX512)
        return;
    requests_run(g, &(struct setting){ 1, 1, 512, false, isa, ROOM_FOR_ALL, GEMM_ONEDNN, KV_BF16 }, &want, NULL);
    compare(g, &(struct setting){ 1, 2, 7, true, isa, ROOM_FOR_ALL, GEMM_ONEDNN, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 1, 2, 64, true, isa, ROOM_FOR_ONE, GEMM_ONEDNN, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 1, 2, 64, true, isa, ROOM_TO_SPILL, GEMM_ONEDNN, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 3, 2, 512, true, isa, ROOM_FOR_ALL, GEMM_ONEDNN, KV_BF16 }, &want, name);
    requests_free(&want);
}

/* int8 KV has one definition at all levels, so only prompts at amx differ. */
static void q8_cache(const struct gguf *g, const char *name, enum isa isa)
{
    struct run want;

    requests_run(g, &(struct setting){ 1, 1, 64, false, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_Q8 }, &want, NULL);
    compare(g, &(struct setting){ 2, 3, 7, true, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_Q8 }, &want, name);
    compare(g, &(struct setting){ 3, 2, 512, true, isa, ROOM_FOR_ONE, GEMM_AUTO, KV_Q8 }, &want, name);
    compare(g, &(struct setting){ 3, 2, 512, true, isa, ROOM_TO_SPILL, GEMM_AUTO, KV_Q8 }, &want, name);
    for (enum isa lower = ISA_SCALAR; lower < isa && isa < ISA_AMX; lower++)
        compare(g, &(struct setting){ 1, 2, 64, true, lower, ROOM_FOR_ALL, GEMM_AUTO, KV_Q8 }, &want, "levels, q8");
    requests_free(&want);
}

/* A few settings with several nodes and workers, for the builds with sanitizers. */
static void several_nodes(const struct gguf *g, const char *name, enum isa isa)
{
    struct run want;

    requests_run(g, &(struct setting){ 1, 1, 64, false, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, NULL);
    compare(g, &(struct setting){ 1, 3, 7, true, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 2, 3, 64, true, isa, ROOM_FOR_ONE, GEMM_AUTO, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 2, 3, 64, true, isa, ROOM_TO_SPILL, GEMM_AUTO, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 3, 5, 512, false, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, name);
    requests_free(&want);
}

static void one_axis_at_a_time(const struct gguf *g, const char *name, enum isa isa)
{
    struct run want;

    requests_run(g, &(struct setting){ 1, 1, 512, false, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, NULL);
    for (size_t i = 1; i < N_NODES; i++)
        compare(g, &(struct setting){ nodes[i], 2, 512, true, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, name);
    for (size_t i = 1; i < N_THREADS; i++)
        compare(g, &(struct setting){ 1, threads[i], 512, true, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, name);
    for (size_t i = 0; i < N_CHUNKS; i++)
        compare(g, &(struct setting){ 1, 2, chunks[i], true, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 1, 2, 64, false, isa, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 1, 2, 64, true, isa, ROOM_FOR_ONE, GEMM_AUTO, KV_BF16 }, &want, name);
    compare(g, &(struct setting){ 1, 2, 64, true, isa, ROOM_TO_SPILL, GEMM_AUTO, KV_BF16 }, &want, name);
    for (enum isa lower = ISA_SCALAR; lower < isa; lower++)
        if (levels_agree(lower, isa))
            compare(g, &(struct setting){ 1, 2, 512, true, lower, ROOM_FOR_ALL, GEMM_AUTO, KV_BF16 }, &want, "levels");
    requests_free(&want);
}

enum { SKIPPED = 77 };       /* as ctest is told */

/* Tiles can be emulated; the rest of their level the machine must have. */
static bool emulate(enum isa isa)
{
    if (isa == ISA_AMX && cpu_best_isa() == ISA_AVX512BF16 && amx_emulator_install() == 0)
        return true;
    printf("NOT TESTED: level %s; this machine has %s, and only tiles are emulated\n", isa_name(isa), isa_name(cpu_best_isa()));
    return false;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    const bool only_threads = !strcmp(mode, "--threads"), quick = only_threads || !strcmp(mode, "--quick"), tiny = quick || !strcmp(mode, "--tiny");
    enum isa isa = cpu_best_isa();
    struct gguf *g;

    log_set_level(LOG_WARN);
    if (argc < 2) {
        fprintf(stderr, "usage: check_invariance --tiny | --threads | --quick [--isa LEVEL] | MODEL [--isa LEVEL]\n");
        return 2;
    }
    if (argc == 4 && !isa_parse(argv[3], &isa))
        return 2;
    const bool emulated = isa > cpu_best_isa();
    if (emulated && !emulate(isa))
        return SKIPPED;
    for (enum tiny_kind kind = 0; tiny && kind < TINY_KINDS; kind++) {
        char path[] = "/tmp/fourway-tiny-XXXXXX";
        int fd = mkstemp(path);
        if (fd < 0)
            return 1;
        tiny_model_write(path, kind);
        if (gguf_open(&g, path))
            return 1;
        if (quick || kind > TINY_WIDE_GROUP)    /* those share all but a step of a layer with the first: the whole product would take minutes */
            several_nodes(g, tiny_names[kind], isa);
        else    /* the odd shapes differ from the others in placement, not in kernels: one level is enough */
            full_product(g, tiny_names[kind], kind <= TINY_GEMMA ? ISA_SCALAR : isa, isa);
        if (!emulated && !only_threads)
            two_roles(g, tiny_names[kind], isa);
        if (!only_threads)
            q8_cache(g, tiny_names[kind], isa);
        gguf_close(g);
        close(fd);
        unlink(path);
    }
    if (!tiny) {
        if (gguf_open(&g, argv[1]))
            return 1;
        one_axis_at_a_time(g, argv[1], isa);
        two_roles(g, argv[1], isa);
        gguf_close(g);
    }
    if (emulated && amx_emulator_count() == 0) {
        printf("no tile was used\n");
        n_wrong++;
    }
    printf("%zu runs of %d requests, %zu records differ\n", n_runs, N_REQUESTS, n_wrong);
    return n_wrong || n_runs == 0;
}
