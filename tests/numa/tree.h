/*
 * tree.h - for tests: the sysfs and proc of some other machine, in a temporary folder (make_topology.py says which there are).
 */
#ifndef FOURWAY_TESTS_NUMA_TREE_H
#define FOURWAY_TESTS_NUMA_TREE_H

extern char tree_root[256];
extern char tree_logged[8192];      /* all messages since the test began or cleared it, a line each */

/* Set-up and tear-down of cmocka: an empty folder, and the log goes to tree_logged. */
int tree_new(void **state);
int tree_drop(void **state);
#define WITH_TREE(test) cmocka_unit_test_setup_teardown(test, tree_new, tree_drop)

/* Add the files of a machine; replace or add one file; which CPUs and nodes of memory the process may use. */
void tree_make(const char *machine);
void tree_put(const char *path, const char *text);
void tree_allow(const char *cpus, const char *mems);

#endif
