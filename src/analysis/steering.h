/* steering.h — features of a database at some strength, beside what they must beat: behind `sae steer` and `sae study`.
 *
 * A strength is a value to clamp to, or a multiple of the feature's maximum over the corpus ("2x"). An arm is one way of
 * steering (steer/steer.h runs them together):
 *
 *   unsteered            the model left alone
 *   features             one or several features, each at its value
 *   difference of means  along mean(rows at and up to 32 tokens behind a mention of the words) - mean(all rows)
 *   random features      as many others, of nearly the same density; output o takes set o mod 20
 *   random direction     uniformly random directions; output o takes direction o mod 20
 *
 * The controls move every row as far as the features' clamp moves a row on which they were silent: || sum_i value_i W_dec_i ||.
 *
 * Choosing. On prompts that report nothing, the arm with the best
 *   rate - REPETITION_COST max(0, repetition - unsteered - 0.1) - PERPLEXITY_COST max(0, ln(perplexity / (4 unsteered)))
 * wins: the text must mention the concept and stay text.
 *
 * Ownership: a steering belongs to the caller (steering_release) and borrows the model; arms belong to their steering_arms.
 * Threads: one call at a time. Errors: ERR_USAGE (feature out of range, a multiple without a database), ERR_MISMATCH (SAE, hook,
 * model), ERR_FORMAT, ERR_NOMEM.
 */
#ifndef ANALYSIS_STEERING_H
#define ANALYSIS_STEERING_H

#include "analysis/db.h"
#include "math/stats.h"
#include "steer/steer.h"

#include <jansson.h>

/* ---- a model with an SAE in it ---- */

typedef struct steering {
    model *model;   /* borrowed */
    feature_db *db; /* NULL: opened from an SAE folder */
    sae *sae;
    hook_point at;
} steering; /* zero-initialise */

/* path: an SAE folder or a features.db. */
err_code steering_open(model *m, const char *path, steering *out, err *e);
void steering_release(steering *s);

/* ---- strengths ---- */

typedef struct steering_strength {
    double value;
    bool times_max; /* of the feature's maximum */
} steering_strength;

typedef struct steering_setting {
    int64_t feature;
    bool has_strength; /* "1091" has none */
    steering_strength strength;
} steering_setting;

err_code steering_parse_strength(const char *text, steering_strength *out, err *e); /* "12", "1.5x" */
err_code steering_parse_setting(const char *text, steering_setting *out, err *e);   /* "1091=12", "1091=2x", "1091" */

/* The setting as an intervention: multiples looked up in the database (but for scale, whose value is a factor anyway), the
 * mean for ablate_mean. ERR_USAGE where a kind needs a value that was not given. */
err_code steering_resolve(const steering *s, const intervention_kind *kind, const steering_setting *setting,
                          intervention *out, err *e);

/* ---- arms ---- */

typedef enum steering_kind {
    STEERING_UNSTEERED,
    STEERING_FEATURES,
    STEERING_DIFFERENCE,
    STEERING_RANDOM_FEATURES,
    STEERING_RANDOM_DIRECTION
} steering_kind;

enum {
    STEERING_CHOICE_SAMPLES = 1,
    STEERING_REPORT_SAMPLES = 2,
    STEERING_FEATURES_MAX = 16,
    STEERING_CONTROLS = 20,
    STEERING_NAME_MAX = 96
};

typedef struct steering_arm {
    steering_kind kind;
    char name[STEERING_NAME_MAX];
    double length;       /* how far a row is moved; what controls are matched to */
    int n;               /* interventions in a list */
    intervention *items; /* [n_lists, n] */
    intervention_list *lists;
    int n_lists;
    steer_score score; /* after steering_run */
} steering_arm;

typedef struct steering_arms {
    steering_arm *items;
    int n;
    size_t cap;
    float **directions; /* owned by the arms together */
    int n_directions;
    size_t cap_directions;
} steering_arms; /* zero-initialise; steering_arms_release */

/* Each adds one arm. items [n] are copied. */
err_code steering_add_unsteered(steering_arms *a, err *e);
err_code steering_add_features(const steering *s, steering_arms *a, const intervention *items, int n, const char *name,
                               err *e);
err_code steering_add_direction(steering_arms *a, const char *name, const float *u /* [d_model] unit */, int64_t d,
                                double length, err *e);
/* Controls for the arm `of`. Random features need a database (ERR_USAGE without); fewer than asked for when few fire. */
err_code steering_add_random_features(const steering *s, steering_arms *a, int of, uint64_t seed, err *e);
err_code steering_add_random_directions(const steering *s, steering_arms *a, int of, uint64_t seed, err *e);
void steering_arms_release(steering_arms *a);

/* The unit difference of means over the database's corpus, and the length of the difference itself. *mentions 0: the words do
 * not occur, u is not filled. */
err_code steering_difference(const ctx *c, const steering *s, const word_list *words, float *u /* [d_model] */,
                             double *length, int64_t *mentions, err *e);

/* ---- running ---- */

/* Runs all arms on the prompts and fills in their scores. texts may be NULL when they are not wanted. */
err_code steering_run(const ctx *c, const steering *s, steering_arms *a, const char *const *prompts, int n_prompts,
                      const steer_opts *o, steer_result *texts, err *e);

/* The score above, beside the unsteered arm a->items[0]. */
double steering_value(const steering_arms *a, int arm);

/* The best of the arms of one kind, the first of equals; -1 when there is none. */
int steering_best(const steering_arms *a, steering_kind kind);

/* ---- choosing on one half of the prompts, reporting on the other ---- */

typedef struct steering_candidate {
    char name[STEERING_NAME_MAX];
    intervention items[STEERING_FEATURES_MAX];
    int n;
} steering_candidate;

typedef struct steering_search_opts {
    steer_opts steer; /* n_samples is taken from the two below; words are needed, perplexity is always measured */
    const char *const *prompts;
    int n_prompts;                          /* the first half chooses */
    int64_t choice_samples, report_samples; /* of each prompt; the commands report STEERING_REPORT_SAMPLES times as many */
} steering_search_opts;

/* {words[], choice[] arms, finals[] arms, arms[] arms, best, outputs[], positions_changed, ...}: `choice` holds every candidate and the
 * difference of means at several lengths on the first half, then the best features two and three together; `finals` the best
 * of these again, on more texts; `arms` the unsteered model, the best of one, two and three features, the best difference of
 * means and the random controls on the second half; `best` is the arm's name that won the choice and
 * `outputs` its texts. Without a database there is no difference and no random feature. New reference. */
err_code steering_search(const ctx *c, const steering *s, const steering_candidate *candidates, int n,
                         const steering_search_opts *o, json_t **out, err *e);

/* ---- results as JSON: new references, NULL when memory ran out ---- */

/* {arm, kind, features[] {feature, value}, length, n, mentions, rate, low, high, repetition, perplexity, positions_changed} */
json_t *steering_arm_to_json(const steering_arm *arm);

/* [arm, ..] */
json_t *steering_arms_to_json(const steering_arms *a);

/* outputs[] {prompt, unsteered, steered} of two arms of one run */
json_t *steering_outputs_to_json(const steer_result *r, const char *const *prompts, int unsteered, int steered);

#endif
