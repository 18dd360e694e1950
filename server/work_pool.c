#include "server/work_pool.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

static struct work_item *reverse(struct work_item *newest)
{
    struct work_item *oldest = NULL;

    while (newest) {
        struct work_item *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

/* NULL only when the pool stops: the semaphore counts items. */
static struct work_item *take(struct work_pool *p)
{
    while (sem_wait(&p->n_items) < 0) {
        /* EINTR */
    }
    pthread_mutex_lock(&p->lock);
    if (!p->queue)
        p->queue = reverse(atomic_exchange(&p->pushed, NULL));
    struct work_item *item = p->queue;
    if (item)
        p->queue = item->next;
    pthread_mutex_unlock(&p->lock);
    return item;
}

static void *work(void *arg)
{
    struct work_pool *p = arg;

    for (;;) {
        struct work_item *item = take(p);
        if (item)
            p->run(item);
        else if (atomic_load(&p->stop))
            return NULL;
    }
}

int work_pool_start(struct work_pool *p, unsigned n_threads, work_fn run)
{
    int err = 0;

    p->run = run;
    p->n_threads = 0;
    pthread_mutex_init(&p->lock, NULL);
    sem_init(&p->n_items, 0, 0);
    while (p->n_threads < n_threads && !err) {
        err = pthread_create(&p->threads[p->n_threads], NULL, work, p);
        p->n_threads += !err;
    }
    return -err;
}

void work_pool_push(struct work_pool *p, struct work_item *item)
{
    struct work_item *newest = atomic_load(&p->pushed);

    do
        item->next = newest;
    while (!atomic_compare_exchange_weak(&p->pushed, &newest, item));
    sem_post(&p->n_items);
}

void work_pool_stop(struct work_pool *p)
{
    if (!p->run)
        return;
    atomic_store(&p->stop, true);
    for (unsigned i = 0; i < p->n_threads; i++)
        sem_post(&p->n_items);
    for (unsigned i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    sem_destroy(&p->n_items);
    pthread_mutex_destroy(&p->lock);
    p->run = NULL;
}
