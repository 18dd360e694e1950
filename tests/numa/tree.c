#include "tests/numa/tree.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"

char tree_root[256], tree_logged[8192];

static void keep_message(void *arg, enum log_level level, const char *message)
{
    const size_t used = strlen(tree_logged);

    (void)arg;
    (void)level;
    snprintf(tree_logged + used, sizeof(tree_logged) - used, "%s\n", message);
}

static int remove_entry(const char *path, const struct stat *s, int kind, struct FTW *ftw)
{
    (void)s;
    (void)kind;
    (void)ftw;
    return remove(path);
}

int tree_new(void **state)
{
    /* tens of thousands of small files: a minute's work for a busy disk, a second's in memory */
    const char *folder = access("/dev/shm", W_OK) ? getenv("TMPDIR") : "/dev/shm";

    (void)state;
    snprintf(tree_root, sizeof(tree_root), "%s/fourway-tree.XXXXXX", folder ? folder : P_tmpdir);
    tree_logged[0] = '\0';
    log_set_sink(keep_message, NULL);
    return mkdtemp(tree_root) ? 0 : -1;
}

int tree_drop(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    return nftw(tree_root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void tree_make(const char *machine)
{
    char command[sizeof(tree_root) + 128];

    snprintf(command, sizeof(command), "python3 tests/numa/make_topology.py %s %s", machine, tree_root);
    assert_int_equal(system(command), 0);
}

void tree_put(const char *path, const char *text)
{
    char full[sizeof(tree_root) + 256];

    snprintf(full, sizeof(full), "%s/%s", tree_root, path);
    for (char *slash = strchr(full + strlen(tree_root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    unlink(full);   /* it may be a link to the text of many files */
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

void tree_allow(const char *cpus, const char *mems)
{
    char text[256];

    snprintf(text, sizeof(text), "Name:\tfourway\nCpus_allowed:\tff\nCpus_allowed_list:\t%s\nMems_allowed_list:\t%s\nthreads:\t1\n",
             cpus, mems);
    tree_put("proc/self/status", text);
}
