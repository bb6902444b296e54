/* Which features at which strength steer best: every candidate on the first half of the prompts, the best of them together,
 * the best of all again; the winners and what they must beat on the second half. */
#include "analysis/steering_internal.h"
#include "core/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOGETHER = 3,     /* features at most */
    SUMMED = 5,       /* best features that are tried together: any two, and the best ... */
    GROWN = 2,        /* ... of those twos with any third */
    LENGTHS = 3,      /* for the difference of means */
    FINALISTS = 3,    /* best arms of one, of two, of three features ... */
    FINAL_SAMPLES = 3 /* ... that are compared again, on this many times the texts */
};
static const double scales[] = {1.25, 1.0, 0.75}; /* of the strengths that features have alone, for all that are together */
enum { N_SCALES = sizeof scales / sizeof *scales };

typedef struct search {
    const ctx *c;
    const steering *s;
    const steering_search_opts *o;
    float *difference;              /* [d_model], unit */
    int64_t mentions;               /* behind it; 0: there is none */
    steering_arms choice[TOGETHER]; /* arms of one feature and the difference of means; of two features; of three */
    steering_arms finals, report;
    int best_difference;   /* in choice[0]; -1: none */
    int best_of[TOGETHER]; /* in finals; -1: none */
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
    TRY(mem_new(&lengths, (size_t)q->choice[0].n, sizeof *lengths, "lengths", e));
    for (int i = 0; i < q->choice[0].n; i++)
        if (q->choice[0].items[i].kind == STEERING_FEATURES && isfinite(q->choice[0].items[i].length))
            lengths[n++] = q->choice[0].items[i].length;
    qsort(lengths, (size_t)n, sizeof *lengths, by_double);
    for (int i = 0; n && i < LENGTHS; i++) {
        char name[STEERING_NAME_MAX];
        double length = lengths[(int64_t)(n - 1) * i / (LENGTHS - 1)];
        snprintf(name, sizeof name, "difference of means, length %.3g", length);
        TRY(steering_add_direction(&q->choice[0], name, q->difference, q->s->sae->cfg.d_in, length, e));
    }
done:
    free(lengths);
    return rc;
}

static err_code try_singles(search *q, const steering_candidate *candidates, int n, err *e) {
    int64_t d = q->s->sae->cfg.d_in;
    double length;
    err_code rc;
    TRY(steering_add_unsteered(&q->choice[0], e));
    for (int i = 0; i < n; i++)
        TRY(steering_add_features(q->s, &q->choice[0], candidates[i].items, candidates[i].n, candidates[i].name, e));
    if (q->s->db) {
        TRY(mem_new(&q->difference, (size_t)d, sizeof *q->difference, "a direction", e));
        TRY(steering_difference(q->c, q->s, q->o->steer.words, q->difference, &length, &q->mentions, e));
        if (q->mentions)
            TRY(add_differences(q, e));
        else
            ctx_log(q->c, LOG_NOTE, "the corpus mentions none of the words: no difference of means to compare with");
    }
    TRY(run_round(q, &q->choice[0], ROUND_CHOICE, NULL, e));
    q->best_difference = steering_best(&q->choice[0], STEERING_DIFFERENCE);
done:
    return rc;
}

/* ---- several features together ---- */

static const intervention *item_of(const steering_arm *arm, int64_t feature) {
    for (int i = 0; i < arm->n; i++)
        if (arm->items[i].feature == feature) return &arm->items[i];
    return NULL;
}

static bool same_features(const steering_arm *a, const steering_arm *b) {
    for (int i = 0; i < a->n; i++)
        if (!item_of(b, a->items[i].feature)) return false;
    return a->n == b->n;
}

/* The best arm of each of the best sets of `together` features, best first. */
static int best_arms(const steering_arms *a, int together, int *out, int max) {
    int n = 0;
    while (n < max) {
        int best = -1;
        for (int i = 0; i < a->n; i++) {
            bool usable = a->items[i].kind == STEERING_FEATURES && a->items[i].n == together;
            for (int j = 0; j < n && usable; j++) usable = !same_features(&a->items[out[j]], &a->items[i]);
            if (usable && (best < 0 || steering_value(a, i) > steering_value(a, best))) best = i;
        }
        if (best < 0) break;
        out[n++] = best;
    }
    return n;
}

