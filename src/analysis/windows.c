#include "analysis/windows.h"

#include "core/mem.h"

#include <stdlib.h>
#include <utf8proc.h>

/* Length of the character at s, 1 for a byte that is no text; *whole says which. */
static size_t char_length(const char *s, size_t n, bool *whole) {
    utf8proc_int32_t code;
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &code);
    *whole = used > 0;
    return used > 0 ? (size_t)used : 1;
}

static bool is_tail(char byte) { return ((unsigned char)byte & 0xC0) == 0x80; }

/* Bytes at the window's edges that belong to a character outside it. */
static size_t cut_head(const strbuf *raw) {
    size_t n = 0;
    while (n < raw->len && n < 3 && is_tail(raw->data[n])) n++;
    return n;
}

static size_t cut_tail(const strbuf *raw) { return raw->len - text_whole_chars(raw->data, raw->len); }

err_code text_window_set(text_window *w, const corpus_index *x, int64_t from, int64_t to, int64_t focus, err *e) {
    const vocab_view *v = &x->vocab;
    err_code rc;
    w->first = from;
    w->n = to - from;
    strbuf_reset(&w->text);
    strbuf_reset(&w->raw);
    TRY(mem_grow(&w->start, &w->cap_start, (size_t)w->n, sizeof *w->start, "a window of text", e));
    TRY(mem_grow(&w->end, &w->cap_end, (size_t)w->n, sizeof *w->end, "a window of text", e));
    for (int64_t i = 0; i < w->n; i++) { /* places in raw, for now */
        uint32_t id = x->corpus->tokens[from + i];
        w->start[i] = (int64_t)w->raw.len;
        strbuf_add(&w->raw, v->bytes + v->offsets[id], v->offsets[id + 1] - v->offsets[id]);
        w->end[i] = (int64_t)w->raw.len;
    }
    TRY(strbuf_check(&w->raw, e));
    size_t head = cut_head(&w->raw), tail = w->raw.len - cut_tail(&w->raw);
    if (head > (size_t)w->start[focus - from]) head = (size_t)w->start[focus - from];
    if (tail < (size_t)w->end[focus - from]) tail = (size_t)w->end[focus - from];

    /* Character by character into text; a token starts where the character of its first byte starts, and ends where that of
     * its last byte ends. Tokens are visited along: those starting (ending) inside this character get its place. */
    int64_t starting = 0, ending = 0;
    for (size_t at = 0, n; at < w->raw.len; at += n) {
        bool whole;
        n = char_length(w->raw.data + at, w->raw.len - at, &whole);
        if (at < head)
            n = head - at;
        else if (at >= tail)
            n = w->raw.len - at;
        int64_t shown = (int64_t)w->text.len;
        if (at >= head && at < tail) text_add_printable(&w->text, w->raw.data + at, n);
        for (; starting < w->n && (size_t)w->start[starting] < at + n; starting++) w->start[starting] = shown;
        for (; ending < w->n && (size_t)w->end[ending] <= at + n; ending++) w->end[ending] = (int64_t)w->text.len;
    }
    for (; starting < w->n; starting++) w->start[starting] = (int64_t)w->text.len; /* empty pieces at the end */
    for (; ending < w->n; ending++) w->end[ending] = (int64_t)w->text.len;
    TRY(strbuf_check(&w->text, e));
done:
    return rc;
}

void text_window_release(text_window *w) {
    strbuf_release(&w->text);
    strbuf_release(&w->raw);
    free(w->start);
    free(w->end);
    *w = TEXT_WINDOW_INIT;
}
