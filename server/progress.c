#include "server/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

enum { WIDTH = 40 };

static void draw(const char *doing, uint64_t started_ns, uint64_t done, uint64_t total)
{
    double share = total ? (double)done / (double)total : 0;
    double seconds = (double)(clock_now_ns() - started_ns) / 1e9;
    char bar[WIDTH + 1];

    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < (int)(share * WIDTH) ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%s [%s] %3.0f %%  %.1f/%.1f GB  %.1f GB/s ", doing, bar, 100 * share, (double)done / 1e9, (double)total / 1e9,
            seconds > 0 ? (double)done / 1e9 / seconds : 0);
}

static void erase(void)
{
    fputs("\r\x1b[K", stderr);
}

void progress_bar(const char *doing, uint64_t started_ns, uint64_t bytes_done, uint64_t bytes_total)
{
    if (!isatty(STDERR_FILENO))
        return;
    if (bytes_done < bytes_total)
        draw(doing, started_ns, bytes_done, bytes_total);
    else
        erase();
}

void progress_step(void *started_ns, uint64_t bytes_done, uint64_t bytes_total)
{
    progress_bar("loading", *(const uint64_t *)started_ns, bytes_done, bytes_total);
}

void progress_show(const struct replicas *r)
{
    const struct timespec pause = { .tv_nsec = 100000000 };
    struct engine_status s;
    int drawn = 0;

    if (!isatty(STDERR_FILENO))
        return;
    for (replicas_status(r, &s); s.state == ENGINE_LOADING; replicas_status(r, &s)) {
        nanosleep(&pause, NULL);
        draw("loading", s.load_started_ns, s.load_bytes_done, s.load_bytes_total);
        drawn = 1;
    }
    if (drawn)
        erase();
}
