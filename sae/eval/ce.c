#include "sae/eval/ce.h"
#include "core/mem.h"
#include "sae/eval/bootstrap.h"
#include "sae/splice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum arm { ALONE, SPLICED, ZEROED, MEANED, N_ARMS } arm;

/* Documents first .. of the corpus as one batch. */
typedef struct batch {
    uint32_t *tokens; /* borrowed from the corpus */
    int32_t *seq, *pos, *group;
    float *hidden;     /* [n, d_model], and the rows to be judged moved to its front */
    uint32_t *targets; /* [n_asked] */
    double *logp;
    int32_t *group_asked;
    int64_t n, n_asked;
    size_t cap_seq, cap_pos, cap_group, cap_hidden, cap_targets, cap_logp, cap_group_asked;
} batch;

typedef struct evaluation {
    const ctx *c;
    model *m;
    const sae *sae;
    const token_corpus *k;
    const ce_opts *o;
    int64_t skip_first, d, done;
    int32_t *group; /* [n_docs] */
    int64_t n_groups;
    double *sums; /* [n_groups, 1 + N_ARMS] tokens predicted, nats by arm */
    recon recon;
    splice splice;
    float *mean, *rows; /* [d]; rows of a batch that count */
    size_t cap_rows;
    batch b;
} evaluation;

