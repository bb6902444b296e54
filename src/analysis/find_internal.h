/* find_internal.h — what the stages of find share; included by find*.c and their test only. */
#ifndef ANALYSIS_FIND_INTERNAL_H
#define ANALYSIS_FIND_INTERNAL_H

#include "analysis/find.h"
#include "analysis/mentions.h"
#include "analysis/postings.h"
#include "analysis/rows.h"
#include "model/sequences.h"
#include "analysis/toplist.h"
#include "sae/sae.h"

/* Everything the stages look at; made by find.c, read by the others. */
typedef struct finder {
    const find_opts *opts;
    const char *concept;
    feature_db *db;
    sae *sae;
    model *model; /* borrowed */
    hook_point at;
    row_source rows;
    postings codes;
    name_words name;
    mention_list mentions;
    rival_list rivals;
    mention_list *rival_mentions; /* [rivals.n] */
} finder;

/* ---- texts (find_texts.c) ---- */

enum { FIND_TEMPLATES = 24, FIND_PROMPTS = 24 };
extern const char *const find_templates[FIND_TEMPLATES]; /* "{}" stands for a name; even ones choose, odd ones report */
extern const char *const find_prompts[FIND_PROMPTS];     /* neutral beginnings; even ones choose, odd ones report */

/* Words unrelated to almost anything that is looked for: what rises with the concept only because the model breaks. */
extern const char *const find_control_words[];
extern const int n_find_control_words;

/* template with name in place of "{}" appended to out; *from, *to: the name's bytes there. */
void find_fill_template(strbuf *out, const char *template, const char *name, size_t *from, size_t *to);

/* The text as it stands inside a sentence: a space before it, unless it is of a script without spaces. */
void find_add_continuation(strbuf *out, const char *text);

err_code find_tokenize(const finder *f, const char *text, bool with_bos, token_ids *out, err *e); /* replaces out's ids */

/* ---- stages ---- */

err_code find_gate_run(const ctx *c, const finder *f, find_gate *out, err *e);
err_code find_detect_run(const ctx *c, const finder *f, find_result *out,
                         double *choice_auroc /* [d_sae], of the choosing half */, err *e);
err_code find_cause_run(const ctx *c, const finder *f, const double *choice_auroc, find_result *out, err *e);

/* ---- detectors on items, apart from where these come from (find_detect.c) ---- */

typedef enum item_class { ITEM_POSITIVE, ITEM_HARD, ITEM_OTHER } item_class;

typedef struct item {
    item_class class;
    uint8_t half;              /* 0 chooses, 1 reports */
    int32_t cluster;           /* document or template */
    int64_t first_row, n_rows; /* of the gathered rows */
} item;

/* The best features on the choosing half by AUROC against hard negatives less DENSITY_COST x density; ties to the lower id.
 * values: postings of items instead of rows. choice_auroc [n_features] is filled for all. Returns how many. */
#define FIND_DENSITY_COST 2.0
int find_choose_detectors(const ctx *c, const item *items, int64_t n, const postings *values, const double *density,
                          double *choice_auroc, int32_t *chosen, int max, err *e);

#endif
