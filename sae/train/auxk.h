/* auxk.h — AuxK, the term that brings dead latents back: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", A.2.
 *
 *   loss += coefficient sum ||e_hat - e||^2 / sum ||e - mean e||^2      e = y - x_hat, held fixed
 *   e_hat = z W_dec, without b_dec;  z = ReLU of the k_aux largest pre-activations among dead latents
 *
 * It trains W_dec, W_enc and b_enc of dead latents, and b_dec through x - b_dec. Nothing is spent while no latent is dead. Most
 * of the dead ones that are positive fire, so they are gathered and work in matrix products.
 */
#ifndef SAE_TRAIN_AUXK_H
#define SAE_TRAIN_AUXK_H

#include "sae/inverted.h"
#include "sae/sae.h"

typedef struct auxk_term {
    double squares;      /* sum ||r||^2 */
    sparse_acts z;       /* indices are latents of the whole autoencoder */
    inverted_acts fired; /* z by latent */
    float *r;            /* [n, d_out] e_hat - e */
    float *W_enc;        /* [n_dead, d_in] */
    float *W_dec;        /* [n_dead, d_out] */
    float *b_enc;        /* [n_dead] */
    size_t cap_r, cap_W_enc, cap_W_dec, cap_b_enc;
} auxk_term; /* zero-initialise */

/* Fills a from rows x as the encoder reads them [n, d_in] and u = x_hat - y [n, d_out]. */
err_code auxk_forward(const ctx *c, auxk_term *a, const sae *s, const float *x, const float *u, int64_t n,
                      const uint32_t *dead, int64_t n_dead, int64_t k_aux, err *e);
void auxk_release(auxk_term *a);

#endif
