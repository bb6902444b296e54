/* Which features make the model say the concept.
 *
 * A trial clamps one feature on one neutral prompt followed by the concept's text, teacher-forced. From the row behind the prompt
 * come log p of the concept's first token, of related words and of control words, and the whole next-token distribution; from
 * the rows behind that, log p of the concept's other tokens. All are differences to the same prompt left alone.
 *
 * score = change of the concept - change of the control words, if they rise + change of the related words
 *         - REPETITION_COST x probability of saying the first choice twice
 * A feature that merely breaks the model flattens the distribution: everything unlikely rises alike, and the control words take
 * that away again; or it makes the model say one thing over and over.
 *
 * What makes the model say the name need not make it speak of the subject: features are ranked a second time by how much more
 * likely it becomes that the next token begins any related word, less the KL divergence that this takes. */
#include "analysis/find_internal.h"

#include "core/mem.h"
#include "steer/intervene.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONTEXT_REACH = 32, /* tokens either side of a mention that are its context */
    MIN_FIRES = 8,      /* a feature seen less often has no maximum to speak of */
    WORDS_MAX = 12,
    SCREEN_PROMPTS = 2,
    CHOICE_PROMPTS = 6,
    FINALISTS = 40,
    SEMIFINALISTS = 24, /* whose repetition is measured */
    WORD_FINALISTS = 16,
    WORD_CAUSES = 6,
    BATCH_TOKENS = 2048,
    VOCAB_TILE = 2048
};
#define REPETITION_COST 4.0
#define WORDS_KL_COST   1.0 /* a feature of a subject says many words a little more often and leaves the rest alone */

static const double multiples[] = {1.0, 1.5, 2.0}; /* of the feature's maximum */
enum { N_MULTIPLES = sizeof multiples / sizeof *multiples, SCREEN_MULTIPLE = 1 };

/* ---- the experiment ---- */

typedef struct trial {
    int32_t feature; /* -1: left alone */
    int prompt, multiple;
    float value;                    /* what the feature is clamped to */
    double concept, words, control; /* log p, nats; after subtract_baseline: changes */
    double any_word;                /* log of the probability that the next token begins a related word; then its change */
    double kl, repetition;
    uint32_t first_choice;
} trial;

typedef struct bench {
    const finder *f;
    token_ids prompts[FIND_PROMPTS];
    token_ids concept;
    uint32_t words[WORDS_MAX], controls[WORDS_MAX]; /* first tokens */
    int n_words, n_controls;
    trial baseline[FIND_PROMPTS];
    float *baseline_logp; /* [FIND_PROMPTS, n_vocab] */
    const intervention_kind *clamp;
    int64_t positions_changed;
    int64_t n_vocab, d;
} bench;

/* ---- one batch ---- */

typedef struct trial_batch {
    sequences s;
    intervention *items;      /* [n] one each */
    intervention_list *lists; /* [n] */
    float *hidden, *rows, *logits;
    double *logp;
    uint32_t *targets;
    size_t cap_items, cap_lists, cap_hidden, cap_rows, cap_logits, cap_logp, cap_targets;
} trial_batch;

static void trial_batch_release(trial_batch *b) {
    sequences_release(&b->s);
    free(b->items);
    free(b->lists);
    free(b->hidden);
    free(b->rows);
    free(b->logits);
    free(b->logp);
    free(b->targets);
}

static err_code reserve(trial_batch *b, const bench *k, int64_t n, int64_t n_targets, err *e) {
    err_code rc;
    TRY(mem_grow(&b->items, &b->cap_items, (size_t)n, sizeof *b->items, "trials", e));
    TRY(mem_grow(&b->lists, &b->cap_lists, (size_t)n, sizeof *b->lists, "trials", e));
    TRY(mem_grow(&b->hidden, &b->cap_hidden, (size_t)b->s.n_tokens, (size_t)k->d * sizeof *b->hidden, "trials", e));
    TRY(mem_grow(&b->rows, &b->cap_rows, (size_t)(n > n_targets ? n : n_targets), (size_t)k->d * sizeof *b->rows, "trials",
                 e));
    TRY(mem_grow(&b->logits, &b->cap_logits, (size_t)n, (size_t)k->n_vocab * sizeof *b->logits, "logits of trials", e));
    TRY(mem_grow(&b->logp, &b->cap_logp, (size_t)n_targets + 1, sizeof *b->logp, "trials", e));
    TRY(mem_grow(&b->targets, &b->cap_targets, (size_t)n_targets + 1, sizeof *b->targets, "trials", e));
done:
    return rc;
}

