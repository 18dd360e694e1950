#include "server/matcher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNKNOWN, DEAD, FIRST_STATE,         /* numbers of states: UNKNOWN is a transition that nobody took */
    MAX_STATES = 8192,
    MAX_THREADS = 1 << 17,              /* of all states together */
    MAX_FRAMES = 1 << 15,
    STATE_SLOTS = 2 * MAX_STATES, FRAME_SLOTS = 2 * MAX_FRAMES,
    MAX_WAYS = 4096,                    /* looked at for one transition */
    WAY_SLOTS = 4 * MAX_WAYS,
    MASK_BYTES = 8 << 20, MAX_MASKS = 1024,
    NO_MASK = -1
};

/* A rule that was entered: where it goes on afterwards, and what was entered before it. Frame 0: none. */
struct frame { uint16_t node, depth; uint32_t parent; };

/* What may follow a character whose return is this frame: another character of a string, at that frame; 0: none. */
struct after_letter { uint32_t frame; bool known, alone; };

struct state { uint32_t first, n; int32_t mask; bool may_end; };

/* One filling of the table. A thread is node << 32 | frame; its node reads a byte. */
struct table {
    struct frame *frames;
    struct after_letter *after;                     /* of frames: kept, since one character further most of it is the same */
    struct state *states;
    uint64_t *threads;
    uint32_t *frame_index, *state_index, *next;     /* hash tables; next[state][class of bytes] */
    size_t n_frames, n_states, n_threads;
};

struct matcher {
    pthread_mutex_t lock;
    const struct token_trie *trie;
    struct grammar *grammar;
    const struct grammar_node *nodes;
    const struct byte_set *sets;
    uint8_t *need;
    uint8_t class_of[256], byte_of[256];            /* bytes that no set tells apart are one class; one byte of each */
    size_t n_classes;

    struct table tables[2];                         /* the one in use, and room to move a state to when it is emptied */
    struct table *t;
    uint32_t generation, start;

    uint64_t *masks;
    uint32_t *mask_state;
    uint64_t *mask_used;
    size_t n_masks, n_masks_filled, mask_words;
    uint64_t clock;

    uint64_t *seen;                                 /* ways looked at by the closure under way */
    uint32_t *seen_in;
    uint32_t closure;
    uint64_t *work, *found;
    size_t n_work, n_found, n_seen;
    bool may_end, too_many;
    struct matcher_counts counts;
};

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* The frame; 0 with m->too_many when there is no room. */
static uint32_t enter(struct matcher *m, struct table *t, uint16_t node, uint32_t parent)
{
    const uint16_t depth = (uint16_t)(t->frames[parent].depth + 1);
    size_t at = (size_t)(mix(node, parent) % FRAME_SLOTS);

    for (; t->frame_index[at]; at = (at + 1) % FRAME_SLOTS) {
        const struct frame *f = &t->frames[t->frame_index[at]];
        if (f->node == node && f->parent == parent)
            return t->frame_index[at];
    }
    if (t->n_frames == MAX_FRAMES) {
        m->too_many = true;
        return 0;
    }
    t->frames[t->n_frames] = (struct frame){ node, depth, parent };
    t->after[t->n_frames].known = false;
    t->frame_index[at] = (uint32_t)t->n_frames;
    return (uint32_t)t->n_frames++;
}

/* One more way to look at, unless it was met or cannot be finished within the depth. */
static void add_way(struct matcher *m, uint16_t node, uint32_t frame)
{
    const uint64_t way = (uint64_t)node << 32 | frame;
    size_t at = (size_t)(mix(0, way) % WAY_SLOTS);

    if (m->t->frames[frame].depth + m->need[node] > GRAMMAR_MAX_DEPTH)
        return;
    for (; m->seen_in[at] == m->closure; at = (at + 1) % WAY_SLOTS)
        if (m->seen[at] == way)
            return;
    if (m->n_seen == MAX_WAYS) {
        m->too_many = true;
        return;
    }
    m->n_seen++;
    m->seen[at] = way;
    m->seen_in[at] = m->closure;
    m->work[m->n_work++] = way;
}

