#include "kernels/kernels.h"

#include <string.h>

#include "kernels/kernels_internal.h"

void kernels_fill_plain(struct kernels *table, enum isa level)
{
    kernels_fill(table, ISA_SCALAR);
    if (level >= ISA_AVX512BF16)
        attention_scalar_bf16_dots(table);
    if (level >= ISA_AMX) {
        attention_scalar_tiles(table);
        matmul_scalar_tiles(table);
    }
}

void kernels_fill(struct kernels *table, enum isa level)
{
    *table = (struct kernels){ .isa = level };
    matmul_scalar(table);
    matmul_f8_scalar(table);
    quantize_scalar(table);
    norm_scalar(table);
    activation_scalar(table);
    rope_scalar(table);
    attention_scalar(table);
    logits_scalar(table);
    measure_scalar(table);
    streams_scalar(table);
    if (level >= ISA_AVX2) {
        matmul_avx2(table);
        matmul_float_avx2(table);
        quantize_avx2(table);
        norm_avx2(table);
        activation_avx2(table);
        rope_avx2(table);
        attention_avx2(table);
        logits_avx2(table);
        measure_avx2(table);
        streams_avx2(table);
    }
    if (level >= ISA_AVX512) {
        matmul_avx512(table);
        matmul_float_avx512(table);
        quantize_avx512(table);
        norm_avx512(table);
        activation_avx512(table);
        rope_avx512(table);
        attention_avx512(table);
        logits_avx512(table);
        measure_avx512(table);
        streams_avx512(table);
    }
    if (level >= ISA_AVX512BF16) {
        matmul_float_avx512bf16(table);
        matmul_f8_avx512bf16(table);
        attention_avx512bf16(table);
        measure_avx512bf16(table);
    }
    if (level >= ISA_AMX) {
        matmul_amx(table);
        attention_amx(table);
        measure_amx(table);
    }
    table->streams.read = table->read_stream;
    memcpy(table->matmul_prompt, table->matmul, sizeof(table->matmul));
    for (enum dtype type = 0; type < DTYPE_COUNT; type++)
        table->prompt_activation[type] = kernels_activation(type);
    if (level >= ISA_AMX)
        matmul_bf16_amx(table);
}

enum activation kernels_activation(enum dtype type)
{
    switch (type) {
    case DTYPE_F32:
    case DTYPE_F16:
        return ACT_F32;
    case DTYPE_BF16:
    case DTYPE_F8_E4M3:
        return ACT_BF16;
    default:
        return ACT_Q8;
    }
}

size_t activation_bytes(enum activation a, size_t k)
{
    switch (a) {
    case ACT_Q8:
        return k / 32 * sizeof(struct q8_block);
    case ACT_BF16:
        return k * sizeof(bf16);
    default:
        return k * sizeof(float);
    }
}

size_t activation_stride(enum activation a, size_t k)
{
    return ((activation_bytes(a, k) + 63) / 64 | 1) * 64;
}

size_t matmul_scratch_bytes(size_t k)
{
    (void)k;        /* long rows are multiplied in chunks of k */
    return MATMUL_SCRATCH_BYTES;
}
