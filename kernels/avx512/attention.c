#include "kernels/avx512/vec.h"

#include "kernels/attention_template.h"

void attention_avx512(struct kernels *table)
{
    table->kv_store[KV_BF16] = kv_store_bf16;      /* float32 needs no rounding: stores alone */
    table->kv_store[KV_Q8] = kv_store_q8;
    table->attend[KV_BF16] = attend_bf16;
    table->attend[KV_F32] = attend_f32;
    table->attend[KV_Q8] = attend_q8;
    table->attend_merge = attend_merge;
    table->attend_finish = attend_finish;
}
