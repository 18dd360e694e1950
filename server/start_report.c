#include "server/start_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "numa/findings.h"
#include "numa/settings.h"

static double share(uint64_t part, uint64_t whole)
{
    return whole ? 100 * (double)part / (double)whole : 100;
}

void start_report_placement(const struct model *m)
{
    enum { LEAST_LOCAL = 99 };
    struct model_placement p;

    if (model_placement(m, false, &p)) {
        log_warn("the kernel does not say where the pages are (move_pages): placement is not verified");
        return;
    }
    const double weights = share(p.weight_local, p.weight_pages), kv = share(p.kv_local, p.kv_pages);
    log_info("placement: weights %.1f %% local, KV %.1f %%, huge pages %.0f %%", weights, kv, share(p.huge_bytes, p.bytes));
    if (weights < LEAST_LOCAL || kv < LEAST_LOCAL)
        log_warn("memory lies on the wrong node: look for other processes that fill the nodes (numastat), then restart");
}

/* What may be over in a minute; and what the engine, which has loaded by now, has itself changed: unlike parts of the nodes are in use. */
static bool is_not_lasting(const struct finding *x)
{
    return !strcmp(x->name, "other load") || !strcmp(x->name, "free memory");
}

/* With the first of the commands that mend it; doctor shows all. */
static void warn(const struct finding *x)
{
    const int n = (int)strcspn(x->fix, "\n");
    char cost[64] = "";

    if (x->cost_percent > 0)
        snprintf(cost, sizeof(cost), ": costs about %.0f %% of the speed", x->cost_percent);
    log_warn("%s: %s%s%s%.*s (fourway doctor has all of it)", x->name, x->what, cost, n ? "; mend it: " : "", n, x->fix);
}

void start_report_settings(void)
{
    struct findings *f = calloc(1, sizeof(*f));
    struct settings *settings = calloc(1, sizeof(*settings));
    struct topology t = { 0 };

    if (f && settings && !topology_read(&t, "")) {
        settings_read(settings, &t, "");
        findings_judge(f, &t, settings);
        for (size_t i = 0; i < f->n; i++) {
            const struct finding *x = &f->items[i];
            if (x->level == FINDING_OK || is_not_lasting(x))
                continue;
            warn(x);
        }
    }
    topology_free(&t);
    free(settings);
    free(f);
}
