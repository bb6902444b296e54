/* Which features at which strength steer best: every candidate on the first half of the prompts, the best of them again, the
 * winners and what they must beat on the second half. */
#include "analysis/steering_internal.h"
#include "core/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUMMED = 5,        /* best features that are tried two by two ... */
    LENGTHS = 3,       /* for the difference of means */
    FINAL_SINGLES = 4, /* best arms of one and of two features ... */
    FINAL_PAIRS = 4,
    FINAL_SAMPLES = 3 /* ... that are compared again, on this many times the texts */
};
static const double scales[] = {1.25, 1.0, 0.75}; /* ... at these shares of their strengths */
enum { N_SCALES = sizeof scales / sizeof *scales };

typedef struct search {
    const ctx *c;
    const steering *s;
    const steering_search_opts *o;
    float *difference; /* [d_model], unit */
    int64_t mentions;  /* behind it; 0: there is none */
    steering_arms singles, pairs, finals, report;
    int best_difference;        /* in singles; -1: none */
    int best_single, best_pair; /* in finals; -1: none */
} search;

static err_code add_copy(const search *q, steering_arms *to, const steering_arm *arm, err *e) {
    if (arm->kind == STEERING_FEATURES) return steering_add_features(q->s, to, arm->items, arm->n, arm->name, e);
    return steering_add_direction(to, arm->name, q->difference, q->s->sae->cfg.d_in, arm->length, e);
}

/* ---- the first half ---- */

typedef enum round { ROUND_CHOICE, ROUND_FINAL, ROUND_REPORT } search_round;

/* Every round has random streams of its own. */
static err_code run_round(const search *q, steering_arms *a, search_round r, steer_result *texts, err *e) {
    steer_opts o = q->o->steer;
    int first = q->o->n_prompts / 2, n = r == ROUND_REPORT ? q->o->n_prompts - first : first;
    int64_t samples[] = {q->o->choice_samples, FINAL_SAMPLES * q->o->choice_samples, q->o->report_samples};
    o.perplexity = true;
    o.n_samples = samples[r];
    for (int before = 0; before < (int)r; before++) o.first_stream += first * samples[before];
    return steering_run(q->c, q->s, a, q->o->prompts + (r == ROUND_REPORT ? first : 0), n, &o, texts, e);
}

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The difference of means at short, middle and long: quantiles of how far the candidates move a row. */
static err_code add_differences(search *q, err *e) {
    double *lengths = NULL;
    int n = 0;
    err_code rc;
    TRY(mem_new(&lengths, (size_t)q->singles.n, sizeof *lengths, "lengths", e));
    for (int i = 0; i < q->singles.n; i++)
        if (q->singles.items[i].kind == STEERING_FEATURES && isfinite(q->singles.items[i].length))
            lengths[n++] = q->singles.items[i].length;
    qsort(lengths, (size_t)n, sizeof *lengths, by_double);
    for (int i = 0; n && i < LENGTHS; i++) {
        char name[STEERING_NAME_MAX];
        double length = lengths[(int64_t)(n - 1) * i / (LENGTHS - 1)];
        snprintf(name, sizeof name, "difference of means, length %.3g", length);
        TRY(steering_add_direction(&q->singles, name, q->difference, q->s->sae->cfg.d_in, length, e));
    }
done:
    free(lengths);
    return rc;
}

static err_code try_singles(search *q, const steering_candidate *candidates, int n, err *e) {
    int64_t d = q->s->sae->cfg.d_in;
    double length;
    err_code rc;
    TRY(steering_add_unsteered(&q->singles, e));
    for (int i = 0; i < n; i++)
        TRY(steering_add_features(q->s, &q->singles, candidates[i].items, candidates[i].n, candidates[i].name, e));
    if (q->s->db) {
        TRY(mem_new(&q->difference, (size_t)d, sizeof *q->difference, "a direction", e));
        TRY(steering_difference(q->c, q->s, q->o->steer.words, q->difference, &length, &q->mentions, e));
        if (q->mentions)
            TRY(add_differences(q, e));
        else
            ctx_log(q->c, LOG_NOTE, "the corpus mentions none of the words: no difference of means to compare with");
    }
    TRY(run_round(q, &q->singles, ROUND_CHOICE, NULL, e));
    q->best_difference = steering_best(&q->singles, STEERING_DIFFERENCE);
done:
    return rc;
}