/* Runs the batch's sequences, each with its own clamp, into b->hidden. */
static err_code forward(const ctx *c, bench *k, trial_batch *b, const trial *trials, err *e) {
    intervene v = {
        .sae = k->f->sae, .at = k->f->at, .per_seq = b->lists, .n_seqs = b->s.n, .skip_first = k->f->sae->cfg.skip_first};
    if (v.skip_first < 1) v.skip_first = 1; /* the sink */
    model_batch batch = {b->s.n_tokens, b->s.tokens, b->s.seq, b->s.pos};
    model_hook hook;
    err_code rc;
    for (int64_t i = 0; i < b->s.n; i++) {
        b->items[i] = (intervention){.kind = k->clamp, .feature = trials[i].feature, .value = trials[i].value};
        b->lists[i] = (intervention_list){&b->items[i], trials[i].feature >= 0};
    }
    TRY(intervene_hook(&v, &hook, e));
    TRY(model_forward(c, k->f->model, &batch, NULL, &hook, 1, b->hidden, e));
    k->positions_changed += v.positions_changed;
done:
    intervene_release(&v);
    return rc;
}

/* In place: log-softmax. */
static void log_softmax(float *x, int64_t n) {
    float max = x[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++) sum += exp((double)(x[i] - max));
    float shift = max + (float)log(sum);
    for (int64_t i = 0; i < n; i++) x[i] -= shift;
}

static double mean_at(const float *logp, const uint32_t *tokens, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += logp[tokens[i]];
    return n ? sum / n : 0;
}

/* log of the sum of their probabilities */
static double log_sum_at(const float *logp, const uint32_t *tokens, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)logp[tokens[i]]);
    return log(fmax(sum, 1e-30));
}

/* What the distribution behind the prompt says. logits becomes log p. */
static void judge(const bench *k, float *logits, trial *t) {
    log_softmax(logits, k->n_vocab);
    t->concept = logits[k->concept.ids[0]];
    t->words = mean_at(logits, k->words, k->n_words);
    t->any_word = log_sum_at(logits, k->words, k->n_words);
    t->control = mean_at(logits, k->controls, k->n_controls);
    t->first_choice = 0;
    t->kl = 0;
    const float *before = k->baseline_logp + t->prompt * k->n_vocab;
    for (int64_t v = 0; v < k->n_vocab; v++) {
        if (logits[v] > logits[t->first_choice]) t->first_choice = (uint32_t)v;
        if (t->feature >= 0) t->kl += exp((double)logits[v]) * ((double)logits[v] - before[v]);
    }
}

