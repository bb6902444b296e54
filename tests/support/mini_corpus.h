/* mini_corpus.h — a corpus in memory for tests of the analysis: documents given as pieces, "The| poet| Li| Bai". */
#ifndef TESTS_SUPPORT_MINI_CORPUS_H
#define TESTS_SUPPORT_MINI_CORPUS_H

#include "analysis/corpus_index.h"

typedef struct mini_corpus {
    token_corpus k;
    strbuf pieces;     /* bytes of the vocabulary */
    uint64_t *offsets; /* [n_vocab + 1] */
    int64_t n_vocab;
    uint64_t *row_token;
    int64_t n_rows;
    corpus_index index; /* after finish */
    size_t cap_tokens, cap_docs, cap_source, cap_vocab;
} mini_corpus;

void mini_corpus_init(mini_corpus *m);
void mini_corpus_add(mini_corpus *m, const char *source, const char *pieces);
void mini_corpus_finish(mini_corpus *m,
                        int64_t skip_first); /* rows for all but the first tokens of each document; the index */
void mini_corpus_release(mini_corpus *m);

uint32_t mini_corpus_token(mini_corpus *m, const char *piece); /* its id, new if need be */

#endif