/* The best arm of each of the best features, best first. */
static int best_arms(const steering_arms *a, int *out, int max) {
    int n = 0;
    while (n < max) {
        int best = -1;
        for (int i = 0; i < a->n; i++) {
            bool usable = a->items[i].kind == STEERING_FEATURES && a->items[i].n == 1;
            for (int j = 0; j < n && usable; j++) usable = a->items[out[j]].items[0].feature != a->items[i].items[0].feature;
            if (usable && (best < 0 || steering_value(a, i) > steering_value(a, best))) best = i;
        }
        if (best < 0) break;
        out[n++] = best;
    }
    return n;
}

/* Two features together, at a share of their strengths. */
static err_code add_pair(search *q, const steering_arm *first, const steering_arm *second, double scale, err *e) {
    intervention items[2] = {first->items[0], second->items[0]};
    char name[STEERING_NAME_MAX];
    for (int i = 0; i < 2; i++) items[i].value *= (float)scale;
    int used = snprintf(name, sizeof name, "%s + %s", first->name, second->name);
    if (scale != 1 && used > 0 && (size_t)used < sizeof name)
        snprintf(name + used, sizeof name - (size_t)used, ", both times %.3g", scale);
    return steering_add_features(q->s, &q->pairs, items, 2, name, e);
}

static err_code try_pairs(search *q, err *e) {
    int best[SUMMED], n = best_arms(&q->singles, best, SUMMED);
    const steering_arm *single = q->singles.items;
    err_code rc = ERR_OK;
    if (n < 2) return rc;
    TRY(steering_add_unsteered(&q->pairs, e));
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            for (int k = 0; k < N_SCALES; k++) TRY(add_pair(q, &single[best[i]], &single[best[j]], scales[k], e));
    TRY(run_round(q, &q->pairs, ROUND_CHOICE, NULL, e));
done:
    return rc;
}

/* Copies of the best arms of features. */
static err_code add_finalists(search *q, const steering_arms *from, int max, err *e) {
    uint8_t *taken = NULL;
    err_code rc;
    TRY(mem_new0(&taken, (size_t)from->n, 1, "arms", e));
    for (int added = 0; added < max; added++) {
        int best = -1;
        for (int i = 0; i < from->n; i++)
            if (from->items[i].kind == STEERING_FEATURES && !taken[i] &&
                (best < 0 || steering_value(from, i) > steering_value(from, best)))
                best = i;
        if (best < 0) break;
        taken[best] = 1;
        TRY(add_copy(q, &q->finals, &from->items[best], e));
    }
done:
    free(taken);
    return rc;
}

/* The best of finals first .. end - 1, -1 when there is none. */
static int best_final(const search *q, int first, int end) {
    int best = first < end ? first : -1;
    for (int i = first + 1; i < end; i++)
        if (steering_value(&q->finals, i) > steering_value(&q->finals, best)) best = i;
    return best;
}

/* The best of the first round again, on more texts and other streams: the best of many is partly the luckiest. */
static err_code run_finals(search *q, err *e) {
    err_code rc;
    TRY(steering_add_unsteered(&q->finals, e));
    TRY(add_finalists(q, &q->singles, FINAL_SINGLES, e));
    int singles = q->finals.n;
    if (q->pairs.n) TRY(add_finalists(q, &q->pairs, FINAL_PAIRS, e));
    TRY(run_round(q, &q->finals, ROUND_FINAL, NULL, e));
    q->best_single = best_final(q, 1, singles);
    q->best_pair = best_final(q, singles, q->finals.n);
done:
    return rc;
}