static err_code run_batch(const ctx *c, bench *k, trial_batch *b, trial *trials, err *e) {
    int64_t n = b->s.n, rest = (int64_t)k->concept.len - 1;
    err_code rc;
    TRY(ctx_check_cancel(c, e));
    TRY(reserve(b, k, n, n * rest, e));
    TRY(forward(c, k, b, trials, e));
    for (int64_t i = 0; i < n; i++)
        memcpy(b->rows + i * k->d, b->hidden + (b->s.start[i] + (int64_t)k->prompts[trials[i].prompt].len - 1) * k->d,
               (size_t)k->d * sizeof *b->rows);
    TRY(model_logits(c, k->f->model, b->rows, n, b->logits, e));
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) judge(k, b->logits + i * k->n_vocab, &trials[i]);
    for (int64_t i = 0; i < n; i++)
        if (trials[i].feature < 0)
            memcpy(k->baseline_logp + trials[i].prompt * k->n_vocab, b->logits + i * k->n_vocab,
                   (size_t)k->n_vocab * sizeof *b->logits);
    if (!rest) goto done;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < rest; j++) {
            int64_t at = b->s.start[i] + (int64_t)k->prompts[trials[i].prompt].len + j;
            memcpy(b->rows + (i * rest + j) * k->d, b->hidden + at * k->d, (size_t)k->d * sizeof *b->rows);
            b->targets[i * rest + j] = k->concept.ids[j + 1];
        }
    TRY(model_logprobs(c, k->f->model, b->rows, b->targets, n * rest, b->logp, e));
    for (int64_t i = 0; i < n * rest; i++) trials[i / rest].concept += b->logp[i];
done:
    sequences_clear(&b->s);
    return rc;
}

/* Runs all trials: prompt + concept each, as many together as a batch holds. */
static err_code run_trials(const ctx *c, bench *k, trial *trials, int64_t n, const char *stage, err *e) {
    trial_batch b = {0};
    int64_t first = 0;
    err_code rc = ERR_OK;
    token_ids text = {0};
    for (int64_t i = 0; i <= n; i++) {
        if (i == n || b.s.n_tokens > BATCH_TOKENS) {
            ctx_report(c, &(progress){.stage = stage, .unit = "trials", .done = first, .total = n});
            if (b.s.n) TRY(run_batch(c, k, &b, trials + first, e));
            first = i;
        }
        if (i == n) break;
        const token_ids *prompt = &k->prompts[trials[i].prompt];
        TRY(mem_grow(&text.ids, &text.cap, prompt->len + k->concept.len, sizeof *text.ids, "a trial", e));
        memcpy(text.ids, prompt->ids, prompt->len * sizeof *text.ids);
        memcpy(text.ids + prompt->len, k->concept.ids, k->concept.len * sizeof *text.ids);
        TRY(sequences_add(&b.s, text.ids, (int64_t)(prompt->len + k->concept.len), e));
    }
    ctx_report(c, &(progress){.stage = stage, .unit = "trials", .done = n, .total = n});
done:
    free(text.ids);
    trial_batch_release(&b);
    return rc;
}

/* For each trial: with its first choice behind the prompt, the probability that the same token comes again. */
static err_code measure_repetition(const ctx *c, bench *k, trial *trials, int64_t n, err *e) {
    trial_batch b = {0};
    int64_t first = 0;
    token_ids text = {0};
    err_code rc = ERR_OK;
    for (int64_t i = 0; i <= n; i++) {
        if (b.s.n && (i == n || b.s.n_tokens > BATCH_TOKENS)) {
            TRY(ctx_check_cancel(c, e));
            TRY(reserve(&b, k, b.s.n, b.s.n, e));
            TRY(forward(c, k, &b, trials + first, e));
            for (int64_t j = 0; j < b.s.n; j++) {
                memcpy(b.rows + j * k->d, b.hidden + (b.s.start[j + 1] - 1) * k->d, (size_t)k->d * sizeof *b.rows);
                b.targets[j] = trials[first + j].first_choice;
            }
            TRY(model_logprobs(c, k->f->model, b.rows, b.targets, b.s.n, b.logp, e));
            for (int64_t j = 0; j < b.s.n; j++) trials[first + j].repetition = exp(b.logp[j]);
            sequences_clear(&b.s);
            first = i;
        }
        if (i == n) break;
        const token_ids *prompt = &k->prompts[trials[i].prompt];
        TRY(mem_grow(&text.ids, &text.cap, prompt->len + 1, sizeof *text.ids, "a trial", e));
        memcpy(text.ids, prompt->ids, prompt->len * sizeof *text.ids);
        text.ids[prompt->len] = trials[i].first_choice;
        TRY(sequences_add(&b.s, text.ids, (int64_t)prompt->len + 1, e));
    }
done:
    free(text.ids);
    trial_batch_release(&b);
    return rc;
}

