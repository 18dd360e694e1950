/*
 * findings.h - what is wrong with a machine for reading much memory on several nodes, what it costs, and the command that mends it.
 *
 * A cost is an estimate: the share of the speed that this machine would have without the fault, in percent, of decode or of prefill,
 * whichever loses more. Where each comes from stands beside it in findings.c.
 */
#ifndef FOURWAY_NUMA_FINDINGS_H
#define FOURWAY_NUMA_FINDINGS_H

#include "numa/settings.h"
#include "numa/topology.h"

enum finding_level { FINDING_OK, FINDING_WARN, FINDING_FAIL };
enum { FINDINGS_MAX = 32, FINDING_FAIL_PERCENT = 20 };      /* more is a FAIL */

struct finding {
    enum finding_level level;
    const char *name;           /* static; one word of what was looked at, "numa_balancing" */
    double cost_percent;        /* 0: none, or it costs no speed */
    char what[256];             /* what was found, with the numbers */
    char fix[512];              /* commands, a line each; "" where there is nothing to do or no command for it */
};

struct findings {
    size_t n;
    struct finding items[FINDINGS_MAX];
};

/* One more; the level follows from the cost. The result lives as long as `f`, for finding_fix and for whoever knows the level better. */
struct finding *findings_add(struct findings *f, const char *name, double cost_percent, const char *what, ...)
    __attribute__((format(printf, 4, 5)));
void finding_fix(struct finding *finding, const char *commands, ...) __attribute__((format(printf, 2, 3)));

/* Everything that topology and settings say. */
void findings_judge(struct findings *f, const struct topology *t, const struct settings *s);

#endif
