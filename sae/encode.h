/* encode.h — the encoder as the trainer calls it: on rows that are centred already. */
#ifndef SAE_ENCODE_H
#define SAE_ENCODE_H

#include "sae/top.h"

/* How the k largest scores are looked for, with the same result: PRESELECT_AUTO takes what is faster on this machine. But for
 * PRESELECT_PRODUCT, which takes scores as a float32 matrix product gives them: the fastest where many latents fire. */
typedef enum preselect { PRESELECT_AUTO, PRESELECT_OFF, PRESELECT_ON, PRESELECT_PRODUCT } preselect;

/* sae_encode where b_dec, if it is to be subtracted, already was. sum, if not NULL, receives what top.h counts, which it adds. */
err_code sae_encode_centred(const ctx *c, const sae *s, const float *x /* [n, d_in] */, int64_t n, preselect how,
                            sparse_acts *out, top_counts *sum, err *e);

#endif
