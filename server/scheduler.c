#include "server/scheduler.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

_Static_assert((int)SCHEDULER_MAX_DRAFT <= (int)KV_CHUNK, "kv_windows_in_use has room for refused drafts");

int scheduler_create(struct scheduler *s, const struct scheduler_limits *limits, const struct pace *pace, size_t n_keys,
                     struct kv_cache *kv, struct kv_spare *spare)
{
    *s = (struct scheduler){ .limits = *limits, .kv = kv, .spare = spare, .pace = *pace };
    s->running = calloc(limits->max_batch, sizeof(*s->running));
    s->step = calloc(limits->max_step_tokens, sizeof(*s->step));
    const int err = turns_create(&s->turns, n_keys);
    return !s->running || !s->step ? -ENOMEM : err;
}

void scheduler_destroy(struct scheduler *s)
{
    turns_destroy(&s->turns);
    free(s->running);
    free(s->step);
    *s = (struct scheduler){ 0 };
}

/* --- lists --- */

static void push_waiting(struct scheduler *s, struct sequence *q)
{
    q->runs = q->parked = false;
    q->next = s->waiting;
    s->waiting = q;
    s->n_waiting++;
    s->waiting_tokens += q->n_tokens;
}

static void unlink_waiting(struct scheduler *s, struct sequence **at)
{
    struct sequence *q = *at;

    *at = q->next;
    q->next = NULL;
    s->n_waiting--;
    s->waiting_tokens -= q->n_tokens;
}

/* Of those that run: lower priorities and earlier arrivals first. Fixed, so that two never push each other out in turns. */
static bool ranks_before(const struct sequence *a, const struct sequence *b)
{
    return a->request.priority != b->request.priority ? a->request.priority < b->request.priority : a->number < b->number;
}

static void insert_running(struct scheduler *s, struct sequence *q)
{
    size_t i = s->n_running++;

    for (; i && ranks_before(q, s->running[i - 1]); i--)
        s->running[i] = s->running[i - 1];
    s->running[i] = q;
    q->runs = true;
}

static void unlink_running(struct scheduler *s, struct sequence *q)
{
    size_t i = 0;

    while (s->running[i] != q)
        i++;
    memmove(&s->running[i], &s->running[i + 1], (s->n_running - i - 1) * sizeof(*s->running));
    s->n_running--;
    q->runs = q->parked = false;
}

static void give_slots(struct scheduler *s, struct sequence *q)
{
    for (size_t i = 0; i < q->n_spilled; i++)
        kv_spare_give(s->spare, q->slots[i]);
    free(q->slots);
    q->slots = NULL;
    q->n_spilled = q->n_spilled_done = 0;
}

/* Out of the scheduler, and of all memory that it gave. */
static void give_up(struct scheduler *s, struct sequence *q)
{
    kv_cache_release(s->kv, &q->kv);
    give_slots(s, q);
    turns_leave(&s->turns, q->request.key);
}

void scheduler_arrive(struct scheduler *s, struct sequence *q)
{
    turns_arrive(&s->turns, q->request.key, q->request.key_holder);
    push_waiting(s, q);
}

void scheduler_remove(struct scheduler *s, struct sequence *q)
{
    unlink_running(s, q);
    give_up(s, q);
}

/* --- who leaves --- */

static void mark(struct sequence *q, enum engine_reason reason)
{
    if (!q->leaves)
        q->reason = reason;
    q->leaves = true;
}

static void cancel(struct sequence *q, const uint64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (q->request.id == ids[i])
            mark(q, ENGINE_CANCELLED);
}

void scheduler_cancel(struct scheduler *s, const uint64_t *ids, size_t n)
{
    for (struct sequence *q = s->waiting; q && n; q = q->next)
        cancel(q, ids, n);
    for (size_t i = 0; i < s->n_running && n; i++)
        cancel(s->running[i], ids, n);
}

static bool is_leaving(struct sequence *q, uint64_t now_ns)
{
    if (q->request.deadline_ns && now_ns >= q->request.deadline_ns)
        mark(q, ENGINE_DEADLINE);
    return q->leaves;
}

