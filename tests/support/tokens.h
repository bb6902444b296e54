/* tokens.h — token ids compared with a fixture's. */
#ifndef TESTS_SUPPORT_TOKENS_H
#define TESTS_SUPPORT_TOKENS_H

#include "text/tokenizer.h"

#include <jansson.h>

/* Fails the test unless text has exactly these ids; `exact`: and decoding them gives it back. */
void tokens_check(const tokenizer *t, const char *text, size_t n, bool special, const uint32_t *expected, size_t n_expected,
                  bool exact);

/* The same for an array of {"text", "ids", "ids_plain"}, the latter without special tokens and only where it differs. */
void tokens_check_cases(const tokenizer *t, const json_t *cases, bool exact);

#endif
