/* streams.c - traffic of writes, mixes and STREAM's kind, 32 bytes at a time. */
#include <immintrin.h>

#include "kernels/kernels_internal.h"

#define WORD __m256d
#define LOAD(p) _mm256_load_pd(p)
#define STORE(p, x) _mm256_store_pd(p, x)
#define STORE_NT(p, x) _mm256_stream_pd(p, x)
#define SET(value) _mm256_set1_pd(value)
#define PLUS(x, y) _mm256_add_pd(x, y)
#define TIMES(x, y) _mm256_mul_pd(x, y)
#define FENCE() _mm_sfence()
#include "kernels/stream_template.h"

void streams_avx2(struct kernels *table)
{
    FILL_STREAMS(&table->streams);
}