/* ---- the second half ---- */

/* Arms: unsteered, best single, best pair, best difference, random features, random direction. *best: the one that won. */
static err_code report(search *q, int *best, steer_result *texts, err *e) {
    err_code rc;
    TRY(steering_add_unsteered(&q->report, e));
    TRY(add_copy(q, &q->report, &q->finals.items[q->best_single], e));
    *best = 1;
    if (q->best_pair >= 0) {
        TRY(add_copy(q, &q->report, &q->finals.items[q->best_pair], e));
        if (steering_value(&q->finals, q->best_pair) > steering_value(&q->finals, q->best_single)) *best = 2;
    }
    if (q->best_difference >= 0) TRY(add_copy(q, &q->report, &q->singles.items[q->best_difference], e));
    if (isfinite(q->report.items[*best].length)) {
        if (q->s->db) TRY(steering_add_random_features(q->s, &q->report, *best, q->o->steer.sample.seed, e));
        TRY(steering_add_random_directions(q->s, &q->report, *best, q->o->steer.sample.seed, e));
    }
    TRY(run_round(q, &q->report, ROUND_REPORT, texts, e));
done:
    return rc;
}

/* ---- all of it ---- */

static json_t *words_to_json(const word_list *l) {
    json_t *words = json_array();
    for (int i = 0; i < l->n; i++) json_array_append_new(words, json_string(l->items[i].text));
    return words;
}

/* All but the unsteered arm, which singles have too. */
static void add_arms(json_t *choice, const steering_arms *a) {
    json_t *more = steering_arms_to_json(a);
    if (json_array_size(more)) json_array_remove(more, 0);
    json_array_extend(choice, more);
    json_decref(more);
}

static json_t *to_json(const search *q, int best, const steer_result *texts) {
    const steering_search_opts *o = q->o;
    int first = o->n_prompts / 2;
    json_t *choice = steering_arms_to_json(&q->singles);
    add_arms(choice, &q->pairs);
    return json_pack("{s:o s:o s:o s:o s:s s:I s:I s:I s:I s:I s:f s:f s:I s:I s:o}", "words", words_to_json(o->steer.words),
                     "choice", choice, "finals", steering_arms_to_json(&q->finals), "arms", steering_arms_to_json(&q->report),
                     "best", q->report.items[best].name, "prompts_choice", (json_int_t)first, "prompts_report",
                     (json_int_t)(o->n_prompts - first), "samples_choice", (json_int_t)o->choice_samples, "samples_report",
                     (json_int_t)o->report_samples, "tokens", (json_int_t)o->steer.n_tokens, "temperature",
                     o->steer.sample.temperature, "repeat_penalty", o->steer.sample.repeat_penalty, "seed",
                     (json_int_t)o->steer.sample.seed, "positions_changed",
                     (json_int_t)q->report.items[best].score.positions_changed, "outputs",
                     steering_outputs_to_json(texts, o->prompts + first, 0, best));
}

err_code steering_search(const ctx *c, const steering *s, const steering_candidate *candidates, int n,
                         const steering_search_opts *o, json_t **out, err *e) {
    search q = {.c = c, .s = s, .o = o, .best_pair = -1};
    steer_result texts = {0};
    int best;
    *out = NULL;
    err_code rc;
    if (o->n_prompts < 2)
        return err_set(e, ERR_USAGE, "choosing needs at least two prompts, one to choose on and one to report on");
    TRY(try_singles(&q, candidates, n, e));
    if (o->pairs) TRY(try_pairs(&q, e));
    TRY(run_finals(&q, e));
    TRY(report(&q, &best, &texts, e));
    *out = to_json(&q, best, &texts);
    if (!*out) rc = err_nomem(e, "the steering result", 0);
done:
    steer_result_release(&texts);
    steering_arms_release(&q.singles);
    steering_arms_release(&q.pairs);
    steering_arms_release(&q.finals);
    steering_arms_release(&q.report);
    free(q.difference);
    return rc;
}
