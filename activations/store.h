/* store.h — activations.h5: the rows of one or several hooks over a tokenised corpus, in a file that opens in plain h5py.
 *
 *   /tokens uint32 [n]            /doc_offsets uint64 [n_docs+1]     /doc_source string [n_docs]
 *   /row_token uint64 [n_rows]    row -> token (rows leave out skipped positions)
 *   /vocab/bytes uint8 [..]       /vocab/offsets uint64 [n_vocab+1]  the pieces, so that the file explains itself
 *   /hooks/<hook_name>/activations float16|bfloat16|float32 [n_rows, d_model], chunks of 4096 rows, no filter
 *       its dimensions have the scales /row_token and /hooks/<hook_name>/d_model (0, 1, ..)
 *   /progress/<hook_name> uint8 [n_chunks]  1 = that chunk is complete and on disk
 *   attributes on /: format "sae.activations", version, model_name, model_sha256, architecture, tokenizer_sha256, context,
 *   bos, skip_first, corpus_hash, model_path, tool_version, command; on each hook: hook_name, layer, d_model, dtype, mean_norm,
 *   rms and max_norm; beside its activations the datasets row_mean and row_norm. The last five are NaN until the hook is complete.
 *   Of a pass that was not float32 (model/model.h): on / precision ("int8"), on each hook deviation_mean and deviation_max
 *   (deviation.h), of the first batch of documents. Without these attributes it was float32.
 *
 * Long rows. Where a text's first token makes no attention sink, a later position becomes one: a row a hundred times as long as
 * others, outside skip_first, which alone would make up most of the variance. Rows longer than max_norm = STORE_LONG times the
 * median stay in the file but are neither trained on nor looked at: store_read_long. With skip_first 0 no row is too long.
 *
 * All sizes are known before the first row: everything is created and its space reserved up front, then chunks are filled in
 * place and marked complete after a sync. The path holds a whole file from the moment it exists, and no HDF5 metadata changes
 * while rows are written: a killed writer leaves a file that opens and can be continued, and others may read meanwhile.
 * float16 reaches 65504: a chunk with more is refused, and store_restart_hook makes the hook bfloat16 (both take two bytes).
 * Threads: one call at a time in the whole process (HDF5). Errors: ERR_NOSPACE, ERR_IO, ERR_FORMAT, ERR_MISMATCH.
 */
#ifndef ACTIVATIONS_STORE_H
#define ACTIVATIONS_STORE_H

#include "activations/deviation.h"
#include "activations/dtype.h"
#include "activations/tokens.h"
#include "model/hooks.h"

enum { STORE_CHUNK_ROWS = 4096, STORE_HOOKS_MAX = 64, STORE_LONG = 10 };

typedef struct store_hook {
    char name[HOOK_NAME_MAX];
    int layer;
    int64_t d_model;
    store_dtype dtype;
    int64_t rows_done;     /* rows in complete chunks */
    double mean_norm, rms; /* over all rows: mean length, root mean square of a number; NAN until the hook is finished */
    deviation deviation;   /* from float32; zeros where the pass was that */
    double max_norm;       /* what is longer is left out; INFINITY: nothing is, NAN until the hook is finished */
} store_hook;

/* What the file says of itself; strings are borrowed from the store. */
typedef struct store_info {
    const char *model_name, *model_path, *model_sha256, *architecture, *tokenizer_sha256, *tool_version, *command;
    model_precision precision;
    int64_t context, skip_first;
    bool bos;
    int64_t n_tokens, n_docs, n_rows, n_vocab;
    int n_hooks;
    store_hook hooks[STORE_HOOKS_MAX];
    uint64_t corpus_hash;
} store_info;

typedef struct store store;

/* ---- writing: on a store from store_create ---- */

/* Creates path for this corpus, or opens it to continue when it was made for the same model, tokenizer, options, corpus and
 * hooks (ERR_MISMATCH names the first difference otherwise; a hook that was made bfloat16 continues as such where float16 is
 * asked for). info gives everything but n_* and rows_done; its hooks keep their order. row_token [n_rows], n_rows > 0.
 * ERR_NOSPACE comes before anything is at path. ERR_FAILED: another process is writing it. */
err_code store_create(const char *path, const store_info *info, const token_corpus *k, const uint64_t *row_token,
                      int64_t n_rows, const tokenizer *t, store **out, err *e);

bool store_chunk_done(const store *s, int hook, int64_t chunk);

/* Writes a whole chunk (its rows as float32; converted here), syncs, marks it, syncs. ERR_FORMAT: the dtype cannot hold it. */
err_code store_write_chunk(store *s, const ctx *c, int hook, int64_t chunk, const float *x /* [rows in chunk, d_model] */,
                           err *e);

/* Begins a hook again with another dtype: the file is laid out anew beside itself, what the other hooks have is copied, and it
 * takes the old one's place at once. The arguments are those of store_create. */
err_code store_restart_hook(store *s, int hook, store_dtype wanted_dtype, const token_corpus *k, const uint64_t *row_token,
                            const tokenizer *t, err *e);

/* Writes row statistics of a complete hook. */
err_code store_finish_hook(store *s, const ctx *c, int hook, err *e);

/* max_norm of rows of these lengths. */
err_code store_longest_used(const float *lengths, int64_t n, double *out, err *e);

/* ---- reading: on a store from store_open ---- */

err_code store_open(const char *path, store **out, err *e);
void store_close(store *s); /* accepts NULL */

const store_info *store_info_of(const store *s);               /* also while writing */
int store_find_hook(const store *s, const char *name, err *e); /* -1 with a sentence naming the hooks there are */

err_code store_read_rows(const store *s, const ctx *c, int hook, int64_t first, int64_t n, float *x /* [n, d_model] */,
                         err *e);
/* Which rows are longer than the hook's max_norm, and how many; none while it is unknown. */
err_code store_read_long(const store *s, int hook, uint8_t *is_long /* [n_rows] */, int64_t *n_long, err *e);
err_code store_read_row_token(const store *s, uint64_t *row_token /* [n_rows] */, err *e);
err_code store_read_corpus(const store *s, token_corpus *out, err *e); /* owned by the caller, corpus_release */

/* The vocabulary kept in the file: piece i is bytes[offsets[i] .. offsets[i+1]). Borrowed until store_close. */
err_code store_vocab(store *s, const char **bytes, const uint64_t **offsets, err *e);

#endif
