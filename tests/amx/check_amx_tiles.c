/*
 * check_amx_tiles.c - what the tile instructions do to data, compiled from the compiler's intrinsics: each against a formula of its
 * own, on ragged shapes with guard pages and on extreme values. Where the machine has tiles it is the hardware that is tested, and
 * the emulator's arithmetic against it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <immintrin.h>
#include <math.h>

#include "tests/amx/amx_emulator.h"
#include "tests/amx/amx_tile.h"
#include "tests/amx/machine.h"
#include "tests/kernels/guarded.h"

enum { MXCSR_DEFAULT = 0x1f80, MXCSR_DAZ_FTZ = 0x8040, MXCSR_ROUND_UP = 0x4000 };

/* dst[m][n] += src1[m][k] src2[k][n] in elements of four bytes, packed rows. */
struct product {
    unsigned m, n, k;
    uint32_t dst[16][16], src1[16][16], src2[16][16];
};

/* Tiles 5 += 2 x 7. */
static struct tile_config product_config(const struct product *p)
{
    struct tile_config config = { .palette = 1 };

    config.rows[5] = config.rows[2] = (uint8_t)p->m;
    config.rows[7] = (uint8_t)p->k;
    config.colsb[5] = config.colsb[7] = (uint16_t)(4 * p->n);
    config.colsb[2] = (uint16_t)(4 * p->k);
    return config;
}

static void run_product(struct product *p, enum amx_dot op)
{
    const struct tile_config config = product_config(p);

    tile_configure(&config);
    tile_load(5, p->dst, sizeof(p->dst[0]));
    tile_load(2, p->src1, sizeof(p->src1[0]));
    tile_load(7, p->src2, sizeof(p->src2[0]));
    switch (op) {
    case AMX_TDPBSSD:
        _tile_dpbssd(5, 2, 7);
        break;
    case AMX_TDPBSUD:
        _tile_dpbsud(5, 2, 7);
        break;
    case AMX_TDPBUSD:
        _tile_dpbusd(5, 2, 7);
        break;
    case AMX_TDPBUUD:
        _tile_dpbuud(5, 2, 7);
        break;
    default:
        _tile_dpbf16ps(5, 2, 7);
        break;
    }
    tile_store(5, p->dst, sizeof(p->dst[0]));
}

static void random_shape(struct rng *rng, struct product *p)
{
    p->m = 1 + rng_below(rng, 16);
    p->n = 1 + rng_below(rng, 16);
    p->k = 1 + rng_below(rng, 16);
}

static int64_t byte_of(uint32_t dword, unsigned i, bool is_signed)
{
    const uint8_t byte = (uint8_t)(dword >> 8 * i);
    return is_signed && byte >= 128 ? byte - 256 : byte;
}

static void reference_bytes(struct product *p, bool signed1, bool signed2)
{
    for (unsigned m = 0; m < p->m; m++) {
        for (unsigned n = 0; n < p->n; n++) {
            int64_t sum = 0;
            for (unsigned k = 0; k < p->k; k++) {
                for (unsigned i = 0; i < 4; i++)
                    sum += byte_of(p->src1[m][k], i, signed1) * byte_of(p->src2[k][n], i, signed2);
            }
            p->dst[m][n] = (uint32_t)(p->dst[m][n] + (uint64_t)sum);
        }
    }
}

/* Any bytes, or mostly those where a sign or a saturation would show. */
static void random_bytes(struct rng *rng, void *out, size_t n)
{
    static const uint8_t extreme[] = { 0x80, 0x7f, 0xff, 0x81, 0x00, 0x01 };
    uint8_t *bytes = out;
    const bool wild = rng_below(rng, 2);

    rng_bytes(rng, out, n);
    for (size_t i = 0; wild && i < n; i++)
        bytes[i] = extreme[rng_below(rng, sizeof(extreme))];
}

