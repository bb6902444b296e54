/* record.h — train.json: what a run is, and once it is complete how it went.
 *
 *   {"format": "sae.train", "version": 1, "tool_version", "command", "machine": {"threads", "kernels"},
 *    "run": {every option and constant that decides the result}, "result": {train_result; absent until complete}}
 */
#ifndef SAE_TRAIN_RECORD_H
#define SAE_TRAIN_RECORD_H

#include "core/file.h"
#include "sae/train/train.h"

#include <jansson.h>

typedef enum record_status {
    RECORD_NEW,     /* the folder holds no run; record_begin writes train.json */
    RECORD_BEGUN,   /* this run, not complete */
    RECORD_COMPLETE /* this run; its result was filled in */
} record_status;

typedef struct record {
    char *path;
    json_t *doc;
    char run[SHA256_HEX]; /* of doc's "run" */
    int lock;             /* a descriptor of the folder; 0: none */
} record;                 /* zero-initialise */

/* run: plan_to_json's. ERR_MISMATCH names the first thing in which the folder's run differs, or says that the folder holds an
 * autoencoder that was not made by a run. Changes nothing on disk. */
err_code record_open(const ctx *c, const train_opts *o, const json_t *run, record *out, record_status *status,
                     train_result *result, err *e);
/* Makes the folder, if need be, and holds it until record_release or the process ends. ERR_FAILED: another process does. */
err_code record_lock(record *r, const char *folder, err *e);
err_code record_begin(const record *r, err *e); /* writes train.json */
err_code record_finish(record *r, const train_result *result, err *e);
void record_release(record *r);

#endif
