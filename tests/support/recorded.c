#include "support/recorded.h"
#include "support/test.h"

recorded recorded_open(const char *fixture) {
    recorded r;
    err e = {0};
    char *path = test_fixture(fixture);
    assert_ok(weights_open(path, &r.w, &e), &e);
    free(path);
    return r;
}

void recorded_close(recorded *r) { weights_close(r->w); }

bool recorded_has(const recorded *r, const char *name) { return weights_find(r->w, name); }

static const tensor_view *find(const recorded *r, const char *name, const char *type, int64_t *count) {
    const tensor_view *t = weights_find(r->w, name);
    if (!t || strcmp(t->type->name, type)) fail_msg("the recording has no %s of type %s", name, type);
    if (count) *count = tensor_count(t);
    return t;
}

const float *recorded_floats(const recorded *r, const char *name, int64_t *count) {
    return find(r, name, "F32", count)->data;
}

int64_t *recorded_ints(const recorded *r, const char *name, int64_t *count) {
    const tensor_view *t = find(r, name, "I64", count);
    int64_t *out = malloc(t->size + 1);
    memcpy(out, t->data, t->size);
    return out;
}

static err_code collect(void *user, const ctx *c, const hook_rows *rows, err *e) {
    collected *to = user;
    size_t row = (size_t)rows->d_model * sizeof(float);
    (void)c, (void)e;
    to->x = realloc(to->x, (size_t)(to->n + rows->n_tokens) * row);
    memcpy(to->x + to->n * rows->d_model, rows->x, (size_t)rows->n_tokens * row);
    to->n += rows->n_tokens;
    to->d = rows->d_model;
    to->calls++;
    return ERR_OK;
}

model_hook collect_hook(collected *c) { return (model_hook){.at = c->at, .fn = collect, .user = c}; }
void collected_release(collected *c) { free(c->x); }

void test_batch_add(test_batch *t, int32_t seq, int64_t first, const int64_t *ids, int64_t n) {
    size_t total = (size_t)(t->b.n_tokens + n);
    t->tokens = realloc(t->tokens, total * sizeof *t->tokens);
    t->seq = realloc(t->seq, total * sizeof *t->seq);
    t->pos = realloc(t->pos, total * sizeof *t->pos);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = t->b.n_tokens + i;
        t->tokens[at] = (uint32_t)ids[first + i], t->seq[at] = seq, t->pos[at] = (int32_t)(first + i);
    }
    t->b = (model_batch){.n_tokens = (int64_t)total, .tokens = t->tokens, .seq = t->seq, .pos = t->pos};
}

void test_batch_release(test_batch *t) { free(t->tokens), free(t->seq), free(t->pos); }