struct sequence *scheduler_take_leaving(struct scheduler *s, uint64_t now_ns)
{
    for (struct sequence **at = &s->waiting; *at; at = &(*at)->next) {
        struct sequence *q = *at;
        if (!is_leaving(q, now_ns))
            continue;
        unlink_waiting(s, at);
        give_up(s, q);
        return q;
    }
    for (size_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        if (!is_leaving(q, now_ns))
            continue;
        scheduler_remove(s, q);
        return q;
    }
    return NULL;
}

struct sequence *scheduler_take_any(struct scheduler *s)
{
    struct sequence *q = s->waiting;

    if (q) {
        unlink_waiting(s, &s->waiting);
        give_up(s, q);
    } else if (s->n_running) {
        q = s->running[s->n_running - 1];
        scheduler_remove(s, q);
    }
    return q;
}

/* --- the prefix cache --- */

/* How many of its tokens may be found in the cache, or made known to it: where the roles differ in arithmetic, those of the prompt. */
static size_t shareable(const struct scheduler *s, const struct sequence *q, size_t n)
{
    return s->limits.roles_agree || n < q->request.n_prompt ? n : q->request.n_prompt;
}

/* Whose pages it may share. */
static struct kv_salt salt_of(const struct scheduler *s, const struct sequence *q)
{
    struct kv_salt salt = q->request.salt;

    /* Numbers that no hash of a salt is likely to differ by. */
    salt.word[1] ^= rope_length(&s->limits.rope_lengths, q->request.n_prompt) * UINT64_C(0x9E3779B97F4A7C15);
    return salt;
}

static bool same_salt(const struct scheduler *s, const struct sequence *a, const struct sequence *b)
{
    const struct kv_salt x = salt_of(s, a), y = salt_of(s, b);

    return !memcmp(&x, &y, sizeof(x));
}

/* Whether what others computed of its prompt is enough: not where rows before the last one are wanted. */
static bool may_share(const struct scheduler *s, const struct sequence *q)
{
    return s->limits.prefix_cache && !q->request.prompt_logprobs &&
           (q->request.pooling == POOLING_NONE || q->request.pooling == POOLING_LAST);
}

/* Pages of others with the same beginning. The last token is left: its row is wanted. */
static void find_prefix(struct scheduler *s, struct sequence *q)
{
    if (may_share(s, q))
        q->n_done = kv_cache_find(s->kv, &q->kv, q->tokens, shareable(s, q, q->n_tokens - 1), salt_of(s, q));
}

static void publish_pages(struct scheduler *s, struct sequence *q)
{
    if (s->limits.prefix_cache)
        kv_cache_publish(s->kv, &q->kv, q->tokens, shareable(s, q, q->n_done), salt_of(s, q));
}

/*
 * Is a running sequence just computing what this one could share: at least the page after those it found? Then it is cheaper to wait:
 * of many requests with one system prompt, or many choices of one request, the first computes it.
 */
static bool is_being_computed(const struct scheduler *s, const struct sequence *q)
{
    const size_t n_page = q->n_done + KV_CHUNK;

    if (!may_share(s, q) || q->n_spilled || n_page > shareable(s, q, q->n_tokens - 1))
        return false;
    for (size_t i = 0; i < s->n_running; i++) {
        const struct sequence *r = s->running[i];
        if (r->n_done < n_page && r->request.n_prompt >= n_page && same_salt(s, q, r) &&
            !memcmp(r->tokens, q->tokens, n_page * sizeof(*q->tokens)))
            return true;
    }
    return false;
}

/* --- admission --- */

static size_t admission_tokens(const struct scheduler *s, const struct sequence *q)
{
    const size_t left = q->request.max_tokens - sequence_n_generated(q);
    return q->n_tokens + (left < s->limits.reserve_tokens ? left : s->limits.reserve_tokens);
}

/* Pages that running sequences may still ask for under their admission. */
static size_t pages_promised(const struct scheduler *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_running; i++) {
        const size_t want = kv_pages_for(admission_tokens(s, s->running[i]));
        n += want > s->running[i]->kv.n_pages ? want - s->running[i]->kv.n_pages : 0;
    }
    return n;
}

