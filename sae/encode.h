/* encode.h — the encoder as the trainer calls it: on rows that are centred already. */
#ifndef SAE_ENCODE_H
#define SAE_ENCODE_H

#include "sae/sae.h"

/* sae_encode where b_dec, if it is to be subtracted, already was. */
err_code sae_encode_centred(const ctx *c, const sae *s, const float *x /* [n, d_in] */, int64_t n, sparse_acts *out, err *e);

#endif
