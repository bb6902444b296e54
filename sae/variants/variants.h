/* variants.h — the kinds of sparse autoencoder, one row each: what differs between them is which latents of a row fire.
 *
 * Scores pre [n, d_sae] are never stored. While a tile of them is in cache, a variant's scan takes what may fire from each
 * row into the row's picks; finish decides, once all tiles have passed. Tiles come in ascending order of latents, so picks
 * stay sorted.
 *
 * How to add one: write sae/variants/<name>.c with its two functions and a const row, declare the row below, add it to the
 * table in variants.c. Tests loop over the table.
 */
#ifndef SAE_VARIANTS_VARIANTS_H
#define SAE_VARIANTS_VARIANTS_H

#include "math/sparse.h"
#include "sae/sae.h"

enum { SAE_TILE_LATENTS = 512 }; /* latents in a tile of scores */

/* What may fire of one row: n (index, f) pairs in ascending order. */
typedef struct row_picks {
    float *values;
    uint32_t *indices;
    int64_t n;
    float floor; /* scores up to here cannot fire any more */
} row_picks;

struct sae_variant {
    const char *name; /* first, as core/names.h wants it; "architecture" in cfg.json */
    const char *help;
    const char *paper;
    bool uses_k, uses_threshold;
    bool uses_gate;     /* b_gate and r_mag */
    bool signed_values; /* f may be negative */

    /* What more this variant asks of a configuration; may be NULL. */
    err_code (*check)(const sae_config *cfg, err *e);
    /* The k largest scores of a row are its picks: sae/top.h finds them, exactly, and capacity and scan are NULL. */
    bool picks_largest;
    /* Upper bound on the picks of a row between two scans, without the slack of math/sparse.h. */
    int64_t (*capacity)(const sae_config *cfg);
    /* Takes from scores[j] + b_enc[first + j], j in [0, n), n <= SAE_TILE_LATENTS. */
    void (*scan)(const sparse_kernels *k, const sae *s, const float *scores, int64_t first, int64_t n, row_picks *p);
    /* Leaves the latents that fire, with their values. */
    void (*finish)(const sparse_kernels *k, const sae *s, row_picks *p);
};

extern const sae_variant *const sae_variants[];
extern const int n_sae_variants;

extern const sae_variant sae_topk, sae_standard, sae_jumprelu, sae_gated, sae_abstopk, sae_groupmax;

/* ERR_UNSUPPORTED with the nearest name. */
err_code sae_variant_find(const char *name, const sae_variant **out, err *e);

#endif
