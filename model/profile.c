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
        *p = (struct profile){ .pool = m->pool };
    m->profile = p;
    pool_count_waits(m->pool, p != NULL);
}

void profile_begin(struct profile *p)
{
    if (!p)
        return;
    const struct pool_waits waits = pool_worker_waits(p->pool, 0);

    p->marked_ns = clock_now_ns();
    p->waited_ns = waits.ns;
    p->barriers = waits.barriers;
}

void profile_add(struct profile *p, enum profile_part part)
{
    const uint64_t now = clock_now_ns(), waited = pool_worker_waits(p->pool, 0).ns - p->waited_ns;

    p->ns[part] += now - p->marked_ns - waited;
    p->ns[PROFILE_WAIT] += waited;
    p->marked_ns = now;
    p->waited_ns += waited;
}

void profile_end(struct profile *p, size_t n_tokens)
{
    if (!p)
        return;
    profile_add(p, PROFILE_WAIT);
    p->n_steps++;
    p->n_tokens += n_tokens;
    p->n_barriers += pool_worker_waits(p->pool, 0).barriers - p->barriers;
}
