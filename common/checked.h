/*
 * checked.h - arithmetic on sizes that strangers claim: each function returns false instead of wrapping.
 */
#ifndef FOURWAY_COMMON_CHECKED_H
#define FOURWAY_COMMON_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* `up` = the first multiple of `alignment` (a power of two) at or after `a`. */
static inline bool checked_align(uint64_t a, uint64_t alignment, uint64_t *up)
{
    uint64_t sum;
    if (!checked_add(a, alignment - 1, &sum))
        return false;
    *up = sum & ~(alignment - 1);
    return true;
}

#endif
