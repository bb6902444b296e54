/* checkpoint.h — the state of a run on disk: OUT/checkpoint/state.safetensors.
 *
 *   W_enc, W_dec, b_enc, b_dec, what else the variant has, and Adam's m.* and v.* of each, as trained on (in the units of normal.h); last, when each latent
 *   fired last; centre and scale; penalty, how far its weight was moved; position, steps done and rows seen; run, what the run is (the SHA-256 of its options).
 *
 * Written to a temporary name, synced and renamed: the name always holds a whole checkpoint, also after a crash or when the
 * disk is full.
 */
#ifndef SAE_TRAIN_CHECKPOINT_H
#define SAE_TRAIN_CHECKPOINT_H

#include "core/file.h"
#include "sae/train/state.h"

bool checkpoint_exists(const char *folder);
uint64_t checkpoint_bytes(const sae_config *cfg); /* about */

err_code checkpoint_write(const char *folder, const train_state *t, const char run[SHA256_HEX], err *e);

/* Into a state of the same shape. ERR_MISMATCH when it is of another run, ERR_FORMAT when it is damaged. */
err_code checkpoint_read(const char *folder, train_state *t, const char run[SHA256_HEX], err *e);

err_code checkpoint_remove(const char *folder, err *e); /* fine when there is none */

#endif