static void check_bytes(void **state)
{
    (void)state;
    machine_start();
    const uint64_t before = amx_emulator_count();
    struct rng rng;
    rng_seed(&rng, 1);
    for (unsigned round = 0; round < 4000; round++) {
        const enum amx_dot op = (enum amx_dot)(round % AMX_TDPBF16PS);
        struct product got, want;

        random_bytes(&rng, &got, sizeof(got));
        if (round < 8) {        /* all at the extreme: the largest sums there are, on either side of 2^31 */
            memset(got.src1, round < 4 ? 0x80 : 0xff, sizeof(got.src1));
            memset(got.src2, round < 4 ? 0x80 : 0xff, sizeof(got.src2));
        }
        random_shape(&rng, &got);
        want = got;
        run_product(&got, op);
        reference_bytes(&want, op == AMX_TDPBSSD || op == AMX_TDPBSUD, op == AMX_TDPBSSD || op == AMX_TDPBUSD);
        if (memcmp(&got, &want, sizeof(got)) != 0)
            fail_msg("op=%d m=%u n=%u k=%u round=%u", (int)op, got.m, got.n, got.k, round);
    }
    assert_int_equal(amx_emulator_count() - before, amx_hardware() ? 0 : 4000 * 6);
}

static float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t as_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* The SDM's words by the processor's own FMA, with denormals as MXCSR makes zeros of them. Not inlined: it has to stay between the
 * changes of MXCSR. */
static __attribute__((noinline, target("fma"))) void reference_bf16_fma(struct product *p)
{
    for (unsigned m = 0; m < p->m; m++) {
        for (unsigned n = 0; n < p->n; n++) {
            float even = 0, odd = 0;
            for (unsigned k = 0; k < p->k; k++) {
                even = __builtin_fmaf(as_float(p->src1[m][k] << 16), as_float(p->src2[k][n] << 16), even);
                odd = __builtin_fmaf(as_float(p->src1[m][k] & 0xffff0000), as_float(p->src2[k][n] & 0xffff0000), odd);
            }
            p->dst[m][n] = as_bits(as_float(p->dst[m][n]) + (even + odd));
        }
    }
}

static void reference_bf16(struct product *p)
{
    _mm_setcsr(MXCSR_DEFAULT | MXCSR_DAZ_FTZ);
    reference_bf16_fma(p);
    _mm_setcsr(MXCSR_DEFAULT);
}

/* bf16 of a kind: 0 any bits, 1 about one, 2 products about 2^-126, 3 products about 2^128, 4 what is no ordinary number, 5 few
 * significant bits and near in magnitude, so that sums cancel. */
static uint32_t random_bf16(struct rng *rng, unsigned kind)
{
    static const uint16_t special[] = { 0x0000, 0x8000, 0x0001, 0x807f, 0x0040, 0x7f80, 0xff80,
                                        0x7fc0, 0xff81, 0x7f7f, 0xff7f, 0x0080, 0x8080, 0x3f80 };
    const uint32_t sign = rng_below(rng, 2) << 15, fraction = rng_below(rng, 128);

    switch (kind) {
    case 0:
        return rng_below(rng, 65536);
    case 1:
        return sign | (121 + rng_below(rng, 8)) << 7 | fraction;
    case 2:
        return sign | (55 + rng_below(rng, 12)) << 7 | fraction;
    case 3:
        return sign | (187 + rng_below(rng, 6)) << 7 | fraction;
    case 4:
        return special[rng_below(rng, sizeof(special) / sizeof(special[0]))];
    default:
        return sign | (126 + rng_below(rng, 2)) << 7 | (fraction & 0x60);
    }
}

static void random_pairs(struct rng *rng, uint32_t pairs[16][16], unsigned kind)
{
    for (unsigned i = 0; i < 256; i++) {
        /* a few special ones among the others; many NaNs would hide the rest */
        const unsigned low = rng_below(rng, 64) == 0 ? 4 : kind, high = rng_below(rng, 64) == 0 ? 4 : kind;
        pairs[i / 16][i % 16] = random_bf16(rng, low) | random_bf16(rng, high) << 16;
    }
}

static void random_floats(struct rng *rng, uint32_t floats[16][16], unsigned kind)
{
    for (unsigned i = 0; i < 256; i++)
        floats[i / 16][i % 16] = random_bf16(rng, kind) << 16 | rng_below(rng, 65536);
}

