/* model_internal.h — what a model is in memory. */
#ifndef MODEL_MODEL_INTERNAL_H
#define MODEL_MODEL_INTERNAL_H

#include "core/mem.h"
#include "math/attention.h"
#include "math/dense.h"
#include "math/gemm.h"
#include "model/arch.h"
#include "model/model.h"

/* Where the n rows of a linear stand among those of its tensor: in groups, from `first` on, each `stride` behind the one before.
 * The first n_paired rows of every group are stored as pairs. */
typedef struct row_order {
    int64_t first, group, stride, n_paired;
} row_order;

/* y = x w^T (+ bias): rows of a matrix of the file, and packed for math/gemm.h. */
typedef struct linear {
    const tensor_view *rows; /* [.., k], or [k, ..] when transposed; then the rows stand together */
    bool transposed;
    row_order order;
    gemm_weights w; /* panels NULL: not packed yet, or not kept in memory */
    char *
        room; /* where panels will stay once they are needed; NULL: linear_read makes them for every pass, or `own` holds them */
    void *own;   /* panels that are not in the model's one block */
    float *bias; /* [n], or NULL */
} linear;

/* Which row of the file is row i: pairs (2j, 2j + 1) of a group come apart into halves. */
int64_t row_in_file(const row_order *o, int64_t i);

/* Bytes that l takes packed, in the form it is kept in; false on overflow. */
bool linear_size(cpu_level level, const linear *l, size_t *bytes);

/* Packs l to stay, in its type's own form, else as floats, into l->room [linear_size] or, when that is NULL, into memory of its
 * own, and has the file w forget it. Nothing to do the second time. */
err_code linear_pack(const ctx *c, const weights *w, linear *l, err *e);

/* Packs l as linear_read_form says, into panels of that size, and has w forget it; scratch [c->threads, linear_scratch]. */
void linear_read(const ctx *c, const weights *w, const linear *l, float *scratch, void *panels);
gemm_form linear_read_form(const linear *l); /* its own form, but GEMM_F32 for a compact one and GEMM_INT8 for GEMM_INT4 */
size_t linear_scratch(cpu_level level, const linear *l);

void linear_release(linear *l);

enum { LAYER_Q, LAYER_K, LAYER_V, LAYER_ATTN_OUT, LAYER_GATE, LAYER_UP, LAYER_DOWN, LAYER_LINEARS };

/* A linear's place: n rows of a tensor that has n_all. */
typedef struct place {
    const char *stem; /* NULL: there is no such linear */
    int64_t n, k, n_all;
    row_order order;
} place;

place place_whole(const char *stem, int64_t n, int64_t k);
void places_of(const model_spec *s, place places[LAYER_LINEARS]);

/* "blk.3.attn_q.weight" */
enum { TENSOR_NAME_MAX = 160 };
void tensor_name(char out[TENSOR_NAME_MAX], const char *stem, int layer, const char *kind);

/* What LLaMA 3 divides a frequency by: nothing where a turn is short beside the original length, all where it is long. */
double rope_llama3_factor(const rope_spec *r, double frequency);

/* Not there: gain NULL. */
typedef struct norm {
    float *gain, *bias; /* [n]; bias NULL: an RMS norm */
    int64_t n;          /* what is divided by its size at once */
} norm;

typedef struct model_layer {
    norm attn_norm, attn_post_norm, mlp_norm, mlp_post_norm; /* of d_model */
    norm q_norm, k_norm;
    linear linears[LAYER_LINEARS]; /* LAYER_GATE is empty without a gate */
} model_layer;

struct model {
    weights *w;
    tokenizer *tokenizer;
    model_spec spec;
    char *name;
    char *sha256; /* [SHA256_HEX], empty until asked for */
    model_precision precision;
    cpu_level cpu;
    const dense_kernels *kernels;
    model_layer *layers; /* [n_layers] */
    char *packed;        /* room for the panels of all blocks, in the order in which they are read; NULL: too large to keep */
    norm final_norm;
    const tensor_view *embedding, *positions; /* positions NULL: none are learned */
    linear head;
    double *frequencies[2]; /* [n_rotated / 2] radians per position; [1] of the layers with LAYER_LOCAL_ROPE, or NULL */
    arena scratch, layer;   /* of the running pass: its rows; one layer's weights as floats */
};

/* What m->spec names, looked up in m->w and checked, nothing packed yet. */
err_code model_bind(model *m, err *e);
void model_unbind(model *m); /* also what was packed since */

/* Bytes that the panels of all blocks take at most at any machine level; SIZE_MAX when they overflow. */
size_t blocks_size(const model *m);
bool blocks_stay(const model *m);

enum {
    PANEL_MAX = 32,   /* the largest gemm_panel */
    CHUNK_ROWS = 768, /* go from step to step of a pass together */
    UNPACK_ROWS = 192 /* from here on weights become floats once a pass, not once a block of rows */
};

struct kvcache {
    attention_shape shape;
    int64_t n_layers, n_seqs, n_positions;
    int64_t *filled, *next;      /* [n_seqs] positions held; what the running pass will have added */
    size_t key_size, value_size; /* floats of one head */
    float *keys, *values;        /* [n_layers, n_seqs, n_kv_heads, size] */
};

/* Floats of a row of a matrix. */
void matrix_row(const tensor_view *t, int64_t row, float *out);

static inline attention_shape attention_shape_of(const model *m) {
    const model_config *c = &m->spec.cfg;
    return (attention_shape){
        .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .d_head = c->d_head, .cap = (float)m->spec.attention_cap};
}

#endif