static bool fits(const struct scheduler *s, const struct sequence *q)
{
    const size_t want = kv_pages_for(admission_tokens(s, q));
    return want - q->kv.n_pages + pages_promised(s) <= s->kv->pool.n_free || s->n_running == 0;
}

/* Who of those that wait comes next, of those that were not passed over; NULL: nobody. */
static struct sequence **next_turn(struct scheduler *s, uint64_t now_ns)
{
    struct sequence **best = NULL;
    struct turn first;

    for (struct sequence **at = &s->waiting; *at; at = &(*at)->next) {
        const struct sequence *q = *at;
        const struct turn turn = { .key = q->request.key, .priority = q->request.priority, .since_ns = q->submitted_ns,
                                   .number = q->number, .resumes = q->admitted_ns != 0 };
        if (q->is_passed || (best && !turns_before(&s->turns, &turn, &first, now_ns)))
            continue;
        best = at;
        first = turn;
    }
    return best;
}

/* The pages that were spilled, but those that are in the cache all the same. */
static void bring_back(struct scheduler *s, struct sequence *q)
{
    const size_t n_found = q->kv.n_pages;

    if (!q->n_spilled)
        return;
    if (n_found < q->n_spilled) {
        kv_cache_slide(s->kv, &q->kv, q->n_spilled_done);
        const int err = kv_cache_reserve(s->kv, &q->kv, q->n_spilled_done);
        assert(!err);       /* it fits: more pages than these are free; windows are enough for max_batch sequences */
        s->spare->copy_in(s->spare->arg, q->kv.pages + n_found, q->kv.windows + n_found, q->slots + n_found, q->n_spilled - n_found);
        q->n_done = q->n_spilled_done;
    }
    give_slots(s, q);
}

static void begin(struct scheduler *s, struct sequence *q, uint64_t now_ns)
{
    const size_t n_prompt = q->request.n_prompt;

    if (q->admitted_ns)
        return;             /* after a preemption */
    q->admitted_ns = now_ns;
    q->n_cached = q->n_done < n_prompt ? q->n_done : n_prompt;
    q->n_reported = q->n_cached;
    s->counts.prefix_lookup_tokens += n_prompt;
    s->counts.prefix_hit_tokens += q->n_cached;
}

/* One after the other as their turns come, until one does not fit; but who waits for another's prompt lets others pass. */
void scheduler_admit(struct scheduler *s, uint64_t now_ns)
{
    enum { MOST_PASSED = 64 };
    struct sequence **at;
    size_t n_passed = 0;

    for (struct sequence *q = s->waiting; q; q = q->next)
        q->is_passed = false;
    while (s->n_running < s->limits.max_batch && n_passed < MOST_PASSED && (at = next_turn(s, now_ns))) {
        struct sequence *q = *at;
        find_prefix(s, q);
        const bool waits = is_being_computed(s, q);
        if (waits || !fits(s, q)) {
            kv_cache_release(s->kv, &q->kv);
            q->n_done = 0;
            if (!waits)
                break;
            q->is_passed = true;
            n_passed++;
            continue;
        }
        unlink_waiting(s, at);
        begin(s, q, now_ns);
        bring_back(s, q);
        insert_running(s, q);
    }
}

/* --- preemption --- */

/* Its computed pages to the spare memory, if that has room for all of them. */
static bool spill(struct scheduler *s, struct sequence *q)
{
    const size_t n = kv_pages_for(q->n_done);

    if (!n || n > s->spare->n_free)
        return false;
    q->slots = malloc(n * sizeof(*q->slots));
    if (!q->slots)
        return false;
    for (size_t i = 0; i < n; i++)
        q->slots[i] = kv_spare_take(s->spare);
    q->n_spilled = n;
    q->n_spilled_done = q->n_done;
    s->spare->copy_out(s->spare->arg, q->kv.pages, q->kv.windows, q->slots, n);
    return true;
}

