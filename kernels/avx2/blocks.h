/*
 * blocks.h - one 32-wide block of half a panel (8 rows) in registers: scales and minima as floats, quants as bytes, the
 * unsigned operand of VPMADDUBSW.
 *
 * Each load_TYPE(panel, b, half) reads block b (of the 256-wide types: sub-block b) of rows 8 half .. 8 half + 7.
 */
#ifndef FOURWAY_KERNELS_AVX2_BLOCKS_H
#define FOURWAY_KERNELS_AVX2_BLOCKS_H

#include <immintrin.h>

#include "kernels/panels.h"

#define INLINE static inline __attribute__((always_inline))

struct block {
    __m256 scale[2];        /* the second: of k 16..31, in types with halves */
    __m256 min[2];          /* of types with minima; the second as above */
    __m256i q[8];
};
typedef struct block (*load_fn)(const void *panel, size_t b, size_t half_panel);

INLINE __m256 load_halves(const half h[16], size_t half_panel)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(h + 8 * half_panel)));
}

INLINE __m256 load_u8(const uint8_t v[16], size_t half_panel)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(v + 8 * half_panel))));
}

INLINE __m256 load_i8(const int8_t v[16], size_t half_panel)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(v + 8 * half_panel))));
}

INLINE __m256i load_group(const uint8_t group[64], size_t half_panel)
{
    return _mm256_loadu_si256((const __m256i *)(group + 32 * half_panel));
}

INLINE void load_nibbles(__m256i q[8], const uint8_t nibbles[4][64], size_t half_panel)
{
    const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m256i both = load_group(nibbles[j], half_panel);
        q[j] = _mm256_and_si256(both, low);
        q[j + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
}

/* The value of bit n of a group's 32 bits goes to byte n: every byte gets the byte of its bit, keeps that bit, and compares. */
INLINE void add_bits(__m256i q[8], const uint64_t qh[8], size_t half_panel, const int value)
{
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((long long)0x8040201008040201), set = _mm256_set1_epi8((char)value);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        const __m256i bits = _mm256_set1_epi32((int)(uint32_t)(qh[g] >> 32 * half_panel));
        const __m256i own = _mm256_and_si256(_mm256_shuffle_epi8(bits, byte_of), bit_of);
        q[g] = _mm256_or_si256(q[g], _mm256_and_si256(_mm256_cmpeq_epi8(own, bit_of), set));
    }
}

/* The pair of group g stands at bit 2 (g % 4) of its byte and goes to bits 4 and 5; what a 16-bit shift carries over
 * from the neighbouring byte is masked. */
INLINE void add_high_pairs(__m256i q[8], const uint8_t qh[2][64], size_t half_panel)
{
    const __m256i pair = _mm256_set1_epi8(0x30);
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
        const __m256i four = load_group(qh[j], half_panel);
        const __m256i placed[4] = { _mm256_slli_epi16(four, 4), _mm256_slli_epi16(four, 2), four, _mm256_srli_epi16(four, 2) };
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++)
            q[4 * j + g] = _mm256_or_si256(q[4 * j + g], _mm256_and_si256(placed[g], pair));
    }
}

/* Group g of the pairs stands at bit 2 (g % 4) of its byte; what a 16-bit shift carries over from the neighbouring byte is masked. */
INLINE void load_pairs(__m256i q[8], const uint8_t pairs[2][64], size_t half_panel)
{
    const __m256i pair = _mm256_set1_epi8(3);
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
        const __m256i four = load_group(pairs[j], half_panel);
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++)
            q[4 * j + g] = _mm256_and_si256(_mm256_srli_epi16(four, 2 * g), pair);
    }
}

INLINE void look_up(__m256i q[8], const uint8_t table[16])
{
    const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        q[g] = _mm256_shuffle_epi8(all, q[g]);
}

/* 2^(e - 128): below 2 a denormal, whose only bit is one of the mantissa; 255 is NaN. */
INLINE __m256 load_powers_of_two(const uint8_t e[16], size_t half_panel)
{
    const __m256i n = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(e + 8 * half_panel))), one = _mm256_set1_epi32(1);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(n, one), 23), denormal = _mm256_sllv_epi32(_mm256_set1_epi32(1 << 21), n);
    const __m256i bits = _mm256_blendv_epi8(denormal, normal, _mm256_cmpgt_epi32(n, one));
    return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_cmpeq_epi32(n, _mm256_set1_epi32(255))));
}

INLINE struct block load_q4_0(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q4_0 *p = (const struct panel_q4_0 *)panel + b;
    struct block out = { .scale = { load_halves(p->d, half_panel) } };
    load_nibbles(out.q, p->q, half_panel);
    return out;
}

