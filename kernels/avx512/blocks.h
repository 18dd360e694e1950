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
    __m512 scale[2];        /* the second: of k 16..31, in types with halves */
    __m512 min[2];          /* of types with minima; the second as above */
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

INLINE void add_bits(__m512i q[8], const uint64_t qh[8], const int value)
{
    const __m512i set = _mm512_set1_epi8((char)value);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        q[g] = _mm512_mask_add_epi8(q[g], _cvtu64_mask64(qh[g]), q[g], set);
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

/* Group g of the pairs stands at bit 2 (g % 4) of its byte; what a 16-bit shift carries over from the neighbouring byte is masked. */
INLINE void load_pairs(__m512i q[8], const uint8_t pairs[2][64])
{
    const __m512i pair = _mm512_set1_epi8(3);
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
        const __m512i four = _mm512_loadu_si512(pairs[j]);
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++)
            q[4 * j + g] = _mm512_and_si512(_mm512_srli_epi16(four, (unsigned)(2 * g)), pair);
    }
}

INLINE void look_up(__m512i q[8], const uint8_t table[16])
{
    const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        q[g] = _mm512_shuffle_epi8(all, q[g]);
}

/* 2^(e - 128): below 2 a denormal, whose only bit is one of the mantissa; 255 is NaN. */
INLINE __m512 load_powers_of_two(const uint8_t e[16])
{
    const __m512i n = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)e)), one = _mm512_set1_epi32(1);
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(n, one), 23);
    const __m512i bits = _mm512_mask_sllv_epi32(normal, _mm512_cmple_epi32_mask(n, one), _mm512_set1_epi32(1 << 21), n);
    return _mm512_castsi512_ps(_mm512_mask_set1_epi32(bits, _mm512_cmpeq_epi32_mask(n, _mm512_set1_epi32(255)), -1));
}

INLINE struct block load_q4_0(const void *panel, size_t b)
{
    const struct panel_q4_0 *p = (const struct panel_q4_0 *)panel + b;
    struct block out = { .scale = { load_halves(p->d) } };
    load_nibbles(out.q, p->q);
    return out;
}

INLINE struct block load_q4_1(const void *panel, size_t b)
{
    const struct panel_q4_1 *p = (const struct panel_q4_1 *)panel + b;
    struct block out = { .scale = { load_halves(p->d) }, .min = { load_halves(p->m) } };
    load_nibbles(out.q, p->q);
    return out;
}

INLINE struct block load_q5_0(const void *panel, size_t b)
{
    const struct panel_q5_0 *p = (const struct panel_q5_0 *)panel + b;
    struct block out = { .scale = { load_halves(p->d) } };
    load_nibbles(out.q, p->q);
    add_bits(out.q, p->qh, 16);
    return out;
}

INLINE struct block load_q5_1(const void *panel, size_t b)
{
    const struct panel_q5_1 *p = (const struct panel_q5_1 *)panel + b;
    struct block out = { .scale = { load_halves(p->d) }, .min = { load_halves(p->m) } };
    load_nibbles(out.q, p->q);
    add_bits(out.q, p->qh, 16);
    return out;
}

INLINE struct block load_q8_0(const void *panel, size_t b)
{
    const struct panel_q8_0 *p = (const struct panel_q8_0 *)panel + b;
    struct block out = { .scale = { load_halves(p->d) } };
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        out.q[g] = _mm512_loadu_si512(p->q[g]);
    return out;
}

INLINE struct block load_iq4_nl(const void *panel, size_t b)
{
    const struct panel_iq4_nl *p = (const struct panel_iq4_nl *)panel + b;
    struct block out = { .scale = { load_halves(p->d) } };
    load_nibbles(out.q, p->q);
    look_up(out.q, quants_nl);
    return out;
}

INLINE struct block load_mxfp4(const void *panel, size_t b)
{
    const struct panel_mxfp4 *p = (const struct panel_mxfp4 *)panel + b;
    struct block out = { .scale = { load_powers_of_two(p->e) } };
    load_nibbles(out.q, p->q);
    look_up(out.q, quants_e2m1);
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
    struct block out = { .scale = { _mm512_mul_ps(load_halves(p->d), load_u8(p->sc[s])) },
                         .min = { _mm512_mul_ps(negate(load_halves(p->dmin)), load_u8(p->mn[s])) } };
    load_nibbles(out.q, p->q[s]);
    return out;
}

INLINE struct block load_q5_K(const void *panel, size_t b)
{
    const struct panel_q5_K *p = (const struct panel_q5_K *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = { _mm512_mul_ps(load_halves(p->d), load_u8(p->sc[s])) },
                         .min = { _mm512_mul_ps(negate(load_halves(p->dmin)), load_u8(p->mn[s])) } };
    load_nibbles(out.q, p->q[s]);
    add_bits(out.q, p->qh[s], 16);
    return out;
}

INLINE struct block load_q6_K(const void *panel, size_t b)
{
    const struct panel_q6_K *p = (const struct panel_q6_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m512 d = load_halves(p->d);
    struct block out = { .scale = { _mm512_mul_ps(d, load_i8(p->sc[2 * s])),
                                    _mm512_mul_ps(d, load_i8(p->sc[2 * s + 1])) } };
    load_nibbles(out.q, p->q[s]);
    add_high_pairs(out.q, p->qh[s]);
    return out;
}

INLINE struct block load_q3_K(const void *panel, size_t b)
{
    const struct panel_q3_K *p = (const struct panel_q3_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m512 d = load_halves(p->d);
    struct block out = { .scale = { _mm512_mul_ps(d, load_i8(p->sc[2 * s])),
                                    _mm512_mul_ps(d, load_i8(p->sc[2 * s + 1])) } };
    load_pairs(out.q, p->q[s]);
    add_bits(out.q, p->qh[s], 4);
    return out;
}

INLINE struct block load_q2_K(const void *panel, size_t b)
{
    const struct panel_q2_K *p = (const struct panel_q2_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m512 d = load_halves(p->d), dmin = negate(load_halves(p->dmin));
    struct block out;
#pragma GCC unroll 2
    for (size_t i = 0; i < 2; i++) {
        const __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p->sc[2 * s + i]));
        out.scale[i] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15))));
        out.min[i] = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4)));
    }
    load_pairs(out.q, p->q[s]);
    return out;
}

INLINE struct block load_iq4_xs(const void *panel, size_t b)
{
    const struct panel_iq4_xs *p = (const struct panel_iq4_xs *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = { _mm512_mul_ps(load_halves(p->d), load_i8(p->sc[s])) } };
    load_nibbles(out.q, p->q[s]);
    look_up(out.q, quants_nl);
    return out;
}

#endif
