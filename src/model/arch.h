/* arch.h — what one architecture is, in words that the forward pass understands.
 *
 * An architecture is one file in arch/ with a describe function, which turns a file's metadata into a model_spec, and one row
 * in archs.c. Everything a file says is checked there, so that the rest of the folder can rely on it.
 *
 * Files come in two spellings, GGUF's and Hugging Face's: names of keys and of tensors differ, and so does now and then what a
 * matrix holds. A describe function is called with either and says so in the model_spec.
 */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "formats/weights_build.h"
#include "math/dense.h"
#include "model/model.h"

/* A tensor's name without ".weight" or ".bias"; those of a block have %d for the block's number. NULL: this architecture has
 * no such tensor. Biases are used where a file has them. */
typedef struct tensor_names {
    const char *embedding, *positions, *final_norm, *head, *rope_factors;
    const char *attn_norm, *qkv, *q, *k, *v, *q_norm, *k_norm, *attn_out, *attn_post_norm;
    const char *mlp_norm, *gate_up, *gate, *up, *down, *mlp_post_norm;
} tensor_names;

/* Angles of rotary positions: theta_j = base^(-2j/n) / stretch / factor_j. */
typedef struct rope_spec {
    double base, stretch;
    /* LLaMA 3's factors, when low_factor is not 0: stretched fully below low_factor turns in original_length positions, not at
     * all above high_factor, and in between in between. */
    double llama3_factor, low_factor, high_factor, original_length;
} rope_spec;

enum { LAYERS_MAX = 4096 };

/* How one block differs from another. */
enum layer_flag { LAYER_WINDOW = 1, LAYER_LOCAL_ROPE = 2, LAYER_NO_ROPE = 4 };

typedef struct model_spec {
    model_config cfg;
    tensor_names names;

    bool layer_norm;   /* the mean is taken away, and there are biases; else RMS norm */
    bool gain_of_one;  /* the file stores gains less one */
    bool whole_q_norm; /* the norms of q and k run over all heads at once, not over each */

    enum gate_kind gate;
    bool gated;       /* gate(W_gate n) * W_up n, else gate(W_up n) */
    bool parallel;    /* the MLP reads what attention reads */
    bool transposed;  /* matrices of blocks are stored [in, out] */
    bool qkv_by_head; /* names.qkv: q, k, v of one head, then of the next; else all q, all k, all v */

    double embedding_scale, attention_scale, residual_scale, logit_scale;
    double attention_cap, logit_cap; /* 0: none */

    int64_t n_rotated; /* dimensions of a head that rope turns */
    rope_spec rope, local_rope;
    bool
        rope_pairs; /* the file orders the rows of q and k so that dimension 2j turns with 2j + 1; ours turns j with the one half
                        a head on, and reorders when it packs */

    int64_t window;                   /* keys that a query of a LAYER_WINDOW sees */
    unsigned char layers[LAYERS_MAX]; /* layer_flags */
} model_spec;

typedef struct config_out config_out;

typedef struct arch {
    const char *name;                                 /* what GGUF files say in general.architecture, NULL: they say llama */
    const char *folder_name;                          /* what folders say in model_type, NULL: as name */
    const char *folder_class;                         /* and in architectures */
    bool last_spelling;                               /* folders spell keys as a config_key's last word does, not its first */
    void (*name_tensors)(bool gguf, tensor_names *t); /* NULL: as LLaMA */
    err_code (*describe)(const weights *w, model_spec *s, err *e);        /* s->names is set */
    err_code (*write)(const model_spec *s, const config_out *to, err *e); /* what config_write does not say of it */
} arch;

/* The description of the model in w, or ERR_UNSUPPORTED naming the architectures there are. */
err_code arch_describe(const weights *w, model_spec *s, err *e);

/* The same row by row: which one it is, and what it says. */
err_code arch_find(const weights *w, const arch **out, err *e);
err_code arch_read(const arch *a, const weights *w, model_spec *s, err *e);
void arch_names(const arch *a, bool gguf, tensor_names *t);

/* ---- for the files in arch/ ---- */

/* Where a value is found: GGUF's key behind "<architecture>.", and the folder's. Either may have a second spelling behind '|'.
 * An empty one is never found. */
typedef struct config_key {
    const char *gguf, *folder;
} config_key;

bool config_is_gguf(const weights *w);

void config_llama_names(bool gguf, tensor_names *t);

/* What nearly every file gives, with the names of a transformer like LLaMA: sizes, heads, norm, rope; checks that they fit each
 * other. Everything else of s becomes what LLaMA has. */
err_code config_read(const weights *w, const char *architecture, model_spec *s, err *e);

/* Single values, checked: a size in 1 .. most, and a finite number >= least. A key that is absent gives the fallback. */
err_code config_size_or(const weights *w, const char *architecture, config_key key, int64_t fallback, int64_t most,
                        int64_t *out, err *e);
err_code config_real_or(const weights *w, const char *architecture, config_key key, double fallback, double least,
                        double *out, err *e);
err_code config_bool_or(const weights *w, const char *architecture, config_key key, bool fallback, bool *out, err *e);

/* Gives LAYER_WINDOW to the layers of which the file says that they slide, or, where it does not say, to all but every period-th
 * (to all when period is 0). No window in the file: to none. */
err_code config_windows(const weights *w, const char *architecture, int64_t period, model_spec *s, err *e);

/* ERR_UNSUPPORTED unless the activation the folder names is one of two. */
err_code config_expect_activation(const weights *w, const char *one, const char *other, err *e);

/* ---- the other way: metadata of a file that is to be written ---- */

struct config_out {
    weights *w;
    const char *architecture; /* GGUF's name of it */
    bool gguf, last_spelling;
};

/* What config_read reads, and the architecture's own write. */
err_code config_write(const arch *a, const model_spec *s, const config_out *to, err *e);

/* Adds a value under the key's name in this kind of file; nothing where that is empty. GGUF rounds reals to float32. */
err_code config_put_int(const config_out *to, config_key key, int64_t value, err *e);
err_code config_put_real(const config_out *to, config_key key, double value, err *e);
err_code config_put_bool(const config_out *to, config_key key, bool value, err *e);
err_code config_put_text(const config_out *to, config_key key, const char *value, err *e);

/* What config_windows with this period reads. */
err_code config_put_windows(const model_spec *s, int64_t period, const config_out *to, err *e);

/* n_rotated as the part of a head it is, so that a reader finds n_rotated again. */
double config_rotated_share(const model_spec *s);

extern const arch arch_gemma, arch_gemma2, arch_gemma3, arch_gpt2, arch_gpt_neox, arch_granite, arch_llama, arch_mistral,
    arch_olmo2, arch_phi3, arch_qwen2, arch_qwen3, arch_smollm3;

#endif
