#include "server/pooling.h"

#include <math.h>

void pooling_add(double *sum, const float *hidden, size_t d)
{
    for (size_t i = 0; i < d; i++)
        sum[i] += (double)hidden[i];
}

bool pooling_finish(float *out, const double *sum, size_t d)
{
    double squares = 0;         /* floats' squares are far from the limits of a double */

    for (size_t i = 0; i < d; i++)
        squares += sum[i] * sum[i];
    const double length = sqrt(squares);
    if (!isfinite(length))
        return false;
    for (size_t i = 0; i < d; i++)
        out[i] = length > 0 ? (float)(sum[i] / length) : 0;
    return true;
}