static void random_bf16_product(struct rng *rng, struct product *p)
{
    const unsigned kind = rng_below(rng, 6);

    memset(p, 0, sizeof(*p));
    random_shape(rng, p);
    random_pairs(rng, p->src1, kind);
    random_pairs(rng, p->src2, rng_below(rng, 8) == 0 ? 4 : kind);
    if (kind == 2 || kind == 3) {
        for (unsigned i = 0; i < 256; i++) {    /* where the products lie: about 2^-126, about 2^128 */
            const uint32_t exponent = kind == 2 ? rng_below(rng, 6) : 250 + rng_below(rng, 5);
            p->dst[i / 16][i % 16] = rng_below(rng, 2) << 31 | exponent << 23 | rng_below(rng, 1 << 23);
        }
    } else {
        random_floats(rng, p->dst, kind);
    }
}

/* Equal bits; two NaNs count as the same, whose bits the SDM does not give. */
static void assert_same_floats(const struct product *got, const struct product *want, unsigned round)
{
    for (unsigned m = 0; m < 16; m++) {
        for (unsigned n = 0; n < 16; n++) {
            const uint32_t g = got->dst[m][n], w = want->dst[m][n];
            if (g != w && !(isnan(as_float(g)) && isnan(as_float(w))))
                fail_msg("[%u][%u] is %a, not %a; m=%u n=%u k=%u round=%u", m, n, (double)as_float(g), (double)as_float(w), got->m, got->n,
                         got->k, round);
        }
    }
}

static void check_bf16(void **state)
{
    (void)state;
    machine_start();
    if (!__builtin_cpu_supports("fma")) {
        print_message("*** SKIPPED: this processor has no FMA to compare TDPBF16PS with ***\n");
        skip();
    }
    struct rng rng;
    rng_seed(&rng, 2);
    for (unsigned round = 0; round < 6000; round++) {
        struct product got, want;

        random_bf16_product(&rng, &got);
        want = got;
        run_product(&got, AMX_TDPBF16PS);
        reference_bf16(&want);
        assert_same_floats(&got, &want, round);
    }
}

