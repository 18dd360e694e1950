#include "kernels/avx2/vec.h"

#include "kernels/norm_template.h"

void norm_avx2(struct kernels *table)
{
    table->rms_norm = rms_norm;
    table->add = add;
    table->scale = scale;
}
