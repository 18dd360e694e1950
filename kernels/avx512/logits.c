#include "kernels/avx512/vec.h"

#include "kernels/logits_template.h"

void logits_avx512(struct kernels *table)
{
    table->softcap = softcap;
    table->segment_stats = segment_stats;
}
