/* model.h — a language model: opened from a file, run over batches of tokens, observed and changed through hooks.
 *
 * Activations are float32 throughout; weights are dequantised to float32 exactly, then multiplied: the residual stream agrees
 * with a float32 PyTorch run of the same weights row by row (relative L2 distance <= 1e-4).
 * A batch is a flat list of tokens, each with its sequence and position; sequences attend to themselves only.
 * Results do not depend on the thread count, and a sequence's rows do not depend on what else is in the batch beyond
 * float32 rounding.
 * With another precision than MODEL_F32 a pass is faster and only near to that; what it is stands with model_precision.
 * Threads: one forward pass at a time per model. Errors: ERR_UNSUPPORTED (architecture), ERR_FORMAT, ERR_NOMEM, ERR_CANCELLED.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "core/ctx.h"
#include "formats/weights.h"
#include "model/hooks.h"
#include "text/tokenizer.h"

typedef struct model_config {
    const char *architecture; /* "llama" */
    int64_t n_layers, d_model, n_heads, n_kv_heads, d_head, d_ff, n_vocab;
    int64_t n_ctx; /* longest sequence the model was trained for */
    double norm_eps, rope_base;
    bool tied_embedding;
} model_config;

typedef struct model model;

/* How the products of the blocks are computed; attention, norms and the logits are always float32.
 * MODEL_BF16: rows and weights rounded to bfloat16 (math/gemm.h). Takes 16 bits a weight in memory; faster where the machine
 * multiplies bfloat16 (CPU_BF16).
 * MODEL_INT8: rows rounded to 8-bit numbers, 32 at a time, times the file's small numbers (Q4_0, Q4_1, Q8_0) or other weights
 * rounded likewise (math/gemm.h). Takes 10 bits a weight in memory, 5 of Q4_0 and Q4_1. */
typedef enum model_precision { MODEL_F32, MODEL_BF16, MODEL_INT8, MODEL_PRECISIONS } model_precision;
extern const char *const model_precision_names[MODEL_PRECISIONS]; /* "f32" */

err_code model_open(const ctx *c, const char *path, model **out, err *e); /* MODEL_F32 */
err_code model_open_as(const ctx *c, const char *path, model_precision precision, model **out, err *e);
model_precision model_precision_of(const model *m);
void model_close(model *m); /* accepts NULL */

const model_config *model_config_of(const model *m);
const weights *model_weights(const model *m);
const tokenizer *model_tokenizer(const model *m);
const char *model_name(const model *m);                              /* general.name, else the file's name */
err_code model_sha256(const model *m, char out[SHA256_HEX], err *e); /* of its files; computed at first use */

/* Parses "16" or a hook name against this model. */
err_code model_hook_point(const model *m, const char *layer_or_hook, hook_point *out, err *e);

typedef struct model_batch {
    int64_t n_tokens;
    const uint32_t *tokens; /* [n_tokens] */
    const int32_t *seq;     /* [n_tokens] 0 .. n_seqs-1, tokens of one sequence stand together, in order */
    const int32_t *pos;     /* [n_tokens] consecutive within a sequence; starts at 0 without a cache */
} model_batch;

/* Keys and values of earlier positions, a slot per sequence; NULL in forward when every sequence is complete in its batch. */
typedef struct kvcache kvcache;
err_code kvcache_new(const model *m, int64_t n_seqs, int64_t n_positions, kvcache **out, err *e);
void kvcache_free(kvcache *kv);                             /* accepts NULL */
void kvcache_truncate(kvcache *kv, int32_t seq, int64_t n); /* forget positions n and later */

/* Runs the batch. hidden [n_tokens, d_model] receives the rows behind the final norm; when it is NULL the pass stops after
 * the last hook. */
err_code model_forward(const ctx *c, model *m, const model_batch *b, kvcache *kv, const model_hook *hooks, int n_hooks,
                       float *hidden, err *e);

/* logits [n, n_vocab] of n rows behind the final norm. */
err_code model_logits(const ctx *c, model *m, const float *hidden /* [n, d_model] */, int64_t n, float *logits, err *e);

/* logprobs[i] = log p(targets[i] | hidden row i), in nats, log-sum-exp in double; never holds [n, n_vocab] at once. */
err_code model_logprobs(const ctx *c, model *m, const float *hidden /* [n, d_model] */, const uint32_t *targets, int64_t n,
                        double *logprobs, err *e);

/* Bytes that a model takes in memory, at most, at any machine level, beside its tokenizer. */
typedef struct model_memory {
    size_t blocks;         /* weights of all blocks as they are kept; a pass that ends early keeps those it has used */
    size_t blocks_in_file; /* instead, where they are too large to keep: read again in every pass, and not kept */
    size_t head;           /* from the first logits on */
    size_t embedding;      /* in the file: those of its rows stay that were used */
    size_t layer;          /* one block unpacked, in passes over many tokens */
    size_t pass;           /* rows of a pass, however many; and for each 1,024 tokens */
    size_t pass_1024;
    size_t cache_1024; /* keys and values of 1,024 positions of a sequence */
} model_memory;

/* Finds it out without opening, for that precision; ERR_UNSUPPORTED or ERR_FORMAT when w is no model that can be opened. */
err_code model_measure(const weights *w, model_precision precision, model_memory *out, err *e);

/* The final norm's gain [d_model] and a row of the unembedding [d_model]: what a logit lens needs. */
const float *model_final_norm_gain(const model *m);
err_code model_unembed_rows(const model *m, int64_t first, int64_t n, float *out /* [n, d_model] */, err *e);

#endif
