/* large_model.h — a GGUF file with a LLaMA of any shape: random weights in blocks, a tokenizer of single bytes. */
#ifndef TESTS_SUPPORT_LARGE_MODEL_H
#define TESTS_SUPPORT_LARGE_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct model_shape {
    int64_t n_layers, d_model, n_heads, d_ff, n_vocab, n_ctx; /* d_model and d_ff multiples of a block */
    const char *type;                                         /* Q4_0 when NULL; Q4_1, Q5_0, Q5_1, Q8_0, Q2_K .. Q6_K */
} model_shape;

/* False when the file cannot be written. */
bool write_large_model(const char *path, const model_shape *s);

/* The most memory that this process has had resident so far. */
int64_t peak_resident_bytes(void);

#endif
