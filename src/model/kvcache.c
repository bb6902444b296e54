#include "model/model_internal.h"

#include <stdlib.h>

err_code kvcache_new(const model *m, int64_t n_seqs, int64_t n_positions, kvcache **out, err *e) {
    kvcache *kv = NULL;
    size_t heads, keys = 0, values = 0;
    err_code rc = ERR_OK;
    *out = NULL;
    TRY(mem_new0(&kv, 1, sizeof *kv, "key-value cache", e));
    kv->shape = attention_shape_of(m);
    kv->n_layers = m->spec.cfg.n_layers;
    kv->n_seqs = n_seqs;
    kv->n_positions = n_positions;
    if (!attention_key_size(m->cpu, n_positions, kv->shape.d_head, &kv->key_size) ||
        !attention_value_size(m->cpu, n_positions, kv->shape.d_head, &kv->value_size) ||
        !mem_mul((size_t)(kv->n_layers * kv->shape.n_kv_heads), (size_t)n_seqs, &heads) ||
        !mem_mul(heads, kv->key_size, &keys) || !mem_mul(heads, kv->value_size, &values))
        TRY(err_set(e, ERR_NOMEM, "a cache of %lld sequences of %lld positions does not fit into memory", (long long)n_seqs,
                    (long long)n_positions));
    TRY(mem_new0(&kv->filled, (size_t)n_seqs, sizeof *kv->filled, "key-value cache", e));
    TRY(mem_new0(&kv->next, (size_t)n_seqs, sizeof *kv->next, "key-value cache", e));
    TRY(mem_new(&kv->keys, keys, sizeof *kv->keys, "key-value cache", e));
    TRY(mem_new(&kv->values, values, sizeof *kv->values, "key-value cache", e));
    *out = kv;
    kv = NULL;
done:
    kvcache_free(kv);
    return rc;
}

void kvcache_free(kvcache *kv) {
    if (!kv) return;
    free(kv->filled), free(kv->next), free(kv->keys), free(kv->values), free(kv);
}

void kvcache_truncate(kvcache *kv, int32_t seq, int64_t n) {
    if (n < kv->filled[seq]) kv->filled[seq] = n;
}
