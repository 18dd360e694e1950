/*
 * reduce.h - the one order in which 16 partial sums become a sum.
 *
 * Element i of a row goes into partial sum i mod 16, the lane it has in the widest vector; then the halves are added,
 * 16 to 8 to 4 to 2 to 1. Narrower levels keep the 16 sums in several registers and so add in the same order.
 */
#ifndef FOURWAY_KERNELS_SCALAR_REDUCE_H
#define FOURWAY_KERNELS_SCALAR_REDUCE_H

static inline float reduce_sum(float partial[16])
{
    for (unsigned n = 8; n > 0; n /= 2)
        for (unsigned i = 0; i < n; i++)
            partial[i] += partial[i + n];
    return partial[0];
}

#endif
