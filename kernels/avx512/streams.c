/* streams.c - traffic of writes, mixes and STREAM's kind, 64 bytes at a time. */
#include <immintrin.h>

#include "kernels/kernels_internal.h"

#define WORD __m512d
#define LOAD(p) _mm512_load_pd(p)
#define STORE(p, x) _mm512_store_pd(p, x)
#define STORE_NT(p, x) _mm512_stream_pd(p, x)
#define SET(value) _mm512_set1_pd(value)
#define PLUS(x, y) _mm512_add_pd(x, y)
#define TIMES(x, y) _mm512_mul_pd(x, y)
#define FENCE() _mm_sfence()
#include "kernels/stream_template.h"

void streams_avx512(struct kernels *table)
{
    FILL_STREAMS(&table->streams);
}
