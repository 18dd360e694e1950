#include "server/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

enum { WIDTH = 40 };

static void draw(const struct engine_status *s)
{
    double share = s->load_bytes_total ? (double)s->load_bytes_done / (double)s->load_bytes_total : 0;
    double seconds = (double)(clock_now_ns() - s->load_started_ns) / 1e9;
    char bar[WIDTH + 1];

    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < (int)(share * WIDTH) ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\rloading [%s] %3.0f %%  %.1f/%.1f GB  %.1f GB/s ", bar, 100 * share, (double)s->load_bytes_done / 1e9,
            (double)s->load_bytes_total / 1e9, seconds > 0 ? (double)s->load_bytes_done / 1e9 / seconds : 0);
}

void progress_show(const struct engine *e)
{
    const struct timespec pause = { .tv_nsec = 100000000 };
    struct engine_status s;
    int drawn = 0;

    if (!isatty(STDERR_FILENO))
        return;
    for (engine_status(e, &s); s.state == ENGINE_LOADING; engine_status(e, &s)) {
        nanosleep(&pause, NULL);
        draw(&s);
        drawn = 1;
    }
    if (drawn)
        fputs("\r\x1b[K", stderr);
}
