/* mentions.h — names in a corpus: where a concept is mentioned, which other names could be mistaken for it, which words go
 * with it. All by words (corpus_index.h), whatever their case and tokens.
 *
 * Rivals are runs of capitalised words. A run that begins with a word mostly written small ("The Tang") loses it. Names made
 * only of the concept's words, or containing all of it, are the concept itself and no rivals.
 * Ownership: lists belong to the caller. Threads: pure functions of the index. Ties go to the earlier in the text.
 */
#ifndef ANALYSIS_MENTIONS_H
#define ANALYSIS_MENTIONS_H

#include "analysis/corpus_index.h"

enum { NAME_WORDS_MAX = 8 };

typedef struct name_words {
    int32_t words[NAME_WORDS_MAX];
    int n; /* 0: a word of the text does not occur in the corpus at all */
} name_words;

/* ERR_USAGE for a text without words, or with more than NAME_WORDS_MAX. */
err_code name_parse(const corpus_index *x, const char *text, name_words *out, err *e);

typedef struct mention {
    int64_t first, last; /* tokens */
} mention;

typedef struct mention_list {
    mention *items; /* in text order */
    int64_t n;
    size_t cap;
} mention_list; /* zero-initialise; free(items) */

err_code mentions_find(const corpus_index *x, const name_words *name, mention_list *out, err *e);

typedef struct rival {
    name_words name;
    char *text; /* as first written in the corpus */
    int64_t count;
} rival;

typedef struct rival_list {
    rival *items;
    int n;
} rival_list; /* zero-initialise; rivals_release */

/* Other names, hardest first: sharing a word with the concept (or holding one of its words inside, as "Dubai" does for "Bai"),
 * then those of the documents that mention it, then frequent ones from elsewhere. */
err_code rivals_propose(const corpus_index *x, const name_words *concept, const mention_list *mentions, rival_list *out,
                        err *e);
void rivals_release(rival_list *l);

/* Up to max words that go with the concept, as they are mostly written, none of its own: those whose standing in its documents
 * is least a matter of chance (Dunning 1993's log-likelihood ratio over documents), among words that are several times more
 * common there than elsewhere, which leaves out the words of any text. Strings owned by the caller. */
err_code related_words(const corpus_index *x, const name_words *concept, const mention_list *mentions, int max,
                       char **out /* [max] */, int *n, err *e);

#endif
