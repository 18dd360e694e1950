#include "kernels/avx512/vec.h"

#include "kernels/norm_template.h"

void norm_avx512(struct kernels *table)
{
    table->rms_norm = rms_norm;
    table->add = add;
    table->scale = scale;
}
