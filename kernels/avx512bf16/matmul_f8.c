/*
 * matmul_f8.c - y = W x of F8_E4M3 weights with bf16 activations by VDPBF16PS. Up to 6 tokens take codes decoded in registers, more from
 * scratch: 4 panels of a chunk are 16 KiB there, which stay in L1. Tiles as of BF16 (matmul_float.c).
 */
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

#include "kernels/avx512/e4m3.h"
#include "kernels/matmul_f8_internal.h"

#define F8_TOKENS 6
#define F8_PANELS 4

struct f8_scratch {
    bf16 w[F8_PANELS][F8_CHUNK / 2][PANEL_ROWS][2];
};
_Static_assert(sizeof(struct f8_scratch) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

/* As even as tiles can be, the larger ones first. */
INLINE size_t f8_tile_tokens(size_t left)
{
    return even_part(left, (left + F8_TOKENS - 1) / F8_TOKENS, 0);
}

/* The codes of 4 k of a panel. */
INLINE void load_group(__m512i pairs[2], const struct f8_piece *p, size_t panel, size_t k)
{
    const uint8_t *codes = f8_chunk(p, panel)->q[k / 4];

    _mm_prefetch(prefetch_address(codes, F8_PREFETCH_BYTES), _MM_HINT_T0);
    e4m3_decode(pairs, _mm512_loadu_si512(codes));
}

/* What a single tile needs is decoded there. */
INLINE void f8_decode(const struct f8_piece *p)
{
    struct f8_scratch *s = p->scratch;

    for (size_t k = 0; p->m > F8_TOKENS && k < p->k; k += 4) {
        for (size_t n = 0; n < p->panels; n++) {
            __m512i pairs[2];
            load_group(pairs, p, n, k);
            _mm512_store_si512(s->w[n][k / 2], pairs[0]);
            _mm512_store_si512(s->w[n][k / 2 + 1], pairs[1]);
        }
    }
}

INLINE __m512bh broadcast_pair(const uint8_t *x)
{
    int32_t pair;
    __builtin_memcpy(&pair, x, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
}

INLINE void tile(const struct f8_piece *p, const int tokens, const int panels, const bool decoded)
{
    const struct f8_scratch *s = p->scratch;
    __m512 sum[F8_TOKENS][F8_PANELS];

#pragma GCC unroll 6
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 4
        for (int i = 0; i < panels; i++)
            sum[t][i] = _mm512_setzero_ps();
    }
    for (size_t k = 0; k < p->k; k += 4) {
#pragma GCC unroll 4
        for (int i = 0; i < panels; i++) {
            __m512i pairs[2];
            if (decoded) {
                pairs[0] = _mm512_load_si512(s->w[i][k / 2]);
                pairs[1] = _mm512_load_si512(s->w[i][k / 2 + 1]);
            } else {
                load_group(pairs, p, (size_t)i, k);
            }
#pragma GCC unroll 6
            for (int t = 0; t < tokens; t++) {
                const uint8_t *x = p->x + (size_t)t * p->x_stride + k * sizeof(bf16);
                sum[t][i] = _mm512_dpbf16_ps(sum[t][i], (__m512bh)pairs[0], broadcast_pair(x));
                sum[t][i] = _mm512_dpbf16_ps(sum[t][i], (__m512bh)pairs[1], broadcast_pair(x + 2 * sizeof(bf16)));
            }
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 4
        for (int i = 0; i < panels; i++) {
            float *y = p->y + (size_t)t * p->y_stride + PANEL_ROWS * i;
            const __m512 before = p->first ? _mm512_setzero_ps() : _mm512_loadu_ps(y);
            _mm512_storeu_ps(y, _mm512_fmadd_ps(_mm512_loadu_ps(f8_chunk(p, (size_t)i)->d), sum[t][i], before));
        }
    }
}

static __attribute__((noinline)) void f8_tile(const struct f8_piece *p)
{
#define TILE(n, decoded) case n: p->panels == F8_PANELS ? tile(p, n, F8_PANELS, decoded) : tile(p, n, 1, decoded); return
    if (p->m <= F8_TOKENS) {
        switch (p->tokens) {
        TILE(1, false); TILE(2, false); TILE(3, false); TILE(4, false); TILE(5, false); TILE(6, false);
        }
    }
    switch (p->tokens) {
    TILE(3, true); TILE(4, true); TILE(5, true); TILE(6, true);
    default: __builtin_trap();
    }
#undef TILE
}

#include "kernels/matmul_f8_template.h"

/* Not inlined: adding scaled sums must stay between the two changes of MXCSR, which VDPBF16PS does not ask. */
static __attribute__((noinline)) void multiply(const struct matmul_args *a)
{
    multiply_f8(a, true);
}

static void matmul_f8(const struct matmul_args *a)
{
    const unsigned csr = _mm_getcsr();
    _mm_setcsr(csr | MXCSR_DAZ_FTZ);
    multiply(a);
    _mm_setcsr(csr);
}

void matmul_f8_avx512bf16(struct kernels *table)
{
    table->matmul[DTYPE_F8_E4M3] = matmul_f8;
}
