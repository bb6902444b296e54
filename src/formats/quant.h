/* quant.h — the storage types of weights: ggml's block formats and the plain floats, as one table.
 *
 * A tensor's row is a whole number of blocks; a block of block_size values takes block_bytes bytes. Dequantising is exact
 * (bit for bit what ggml's own C functions give). Layouts: ggml-common.h and ggml-quants.c of the ggml project.
 */
#ifndef FORMATS_QUANT_H
#define FORMATS_QUANT_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct quant_type {
    uint32_t ggml_id;   /* the number in a GGUF file */
    const char *name;   /* "Q4_1" */
    int64_t block_size; /* values in a block */
    size_t block_bytes;
    void (*dequantize)(const void *blocks, int64_t n /* multiple of block_size */, float *out /* [n] */);
} quant_type;

/* How to add one: write its dequantize function in quant.c and add a row to the table there. */
extern const quant_type quant_types[];
extern const int n_quant_types;

const quant_type *quant_by_id(uint32_t ggml_id);    /* NULL when unknown */
const quant_type *quant_by_name(const char *name);  /* NULL when unknown; names compare without case */

/* Bytes of n values; false if n is no multiple of the block or the size overflows. */
bool quant_bytes(const quant_type *t, int64_t n, size_t *bytes);

#endif
