/* recorded.h — activations that another program recorded (a safetensors file), and our own collected through hooks. */
#ifndef TESTS_SUPPORT_RECORDED_H
#define TESTS_SUPPORT_RECORDED_H

#include "formats/weights.h"
#include "model/model.h"

typedef struct recorded {
    weights *w;
} recorded;

recorded recorded_open(const char *fixture); /* below tests/golden */
void recorded_close(recorded *r);

bool recorded_has(const recorded *r, const char *name);
const float *recorded_floats(const recorded *r, const char *name, int64_t *count); /* count may be NULL */
int64_t *recorded_ints(const recorded *r, const char *name, int64_t *count);       /* owned by the caller */

/* Rows that a hook saw, one after the other. */
typedef struct collected {
    hook_point at;
    float *x; /* [n, d_model] owned, NULL until the hook was called */
    int64_t n, d;
    int calls;
} collected;

model_hook collect_hook(collected *c);
void collected_release(collected *c);

/* A batch of whole sequences, or of pieces of them. */
typedef struct test_batch {
    model_batch b;
    uint32_t *tokens;
    int32_t *seq, *pos;
} test_batch;

void test_batch_add(test_batch *t, int32_t seq, int64_t first, const int64_t *ids, int64_t n);
void test_batch_release(test_batch *t);

#endif
