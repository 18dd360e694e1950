/*
 * attention.c - queries of one step against the pages of their sequences, on the nodes that keep these.
 *
 * An item is one block of consecutive tokens, one KV head and up to ATTEND_MAX_Q of its query vectors: K and V of a chunk are read once
 * for all of them. Partials of chunks are merged first to last by one formula, whoever computed them: with many items (prefill,
 * many sequences) a worker goes through all chunks of its items; with few (decode of a long context) the chunks of an item
 * are dealt over the node's workers and handed over one by one; where pages are dealt over the nodes, so are the partials, to
 * the node that merges a query head. The bits are the same each way.
 */
#include <math.h>
#include <string.h>

#include "model/model_internal.h"

/* An item, decoded from its number. */
struct item {
    const struct attention_block *block;
    enum kv_kind kind;                  /* of the layer's pages, */
    const int32_t *pages;               /* which are those of the block's sequence */
    size_t kv_head;                     /* of this node */
    size_t first_query, n_query_heads;  /* of the group: heads that share the KV head */
    size_t n_q;                         /* query vectors: tokens x n_query_heads, token by token */
    size_t first_chunk, end_chunk;
};

static size_t heads_per_item(const struct model *m)
{
    return m->group < ATTEND_MAX_Q ? m->group : ATTEND_MAX_Q;
}

static size_t parts_per_group(const struct model *m)
{
    return (m->group + heads_per_item(m) - 1) / heads_per_item(m);
}

/* Fewer items than this are split by chunks: with four a worker the imbalance of whole items is small. */
static size_t split_limit(const struct model *m, size_t node)
{
    size_t n = pool_node_workers(m->pool, node);
    return n > 1 ? 4 * n : 0;
}

/*
 * Where pages are dealt a slot is kept for each chunk of an item, on whichever node it lies: for the longest context, and for so many that
 * eight chunks for each worker of all nodes are under way between two barriers.
 */
size_t attention_slots(const struct model *m, size_t node)
{
    const size_t n = ATTENTION_SLOTS + 8 * pool_n_workers(m->pool), chunks = kv_pages_for(m->n_ctx);

    if (m->pages_dealt)
        return n > chunks ? n : chunks;
    return ATTENTION_SLOTS + 4 * split_limit(m, node);
}

size_t attention_slot_floats(const struct model *m)
{
    return ATTEND_MAX_Q * (m->head_padded + 2);
}

/* Chunks of the longest item. A block sees at most window + ATTEND_MAX_Q - 1 positions of a layer that slides, which touch one chunk
 * more than they fill. */
static size_t most_item_chunks(const struct model *m, size_t window)
{
    const size_t most = (window + ATTEND_MAX_Q) / KV_CHUNK + 2;
    return window && most < m->most_chunks ? most : m->most_chunks;
}

static struct item decode_item(const struct model *m, size_t i, size_t n_kv_heads, size_t window)
{
    size_t parts = parts_per_group(m), per_item = heads_per_item(m), part = i % parts;
    struct item item = { .kv_head = i / parts % n_kv_heads, .block = &m->blocks[i / parts / n_kv_heads] };
    size_t last = item.block->position + item.block->n_tokens - 1;

    item.kind = window ? KV_WINDOW : KV_ALL_SEEN;
    item.pages = kv_page_table(item.block->sequence, item.kind);
    item.first_query = part * per_item;
    item.n_query_heads = m->group - item.first_query < per_item ? m->group - item.first_query : per_item;
    item.n_q = item.n_query_heads * item.block->n_tokens;
    if (window && item.block->position >= window)
        item.first_chunk = (item.block->position - window + 1) / KV_CHUNK;
    item.end_chunk = last / KV_CHUNK + 1;
    return item;
}

