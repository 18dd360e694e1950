/*
 * matmul_float_template.h - y = W x where weights and activations are multiplied as float32: plain types, and every type
 * for checking. Include after defining
 *
 *     vec                 a vector of VEC_LANES floats; a panel's 16 rows are 16 / VEC_LANES of them
 *     vec_zero vec_load vec_store vec_set1 vec_fma
 *     load_f32 load_f16 load_bf16 load_bf16_swapped      (const void *w, size_t i, size_t part): k = i of a panel
 *     FEW_TOKENS FEW_PANELS       tile of a product that reads panels as they are
 *     MANY_TOKENS MANY_PANELS     tile of a product that reads panels decoded to float32
 *
 * A float sum cannot be split without changing its bits: each output is one chain of fma over k, so a tile needs as
 * many outputs as the latency of fma times its rate. With few tokens they come from several panels. Panels of more
 * tokens are decoded to scratch, CHUNK of k at a time, and sums wait in y between chunks.
 *
 * BF16 with bf16 activations is VDPBF16PS (panels.h): odd elements first, so both sides are read with each pair swapped
 * and the chain stays the same; denormals are zeros by MXCSR.
 */
#include <stdbool.h>
#include <string.h>

enum {
    PARTS = PANEL_ROWS / VEC_LANES,
    CHUNK = 128,                        /* 8 KiB a panel */
};

typedef vec (*load_fn)(const void *w, size_t i, size_t part);

struct piece {
    const uint8_t *w;
    size_t panel_bytes;         /* from one panel of the tile to the next */
    size_t k;
    const uint8_t *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first;                 /* the sums start at zero, not at y */
};

INLINE void tile(const struct piece *p, load_fn load, const int panels, const int tokens)
{
    vec sum[MANY_TOKENS > FEW_TOKENS ? MANY_TOKENS : FEW_TOKENS][PARTS * (FEW_PANELS > MANY_PANELS ? FEW_PANELS : MANY_PANELS)];

#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 16
        for (int v = 0; v < panels * PARTS; v++)
            sum[t][v] = p->first ? vec_zero() : vec_load(p->y + (size_t)t * p->y_stride + VEC_LANES * (size_t)v);
    }
    for (size_t i = 0; i < p->k; i++) {
        const uint8_t *x = p->x + i * sizeof(float);
        vec w[PARTS * (FEW_PANELS > MANY_PANELS ? FEW_PANELS : MANY_PANELS)];
#pragma GCC unroll 16
        for (int v = 0; v < panels * PARTS; v++)
            w[v] = load(p->w + (size_t)(v / PARTS) * p->panel_bytes, i, (size_t)(v % PARTS));
#pragma GCC unroll 16
        for (int t = 0; t < tokens; t++, x += p->x_stride) {
            const vec xt = vec_set1(*(const float *)x);
#pragma GCC unroll 16
            for (int v = 0; v < panels * PARTS; v++)
                sum[t][v] = vec_fma(w[v], xt, sum[t][v]);
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 16
        for (int v = 0; v < panels * PARTS; v++)
            vec_store(p->y + (size_t)t * p->y_stride + VEC_LANES * (size_t)v, sum[t][v]);
    }
}

#define TILE(n) case n: tile(p, load, panels, n); break
INLINE void few_tokens_tile(const struct piece *p, load_fn load, const int panels, size_t tokens)
{
    switch (tokens) {
    TILE(1); TILE(2); TILE(3);
#if FEW_TOKENS == 4
    TILE(4);
#endif
    }
}

INLINE void many_tokens_tile(const struct piece *p, load_fn load, const int panels, size_t tokens)
{
    switch (tokens) {
    TILE(1); TILE(2); TILE(4); TILE(MANY_TOKENS);
    }
}
#undef TILE

