/* read_weights.h — what every fuzz target of a model file does with it: open it as `name`, and use all that is handed out. */
#ifndef TESTS_FUZZ_READ_WEIGHTS_H
#define TESTS_FUZZ_READ_WEIGHTS_H

#include "formats/weights_internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned read_bytes(const void *bytes, size_t n) {
    const uint8_t *b = bytes;
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) sum += b[i];
    return sum;
}

static unsigned read_meta(const meta_value *v) {
    unsigned sum = 0;
    if (v->kind == META_STRING) sum += read_bytes(v->string.bytes, v->string.len);
    for (int64_t i = 0; v->kind == META_ARRAY && i < v->array.count; i++) sum += read_meta(&v->array.items[i]);
    return sum;
}

static unsigned read_tensor_values(const tensor_view *t) {
    enum { VALUES_MAX = 4096 };
    float out[VALUES_MAX];
    unsigned sum = read_bytes(t->data, t->size);
    int64_t n = tensor_count(t), most = n < VALUES_MAX ? n : VALUES_MAX;
    t->type->dequantize(t->data, most - most % t->type->block_size, out);
    return sum + read_bytes(out, sizeof(float) * (size_t)(most - most % t->type->block_size));
}

static void read_everything(const weights *w) {
    volatile unsigned sum = 0;
    for (int64_t i = 0; i < weights_meta_count(w); i++) sum += read_meta(weights_meta_at(w, i));
    for (int64_t i = 0; i < weights_tensor_count(w); i++) {
        const tensor_view *t = weights_tensor_at(w, i);
        if (weights_find(w, t->name) != t) abort();
        sum += read_tensor_values(t);
    }
    (void)sum; /* reading is the test */
}

static inline int read_all_weights(const char *name, const uint8_t *data, size_t size) {
    err e = {0};
    weights *w;
    if (weights_open_bytes(name, data, size, &w, &e)) {
        if (!e.message[0] || strncmp(e.message, name, strlen(name)) != 0) abort(); /* every refusal is a sentence */
        return 0;
    }
    read_everything(w);
    weights_close(w);
    return 0;
}

#endif