static void begin_closure(struct matcher *m)
{
    if (++m->closure == 0) {
        memset(m->seen_in, 0, WAY_SLOTS * sizeof(*m->seen_in));
        m->closure = 1;
    }
    m->n_work = m->n_found = m->n_seen = 0;
    m->may_end = m->too_many = false;
}

/* Follow all that needs no byte. */
static void close_ways(struct matcher *m)
{
    while (m->n_work && !m->too_many) {
        const uint64_t way = m->work[--m->n_work];
        const uint32_t frame = (uint32_t)way;
        const struct grammar_node *n = &m->nodes[way >> 32];
        switch (n->op) {
        case GRAMMAR_OP_RETURN:
            if (frame)
                add_way(m, m->t->frames[frame].node, m->t->frames[frame].parent);
            else
                m->may_end = true;
            break;
        case GRAMMAR_OP_BYTE:
            m->found[m->n_found++] = way;
            break;
        case GRAMMAR_OP_SPLIT:
            add_way(m, n->a, frame);
            add_way(m, n->b, frame);
            break;
        default:        /* at the end of a rule nothing is left to come back to */
            add_way(m, n->a, n->b == GRAMMAR_RETURN ? frame : enter(m, m->t, n->b, frame));
            break;
        }
    }
}

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Most states have a handful of threads, nearly in order: there a call for each comparison would be most of the time. */
static void sort_threads(uint64_t *threads, size_t n)
{
    if (n > 32) {
        qsort(threads, n, sizeof(*threads), compare);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        const uint64_t x = threads[i];
        size_t k = i;
        for (; k > 0 && threads[k - 1] > x; k--)
            threads[k] = threads[k - 1];
        threads[k] = x;
    }
}

/* The number of the state with these threads (sorted here); UNKNOWN when the table is full. */
static uint32_t intern(struct table *t, uint64_t *threads, size_t n, bool may_end)
{
    uint64_t hash = may_end;

    if (n == 0 && !may_end)
        return DEAD;
    sort_threads(threads, n);
    for (size_t i = 0; i < n; i++)
        hash = mix(hash, threads[i]);
    size_t at = (size_t)(hash % STATE_SLOTS);
    for (; t->state_index[at]; at = (at + 1) % STATE_SLOTS) {
        const struct state *s = &t->states[t->state_index[at]];
        if (s->n == n && s->may_end == may_end && (n == 0 || memcmp(t->threads + s->first, threads, n * sizeof(*threads)) == 0))
            return t->state_index[at];
    }
    if (t->n_states == MAX_STATES || n > MAX_THREADS - t->n_threads)
        return UNKNOWN;
    t->states[t->n_states] = (struct state){ (uint32_t)t->n_threads, (uint32_t)n, NO_MASK, may_end };
    if (n)
        memcpy(t->threads + t->n_threads, threads, n * sizeof(*threads));
    t->n_threads += n;
    t->state_index[at] = (uint32_t)t->n_states;
    return (uint32_t)t->n_states++;
}

/* A transition that nobody took. Returns UNKNOWN when the table is full. */
static uint32_t find_next(struct matcher *m, uint32_t from, uint8_t class)
{
    struct table *t = m->t;
    const struct state *s = &t->states[from];
    const uint8_t byte = m->byte_of[class];

    if (from == DEAD)
        return DEAD;
    begin_closure(m);
    for (size_t i = 0; i < s->n && !m->too_many; i++) {
        const uint64_t thread = t->threads[s->first + i];
        const struct grammar_node *n = &m->nodes[thread >> 32];
        if (byte_set_has(&m->sets[n->set], byte)) {
            add_way(m, n->a, (uint32_t)thread);
            close_ways(m);
        }
    }
    if (m->too_many)
        return UNKNOWN;
    const uint32_t to = intern(t, m->found, m->n_found, m->may_end);
    t->next[from * m->n_classes + class] = to;
    return to;
}

static inline uint32_t next_state(struct matcher *m, uint32_t from, uint8_t byte)
{
    const uint8_t class = m->class_of[byte];
    const uint32_t to = m->t->next[from * m->n_classes + class];
    return to != UNKNOWN ? to : find_next(m, from, class);
}

