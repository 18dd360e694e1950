/*
 * functions.h - exp, tanh and the activations built on them, written once for every level.
 *
 * Include after a level's vec.h. The same operations in the same order give the same bits whether a vec holds 1, 8 or 16
 * lanes; an approximate instruction (RCP, RSQRT, VEXP2) would give bits of its own and is not used. SCALEF is none: it rounds once.
 *
 * Coefficients are minimax fits of the relative error, rounded to float32 one after the other, lowest first, and refitted
 * after each rounding (Brisebarre, Muller, Tisserand, "Computing machine-efficient polynomial approximations", TOMS 2006).
 * The errors below are measured against long double; tests/kernels/check_operations.c holds them.
 */
#ifndef FOURWAY_KERNELS_FUNCTIONS_H
#define FOURWAY_KERNELS_FUNCTIONS_H

/* 2^n for -126 <= n <= 127, from its exponent bits. */
static inline vec vec_power_of_two(ivec n)
{
    return vec_from_bits(ivec_to_exponent(ivec_add(n, ivec_set(127))));
}

#ifndef VEC_LDEXP
/* p 2^n, n = -150 .. 128 as a float and as an integer, more than one exponent holds. The first product is exact, so the second rounds
 * only once. */
static inline vec vec_ldexp(vec p, vec n, ivec exponent)
{
    ivec first = ivec_halve(exponent);
    (void)n;
    return vec_mul(vec_mul(p, vec_power_of_two(first)), vec_power_of_two(ivec_sub(exponent, first)));
}
#endif

/*
 * e^x = 2^n e^r, n = x / ln 2 rounded to nearest even, |r| <= ln 2 / 2. At most 0.9 ulp, subnormal results included.
 * Below -103.98 it is 0, above 88.73 infinity; NaN stays NaN.
 */
static inline vec vec_exp(vec x)
{
    const vec magic = vec_set(0x1.8p23f);       /* adding it leaves the rounded integer in the low mantissa bits */

    x = vec_min(vec_set(89.0f), vec_max(vec_set(-104.0f), x));
    vec shifted = vec_fma(x, vec_set(0x1.715476p+0f), magic);
    vec n = vec_sub(shifted, magic);
    /* ln 2 in two parts. The first step is exact: both terms are multiples of 2^-25 and their difference is below 1/2. */
    vec r = vec_fma(n, vec_set(-0x1.62e430p-1f), x);
    r = vec_fma(n, vec_set(0x1.05c610p-29f), r);

    vec p = vec_set(0x1.6a4154p-10f);
    p = vec_fma(p, r, vec_set(0x1.1239c6p-7f));
    p = vec_fma(p, r, vec_set(0x1.5558bcp-5f));
    p = vec_fma(p, r, vec_set(0x1.555492p-3f));
    p = vec_fma(p, r, vec_set(0x1.fffffcp-2f));
    p = vec_fma(p, r, vec_set(1.0f));
    p = vec_fma(p, r, vec_set(1.0f));

    return vec_ldexp(p, n, ivec_sub(vec_bits(shifted), vec_bits(magic)));
}

/*
 * Near 0 an odd polynomial, as 1 - 2 / (e^2x + 1) loses all digits there; from 0.625 on that formula (the split is
 * that of Cephes' tanhf). At most 1.4 ulp. Keeps the sign of zero.
 */
static inline vec vec_tanh(vec x)
{
    vec a = vec_abs(x), z = vec_mul(a, a);

    vec p = vec_set(-0x1.754bb6p-8f);
    p = vec_fma(p, z, vec_set(0x1.520476p-6f));
    p = vec_fma(p, z, vec_set(-0x1.b836fcp-5f));
    p = vec_fma(p, z, vec_set(0x1.1106fcp-3f));
    p = vec_fma(p, z, vec_set(-0x1.555532p-2f));
    vec near_zero = vec_fma(vec_mul(a, z), p, a);

    vec e = vec_exp(vec_add(a, a));
    vec far = vec_sub(vec_set(1.0f), vec_div(vec_set(2.0f), vec_add(e, vec_set(1.0f))));

    return vec_copysign(vec_select(vec_less(a, vec_set(0.625f)), near_zero, far), x);
}

/* x / (1 + e^-x). At most 2.4 ulp where the result is normal; below -88.73, where e^-x is infinite, -0. */
static inline vec vec_silu(vec x)
{
    return vec_div(x, vec_add(vec_set(1.0f), vec_exp(vec_neg(x))));
}

/*
 * The tanh form of GELU, x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016, arXiv:1606.08415).
 * As (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), this keeps its digits for negative x, where 1 + tanh(u) cancels.
 * The error is below 1.3e-7 |x|.
 */
static inline vec vec_gelu(vec x)
{
    const vec minus_2_sqrt_2_over_pi = vec_set(-0x1.988454p+0f);
    vec w = vec_fma(vec_set(0.044715f), vec_mul(x, x), vec_set(1.0f));
    vec e = vec_exp(vec_mul(vec_mul(minus_2_sqrt_2_over_pi, x), w));

    return vec_div(x, vec_add(vec_set(1.0f), e));
}

#endif
