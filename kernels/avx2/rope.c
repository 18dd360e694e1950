#include "kernels/avx2/vec.h"

#include "kernels/rope_template.h"

void rope_avx2(struct kernels *table)
{
    table->rope = rope;
}
