/* export_internal.h — the plan of an export: which rows of which tensors become a tensor of the new file. */
#ifndef MODEL_EXPORT_INTERNAL_H
#define MODEL_EXPORT_INTERNAL_H

#include "formats/tensor_sink.h"
#include "formats/weights_build.h"
#include "model/export.h"
#include "model/model_internal.h"

enum { JOB_PARTS = 3 };

/* n rows: row i is row row_in_file(&source, i) of `from`, and row row_in_file(&target, i) of the new tensor. */
typedef struct job_part {
    const tensor_view *from; /* NULL: zeros */
    row_order source, target;
    int64_t n;
} job_part;

/* One tensor of the new file; a vector has rows of one value. */
typedef struct job {
    job_part parts[JOB_PARTS];
    int n_parts;
    int64_t n_rows, k;
    bool across, to_across; /* stored [k, n_rows] in the source, in the new file */
    float scale, shift;     /* x scale + shift; 1 and 0: bits stay as they are */
    const float *values;    /* not NULL: computed [n_rows], from no tensor */
} job;

typedef struct export_plan {
    weights *to; /* describes the new file */
    job *jobs;   /* [tensors of to] */
    size_t n_jobs, cap_jobs;
    float *rope_factors; /* owned */
    int64_t n_fallback;
    int64_t first_fallback; /* its number */
} export_plan;

void export_plan_release(export_plan *p);

/* A job for every tensor of the model, another spelling of what it says: export_across.c. */
err_code export_plan_across(const ctx *c, const weights *from, const export_opts *o, export_plan *p, err *e);

/* Adds a tensor to the plan; its type follows from o, its name and what it is made of. */
err_code export_add(export_plan *p, const export_opts *o, const char *name, const int64_t *shape, int n_dims, const job *j,
                    err *e);

/* Produces the bytes of tensor i: a tensor_producer. */
typedef struct export_run {
    const ctx *c;
    const export_plan *plan;
    uint64_t done, total; /* bytes */
} export_run;
err_code export_produce(void *user, int64_t i, const tensor_view *t, tensor_sink *to, err *e);

#endif
