#include "weights/hf_names.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "weights/gguf_internal.h"
#include "weights/hf_assembly.h"
#include "weights/hf_config.h"

enum { MAX_MATRICES = 65536 };

/* After ggml-org/llama.cpp gguf-py/gguf/tensor_mapping.py. */
static const struct hf_name common_names[] = {
    { "input_layernorm", "attn_norm", HF_AS_IS },
    { "post_attention_layernorm", "ffn_norm", HF_AS_IS },
    { "self_attn.q_proj", "attn_q", HF_ROTATED_Q },
    { "self_attn.k_proj", "attn_k", HF_ROTATED_K },
    { "self_attn.v_proj", "attn_v", HF_AS_IS },
    { "self_attn.qkv_proj", "attn_qkv", HF_AS_IS },
    { "self_attn.o_proj", "attn_output", HF_AS_IS },
    { "self_attn.q_norm", "attn_q_norm", HF_AS_IS },
    { "self_attn.k_norm", "attn_k_norm", HF_AS_IS },
    { "mlp.gate_proj", "ffn_gate", HF_AS_IS },
    { "mlp.up_proj", "ffn_up", HF_AS_IS },
    { "mlp.gate_up_proj", "ffn_up", HF_AS_IS },         /* GGUF has both halves under the name of one */
    { "mlp.down_proj", "ffn_down", HF_AS_IS },
    { "mlp.gate.e_score_correction_bias", "exp_probs_b.bias", HF_WHOLE_NAME },
    { "mlp.shared_experts.gate_proj", "ffn_gate_shexp", HF_AS_IS },
    { "mlp.shared_experts.up_proj", "ffn_up_shexp", HF_AS_IS },
    { "mlp.shared_experts.down_proj", "ffn_down_shexp", HF_AS_IS },
    { NULL, NULL, HF_AS_IS }
};

static const struct hf_name outer_names[] = {
    { "model.embed_tokens", "token_embd", HF_AS_IS },
    { "model.norm", "output_norm", HF_AS_IS },
    { "lm_head", "output", HF_AS_IS },
    { NULL, NULL, HF_AS_IS }
};

/* Parts of multimodal models beside the language model, and tables that old files stored. */
static const char *const ignored[] = { "vision", "visual", "multi_modal_projector", "audio", "rotary_emb.inv_freq", "masked_bias" };

static const struct hf_name *find(const struct hf_name *table, const char *name, size_t n)
{
    for (; table && table->hf; table++)
        if (strlen(table->hf) == n && !memcmp(table->hf, name, n))
            return table;
    return NULL;
}

static bool starts_with(const char *s, const char *prefix)
{
    return !strncmp(s, prefix, strlen(prefix));
}

/* The name without what a multimodal model puts around its language model. */
static void plain_name(const char *name, char out[SAFETENSORS_MAX_NAME + 1])
{
    const char *inner = "model.language_model.", *outer = "language_model.";

    if (starts_with(name, inner))
        snprintf(out, SAFETENSORS_MAX_NAME + 1, "model.%s", name + strlen(inner));
    else
        snprintf(out, SAFETENSORS_MAX_NAME + 1, "%s", name + (starts_with(name, outer) ? strlen(outer) : 0));
}

/* GGUF's name of a tensor to out; NULL for one that has none. */
static const struct hf_name *map_name(const struct hf_config *c, const char *hf_name, char out[GGUF_MAX_NAME + 1])
{
    char name[SAFETENSORS_MAX_NAME + 1], *suffix;
    const struct hf_name *known;
    unsigned long layer = 0;
    int at = 0;

    plain_name(hf_name, name);
    suffix = strrchr(name, '.');
    const bool whole = !suffix || (strcmp(suffix, ".weight") && strcmp(suffix, ".bias"));
    if (whole)
        suffix = name + strlen(name);
    const bool inner = sscanf(name, "model.layers.%5lu.%n", &layer, &at) == 1 && at && suffix > name + at;
    const char *stem = inner ? name + at : name;
    const size_t n = (size_t)(suffix - stem);
    known = inner ? find(c->family->names, stem, n) : find(outer_names, stem, n);
    if (!known && inner)
        known = find(common_names, stem, n);
    if (known && whole != (known->rows == HF_WHOLE_NAME))
        return NULL;
    if (known && inner)
        snprintf(out, GGUF_MAX_NAME + 1, "blk.%lu.%s%s", layer, known->gguf, suffix);
    else if (known)
        snprintf(out, GGUF_MAX_NAME + 1, "%s%s", known->gguf, suffix);
    return known;
}

