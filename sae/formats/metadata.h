/* metadata.h — what folders of ours have in common: "metadata" of cfg.json, and the order in which their files are written. */
#ifndef SAE_FORMATS_METADATA_H
#define SAE_FORMATS_METADATA_H

#include "sae/formats/cfg.h"
#include "sae/sae.h"

/* Where the autoencoder comes from, nothing of what it computes: unknown keys are fine there. */
err_code metadata_read(const json_t *metadata, sae_config *cfg, err *e);
json_t *metadata_to_json(const sae_config *cfg); /* NULL when there is no memory */

/* Writes root, which may be NULL (ERR_FAILED), and releases it. */
err_code cfg_write(json_t *root, const char *path, err *e);

/* Both files of a folder; the configuration goes first and comes last, so that a folder without it is visibly incomplete.
 * Fills s->sha256. */
err_code folder_write(sae *s, const char *folder, const char *cfg_name, const char *weights_name,
                      err_code (*write_cfg)(const sae_config *cfg, const char *path, err *e),
                      err_code (*write_weights)(const sae *s, const char *path, err *e), err *e);

#endif
