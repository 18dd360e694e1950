/*
 * pooling.h - from the hidden states of a prompt to one vector of unit length.
 *
 * One fixed order, so that an embedding's bits depend on its prompt alone: each dim is summed in double by ascending position, however the
 * prompt was cut into steps, and the squares of all dims by ascending dim. A mean is not divided by the number of positions, which
 * the unit length takes away again. The states of other poolings are a sum of one.
 */
#ifndef FOURWAY_SERVER_POOLING_H
#define FOURWAY_SERVER_POOLING_H

#include <stdbool.h>
#include <stddef.h>

/* sum[d] += hidden[d] */
void pooling_add(double *sum, const float *hidden, size_t d);

/* out[d] = sum / |sum|, zeros for zeros. False: it has NaN or infinity. */
bool pooling_finish(float *out, const double *sum, size_t d);

#endif
