/*
 * matmul_float_f8.h - F8_E4M3 weights decoded to float32 and multiplied as the plain types: include after matmul_float_template.h and after
 * defining load_f8(), the codes of 4 k of VEC_LANES rows.
 */
#include "kernels/matmul_f8_internal.h"

#define F8_TOKENS MANY_TOKENS
#define F8_PANELS MANY_PANELS

struct f8_scratch {
    struct scratch decoded;
    float sums[MANY_TOKENS][MANY_PANELS * PANEL_ROWS];
};
_Static_assert(sizeof(struct f8_scratch) <= MATMUL_SCRATCH_BYTES && (int)F8_CHUNK == CHUNK, "a chunk is decoded at once");

INLINE size_t f8_tile_tokens(size_t left)
{
    return tile_tokens(left);
}

/* With bf16 activations pairs are swapped, as everywhere here. */
INLINE void f8_decode(const struct f8_piece *p)
{
    struct f8_scratch *s = p->scratch;

    for (size_t n = 0; n < p->panels; n++) {
        for (size_t k = 0; k < p->k; k += 4) {
            const uint8_t *codes = f8_chunk(p, n)->q[k / 4];
            _mm_prefetch(prefetch_address(codes, F8_PREFETCH_BYTES), _MM_HINT_T0);
            for (size_t part = 0; part < PARTS; part++) {
                vec w[4];
                load_f8(w, codes + 64 / PARTS * part);
                for (size_t i = 0; i < 4; i++)
                    vec_store(s->decoded.w[n][k + (p->bf16_x ? i ^ 1 : i)] + VEC_LANES * part, w[i]);
            }
        }
    }
}

INLINE void f8_tile(const struct f8_piece *p)
{
    struct f8_scratch *s = p->scratch;
    struct piece sums = {
        .w = (const uint8_t *)s->decoded.w, .panel_bytes = sizeof(s->decoded.w[0]), .k = p->k, .x = p->x, .x_stride = p->x_stride,
        .y = s->sums[0], .y_stride = MANY_PANELS * PANEL_ROWS, .first = true,
    };

    if (p->bf16_x) {
        widen_swapped(s->decoded.x, p->x, p->x_stride, p->tokens, p->k);
        sums.x = (const uint8_t *)s->decoded.x;
        sums.x_stride = sizeof(s->decoded.x[0]);
    }
    decoded_tile(&sums, p->panels, p->tokens);
    for (size_t t = 0; t < p->tokens; t++) {
        for (size_t i = 0; i < p->panels * PANEL_ROWS; i += VEC_LANES) {
            const vec scales = vec_load(f8_chunk(p, i / PANEL_ROWS)->d + i % PANEL_ROWS);
            float *y = p->y + t * p->y_stride + i;
            vec_store(y, vec_fma(scales, vec_load(s->sums[t] + i), p->first ? vec_zero() : vec_load(y)));
        }
    }
}

#include "kernels/matmul_f8_template.h"

static void matmul_f8_f32(const struct matmul_args *a)
{
    multiply_f8(a, false);
}

/* Not inlined: its arithmetic must stay between the two changes of MXCSR. */
static __attribute__((noinline)) void multiply_f8_bf16(const struct matmul_args *a)
{
    multiply_f8(a, true);
}

static void matmul_f8(const struct matmul_args *a)
{
    const unsigned csr = _mm_getcsr();
    _mm_setcsr(csr | MXCSR_DAZ_FTZ);
    multiply_f8_bf16(a);
    _mm_setcsr(csr);
}

static void fill_f8(struct kernels *table)
{
    table->matmul[DTYPE_F8_E4M3] = matmul_f8;
    table->matmul_f32[DTYPE_F8_E4M3] = matmul_f8_f32;
}
