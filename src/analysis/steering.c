#include "analysis/steering_internal.h"

#include "core/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a text may lose before it counts as broken. Unsteered text repeats a few 3-grams, and text about another subject is
 * less likely behind a neutral prompt than what the model would have said: neither is a fault. */
#define REPETITION_SLACK 0.1
#define PERPLEXITY_SLACK 4.0
#define REPETITION_COST  2.0
#define PERPLEXITY_COST  0.5

/* ---- a model with an SAE in it ---- */

static bool is_database(const char *path) {
    static const char magic[] = "SQLite format 3";
    char head[sizeof magic] = {0};
    FILE *f = file_is_dir(path) ? NULL : fopen(path, "rb");
    bool is = f && fread(head, 1, sizeof magic, f) == sizeof magic && !memcmp(head, magic, sizeof magic);
    if (f) fclose(f);
    return is;
}

static err_code load_sae(const char *path, steering *s, err *e) {
    char *folder = NULL, *sha256 = NULL;
    err_code rc;
    if (!is_database(path)) return sae_load(path, &s->sae, e);
    TRY(feature_db_open(path, &s->db, e));
    TRY(feature_db_meta_path(s->db, "sae", &folder, e));
    TRY(feature_db_meta(s->db, "sae_sha256", &sha256, e));
    TRY(sae_load(folder, &s->sae, e));
    if (strcmp(s->sae->sha256, sha256))
        rc = err_set(e, ERR_MISMATCH,
                     "%s: its weights have SHA-256 %.12s.., but %s was made with %.12s..; run sae features again", folder,
                     s->sae->sha256, path, sha256);
done:
    free(folder);
    free(sha256);
    return rc;
}

err_code steering_open(model *m, const char *path, steering *out, err *e) {
    *out = (steering){.model = m};
    err_code rc;
    TRY(load_sae(path, out, e));
    rc = steer_hook_point(m, out->sae, &out->at, e);
    if (rc) err_prefix(e, rc, "%s", path);
done:
    if (rc) steering_release(out);
    return rc;
}

void steering_release(steering *s) {
    feature_db_close(s->db);
    sae_free(s->sae);
    *s = (steering){0};
}

/* ---- strengths ---- */

err_code steering_parse_strength(const char *text, steering_strength *out, err *e) {
    char *end;
    double value = strtod(text, &end);
    bool times_max = *end == 'x' && end != text;
    if (end == text || end[times_max] || !isfinite(value))
        return err_set(e, ERR_USAGE, "'%.40s' is no strength, expected a value like 12 or a multiple of the maximum like 2x",
                       text);
    *out = (steering_strength){value, times_max};
    return ERR_OK;
}

err_code steering_parse_setting(const char *text, steering_setting *out, err *e) {
    char *end;
    long long feature = strtoll(text, &end, 10);
    if (end == text || (*end && *end != '='))
        return err_set(e, ERR_USAGE, "'%.40s' names no feature, expected its number and a strength like 1091=12 or 1091=2x",
                       text);
    *out = (steering_setting){.feature = feature, .has_strength = *end == '='};
    return *end ? steering_parse_strength(end + 1, &out->strength, e) : ERR_OK;
}

static err_code check_feature(const steering *s, int64_t feature, err *e) {
    if (feature >= 0 && feature < s->sae->cfg.d_sae) return ERR_OK;
    return err_set(e, ERR_USAGE, "feature %" PRId64 " does not exist, the SAE has 0 .. %" PRId64, feature,
                   s->sae->cfg.d_sae - 1);
}

/* Multiples and means are the database's to know. */
static err_code look_up(const steering *s, int64_t feature, const char *what, feature_stats *out, err *e) {
    if (!s->db)
        return err_set(e, ERR_USAGE,
                       "%s of feature %" PRId64 " is not known from the SAE alone: give the features.db in its place", what,
                       feature);
    err_code rc = feature_db_stats(s->db, feature, out, e);
    if (!rc && out->fires == 0)
        rc = err_set(e, ERR_USAGE,
                     "feature %" PRId64 " never fires on the database's corpus, so %s is not known: give a value", feature,
                     what);
    return rc;
}

