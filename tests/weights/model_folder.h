/*
 * model_folder.h - temporary folders of a few small files, for tests of model files, right ones and wrong ones.
 */
#ifndef FOURWAY_TESTS_WEIGHTS_MODEL_FOLDER_H
#define FOURWAY_TESTS_WEIGHTS_MODEL_FOLDER_H

#include <stddef.h>

/* A new empty folder; static until the next call. folder_remove() deletes it with its files. */
const char *folder_make(void);
void folder_remove(const char *folder);

void folder_put(const char *folder, const char *name, const void *bytes, size_t n);
void folder_put_text(const char *folder, const char *name, const char *text);
/* A link to a file of the repository, of which the test's working directory is the root. */
void folder_link(const char *folder, const char *name, const char *target);
void folder_drop(const char *folder, const char *name);

/* A safetensors file: its header's JSON, then data[n]. */
void folder_put_safetensors(const char *folder, const char *name, const char *json, const void *data, size_t n);

#endif