/* One element, by hand: what is special about the sums. */
static void check_bf16_by_hand(void **state)
{
    enum { ONE = 0x3f80, MINUS_ONE = 0xbf80, INF = 0x7f80, A_NAN = 0x7fc1, SUBNORMAL = 0x0040 };
    enum { TWO_63 = 0x5f00, TWO_64 = 0x5f80, TWO_M24 = 0x3380, TWO_M63 = 0x2000, TWO_M75 = 0x1a00, MINUS_TWO_M76 = 0x9980 };
    static const struct {
        uint32_t dst;
        uint16_t a[4], b[4];        /* k = 0 even, odd; k = 1 even, odd */
        uint32_t want;
    } cases[] = {
        { 0x3f800000, { ONE, ONE, ONE, ONE }, { ONE, ONE, ONE, ONE }, 0x40a00000 },
        /* even = 2^24 + 1, rounded to even 2^24; odd = -2^24: the one is lost. One chain, or odd first, would keep it. */
        { 0, { 0x4b80, 0xcb80, ONE, 0 }, { ONE, ONE, ONE, 0 }, 0 },
        /* the ones of even and odd are added before dst takes them: 2^24 + (1 + 1), not (2^24 + 1) + 1 */
        { 0x4b800000, { ONE, ONE, 0, 0 }, { ONE, ONE, 0, 0 }, 0x4b800001 },
        /* 1 + (2^-24 + 0): a tie, to even */
        { 0x3f800000, { TWO_M24, 0, 0, 0 }, { ONE, 0, 0, 0 }, 0x3f800000 },
        { 0x3f800001, { TWO_M24, 0, 0, 0 }, { ONE, 0, 0, 0 }, 0x3f800002 },
        /* subnormal operands are zeros, in bf16 and in dst */
        { 0x00400000, { SUBNORMAL, 0, 0, 0 }, { TWO_64, 0, 0, 0 }, 0 },
        { 0x80400000, { 0x8000, 0x8000, 0, 0 }, { 0, 0, 0, 0 }, 0 },
        /* results: 2^-126 - 2^-151 is a tie and becomes 2^-126, 2^-126 - 2^-151 - 2^-152 becomes zero, of its sign */
        { 0, { TWO_M63, 0, TWO_M75, 0 }, { TWO_M63, 0, MINUS_TWO_M76, 0 }, 0x00800000 },
        { 0, { TWO_M63, 0, 0x1a40, 0 }, { TWO_M63, 0, MINUS_TWO_M76, 0 }, 0 },
        { 0x80000000, { 0, 0, TWO_M63, TWO_M63 }, { 0, 0, 0x9f80, 0x9f80 }, 0x80000000 },
        /* even = -2^-126, odd = +2^-126 (1 + 2^-7): the sum is subnormal, so zero */
        { 0x80000000, { 0xa000, 0x2001, 0, 0 }, { TWO_M63, TWO_M63, 0, 0 }, 0 },
        /* overflow: 2^127 + 2^127 within one chain; and only in the last sum */
        { 0, { TWO_64, 0, TWO_64, 0 }, { TWO_63, 0, TWO_63, 0 }, 0x7f800000 },
        { 0x7f7fffff, { TWO_64, 0, 0, 0 }, { TWO_63, 0, 0, 0 }, 0x7f800000 },
        { 0xff800000, { TWO_64, 0, TWO_64, 0 }, { TWO_63, 0, 0xdf00, 0 }, 0xff800000 },
        /* the product of an fma is not rounded: -2^127 + 2^128 */
        { 0, { 0xdf00, 0, TWO_64, 0 }, { TWO_64, 0, TWO_64, 0 }, 0x7f000000 },
        /* invalid: zero (also a flushed one) by infinity, infinity less infinity; NaN */
        { 0, { INF, 0, 0, 0 }, { SUBNORMAL, 0, 0, 0 }, 0xffc00000 },
        { 0xff800000, { INF, 0, 0, 0 }, { ONE, 0, 0, 0 }, 0xffc00000 },
        { 0x3f800000, { A_NAN, 0, 0, 0 }, { ONE, 0, 0, 0 }, 0xffc00000 },
        { 0x7f800001, { 0, 0, 0, 0 }, { 0, 0, 0, 0 }, 0xffc00000 },
        /* signed zeros: the chains start at +0, so their sum is never -0 but by a flush */
        { 0x80000000, { 0x8000, 0x8000, 0x8000, 0x8000 }, { ONE, ONE, ONE, ONE }, 0 },
        { 0x3f800000, { MINUS_ONE, 0, 0, 0 }, { ONE, 0, 0, 0 }, 0 },
    };

    (void)state;
    machine_start();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct product p = { .m = 1, .n = 1, .k = 2 };
        p.dst[0][0] = cases[i].dst;
        for (unsigned k = 0; k < 2; k++) {
            p.src1[0][k] = cases[i].a[2 * k] | (uint32_t)cases[i].a[2 * k + 1] << 16;
            p.src2[k][0] = cases[i].b[2 * k] | (uint32_t)cases[i].b[2 * k + 1] << 16;
        }
        run_product(&p, AMX_TDPBF16PS);
        if (p.dst[0][0] != cases[i].want && !(amx_hardware() && isnan(as_float(p.dst[0][0])) && isnan(as_float(cases[i].want))))
            fail_msg("case %zu: %a (%08x), not %a", i, (double)as_float(p.dst[0][0]), p.dst[0][0], (double)as_float(cases[i].want));
    }
}

/* The arithmetic does not read MXCSR and leaves it as it is. */
static void check_mxcsr(void **state)
{
    (void)state;
    machine_start();
    struct rng rng;
    rng_seed(&rng, 3);
    for (unsigned round = 0; round < 200; round++) {
        struct product got, want;

        random_bf16_product(&rng, &want);
        got = want;
        run_product(&want, AMX_TDPBF16PS);
        const unsigned csr = MXCSR_DEFAULT | (round % 2 ? MXCSR_ROUND_UP : 0) | (round % 3 ? MXCSR_DAZ_FTZ : 0);
        _mm_setcsr(csr);
        run_product(&got, AMX_TDPBF16PS);
        const unsigned after = _mm_getcsr();
        _mm_setcsr(MXCSR_DEFAULT);
        assert_int_equal(after, csr);
        assert_same_floats(&got, &want, round);
    }
}

