/*
 * check_placement.c - the whole engine on real nodes: every page where it belongs, and the bits of any other run.
 *
 *   check_placement [DIGEST]     prints the digest of the tiny models' records; with DIGEST, fails unless it is this one
 *
 * Run on this machine for the digest, then on an emulated one with four nodes (vm_test.sh).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "common/log.h"
#include "tests/model/requests.h"
#include "tests/model/tiny_model.h"

static bool misplaced;

static void check_pages(struct engine *e)
{
    struct model_placement p;
    struct model_info info;

    model_info(engine_model(e), &info);
    if (model_placement(engine_model(e), true, &p)) {
        printf("move_pages failed\n");
        misplaced = true;
        return;
    }
    printf("%zu nodes, %zu workers: weights %llu of %llu pages on their node, KV %llu of %llu\n", info.n_nodes, info.n_threads,
           (unsigned long long)p.weight_local, (unsigned long long)p.weight_pages, (unsigned long long)p.kv_local,
           (unsigned long long)p.kv_pages);
    misplaced |= p.weight_local != p.weight_pages || p.kv_local != p.kv_pages || !p.weight_pages || !p.kv_pages;
}

/* The highest level whose bits all lower ones share: the emulated machine has less than this one. */
static enum isa common_level(void)
{
    return cpu_best_isa() < ISA_AVX512 ? cpu_best_isa() : ISA_AVX512;
}

int main(int argc, char **argv)
{
    XXH3_state_t *state = XXH3_createState();
    char digest[17];

    log_set_level(LOG_WARN);
    XXH3_64bits_reset(state);
    for (enum tiny_kind kind = 0; kind < TINY_KINDS; kind++) {
        char path[] = "/tmp/fourway-tiny-XXXXXX";
        struct setting s = { .chunk = 64, .together = true, .isa = common_level() };
        struct gguf *g;
        struct run r;
        int fd = mkstemp(path);
        if (fd < 0)
            return 1;
        tiny_model_write(path, kind);
        if (gguf_open(&g, path))
            return 1;
        requests_run(g, &s, &r, check_pages);
        for (size_t i = 0; i < N_REQUESTS; i++)
            XXH3_64bits_update(state, r.records[i].bytes.data, r.records[i].bytes.len);
        requests_free(&r);
        gguf_close(g);
        close(fd);
        unlink(path);
    }
    snprintf(digest, sizeof(digest), "%016llx", (unsigned long long)XXH3_64bits_digest(state));
    XXH3_freeState(state);
    printf("digest %s at %s\n", digest, isa_name(common_level()));
    if (argc > 1 && strcmp(argv[1], digest)) {
        printf("FAILED: expected %s\n", argv[1]);
        return 1;
    }
    return misplaced;
}