err_code steering_resolve(const steering *s, const intervention_kind *kind, const steering_setting *setting,
                          intervention *out, err *e) {
    feature_stats stats = {0};
    bool factor = !strcmp(kind->name, "scale"), mean = !strcmp(kind->name, "ablate_mean");
    double value = setting->strength.value;
    err_code rc;
    TRY(check_feature(s, setting->feature, e));
    if (kind->needs_value && !setting->has_strength) {
        rc = err_set(e, ERR_USAGE, "feature %" PRId64 " has no strength, which %s needs: write %" PRId64 "=2x",
                     setting->feature, kind->name, setting->feature);
        goto done;
    }
    if (setting->strength.times_max && !factor) {
        TRY(look_up(s, setting->feature, "the maximum", &stats, e));
        value *= stats.max;
    }
    if (mean) TRY(look_up(s, setting->feature, "the mean", &stats, e));
    *out = (intervention){.kind = kind,
                          .feature = setting->feature,
                          .value = (float)value,
                          .mean = mean ? (float)(stats.mean * stats.density) : 0}; /* stats.mean: where it fires */
done:
    return rc;
}

/* ---- arms ---- */

err_code steering_new_arm(steering_arms *a, steering_arm arm, const char *name, err *e) {
    err_code rc;
    TRY(mem_grow(&a->items, &a->cap, (size_t)a->n + 1, sizeof *a->items, "arms", e));
    TRY(mem_new0(&arm.items, (size_t)(arm.n_lists * arm.n), sizeof *arm.items, "arms", e));
    rc = mem_new0(&arm.lists, (size_t)arm.n_lists, sizeof *arm.lists, "arms", e);
    if (rc) {
        free(arm.items);
        goto done;
    }
    for (int i = 0; i < arm.n_lists; i++) arm.lists[i] = (intervention_list){arm.items + i * arm.n, arm.n};
    snprintf(arm.name, sizeof arm.name, "%s", name);
    a->items[a->n++] = arm;
done:
    return rc;
}

err_code steering_new_direction(steering_arms *a, int64_t d, float **out, err *e) {
    err_code rc;
    TRY(mem_grow(&a->directions, &a->cap_directions, (size_t)a->n_directions + 1, sizeof *a->directions, "directions", e));
    TRY(mem_new(out, (size_t)d, sizeof **out, "a direction", e));
    a->directions[a->n_directions++] = *out;
done:
    return rc;
}

void steering_arms_release(steering_arms *a) {
    for (int i = 0; i < a->n; i++) {
        free(a->items[i].items);
        free(a->items[i].lists);
    }
    for (int i = 0; i < a->n_directions; i++) free(a->directions[i]);
    free(a->items);
    free(a->directions);
    *a = (steering_arms){0};
}

double steering_norm(const float *x, int64_t d) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) sum += (double)x[j] * x[j];
    return sqrt(sum);
}

/* || sum_i value_i W_dec_i ||, NAN when some amount is not a value, or when rows are moved in units of their own. */
static err_code joint_length(const sae *s, const intervention *items, int n, double *out, err *e) {
    int64_t d = s->cfg.d_in;
    float *sum;
    err_code rc = mem_new0(&sum, (size_t)d, sizeof *sum, "a direction", e);
    if (rc) return rc;
    bool known = !s->cfg.norm;
    for (int i = 0; i < n; i++) {
        known &= !strcmp(items[i].kind->name, "clamp") || !strcmp(items[i].kind->name, "add");
        for (int64_t j = 0; j < d; j++) sum[j] += items[i].value * s->W_dec[items[i].feature * d + j];
    }
    *out = known ? steering_norm(sum, d) : NAN;
    free(sum);
    return ERR_OK;
}

err_code steering_add_unsteered(steering_arms *a, err *e) {
    return steering_new_arm(a, (steering_arm){.kind = STEERING_UNSTEERED}, "unsteered", e);
}

err_code steering_add_features(const steering *s, steering_arms *a, const intervention *items, int n, const char *name,
                               err *e) {
    steering_arm arm = {.kind = STEERING_FEATURES, .n = n, .n_lists = 1};
    err_code rc;
    TRY(joint_length(s->sae, items, n, &arm.length, e));
    TRY(steering_new_arm(a, arm, name, e));
    memcpy(a->items[a->n - 1].items, items, (size_t)n * sizeof *items);
done:
    return rc;
}