static void clear(struct matcher *m, struct table *t)
{
    memset(t->next, 0, t->n_states * m->n_classes * sizeof(*t->next));
    if (t->n_states)
        memset(t->state_index, 0, STATE_SLOTS * sizeof(*t->state_index));
    if (t->n_frames)
        memset(t->frame_index, 0, FRAME_SLOTS * sizeof(*t->frame_index));
    t->frames[0] = (struct frame){ 0 };
    t->n_frames = 1;
    t->n_states = FIRST_STATE;
    t->n_threads = 0;
}

static uint32_t move_frame(struct matcher *m, const struct table *from, struct table *to, uint32_t frame)
{
    uint32_t path[GRAMMAR_MAX_DEPTH], moved = 0;
    size_t n = 0;

    for (; frame; frame = from->frames[frame].parent)
        path[n++] = frame;
    while (n-- > 0)
        moved = enter(m, to, from->frames[path[n]].node, moved);
    return moved;
}

/* Empty the table but for the beginning and `state`, whose new number is returned. Places learn it by the generation. */
static uint32_t empty_table(struct matcher *m, uint32_t state)
{
    struct table *old = m->t, *t = old == &m->tables[0] ? &m->tables[1] : &m->tables[0];
    uint32_t numbers[2] = { m->start, state };

    clear(m, t);
    for (size_t k = 0; k < 2; k++) {
        const struct state *s = &old->states[numbers[k]];
        for (size_t i = 0; i < s->n; i++) {
            const uint64_t thread = old->threads[s->first + i];
            m->found[i] = thread >> 32 << 32 | move_frame(m, old, t, (uint32_t)thread);
        }
        numbers[k] = intern(t, m->found, s->n, s->may_end);
    }
    m->t = t;
    m->start = numbers[0];
    m->generation++;
    m->n_masks_filled = 0;
    m->counts.empties++;
    return numbers[1];
}

/* The state after text[n], from `state` on: DEAD, or UNKNOWN when one byte's ways are more than the table holds. */
static uint32_t read_bytes(struct matcher *m, uint32_t state, const char *text, size_t n)
{
    for (size_t i = 0; i < n && state != DEAD; i++) {
        uint32_t to = next_state(m, state, (uint8_t)text[i]);
        if (to == UNKNOWN) {
            state = empty_table(m, state);
            to = next_state(m, state, (uint8_t)text[i]);
            if (to == UNKNOWN)
                return UNKNOWN;
        }
        state = to;
    }
    return state;
}

static int catch_up(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n)
{
    if (p->generation != m->generation || p->n_tokens > n)
        *p = (struct matcher_place){ m->generation, m->start, 0 };
    for (; p->n_tokens < n; p->n_tokens++) {
        const int32_t id = tokens[p->n_tokens];
        const uint32_t *at = m->trie->offsets + id;
        if (id < 0 || (size_t)id >= m->trie->n_vocab || at[0] == at[1])
            return -EINVAL;
        const uint32_t state = read_bytes(m, p->state, m->trie->bytes + at[0], at[1] - at[0]);
        if (state == UNKNOWN || state == DEAD)
            return state == DEAD ? -EINVAL : -E2BIG;
        p->state = state;
        p->generation = m->generation;
    }
    return 0;
}

/* The frame of a string of which a character may come next, among the ways of the closure just made; false: none. */
static bool find_string(const struct matcher *m, const uint64_t *threads, size_t n, uint32_t *frame)
{
    for (size_t i = 0; i < n; i++) {
        if (threads[i] >> 32 == m->grammar->letter && (uint32_t)threads[i]) {
            *frame = (uint32_t)threads[i];
            return true;
        }
    }
    return false;
}

/* Does no thread but those within this character of the string read a byte that a plain character has? */
static bool reads_alone(const struct matcher *m, const uint64_t *threads, size_t n, uint32_t frame)
{
    static const uint64_t plain[4] = { 0xfffffffb00000000, 0x7fffffffefffffff, UINT64_MAX, UINT64_MAX };   /* no control, \", \\ */

    for (size_t i = 0; i < n; i++) {
        const struct byte_set *set = &m->sets[m->nodes[threads[i] >> 32].set];
        for (size_t k = 0; k < 4 && (uint32_t)threads[i] != frame; k++)
            if (set->bits[k] & plain[k])
                return false;
    }
    return true;
}