/* Partial of one chunk: out[n_q][head_padded], max[n_q], sum[n_q]. */
static void attend_chunk(const struct model *m, const struct node_memory *node, const struct item *item, size_t layer, size_t window,
                         size_t chunk, float *out, float *max, float *sum)
{
    const float *q[ATTEND_MAX_Q];
    uint8_t lo[ATTEND_MAX_Q], hi[ATTEND_MAX_Q];
    const unsigned char *k = kv_chunk(m, node, item->pages[chunk], layer, item->kv_head);
    const size_t begin = chunk * KV_CHUNK;

    for (size_t i = 0; i < item->n_q; i++) {
        size_t token = i / item->n_query_heads, head = item->kv_head * m->group + item->first_query + i % item->n_query_heads;
        size_t position = item->block->position + token;
        size_t first = window && position >= window ? position - window + 1 : 0;
        q[i] = node->q + (item->block->token + token) * node->qkv_floats + head * m->head_padded;
        lo[i] = (uint8_t)(first <= begin ? 0 : first - begin > KV_CHUNK ? KV_CHUNK : first - begin);
        hi[i] = (uint8_t)(position < begin ? 0 : position - begin >= KV_CHUNK ? KV_CHUNK : position - begin + 1);
    }
    const bool has_next = chunk + 1 < item->end_chunk && kv_keeps(node, item->kind, item->pages[chunk + 1]);
    const unsigned char *next = has_next ? kv_chunk(m, node, item->pages[chunk + 1], layer, item->kv_head) : NULL;
    const struct attend_args args = {
        .k = k, .v = k + m->chunk_bytes, .next_k = next, .next_v = next ? next + m->chunk_bytes : NULL,
        .q = q, .lo = lo, .hi = hi, .out = out, .max = max, .sum = sum,
        .n_q = item->n_q, .head_dim = m->head_padded, .scale = m->config.attention_scale, .softcap = m->config.attention_softcap,
    };
    m->kernels.attend[m->kv_type](&args);
}

static void merge(const struct model *m, const struct item *item, float *merged, float *max, float *sum, const float *out,
                  const float *out_max, const float *out_sum)
{
    m->kernels.attend_merge(max, sum, merged, out_max, out_sum, out, item->n_q, m->head_padded);
}

/* Before the first chunk: nothing, or a score without a value (Xiao et al., "attention sinks", ICLR 2024, arXiv:2309.17453). */
static void begin_query(const struct model *m, const struct worker *w, size_t layer, size_t head, float *max, float *sum)
{
    const struct norm *sinks = &m->layers[layer].sinks;

    *max = sinks->tensor ? sinks->copy[w->node][head] : -INFINITY;
    *sum = sinks->tensor ? 1 : 0;
}

static void clear(const struct model *m, const struct worker *w, size_t layer, const struct item *item, float *merged, float *max,
                  float *sum)
{
    const size_t first = (m->nodes[w->node].first_kv_head + item->kv_head) * m->group + item->first_query;

    memset(merged, 0, item->n_q * m->head_padded * sizeof(float));
    for (size_t i = 0; i < item->n_q; i++)
        begin_query(m, w, layer, first + i % item->n_query_heads, &max[i], &sum[i]);
}

/* What latent attention gave for a head, of which the latent dims count, becomes v_b's input: the record of its token among the head's. */
static void hand_on_latent(const struct model *m, const struct node_memory *node, size_t token, size_t head, float *out)
{
    const struct site_layout *s = &m->sites[SITE_LATENT_VALUE];
    unsigned char *record = node->act_heads + ((head - node->first_q_head) * m->n_tokens + token) * s->token_bytes;

    memset(out + m->config.kv_rank, 0, (s->k_padded - m->config.kv_rank) * sizeof(float));
    prepare_activations(m, SITE_LATENT_VALUE, m->tokens[token].role, record, out, 0, s->k_padded);
}

/* Divide by the sums and hand the outputs on: as activations of o where the heads end at blocks, as floats else. */
static void finish(const struct model *m, const struct worker *w, const struct item *item, const float *merged, const float *sum)
{
    const struct node_memory *node = &m->nodes[w->node];
    const struct worker_memory *own = &m->workers[w->index];
    const size_t dim = m->config.head_dim, site_bytes = m->sites[SITE_ATTN_OUT].token_bytes;
    const size_t head = (node->first_kv_head + item->kv_head) * m->group + item->first_query;

    for (size_t token = 0; token < item->block->n_tokens; token++) {
        float *channels = own->tmp;
        for (size_t h = 0; h < item->n_query_heads; h++) {
            size_t i = token * item->n_query_heads + h;
            m->kernels.attend_finish(own->tmp2, merged + i * m->head_padded, sum[i], m->head_padded);
            if (m->config.kv_rank) {
                hand_on_latent(m, node, item->block->token + token, head + h, own->tmp2);
                continue;
            }
            memcpy(channels + h * dim, own->tmp2, dim * sizeof(float));
        }
        size_t t = item->block->token + token, n = item->n_query_heads * dim;
        if (m->config.kv_rank)
            continue;
        if (m->heads_straddle)
            memcpy(node->attn + t * m->sites[SITE_ATTN_OUT].k_padded + head * dim, channels, n * sizeof(float));
        else
            prepare_activations(m, SITE_ATTN_OUT, m->tokens[t].role, node->act_attn + t * site_bytes, channels, head * dim, head * dim + n);
    }
}