static bool ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), n_suffix = strlen(suffix);

    return n >= n_suffix && !strcmp(s + n - n_suffix, suffix);
}

static int fail(const struct hf_config *c, const struct safetensors_tensor *t, const char *what)
{
    char quoted[GGUF_QUOTED];

    return hf_fail(&c->file, "tensor %s of its model: %s", gguf_quote(t->name, quoted), what);
}

static bool is_rotated(const struct hf_config *c, const struct hf_name *known)
{
    return c->family->rotated_pairs && (known->rows == HF_ROTATED_Q || known->rows == HF_ROTATED_K);
}

/* Rows per head of a matrix or vector whose rows are those of n_heads heads; 0 after a message. */
static uint64_t head_rows(const struct hf_config *c, const struct safetensors_tensor *t, uint64_t n_rows, uint64_t n_heads)
{
    if (n_rows == n_heads * c->head_dim)
        return c->head_dim;
    fail(c, t, "its rows are not those of the heads that config.json has");
    return 0;
}

/* Where the rows of a tensor lie: in one piece, or in one for each matrix of a view with more than two dimensions. */
static const struct tensor_source *make_source(const struct safetensors_tensor *t, uint32_t type, const struct tensor_source *like,
                                               struct gguf_builder *b)
{
    const uint64_t size = dtype_info(type)->block_bytes, n_columns = t->shape[t->rank - 1];
    const uint64_t row_elements = like->half_rows && t->rank == 1 ? 1 : n_columns;      /* a bias: its elements are the rows */
    const uint64_t n_rows = t->bytes / size / row_elements;
    const bool stacked = t->strided && t->rank > 2;
    const uint64_t piece_rows = stacked ? t->shape[t->rank - 2] : n_rows, n_pieces = n_rows / piece_rows;
    struct tensor_source *source = gguf_build_memory(b, sizeof(*source));
    struct tensor_piece *pieces = gguf_build_memory(b, n_pieces * sizeof(*pieces));

    if (!source || !pieces)
        return NULL;
    for (uint64_t i = 0; i < n_pieces; i++) {
        const uint64_t element = t->strided ? t->stride[t->rank - 1] : size;
        pieces[i] = (struct tensor_piece){ .n_rows = piece_rows, .part = t->part, .offset = t->offset, .element_stride = element,
                                           .row_stride = row_elements == 1 ? element : row_elements * size };
        if (t->strided && t->rank > 1)
            pieces[i].row_stride = t->stride[t->rank - 2];
        uint64_t rest = i;
        for (uint32_t d = t->rank - 2; stacked && d-- > 0; rest /= t->shape[d])
            pieces[i].offset += rest % t->shape[d] * t->stride[d];
    }
    *source = *like;
    source->pieces = pieces;
    source->n_pieces = n_pieces;
    source->row_elements = row_elements;
    source->file_type = type;
    return source;
}

static int put_tensor(const struct hf_config *c, const struct safetensors_tensor *t, const struct hf_name *known, const char *name,
                      struct gguf_builder *b)
{
    const int type = assembly_dtype(t->type);
    char why[96];

    if (type < 0) {
        snprintf(why, sizeof(why), "type %s is not supported (F32, F16 and BF16 are)", safetensors_type_name(t->type));
        return fail(c, t, why);
    }
    if (t->rank < 1 || t->rank > 4)
        return fail(c, t, "it has no 1 to 4 dimensions");
    /* What is no matrix is small, and computed with in 32 bits: so the converter writes it. */
    const bool wide = t->rank == 1 || ends_with(name, "_norm.weight") || ends_with(name, ".bias") ||
                      ends_with(name, "ffn_gate_inp.weight");
    const float plus = c->family->norm_plus_one && ends_with(name, "norm.weight") ? 1 : 0;
    struct gguf_tensor to = { .name = { name, strlen(name) }, .type = wide ? DTYPE_F32 : (uint32_t)type, .n_dims = t->rank,
                              .ne = { 1, 1, 1, 1 }, .offset = t->offset, .part = t->part };
    for (uint32_t d = 0; d < t->rank; d++) {
        to.ne[d] = t->shape[t->rank - 1 - d];
        if (to.ne[d] < 1 || to.ne[d] > INT32_MAX)
            return fail(c, t, "a dimension is 0 or beyond 31 bits");
    }
    /* A view whose strides are 0 can claim any number of matrices. */
    uint64_t n_matrices = 1;
    for (uint32_t d = 0; t->strided && d + 2 < t->rank; d++)
        n_matrices *= t->shape[d];      /* two factors at most, of 31 bits each */
    if (n_matrices > MAX_MATRICES)
        return fail(c, t, "it is a view of too many matrices");
    uint64_t half_rows = 0;
    if (is_rotated(c, known)) {
        half_rows = head_rows(c, t, t->shape[0], known->rows == HF_ROTATED_Q ? c->n_heads : c->n_kv_heads) / 2;
        if (!half_rows)
            return -EINVAL;
    }
    if (to.type != (uint32_t)type || plus != 0 || half_rows || t->strided)
        to.source = make_source(t, (uint32_t)type, &(struct tensor_source){ .half_rows = half_rows, .plus = plus }, b);
    gguf_put_tensor(b, &to);
    return b->err;
}

