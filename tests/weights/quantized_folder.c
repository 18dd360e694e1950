#include "tests/weights/quantized_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/weights/model_folder.h"

void quantized_put(struct quantized_folder *f, const char *matrix, const char *name, const char *type, const char *shape, const void *bytes,
                   size_t n)
{
    const size_t at = strlen(f->header);

    snprintf(f->header + at, sizeof(f->header) - at, "%c\"%s.%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
             at ? ',' : '{', matrix, name, type, shape, f->n, f->n + n);
    f->data = realloc(f->data, f->n + n + 1);
    if (!f->data)
        abort();
    if (n)
        memcpy(f->data + f->n, bytes, n);
    f->n += n;
}

const char *quantized_write(struct quantized_folder *f, const char *model_type, const char *quantization)
{
    const char *folder = folder_make();
    char config[4096];

    snprintf(config, sizeof(config), "{\"model_type\":\"%s\",\"hidden_size\":64,\"intermediate_size\":64,\"num_hidden_layers\":1,"
             "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"head_dim\":8,\"rms_norm_eps\":1e-5,\"vocab_size\":4,"
             "\"max_position_embeddings\":8,\"tie_word_embeddings\":true,\"norm_topk_prob\":true,\"num_experts\":3,"
             "\"num_experts_per_tok\":2,\"moe_intermediate_size\":32,\"n_routed_experts\":3,\"qk_nope_head_dim\":100,"
             "\"qk_rope_head_dim\":8,\"v_head_dim\":60,\"kv_lora_rank\":96,\"quantization_config\":%s}", model_type, quantization);
    folder_put_text(folder, "config.json", config);
    folder_put_text(folder, "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]},"
                                              "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}");
    strcat(f->header, "}");
    folder_put_safetensors(folder, "model.safetensors", f->header, f->data, f->n);
    free(f->data);
    *f = (struct quantized_folder){ .n = 0 };
    return folder;
}