static void subtract_baseline(const bench *k, trial *trials, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const trial *before = &k->baseline[trials[i].prompt];
        trials[i].concept -= before->concept;
        trials[i].words -= before->words;
        trials[i].any_word -= before->any_word;
        trials[i].control -= before->control;
    }
}

/* ---- setting up ---- */

/* First tokens of words as they stand in a sentence, each once, none that begins the concept. */
static err_code first_tokens(const finder *f, char *const *words, int n, const token_ids *concept, uint32_t *out, int *n_out,
                             err *e) {
    token_ids ids = {0};
    strbuf text = STRBUF_INIT;
    err_code rc = ERR_OK;
    for (int i = 0; i < n && *n_out < WORDS_MAX; i++) {
        strbuf_reset(&text);
        find_add_continuation(&text, words[i]);
        TRY(strbuf_check(&text, e));
        TRY(find_tokenize(f, text.data, false, &ids, e));
        bool known = ids.len == 0 || ids.ids[0] == concept->ids[0];
        for (int j = 0; j < *n_out && !known; j++) known = out[j] == ids.ids[0];
        if (!known) out[(*n_out)++] = ids.ids[0];
    }
done:
    free(ids.ids);
    strbuf_release(&text);
    return rc;
}

static err_code bench_init(const ctx *c, bench *k, const find_result *r, err *e) {
    const finder *f = k->f;
    strbuf text = STRBUF_INIT;
    err_code rc;
    k->n_vocab = model_config_of(f->model)->n_vocab;
    k->d = model_config_of(f->model)->d_model;
    k->clamp = intervention_kind_by_name("clamp", e);
    if (!k->clamp) return ERR_FAILED;
    for (int i = 0; i < FIND_PROMPTS; i++) TRY(find_tokenize(f, find_prompts[i], true, &k->prompts[i], e));
    find_add_continuation(&text, f->concept);
    TRY(strbuf_check(&text, e));
    TRY(find_tokenize(f, text.data, false, &k->concept, e));
    TRY(first_tokens(f, r->words, r->n_words, &k->concept, k->words, &k->n_words, e));
    TRY(first_tokens(f, (char *const *)find_control_words, n_find_control_words, &k->concept, k->controls, &k->n_controls,
                     e));
    for (int i = 0; i < k->n_controls; i++) /* a control that is asked for is none */
        for (int j = 0; j < k->n_words; j++)
            if (k->controls[i] == k->words[j]) {
                k->controls[i--] = k->controls[--k->n_controls];
                break;
            }
    TRY(mem_new0(&k->baseline_logp, FIND_PROMPTS, (size_t)k->n_vocab * sizeof *k->baseline_logp, "baseline", e));
    for (int i = 0; i < FIND_PROMPTS; i++) k->baseline[i] = (trial){.feature = -1, .prompt = i};
    TRY(run_trials(c, k, k->baseline, FIND_PROMPTS, "baseline", e));
done:
    strbuf_release(&text);
    return rc;
}

static void bench_release(bench *k) {
    for (int i = 0; i < FIND_PROMPTS; i++) free(k->prompts[i].ids);
    free(k->concept.ids);
    free(k->baseline_logp);
}

/* ---- candidates ---- */

typedef struct candidates {
    int32_t *ids;
    uint8_t *taken; /* [d_sae] */
    int n, max;
} candidates;

static void take(candidates *l, const top_entry *best, int n) {
    for (int i = 0; i < n && l->n < l->max; i++) {
        if (l->taken[best[i].key]) continue;
        l->taken[best[i].key] = 1;
        l->ids[l->n++] = best[i].key;
    }
}

