/*
 * name_table.h - a hash table from names to the places of their owners in an array.
 *
 * The owners stay in an array of their caller: any struct whose first member is its struct gguf_string name. The table
 * keeps only indexes, so that finding a duplicate among 65,536 names is linear and so is looking one up.
 */
#ifndef FOURWAY_WEIGHTS_NAME_TABLE_H
#define FOURWAY_WEIGHTS_NAME_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "weights/gguf.h"

struct name_table {
    uint32_t *slots;        /* index + 1; 0: empty */
    size_t n, n_slots;      /* n_slots is a power of two, at least twice n */
    uint64_t seed;
};

/* A view of the array that a table is about. */
struct name_array { const void *first; size_t stride; };

/* Index of the entry called name, or -1. */
int64_t name_table_find(const struct name_table *t, struct name_array array, struct gguf_string name);

/* Add array[index], which is not in the table yet. Returns 0 or -ENOMEM. */
int name_table_add(struct name_table *t, struct name_array array, uint32_t index);

void name_table_free(struct name_table *t);

#endif
