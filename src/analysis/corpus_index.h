/* corpus_index.h — the text behind the rows: which document, row and word every token belongs to, and where each token and
 * word occurs.
 *
 * A word is a run of letters, marks and digits (an apostrophe inside belongs to it, a possessive 's does not), lower-cased; a Han, Hiragana or Katakana
 * character is a word of its own. Words are found in the joined bytes of a document, whatever its tokens are, so " Bai" and
 * "B" + "ai" are the same word. All lists ascend.
 * Ownership: corpus, vocabulary and row_token are borrowed and must outlive the index. Threads: const index may be shared.
 * Errors: ERR_FORMAT when tokens, offsets or rows contradict each other; ERR_NOMEM.
 */
#ifndef ANALYSIS_CORPUS_INDEX_H
#define ANALYSIS_CORPUS_INDEX_H

#include "activations/tokens.h"

typedef struct vocab_view {
    const char *bytes;       /* piece i is bytes[offsets[i] .. offsets[i + 1]) */
    const uint64_t *offsets; /* [n + 1] */
    int64_t n;
} vocab_view;

typedef struct word_at { /* one occurrence */
    int32_t word;
    bool capital;        /* its first letter is upper case */
    int64_t first, last; /* tokens it touches */
} word_at;

typedef struct corpus_index {
    const token_corpus *corpus;
    vocab_view vocab;
    const uint64_t *row_token; /* [n_rows] ascending */
    int64_t n_rows;

    int64_t *token_row; /* [n_tokens] -1 for a token without a row */
    int32_t *token_doc; /* [n_tokens] */
    int32_t *doc_group; /* [n_docs] windows cut from one document share a group, 0 .. n_groups - 1 */
    int32_t n_groups;

    int64_t *of_token_start; /* [vocab.n + 1] positions of token id i: of_token[of_token_start[i] .. of_token_start[i + 1]) */
    int64_t *of_token;       /* [n_tokens] */

    int32_t n_words;
    char *word_bytes; /* word w is the NUL-terminated string at word_bytes + word_start[w] */
    int64_t *word_start;
    int64_t n_occurrences;
    word_at *occurrences;    /* [n_occurrences] in text order */
    int64_t *doc_first_word; /* [n_docs + 1] first occurrence of each document */
    int64_t *token_word;     /* [n_tokens] the last occurrence that touches the token, -1: none */
    int64_t *of_word_start;  /* [n_words + 1] */
    int64_t *of_word;        /* [n_occurrences] occurrences of word w, as of_token */
} corpus_index;              /* zero-initialise; corpus_index_release */

err_code corpus_index_build(const token_corpus *k, vocab_view vocab, const uint64_t *row_token, int64_t n_rows,
                            corpus_index *out, err *e);
void corpus_index_release(corpus_index *x);

const char *corpus_word(const corpus_index *x, int32_t word);      /* borrowed */
int32_t corpus_find_word(const corpus_index *x, const char *text); /* text lower-cased already; -1 when absent. Linear. */

/* The last occurrence of word in the token's document that ends at token or before, -1: none. */
int64_t corpus_word_before(const corpus_index *x, int32_t word, int64_t token);
bool corpus_doc_has_word(const corpus_index *x, int32_t word, int32_t doc);

/* The next word of a text at *at or behind, which is moved to its first byte: its length, 0 when there is none. */
size_t text_next_word(const char *text, size_t n, size_t *at);

/* Lower case, character by character; what is no UTF-8 stays. */
void text_add_lower(strbuf *out, const char *text, size_t n);

#endif
