/* quantize.h — float32 to the storage types that models are written in: F32, F16, BF16, Q8_0, Q4_0, Q4_1, TQ2_0.
 *
 * Bit for bit what ggml's reference functions give (quantize_row_*_ref of ggml-quants.c), for finite values: the scale is
 * computed in float32, values are divided by it before it is rounded to float16.
 */
#ifndef FORMATS_QUANTIZE_H
#define FORMATS_QUANTIZE_H

#include "formats/quant.h"

typedef void (*quantize_fn)(const float *x, int64_t n /* multiple of the block */, void *blocks);

/* NULL: none is known. */
quantize_fn quantizer_of(const quant_type *t);

/* "F32, F16, .." */
enum { QUANTIZABLE_TEXT = 64 };
const char *quantizable_types(char out[QUANTIZABLE_TEXT]);

#endif
