/*
 * kv_spare.h - memory for the pages of sequences that have to wait: a copy of each, outside of the cache, as it was.
 *
 * Plain memory of whichever node has some, touched as it is used: it is read once, by memcpy, and not by attention. Copying a page out and
 * in again takes about as long as reading it twice, where computing it anew reads all weights. One thread, the batcher, uses it.
 */
#ifndef FOURWAY_MODEL_KV_SPARE_H
#define FOURWAY_MODEL_KV_SPARE_H

#include <stddef.h>
#include <stdint.h>

struct model;

struct kv_spare {
    size_t n_slots, n_free;         /* each holds one page and, though only a sequence's last pages have one, a window: untouched, it takes
                                     * addresses alone */
    int32_t *free_slots;            /* a stack */
    /* Copy pages[n] of the cache, and those of windows[n] that there are, to slots[n], or back; the caller's, set after kv_spare_create.
     * Neither fails. */
    void (*copy_out)(void *arg, const int32_t *pages, const int32_t *windows, const int32_t *slots, size_t n);
    void (*copy_in)(void *arg, const int32_t *pages, const int32_t *windows, const int32_t *slots, size_t n);
    void *arg;
};

/* n_slots numbers, all free, without memory: for tests and kv_spare_open. Returns 0 or -ENOMEM; destroy in any case. */
int kv_spare_create(struct kv_spare *s, size_t n_slots);
void kv_spare_destroy(struct kv_spare *s);

int32_t kv_spare_take(struct kv_spare *s);          /* there is a free one */
void kv_spare_give(struct kv_spare *s, int32_t slot);

/*
 * As many slots as `bytes` hold of the model's pages (perhaps none), copied by its workers. Addresses are taken, memory as slots are used.
 * Returns 0 or -ENOMEM. Close before the model; fine on a zeroed one.
 */
struct kv_spare_memory;
int kv_spare_open(struct kv_spare *s, struct kv_spare_memory **memory, struct model *m, uint64_t bytes);
void kv_spare_close(struct kv_spare *s, struct kv_spare_memory *memory);

#endif