INLINE struct block load_q4_1(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q4_1 *p = (const struct panel_q4_1 *)panel + b;
    struct block out = { .scale = { load_halves(p->d, half_panel) }, .min = { load_halves(p->m, half_panel) } };
    load_nibbles(out.q, p->q, half_panel);
    return out;
}

INLINE struct block load_q5_0(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q5_0 *p = (const struct panel_q5_0 *)panel + b;
    struct block out = { .scale = { load_halves(p->d, half_panel) } };
    load_nibbles(out.q, p->q, half_panel);
    add_bits(out.q, p->qh, half_panel, 16);
    return out;
}

INLINE struct block load_q5_1(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q5_1 *p = (const struct panel_q5_1 *)panel + b;
    struct block out = { .scale = { load_halves(p->d, half_panel) }, .min = { load_halves(p->m, half_panel) } };
    load_nibbles(out.q, p->q, half_panel);
    add_bits(out.q, p->qh, half_panel, 16);
    return out;
}

INLINE struct block load_q8_0(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q8_0 *p = (const struct panel_q8_0 *)panel + b;
    struct block out = { .scale = { load_halves(p->d, half_panel) } };
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        out.q[g] = load_group(p->q[g], half_panel);
    return out;
}

INLINE struct block load_iq4_nl(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_iq4_nl *p = (const struct panel_iq4_nl *)panel + b;
    struct block out = { .scale = { load_halves(p->d, half_panel) } };
    load_nibbles(out.q, p->q, half_panel);
    look_up(out.q, quants_nl);
    return out;
}

INLINE struct block load_mxfp4(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_mxfp4 *p = (const struct panel_mxfp4 *)panel + b;
    struct block out = { .scale = { load_powers_of_two(p->e, half_panel) } };
    load_nibbles(out.q, p->q, half_panel);
    look_up(out.q, quants_e2m1);
    return out;
}

/* The sign of a minimum of the K types goes into the product with dmin: -(dmin * mn) = (-dmin) * mn. */
INLINE __m256 negate(__m256 x)
{
    return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

INLINE struct block load_q4_K(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q4_K *p = (const struct panel_q4_K *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = { _mm256_mul_ps(load_halves(p->d, half_panel), load_u8(p->sc[s], half_panel)) },
                         .min = { _mm256_mul_ps(negate(load_halves(p->dmin, half_panel)), load_u8(p->mn[s], half_panel)) } };
    load_nibbles(out.q, p->q[s], half_panel);
    return out;
}

INLINE struct block load_q5_K(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q5_K *p = (const struct panel_q5_K *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = { _mm256_mul_ps(load_halves(p->d, half_panel), load_u8(p->sc[s], half_panel)) },
                         .min = { _mm256_mul_ps(negate(load_halves(p->dmin, half_panel)), load_u8(p->mn[s], half_panel)) } };
    load_nibbles(out.q, p->q[s], half_panel);
    add_bits(out.q, p->qh[s], half_panel, 16);
    return out;
}

INLINE struct block load_q6_K(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q6_K *p = (const struct panel_q6_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m256 d = load_halves(p->d, half_panel);
    struct block out = { .scale = { _mm256_mul_ps(d, load_i8(p->sc[2 * s], half_panel)),
                                    _mm256_mul_ps(d, load_i8(p->sc[2 * s + 1], half_panel)) } };
    load_nibbles(out.q, p->q[s], half_panel);
    add_high_pairs(out.q, p->qh[s], half_panel);
    return out;
}

INLINE struct block load_q3_K(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q3_K *p = (const struct panel_q3_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m256 d = load_halves(p->d, half_panel);
    struct block out = { .scale = { _mm256_mul_ps(d, load_i8(p->sc[2 * s], half_panel)),
                                    _mm256_mul_ps(d, load_i8(p->sc[2 * s + 1], half_panel)) } };
    load_pairs(out.q, p->q[s], half_panel);
    add_bits(out.q, p->qh[s], half_panel, 4);
    return out;
}

INLINE struct block load_q2_K(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q2_K *p = (const struct panel_q2_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m256 d = load_halves(p->d, half_panel), dmin = negate(load_halves(p->dmin, half_panel));
    struct block out;
#pragma GCC unroll 2
    for (size_t i = 0; i < 2; i++) {
        const __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p->sc[2 * s + i] + 8 * half_panel)));
        out.scale[i] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(15))));
        out.min[i] = _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_srli_epi32(both, 4)));
    }
    load_pairs(out.q, p->q[s], half_panel);
    return out;
}

INLINE struct block load_iq4_xs(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_iq4_xs *p = (const struct panel_iq4_xs *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = { _mm256_mul_ps(load_halves(p->d, half_panel), load_i8(p->sc[s], half_panel)) } };
    load_nibbles(out.q, p->q[s], half_panel);
    look_up(out.q, quants_nl);
    return out;
}

#endif
