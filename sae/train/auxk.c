#include "sae/train/auxk.h"
#include "core/mem.h"
#include "sae/decode.h"
#include "sae/encode.h"
#include "sae/variants/variants.h"

#include <stdlib.h>
#include <string.h>

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* The dead latents alone are a TopK autoencoder with k = k_aux. */
static err_code gather(auxk_term *a, const sae *s, const uint32_t *dead, int64_t n_dead, int64_t k_aux, sae *part, err *e) {
    size_t n = (size_t)n_dead, d_in = (size_t)s->cfg.d_in, d_out = (size_t)s->cfg.d_out;
    err_code rc = mem_grow(&a->W_enc, &a->cap_W_enc, n, d_in * sizeof *a->W_enc, "encoder of dead latents", e);
    if (!rc) rc = mem_grow(&a->W_dec, &a->cap_W_dec, n, d_out * sizeof *a->W_dec, "decoder of dead latents", e);
    if (!rc) rc = mem_grow(&a->b_enc, &a->cap_b_enc, n, sizeof *a->b_enc, "encoder of dead latents", e);
    for (size_t i = 0; !rc && i < n; i++) {
        memcpy(a->W_enc + i * d_in, s->W_enc + dead[i] * d_in, d_in * sizeof *a->W_enc);
        memcpy(a->W_dec + i * d_out, s->W_dec + dead[i] * d_out, d_out * sizeof *a->W_dec);
        a->b_enc[i] = s->b_enc[dead[i]];
    }
    *part = (sae){
        .cfg = {.variant = &sae_topk, .d_in = s->cfg.d_in, .d_out = s->cfg.d_out, .d_sae = n_dead, .k = min64(k_aux, n_dead)},
        .W_enc = a->W_enc,
        .W_dec = a->W_dec,
        .b_enc = a->b_enc,
    };
    return rc;
}

err_code auxk_forward(const ctx *c, auxk_term *a, const sae *s, const float *x, const float *u, int64_t n,
                      const uint32_t *dead, int64_t n_dead, int64_t k_aux, err *e) {
    size_t size = (size_t)(n * s->cfg.d_out) * sizeof *a->r;
    sae part;
    err_code rc = gather(a, s, dead, n_dead, k_aux, &part, e);
    if (!rc) rc = sae_encode_centred(c, &part, x, n, PRESELECT_PRODUCT, &a->z, NULL, e);
    if (!rc) rc = mem_grow(&a->r, &a->cap_r, size, 1, "auxiliary residuals", e);
    if (rc) return rc;
    memcpy(a->r, u, size); /* r = z W_dec + u, because u = -e */
    rc = decode_add(c, &part, &a->z, a->r, &a->squares, e);
    for (int64_t i = 0; i < a->z.indptr[n]; i++) a->z.indices[i] = dead[a->z.indices[i]];
    return rc ? rc : inverted_build(&a->fired, &a->z, s->cfg.d_sae, e);
}

void auxk_release(auxk_term *a) {
    sparse_release(&a->z);
    inverted_release(&a->fired);
    free(a->r);
    free(a->W_enc);
    free(a->W_dec);
    free(a->b_enc);
    *a = (auxk_term){0};
}