/* False: too many ways. */
static bool find_after(struct matcher *m, uint32_t frame)
{
    struct after_letter after = { .known = true };

    begin_closure(m);
    add_way(m, m->t->frames[frame].node, m->t->frames[frame].parent);
    close_ways(m);
    if (m->too_many)
        return false;
    find_string(m, m->found, m->n_found, &after.frame);
    after.alone = reads_alone(m, m->found, m->n_found, after.frame);
    m->t->after[frame] = after;
    return true;
}

/*
 * How many characters of a string may follow, up to TRIE_MOST_PLAIN; 0 outside of strings. Only one way is followed, which is the same for
 * every character: so this many plain ones are allowed whatever other ways there are. If others might allow more of them, 0 too.
 */
static size_t string_room(struct matcher *m, uint32_t state)
{
    const struct state *s = &m->t->states[state];
    const uint64_t *threads = m->t->threads + s->first;
    uint32_t frame = 0;

    if (!m->grammar->letter || !find_string(m, threads, s->n, &frame))
        return 0;
    bool alone = reads_alone(m, threads, s->n, frame);
    for (size_t n = 1; n < TRIE_MOST_PLAIN; n++) {
        if (!m->t->after[frame].known && !find_after(m, frame))
            return 0;
        const struct after_letter *after = &m->t->after[frame];
        alone = alone && after->alone;
        if (!after->frame)
            return alone ? n : 0;
        if (after->frame == frame)      /* for ever */
            return TRIE_MOST_PLAIN;
        frame = after->frame;
    }
    return TRIE_MOST_PLAIN;
}

/* One loop over the trie, in strings over that of tokens which are not plain. False when the table filled up. */
static bool walk(struct matcher *m, uint32_t state, uint64_t *mask)
{
    const size_t room = string_room(m, state);
    const bool in_string = room > 0;
    const struct trie_node *nodes = in_string ? m->trie->other_nodes : m->trie->nodes;
    const int32_t *tokens = in_string ? m->trie->other_tokens : m->trie->tokens;
    const size_t n = in_string ? m->trie->n_other_nodes : m->trie->n_nodes;
    uint32_t path[256];

    if (in_string)
        memcpy(mask, m->trie->plain + (room - 1) * m->mask_words, m->mask_words * sizeof(*mask));
    else
        memset(mask, 0, m->mask_words * sizeof(*mask));
    path[0] = state;
    for (size_t i = 0; i < n; ) {
        const struct trie_node *node = &nodes[i];
        const uint32_t to = next_state(m, path[node->depth - 1], node->byte);
        if (to == UNKNOWN)
            return false;
        if (to == DEAD) {
            i = node->end;
            continue;
        }
        path[node->depth] = to;
        for (size_t k = 0; k < node->n_tokens; k++) {
            const uint32_t id = (uint32_t)tokens[node->first_token + k];
            mask[id >> 6] |= (uint64_t)1 << (id & 63);
        }
        i++;
    }
    m->counts.walks++;
    return true;
}

/* A place for the state's mask: a free one, or that of the state whose mask was used longest ago. */
static size_t take_mask(struct matcher *m, uint32_t state)
{
    size_t slot = 0;

    if (m->n_masks_filled < m->n_masks) {
        slot = m->n_masks_filled++;
    } else {
        for (size_t i = 1; i < m->n_masks; i++)
            if (m->mask_used[i] < m->mask_used[slot])
                slot = i;
        m->t->states[m->mask_state[slot]].mask = NO_MASK;
    }
    m->mask_state[slot] = state;
    m->t->states[state].mask = (int32_t)slot;
    return slot;
}

