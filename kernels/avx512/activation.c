#include "kernels/avx512/vec.h"

#include "kernels/activation_template.h"

void activation_avx512(struct kernels *table)
{
    table->silu_mul = silu_mul;
    table->gelu_mul = gelu_mul;
}
