/* toplist.h — the few best of many, kept in order while they stream by. */
#ifndef ANALYSIS_TOPLIST_H
#define ANALYSIS_TOPLIST_H

#include <stdint.h>

typedef struct top_entry {
    int32_t key;
    double score;
} top_entry;

/* Keeps the `max` best of those seen, best first; of equal ones the earlier. */
static inline void top_keep(top_entry *best, int *n, int max, top_entry x) {
    if (*n == max && x.score <= best[max - 1].score) return;
    int at = *n < max ? (*n)++ : max - 1;
    for (; at > 0 && best[at - 1].score < x.score; at--) best[at] = best[at - 1];
    best[at] = x;
}

#endif
