/* labels.h — the label of a feature: the shortest rule over tokens and words that predicts where it fires.
 *
 *   token " Bai"                    token " Bai" or " Li"            the token it fires on (up to three)
 *   word "china"                    word "china" or "chinese"        the word that token belongs to, whatever its case
 *   after token " Li"                                                the token before
 *   token " Bai" after " Li"        token " Li" near word "poet"     both
 *   context word "dynasty"                                           a word that ended within the last LABEL_NEAR tokens
 *   document with "tang"                                             anywhere in the document
 *   first 3 tokens                                                   of a document
 *
 * Documents are split in two (windows of one document stay together). Candidates come from the feature's own firing in the
 * first half and are scored there; the best is scored again on the second, and only that score is kept:
 *   recall     share of the feature's activation mass the rule covers: strong firing counts for more than the faint tail
 *   precision  share of the rows the rule names on which the feature fires
 *   f1         their harmonic mean: the label's score, and the feature's interpretability
 *   auroc      (1 + true positive rate - false positive rate) / 2, of firing at all
 * "Shortest": every term beyond the first must earn LABEL_TERM_COST of F1 on the first half.
 *
 * How to add a kind of rule: a value below, a row in the table in labels.c (how it reads, whether it holds at a token), and
 * where its candidates come from.
 * Threads: const label_index may be shared, a label_scratch may not.
 */
#ifndef ANALYSIS_LABELS_H
#define ANALYSIS_LABELS_H

#include "analysis/corpus_index.h"
#include "analysis/db.h"
#include "analysis/postings.h"

typedef enum rule_kind {
    RULE_TOKEN,
    RULE_WORD,
    RULE_AFTER,
    RULE_TOKEN_AFTER,
    RULE_TOKEN_NEAR,
    RULE_NEAR,
    RULE_DOCUMENT,
    RULE_POSITION,
} rule_kind;

enum { LABEL_NEAR = 16, LABEL_TERMS = 3, LABEL_MIN_TRAIN = 8, LABEL_MIN_TEST = 4 };
#define LABEL_TERM_COST 0.02

typedef struct label_rule {
    rule_kind kind;
    int n_terms;                /* alternatives */
    int32_t terms[LABEL_TERMS]; /* tokens, words, or (position) how many tokens */
    int32_t with;               /* the other token or word of a pair */
} label_rule;

typedef struct label_score {
    double f1, auroc, precision, recall; /* NAN when it was not measured */
    int64_t fires;                       /* rows of the half that measured it */
} label_score;

/* The corpus with what labels need counted once: how many rows of each half every simple rule names. */
typedef struct label_index label_index;
err_code label_index_new(const corpus_index *x, uint64_t seed, label_index **out, err *e);
void label_index_free(label_index *x);               /* accepts NULL */
int label_half(const label_index *x, int64_t token); /* 0: chooses, 1: scores */

typedef struct label_scratch label_scratch;
err_code label_scratch_new(const label_index *x, label_scratch **out, err *e);
void label_scratch_free(label_scratch *s); /* accepts NULL */

/* The best rule for a feature and its held-out score. A feature that fires too rarely (LABEL_MIN_TRAIN, LABEL_MIN_TEST) gets
 * the token that carries most of its mass, without score; one that never fires gets n_terms 0. */
err_code label_feature(const label_index *x, const postings *p, int64_t feature, label_scratch *s, label_rule *rule,
                       label_score *score, err *e);

bool label_rule_holds(const label_index *x, const label_rule *rule, int64_t token);

/* The rule in words, cut to the field. */
void label_rule_text(const label_index *x, const label_rule *rule, char out[FEATURE_LABEL_MAX]);

/* A token as shown in labels and lists: in double quotes, line breaks and quotes escaped, bytes that are no text as <0xE6>. */
void text_add_quoted_piece(strbuf *out, const vocab_view *vocab, uint32_t token);

#endif
