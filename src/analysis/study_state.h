/* study_state.h — study.json: which stages are done, and from what. For study.c and its test only.
 *
 *   {"format": "sae.study", "version": 1, "tool_version": .., "stages": [{"name", "command", "inputs": {..}, "done": bool,
 *    "seconds", "result": {..}}, ..], "files": {path: {"size", "mtime_ns", "sha256"}}}
 *
 * `files` remembers hashes by size and time of change, so that a second run does not read gigabytes again.
 */
#ifndef ANALYSIS_STUDY_STATE_H
#define ANALYSIS_STUDY_STATE_H

#include "core/err.h"
#include "core/file.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct study_state {
    char *path;
    json_t *doc;
} study_state; /* zero-initialise */

/* Reads folder/study.json, or begins a new one. ERR_FORMAT when it is something else, ERR_UNSUPPORTED when it is newer. */
err_code study_state_open(const char *folder, study_state *out, err *e);
void study_state_release(study_state *s);

/* SHA-256 of a file's content, from memory where size and time of change are those of last time. */
err_code study_state_hash(study_state *s, const char *path, char out[SHA256_HEX], err *e);

typedef enum stage_status {
    STAGE_NEW,     /* nothing is known of it */
    STAGE_STOPPED, /* begun from the same inputs, not finished */
    STAGE_CHANGED, /* begun or finished, from other inputs */
    STAGE_DONE
} stage_status;

stage_status study_state_status(const study_state *s, const char *stage, const json_t *inputs);

/* Both write study.json. inputs and result are borrowed. */
err_code study_state_begin(study_state *s, const char *stage, const char *command, const json_t *inputs, err *e);
err_code study_state_finish(study_state *s, const char *stage, double seconds, const json_t *result, err *e);

/* What study.json says of the stage; borrowed, NULL when it is not there. */
json_t *study_state_stage(const study_state *s, const char *stage);

#endif
