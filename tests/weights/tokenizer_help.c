#include "tests/weights/tokenizer_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "weights/gguf.h"

struct tokenizer *open_tokenizer(const char *path)
{
    struct tokenizer *t = NULL;
    struct gguf *g;

    if (gguf_open(&g, path))
        return NULL;
    tokenizer_open_gguf(&t, g);
    gguf_close(g);          /* a tokenizer keeps nothing of the file */
    return t;
}

const char *real_model(const char *file)
{
    const char *models = getenv("FOURWAY_MODELS"), *home = getenv("HOME");
    static char path[512];

    if (models)
        snprintf(path, sizeof(path), "%s/%s", models, file);
    else
        snprintf(path, sizeof(path), "%s/.cache/fourway/models/%s", home ? home : "", file);
    if (access(path, R_OK) < 0) {
        print_message("SKIPPED: %s is not there (scripts/get-model fetches it)\n", path);
        skip();
    }
    return path;
}
