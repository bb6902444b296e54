/* neighbours.h — which features go together: by direction (cosine of decoder rows) and by use (firing on the same rows).
 * Both exact. Jaccard index: rows on which both fire / rows on which either does.
 */
#ifndef ANALYSIS_NEIGHBOURS_H
#define ANALYSIS_NEIGHBOURS_H

#include "analysis/postings.h"
#include "analysis/toplist.h"
#include "core/ctx.h"

/* best [n, top]: the other rows of W with the largest cosine, best first; scores are cosines. n_best = min(top, n - 1). */
err_code decoder_neighbours(const ctx *c, const float *W /* [n, d] */, int64_t n, int64_t d, int top,
                            top_entry *best /* [n, top] */, err *e);

/* The features with the largest Jaccard index with `feature`; returns how many. counts [n_features] is scratch, all zero
 * before and after; together [top] receives the number of common rows. indptr, indices: the codes, row by row. */
int cooccurring(const postings *p, const int64_t *indptr, const uint32_t *indices, int64_t feature, int top, int32_t *counts,
                top_entry *best /* [top] */, int64_t *together /* [top] */);

#endif
