/* store_fixture.h — a corpus, a tokenizer and rows with closed forms: what tests of activation files write and expect. */
#ifndef TESTS_SUPPORT_STORE_FIXTURE_H
#define TESTS_SUPPORT_STORE_FIXTURE_H

#include "activations/store.h"

typedef struct store_fixture {
    weights *w;
    tokenizer *t;
    token_corpus k;
    uint64_t *row_token; /* [n_rows] all tokens but the first of each document */
    int64_t n_rows;
    store_info info; /* one hook a dtype, hook i `10 + i` wide, unless changed */
} store_fixture;

/* Documents of 2 to 11 tokens until there are at least n_rows rows; every third text has two windows. */
void store_fixture_init(store_fixture *f, int64_t n_rows);
void store_fixture_release(store_fixture *f);

/* The number at row r, column j of hook i: exact in every dtype. */
float store_fixture_value(int hook, int64_t r, int64_t j);
void store_fixture_rows(const store_fixture *f, int hook, int64_t first, int64_t n, float *x);

/* Writes what is missing of the file and finishes its hooks. */
void store_fixture_write(const store_fixture *f, const char *path);

#endif
