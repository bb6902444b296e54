/* study_internal.h — a study at work and its stages; for study*.c only. */
#ifndef ANALYSIS_STUDY_INTERNAL_H
#define ANALYSIS_STUDY_INTERNAL_H

#include "activations/tokens.h"
#include "analysis/study.h"
#include "analysis/study_state.h"
#include "core/strbuf.h"
#include "model/model.h"

typedef struct study {
    const ctx *c;
    const study_opts *o;
    const char *model_path;
    model *model;
    char model_sha256[SHA256_HEX];
    hook_point at;
    char hook[HOOK_NAME_MAX];
    token_corpus corpus; /* what is captured */
    /* files, see study.h; sae may lie elsewhere */
    char *activations, *sae, *weights, *metrics, *eval, *db, *codes, *find, *steer, *report;
    study_state state;
    json_t *stages; /* of the result */
} study;

typedef struct study_stage {
    const char *name;
    bool (*wanted)(const study *s);
    err_code (*inputs)(study *s, json_t *in, err *e); /* fills in everything the result depends on */
    err_code (*command)(const study *s, strbuf *out, err *e);
    bool (*is_there)(const study *s);     /* the files it makes */
    err_code (*forget)(study *s, err *e); /* removes what was made from other inputs; NULL: the run replaces it */
    err_code (*run)(study *s, const char *command, json_t **result, err *e);
} study_stage;

/* In the order of the work. How to add one: its functions and a row in study_stages.c. */
extern const study_stage study_stages[];
extern const int n_study_stages;

/* The study so far, as study_run returns it. */
err_code study_describe(const study *s, json_t **out, err *e);

err_code study_read_json(const char *path, json_t **out, err *e);

#endif
