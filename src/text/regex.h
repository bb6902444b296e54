/* regex.h — PCRE2, with Unicode's idea of letters and white space, and the patterns of tokenizer.json. Internal to text/. */
#ifndef TEXT_REGEX_H
#define TEXT_REGEX_H

#include "core/strbuf.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* White space as Unicode has it (property White_Space). Not PCRE2's \s, which counts U+180E in. */
#define SPACES   "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACE    "[" SPACES "]"
#define NO_SPACE "[^" SPACES "]"

err_code regex_compile(const char *pattern, pcre2_code **out, err *e);

/* A pattern as tokenizer.json has it (Oniguruma's dialect), written for PCRE2; what the two read differently is refused. */
err_code regex_translate(const char *pattern, strbuf *out, err *e);

/* The other way, for patterns written with the macros above. */
void regex_for_json(const char *pattern, strbuf *out);

/* The matches of a pattern in a text, one after the other; steps are bounded. Zero-initialise by regex_search_init. */
typedef struct regex_search {
    const pcre2_code *code;
    const char *text;
    size_t n;
    pcre2_match_data *match;
    pcre2_match_context *limits;
} regex_search;

err_code regex_search_init(regex_search *s, const pcre2_code *code, const char *text, size_t n, err *e);
void regex_search_release(regex_search *s);

/* The next match at or behind `at`, which is never empty; false when there is none, or with *rc an error. */
bool regex_search_next(const regex_search *s, size_t at, size_t *from, size_t *to, err_code *rc, err *e);

/* Escapes what has a meaning in a pattern. */
void regex_quote(const char *text, strbuf *out);

#endif