static void run_whole_items(struct model *m, const struct worker *w, size_t layer, size_t window, size_t n_items)
{
    const struct node_memory *node = &m->nodes[w->node];
    const struct worker_memory *own = &m->workers[w->index];

    /* Who is ready takes the next: items differ in length, and memory serves one core sooner than another. The longest, those of the last
     * blocks of a prompt, go first. */
    for (size_t i; (i = atomic_fetch_add_explicit(&node->items_taken[layer], 1, memory_order_relaxed)) < n_items; ) {
        struct item item = decode_item(m, n_items - 1 - i, node->n_kv_heads, window);
        float max[ATTEND_MAX_Q], sum[ATTEND_MAX_Q], out_max[ATTEND_MAX_Q], out_sum[ATTEND_MAX_Q];
        clear(m, w, layer, &item, own->merged, max, sum);
        for (size_t chunk = item.first_chunk; chunk < item.end_chunk; chunk++) {
            attend_chunk(m, node, &item, layer, window, chunk, own->out, out_max, out_sum);
            merge(m, &item, own->merged, max, sum, own->out, out_max, out_sum);
        }
        finish(m, w, &item, own->merged, sum);
    }
}

/* A slot: out[n_q][head_padded], max[n_q], sum[n_q]. The first slots keep the merged state of each item. */
struct slot { float *out, *max, *sum; };

static struct slot slot_at(const struct model *m, const struct node_memory *node, size_t i)
{
    float *base = node->slots + i * attention_slot_floats(m);
    return (struct slot){ base, base + ATTEND_MAX_Q * m->head_padded, base + ATTEND_MAX_Q * (m->head_padded + 1) };
}

/* Chunks of item `i`, of n in this round, that go to the worker which has the first of them: it merges them as it computes them. */
static size_t chunks_of_first_worker(const struct worker *w, size_t n_items, size_t n, size_t i)
{
    struct worker other = *w;
    size_t begin, end = 0;

    for (other.index_in_node = 0; end <= i * n; other.index_in_node++)
        pool_share_node(&other, n_items * n, &begin, &end);
    return end - i * n < n ? end - i * n : n;
}

/*
 * This worker's queries of item `i`, through the partials that other workers left, in order. The workers share the queries of every item,
 * beginning with another one each time.
 */
static void merge_partials(const struct model *m, const struct worker *w, const struct node_memory *node, size_t i, struct item item,
                           size_t first_slot, size_t first_chunk, size_t n)
{
    const size_t turn = (w->index_in_node + i) % w->node_workers;
    const size_t begin = item.n_q * turn / w->node_workers, out = begin * m->head_padded;
    const struct slot state = slot_at(m, node, i);

    item.n_q = item.n_q * (turn + 1) / w->node_workers - begin;
    for (size_t j = 0; item.n_q && j < n && first_chunk + j < item.end_chunk; j++) {
        struct slot slot = slot_at(m, node, first_slot + j);
        merge(m, &item, state.out + out, state.max + begin, state.sum + begin, slot.out + out, slot.max + begin, slot.sum + begin);
    }
}

/* This worker's chunks [begin, end) of a round, counted item by item. */
static void split_round(struct model *m, const struct worker *w, size_t layer, size_t window, size_t n_states, size_t first, size_t n,
                        size_t begin, size_t end)
{
    const struct node_memory *node = &m->nodes[w->node];
    const struct worker_memory *own = &m->workers[w->index];
    float max[ATTEND_MAX_Q], sum[ATTEND_MAX_Q];
    bool has_first = false;

    for (size_t i = begin; i < end; i++) {
        struct item item = decode_item(m, i / n, node->n_kv_heads, window);
        struct slot state = slot_at(m, node, i / n), slot = slot_at(m, node, n_states + i);
        size_t chunk = item.first_chunk + first + i % n;
        if (i % n == 0) {
            has_first = true;
            if (first == 0)
                clear(m, w, layer, &item, state.out, state.max, state.sum);
        }
        if (chunk >= item.end_chunk)
            continue;
        if (has_first) {
            attend_chunk(m, node, &item, layer, window, chunk, own->out, max, sum);
            merge(m, &item, state.out, state.max, state.sum, own->out, max, sum);
        } else {
            attend_chunk(m, node, &item, layer, window, chunk, slot.out, slot.max, slot.sum);
        }
    }
}

