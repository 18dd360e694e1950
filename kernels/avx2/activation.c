#include "kernels/avx2/vec.h"

#include "kernels/activation_template.h"

void activation_avx2(struct kernels *table)
{
    table->silu_mul = silu_mul;
    table->gelu_mul = gelu_mul;
}
