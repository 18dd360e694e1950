/*
 * work_pool.h - a few threads that run queued items in order of arrival.
 *
 * Pushing never waits for a lock, because the engine's thread does it in the middle of serving everyone: an item goes on a stack by one
 * compare-and-swap, and the threads, woken by a semaphore, turn the stack into a queue among themselves.
 */
#ifndef FOURWAY_SERVER_WORK_POOL_H
#define FOURWAY_SERVER_WORK_POOL_H

#include <stdatomic.h>

#include <pthread.h>
#include <semaphore.h>

struct work_item { struct work_item *next; };      /* embedded in what is queued; in one queue at a time */

typedef void (*work_fn)(struct work_item *item);

enum { WORK_POOL_MAX_THREADS = 16 };

struct work_pool {
    _Atomic(struct work_item *) pushed;     /* the newest first */
    sem_t n_items;
    pthread_mutex_t lock;
    struct work_item *queue;                /* under lock; the oldest first */
    work_fn run;
    atomic_bool stop;
    unsigned n_threads;
    pthread_t threads[WORK_POOL_MAX_THREADS];
};

/* 0, or a negative errno; work_pool_stop in both cases. */
int work_pool_start(struct work_pool *p, unsigned n_threads, work_fn run);
void work_pool_push(struct work_pool *p, struct work_item *item);

/* Run what is queued, then end the threads. Nothing may be pushed any more. */
void work_pool_stop(struct work_pool *p);

#endif
