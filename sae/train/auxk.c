#include "sae/train/auxk.h"
#include "core/mem.h"
#include "sae/decode.h"
#include "sae/encode.h"
#include "sae/variants/variants.h"

#include <stdlib.h>
#include <string.h>

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static err_code gather_encoder(auxk_term *a, const sae *s, const uint32_t *dead, int64_t n_dead, err *e) {
    size_t d = (size_t)s->cfg.d_in;
    err_code rc = mem_grow(&a->W_enc, &a->cap_W_enc, (size_t)n_dead, d * sizeof *a->W_enc, "encoder of dead latents", e);
    if (!rc) rc = mem_grow(&a->b_enc, &a->cap_b_enc, (size_t)n_dead, sizeof *a->b_enc, "encoder of dead latents", e);
    for (int64_t i = 0; !rc && i < n_dead; i++) {
        memcpy(a->W_enc + (size_t)i * d, s->W_enc + dead[i] * d, d * sizeof *a->W_enc);
        a->b_enc[i] = s->b_enc[dead[i]];
    }
    return rc;
}

/* z: the dead latents alone are a TopK autoencoder with k = k_aux. */
static err_code choose(const ctx *c, auxk_term *a, const sae *s, const float *x, int64_t n, const uint32_t *dead,
                       int64_t n_dead, int64_t k_aux, err *e) {
    err_code rc = gather_encoder(a, s, dead, n_dead, e);
    if (rc) return rc;
    const sae part = {
        .cfg = {.variant = &sae_topk, .d_in = s->cfg.d_in, .d_sae = n_dead, .k = min64(k_aux, n_dead)},
        .W_enc = a->W_enc,
        .b_enc = a->b_enc,
    };
    rc = sae_encode_centred(c, &part, x, n, PRESELECT_AUTO, &a->z, NULL, e);
    if (rc) return rc;
    for (int64_t i = 0; i < a->z.indptr[n]; i++) a->z.indices[i] = dead[a->z.indices[i]];
    return ERR_OK;
}

err_code auxk_forward(const ctx *c, auxk_term *a, const sae *s, const float *x, const float *u, int64_t n,
                      const uint32_t *dead, int64_t n_dead, int64_t k_aux, err *e) {
    size_t size = (size_t)(n * s->cfg.d_out) * sizeof *a->r;
    err_code rc = choose(c, a, s, x, n, dead, n_dead, k_aux, e);
    if (!rc) rc = inverted_build(&a->fired, &a->z, s->cfg.d_sae, e);
    if (!rc) rc = mem_grow(&a->r, &a->cap_r, size, 1, "auxiliary residuals", e);
    if (rc) return rc;
    memcpy(a->r, u, size); /* r = z W_dec + u, because u = -e */
    return decode_add(c, s, &a->z, a->r, &a->squares, e);
}

void auxk_release(auxk_term *a) {
    sparse_release(&a->z);
    inverted_release(&a->fired);
    free(a->r);
    free(a->W_enc);
    free(a->b_enc);
    *a = (auxk_term){0};
}