/* The first two, or all. */
static int n_arms(const evaluation *v) { return v->o->delta_only ? ZEROED : N_ARMS; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- batches ---- */

/* Whole documents from *doc on, at least one, as long as they fit; moves *doc behind them. */
static err_code fill_batch(evaluation *v, int64_t *doc, err *e) {
    const token_corpus *k = v->k;
    batch *b = &v->b;
    int64_t first = *doc;
    uint64_t from = k->doc_offsets[first];
    err_code rc;
    while (*doc < k->n_docs && (*doc == first || (int64_t)(k->doc_offsets[*doc + 1] - from) <= v->o->batch_tokens)) (*doc)++;
    b->n = (int64_t)(k->doc_offsets[*doc] - from);
    b->tokens = k->tokens + from;
    size_t n = (size_t)b->n;
    TRY(mem_grow(&b->seq, &b->cap_seq, n, sizeof *b->seq, "a batch", e));
    TRY(mem_grow(&b->pos, &b->cap_pos, n, sizeof *b->pos, "a batch", e));
    TRY(mem_grow(&b->group, &b->cap_group, n, sizeof *b->group, "a batch", e));
    TRY(mem_grow(&b->hidden, &b->cap_hidden, n, (size_t)v->d * sizeof *b->hidden, "a batch", e));
    TRY(mem_grow(&b->targets, &b->cap_targets, n, sizeof *b->targets, "a batch", e));
    TRY(mem_grow(&b->logp, &b->cap_logp, n, sizeof *b->logp, "a batch", e));
    TRY(mem_grow(&b->group_asked, &b->cap_group_asked, n, sizeof *b->group_asked, "a batch", e));
    for (int64_t d = first; d < *doc; d++)
        for (uint64_t t = k->doc_offsets[d]; t < k->doc_offsets[d + 1]; t++) {
            b->seq[t - from] = (int32_t)(d - first);
            b->pos[t - from] = (int32_t)(t - k->doc_offsets[d]);
            b->group[t - from] = v->group[d];
        }
done:
    return rc;
}

/* Adds the nats of every token that follows a position from skip_first on. */
static err_code judge(evaluation *v, arm a, err *e) {
    batch *b = &v->b;
    size_t row = (size_t)v->d * sizeof *b->hidden;
    b->n_asked = 0;
    for (int64_t t = 0; t + 1 < b->n; t++) {
        if (b->seq[t + 1] != b->seq[t] || b->pos[t] < v->skip_first) continue;
        memmove(b->hidden + b->n_asked * v->d, b->hidden + t * v->d, row);
        b->targets[b->n_asked] = b->tokens[t + 1];
        b->group_asked[b->n_asked++] = b->group[t];
    }
    err_code rc = model_logprobs(v->c, v->m, b->hidden, b->targets, b->n_asked, b->logp, e);
    for (int64_t i = 0; !rc && i < b->n_asked; i++) {
        double *sums = v->sums + b->group_asked[i] * (1 + N_ARMS);
        sums[0] += a == ALONE;
        sums[1 + a] -= b->logp[i];
    }
    return rc;
}

static err_code run_arm(evaluation *v, arm a, const model_hook *hook, err *e) {
    const model_batch b = {v->b.n, v->b.tokens, v->b.seq, v->b.pos};
    err_code rc;
    TRY(ctx_check_cancel(v->c, e));
    ctx_report(v->c, &(progress){.stage = "eval", .unit = "tokens", .done = v->done, .total = n_arms(v) * v->k->n_tokens});
    TRY(model_forward(v->c, v->m, &b, NULL, hook, 1, v->b.hidden, e));
    TRY(judge(v, a, e));
    v->done += v->b.n;
done:
    return rc;
}

/* ---- the two passes ---- */

/* What the SAE makes of the rows that pass by. */
static err_code see_rows(void *user, const ctx *c, const hook_rows *rows, err *e) {
    evaluation *v = user;
    int64_t n = 0;
    err_code rc = sae_check_fits(v->sae, NULL, NULL, rows->d_model, e);
    if (!rc) rc = mem_grow(&v->rows, &v->cap_rows, (size_t)rows->n_tokens, (size_t)v->d * sizeof *v->rows, "rows", e);
    if (rc) return rc;
    int32_t *group = v->b.group_asked; /* free until the batch is judged */
    for (int64_t t = 0; t < rows->n_tokens; t++) {
        if (rows->pos[t] < v->skip_first || sae_row_is_long(v->sae, rows->x + t * v->d)) continue;
        memcpy(v->rows + n * v->d, rows->x + t * v->d, (size_t)v->d * sizeof *v->rows);
        group[n++] = v->b.group[t];
    }
    return recon_add(c, &v->recon, v->rows, group, n, e);
}

static err_code run_alone(evaluation *v, hook_point at, err *e) {
    const model_hook hook = {at, see_rows, v};
    err_code rc = ERR_OK;
    for (int64_t doc = 0; doc < v->k->n_docs;) {
        TRY(fill_batch(v, &doc, e));
        TRY(run_arm(v, ALONE, &hook, e));
    }
done:
    return rc;
}

static err_code run_replaced(evaluation *v, const model_hook *hook, err *e) {
    static const struct {
        arm arm;
        splice_mode mode;
    } arms[] = {{SPLICED, SPLICE_RECONSTRUCT}, {ZEROED, SPLICE_ZERO}, {MEANED, SPLICE_MEAN}};
    err_code rc = ERR_OK;
    for (int64_t doc = 0; doc < v->k->n_docs;) {
        TRY(fill_batch(v, &doc, e));
        for (int i = 0; i < n_arms(v) - 1; i++) {
            v->splice.mode = arms[i].mode;
            TRY(run_arm(v, arms[i].arm, hook, e));
        }
    }
    ctx_report(v->c, &(progress){.stage = "eval", .unit = "tokens", .done = v->done, .total = v->done});
done:
    return rc;
}

/* ---- results ---- */

enum { CE, CE_SAE, CE_ZERO, CE_MEAN, DELTA, RECOVERED, RECOVERED_MEAN, N_VALUES };

static void statistic(const double *sums, double *values) {
    double alone = sums[1 + ALONE] / sums[0], spliced = sums[1 + SPLICED] / sums[0], zeroed = sums[1 + ZEROED] / sums[0],
           meaned = sums[1 + MEANED] / sums[0];
    values[CE] = alone;
    values[CE_SAE] = spliced;
    values[CE_ZERO] = zeroed;
    values[CE_MEAN] = meaned;
    values[DELTA] = spliced - alone;
    values[RECOVERED] = (zeroed - spliced) / (zeroed - alone);
    values[RECOVERED_MEAN] = (meaned - spliced) / (meaned - alone);
}

static err_code conclude(const evaluation *v, ce_result *out, err *e) {
    const interval unknown = {NAN, NAN, NAN};
    interval values[N_VALUES];
    err_code rc;
    for (int64_t g = 0; g < v->n_groups; g++) out->tokens += (int64_t)v->sums[g * (1 + N_ARMS)];
    out->documents = v->k->n_docs;
    TRY(bootstrap_intervals(v->c, v->sums, v->n_groups, 1 + N_ARMS, statistic, N_VALUES, v->o->seed, values, e));
    out->ce = values[CE];
    out->ce_sae = values[CE_SAE];
    out->delta_ce = values[DELTA];
    out->ce_zero = v->o->delta_only ? unknown : values[CE_ZERO];
    out->ce_mean = v->o->delta_only ? unknown : values[CE_MEAN];
    out->ce_recovered = v->o->delta_only ? unknown : values[RECOVERED];
    out->ce_recovered_mean = v->o->delta_only ? unknown : values[RECOVERED_MEAN];
    TRY(recon_finish(v->c, &v->recon, v->o->seed, &out->recon, e));
done:
    return rc;
}

/* ---- all of it ---- */

static err_code check(const evaluation *v, err *e) {
    char sha256[SHA256_HEX];
    const token_corpus *k = v->k;
    err_code rc;
    TRY(model_sha256(v->m, sha256, e));
    TRY(sae_check_fits(v->sae, NULL, sha256, v->d, e));
    for (int64_t d = 0; d < k->n_docs; d++)
        if ((int64_t)(k->doc_offsets[d + 1] - k->doc_offsets[d]) > v->skip_first + 1) return ERR_OK;
    rc = err_set(e, ERR_USAGE,
                 "expected a document of more than %lld tokens, so that one can be predicted from a row of the SAE",
                 (long long)v->skip_first + 1);
done:
    return rc;
}

static err_code set_up(evaluation *v, model_hook *hook, err *e) {
    int32_t n_texts;
    err_code rc;
    TRY(splice_hook(&v->splice, model_config_of(v->m)->n_layers, hook, e));
    TRY(mem_new(&v->group, (size_t)v->k->n_docs, sizeof *v->group, "documents", e));
    n_texts = corpus_texts(v->k, v->group);
    v->n_groups = n_texts < RECON_GROUPS_MAX ? n_texts : RECON_GROUPS_MAX;
    for (int64_t d = 0; d < v->k->n_docs; d++) v->group[d] = (int32_t)(v->group[d] * v->n_groups / n_texts);
    TRY(mem_new0(&v->sums, (size_t)v->n_groups, (1 + N_ARMS) * sizeof *v->sums, "sums over documents", e));
    TRY(mem_new(&v->mean, (size_t)v->d, sizeof *v->mean, "the mean row", e));
    TRY(recon_init(&v->recon, v->sae, v->n_groups, e));
done:
    return rc;
}

static void release(evaluation *v) {
    recon_release(&v->recon);
    splice_release(&v->splice);
    free(v->group);
    free(v->sums);
    free(v->mean);
    free(v->rows);
    free(v->b.seq);
    free(v->b.pos);
    free(v->b.group);
    free(v->b.hidden);
    free(v->b.targets);
    free(v->b.logp);
    free(v->b.group_asked);
}

err_code ce_run(const ctx *c, model *m, const sae *s, const token_corpus *k, const ce_opts *o, ce_result *out, err *e) {
    evaluation v = {.c = c, .m = m, .sae = s, .k = k, .o = o, .d = model_config_of(m)->d_model};
    model_hook hook;
    double started = now();
    v.skip_first = o->skip_first < 0 ? s->cfg.skip_first : o->skip_first;
    v.splice = (splice){.sae = s, .skip_first = v.skip_first};
    *out = (ce_result){0};
    err_code rc;
    TRY(check(&v, e));
    TRY(set_up(&v, &hook, e));
    TRY(run_alone(&v, hook.at, e));
    TRY(recon_mean(&v.recon, v.mean, e));
    v.splice.mean = v.mean;
    TRY(run_replaced(&v, &hook, e));
    TRY(conclude(&v, out, e));
    out->seconds = now() - started;
done:
    release(&v);
    return rc;
}
