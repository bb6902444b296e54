#include "support/store_fixture.h"

#include "support/test.h"

#include "core/mem.h"

static void add_document(store_fixture *f, int64_t doc, int64_t n) {
    char source[64];
    token_corpus *k = &f->k;
    int64_t text = doc - doc / 4; /* documents 3, 7, .. are second windows */
    snprintf(source, sizeof source, doc % 4 == 3 ? "poets.jsonl:%lld#1" : "poets.jsonl:%lld",
             (long long)(doc % 4 == 3 ? text : text + 1));
    k->tokens = realloc(k->tokens, (size_t)(k->n_tokens + n) * sizeof *k->tokens);
    k->doc_offsets = realloc(k->doc_offsets, (size_t)(doc + 2) * sizeof *k->doc_offsets);
    k->doc_source = realloc(k->doc_source, (size_t)(doc + 1) * sizeof *k->doc_source);
    f->row_token = realloc(f->row_token, (size_t)(f->n_rows + n) * sizeof *f->row_token);
    if (!k->tokens || !k->doc_offsets || !k->doc_source || !f->row_token) fail_msg("no memory for a corpus");
    k->doc_source[doc] = strdup(source);
    k->doc_offsets[doc] = (uint64_t)k->n_tokens;
    for (int64_t i = 0; i < n; i++) {
        if (i) f->row_token[f->n_rows++] = (uint64_t)k->n_tokens;
        k->tokens[k->n_tokens++] = (uint32_t)((doc * 31 + i * 7) % tokenizer_size(f->t));
    }
    k->doc_offsets[doc + 1] = (uint64_t)k->n_tokens;
    k->n_docs = doc + 1;
}

void store_fixture_init(store_fixture *f, int64_t n_rows) {
    static const char *const names[] = {"blocks.1.hook_resid_pre", "blocks.10.hook_mlp_out", "blocks.2.hook_resid_post"};
    err e;
    *f = (store_fixture){0};
    char *path = test_fixture("models/llama/model.gguf");
    assert_ok(weights_open(path, &f->w, &e), &e);
    assert_ok(tokenizer_open(f->w, &f->t, &e), &e);
    free(path);
    for (int64_t doc = 0; f->n_rows < n_rows; doc++) {
        int64_t n = 2 + doc % 10, left = n_rows - f->n_rows;
        add_document(f, doc, n - 1 > left ? left + 1 : n);
    }
    f->k.hash = 0x123456789abcdef0u;
    f->info = (store_info){.model_name = "a model",
                           .model_path = "/models/a.gguf",
                           .model_sha256 = "aa",
                           .architecture = "llama",
                           .tokenizer_sha256 = "bb",
                           .tool_version = "0",
                           .command = "sae capture 'Li Bai'",
                           .context = 11,
                           .skip_first = 1,
                           .n_hooks = STORE_DTYPES};
    for (int i = 0; i < STORE_DTYPES; i++) {
        store_hook *h = &f->info.hooks[i];
        *h = (store_hook){.layer = 1 + i, .d_model = 10 + i, .dtype = (store_dtype)i};
        snprintf(h->name, sizeof h->name, "%s", names[i]);
    }
}

void store_fixture_release(store_fixture *f) {
    corpus_release(&f->k);
    free(f->row_token);
    tokenizer_close(f->t);
    weights_close(f->w);
}

float store_fixture_value(int hook, int64_t r, int64_t j) { return (float)((r * 7 + j * 13 + hook * 3) % 255 - 127) / 16; }

void store_fixture_rows(const store_fixture *f, int hook, int64_t first, int64_t n, float *x) {
    int64_t d = f->info.hooks[hook].d_model;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) x[i * d + j] = store_fixture_value(hook, first + i, j);
}

void store_fixture_write(const store_fixture *f, const char *path) {
    ctx c = test_ctx(1);
    store *s;
    err e;
    int64_t widest = 0;
    for (int i = 0; i < f->info.n_hooks; i++) widest = f->info.hooks[i].d_model > widest ? f->info.hooks[i].d_model : widest;
    float *x = malloc((size_t)(STORE_CHUNK_ROWS * widest) * sizeof *x);
    assert_ok(store_create(path, &f->info, &f->k, f->row_token, f->n_rows, f->t, &s, &e), &e);
    for (int i = 0; i < f->info.n_hooks; i++) {
        for (int64_t j = 0; j * STORE_CHUNK_ROWS < f->n_rows; j++) {
            int64_t first = j * STORE_CHUNK_ROWS, left = f->n_rows - first;
            if (store_chunk_done(s, i, j)) continue;
            store_fixture_rows(f, i, first, left < STORE_CHUNK_ROWS ? left : STORE_CHUNK_ROWS, x);
            assert_ok(store_write_chunk(s, &c, i, j, x, &e), &e);
        }
        assert_ok(store_finish_hook(s, &c, i, &e), &e);
    }
    store_close(s);
    free(x);
}
