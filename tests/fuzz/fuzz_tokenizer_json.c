/*
 * fuzz_tokenizer_json.c - libFuzzer target: one file of a Hugging Face folder that has no weights; the first byte says which: 't'
 * tokenizer.json, 's' tokenizer_config.json, 'm' tokenizer.model, 'g' generation_config.json, 'c' config.json. The others are right.
 *
 * What is accepted becomes a vocabulary, and encodes a text. A refusal says exactly one thing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz_files.h"
#include "weights/hf_tokenizer.h"
#include "weights/tokenizer.h"

enum { N_FILES = 5 };
static const struct { char letter; const char *name, *usual; } files[N_FILES] = {
    { 't', "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]},"
      "\"added_tokens\":[{\"id\":3,\"content\":\"<|x|>\",\"special\":true}],"
      "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}" },
    { 's', "tokenizer_config.json", "{\"bos_token\":\"<|x|>\",\"chat_template\":\"{{ bos_token }}\"}" },
    { 'm', "tokenizer.model", NULL },
    { 'g', "generation_config.json", "{\"eos_token_id\":[3]}" },
    { 'c', "config.json", "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":8,\"num_hidden_layers\":1,"
      "\"num_attention_heads\":2,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8,\"vocab_size\":300}" },
};

static void set_up(void)
{
    const char *names[N_FILES];

    for (size_t i = 0; i < N_FILES; i++)
        names[i] = files[i].name;
    fuzz_make_folder(names, N_FILES);
    for (size_t i = 0; i < N_FILES; i++)
        if (files[i].usual)
            fuzz_name_file(i);
}

static void use(const struct gguf *g)
{
    static const char text[] = "a ab <|x|> \xc3\xa4 1234 \xe4\xb8\x80\n";
    struct token_ids ids = { 0 };
    struct tokenizer *t;

    fuzz_n_errors = 0;
    int err = tokenizer_open_gguf(&t, g);
    require(fuzz_n_errors == (err ? 1 : 0), "not one line for a vocabulary that is refused");
    if (!err)
        require(!tokenizer_encode(t, text, strlen(text), NULL, TOKENIZE_SPECIAL | TOKENIZE_ADD_BOS, &ids), "a text cannot be encoded");
    free(ids.ids);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf_builder b;
    struct hf_config c;
    size_t i = 0;

    if (!fuzz_folder[0])
        set_up();
    while (size && i < N_FILES && files[i].letter != (char)data[0])
        i++;
    if (!size || i == N_FILES)
        return 0;
    for (size_t j = 0; j < N_FILES; j++)
        if (files[j].usual)
            fuzz_write_file(j, files[j].usual, strlen(files[j].usual));
    fuzz_write_file(i, data + 1, size - 1);
    if (files[i].letter == 'm') {       /* it counts where tokenizer.json is not */
        fuzz_unname_file(0);
        fuzz_name_file(i);
    }
    fuzz_n_errors = 0;
    int err = hf_config_read(&c, fuzz_folder);
    gguf_build(&b, fuzz_folder);
    if (!err)
        err = hf_config_put(&c, &b);
    if (!err)
        err = hf_tokenizer_put(&c, fuzz_folder, &b);
    require(fuzz_n_errors == (err ? 1 : 0), "not one line for a refusal, none for a vocabulary");
    hf_config_free(&c);
    if (!err)
        use(b.g);
    gguf_close(b.g);
    if (files[i].letter == 'm') {
        fuzz_unname_file(i);
        fuzz_name_file(0);
    }
    return 0;
}
