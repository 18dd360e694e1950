#include "server/latency.h"

#include <math.h>

static const double least_ns = 1e4;

void latency_add(struct latency *l, uint64_t ns)
{
    const double place = ns > least_ns ? 4 * log2((double)ns / least_ns) : 0;
    const int k = place < LATENCY_BUCKETS - 1 ? (int)place : LATENCY_BUCKETS - 1;

    l->counts[k]++;
    l->n++;
    if (ns > l->most_ns)
        l->most_ns = ns;
}

uint64_t latency_median_ns(const struct latency *l)
{
    uint32_t below = 0;

    for (int k = 0; k < LATENCY_BUCKETS; k++) {
        below += l->counts[k];
        if (l->n && below * 2 >= l->n) {
            const uint64_t edge = (uint64_t)(least_ns * exp2((k + 1) / 4.0));
            return edge < l->most_ns ? edge : l->most_ns;
        }
    }
    return 0;
}
