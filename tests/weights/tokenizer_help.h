/*
 * tokenizer_help.h - opening vocabularies in tests: of a file, or of the real models, which may be missing.
 */
#ifndef FOURWAY_TESTS_WEIGHTS_TOKENIZER_HELP_H
#define FOURWAY_TESTS_WEIGHTS_TOKENIZER_HELP_H

#include "weights/tokenizer.h"

/* NULL when the file or its vocabulary was refused. The caller closes it; the file is closed already. */
struct tokenizer *open_tokenizer(const char *path);

/* Path of a model that scripts/get-model fetches; skips the test, with a line that says so, where it is missing. */
const char *real_model(const char *file);

#endif
