/*
 * cmd_doctor.c - `fourway doctor [MODEL]`: what of this machine costs speed, and how to mend it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "server/commands.h"
#include "server/doctor.h"
#include "server/options.h"

static bool any_fail(const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        if (f->items[i].level == FINDING_FAIL)
            return true;
    }
    return false;
}

static bool has_machine(const char *root)
{
    char path[4096];
    const int n = snprintf(path, sizeof(path), "%s/sys/devices/system/cpu/online", root);

    if (!*root || (n < (int)sizeof(path) && !access(path, R_OK)))
        return true;
    log_error("--root %.200s: no machine is recorded there (no sys/devices/system/cpu/online below it): see 'fourway doctor --help'", root);
    return false;
}

/* `path` of a model, or NULL. Returns the exit status. */
static int examine(struct doctor *d, const char *path, bool measure, bool json)
{
    if (!has_machine(d->root))
        return 1;
    int err = topology_read(&d->topology, d->root);
    if (err)
        return 1;
    settings_read(&d->settings, &d->topology, d->root);
    doctor_read_levels(d);
    findings_judge(&d->findings, &d->topology, &d->settings);
    if (measure && !*d->root)
        doctor_measure_reads(d);
    doctor_judge_dimms(d);
    if (path && doctor_weigh_model(d, path))
        return 1;
    err = (json ? doctor_print_json : doctor_print_text)(d);
    if (err)
        log_error("cannot print what was found: %s", strerror(-err));
    return err || any_fail(&d->findings);
}

int cmd_doctor(int argc, char **argv)
{
    struct doctor d = { .root = "" };
    bool json = false, no_measure = false;
    const struct option options[] = {
        { .name = "root", .type = OPTION_STRING, .out = &d.root, .metavar = "DIR",
          .help = "examine the machine whose sys and proc lie in this folder, as far as they tell (default: this one)" },
        { .name = "no-measure", .type = OPTION_FLAG, .out = &no_measure, .help = "do not measure what the memory gives (a second or two)" },
        { .name = "json", .type = OPTION_FLAG, .out = &json, .help = "one JSON object on stdout" },
    };
    const struct command command = {
        .name = "doctor", .usage = "doctor [MODEL] [options]",
        .summary = "What of this machine costs speed, how much about, and the commands that mend it; with MODEL, whether it fits. "
                   "Exit status 1 if something costs more than 20 %.",
        .options = options, .n_options = sizeof(options) / sizeof(options[0]), .max_args = 1,
        .epilogue = "To record a machine for --root:\n"
                    "  mkdir DIR; cp -r --parents /sys/devices/system/{node,cpu} /sys/kernel/mm /sys/fs/cgroup\n"
                    "  /sys/firmware/dmi/tables /proc/{cpuinfo,meminfo,loadavg,sys/vm,sys/kernel} /proc/self/{status,cgroup} DIR 2>/dev/null",
    };
    const char *model = NULL;
    char path[4096];
    size_t n_args;
    int status = options_parse(&command, argc, argv, &model, &n_args);

    if (status >= 0)
        return status;
    status = n_args ? model_resolve(model, path, sizeof(path)) : 0;
    if (!status)
        status = examine(&d, n_args ? path : NULL, !no_measure, json);
    topology_free(&d.topology);
    return status;
}