/* The largest tile that there is. */
static size_t tile_tokens(size_t left)
{
    return left >= MANY_TOKENS ? MANY_TOKENS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static __attribute__((noinline)) void decoded_tile(const struct piece *p, size_t panels, size_t tokens)
{
    if (panels == MANY_PANELS)
        many_tokens_tile(p, load_f32, MANY_PANELS, tokens);
    else
        many_tokens_tile(p, load_f32, 1, tokens);
}

/* Activations of a chunk as float32 with pairs swapped: out[tokens][CHUNK]. */
static void widen_swapped(float out[][CHUNK], const uint8_t *x, size_t x_stride, size_t tokens, size_t k)
{
    for (size_t t = 0; t < tokens; t++) {
        const bf16 *from = (const bf16 *)(x + t * x_stride);
        for (size_t i = 0; i < k; i += 2) {
            out[t][i] = bf16_to_float(from[i + 1]);
            out[t][i + 1] = bf16_to_float(from[i]);
        }
    }
}

struct scratch {
    float w[MANY_PANELS][CHUNK][PANEL_ROWS];
    float x[MANY_TOKENS][CHUNK];
};
_Static_assert(sizeof(struct scratch) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

/* How weights of a type are read. */
struct format {
    load_fn load;           /* NULL: by panel_unpack_block() */
    size_t k_bytes;         /* bytes of one k of a panel, when `load` is there */
    enum dtype type;
    bool is_float;          /* panels are what decoding would give */
    bool bf16_x;
};

INLINE struct piece piece_at(const struct matmul_args *a, struct scratch *s, const struct format *f, size_t k0, size_t k,
                             size_t panel, size_t token, size_t tokens)
{
    const size_t x_size = f->bf16_x ? sizeof(bf16) : sizeof(float);
    struct piece p = {
        .k = k, .x = (const uint8_t *)a->x + token * a->x_stride + k0 * x_size, .x_stride = a->x_stride,
        .y = a->y + token * a->y_stride + panel * PANEL_ROWS, .y_stride = a->y_stride, .first = k0 == 0,
    };
    if (f->bf16_x) {
        widen_swapped(s->x, p.x, p.x_stride, tokens, k);
        p.x = (const uint8_t *)s->x;
        p.x_stride = sizeof(s->x[0]);
    }
    return p;
}

INLINE void few_tokens(const struct matmul_args *a, const struct format *f)
{
    const size_t panel_size = a->k * f->k_bytes, chunk = f->bf16_x ? CHUNK : a->k;

    for (size_t i = 0; i < a->n_panels; ) {
        const size_t panels = a->n_panels - i >= FEW_PANELS ? FEW_PANELS : 1;
        for (size_t k0 = 0; k0 < a->k; k0 += chunk) {
            struct piece p = piece_at(a, a->scratch, f, k0, a->k - k0 < chunk ? a->k - k0 : chunk, i, 0, a->m);
            p.w = (const uint8_t *)a->w + i * panel_size + k0 * f->k_bytes;
            p.panel_bytes = panel_size;
            if (panels == FEW_PANELS)
                few_tokens_tile(&p, f->load, FEW_PANELS, a->m);
            else
                few_tokens_tile(&p, f->load, 1, a->m);
        }
        i += panels;
    }
}

INLINE void decode(float out[CHUNK][PANEL_ROWS], const struct format *f, const uint8_t *panel, size_t k0, size_t k)
{
    if (!f->load) {
        for (size_t i = 0; i < k; i += 32)
            panel_unpack_block(f->type, panel, (k0 + i) / 32, out + i);
        return;
    }
    for (size_t i = 0; i < k; i++)
        for (size_t part = 0; part < PARTS; part++)
            vec_store(out[i] + VEC_LANES * part, f->load(panel + k0 * f->k_bytes, i, part));
}

INLINE void many_tokens(const struct matmul_args *a, const struct format *f)
{
    const size_t panel_size = panel_bytes(f->type, a->k);
    struct scratch *s = a->scratch;

    for (size_t k0 = 0; k0 < a->k; k0 += CHUNK) {
        const size_t k = a->k - k0 < CHUNK ? a->k - k0 : CHUNK;
        for (size_t i = 0; i < a->n_panels; ) {
            const size_t panels = a->n_panels - i >= MANY_PANELS ? MANY_PANELS : 1;
            const uint8_t *w = (const uint8_t *)a->w + i * panel_size;
            for (size_t n = 0; !f->is_float && n < panels; n++)
                decode(s->w[n], f, w + n * panel_size, k0, k);
            for (size_t t = 0, tokens; t < a->m; t += tokens) {
                tokens = tile_tokens(a->m - t);
                struct piece p = piece_at(a, s, f, k0, k, i, t, tokens);
                p.w = f->is_float ? w + k0 * f->k_bytes : (const uint8_t *)s->w;
                p.panel_bytes = f->is_float ? panel_size : sizeof(s->w[0]);
                decoded_tile(&p, panels, tokens);
            }
            i += panels;
        }
    }
}

INLINE void multiply(const struct matmul_args *a, const struct format *f)
{
    if (f->load && a->m <= FEW_TOKENS)
        few_tokens(a, f);
    else
        many_tokens(a, f);
}

static void matmul_f32(const struct matmul_args *a)
{
    static const struct format f = { .load = load_f32, .k_bytes = 64, .type = DTYPE_F32, .is_float = true };
    multiply(a, &f);
}

static void matmul_f16(const struct matmul_args *a)
{
    static const struct format f = { .load = load_f16, .k_bytes = 32, .type = DTYPE_F16 };
    multiply(a, &f);
}

static void matmul_bf16_f32(const struct matmul_args *a)
{
    static const struct format f = { .load = load_bf16, .k_bytes = 32, .type = DTYPE_BF16 };
    multiply(a, &f);
}

/* Not inlined: its arithmetic must stay between the two changes of MXCSR. */
static __attribute__((noinline)) void multiply_bf16(const struct matmul_args *a)
{
    static const struct format f = { .load = load_bf16_swapped, .k_bytes = 32, .type = DTYPE_BF16, .bf16_x = true };
    multiply(a, &f);
}

static void matmul_bf16(const struct matmul_args *a)
{
    const unsigned csr = _mm_getcsr();
    _mm_setcsr(csr | MXCSR_DAZ_FTZ);
    multiply_bf16(a);
    _mm_setcsr(csr);
}

static __attribute__((noinline)) void multiply_unpacked(const struct matmul_args *a, enum dtype type)
{
    const struct format f = { .type = type };
    many_tokens(a, &f);
}

#define MATMUL(type) static void matmul_f32_##type(const struct matmul_args *a) { multiply_unpacked(a, DTYPE_##type); }
QUANTISED_TYPES(MATMUL)
#undef MATMUL

static void fill(struct kernels *table)
{
    table->matmul[DTYPE_F32] = matmul_f32;
    table->matmul[DTYPE_F16] = matmul_f16;
    table->matmul[DTYPE_BF16] = matmul_bf16;
    table->matmul_f32[DTYPE_F32] = matmul_f32;
    table->matmul_f32[DTYPE_F16] = matmul_f16;
    table->matmul_f32[DTYPE_BF16] = matmul_bf16_f32;
#define ENTRY(type) table->matmul_f32[DTYPE_##type] = matmul_f32_##type;
    QUANTISED_TYPES(ENTRY)
#undef ENTRY
}
