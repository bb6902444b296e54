/* find.h — from a concept in words to features: those that detect it and those that cause it, which are different things.
 *
 * Gate. Does the model know the concept? Corpus sentences that mention it, cut before its last token: the rank and
 * log-probability the model gives that token. When most ranks are poor the result says so.
 *
 * Detectors. Positives are mentions of the concept in the corpus, and the concept in templates; negatives are hard on purpose:
 * other names (sharing a word with it, or a document) at the same place in the same templates and in the corpus, and other
 * text. An item's score for a feature is the largest activation on the last token of the mention and the few behind it.
 * Documents and templates are split: one half chooses, the other is reported (AUROC with interval, stats.h). Beside them the
 * best coordinate of the residual stream, the difference of means, and the same search with shuffled labels.
 *
 * Causes. Candidates (correlated with the concept's documents, or promoting its tokens) are clamped on neutral prompts
 * (steer/intervene.h) and judged by what happens to log p of the concept's whole text against that of control names, which
 * rises as well when a feature merely breaks the model; by log p of related words, by the KL divergence of the next token and
 * by how likely the next token repeats. Chosen on half of the prompts, reported on the other.
 *
 * Sources: Arad et al. 2025, "SAEs Are Good for Steering - If You Select the Right Features" (input and output features differ).
 */
#ifndef ANALYSIS_FIND_H
#define ANALYSIS_FIND_H

#include "analysis/db.h"
#include "core/ctx.h"
#include "math/stats.h"
#include "model/model.h"

typedef struct find_opts {
    const char *const *words; /* related words; NULL: proposed from the corpus */
    int n_words;
    const char *positives, *negatives; /* files of texts, one a line, that do or do not express the concept; may be NULL */
    int n_detectors, n_causes;         /* how many to return */
    int n_candidates;                  /* features tried as causes */
    bool anyway;                       /* go on behind a gate that says the model does not know the concept */
    uint64_t seed;
} find_opts;
#define FIND_DEFAULTS ((find_opts){.n_detectors = 10, .n_causes = 10, .n_candidates = 300})

typedef struct find_gate {
    bool known;
    int64_t prompts, top1, top10; /* cloze prompts; how often the token is the model's first choice, or among ten */
    double median_rank, mean_logprob;
    char best_prompt[200]; /* the prompt on which the model did best, and its rank there */
    int64_t best_rank;
    char sentence[300]; /* the finding in plain words */
} find_gate;

enum { FIND_EXAMPLES = 3, FIND_EXAMPLE_MAX = 240 };

typedef struct find_detector {
    int64_t feature;
    interval auroc;      /* on the half that did not choose, against hard negatives */
    double auroc_random; /* against other text */
    double density;
    interval rate; /* share of mentions it fires on */
    char label[FEATURE_LABEL_MAX];
    char top_tokens[FEATURE_TOKENS_MAX];
    char examples[FIND_EXAMPLES][FIND_EXAMPLE_MAX]; /* its strongest places, the token in « »; "" where there are fewer */
} find_detector;

typedef struct find_control {
    char name[64]; /* "residual coordinate 301 (-)", "difference of means", "shuffled labels, best of 20" */
    interval auroc;
} find_control;

typedef struct find_cause {
    int64_t feature;
    double strength;        /* value to clamp to: what --feature takes */
    double multiple;        /* strength in multiples of the feature's maximum */
    interval delta_logprob; /* nats, of " <concept>" after prompts not used for choosing */
    double delta_words;     /* mean over related words, nats */
    double delta_control;   /* mean over control names, nats */
    double kl;              /* nats, KL(steered || unsteered) of the next token */
    double repetition;      /* probability that the steered model says its first choice twice in a row */
    double density;
    char label[FEATURE_LABEL_MAX];
    char top_tokens[FEATURE_TOKENS_MAX];
} find_cause;

typedef struct find_result {
    char *concept;
    find_gate gate;
    find_detector *detectors; /* best first */
    int n_detectors;
    find_control controls[3];
    int n_controls;
    find_cause *causes; /* best first */
    int n_causes;
    find_cause *word_causes; /* those that raise the related words, best first; may share features with causes */
    int n_word_causes;
    char **words, **rivals; /* related words used; names used as hard negatives and controls */
    int n_words, n_rivals;
    int64_t mentions, positives, negatives; /* in the corpus; items on the reported half */
    int64_t candidates;
    double seconds_detect, seconds_cause;
} find_result;

/* m must be the model the database was made with (ERR_MISMATCH). ERR_USAGE: a concept without words. When the gate says no and
 * not opts->anyway, the result holds the gate and empty lists. A concept the corpus never mentions is judged by templates. */
err_code find_run(const ctx *c, model *m, const char *db_path, const char *concept, const find_opts *o, find_result *out,
                  err *e);
void find_result_release(find_result *r);

#endif
