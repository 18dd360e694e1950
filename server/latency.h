/*
 * latency.h - the gaps between the tokens of one request, in 96 buckets: enough for a median in the log, at 400 bytes a request.
 *
 * Bucket k holds gaps from 10 us x 2^(k/4): a median is at most 19 % off.
 */
#ifndef FOURWAY_SERVER_LATENCY_H
#define FOURWAY_SERVER_LATENCY_H

#include <stdint.h>

enum { LATENCY_BUCKETS = 96 };

struct latency {
    uint32_t counts[LATENCY_BUCKETS];
    uint32_t n;
    uint64_t most_ns;
};

void latency_add(struct latency *l, uint64_t ns);

/* The upper edge of the median's bucket, at most the longest gap; 0 without gaps. */
uint64_t latency_median_ns(const struct latency *l);

#endif
