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
    __m256 scale;
    __m256 extra;           /* minima, or the scales of k 16..31; unused in types that have neither */
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

/* Bit n of a group's 32 bits goes to byte n: every byte gets the byte of its bit, keeps that bit, and compares. */
INLINE void add_fifth_bits(__m256i q[8], const uint64_t qh[8], size_t half_panel)
{
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((long long)0x8040201008040201), sixteen = _mm256_set1_epi8(16);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        const __m256i bits = _mm256_set1_epi32((int)(uint32_t)(qh[g] >> 32 * half_panel));
        const __m256i own = _mm256_and_si256(_mm256_shuffle_epi8(bits, byte_of), bit_of);
        q[g] = _mm256_or_si256(q[g], _mm256_and_si256(_mm256_cmpeq_epi8(own, bit_of), sixteen));
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

INLINE struct block load_q4_0(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q4_0 *p = (const struct panel_q4_0 *)panel + b;
    struct block out = { .scale = load_halves(p->d, half_panel) };
    load_nibbles(out.q, p->q, half_panel);
    return out;
}

INLINE struct block load_q4_1(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q4_1 *p = (const struct panel_q4_1 *)panel + b;
    struct block out = { .scale = load_halves(p->d, half_panel), .extra = load_halves(p->m, half_panel) };
    load_nibbles(out.q, p->q, half_panel);
    return out;
}

INLINE struct block load_q5_0(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q5_0 *p = (const struct panel_q5_0 *)panel + b;
    struct block out = { .scale = load_halves(p->d, half_panel) };
    load_nibbles(out.q, p->q, half_panel);
    add_fifth_bits(out.q, p->qh, half_panel);
    return out;
}

INLINE struct block load_q5_1(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q5_1 *p = (const struct panel_q5_1 *)panel + b;
    struct block out = { .scale = load_halves(p->d, half_panel), .extra = load_halves(p->m, half_panel) };
    load_nibbles(out.q, p->q, half_panel);
    add_fifth_bits(out.q, p->qh, half_panel);
    return out;
}

INLINE struct block load_q8_0(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q8_0 *p = (const struct panel_q8_0 *)panel + b;
    struct block out = { .scale = load_halves(p->d, half_panel) };
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        out.q[g] = load_group(p->q[g], half_panel);
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
    struct block out = { .scale = _mm256_mul_ps(load_halves(p->d, half_panel), load_u8(p->sc[s], half_panel)),
                         .extra = _mm256_mul_ps(negate(load_halves(p->dmin, half_panel)), load_u8(p->mn[s], half_panel)) };
    load_nibbles(out.q, p->q[s], half_panel);
    return out;
}

INLINE struct block load_q5_K(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q5_K *p = (const struct panel_q5_K *)panel + b / 8;
    const size_t s = b % 8;
    struct block out = { .scale = _mm256_mul_ps(load_halves(p->d, half_panel), load_u8(p->sc[s], half_panel)),
                         .extra = _mm256_mul_ps(negate(load_halves(p->dmin, half_panel)), load_u8(p->mn[s], half_panel)) };
    load_nibbles(out.q, p->q[s], half_panel);
    add_fifth_bits(out.q, p->qh[s], half_panel);
    return out;
}

INLINE struct block load_q6_K(const void *panel, size_t b, size_t half_panel)
{
    const struct panel_q6_K *p = (const struct panel_q6_K *)panel + b / 8;
    const size_t s = b % 8;
    const __m256 d = load_halves(p->d, half_panel);
    struct block out = { .scale = _mm256_mul_ps(d, load_i8(p->sc[2 * s], half_panel)),
                         .extra = _mm256_mul_ps(d, load_i8(p->sc[2 * s + 1], half_panel)) };
    load_nibbles(out.q, p->q[s], half_panel);
    add_high_pairs(out.q, p->qh[s], half_panel);
    return out;
}

#endif