/* Rows near a mention, and rows of documents with one. */
static err_code mark_rows(const finder *f, uint8_t **near, uint8_t **document, err *e) {
    const corpus_index *x = &f->rows.index;
    err_code rc;
    TRY(mem_new0(near, (size_t)x->n_rows, 1, "contexts", e));
    TRY(mem_new0(document, (size_t)x->n_rows, 1, "contexts", e));
    for (int64_t i = 0; i < f->mentions.n; i++) {
        mention m = f->mentions.items[i];
        int32_t doc = x->token_doc[m.first];
        int64_t start = (int64_t)x->corpus->doc_offsets[doc], end = (int64_t)x->corpus->doc_offsets[doc + 1];
        for (int64_t t = start; t < end; t++) {
            if (x->token_row[t] < 0) continue;
            (*document)[x->token_row[t]] = 1;
            if (t >= m.first - CONTEXT_REACH && t <= m.last + CONTEXT_REACH) (*near)[x->token_row[t]] = 1;
        }
    }
done:
    return rc;
}

/* Features that fire on marked rows more often than chance has it: z of the count. */
static void candidates_by_rows(const finder *f, const uint8_t *marked, int max, top_entry *best, candidates *out) {
    int64_t n_rows = f->rows.index.n_rows, n_marked = 0;
    int n = 0;
    for (int64_t r = 0; r < n_rows; r++) n_marked += marked[r];
    double p = (double)n_marked / (double)n_rows;
    if (n_marked == 0 || n_marked == n_rows) return;
    for (int64_t i = 0; i < f->codes.n_features; i++) {
        int64_t fires = postings_fires(&f->codes, i), hits = 0;
        if (fires < MIN_FIRES) continue;
        for (int64_t j = f->codes.start[i]; j < f->codes.start[i + 1]; j++) hits += marked[f->codes.rows[j]];
        double z = ((double)hits - p * (double)fires) / sqrt(p * (1 - p) * (double)fires);
        if (z > 2) top_keep(best, &n, max, (top_entry){(int32_t)i, z});
    }
    take(out, best, n);
}

static void candidates_by_auroc(const finder *f, const double *auroc, int max, top_entry *best, candidates *out) {
    int n = 0;
    for (int64_t i = 0; i < f->codes.n_features; i++) {
        double density = (double)postings_fires(&f->codes, i) / (double)f->codes.n_rows;
        if (postings_fires(&f->codes, i) >= MIN_FIRES && auroc[i] > 0.5)
            top_keep(best, &n, max, (top_entry){(int32_t)i, auroc[i] - FIND_DENSITY_COST * density});
    }
    take(out, best, n);
}

/* The mean row of the head with the final norm's gain. */
static err_code mean_head(const finder *f, double *mean /* [d] */, err *e) {
    const model_config *cfg = model_config_of(f->model);
    const float *gain = model_final_norm_gain(f->model);
    int64_t d = cfg->d_model;
    float *head;
    err_code rc = mem_new(&head, VOCAB_TILE, (size_t)d * sizeof *head, "head", e);
    for (int64_t v = 0; !rc && v < cfg->n_vocab; v += VOCAB_TILE) {
        int64_t n = cfg->n_vocab - v < VOCAB_TILE ? cfg->n_vocab - v : VOCAB_TILE;
        rc = model_unembed_rows(f->model, v, n, head, e);
        for (int64_t i = 0; !rc && i < n; i++)
            for (int64_t j = 0; j < d; j++) mean[j] += (double)head[i * d + j] * gain[j] / (double)cfg->n_vocab;
    }
    free(head);
    return rc;
}

