/*
 * name_table.c - open addressing with linear probing over XXH3.
 *
 * The names are a stranger's: the hash is seeded, so that a file cannot bring names that all fall into one slot.
 */
#include "weights/name_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

enum { FIRST_SLOTS = 256 };

static const struct gguf_string *name_at(struct name_array array, size_t i)
{
    return (const struct gguf_string *)((const char *)array.first + i * array.stride);
}

/* The slot that holds name, or the empty one where it belongs. */
static size_t find_slot(const struct name_table *t, struct name_array array, struct gguf_string name)
{
    size_t slot = (size_t)XXH3_64bits_withSeed(name.data, name.len, t->seed) & (t->n_slots - 1);

    while (t->slots[slot]) {
        const struct gguf_string *other = name_at(array, t->slots[slot] - 1);
        if (other->len == name.len && !memcmp(other->data, name.data, name.len))
            break;
        slot = (slot + 1) & (t->n_slots - 1);
    }
    return slot;
}

int64_t name_table_find(const struct name_table *t, struct name_array array, struct gguf_string name)
{
    if (!t->n)
        return -1;
    return (int64_t)t->slots[find_slot(t, array, name)] - 1;
}

static int grow(struct name_table *t, struct name_array array)
{
    struct name_table bigger = { .n = t->n, .n_slots = t->n_slots ? 2 * t->n_slots : FIRST_SLOTS, .seed = t->seed };

    if (!t->n_slots && getrandom(&bigger.seed, sizeof(bigger.seed), GRND_NONBLOCK) < 0)
        bigger.seed = (uint64_t)(uintptr_t)t;       /* early at boot: the address is better than nothing */
    bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < t->n_slots; i++) {
        if (t->slots[i])
            bigger.slots[find_slot(&bigger, array, *name_at(array, t->slots[i] - 1))] = t->slots[i];
    }
    free(t->slots);
    *t = bigger;
    return 0;
}

int name_table_add(struct name_table *t, struct name_array array, uint32_t index)
{
    if (2 * (t->n + 1) > t->n_slots) {
        int err = grow(t, array);
        if (err)
            return err;
    }
    t->slots[find_slot(t, array, *name_at(array, index))] = index + 1;
    t->n++;
    return 0;
}

void name_table_free(struct name_table *t)
{
    free(t->slots);
    *t = (struct name_table){ 0 };
}