/* The matrix called hf_name whose codes are t. */
static int put_quantized(const struct hf_config *c, const struct safetensors_list *list, const struct safetensors_tensor *t,
                         const char *hf_name, const struct hf_name *known, const char *name, struct gguf_builder *b)
{
    struct hf_quantized_matrix m;
    int err = hf_quantized_find(c, list, b, hf_name, &m);
    struct tensor_source *source = err < 0 ? NULL : gguf_build_memory(b, sizeof(*source));
    struct tensor_piece *rows = source ? gguf_build_memory(b, sizeof(*rows)) : NULL;

    if (!rows)
        return err < 0 ? err : b->err;
    *rows = m.rows;
    *source = (struct tensor_source){ .pieces = rows, .n_pieces = 1, .row_elements = m.n_columns, .file_type = m.type };
    if (is_rotated(c, known)) {
        source->half_rows = head_rows(c, t, rows->n_rows, known->rows == HF_ROTATED_Q ? c->n_heads : c->n_kv_heads) / 2;
        if (!source->half_rows)
            return -EINVAL;
    }
    gguf_put_tensor(b, &(struct gguf_tensor){ .name = { name, strlen(name) }, .type = m.type, .n_dims = 2,
                                              .ne = { m.n_columns, rows->n_rows, 1, 1 }, .source = source });
    return b->err;
}

/* Of layers for further tokens that the converter leaves out. */
static bool is_extra(const struct hf_config *c, const char *hf_name)
{
    char name[SAFETENSORS_MAX_NAME + 1];
    unsigned long layer = 0;

    plain_name(hf_name, name);
    return sscanf(name, "model.layers.%5lu.", &layer) == 1 && layer >= c->n_layers && layer - c->n_layers < c->n_dropped_layers;
}

static bool is_ignored(const struct hf_config *c, const struct safetensors_tensor *t)
{
    if (is_extra(c, t->name.data))
        return true;
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        if (strstr(t->name.data, ignored[i]))
            return true;
    for (const char *const *piece = c->family->in_pieces; piece && *piece; piece++)
        if (strstr(t->name.data, *piece))
            return true;            /* hf_pieces.c has put it */
    return c->tied && ends_with(t->name.data, "lm_head.weight");        /* transformers takes the embedding then, too */
}

int hf_names_put(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b)
{
    const struct safetensors_tensor *unknown = NULL;
    char name[GGUF_MAX_NAME + 1], hf_name[SAFETENSORS_MAX_NAME + 1], quoted[GGUF_QUOTED];
    size_t n_unknown = 0;
    int err = c->family->put_pieces ? c->family->put_pieces(c, list, b) : 0;

    for (size_t i = 0; i < list->n && !err; i++) {
        const struct safetensors_tensor *t = &list->tensors[i];
        bool codes;
        if (!hf_quantized_name(c, t, hf_name, &codes) || is_ignored(c, t))
            continue;
        const struct hf_name *known = map_name(c, hf_name, name);
        if (known && codes)
            err = put_quantized(c, list, t, hf_name, known, name, b);
        else if (known)
            err = put_tensor(c, t, known, name, b);
        else if (!n_unknown++)
            unknown = t;
    }
    if (!err && !c->tied && !gguf_find_tensor(b->g, "output.weight"))
        err = hf_fail(&c->file, "\"tie_word_embeddings\" is false, but there is no tensor \"lm_head.weight\"");
    if (!err && n_unknown)
        log_warn("%s: %zu tensors of its model are unknown for model_type \"%s\" and are not used; the first is %s", c->file.path,
                 n_unknown, c->family->model_type, gguf_quote(unknown->name, quoted));
    return err;
}
