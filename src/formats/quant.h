/* quant.h — the storage types of weights: ggml's block formats and the plain numbers, as one table.
 *
 * A tensor's row is a whole number of blocks; a block of block_size values takes block_bytes bytes. Dequantising is exact
 * (bit for bit what ggml's own C functions give; integers and float64 round to the nearest float32). Blocks may stand at any
 * address. Layouts: ggml-common.h and ggml-quants.c of the ggml project; little endian.
 */
#ifndef FORMATS_QUANT_H
#define FORMATS_QUANT_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUANT_NO_ID UINT32_MAX /* a type that GGUF files do not have */

typedef struct quant_type {
    const char *name;   /* "Q4_1" */
    uint32_t ggml_id;   /* the number in a GGUF file, or QUANT_NO_ID */
    int64_t block_size; /* values in a block */
    size_t block_bytes;
    void (*dequantize)(const void *blocks, int64_t n /* multiple of block_size */, float *out /* [n], no overlap */);
} quant_type;

/* A block, of 256 values at most, as whole numbers: value 16 g + j is scale[g] q[16 g + j] + offset[g], where scale q has no more digits
 * than a float. */
typedef struct quant_whole {
    float scale[16], offset[16];
    int8_t q[256];
} quant_whole;

typedef void quant_whole_reader(const void *block, quant_whole *out);
quant_whole_reader *quant_whole_of(const quant_type *t); /* Q5_0, Q5_1, Q2_K to Q6_K; NULL for others */

extern const quant_type quant_types[];
extern const int n_quant_types;

const quant_type *quant_by_id(uint32_t ggml_id);   /* NULL when unknown */
const quant_type *quant_by_name(const char *name); /* NULL when unknown; names compare without case */

/* Bytes of n values; false if n is no multiple of the block or the size overflows. */
bool quant_bytes(const quant_type *t, int64_t n, size_t *bytes);

#endif
