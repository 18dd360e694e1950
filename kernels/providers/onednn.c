/*
 * onednn.c - products by oneDNN's matmul primitive (Debian's version 2.6.3).
 *
 * A primitive is made for one m, so a product has a few: tiles of 1, 2, 4 .. 64 tokens by one panel or four. The last tokens of a call
 * are filled up with zeros to the next tile. Tokens are copied together, because the fast implementation takes rows without a gap only.
 *
 * The implementations "brg:avx512_core" and "brg:avx512_core_bf16" add up partial sums of several hundred k, cut alike for every tile
 * (tests/kernels/check_providers.c), each one chain of fma: up to k = 512, on Zen 5, they give the bits of plain C, beyond that
 * their own. The fallback "gemm:jit" sums by shape.
 */
#include <dnnl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "kernels/providers/providers.h"
#include "kernels/providers/unpack.h"

/* Of libgomp, the runtime that oneDNN is built with; its header comes with gcc alone. */
void omp_set_num_threads(int n);
int omp_get_max_threads(void);

/*
 * libgomp reads its environment before main() and binds the calling thread to one core where these variables say so: then one core is all
 * that the program would find. They are meant for programs whose threads are OpenMP's; ours are pinned already. So they are taken out
 * before any library starts: without its functions, which a sanitizer may have replaced and not yet made ready.
 */
static __attribute__((no_sanitize("address", "undefined", "thread"))) bool is_binding(const char *entry)
{
    static const char *const names[] = { "OMP_PROC_BIND=", "OMP_PLACES=", "GOMP_CPU_AFFINITY=" };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        size_t n = 0;
        while (names[i][n] && entry[n] == names[i][n])
            n++;
        if (!names[i][n])
            return true;
    }
    return false;
}

static __attribute__((no_sanitize("address", "undefined", "thread"))) void unset_binding(int argc, char **argv, char **env)
{
    char **to = env;

    (void)argc;
    (void)argv;
    for (; *env; env++)
        if (!is_binding(*env))
            *to++ = *env;
    *to = NULL;
}

typedef void (*start_fn)(int argc, char **argv, char **env);
static const start_fn before_libraries __attribute__((used, section(".preinit_array"))) = unset_binding;

enum {
    N_TILES = 7,
    MOST_TOKENS = 1 << (N_TILES - 1),
    MOST_PANELS = 4,                    /* Zen 5, bf16, k 2048: 64 columns at once 537 GFLOP/s, 16 at once 260 */
    X_BYTES = 1 << 20,                  /* of tokens copied together: what L2 holds; at least MOST_TOKENS */
};

/* Made for x[tokens][k] and w[k][16 panels], which gives y[tokens][16 panels]. */
struct primitive {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t run;
    const dnnl_memory_desc_t *x, *w, *y, *scratchpad;       /* of desc */
    const char *implementation;
};

struct onednn_product {
    struct onednn_product *next;
    const struct onednn *library;
    enum dtype type;
    bool bf16_x;
    size_t k, element, x_tokens, scratchpad_bytes;
    struct primitive primitives[2][N_TILES];                /* one panel, MOST_PANELS */
};

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct onednn_product *products;
};

static const char with_floats[] = "brg:avx512_core", with_bf16[] = "brg:avx512_core_bf16";

static int error_of(dnnl_status_t status)
{
    return status == dnnl_success ? 0 : status == dnnl_out_of_memory ? -ENOMEM : -ENOTSUP;
}

static int check(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success)
        log_error("oneDNN: %s failed (status %d)", what, (int)status);
    return error_of(status);
}

/*
 * VDPBF16PS comes with level avx512bf16. Tiles are not used, at level amx neither: the library's implementations with them have other
 * names and sums, which nothing here was tested with.
 */
static dnnl_cpu_isa_t most_isa(enum isa level)
{
    static const dnnl_cpu_isa_t most[ISA_COUNT] = {
        [ISA_SCALAR] = dnnl_cpu_isa_sse41, [ISA_AVX2] = dnnl_cpu_isa_avx2, [ISA_AVX512] = dnnl_cpu_isa_avx512_core_vnni,
        [ISA_AVX512BF16] = dnnl_cpu_isa_avx512_core_bf16, [ISA_AMX] = dnnl_cpu_isa_avx512_core_bf16,
    };
    return most[level];
}

