/* codes.h — codes.h5: sparse latents of all rows as CSR, and optionally reconstructions, in HDF5.
 *   /latents/indptr uint64 [n+1], /latents/indices uint32 [nnz], /latents/values float32 [nnz], /reconstruction float32 [n, d_out]
 *   attributes: format "sae.codes", version, sae_sha256, hook_name, d_sae, n_rows, tool_version.
 * Rows are appended in order to "<path>.tmp"; codes_finish renames it.
 */
#ifndef ACTIVATIONS_CODES_H
#define ACTIVATIONS_CODES_H

#include "core/ctx.h"

typedef struct codes_info {
    const char *sae_sha256, *hook_name;
    int64_t d_sae, n_rows, d_out; /* d_out 0: no reconstruction */
} codes_info;

typedef struct codes_writer codes_writer;
err_code codes_create(const char *path, const codes_info *info, codes_writer **out, err *e);
err_code codes_append(codes_writer *w, int64_t n, const int64_t *indptr /* [n+1], from 0 */, const uint32_t *indices,
                      const float *values, const float *reconstruction /* [n, d_out] or NULL */, err *e);
err_code codes_finish(codes_writer *w, err *e);
void codes_abandon(codes_writer *w); /* frees; removes what was not finished. Accepts NULL, call after finish too */

/* Whole file in memory. */
typedef struct codes {
    char sae_sha256[65], hook_name[64];
    int64_t d_sae, n_rows;
    int64_t *indptr;   /* [n_rows + 1] */
    uint32_t *indices; /* [nnz] ascending within a row */
    float *values;     /* [nnz] */
} codes;
err_code codes_read(const char *path, codes *out, err *e);
void codes_release(codes *k);

#endif
