/*
 * fuzz.h - what the fuzz targets share.
 */
#ifndef FOURWAY_TESTS_FUZZ_FUZZ_H
#define FOURWAY_TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The target: libFuzzer calls it with each input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding, unless the condition holds. */
static inline void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz: %s\n", what);
        abort();
    }
}

#endif