int onednn_open(struct onednn **library, enum isa level)
{
    struct onednn *l = calloc(1, sizeof(*l));

    *library = NULL;
    if (!l)
        return -ENOMEM;
    dnnl_set_max_cpu_isa(most_isa(level));      /* refused once code was made: then the first level stays */
    int err = check(dnnl_engine_create(&l->engine, dnnl_cpu, 0), "the engine");
    if (!err)
        err = check(dnnl_stream_create(&l->stream, l->engine, dnnl_stream_default_flags), "the stream");
    if (err) {
        onednn_close(l);
        return err;
    }
    *library = l;
    return 0;
}

static void free_product(struct onednn_product *p)
{
    for (size_t i = 0; i < 2 * N_TILES; i++) {
        dnnl_primitive_destroy(p->primitives[i / N_TILES][i % N_TILES].run);
        dnnl_primitive_desc_destroy(p->primitives[i / N_TILES][i % N_TILES].desc);
    }
    free(p);
}

void onednn_close(struct onednn *l)
{
    if (!l)
        return;
    for (struct onednn_product *p = l->products, *next; p; p = next) {
        next = p->next;
        free_product(p);
    }
    dnnl_stream_destroy(l->stream);
    dnnl_engine_destroy(l->engine);
    free(l);
}

static dnnl_status_t make_primitive(const struct onednn *l, struct primitive *out, bool bf16_x, size_t tokens, size_t panels, size_t k)
{
    const dnnl_dim_t m = (dnnl_dim_t)tokens, n = (dnnl_dim_t)(panels * PANEL_ROWS), depth = (dnnl_dim_t)k;
    const dnnl_dims_t x_dims = { m, depth }, w_dims = { depth, n }, y_dims = { m, n };
    const dnnl_data_type_t type = bf16_x ? dnnl_bf16 : dnnl_f32;
    const dnnl_format_tag_t w_tag = !bf16_x ? dnnl_ab : panels == 1 ? dnnl_BA16a16b2a : dnnl_BA16a64b2a;
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t matmul;
    dnnl_primitive_attr_t attributes;

    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&x, 2, x_dims, type, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&w, 2, w_dims, type, w_tag);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&y, 2, y_dims, dnnl_f32, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&matmul, &x, &w, NULL, &y);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_create(&attributes);
    if (status != dnnl_success)
        return status;
    status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);   /* the library's own is a thread's */
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&out->desc, &matmul, attributes, l->engine, NULL);
    dnnl_primitive_attr_destroy(attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&out->run, out->desc);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_query(out->desc, dnnl_query_impl_info_str, 0, &out->implementation);
    if (status != dnnl_success)
        return status;
    out->x = dnnl_primitive_desc_query_md(out->desc, dnnl_query_src_md, 0);
    out->w = dnnl_primitive_desc_query_md(out->desc, dnnl_query_weights_md, 0);
    out->y = dnnl_primitive_desc_query_md(out->desc, dnnl_query_dst_md, 0);
    out->scratchpad = dnnl_primitive_desc_query_md(out->desc, dnnl_query_scratchpad_md, 0);
    return status;
}

/* Is there VDPBF16PS to be used? Without it the library has other ways with bf16, slower ones. */
static dnnl_status_t look_for_bf16(const struct onednn *l, size_t k, bool *has)
{
    struct primitive p = { 0 };
    const dnnl_status_t status = make_primitive(l, &p, true, MOST_TOKENS, MOST_PANELS, k);

    *has = status == dnnl_success && !strcmp(p.implementation, with_bf16);
    dnnl_primitive_destroy(p.run);
    dnnl_primitive_desc_destroy(p.desc);
    return status == dnnl_out_of_memory ? status : dnnl_success;
}

struct buffers { unsigned char *x, *w, *scratchpad; float *y; size_t bytes; };

