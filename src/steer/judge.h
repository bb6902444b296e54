/* judge.h — what a generated text is like: does it mention a concept, does it repeat itself, and how likely does the model
 * find it when left alone.
 *
 *   mentions     a word of a list stands in it
 *   repetition   share of its token 3-grams that stood in it before: 1 - distinct / all; 0 for a text of fewer than 3 tokens
 *   nll          -log p(text | prompt) in nats under the unsteered model; exp(nll / tokens) is its perplexity
 *
 * Words: one with a capital is a name and must stand whole and as written ("Tang" is neither "tang" nor "Tango"); a small one
 * matches every word that begins with it, whatever its case ("poet": poets, Poetry). Words of scripts without spaces match
 * anywhere. Threads: const word_list may be shared.
 */
#ifndef STEER_JUDGE_H
#define STEER_JUDGE_H

#include "model/model.h"
#include "steer/generate.h"

typedef struct judge_word {
    char *text;     /* as given */
    int32_t *chars; /* [n] code points; lower-cased unless it is a name */
    int64_t n;
    bool name, anywhere;
} judge_word;

typedef struct word_list {
    judge_word *items;
    int n;
} word_list; /* zero-initialise; word_list_release */

/* "China|Chinese|poet", commas do as well. Adds to out. ERR_USAGE when there is no word in it. */
err_code word_list_parse(const char *spec, word_list *out, err *e);
void word_list_release(word_list *l);

err_code judge_mentions(const word_list *l, const char *text, size_t n, bool *mentioned, err *e);

/* Where the words stand: byte offsets, ascending, each place once. *places owned by the caller, free(). */
err_code judge_find_words(const word_list *l, const char *text, size_t n, size_t **places, int64_t *n_places, err *e);

err_code judge_repetition(const uint32_t *ids, size_t n, double *share, err *e);

/* nll [n] of each sequence's output behind its prompt; 0 where the output is empty. */
err_code judge_nll(const ctx *c, model *m, const generate_seq *seqs, int64_t n, double *nll, err *e);

#endif