/* The sequence of lowest rank goes back to those that wait; its turn is before all that never ran. */
static void preempt_last(struct scheduler *s)
{
    struct sequence *q = s->running[s->n_running - 1];
    const bool spilled = spill(s, q);

    s->counts.spills += spilled;
    s->counts.recomputes += !spilled && q->n_done;
    unlink_running(s, q);
    kv_cache_release(s->kv, &q->kv);
    q->n_done = 0;
    push_waiting(s, q);
    log_debug("request %llu gives its KV pages back: they are %s", (unsigned long long)q->request.id,
              spilled ? "in spare memory" : "computed again later");
}

/* --- the step --- */

/*
 * There are no pages for q: the one of lowest rank gives way. If that is q it is parked; another one is preempted, and *again says that
 * the step is built anew, for it may have had a part in it.
 */
static void no_pages_for(struct scheduler *s, struct sequence *q, bool *again)
{
    *again = s->running[s->n_running - 1] != q;
    if (*again) {
        preempt_last(s);
    } else {
        s->counts.parks += !q->parked;
        q->parked = true;
    }
}

/* How many of q's next tokens, at most `most`, there are rows of logits for. */
static size_t cut_to_rows(const struct scheduler *s, const struct sequence *q, size_t most, const struct step_size *size, size_t *n_rows)
{
    *n_rows = 0;
    for (size_t i = 0; i < most; i++) {
        const bool row = sequence_wants_logits(q, q->n_done + i);
        if (row && size->n_rows + *n_rows == s->limits.max_step_logits)
            return i;
        *n_rows += row;
    }
    return most;
}

static bool reserve(struct scheduler *s, struct sequence *q, size_t *n)
{
    if (!kv_cache_reserve(s->kv, &q->kv, q->n_done + *n))
        return true;
    if (s->running[s->n_running - 1] != q && q->n_draft == 0)
        return false;                   /* another one gives pages */
    const size_t room = (q->kv.n_pages + s->kv->pool.n_free) * KV_CHUNK - q->n_done;
    const size_t least = q->n_draft ? *n - q->n_draft : 1;      /* a part of a prompt is fine, and drafts can be left */
    if (room < least)
        return false;
    *n = room < *n ? room : *n;
    return !kv_cache_reserve(s->kv, &q->kv, q->n_done + *n);
}

/* Give up to `most` tokens of the sequence to the step. Returns false when there are no pages. */
static bool schedule(struct scheduler *s, struct sequence *q, size_t most, struct step_size *size)
{
    size_t n = q->n_tokens + q->n_draft - q->n_done, n_rows;

    n = cut_to_rows(s, q, n < most ? n : most, size, &n_rows);
    if (n == 0)
        return true;
    if (!reserve(s, q, &n))
        return false;
    n = cut_to_rows(s, q, n, size, &n_rows);
    assert(size->n_tokens + n <= s->limits.max_step_tokens);
    q->parked = false;
    q->n_step = n;
    q->n_draft = q->n_done + n > q->n_tokens ? q->n_done + n - q->n_tokens : 0;
    q->first_row = size->n_rows;
    q->n_rows = n_rows;
    q->first_hidden = size->n_hidden;
    for (size_t i = 0; i < n; i++) {
        const size_t position = q->n_done + i;
        s->step[size->n_tokens + i] = (struct step_token){
            .id = q->tokens[position], .position = (uint32_t)position, .sequence = &q->kv,
            .wants_logits = sequence_wants_logits(q, position), .wants_hidden = sequence_wants_hidden(q, position),
            .rope_length = rope_length(&s->limits.rope_lengths, q->request.n_prompt),
            .role = position < q->request.n_prompt ? ROLE_PROMPT : ROLE_GENERATED };
        size->n_hidden += sequence_wants_hidden(q, position);
    }
    size->n_tokens += n;
    if (q->n_done < q->request.n_prompt)
        size->n_prompt_tokens += n < q->request.n_prompt - q->n_done ? n : q->request.n_prompt - q->n_done;
    size->n_rows += n_rows;
    return true;
}

/* Everybody's next token comes first: only what rows and tokens are left go to drafts. */
static void cut_drafts(const struct scheduler *s)
{
    size_t n_decodes = 0, left;

    for (size_t i = 0; i < s->n_running; i++)
        n_decodes += sequence_decodes(s->running[i]);
    left = s->limits.max_drafts;
    left = left < s->limits.max_step_logits - n_decodes ? left : s->limits.max_step_logits - n_decodes;
    for (size_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        if (!sequence_decodes(q))
            q->n_draft = 0;
        q->n_draft = q->n_draft < left ? q->n_draft : left;
        left -= q->n_draft;
    }
}