/* Loads from and stores to the last bytes before a guard page, with rows apart, overlapping, or upwards. */
static void check_load_store(void **state)
{
    static const ptrdiff_t strides[] = { 64, 4, 0, 67, 256, -64, -4, -67, -300 };
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 4);
    for (unsigned rows = 1; rows <= 16; rows++) {
        for (unsigned colsb = 4; colsb <= 64; colsb += 4) {
            const struct tile_config config = config_of(rows, colsb);
            const unsigned tile = rng_below(&rng, 8);
            const ptrdiff_t stride = strides[rng_below(&rng, sizeof(strides) / sizeof(strides[0]))];
            const size_t apart = (size_t)(stride < 0 ? -stride : stride), n_bytes = (rows - 1) * apart + colsb;
            const size_t first = stride < 0 ? (rows - 1) * apart : 0;       /* where row 0 lies */
            uint8_t *from = guarded(n_bytes), *got = guarded(n_bytes), *want = guarded(n_bytes);

            rng_bytes(&rng, from, n_bytes);
            tile_configure(&config);
            if (rng_below(&rng, 2))
                tile_load(tile, from + first, stride);
            else
                tile_stream_load(tile, from + first, stride);
            tile_store(tile, got + first, stride);
            for (unsigned row = 0; row < rows; row++) {
                const ptrdiff_t at = (ptrdiff_t)first + (ptrdiff_t)row * stride;
                memcpy(want + at, from + at, colsb);
            }
            assert_memory_equal(got, want, n_bytes);

            tile_zero(tile);
            tile_store(tile, got + first, stride);
            for (unsigned row = 0; row < rows; row++)
                memset(want + ((ptrdiff_t)first + (ptrdiff_t)row * stride), 0, colsb);
            assert_memory_equal(got, want, n_bytes);
            guarded_free_all();
        }
    }
}

/* An instruction that was interrupted goes on at start_row, which every one of them sets to zero at its end. */
static void check_start_row(void **state)
{
    uint8_t from[16][64], got[16][64], want[16][64];
    struct tile_config config = config_of(16, 64), after;
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 5);
    rng_bytes(&rng, from, sizeof(from));
    for (unsigned start = 0; start < 16; start++) {
        config.start_row = (uint8_t)start;
        tile_configure(&config);
        tile_read_config(&after);
        assert_memory_equal(&after, &config, sizeof(after));
        tile_load(6, from, 64);
        tile_read_config(&after);
        assert_int_equal(after.start_row, 0);
        tile_store(6, got, 64);
        memcpy(want, from, sizeof(want));
        memset(want, 0, start * sizeof(want[0]));       /* LDTILECFG has made zeros of them */
        assert_memory_equal(got, want, sizeof(got));

        tile_configure(&config);
        memset(got, 1, sizeof(got));
        tile_store(6, got, 64);
        memset(want, 0, sizeof(want));
        memset(want, 1, start * sizeof(want[0]));
        assert_memory_equal(got, want, sizeof(got));

        tile_configure(&config);
        tile_zero(6);
        tile_read_config(&after);
        assert_int_equal(after.start_row, 0);
        tile_configure(&config);
        _tile_dpbssd(0, 1, 2);
        tile_read_config(&after);
        assert_int_equal(after.start_row, 0);
    }
}

/* STTILECFG gives back what LDTILECFG took, and zeros in the INIT state; LDTILECFG makes zeros of all tiles. */
static void check_config(void **state)
{
    static const struct tile_config none;
    struct tile_config config, got;
    uint8_t bytes[16][64];
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 6);
    for (unsigned round = 0; round < 500; round++) {
        config = (struct tile_config){ .palette = 1 };
        for (unsigned tile = 0; tile < 8; tile++) {
            if (rng_below(&rng, 4) == 0)
                continue;
            config.rows[tile] = (uint8_t)(1 + rng_below(&rng, 16));
            config.colsb[tile] = (uint16_t)(1 + rng_below(&rng, 64));
        }
        tile_configure(&config);
        tile_read_config(&got);
        assert_memory_equal(&got, &config, sizeof(got));
        if (round % 2) {
            _tile_release();
        } else {
            rng_bytes(&rng, &config, sizeof(config));       /* palette 0: nothing else is looked at */
            config.palette = 0;
            tile_configure(&config);
        }
        tile_read_config(&got);
        assert_memory_equal(&got, &none, sizeof(got));
    }

    config = config_of(16, 64);
    tile_configure(&config);
    for (unsigned tile = 0; tile < 8; tile++) {
        memset(bytes, (int)tile + 1, sizeof(bytes));
        tile_load(tile, bytes, 64);
    }
    for (unsigned tile = 0; tile < 8; tile++) {
        tile_store(tile, bytes, 64);
        assert_int_equal(bytes[15][63], tile + 1);
    }
    tile_configure(&config);
    for (unsigned tile = 0; tile < 8; tile++) {
        tile_store(tile, bytes, 64);
        for (unsigned i = 0; i < sizeof(bytes); i++)
            assert_int_equal(bytes[i / 64][i % 64], 0);
    }
}