err_code steering_add_direction(steering_arms *a, const char *name, const float *u, int64_t d, double length, err *e) {
    steering_arm arm = {.kind = STEERING_DIFFERENCE, .n = 1, .n_lists = 1, .length = length};
    float *kept;
    err_code rc;
    TRY(steering_new_direction(a, d, &kept, e));
    memcpy(kept, u, (size_t)d * sizeof *u);
    TRY(steering_new_arm(a, arm, name, e));
    a->items[a->n - 1].items[0] =
        (intervention){.kind = intervention_kind_by_name("direction", e), .value = (float)length, .direction = kept};
done:
    return rc;
}

/* ---- running ---- */

err_code steering_run(const ctx *c, const steering *s, steering_arms *a, const char *const *prompts, int n_prompts,
                      const steer_opts *o, steer_result *texts, err *e) {
    steer_arm *arms = NULL;
    steer_result result = {0};
    err_code rc;
    TRY(mem_new(&arms, (size_t)a->n, sizeof *arms, "arms", e));
    for (int i = 0; i < a->n; i++) arms[i] = (steer_arm){a->items[i].name, a->items[i].lists, a->items[i].n_lists};
    TRY(steer_run(c, s->model, s->sae, s->at, arms, a->n, prompts, n_prompts, o, &result, e));
    for (int i = 0; i < a->n; i++) a->items[i].score = result.scores[i];
    if (texts) {
        *texts = result;
        result = (steer_result){0};
    }
done:
    steer_result_release(&result);
    free(arms);
    return rc;
}

double steering_value(const steering_arms *a, int arm) {
    const steer_score *x = &a->items[arm].score, *unsteered = &a->items[0].score;
    double broken = x->repetition - unsteered->repetition - REPETITION_SLACK;
    double odd = log(x->perplexity / (PERPLEXITY_SLACK * unsteered->perplexity)); /* NAN where it was not measured */
    return (double)x->mentions / (double)x->n - (broken > 0 ? REPETITION_COST * broken : 0) -
           (odd > 0 ? PERPLEXITY_COST * odd : 0);
}

int steering_best(const steering_arms *a, steering_kind kind) {
    int best = -1;
    for (int i = 0; i < a->n; i++)
        if (a->items[i].kind == kind && (best < 0 || steering_value(a, i) > steering_value(a, best))) best = i;
    return best;
}

/* ---- JSON ---- */

static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static const char *kind_name(steering_kind kind) {
    static const char *const names[] = {"unsteered", "features", "difference_of_means", "random_features",
                                        "random_direction"};
    return names[kind];
}

json_t *steering_arm_to_json(const steering_arm *arm) {
    const steer_score *x = &arm->score;
    interval rate = stats_wilson(x->mentions, x->n);
    json_t *features = json_array();
    for (int i = 0; arm->kind == STEERING_FEATURES && i < arm->n; i++)
        json_array_append_new(features, json_pack("{s:I s:s s:o}", "feature", (json_int_t)arm->items[i].feature, "mode",
                                                  arm->items[i].kind->name, "value", real((double)arm->items[i].value)));
    return json_pack("{s:s s:s s:o s:o s:I s:I s:o s:o s:o s:o s:o s:I}", "arm", arm->name, "kind", kind_name(arm->kind),
                     "features", features, "length", real(arm->length), "n", (json_int_t)x->n, "mentions",
                     (json_int_t)x->mentions, "rate", real(rate.value), "low", real(rate.low), "high", real(rate.high),
                     "repetition", real(x->repetition), "perplexity", real(x->perplexity), "positions_changed",
                     (json_int_t)x->positions_changed);
}

json_t *steering_arms_to_json(const steering_arms *a) {
    json_t *arms = json_array();
    for (int i = 0; i < a->n; i++) json_array_append_new(arms, steering_arm_to_json(&a->items[i]));
    return arms;
}

json_t *steering_outputs_to_json(const steer_result *r, const char *const *prompts, int unsteered, int steered) {
    json_t *outputs = json_array();
    for (int p = 0; p < r->n_prompts; p++)
        for (int i = 0; i < r->n_samples; i++) {
            json_t *output =
                json_pack("{s:s s:s s:s}", "prompt", prompts[p], "unsteered", steer_text_of(r, unsteered, p, i)->text,
                          "steered", steer_text_of(r, steered, p, i)->text);
            if (!outputs || json_array_append_new(outputs, output)) {
                json_decref(outputs);
                return NULL;
            }
        }
    return outputs;
}