/* Features whose direction, at their maximum, raises one of the tokens most through the head alone (the logit lens). */
static err_code candidates_by_lens(const finder *f, const uint32_t *tokens, int n_tokens, int max, const double *mean,
                                   top_entry *best, candidates *out, err *e) {
    const sae *s = f->sae;
    const float *gain = model_final_norm_gain(f->model);
    int64_t d = s->cfg.d_in;
    float *row = NULL;
    double *effect = NULL;
    int n = 0;
    err_code rc;
    TRY(mem_new(&row, (size_t)d, sizeof *row, "head", e));
    TRY(mem_new0(&effect, (size_t)s->cfg.d_sae, sizeof *effect, "candidates", e));
    for (int t = 0; t < n_tokens; t++) {
        TRY(model_unembed_rows(f->model, tokens[t], 1, row, e));
        for (int64_t i = 0; i < s->cfg.d_sae; i++) {
            double dot = 0;
            for (int64_t j = 0; j < d; j++) dot += s->W_dec[i * d + j] * ((double)row[j] * gain[j] - mean[j]);
            if (dot > effect[i]) effect[i] = dot;
        }
    }
    for (int64_t i = 0; i < s->cfg.d_sae; i++)
        if (postings_fires(&f->codes, i) >= MIN_FIRES)
            top_keep(best, &n, max, (top_entry){(int32_t)i, effect[i] * postings_max(&f->codes, i)});
    take(out, best, n);
done:
    free(row);
    free(effect);
    return rc;
}

/* A share of the places for each reason to suspect a feature; what one leaves free the last ones may fill. */
static err_code choose_candidates(const bench *k, const double *auroc, candidates *out, err *e) {
    const finder *f = k->f;
    uint8_t *near = NULL, *document = NULL;
    top_entry *best = NULL;
    double *mean = NULL;
    int all = out->max;
    err_code rc;
    TRY(mem_new(&best, (size_t)all, sizeof *best, "candidates", e));
    TRY(mem_new0(&mean, (size_t)k->d, sizeof *mean, "head", e));
    TRY(mark_rows(f, &near, &document, e));
    TRY(mean_head(f, mean, e));
    candidates_by_rows(f, near, all * 3 / 10, best, out);
    candidates_by_rows(f, document, all * 2 / 10, best, out);
    candidates_by_auroc(f, auroc, all / 10, best, out);
    TRY(candidates_by_lens(f, k->concept.ids, (int)k->concept.len, all * 2 / 10, mean, best, out, e));
    TRY(candidates_by_lens(f, k->words, k->n_words, all, mean, best, out, e));
done:
    free(near);
    free(document);
    free(best);
    free(mean);
    return rc;
}

/* ---- choosing ---- */

typedef struct contender {
    int32_t feature;
    int multiple;
    double score;
} contender;

static int best_first(const void *a, const void *b) {
    const contender *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->feature > y->feature) - (x->feature < y->feature);
}

typedef double scoring(const trial *t);

static double concept_score(const trial *t) {
    return t->concept - fmax(0, t->control) + t->words - REPETITION_COST * t->repetition;
}

static double words_score(const trial *t) {
    return t->any_word - fmax(0, t->control) - WORDS_KL_COST * t->kl - REPETITION_COST * t->repetition;
}

/* Features tried at some multiples of their maxima on some of the choosing prompts. */
typedef struct trials_of {
    const int32_t *features; /* borrowed */
    int n, first_multiple, n_multiples, n_prompts;
    trial *items; /* [n, n_multiples, n_prompts]; owned */
} trials_of;

static err_code try_features(const ctx *c, bench *k, trials_of *t, const char *stage, err *e) {
    int64_t per = (int64_t)t->n_multiples * t->n_prompts, n_trials = t->n * per;
    err_code rc = mem_new(&t->items, (size_t)n_trials, sizeof *t->items, "trials", e);
    if (rc) return rc;
    for (int64_t i = 0; i < n_trials; i++) {
        int multiple = t->first_multiple + (int)(i % per / t->n_prompts);
        int32_t feature = t->features[i / per];
        t->items[i] = (trial){.feature = feature,
                              .multiple = multiple,
                              .prompt = 2 * (int)(i % t->n_prompts),
                              .value = (float)(multiples[multiple] * postings_max(&k->f->codes, feature))};
    }
    rc = run_trials(c, k, t->items, n_trials, stage, e);
    if (!rc) subtract_baseline(k, t->items, n_trials);
    return rc;
}