static int find_mask(struct matcher *m, struct matcher_place *p, size_t *slot)
{
    m->counts.masks++;
    if (m->t->states[p->state].mask == NO_MASK) {
        *slot = take_mask(m, p->state);
        if (!walk(m, p->state, m->masks + *slot * m->mask_words)) {
            p->state = empty_table(m, p->state);
            p->generation = m->generation;
            *slot = take_mask(m, p->state);
            if (!walk(m, p->state, m->masks + *slot * m->mask_words)) {
                m->t->states[p->state].mask = NO_MASK;
                m->n_masks_filled = 0;
                return -E2BIG;
            }
        }
    }
    *slot = (size_t)m->t->states[p->state].mask;
    m->mask_used[*slot] = ++m->clock;
    return 0;
}

int matcher_allowed(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, uint64_t *mask, bool *may_end)
{
    size_t slot;

    pthread_mutex_lock(&m->lock);
    int err = catch_up(m, p, tokens, n);
    if (!err)
        err = find_mask(m, p, &slot);
    if (!err) {
        memcpy(mask, m->masks + slot * m->mask_words, m->mask_words * sizeof(*mask));
        *may_end = m->t->states[p->state].may_end;
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

int matcher_takes(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, int32_t id, bool *takes)
{
    *takes = false;
    if (id < 0 || (size_t)id >= m->trie->n_vocab || !(m->trie->in_trie[id >> 6] >> (id & 63) & 1))
        return 0;
    const uint32_t *at = m->trie->offsets + id;
    pthread_mutex_lock(&m->lock);
    int err = catch_up(m, p, tokens, n);
    if (!err) {
        const uint32_t state = read_bytes(m, p->state, m->trie->bytes + at[0], at[1] - at[0]);
        *takes = state != DEAD;
        err = state == UNKNOWN ? -E2BIG : 0;
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

int matcher_in_string(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, bool *in_string)
{
    uint32_t frame;

    pthread_mutex_lock(&m->lock);
    int err = catch_up(m, p, tokens, n);
    const struct state *s = &m->t->states[p->state];
    *in_string = !err && m->grammar->letter && !s->may_end && find_string(m, m->t->threads + s->first, s->n, &frame);
    pthread_mutex_unlock(&m->lock);
    return err;
}

int matcher_only_end(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, bool *only_end)
{
    pthread_mutex_lock(&m->lock);
    int err = catch_up(m, p, tokens, n);
    *only_end = !err && m->t->states[p->state].may_end && m->t->states[p->state].n == 0;
    pthread_mutex_unlock(&m->lock);
    return err;
}

int matcher_read_text(struct matcher *m, const char *text, size_t n)
{
    pthread_mutex_lock(&m->lock);
    const uint32_t state = read_bytes(m, m->start, text, n);
    const int result = state == UNKNOWN ? -E2BIG : state == DEAD ? -EINVAL : !m->t->states[state].may_end;
    pthread_mutex_unlock(&m->lock);
    return result;
}

struct matcher_counts matcher_counts(struct matcher *m)
{
    pthread_mutex_lock(&m->lock);
    struct matcher_counts counts = m->counts;
    counts.n_states = m->t->n_states;
    pthread_mutex_unlock(&m->lock);
    return counts;
}

static void find_classes(struct matcher *m)
{
    m->n_classes = 1;
    for (size_t i = 0; i < m->grammar->n_sets; i++) {
        uint16_t inside[256] = { 0 };           /* of each class: the class of those that are in the set, plus 1 */
        bool outside[256] = { false };
        for (unsigned c = 0; c < 256; c++)
            outside[m->class_of[c]] |= !byte_set_has(&m->sets[i], (uint8_t)c);
        for (unsigned c = 0; c < 256; c++) {
            const uint8_t old = m->class_of[c];
            if (!outside[old] || !byte_set_has(&m->sets[i], (uint8_t)c))
                continue;
            if (!inside[old])
                inside[old] = (uint16_t)(++m->n_classes);
            m->class_of[c] = (uint8_t)(inside[old] - 1);
        }
    }
    for (unsigned c = 256; c-- > 0; )
        m->byte_of[m->class_of[c]] = (uint8_t)c;
}

static void *take(bool *ok, size_t n, size_t size)
{
    void *p = calloc(n, size);
    *ok &= p != NULL;
    return p;
}

static bool create_table(struct table *t, size_t n_classes)
{
    bool ok = true;

    t->frames = take(&ok, MAX_FRAMES, sizeof(*t->frames));
    t->after = take(&ok, MAX_FRAMES, sizeof(*t->after));
    t->states = take(&ok, MAX_STATES, sizeof(*t->states));
    t->threads = take(&ok, MAX_THREADS, sizeof(*t->threads));
    t->frame_index = take(&ok, FRAME_SLOTS, sizeof(*t->frame_index));
    t->state_index = take(&ok, STATE_SLOTS, sizeof(*t->state_index));
    t->next = take(&ok, MAX_STATES * n_classes, sizeof(*t->next));
    return ok;
}

static void find_start(struct matcher *m)
{
    m->t = &m->tables[0];
    m->generation = 1;
    clear(m, m->t);
    begin_closure(m);
    add_way(m, (uint16_t)m->grammar->start, 0);
    close_ways(m);
    if (m->too_many) {                          /* then nothing is allowed: the request fails at its first token */
        m->n_found = 0;
        m->may_end = false;
    }
    m->start = intern(m->t, m->found, m->n_found, m->may_end);
}

int matcher_create(struct matcher **out, const struct grammar *g, const struct token_trie *t)
{
    struct matcher *m = calloc(1, sizeof(*m));
    bool ok = true;

    *out = NULL;
    if (!m)
        return -ENOMEM;
    pthread_mutex_init(&m->lock, NULL);
    m->trie = t;
    m->mask_words = matcher_mask_words(t->n_vocab);
    m->n_masks = MASK_BYTES / (m->mask_words * 8 + 1);
    m->n_masks = m->n_masks < 2 ? 2 : m->n_masks > MAX_MASKS ? MAX_MASKS : m->n_masks;
    m->grammar = take(&ok, 1, g->n_bytes);
    m->need = take(&ok, 1, g->n_nodes);
    m->masks = take(&ok, m->n_masks * m->mask_words, sizeof(*m->masks));
    m->mask_state = take(&ok, m->n_masks, sizeof(*m->mask_state));
    m->mask_used = take(&ok, m->n_masks, sizeof(*m->mask_used));
    m->seen = take(&ok, WAY_SLOTS, sizeof(*m->seen));
    m->seen_in = take(&ok, WAY_SLOTS, sizeof(*m->seen_in));
    m->work = take(&ok, MAX_WAYS, sizeof(*m->work));
    m->found = take(&ok, MAX_WAYS, sizeof(*m->found));
    if (ok) {
        memcpy(m->grammar, g, g->n_bytes);
        m->nodes = grammar_nodes(m->grammar);
        m->sets = grammar_sets(m->grammar);
        find_classes(m);
        ok = grammar_needs(m->grammar, m->need) == 0 && create_table(&m->tables[0], m->n_classes) &&
             create_table(&m->tables[1], m->n_classes);
    }
    if (!ok) {
        matcher_destroy(m);
        return -ENOMEM;
    }
    find_start(m);
    *out = m;
    return 0;
}

size_t matcher_bytes(const struct matcher *m)
{
    return m->grammar->n_bytes + m->n_masks * m->mask_words * sizeof(*m->masks) +
           2 * (MAX_FRAMES * (sizeof(struct frame) + sizeof(struct after_letter)) +
                MAX_STATES * (sizeof(struct state) + m->n_classes * sizeof(uint32_t)) + MAX_THREADS * sizeof(uint64_t) +
                (FRAME_SLOTS + STATE_SLOTS) * sizeof(uint32_t));
}

void matcher_destroy(struct matcher *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < 2; i++) {
        struct table *t = &m->tables[i];
        free(t->frames);
        free(t->after);
        free(t->states);
        free(t->threads);
        free(t->frame_index);
        free(t->state_index);
        free(t->next);
    }
    free(m->grammar);
    free(m->need);
    free(m->masks);
    free(m->mask_state);
    free(m->mask_used);
    free(m->seen);
    free(m->seen_in);
    free(m->work);
    free(m->found);
    pthread_mutex_destroy(&m->lock);
    free(m);
}
