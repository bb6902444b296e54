#include "text/regex.h"

#include <string.h>

/* A pattern that comes with a model may be made to explode: each match may take this many steps, some 10,000 times what the
 * patterns of known models take. */
enum { MATCH_STEPS_MAX = 1000000, PATTERN_BYTES_MAX = 1 << 16 };

err_code regex_compile(const char *pattern, pcre2_code **out, err *e) {
    int error;
    PCRE2_SIZE at;
    *out = NULL;
    if (strlen(pattern) > PATTERN_BYTES_MAX) return err_set(e, ERR_FORMAT, "a pattern of %zu bytes", strlen(pattern));
    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error,
                         &at, NULL);
    if (!*out) {
        char why[256] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        return err_set(e, ERR_FORMAT, "PCRE2 cannot compile the pattern %.200s: %s at offset %zu", pattern, why, at);
    }
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* only an optimisation: without JIT matching is slower */
    return ERR_OK;
}

/* Property names of Oniguruma that PCRE2 spells the same: nothing to do. What differs: white space and word characters, \h (a
 * hexadecimal digit there, a blank here), and a quantifier {n,m}+, which repeats there and is possessive here. */
err_code regex_translate(const char *pattern, strbuf *out, err *e) {
    bool in_class = false;
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            if (*p == 's')
                strbuf_add_str(out, in_class ? SPACES : SPACE);
            else if (*p == 'S' && !in_class)
                strbuf_add_str(out, NO_SPACE);
            else if (*p == 'w')
                strbuf_add_str(out, in_class ? "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}" : "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}]");
            else if (*p == 'W' && !in_class)
                strbuf_add_str(out, "[^\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}]");
            else if (strchr("SWhHXRGKN", *p) || (*p >= '1' && *p <= '9'))
                return err_set(e, ERR_UNSUPPORTED, "\\%c in the pattern %.200s is not supported", *p, pattern);
            else {
                strbuf_add_char(out, '\\');
                strbuf_add_char(out, *p);
                bool property = (*p == 'p' || *p == 'P') && p[1] == '{';
                while (property && p[1] && *p != '}') strbuf_add_char(out, *++p);
            }
            continue;
        }
        if (in_class && *p == '[' && p[1] != ':')
            return err_set(e, ERR_UNSUPPORTED, "a class within a class in the pattern %.200s is not supported", pattern);
        if (in_class && *p == '&' && p[1] == '&')
            return err_set(e, ERR_UNSUPPORTED, "&& in the pattern %.200s is not supported", pattern);
        if (!in_class && *p == '}' && p[1] == '+')
            return err_set(e, ERR_UNSUPPORTED, "}+ in the pattern %.200s is not supported", pattern);
        if (!in_class && *p == '(' && p[1] == '?' && !strchr(":=!<>i", p[2]))
            return err_set(e, ERR_UNSUPPORTED, "(?%c in the pattern %.200s is not supported", p[2], pattern);
        if (!in_class && *p == '(' && p[1] == '*')
            return err_set(e, ERR_UNSUPPORTED, "(* in the pattern %.200s is not supported", pattern);
        if (*p == '[' && !in_class) {
            in_class = true;
            strbuf_add_char(out, *p);
            if (p[1] == '^') strbuf_add_char(out, *++p);
            if (p[1] == ']') strbuf_add_str(out, (p++, "\\]"));
            continue;
        }
        if (in_class && *p == '[') { /* [:name:] */
            const char *end = strstr(p + 2, ":]");
            if (!end) return err_set(e, ERR_FORMAT, "the pattern %.200s has a [: without an end", pattern);
            strbuf_add(out, p, (size_t)(end + 2 - p));
            p = end + 1;
            continue;
        }
        if (*p == ']') in_class = false;
        strbuf_add_char(out, *p);
    }
    return strbuf_check(out, e);
}

void regex_quote(const char *text, strbuf *out) {
    for (; *text; text++) {
        if (strchr("\\^$.[]|()?*+{}-", *text)) strbuf_add_char(out, '\\');
        strbuf_add_char(out, *text);
    }
}

void regex_for_json(const char *pattern, strbuf *out) {
    static const struct { const char *here, *there; } words[] = {{SPACE, "\\s"}, {NO_SPACE, "\\S"}, {SPACES, "\\s"}};
    while (*pattern) {
        size_t i = 0;
        while (i < 3 && strncmp(pattern, words[i].here, strlen(words[i].here)) != 0) i++;
        if (i < 3) {
            strbuf_add_str(out, words[i].there);
            pattern += strlen(words[i].here);
        } else
            strbuf_add_char(out, *pattern++);
    }
}

err_code regex_search_init(regex_search *s, const pcre2_code *code, const char *text, size_t n, err *e) {
    *s = (regex_search){.code = code, .text = text, .n = n};
    s->match = pcre2_match_data_create(1, NULL);
    s->limits = pcre2_match_context_create(NULL);
    if (!s->match || !s->limits) return err_nomem(e, "a match", sizeof(PCRE2_SIZE));
    pcre2_set_match_limit(s->limits, MATCH_STEPS_MAX);
    return ERR_OK;
}

void regex_search_release(regex_search *s) {
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->limits);
}

bool regex_search_next(const regex_search *s, size_t at, size_t *from, size_t *to, err_code *rc, err *e) {
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int found = pcre2_match(s->code, (PCRE2_SPTR)s->text, s->n, at, options, s->match, s->limits);
    if (found == PCRE2_ERROR_NOMATCH) return false;
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
    if (found < 0 || range[0] < at || range[1] <= range[0]) {
        *rc = err_set(e, ERR_FAILED, "PCRE2 gave up on a text of %zu bytes (error %d)", s->n, found);
        return false;
    }
    *from = range[0];
    *to = range[1];
    return true;
}
