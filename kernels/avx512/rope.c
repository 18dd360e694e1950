#include "kernels/avx512/vec.h"

#include "kernels/rope_template.h"

void rope_avx512(struct kernels *table)
{
    table->rope = rope;
}
