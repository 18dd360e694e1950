#include "kernels/avx2/vec.h"

#include "kernels/logits_template.h"

void logits_avx2(struct kernels *table)
{
    table->softcap = softcap;
    table->segment_stats = segment_stats;
}