/* Every feature at its best multiple by mean score, best first. */
static void rank_features(const trials_of *t, scoring *score, contender *out /* [n] */) {
    int64_t per = (int64_t)t->n_multiples * t->n_prompts;
    for (int i = 0; i < t->n; i++) {
        out[i] = (contender){.feature = t->features[i], .score = -INFINITY};
        for (int m = 0; m < t->n_multiples; m++) {
            double mean = 0;
            for (int p = 0; p < t->n_prompts; p++) mean += score(&t->items[i * per + m * t->n_prompts + p]) / t->n_prompts;
            if (mean > out[i].score) out[i] = (contender){t->features[i], t->first_multiple + m, mean};
        }
    }
    qsort(out, (size_t)t->n, sizeof *out, best_first);
}

/* Trials of one feature at its multiple on every other prompt from `first_prompt`, with repetition, less the baseline. */
static err_code test_feature(const ctx *c, bench *k, const contender *x, int n, int first_prompt, int n_prompts,
                             trial *trials, err *e) {
    err_code rc;
    for (int i = 0; i < n * n_prompts; i++)
        trials[i] = (trial){
            .feature = x[i / n_prompts].feature,
            .multiple = x[i / n_prompts].multiple,
            .prompt = first_prompt + 2 * (i % n_prompts),
            .value = (float)(multiples[x[i / n_prompts].multiple] * postings_max(&k->f->codes, x[i / n_prompts].feature))};
    TRY(run_trials(c, k, trials, (int64_t)n * n_prompts, "causes: test", e));
    TRY(measure_repetition(c, k, trials, (int64_t)n * n_prompts, e));
    subtract_baseline(k, trials, (int64_t)n * n_prompts);
done:
    return rc;
}

/* The same scores with repetition measured. */
static err_code rank_again(const ctx *c, bench *k, scoring *score, contender *x, int n, err *e) {
    trial *trials = NULL;
    err_code rc;
    TRY(mem_new(&trials, (size_t)n, CHOICE_PROMPTS * sizeof *trials, "trials", e));
    TRY(test_feature(c, k, x, n, 0, CHOICE_PROMPTS, trials, e));
    for (int i = 0; i < n; i++) {
        x[i].score = 0;
        for (int p = 0; p < CHOICE_PROMPTS; p++) x[i].score += score(&trials[i * CHOICE_PROMPTS + p]) / CHOICE_PROMPTS;
    }
    qsort(x, (size_t)n, sizeof *x, best_first);
done:
    free(trials);
    return rc;
}

/* Those of x that no list has taken yet, up to max. */
static int add_features(const contender *x, int n, int max, uint8_t *taken, int32_t *out) {
    int added = 0;
    for (int i = 0; i < n && added < max; i++) {
        if (taken[x[i].feature]) continue;
        taken[x[i].feature] = 1;
        out[added++] = x[i].feature;
    }
    return added;
}

/* What the candidates do: to the concept's own text, and to the related words. */
typedef struct contenders {
    contender *concept, *words; /* [candidates] best first */
    int n_concept, n_words;
} contenders;

/* From all candidates to a few contenders, on choosing prompts only. */
static err_code choose_causes(const ctx *c, bench *k, const candidates *l, contenders *x, err *e) {
    int32_t features[FINALISTS + WORD_FINALISTS];
    uint8_t *taken = NULL;
    trials_of screen = {l->ids, l->n, SCREEN_MULTIPLE, 1, SCREEN_PROMPTS, NULL}, last = {0};
    err_code rc;
    TRY(mem_new0(&taken, (size_t)k->f->codes.n_features, 1, "candidates", e));
    TRY(try_features(c, k, &screen, "causes: screen", e));
    rank_features(&screen, concept_score, x->concept);
    rank_features(&screen, words_score, x->words);
    int n = add_features(x->concept, l->n, FINALISTS, taken, features);
    n += add_features(x->words, l->n, WORD_FINALISTS, taken, features + n);
    last = (trials_of){features, n, 0, N_MULTIPLES, CHOICE_PROMPTS, NULL};
    TRY(try_features(c, k, &last, "causes: strengths", e));
    rank_features(&last, concept_score, x->concept);
    rank_features(&last, words_score, x->words);
    x->n_concept = n < SEMIFINALISTS ? n : SEMIFINALISTS;
    x->n_words = n < WORD_CAUSES ? n : WORD_CAUSES;
    TRY(rank_again(c, k, concept_score, x->concept, x->n_concept, e));
    TRY(rank_again(c, k, words_score, x->words, x->n_words, e));
done:
    free(taken);
    free(screen.items);
    free(last.items);
    return rc;
}

