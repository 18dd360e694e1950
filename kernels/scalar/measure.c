/* measure.c - what this machine can do at most with plain C: reading memory, and multiplication. */
#include "kernels/kernels_internal.h"

static uint64_t read_stream(const void *p, size_t bytes)
{
    const uint64_t *words = p;
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes / sizeof(*words); i++)
        sum += words[i];
    return sum;
}

static uint64_t peak_int8(uint64_t n)
{
    enum { LANES = 32 };
    int32_t sum[LANES] = { 0 };
    int8_t w[LANES];
    int x = 3;

    for (size_t i = 0; i < LANES; i++)
        w[i] = (int8_t)(7 * i);
    for (uint64_t round = 0; round < n; round++) {
        __asm__ volatile("" : "+r"(x));         /* or the compiler would multiply once for all rounds */
        for (size_t i = 0; i < LANES; i++)
            sum[i] += w[i] * (int16_t)x;
    }
    __asm__ volatile("" : : "m"(sum));
    return 2 * LANES * n;
}

static uint64_t peak_float(uint64_t n)
{
    enum { LANES = 16 };
    float sum[LANES] = { 0 }, x = 0.5f;

    for (uint64_t round = 0; round < n; round++) {
        __asm__ volatile("" : "+x"(x));
        for (size_t i = 0; i < LANES; i++)
            sum[i] = sum[i] + x * 1.5f;
    }
    __asm__ volatile("" : : "m"(sum));
    return 2 * LANES * n;
}

void measure_scalar(struct kernels *table)
{
    table->read_stream = read_stream;
    table->peak[ACT_Q8] = peak_int8;
    table->peak[ACT_BF16] = peak_float;
    table->peak[ACT_F32] = peak_float;
}
