/*
 * matmul_template.h - the weight types of a level, each with its constants. Include after matmul_internal.h and after defining
 *
 *     load_TYPE               the level's blocks.h
 *     multiply(args, format)  y = W x; `format` is a constant
 */
#define MATMUL(type, ...) \
    static void matmul_##type(const struct matmul_args *a) \
    { \
        static const struct format f = { .load = load_##type, .panel_block = sizeof(struct panel_##type), __VA_ARGS__ }; \
        multiply(a, &f); \
    }

MATMUL(q4_0, .blocks = 1, .bits = 4, .shift = 3)
MATMUL(q4_1, .blocks = 1, .bits = 4, .minima = true)
MATMUL(q5_0, .blocks = 1, .bits = 5, .shift = 4)
MATMUL(q5_1, .blocks = 1, .bits = 5, .minima = true)
MATMUL(q8_0, .blocks = 1, .bits = 8, .shift = 7)
MATMUL(iq4_nl, .blocks = 1, .bits = 8, .shift = 7)
MATMUL(mxfp4, .blocks = 1, .bits = 5, .shift = 4)
MATMUL(q2_K, .blocks = 8, .bits = 2, .minima = true, .halves = true)
MATMUL(q3_K, .blocks = 8, .bits = 3, .shift = 2, .halves = true)
MATMUL(q4_K, .blocks = 8, .bits = 4, .minima = true)
MATMUL(q5_K, .blocks = 8, .bits = 5, .minima = true)
MATMUL(q6_K, .blocks = 8, .bits = 6, .shift = 5, .halves = true)
MATMUL(iq4_xs, .blocks = 8, .bits = 8, .shift = 7)
#undef MATMUL

static void fill(matmul_fn functions[DTYPE_COUNT])
{
    functions[DTYPE_Q4_0] = matmul_q4_0;
    functions[DTYPE_Q4_1] = matmul_q4_1;
    functions[DTYPE_Q5_0] = matmul_q5_0;
    functions[DTYPE_Q5_1] = matmul_q5_1;
    functions[DTYPE_Q8_0] = matmul_q8_0;
    functions[DTYPE_IQ4_NL] = matmul_iq4_nl;
    functions[DTYPE_MXFP4] = matmul_mxfp4;
    functions[DTYPE_Q2_K] = matmul_q2_K;
    functions[DTYPE_Q3_K] = matmul_q3_K;
    functions[DTYPE_Q4_K] = matmul_q4_K;
    functions[DTYPE_Q5_K] = matmul_q5_K;
    functions[DTYPE_Q6_K] = matmul_q6_K;
    functions[DTYPE_IQ4_XS] = matmul_iq4_xs;
}
