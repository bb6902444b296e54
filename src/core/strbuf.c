#include "core/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(strbuf *s, size_t n) {
    if (s->failed) return false;
    if (s->len + n + 1 <= s->cap) return true;
    size_t cap = s->cap ? s->cap * 2 : 64;
    if (cap < s->len + n + 1) cap = s->len + n + 1;
    char *data = realloc(s->cap ? s->data : NULL, cap);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->cap = cap;
    return true;
}

void strbuf_add(strbuf *s, const void *bytes, size_t n) {
    if (!make_room(s, n)) return;
    if (n) memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = '\0';
}

void strbuf_add_str(strbuf *s, const char *text) { strbuf_add(s, text, strlen(text)); }

void strbuf_add_char(strbuf *s, char c) { strbuf_add(s, &c, 1); }

void strbuf_addf(strbuf *s, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !make_room(s, (size_t)n)) return;
    va_start(args, fmt);
    vsnprintf(s->data + s->len, (size_t)n + 1, fmt, args);
    va_end(args);
    s->len += (size_t)n;
}

void strbuf_add_shell_word(strbuf *s, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%^";
    if (*word && strspn(word, plain) == strlen(word)) {
        strbuf_add_str(s, word);
        return;
    }
    strbuf_add_char(s, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            strbuf_add_str(s, "'\\''");
        else
            strbuf_add_char(s, *word);
    }
    strbuf_add_char(s, '\'');
}

void strbuf_reset(strbuf *s) {
    s->len = 0;
    s->failed = false;
    if (s->cap) s->data[0] = '\0';
}

void strbuf_release(strbuf *s) {
    if (s->cap) free(s->data);
    *s = STRBUF_INIT;
}

char *strbuf_detach(strbuf *s) {
    char *data = NULL;
    if (make_room(s, 0)) {
        data = s->data;
        data[s->len] = '\0';
        *s = STRBUF_INIT;
    }
    return data;
}

err_code strbuf_check(const strbuf *s, err *e) { return s->failed ? err_nomem(e, "text", s->len) : ERR_OK; }