/* ---- the report ---- */

static err_code report_cause(const bench *k, const contender *x, const trial *trials, int n_prompts, find_cause *out,
                             err *e) {
    double concept[FIND_PROMPTS];
    feature_stats about;
    err_code rc = feature_db_stats(k->f->db, x->feature, &about, e);
    if (rc) return rc;
    *out = (find_cause){.feature = x->feature,
                        .multiple = multiples[x->multiple],
                        .strength = multiples[x->multiple] * postings_max(&k->f->codes, x->feature),
                        .density = about.density};
    for (int i = 0; i < n_prompts; i++) {
        concept[i] = trials[i].concept;
        out->delta_words += trials[i].words / n_prompts;
        out->delta_control += trials[i].control / n_prompts;
        out->kl += trials[i].kl / n_prompts;
        out->repetition += trials[i].repetition / n_prompts;
    }
    out->delta_logprob = stats_mean(concept, n_prompts);
    memcpy(out->label, about.label, sizeof out->label);
    memcpy(out->top_tokens, about.top_tokens, sizeof out->top_tokens);
    return ERR_OK;
}

static err_code report(const ctx *c, bench *k, const contender *x, int n, find_cause **causes, int *n_causes, err *e) {
    enum { REPORT_PROMPTS = FIND_PROMPTS / 2 };
    trial *trials = NULL;
    err_code rc;
    TRY(mem_new(&trials, (size_t)n, REPORT_PROMPTS * sizeof *trials, "trials", e));
    TRY(mem_new0(causes, (size_t)n, sizeof **causes, "causes", e));
    TRY(test_feature(c, k, x, n, 1, REPORT_PROMPTS, trials, e));
    for (int i = 0; i < n; i++) {
        TRY(report_cause(k, &x[i], trials + i * REPORT_PROMPTS, REPORT_PROMPTS, &(*causes)[i], e));
        ++*n_causes;
    }
done:
    free(trials);
    return rc;
}

err_code find_cause_run(const ctx *c, const finder *f, const double *choice_auroc, find_result *out, err *e) {
    bench k = {.f = f};
    candidates l = {.max = f->opts->n_candidates};
    contenders x = {0};
    err_code rc;
    TRY(bench_init(c, &k, out, e));
    TRY(mem_new(&l.ids, (size_t)l.max, sizeof *l.ids, "candidates", e));
    TRY(mem_new0(&l.taken, (size_t)f->codes.n_features, 1, "candidates", e));
    TRY(choose_candidates(&k, choice_auroc, &l, e));
    out->candidates = l.n;
    if (!l.n) goto done; /* an SAE that never fires */
    TRY(mem_new(&x.concept, (size_t)l.n, sizeof *x.concept, "candidates", e));
    TRY(mem_new(&x.words, (size_t)l.n, sizeof *x.words, "candidates", e));
    TRY(choose_causes(c, &k, &l, &x, e));
    if (x.n_concept > f->opts->n_causes) x.n_concept = f->opts->n_causes;
    TRY(report(c, &k, x.concept, x.n_concept, &out->causes, &out->n_causes, e));
    if (k.n_words) TRY(report(c, &k, x.words, x.n_words, &out->word_causes, &out->n_word_causes, e));
    if (!k.positions_changed) rc = err_set(e, ERR_FAILED, "clamping features at %s changed nothing", f->rows.hook->name);
done:
    bench_release(&k);
    free(l.ids);
    free(l.taken);
    free(x.concept);
    free(x.words);
    return rc;
}