struct step_size scheduler_build(struct scheduler *s)
{
    struct step_size size;
    bool again;

    do {
        cut_drafts(s);
        again = false;
        size = (struct step_size){ 0 };
        for (size_t i = 0; i < s->n_running; i++)
            s->running[i]->n_step = s->running[i]->n_rows = 0;
        for (size_t i = 0; !again && i < s->n_running; i++) {
            struct sequence *q = s->running[i];
            if (sequence_decodes(q) && !schedule(s, q, 1 + q->n_draft, &size))
                no_pages_for(s, q, &again);
        }
        size.n_decodes = size.n_tokens;
        size_t budget = pace_budget(&s->pace, size.n_decodes);
        budget = budget < s->limits.max_step_tokens - size.n_tokens ? budget : s->limits.max_step_tokens - size.n_tokens;
        for (size_t i = 0; !again && i < s->n_running && budget; i++) {
            struct sequence *q = s->running[i];
            if (sequence_decodes(q))
                continue;
            if (schedule(s, q, budget, &size))
                budget -= q->n_step;
            else
                no_pages_for(s, q, &again);
        }
    } while (again);
    return size;
}

/* --- what came of it --- */

void scheduler_computed(struct scheduler *s, struct sequence *q, size_t n)
{
    q->n_done += n;
    publish_pages(s, q);
    kv_cache_slide(s->kv, &q->kv, q->n_done);
}

void scheduler_read(struct scheduler *s, struct sequence *q, size_t n)
{
    turns_serve(&s->turns, q->request.key, q->request.key_priority, n, 0);
}

void scheduler_append(struct scheduler *s, struct sequence *q, int32_t token)
{
    q->tokens[q->n_tokens++] = token;
    turns_serve(&s->turns, q->request.key, q->request.key_priority, 0, 1);
}

/* --- invariants --- */

static void check_slots(const struct scheduler *s)
{
    size_t n_held = 0;

    for (const struct sequence *q = s->waiting; q; q = q->next) {
        assert(!q->runs && !q->parked && q->kv.n_pages == 0 && q->n_done == 0);
        assert(q->n_spilled == kv_pages_for(q->n_spilled_done) && !q->slots == !q->n_spilled);
        for (size_t i = 0; i < q->n_spilled; i++)
            assert(q->slots[i] >= 0 && (size_t)q->slots[i] < s->spare->n_slots);
        n_held += q->n_spilled;
    }
    assert(n_held + s->spare->n_free == s->spare->n_slots);
}

void scheduler_check(const struct scheduler *s)
{
    const struct kv_sequence **tables = malloc((s->n_running + 1) * sizeof(*tables));
    size_t n_present = 0, n_waiting = 0;
    uint64_t waiting_tokens = 0;

    assert(s->n_running <= s->limits.max_batch);
    for (size_t i = 0; i < s->n_running; i++) {
        const struct sequence *q = s->running[i];
        assert(q->runs && !q->slots && q->admitted_ns);
        assert(i == 0 || ranks_before(s->running[i - 1], q));
        assert(q->n_done < q->n_tokens && q->n_tokens <= q->request.n_prompt + q->request.max_tokens);
        assert(q->kv.n_pages >= kv_pages_for(q->n_done) && q->kv.n_known * KV_CHUNK <= q->n_done);
        if (tables)
            tables[i] = &q->kv;
    }
    for (const struct sequence *q = s->waiting; q; q = q->next) {
        n_waiting++;
        waiting_tokens += q->n_tokens;
    }
    assert(n_waiting == s->n_waiting && waiting_tokens == s->waiting_tokens);
    for (size_t i = 0; i < s->turns.n_keys; i++)
        n_present += s->turns.n_present[i];
    assert(n_present == s->n_waiting + s->n_running);
    check_slots(s);
    if (tables)
        kv_cache_check(s->kv, tables, s->n_running);
    free(tables);
}
