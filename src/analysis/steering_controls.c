/* The two controls of steering that need the corpus: what mentions of a concept have in common, and other features like those
 * that are steered. */
#include "analysis/rows.h"
#include "analysis/steering_internal.h"
#include "core/mem.h"
#include "core/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- difference of means ---- */

enum {
    REACH = 32, /* tokens behind a mention that are still about it */
    ROWS_AT_ONCE = 4096
};

/* Text of a document, and where each of its tokens begins. */
static err_code document_text(const row_source *r, int64_t doc, strbuf *text, size_t **starts, size_t *cap, err *e) {
    const uint64_t *offsets = r->corpus.doc_offsets;
    const vocab_view *v = &r->index.vocab;
    err_code rc = mem_grow(starts, cap, (size_t)(offsets[doc + 1] - offsets[doc]), sizeof **starts, "a document", e);
    if (rc) return rc;
    strbuf_reset(text);
    for (uint64_t t = offsets[doc]; t < offsets[doc + 1]; t++) {
        uint32_t id = r->corpus.tokens[t];
        (*starts)[t - offsets[doc]] = text->len;
        strbuf_add(text, v->bytes + v->offsets[id], (size_t)(v->offsets[id + 1] - v->offsets[id]));
    }
    return strbuf_check(text, e);
}

/* The rows of tokens at and behind each place get their mark. */
static void mark_behind(const row_source *r, int64_t doc, const size_t *starts, const size_t *places, int64_t n_places,
                        uint8_t *marked) {
    int64_t first = (int64_t)r->corpus.doc_offsets[doc], n = (int64_t)r->corpus.doc_offsets[doc + 1] - first, t = 0;
    for (int64_t i = 0; i < n_places; i++) {
        while (t + 1 < n && starts[t + 1] <= places[i]) t++;
        for (int64_t j = t; j < n && j <= t + REACH; j++)
            if (r->index.token_row[first + j] >= 0) marked[r->index.token_row[first + j]] = 1;
    }
}

static err_code mark_mentions(const row_source *r, const word_list *words, uint8_t *marked, int64_t *mentions, err *e) {
    strbuf text = STRBUF_INIT;
    size_t *starts = NULL, cap = 0, *places = NULL;
    err_code rc = ERR_OK;
    *mentions = 0;
    for (int64_t doc = 0; doc < r->corpus.n_docs; doc++) {
        int64_t n_places;
        TRY(document_text(r, doc, &text, &starts, &cap, e));
        free(places);
        TRY(judge_find_words(words, text.data, text.len, &places, &n_places, e));
        mark_behind(r, doc, starts, places, n_places, marked);
        *mentions += n_places;
    }
done:
    free(starts);
    free(places);
    strbuf_release(&text);
    return rc;
}

/* u = mean of the marked rows - mean of all. Rows are added in order: the same for any thread count. */
static err_code subtract_means(const ctx *c, const row_source *r, const uint8_t *marked, double *u /* [d], zero */, err *e) {
    int64_t d = r->hook->d_model, n_rows = r->info->n_rows, n_marked = 0;
    float *x = NULL;
    double *all = NULL;
    err_code rc;
    TRY(mem_new(&x, ROWS_AT_ONCE, (size_t)d * sizeof *x, "rows", e));
    TRY(mem_new0(&all, (size_t)d, sizeof *all, "a mean", e));
    for (int64_t first = 0; first < n_rows; first += ROWS_AT_ONCE) {
        int64_t n = n_rows - first < ROWS_AT_ONCE ? n_rows - first : ROWS_AT_ONCE;
        TRY(ctx_check_cancel(c, e));
        TRY(row_source_read(r, c, first, n, x, e));
        for (int64_t i = 0; i < n; i++) {
            if (r->is_long[first + i]) continue;
            n_marked += marked[first + i];
            for (int64_t j = 0; j < d; j++) all[j] += x[i * d + j];
            for (int64_t j = 0; marked[first + i] && j < d; j++) u[j] += x[i * d + j];
        }
    }
    for (int64_t j = 0; j < d; j++) u[j] = u[j] / (double)(n_marked ? n_marked : 1) - all[j] / (double)(n_rows - r->n_long);
done:
    free(x);
    free(all);
    return rc;
}

