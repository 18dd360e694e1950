/*
 * fuzz_regex.c - a regular expression to a grammar, and a text through it.
 */
#include "server/regex.h"
#include "tests/fuzz/fuzz_pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pattern(regex_compile, data, size);
    return 0;
}
