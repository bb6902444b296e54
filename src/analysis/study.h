/* study.h — from a model file to steered text in one resumable go: behind `sae study`.
 *
 *   capture -> train -> eval -> features -> find -> steer -> report
 *
 * Every stage calls the library function of the command of its name and reads and writes ordinary files:
 *
 *   OUT/activations.h5  OUT/sae/  OUT/eval.json  OUT/features.db  OUT/features.codes.h5  OUT/find.json  OUT/steer.json
 *   OUT/report.html     OUT/study.json
 *
 * study.json holds, for each stage, what went into it (options, and files by SHA-256), what came out, the command that does the
 * same, and whether it is done; it is replaced in one step before and after each stage. A stage whose inputs are the same and
 * whose files are there is skipped; one that was stopped continues where capture and train can (capture.h, train.h); one
 * whose inputs changed is made anew. Files that study.json does not know are never removed.
 *
 * A concept the model does not know is said so and ends in a report without steering, not in an error, unless `anyway`.
 * Errors: those of the stages, with the stage's name before them. ERR_CANCELLED: run it again to go on.
 */
#ifndef ANALYSIS_STUDY_H
#define ANALYSIS_STUDY_H

#include "core/ctx.h"

#include <jansson.h>

typedef struct study_opts {
    const char *layer;   /* "16" or a hook name; NULL: the hook of `sae` */
    const char *corpus;  /* folder or file, activations/tokens.h */
    const char *concept; /* NULL: the stages find and steer are left out */
    const char *words;   /* "A|B" related words; NULL: proposed from the corpus */
    const char *sae;     /* a published SAE in place of training; NULL: train one */
    const char *out;     /* folder */
    int64_t tokens, context, skip_first;
    int64_t width, k, rows, batch;
    bool anyway; /* find and steer also when the model does not know the concept */
    uint64_t seed;
} study_opts;
#define STUDY_DEFAULTS                                                                                                       \
    ((study_opts){.out = "study",                                                                                            \
                  .tokens = 250000,                                                                                          \
                  .context = 256,                                                                                            \
                  .skip_first = 1,                                                                                           \
                  .width = 8192,                                                                                             \
                  .k = 32,                                                                                                   \
                  .rows = 3000000,                                                                                           \
                  .batch = 4096})

/* *out: {folder, concept, model {..}, hook, stages[] {name, command, seconds, skipped, result {..}}, files {..}, eval, find,
 * steering, seconds}. New reference. */
err_code study_run(const ctx *c, const char *model_path, const study_opts *o, json_t **out, err *e);

#endif
