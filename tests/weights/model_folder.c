#include "tests/weights/model_folder.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void die(const char *what, const char *path)
{
    fprintf(stderr, "cannot %s %s\n", what, path);
    exit(1);
}

static const char *path_of(const char *folder, const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

const char *folder_make(void)
{
    static char folder[64];

    strcpy(folder, "/tmp/fourway-folder-XXXXXX");
    if (!mkdtemp(folder))
        die("make", folder);
    return folder;
}

void folder_remove(const char *folder)
{
    DIR *d = opendir(folder);

    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            unlink(path_of(folder, e->d_name));
    if (d)
        closedir(d);
    rmdir(folder);
}

void folder_put(const char *folder, const char *name, const void *bytes, size_t n)
{
    const char *path = path_of(folder, name);
    FILE *f = fopen(path, "w");

    if (!f || (n && fwrite(bytes, n, 1, f) != 1) || fclose(f))
        die("write", path);
}

void folder_put_text(const char *folder, const char *name, const char *text)
{
    folder_put(folder, name, text, strlen(text));
}

void folder_link(const char *folder, const char *name, const char *target)
{
    char *full = realpath(target, NULL);

    if (!full || symlink(full, path_of(folder, name)))
        die("link", target);
    free(full);
}

void folder_drop(const char *folder, const char *name)
{
    unlink(path_of(folder, name));
}

void folder_put_safetensors(const char *folder, const char *name, const char *json, const void *data, size_t n)
{
    const uint64_t length = strlen(json);
    char *bytes = malloc(8 + length + n);

    if (!bytes)
        die("make", name);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, json, length);
    if (n)
        memcpy(bytes + 8 + length, data, n);
    folder_put(folder, name, bytes, 8 + length + n);
    free(bytes);
}
