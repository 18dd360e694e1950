/*
 * fuzz_ebnf.c - rules to a grammar, and a text through it.
 */
#include "server/ebnf.h"
#include "tests/fuzz/fuzz_pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pattern(ebnf_compile, data, size);
    return 0;
}
