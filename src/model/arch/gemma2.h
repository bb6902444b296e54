/* gemma2.h — what Gemma 2 and Gemma 3 have in common: everything of Gemma 2 but soft caps and windows. */
#ifndef MODEL_ARCH_GEMMA2_H
#define MODEL_ARCH_GEMMA2_H

#include "model/arch.h"

/* The size by which GGUF files of the 27B model are known. */
typedef struct gemma_27b {
    int64_t n_layers, d_model;
} gemma_27b;

void gemma2_names(bool gguf, tensor_names *t);
err_code gemma2_read(const weights *w, const char *architecture, const gemma_27b *largest, model_spec *s, err *e);
err_code gemma2_write(const model_spec *s, int64_t period, const config_out *to, err *e);

#endif
