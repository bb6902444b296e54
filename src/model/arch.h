/* arch.h — what one architecture is, in words that the forward pass understands.
 *
 * An architecture is one file in arch/ with a describe function, which turns a file's metadata into a model_spec, and one row
 * in archs.c. Everything a file says is checked there, so that the rest of the folder can rely on it.
 */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "model/model.h"

/* A tensor's name without ".weight" or ".bias"; those of a block have %d for the block's number. */
typedef struct tensor_names {
    const char *embedding, *final_norm, *head, *rope_factors;
    const char *attn_norm, *q, *k, *v, *attn_out;
    const char *mlp_norm, *gate, *up, *down;
} tensor_names;

typedef struct model_spec {
    model_config cfg;
    const tensor_names *names;
    int64_t n_rotated;   /* dimensions of a head that rope turns */
    double rope_stretch; /* positions are divided by it */
    bool rope_pairs;     /* the file orders the rows of q and k so that dimension 2j turns with 2j + 1; ours turns j with the
                            one half a head on, and reorders when it packs */
} model_spec;

typedef struct arch {
    const char *name; /* general.architecture */
    err_code (*describe)(const weights *w, model_spec *s, err *e);
} arch;

/* The description of the model in w, or ERR_UNSUPPORTED naming the architectures there are. */
err_code arch_describe(const weights *w, model_spec *s, err *e);

/* ---- for the files in arch/ ---- */

/* Reads the sizes every GGUF file gives under "<architecture>." and checks that they fit each other. */
err_code config_from_gguf(const weights *w, const char *architecture, model_spec *s, err *e);

extern const tensor_names gguf_names;
extern const arch arch_llama;

#endif
