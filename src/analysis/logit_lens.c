#include "analysis/logit_lens.h"

#include "core/mem.h"
#include "math/blas.h"

#include <math.h>
#include <stdlib.h>

enum { VOCAB_TILE = 2048, ROW_TILE = 512 };

typedef struct lens_state { /* of one direction, while the vocabulary streams by */
    double sum, squares;
    int n_promoted, n_suppressed;
} lens_state;

static void take_logits(lens_state *s, const float *logits, int64_t n, int64_t first_token, top_entry *promoted,
                        top_entry *suppressed, int top) {
    for (int64_t v = 0; v < n; v++) {
        double x = logits[v];
        s->sum += x;
        s->squares += x * x;
        if (s->n_promoted < top || x > promoted[top - 1].score)
            top_keep(promoted, &s->n_promoted, top, (top_entry){(int32_t)(first_token + v), x});
        if (s->n_suppressed < top || -x > suppressed[top - 1].score)
            top_keep(suppressed, &s->n_suppressed, top, (top_entry){(int32_t)(first_token + v), -x});
    }
}

static void finish(const lens_state *s, top_entry *promoted, top_entry *suppressed, int top, int64_t n_vocab, bool raw) {
    double mean = s->sum / (double)n_vocab, variance = s->squares / (double)n_vocab - mean * mean;
    double sd = variance > 0 ? sqrt(variance) : 1;
    if (raw) mean = 0, sd = 1;
    for (int i = 0; i < top; i++) {
        promoted[i].score = (promoted[i].score - mean) / sd;
        suppressed[i].score = (-suppressed[i].score - mean) / sd;
    }
}

err_code logit_lens(const ctx *c, const model *m, const float *directions, int64_t n, int top, bool raw, lens_top *out,
                    err *e) {
    const model_config *cfg = model_config_of(m);
    const float *gain = model_final_norm_gain(m);
    int64_t d = cfg->d_model, n_vocab = cfg->n_vocab;
    lens_state *states = NULL;
    float *head = NULL, *logits = NULL;
    if (top > n_vocab) top = (int)n_vocab;
    *out = (lens_top){.n = n, .top = top};
    err_code rc;
    TRY(mem_new0(&out->promoted, (size_t)n, (size_t)top * sizeof *out->promoted, "logit lens", e));
    TRY(mem_new0(&out->suppressed, (size_t)n, (size_t)top * sizeof *out->suppressed, "logit lens", e));
    TRY(mem_new0(&states, (size_t)n, sizeof *states, "logit lens", e));
    TRY(mem_new(&head, VOCAB_TILE, (size_t)d * sizeof *head, "logit lens", e));
    TRY(mem_new(&logits, ROW_TILE, VOCAB_TILE * sizeof *logits, "logit lens", e));
    for (int64_t v = 0; v < n_vocab; v += VOCAB_TILE) {
        int64_t tokens = n_vocab - v < VOCAB_TILE ? n_vocab - v : VOCAB_TILE;
        TRY(ctx_check_cancel(c, e));
        TRY(model_unembed_rows(m, v, tokens, head, e));
        for (int64_t i = 0; !raw && i < tokens * d; i++) head[i] *= gain[i % d];
        for (int64_t f = 0; f < n; f += ROW_TILE) {
            int64_t rows = n - f < ROW_TILE ? n - f : ROW_TILE;
            blas_gemm_nt(c, rows, tokens, d, directions + f * d, d, head, d, 0, logits, tokens);
#pragma omp parallel for num_threads(c->threads)
            for (int64_t i = 0; i < rows; i++)
                take_logits(&states[f + i], logits + i * tokens, tokens, v, out->promoted + (f + i) * top,
                            out->suppressed + (f + i) * top, top);
        }
    }
    for (int64_t f = 0; f < n; f++) finish(&states[f], out->promoted + f * top, out->suppressed + f * top, top, n_vocab, raw);
done:
    free(states);
    free(head);
    free(logits);
    if (rc) lens_top_release(out);
    return rc;
}

void lens_top_release(lens_top *l) {
    free(l->promoted);
    free(l->suppressed);
    *l = (lens_top){0};
}
