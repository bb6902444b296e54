/* formats.h — the formats autoencoders come in, one row and one file each; formats.c finds the row a path belongs to.
 *
 *   SAELens              folder   cfg.json, sae_weights.safetensors (current, and before 6.0)
 *   sparsify             folder   cfg.json, sae.safetensors
 *   dictionary_learning  folder   config.json, ae.pt
 *   Gemma Scope          file     params.npz
 *   Gemma Scope 2        folder   config.json, params.safetensors
 *   Llama Scope          folder   hyperparams.json, checkpoints/final.safetensors
 *   Llama Scope R1       folder   config.json, sae_weights.safetensors
 *   OpenAI, Goodfire, DeepSeek-R1, Qwen Scope     file (PyTorch)
 *   circuit-tracer       file     layer_N.safetensors
 *
 * A folder's row is the one whose files it has; a file of such a name stands for its folder. Any other file is known by its
 * tensors. How to add one: a file here that fills a sae_description, a declaration below, a row in formats.c.
 */
#ifndef SAE_FORMATS_FORMATS_H
#define SAE_FORMATS_FORMATS_H

#include "sae/formats/cfg.h"
#include "sae/formats/description.h"

/* What lies at a path, opened. */
typedef struct sae_files {
    const char *path;    /* as given: for what only names say */
    const char *folder;  /* of the weights */
    const weights *w;    /* the tensors */
    const json_t *cfg;   /* the configuration, or NULL where the format has none */
    weights **companion; /* a second file of tensors that describe opens; closed after building */
} sae_files;

typedef struct sae_format {
    const char *name;
    const char *cfg_name, *weights_name; /* NULL: none, and a file of any name */
    bool (*is)(const weights *w);        /* of a file without a name of its own; NULL otherwise */
    err_code (*describe)(const sae_files *f, sae_description *d, err *e);
} sae_format;

extern const sae_format sae_format_saelens, sae_format_sparsify, sae_format_dictionary_learning, sae_format_gemma_scope,
    sae_format_gemma_scope2, sae_format_llama_scope, sae_format_llama_scope_r1, sae_format_openai, sae_format_goodfire,
    sae_format_deepseek_r1, sae_format_qwen_scope, sae_format_circuit_tracer;

/* All of these names are tensors of the file; ends with NULL. */
bool weights_have(const weights *w, const char *const *names);

#endif