err_code steering_difference(const ctx *c, const steering *s, const word_list *words, float *u, double *length,
                             int64_t *mentions, err *e) {
    char *path = NULL, *hook = NULL;
    row_source rows = {0};
    uint8_t *marked = NULL;
    double *difference = NULL, sum = 0;
    err_code rc;
    if (!s->db)
        return err_set(e, ERR_USAGE,
                       "the difference of means needs the activations: give the features.db in place of the SAE");
    TRY(feature_db_meta_path(s->db, "activations", &path, e));
    TRY(feature_db_meta(s->db, "hook_name", &hook, e));
    TRY(row_source_open(path, hook, &rows, e));
    int64_t d = rows.hook->d_model;
    if (d != s->sae->cfg.d_in) {
        rc = err_set(e, ERR_MISMATCH, "%s: rows of %" PRId64 " values, the SAE takes %" PRId64, path, d, s->sae->cfg.d_in);
        goto done;
    }
    TRY(mem_new0(&marked, (size_t)rows.info->n_rows, 1, "rows", e));
    TRY(mem_new0(&difference, (size_t)d, sizeof *difference, "a direction", e));
    TRY(mark_mentions(&rows, words, marked, mentions, e));
    if (!*mentions) goto done;
    TRY(subtract_means(c, &rows, marked, difference, e));
    for (int64_t j = 0; j < d; j++) sum += difference[j] * difference[j];
    *length = sqrt(sum);
    for (int64_t j = 0; j < d; j++) u[j] = (float)(difference[j] / *length);
done:
    free(path);
    free(hook);
    free(marked);
    free(difference);
    row_source_release(&rows);
    return rc;
}

/* ---- features of nearly the same density ---- */

enum { NEAREST = 60 }; /* in density, of which the controls are drawn */

static bool is_steered(const steering_arm *arm, int64_t feature) {
    for (int i = 0; i < arm->n; i++)
        if (arm->items[i].feature == feature) return true;
    return false;
}

/* all is sorted by density: the NEAREST around the position where `density` would stand. */
static int64_t first_near(const feature_stats *all, int64_t n, double density) {
    int64_t at = 0;
    while (at < n && all[at].density > density) at++;
    int64_t first = at - NEAREST / 2;
    if (first + NEAREST > n) first = n - NEAREST;
    return first < 0 ? 0 : first;
}

/* Fills each list's i-th intervention with a feature like the arm's i-th, moving a row as far. */
static err_code draw_like(const steering *s, const feature_stats *all, int64_t n_all, const steering_arm *of, int i,
                          uint64_t seed, steering_arm *out, err *e) {
    const intervention *target = &of->items[i];
    int64_t d = s->sae->cfg.d_in, candidates[NEAREST], n = 0;
    feature_stats stats;
    err_code rc = feature_db_stats(s->db, target->feature, &stats, e);
    if (rc) return rc;
    int64_t first = first_near(all, n_all, stats.density);
    for (int64_t k = first; k < n_all && k < first + NEAREST; k++)
        if (all[k].id < s->sae->cfg.d_sae && !is_steered(of, all[k].id)) candidates[n++] = all[k].id;
    if (!n)
        return err_set(e, ERR_USAGE,
                       "the database has no other feature that fires, so there are no random ones to compare with");
    rng r = rng_stream(seed, RNG_CONTROL, (uint64_t)(STEERING_CONTROLS + i));
    for (int list = 0; list < out->n_lists; list++) {
        int64_t k = list % n,
                other = k + (int64_t)rng_below(&r, (uint64_t)(n - k)); /* without repetition while there are any */
        int64_t feature = candidates[other];
        candidates[other] = candidates[k];
        candidates[k] = feature;
        double scale = 0, own = 0;
        for (int64_t j = 0; j < d; j++) {
            scale += (double)s->sae->W_dec[target->feature * d + j] * s->sae->W_dec[target->feature * d + j];
            own += (double)s->sae->W_dec[feature * d + j] * s->sae->W_dec[feature * d + j];
        }
        intervention *item = &out->items[list * out->n + i];
        *item = *target;
        item->feature = feature;
        if (own > 0) item->value = (float)(target->value * sqrt(scale / own));
    }
    return ERR_OK;
}

