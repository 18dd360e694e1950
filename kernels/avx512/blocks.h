/*
 * blocks.h - one 32-wide block of a panel in registers: scales and minima as floats, quants as the operand of VPDPBUSD.
 *
 * Each load_TYPE(panel, b) reads block b (of the 256-wide types: sub-block b) of all 16 rows.
 */
#ifndef FOURWAY_KERNELS_AVX512_BLOCKS_H
#define FOURWAY_KERNELS_AVX512_BLOCKS_H

#include <immintrin.h>

#include "kernels/panels.h"

#define INLINE static inline __attribute__((always_inline))

struct block {
    __m512 scale;
    __m512 extra;           /* minima, or the scales of k 16..31; unused in types that have neither */
    __m512i q[8];
};
typedef struct block (*load_fn)(const void *panel, size_t b);

INLINE __m512 load_halves(const half h[16])
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
}

INLINE __m512 load_u8(const uint8_t v[16])
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)v)));
}

INLINE __m512 load_i8(const int8_t v[16])
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)v)));
}

INLINE void load_nibbles(__m512i q[8], const uint8_t nibbles[4][64])
{
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m512i both = _mm512_loadu_si512(nibbles[j]);
        q[j] = _mm512_and_si512(both, low);
        q[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
}

INLINE void add_fifth_bits(__m512i q[8], const uint64_t qh[8])
{
    const __m512i sixteen = _mm512_set1_epi8(16);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        q[g] = _mm512_mask_add_epi8(q[g], _cvtu64_mask64(qh[g]), q[g], sixteen);
}

/* The pair of group g stands at bit 2 (g % 4) of its byte and goes to bits 4 and 5; what a 16-bit shift carries over
 * from the neighbouring byte is masked. */
INLINE void add_high_pairs(__m512i q[8], const uint8_t qh[2][64])
{
    const __m512i pair = _mm512_set1_epi8(0x30);
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
        const __m512i four = _mm512_loadu_si512(qh[j]);
        const __m512i placed[4] = { _mm512_slli_epi16(four, 4), _mm512_slli_epi16(four, 2), four, _mm512_srli_epi16(four, 2) };
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++)     /* 0xea: (placed & pair) | q */
            q[4 * j + g] = _mm512_ternarylogic_epi32(placed[g], pair, q[4 * j + g], 0xea);
    }
}

INLINE struct block load_q4_0(const void *panel, size_t b)
{
    const struct panel_q4_0 *p = (const struct panel_q4_0 *)panel + b;
    struct block out = { .scale = load_halves(p->d) };
    load_nibbles(out.q, p->q);
    return out;
}

INLINE struct block load_q4_1(const void *panel, size_t b)
{
    const struct panel_q4_1 *p = (const struct panel_q4_1 *)panel + b;
    struct block out = { .scale = load_halves(p->d), .extra = load_halves(p->m) };
    load_nibbles(out.q, p->q);
    return out;
}

INLINE struct block load_q5_0(const void *panel, size_t b)
{
    const struct panel_q5_0 *p = (const struct panel_q5_0 *)panel + b;
    struct block out = { .scale = load_halves(p->d) };
    load_nibbles(out.q, p->q);
    add_fifth_bits(out.q, p->qh);
    return out;
}

INLINE struct block load_q5_1(const void *panel, size_t b)
{
    const struct panel_q5_1 *p = (const struct panel_q5_1 *)panel + b;
    struct block out = { .scale = load_halves(p->d), .extra = load_halves(p->m) };
    load_nibbles(out.q, p->q);
    add_fifth_bits(out.q, p->qh);
    return out;
}

INLINE struct block load_q8_0(const void *panel, size_t b)
{
    const struct panel_q8_0 *p = (const struct panel_q8_0 *)panel + b;
    struct block out = { .scale = load_halves(p->d) };
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        out.q[g] = _mm512_loadu_si512(p->q[g]);
    return out;
}

/* The sign of a minimum of the K types goes into the product with dmin: -(dmin * mn) = (-dmin) * mn. */
INLINE __m512 negate(__m512 x)
{
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

INLINE struct block load_q4_K(const void *panel, size_t b)
{
    const struct panel_q4_K *p = (const struct panel_q4_K *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = _mm512_mul_ps(load_halves(p->d), load_u8(p->sc[s])),
                         .extra = _mm512_mul_ps(negate(load_halves(p->dmin)), load_u8(p->mn[s])) };
    load_nibbles(out.q, p->q[s]);
    return out;
}

INLINE struct block load_q5_K(const void *panel, size_t b)
{
    const struct panel_q5_K *p = (const struct panel_q5_K *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = _mm512_mul_ps(load_halves(p->d), load_u8(p->sc[s])),
                         .extra = _mm512_mul_ps(negate(load_halves(p->dmin)), load_u8(p->mn[s])) };
    load_nibbles(out.q, p->q[s]);
    add_fifth_bits(out.q, p->qh[s]);
    return out;
}

INLINE struct block load_q6_K(const void *panel, size_t b)
{
    const struct panel_q6_K *p = (const struct panel_q6_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m512 d = load_halves(p->d);
    struct block out = { .scale = _mm512_mul_ps(d, load_i8(p->sc[2 * s])), .extra = _mm512_mul_ps(d, load_i8(p->sc[2 * s + 1])) };
    load_nibbles(out.q, p->q[s]);
    add_high_pairs(out.q, p->qh[s]);
    return out;
}

#endif