/* Arms of one feature held together, all at each share of their strengths; a set that is there already is left out. */
static err_code add_together(search *q, steering_arms *to, const steering_arm *const *singles, int n, err *e) {
    intervention items[TOGETHER];
    const steering_arm set = {.items = items, .n = n};
    char joined[TOGETHER * STEERING_NAME_MAX] = "";
    err_code rc = ERR_OK;
    for (int i = 0; i < n; i++) {
        items[i] = singles[i]->items[0];
        size_t used = strlen(joined);
        snprintf(joined + used, sizeof joined - used, "%s%s", i ? " + " : "", singles[i]->name);
    }
    for (int i = 1; i < to->n; i++)
        if (same_features(&set, &to->items[i])) return rc;
    for (int k = 0; k < N_SCALES && !rc; k++) {
        char name[sizeof joined + 32];
        snprintf(name, sizeof name, scales[k] == 1 ? "%s" : "%s, each times %.3g", joined, scales[k]);
        for (int i = 0; i < n; i++) items[i].value = (float)scales[k] * singles[i]->items[0].value;
        rc = steering_add_features(q->s, to, items, n, name, e);
    }
    return rc;
}

/* The best sets of one feature less, each with every one of the best features that is not in it. */
static err_code try_together(search *q, int together, err *e) {
    const steering_arms *one = &q->choice[0], *fewer = &q->choice[together - 2];
    steering_arms *to = &q->choice[together - 1];
    int single[SUMMED], set[SUMMED];
    int n = best_arms(one, 1, single, SUMMED), n_sets = best_arms(fewer, together - 1, set, together == 2 ? SUMMED : GROWN);
    err_code rc = ERR_OK;
    if (n < together) return rc;
    TRY(steering_add_unsteered(to, e));
    for (int i = 0; i < n_sets; i++)
        for (int j = 0; j < n; j++) {
            const steering_arm *base = &fewer->items[set[i]], *members[TOGETHER];
            if (item_of(base, one->items[single[j]].items[0].feature)) continue;
            for (int k = 0, m = 0; k < n; k++)
                if (k == j || item_of(base, one->items[single[k]].items[0].feature)) members[m++] = &one->items[single[k]];
            TRY(add_together(q, to, members, together, e));
        }
    TRY(run_round(q, to, ROUND_CHOICE, NULL, e));
done:
    return rc;
}

/* ---- again, on more texts ---- */

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
    int end[TOGETHER];
    err_code rc;
    TRY(steering_add_unsteered(&q->finals, e));
    for (int i = 0; i < TOGETHER; i++) {
        if (q->choice[i].n) TRY(add_finalists(q, &q->choice[i], FINALISTS, e));
        end[i] = q->finals.n;
    }
    TRY(run_round(q, &q->finals, ROUND_FINAL, NULL, e));
    for (int i = 0; i < TOGETHER; i++) q->best_of[i] = best_final(q, i ? end[i - 1] : 1, end[i]);
done:
    return rc;
}

/* ---- the second half ---- */

/* Arms: unsteered, the best of one, two and three features, best difference, random features, random direction. *best: the one
 * that won. */
static err_code report(search *q, int *best, steer_result *texts, err *e) {
    int won = q->best_of[0];
    err_code rc;
    *best = 1;
    TRY(steering_add_unsteered(&q->report, e));
    for (int i = 0; i < TOGETHER; i++) {
        int final = q->best_of[i];
        if (final < 0) continue;
        TRY(add_copy(q, &q->report, &q->finals.items[final], e));
        if (steering_value(&q->finals, final) > steering_value(&q->finals, won)) won = final, *best = q->report.n - 1;
    }
    if (q->best_difference >= 0) TRY(add_copy(q, &q->report, &q->choice[0].items[q->best_difference], e));
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

/* All but the unsteered arm, which is there already. */
static void add_arms(json_t *choice, const steering_arms *a) {
    json_t *more = steering_arms_to_json(a);
    if (json_array_size(more)) json_array_remove(more, 0);
    json_array_extend(choice, more);
    json_decref(more);
}

static json_t *to_json(const search *q, int best, const steer_result *texts) {
    const steering_search_opts *o = q->o;
    int first = o->n_prompts / 2;
    json_t *choice = steering_arms_to_json(&q->choice[0]);
    for (int i = 1; i < TOGETHER; i++) add_arms(choice, &q->choice[i]);
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
    search q = {.c = c, .s = s, .o = o};
    steer_result texts = {0};
    int best;
    *out = NULL;
    err_code rc;
    if (o->n_prompts < 2)
        return err_set(e, ERR_USAGE, "choosing needs at least two prompts, one to choose on and one to report on");
    TRY(try_singles(&q, candidates, n, e));
    for (int together = 2; together <= TOGETHER; together++) TRY(try_together(&q, together, e));
    TRY(run_finals(&q, e));
    TRY(report(&q, &best, &texts, e));
    *out = to_json(&q, best, &texts);
    if (!*out) rc = err_nomem(e, "the steering result", 0);
done:
    steer_result_release(&texts);
    for (int i = 0; i < TOGETHER; i++) steering_arms_release(&q.choice[i]);
    steering_arms_release(&q.finals);
    steering_arms_release(&q.report);
    free(q.difference);
    return rc;
}
