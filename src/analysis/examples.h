/* examples.h — where a feature fires, chosen to be read: its strongest places and places at true quantiles of its firing.
 *
 * "top": the best position of each document, strongest first, leaving out windows nearly the same as one shown already.
 * "q95" .. "q05": from different documents, the positions closest to that quantile of the positive part, by exact sorting.
 * Each with a window of text, the activating token and how strongly the feature fires on every token shown.
 * Threads: scratch belongs to one thread. Result does not depend on threads; ties go to the earlier row.
 */
#ifndef ANALYSIS_EXAMPLES_H
#define ANALYSIS_EXAMPLES_H

#include "analysis/corpus_index.h"
#include "analysis/db.h"
#include "analysis/postings.h"
#include "analysis/windows.h"

enum { EXAMPLES_TOP = 16, EXAMPLES_PER_QUANTILE = 3, EXAMPLE_BEFORE = 20, EXAMPLE_AFTER = 8 };

typedef struct ranked_row {
    uint32_t row;
    float value;
} ranked_row;

typedef struct example_scratch {
    ranked_row *ranked;  /* the feature's firings, weakest first */
    uint8_t *group_seen; /* [n_groups] all zero between calls */
    size_t cap;
    text_window window;
} example_scratch;

#define EXAMPLE_SCRATCH_INIT ((example_scratch){.window = TEXT_WINDOW_INIT})

/* Fills card->examples and card->histogram of a feature that has none yet, and leaves its firings ranked in s. */
err_code examples_fill(const corpus_index *x, const postings *p, int64_t feature, example_scratch *s, feature_card *card,
                       err *e);
void example_scratch_release(example_scratch *s);

#endif
