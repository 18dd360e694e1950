#include "model/profile.h"

#include "common/clock.h"
#include "model/model_internal.h"

const char *const profile_part_names[PROFILE_PARTS] = {
    [PROFILE_WEIGHTS] = "weights",   [PROFILE_ATTENTION] = "attention", [PROFILE_NORMS] = "norms",   [PROFILE_ROPE] = "rope",
    [PROFILE_EXCHANGE] = "exchange", [PROFILE_WAIT] = "wait",           [PROFILE_LOGITS] = "logits", [PROFILE_OTHER] = "other",
};

void model_profile(struct model *m, struct profile *p)
{
    if (p)
        *p = (struct profile){ 0 };
    m->profile = p;
    pool_count_waits(m->pool, p != NULL);
}

void profile_begin(struct model *m)
{
    for (size_t i = 0; m->profile && i < pool_n_workers(m->pool); i++) {
        const struct pool_waits waits = pool_worker_waits(m->pool, i);

        m->workers[i].profile = (struct profile_worker){ .pool = m->pool, .index = i, .marked_ns = clock_now_ns(), .waited_ns = waits.ns,
                                                         .barriers = waits.barriers };
    }
}

void profile_add(struct profile_worker *p, enum profile_part part)
{
    const uint64_t now = clock_now_ns(), waited = pool_worker_waits(p->pool, p->index).ns - p->waited_ns;

    p->ns[part] += now - p->marked_ns - waited;
    p->ns[PROFILE_WAIT] += waited;
    p->marked_ns = now;
    p->waited_ns += waited;
}

void profile_end(struct model *m)
{
    struct profile *p = m->profile;
    size_t i = 0;

    if (!p)
        return;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
        const size_t n = pool_node_workers(m->pool, v);
        uint64_t sum[PROFILE_PARTS] = { 0 };

        for (size_t j = 0; j < n; j++, i++) {
            struct profile_worker *w = &m->workers[i].profile;
            profile_add(w, PROFILE_WAIT);       /* for the last one to return */
            for (size_t part = 0; part < PROFILE_PARTS; part++) {
                sum[part] += w->ns[part];
                p->ns[part] += i == 0 ? w->ns[part] : 0;
            }
        }
        for (size_t part = 0; part < PROFILE_PARTS; part++)
            p->node_ns[v][part] += sum[part] / n;
    }
    p->n_steps++;
    p->n_tokens += m->n_tokens;
    p->n_barriers += pool_worker_waits(m->pool, 0).barriers - m->workers[0].profile.barriers;
}
