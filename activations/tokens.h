/* tokens.h — a corpus as token ids: documents read from .txt and .jsonl, tokenised, sampled, all in memory.
 *
 * A corpus is a file or a folder (read in name order, not recursively) of .txt (a file is a document) or .jsonl (a line is a
 * document: {"text": ..} or {"ids": [..]}, other keys ignored). Documents given as ids are taken as they are.
 * Documents longer than `context` are cut into windows of `context` tokens; each window is a document of its own from then on.
 * Errors name file and line: empty corpus, not UTF-8, binary (NUL bytes), an id the model lacks.
 */
#ifndef ACTIVATIONS_TOKENS_H
#define ACTIVATIONS_TOKENS_H

#include "core/ctx.h"
#include "text/tokenizer.h"

typedef struct token_corpus {
    uint32_t *tokens; /* [n_tokens] */
    int64_t n_tokens;
    uint64_t *doc_offsets; /* [n_docs + 1] */
    int64_t n_docs;
    char **doc_source; /* [n_docs] "poets.jsonl:17", or "poets.jsonl:17#2" for the third window */
    uint64_t hash;     /* of tokens and offsets: says whether a capture may continue */
} token_corpus;        /* zero-initialise */

typedef struct corpus_opts {
    int64_t context;    /* longest document, in tokens */
    int64_t max_tokens; /* 0: all; else a seeded sample of whole documents, just reaching this many */
    int64_t
        skip_tokens; /* leave out the documents that a sample of this many tokens with this seed takes; none may be left */
    uint64_t seed;
} corpus_opts;
#define CORPUS_DEFAULTS ((corpus_opts){.context = 256})

err_code corpus_read(const ctx *c, const char *path, const tokenizer *t, const corpus_opts *o, token_corpus *out, err *e);
void corpus_release(token_corpus *k);

void corpus_keep(token_corpus *k, const bool *kept /* [n_docs] */); /* these documents alone, in their order */
err_code corpus_sample(token_corpus *k, const corpus_opts *o,
                       err *e); /* what corpus_read does by max_tokens, skip_tokens and seed */

/* Rows of a corpus at a hook: the positions skip_first and later of every document, numbered through. */
typedef struct corpus_rows {
    int64_t n;
    int64_t *first;  /* [n_docs + 1] row */
    uint64_t *token; /* [n] */
} corpus_rows;       /* zero-initialise */

/* ERR_USAGE: a document is longer than n_ctx, what the model was trained for. ERR_FORMAT: no document has a row. */
err_code corpus_rows_number(const token_corpus *k, int64_t skip_first, int64_t n_ctx, corpus_rows *out, err *e);
void corpus_rows_release(corpus_rows *r);

/* The text each document is a window of, numbered in order: of[d] ascends. Returns how many texts there are. */
int32_t corpus_texts(const token_corpus *k, int32_t *of /* [n_docs] */);

#endif
