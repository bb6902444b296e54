#include "analysis/output_score.h"

#include "model/sequences.h"
#include "core/mem.h"
#include "steer/intervene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_FEATURES = 256 };

static const char *const neutral_prompt = "From my experience,"; /* the paper's */

typedef struct batch {
    sequences s;
    int64_t features[BATCH_FEATURES];
    intervention clamps[BATCH_FEATURES];
    intervention_list lists[BATCH_FEATURES];
    float *hidden; /* [tokens, d] */
    float *last;   /* [BATCH_FEATURES, d] rows behind the prompt */
    float *logits; /* [BATCH_FEATURES, n_vocab] */
} batch;

/* Probability and rank of the likeliest of the tokens. */
static double score(const float *logits, int64_t n_vocab, const top_entry *tokens, int n) {
    float best = -INFINITY, max = logits[0];
    for (int i = 0; i < n; i++) best = fmaxf(best, logits[tokens[i].key]);
    int64_t rank = 0;
    double sum = 0;
    for (int64_t v = 0; v < n_vocab; v++) {
        max = fmaxf(max, logits[v]);
        rank += logits[v] > best;
    }
    for (int64_t v = 0; v < n_vocab; v++) sum += exp((double)(logits[v] - max));
    return (1 - (double)rank / (double)n_vocab) * exp((double)(best - max)) / sum;
}

static err_code run(const ctx *c, model *m, const sae *s, hook_point at, batch *b, const lens_top *lens, double *scores,
                    err *e) {
    int64_t d = s->cfg.d_in, n_vocab = model_config_of(m)->n_vocab, n = b->s.n;
    intervene v = {
        .sae = s, .at = at, .per_seq = b->lists, .n_seqs = n, .skip_first = s->cfg.skip_first > 1 ? s->cfg.skip_first : 1};
    model_batch tokens = {b->s.n_tokens, b->s.tokens, b->s.seq, b->s.pos};
    model_hook hook;
    err_code rc;
    TRY(intervene_hook(&v, &hook, e));
    TRY(model_forward(c, m, &tokens, NULL, &hook, 1, b->hidden, e));
    for (int64_t i = 0; i < n; i++)
        memcpy(b->last + i * d, b->hidden + (b->s.start[i + 1] - 1) * d, (size_t)d * sizeof *b->last);
    TRY(model_logits(c, m, b->last, n, b->logits, e));
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++)
        scores[b->features[i]] =
            score(b->logits + i * n_vocab, n_vocab, lens->promoted + b->features[i] * lens->top, lens->top);
done:
    intervene_release(&v);
    sequences_clear(&b->s);
    return rc;
}

err_code output_scores(const ctx *c, model *m, const sae *s, hook_point at, const postings *p, const lens_top *lens,
                       double *scores, err *e) {
    const tokenize_opts plain = {.parse_special = false, .add_bos = true};
    token_ids prompt = {0};
    batch *b = NULL;
    const intervention_kind *clamp = intervention_kind_by_name("clamp", e);
    if (!clamp) return ERR_FAILED;
    err_code rc;
    TRY(mem_new0(&b, 1, sizeof *b, "output scores", e));
    TRY(tokenizer_encode(model_tokenizer(m), neutral_prompt, strlen(neutral_prompt), &plain, &prompt, e));
    TRY(mem_new(&b->hidden, BATCH_FEATURES * prompt.len, (size_t)s->cfg.d_in * sizeof *b->hidden, "output scores", e));
    TRY(mem_new(&b->last, BATCH_FEATURES, (size_t)s->cfg.d_in * sizeof *b->last, "output scores", e));
    TRY(mem_new(&b->logits, BATCH_FEATURES, (size_t)model_config_of(m)->n_vocab * sizeof *b->logits, "output scores", e));
    for (int64_t f = 0; f < s->cfg.d_sae; f++) {
        scores[f] = NAN;
        if (postings_fires(p, f)) {
            int64_t i = b->s.n;
            b->features[i] = f;
            b->clamps[i] =
                (intervention){.kind = clamp, .feature = f, .value = (float)(OUTPUT_SCORE_MULTIPLE * postings_max(p, f))};
            b->lists[i] = (intervention_list){&b->clamps[i], 1};
            TRY(sequences_add(&b->s, prompt.ids, (int64_t)prompt.len, e));
        }
        if (b->s.n == BATCH_FEATURES || (b->s.n && f + 1 == s->cfg.d_sae)) {
            TRY(ctx_check_cancel(c, e));
            ctx_report(c, &(progress){.stage = "output scores", .unit = "features", .done = f, .total = s->cfg.d_sae});
            TRY(run(c, m, s, at, b, lens, scores, e));
        }
    }
done:
    if (b) {
        sequences_release(&b->s);
        free(b->hidden);
        free(b->last);
        free(b->logits);
    }
    free(b);
    free(prompt.ids);
    return rc;
}
