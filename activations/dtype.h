/* dtype.h — the number types of rows in a file, and arrays of them to and from float32 on all threads of a ctx.
 *
 *   float16   IEEE half           bfloat16  the upper half of a float32           float32
 *
 * Rounding is to nearest even, as core/half.h says. How to add one: a row in dtype.c and a value here.
 */
#ifndef ACTIVATIONS_DTYPE_H
#define ACTIVATIONS_DTYPE_H

#include "core/ctx.h"

#include <stddef.h>
#include <stdint.h>

typedef enum store_dtype { STORE_F16, STORE_BF16, STORE_F32, STORE_DTYPES } store_dtype;

typedef struct dtype {
    const char *name;
    store_dtype id;
    size_t bytes;
    float max;         /* a larger magnitude becomes infinite */
    uint32_t exponent; /* bits of the exponent: all set in what is infinite or not a number */
} dtype;

const dtype *dtype_of(store_dtype id);
const dtype *dtype_named(const char *name, err *e); /* NULL and ERR_FORMAT with the names there are */

/* y [n, d] = rows picks[0 .. n) of x (rows 0 .. n when picks is NULL) */
void dtype_to_f32(const ctx *c, const dtype *t, const void *x /* [.., d] */, const uint64_t *picks, int64_t n, int64_t d,
                  float *y);
void dtype_from_f32(const ctx *c, const dtype *t, const float *x /* [n, d] */, int64_t n, int64_t d, void *y);

/* The first of n rows that holds something infinite or not a number, or -1. */
int64_t dtype_find_not_finite(const ctx *c, const dtype *t, const void *x /* [n, d] */, int64_t n, int64_t d);

#endif