/*
 * In rounds of as many chunks an item as there are slots. Who has an item's first chunk of the round merges it and those behind it at once;
 * what other workers have of the item waits in slots, and is merged after a barrier. So few partials cross from core to core.
 */
static void run_split_items(struct model *m, const struct worker *w, size_t layer, size_t window, size_t n_items)
{
    const struct node_memory *node = &m->nodes[w->node];
    const size_t n_states = split_limit(m, w->node), per_round = (attention_slots(m, w->node) - n_states) / n_items;
    const size_t most = most_item_chunks(m, window);
    size_t begin, end;

    for (size_t first = 0; first < most; first += per_round) {
        size_t n = most - first < per_round ? most - first : per_round;
        pool_share_node(w, n_items * n, &begin, &end);
        split_round(m, w, layer, window, n_states, first, n, begin, end);
        pool_barrier_node(w);
        for (size_t i = 0; i < n_items; i++) {
            struct item item = decode_item(m, i, node->n_kv_heads, window);
            size_t done = chunks_of_first_worker(w, n_items, n, i);
            merge_partials(m, w, node, i, item, n_states + i * n + done, item.first_chunk + first + done, n - done);
        }
        pool_barrier_node(w);       /* before the outputs are finished, or the slots written again */
        for (size_t i = w->index_in_node; first + n >= most && i < n_items; i += w->node_workers) {
            struct item item = decode_item(m, i, node->n_kv_heads, window);
            struct slot state = slot_at(m, node, i);
            finish(m, w, &item, state.out, state.sum);
        }
    }
}

/* The slot of a chunk of the item that is number `i` of a round of dealt pages. */
static struct slot dealt_slot(const struct model *m, const struct node_memory *node, size_t window, size_t i, size_t chunk_of_item)
{
    return slot_at(m, node, i * most_item_chunks(m, window) + chunk_of_item);
}

/* Partials of the chunks [begin, end) of those that this node keeps of items [first, first + n). Returns how many it keeps. */
static size_t attend_kept(struct model *m, const struct worker *w, size_t layer, size_t window, size_t first, size_t n, size_t begin,
                          size_t end)
{
    const struct node_memory *node = &m->nodes[w->node];
    size_t n_kept = 0;

    for (size_t i = 0; i < n; i++) {
        const struct item item = decode_item(m, first + i, node->n_kv_heads, window);
        for (size_t chunk = item.first_chunk; chunk < item.end_chunk; chunk++) {
            if (!kv_keeps(node, item.kind, item.pages[chunk]))
                continue;
            if (n_kept >= begin && n_kept < end) {
                const struct slot slot = dealt_slot(m, node, window, i, chunk - item.first_chunk);
                attend_chunk(m, node, &item, layer, window, chunk, slot.out, slot.max, slot.sum);
            }
            n_kept++;
        }
    }
    return n_kept;
}

/* Query vector `q` of an item through the partials of all its chunks, wherever they lie, and on as finish() does. */
static void merge_dealt(struct model *m, const struct worker *w, size_t layer, size_t window, size_t i, const struct item *item,
                        size_t q, size_t head)
{
    const struct node_memory *node = &m->nodes[w->node];
    const struct worker_memory *own = &m->workers[w->index];
    const size_t dim = m->config.head_dim, token = item->block->token + q / item->n_query_heads, from = head * dim;
    float max, sum;

    begin_query(m, w, layer, head, &max, &sum);
    memset(own->merged, 0, m->head_padded * sizeof(float));
    for (size_t chunk = item->first_chunk; chunk < item->end_chunk; chunk++) {
        const struct node_memory *keeper = &m->nodes[kv_pool_part(kv_pool_of(m, item->kind), item->pages[chunk])];
        const struct slot slot = dealt_slot(m, keeper, window, i, chunk - item->first_chunk);
        m->kernels.attend_merge(&max, &sum, own->merged, slot.max + q, slot.sum + q, slot.out + q * m->head_padded, 1, m->head_padded);
    }
    m->kernels.attend_finish(own->tmp, own->merged, sum, m->head_padded);
    if (m->config.kv_rank)
        hand_on_latent(m, node, token, head, own->tmp);
    else if (m->heads_straddle)
        memcpy(node->attn + token * m->sites[SITE_ATTN_OUT].k_padded + from, own->tmp, dim * sizeof(float));
    else
        prepare_activations(m, SITE_ATTN_OUT, m->tokens[token].role,
                            node->act_attn + token * m->sites[SITE_ATTN_OUT].token_bytes, own->tmp, from, from + dim);
}