static struct amx_memory packed(void *rows, unsigned stride)
{
    return (struct amx_memory){ .start = (uintptr_t)rows, .stride = stride, .mask = UINT64_MAX };
}

/* run_product() with the functions of amx_tile.h instead. What lies outside of the shape must stay zero there. */
static void run_product_plain(struct amx_tiles *t, struct product *p, enum amx_dot op)
{
    struct tile_config config = product_config(p);
    const struct amx_memory config_memory = packed(&config, 0), dst = packed(p->dst, 64), src1 = packed(p->src1, 64),
                            src2 = packed(p->src2, 64);

    assert_int_equal(amx_load_config(t, &config_memory), AMX_DONE);
    assert_int_equal(amx_load(t, 5, &dst), AMX_DONE);
    assert_int_equal(amx_load(t, 2, &src1), AMX_DONE);
    assert_int_equal(amx_load(t, 7, &src2), AMX_DONE);
    assert_int_equal(amx_dot(t, op, 5, 2, 7), AMX_DONE);
    assert_int_equal(amx_store(t, 5, &dst), AMX_DONE);
    for (unsigned tile = 0; tile < 8; tile++) {
        for (unsigned row = 0; row < 16; row++) {
            for (unsigned i = row < t->rows[tile] ? t->colsb[tile] : 0; i < 64; i++)
                assert_int_equal(t->tile[tile][row][i], 0);
        }
    }
}

static void random_product(struct rng *rng, struct product *p, enum amx_dot op)
{
    if (op == AMX_TDPBF16PS) {
        random_bf16_product(rng, p);
    } else {
        random_bytes(rng, p, sizeof(*p));
        random_shape(rng, p);
    }
}

static void check_zero_outside(void **state)
{
    static struct amx_tiles tiles;
    struct rng rng;

    (void)state;
    rng_seed(&rng, 7);
    for (unsigned round = 0; round < 500; round++) {
        struct product p;
        random_product(&rng, &p, (enum amx_dot)(round % AMX_DOT_COUNT));
        memset(tiles.tile, 0xff, sizeof(tiles.tile));
        run_product_plain(&tiles, &p, (enum amx_dot)(round % AMX_DOT_COUNT));
    }
}

static void check_against_hardware(void **state)
{
    static struct amx_tiles tiles;
    struct rng rng;

    (void)state;
    if (!amx_hardware()) {
        print_message("*** SKIPPED: this machine has no AMX, so the emulator is NOT compared with the hardware ***\n");
        skip();
    }
    machine_start();
    rng_seed(&rng, 8);
    for (unsigned round = 0; round < 200000; round++) {
        const enum amx_dot op = (enum amx_dot)(round % AMX_DOT_COUNT);
        struct product got, want;

        random_product(&rng, &got, op);
        want = got;
        run_product_plain(&tiles, &got, op);
        run_product(&want, op);
        if (op == AMX_TDPBF16PS)
            assert_same_floats(&got, &want, round);
        else
            assert_memory_equal(&got, &want, sizeof(got));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_bytes),
        cmocka_unit_test(check_bf16),
        cmocka_unit_test(check_bf16_by_hand),
        cmocka_unit_test(check_mxcsr),
        cmocka_unit_test(check_load_store),
        cmocka_unit_test(check_start_row),
        cmocka_unit_test(check_config),
        cmocka_unit_test(check_zero_outside),
        cmocka_unit_test(check_against_hardware),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