static void *place(unsigned char *scratch, size_t *at, size_t bytes)
{
    unsigned char *here = scratch ? scratch + *at : NULL;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* The parts of a worker's scratch; without one, their size. */
static struct buffers buffers(const struct onednn_product *p, void *scratch)
{
    struct buffers b = { 0 };

    b.x = place(scratch, &b.bytes, p->x_tokens * p->k * p->element);
    b.w = place(scratch, &b.bytes, MOST_PANELS * PANEL_ROWS * p->k * p->element);
    b.y = place(scratch, &b.bytes, MOST_TOKENS * MOST_PANELS * PANEL_ROWS * sizeof(float));
    b.scratchpad = place(scratch, &b.bytes, p->scratchpad_bytes);
    return b;
}

/* w of the next panels as the primitive takes it: for one panel of a plain type that is the panel itself. */
static const void *columns(const struct onednn_product *p, unsigned char *out, const unsigned char *panels, size_t n_panels)
{
    const size_t bytes = panel_bytes(p->type, p->k);

    if (!p->bf16_x && p->type != DTYPE_F32) {
        unpack_float((float *)out, p->type, panels, n_panels, p->k);
        return out;
    }
    if (n_panels == 1)
        return panels;
    for (size_t at = 0; at < bytes; at += 64)           /* a line is 16 rows of one k, in bf16 of a pair */
        for (size_t i = 0; i < n_panels; i++, out += 64)
            memcpy(out, panels + i * bytes + at, 64);
    return out - n_panels * bytes;
}

static void run(const struct onednn_product *p, const struct primitive *primitive, void *x, const void *w, float *y, void *scratchpad)
{
    const struct onednn *l = p->library;
    dnnl_exec_arg_t args[4] = { { DNNL_ARG_SRC, NULL }, { DNNL_ARG_WEIGHTS, NULL }, { DNNL_ARG_DST, NULL }, { DNNL_ARG_SCRATCHPAD, NULL } };
    const dnnl_memory_desc_t *const descs[4] = { primitive->x, primitive->w, primitive->y, primitive->scratchpad };
    void *const data[4] = { x, (void *)w, y, scratchpad };
    dnnl_status_t status = dnnl_success;

    /* A few small objects a call, beside those that the library allocates for itself whenever it runs a primitive. */
    for (size_t i = 0; i < 4 && status == dnnl_success; i++)
        status = dnnl_memory_create(&args[i].memory, descs[i], l->engine, data[i]);
    if (status == dnnl_success)
        status = dnnl_primitive_execute(primitive->run, l->stream, 4, args);
    if (status != dnnl_success) {       /* no memory for a few hundred bytes: better no answer than a wrong one */
        log_error("oneDNN: a product failed (status %d): %s weights, %lld tokens, %lld rows, k %zu", (int)status,
                  dtype_info(p->type)->name, (long long)primitive->x->dims[0], (long long)primitive->y->dims[1], p->k);
        abort();
    }
    for (size_t i = 0; i < 4; i++)
        dnnl_memory_destroy(args[i].memory);
}

/* The primitive for so many tokens: the least power of two that holds them. */
static size_t tile_of(size_t tokens)
{
    size_t tile = 0;

    while ((size_t)1 << tile < tokens)
        tile++;
    return tile;
}

static void multiply_tile(const struct onednn_product *p, const struct matmul_args *a, const struct buffers *b, const void *w, size_t panel,
                          size_t panels, size_t first, size_t at, size_t tokens)
{
    const struct primitive *primitive = &p->primitives[panels == MOST_PANELS][tile_of(tokens)];
    const size_t row = panels * PANEL_ROWS;

    run(p, primitive, b->x + at * p->k * p->element, w, b->y, b->scratchpad);
    for (size_t t = 0; t < tokens; t++)
        memcpy(a->y + (first + at + t) * a->y_stride + panel * PANEL_ROWS, b->y + t * row, row * sizeof(float));
}

static void multiply(const struct matmul_args *a)
{
    const struct onednn_product *p = a->prepared;
    const struct buffers b = buffers(p, a->scratch);
    const size_t row_bytes = p->k * p->element, w_bytes = panel_bytes(p->type, p->k);

    if (omp_get_max_threads() != 1)     /* a setting of the calling thread */
        omp_set_num_threads(1);
    for (size_t first = 0; first < a->m; first += p->x_tokens) {
        const size_t tokens = a->m - first < p->x_tokens ? a->m - first : p->x_tokens, rest = tokens % MOST_TOKENS;
        for (size_t t = 0; t < tokens; t++)
            memcpy(b.x + t * row_bytes, (const unsigned char *)a->x + (first + t) * a->x_stride, row_bytes);
        if (rest)
            memset(b.x + tokens * row_bytes, 0, (((size_t)1 << tile_of(rest)) - rest) * row_bytes);
        for (size_t i = 0, panels; i < a->n_panels; i += panels) {
            panels = a->n_panels - i >= MOST_PANELS ? MOST_PANELS : 1;
            const void *w = columns(p, b.w, (const unsigned char *)a->w + i * w_bytes, panels);
            for (size_t at = 0; at < tokens; at += MOST_TOKENS)
                multiply_tile(p, a, &b, w, i, panels, first, at, tokens - at < MOST_TOKENS ? tokens - at : MOST_TOKENS);
        }
    }
}

static dnnl_status_t make_product(struct onednn *l, struct onednn_product *p)
{
    for (size_t i = 0; i < 2 * N_TILES; i++) {
        struct primitive *primitive = &p->primitives[i / N_TILES][i % N_TILES];
        dnnl_status_t status = make_primitive(l, primitive, p->bf16_x, (size_t)1 << i % N_TILES, i / N_TILES ? MOST_PANELS : 1, p->k);
        if (status != dnnl_success)
            return status;
        size_t bytes = dnnl_memory_desc_get_size(primitive->scratchpad);
        p->scratchpad_bytes = bytes > p->scratchpad_bytes ? bytes : p->scratchpad_bytes;
    }
    return dnnl_success;
}

/* The product that serves these weights: one that is there already, or a new one. */
static dnnl_status_t find_product(struct onednn *l, struct onednn_product **out, enum dtype type, enum activation activation, size_t k)
{
    struct onednn_product *p = l->products;
    bool bf16_x = false;
    dnnl_status_t status = activation == ACT_BF16 ? look_for_bf16(l, k, &bf16_x) : dnnl_success;

    if (status != dnnl_success)
        return status;
    while (p && (p->type != type || p->k != k || p->bf16_x != bf16_x))
        p = p->next;
    *out = p;
    if (p)
        return dnnl_success;
    p = calloc(1, sizeof(*p));
    if (!p)
        return dnnl_out_of_memory;
    *p = (struct onednn_product){ .next = l->products, .library = l, .type = type, .bf16_x = bf16_x, .k = k,
                                  .element = bf16_x ? sizeof(bf16) : sizeof(float) };
    p->x_tokens = X_BYTES / (k * p->element) / MOST_TOKENS * MOST_TOKENS;
    p->x_tokens = p->x_tokens ? p->x_tokens : MOST_TOKENS;
    status = make_product(l, p);
    if (status != dnnl_success) {
        free_product(p);
        return status;
    }
    *out = l->products = p;
    return dnnl_success;
}

/* Only what tests/kernels/check_providers.c covers may claim it. */
static bool keeps_bits(const struct onednn_product *p)
{
    const char *const wanted = p->bf16_x ? with_bf16 : with_floats;

    for (size_t i = 0; i < 2 * N_TILES; i++)
        if (strcmp(p->primitives[i / N_TILES][i % N_TILES].implementation, wanted))
            return false;
    return true;
}

int onednn_prepare(struct onednn *l, struct product *out, const char *name, enum dtype type, enum activation activation, size_t k)
{
    struct onednn_product *p;
    const dnnl_status_t status = find_product(l, &p, type, activation, k);

    if (status != dnnl_success) {
        log_error("oneDNN: tensor \"%s\": products with %s weights of k %zu cannot be made (status %d)", name, dtype_info(type)->name, k,
                  (int)status);
        return error_of(status);
    }
    *out = (struct product){ .multiply = multiply, .prepared = p, .activation = p->bf16_x ? ACT_BF16 : ACT_F32,
                             .scratch_bytes = buffers(p, NULL).bytes, .implementation = p->primitives[1][N_TILES - 1].implementation,
                             .same_bits = keeps_bits(p) };
    return 0;
}