/* Scales every list so that it moves a row exactly as far as the arm it is a control of. */
static void match_length(const sae *s, steering_arm *arm, double length, double *sum /* [d] */) {
    int64_t d = s->cfg.d_in;
    for (int list = 0; list < arm->n_lists; list++) {
        intervention *items = arm->items + list * arm->n;
        double square = 0;
        memset(sum, 0, (size_t)d * sizeof *sum);
        for (int i = 0; i < arm->n; i++)
            for (int64_t j = 0; j < d; j++) sum[j] += (double)items[i].value * s->W_dec[items[i].feature * d + j];
        for (int64_t j = 0; j < d; j++) square += sum[j] * sum[j];
        for (int i = 0; i < arm->n && square > 0; i++) items[i].value *= (float)(length / sqrt(square));
    }
}

err_code steering_add_random_features(const steering *s, steering_arms *a, int of, uint64_t seed, err *e) {
    feature_query every = {.sort = "density", .min_fires = 1};
    feature_stats *all = NULL;
    double *sum = NULL;
    int64_t n_all;
    int n = a->items[of].n;
    double length = a->items[of].length;
    err_code rc;
    if (!s->db) return err_set(e, ERR_USAGE, "random features of like density need the features.db in place of the SAE");
    TRY(feature_db_count(s->db, &every.limit, e));
    TRY(feature_db_list(s->db, &every, &all, &n_all, e));
    TRY(mem_new(&sum, (size_t)s->sae->cfg.d_in, sizeof *sum, "a direction", e));
    TRY(steering_new_arm(
        a, (steering_arm){.kind = STEERING_RANDOM_FEATURES, .n = n, .n_lists = STEERING_CONTROLS, .length = length},
        "random features", e));
    steering_arm *arm = &a->items[a->n - 1];
    for (int i = 0; i < n; i++) TRY(draw_like(s, all, n_all, &a->items[of], i, seed, arm, e));
    match_length(s->sae, arm, length, sum);
done:
    free(all);
    free(sum);
    return rc;
}

/* ---- random directions ---- */

err_code steering_add_random_directions(const steering *s, steering_arms *a, int of, uint64_t seed, err *e) {
    int64_t d = s->sae->cfg.d_in;
    double length = a->items[of].length;
    const intervention_kind *along = intervention_kind_by_name("direction", e);
    steering_arm arm = {.kind = STEERING_RANDOM_DIRECTION, .n = 1, .n_lists = STEERING_CONTROLS, .length = length};
    err_code rc;
    TRY(steering_new_arm(a, arm, "random direction", e));
    for (int i = 0; i < STEERING_CONTROLS; i++) {
        rng r = rng_stream(seed, RNG_CONTROL, (uint64_t)i);
        float *u;
        TRY(steering_new_direction(a, d, &u, e));
        for (int64_t j = 0; j < d; j++) u[j] = (float)rng_normal(&r);
        double scale = steering_norm(u, d);
        for (int64_t j = 0; j < d; j++) u[j] = (float)(u[j] / scale);
        a->items[a->n - 1].items[i] = (intervention){.kind = along, .value = (float)length, .direction = u};
    }
done:
    return rc;
}
