/*
 * quantized_folder.h - temporary folders of one layer with quantized matrices, for tests; tensors are put in one by one.
 */
#ifndef FOURWAY_TESTS_WEIGHTS_QUANTIZED_FOLDER_H
#define FOURWAY_TESTS_WEIGHTS_QUANTIZED_FOLDER_H

#include <stddef.h>
#include <stdint.h>

#include "weights/gguf.h"

struct quantized_folder {
    char header[32 << 10];          /* JSON, without the last bracket */
    unsigned char *data;
    size_t n;
};

/* Zeroed memory is an empty folder. The tensor `name` of MATRIX: bytes[n], of this type and shape ("4,2"). */
void quantized_put(struct quantized_folder *f, const char *matrix, const char *name, const char *type, const char *shape, const void *bytes,
                   size_t n);

/* Write it, with config.json of a model_type and its quantization_config (JSON), and forget the tensors. The path is static. */
const char *quantized_write(struct quantized_folder *f, const char *model_type, const char *quantization);

#endif
