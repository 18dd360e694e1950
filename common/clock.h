/*
 * clock.h - time for deadlines and measurements (CLOCK_MONOTONIC), in nanoseconds.
 */
#ifndef FOURWAY_COMMON_CLOCK_H
#define FOURWAY_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