/* The queries of items [first, first + n) whose heads are this node's, shared among its workers. */
static void merge_own_heads(struct model *m, const struct worker *w, size_t layer, size_t window, size_t first, size_t n)
{
    const struct node_memory *node = &m->nodes[w->node];
    size_t turn = 0;

    for (size_t i = 0; i < n; i++) {
        const struct item item = decode_item(m, first + i, node->n_kv_heads, window);
        for (size_t q = 0; q < item.n_q; q++) {
            size_t head = item.kv_head * m->group + item.first_query + q % item.n_query_heads;
            if (head - node->first_q_head < node->n_q_heads && turn++ % w->node_workers == w->index_in_node)
                merge_dealt(m, w, layer, window, i, &item, q, head);
        }
    }
}

/*
 * Pages dealt over the nodes: in rounds of as many items as the slots hold, each node leaves a partial for each chunk that it keeps, and
 * the node of a query head merges them.
 */
static void run_dealt_pages(struct model *m, const struct worker *w, size_t layer, size_t window, size_t n_items)
{
    const size_t per_round = attention_slots(m, w->node) / most_item_chunks(m, window);
    size_t begin, end;

    for (size_t first = 0; first < n_items; first += per_round) {
        const size_t n = n_items - first < per_round ? n_items - first : per_round;
        pool_share_node(w, attend_kept(m, w, layer, window, first, n, 0, 0), &begin, &end);
        attend_kept(m, w, layer, window, first, n, begin, end);
        pool_barrier_all(w);
        merge_own_heads(m, w, layer, window, first, n);
        if (first + n < n_items)
            pool_barrier_all(w);    /* before the slots are written again; after the last round the exchange does */
    }
}

void attention_run(struct model *m, const struct worker *w, size_t layer)
{
    const struct node_memory *node = &m->nodes[w->node];
    const size_t window = m->layers[layer].kv_kind == KV_WINDOW ? m->config.sliding_window : 0;
    const size_t n_items = m->n_blocks * node->n_kv_heads * parts_per_group(m);

    if (m->pages_dealt)
        run_dealt_pages(m, w, layer, window, n_items);
    else if (n_items == 0)
        return;
    else if (n_items < split_limit(m, w->node) && m->most_chunks > 1)
        run_split_items(m, w, layer, window, n_items);
    else
        run_whole_items(m, w, layer, window, n_items);
}

/* Blocks of as many consecutive tokens of one sequence as fit one call of the kernel. */
void attention_plan(struct model *m)
{
    size_t per_block = ATTEND_MAX_Q / heads_per_item(m);

    m->n_blocks = 0;
    m->most_chunks = 0;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        for (size_t layer = 0; layer < m->config.n_layers; layer++)
            atomic_store_explicit(&m->nodes[v].items_taken[layer], 0, memory_order_relaxed);
    for (size_t i = 0; i < m->n_tokens; i++) {
        const struct step_token *t = &m->tokens[i];
        struct attention_block *last = m->n_blocks ? &m->blocks[m->n_blocks - 1] : NULL;
        size_t chunks = t->position / KV_CHUNK + 1;
        m->most_chunks = chunks > m->most_chunks ? chunks : m->most_chunks;
        if (last && last->sequence == t->sequence && last->n_tokens < per_block)
            last->n_tokens++;
        else
            m->blocks[m->n_blocks++] = (struct attention_block){ .token = i, .n_tokens = 1, .position = t->position,
                                                                 .sequence = t->sequence };
    }
}
