/* printable.c — bytes of a model shown to people: whole characters, and what is none as <0xE6>. */
#include "text/tokenizer.h"

#include <utf8proc.h>

static size_t char_length(const char *s, size_t n) {
    utf8proc_int32_t letter;
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &letter);
    return len > 0 ? (size_t)len : 0;
}

void text_add_printable(strbuf *out, const char *bytes, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t len = char_length(bytes + i, n - i);
        if (len)
            strbuf_add(out, bytes + i, len);
        else
            strbuf_addf(out, "<0x%02X>", (unsigned char)bytes[i]);
        i += len ? len : 1;
    }
}

/* Bytes that begin no character, whatever follows, are not held back: only an unfinished last character is. */
size_t text_whole_chars(const char *s, size_t n) {
    size_t start = n;
    while (start && n - start < 3 && ((unsigned char)s[start - 1] & 0xc0) == 0x80) start--;
    if (!start) return n;
    unsigned char lead = (unsigned char)s[start - 1];
    size_t wanted = lead >= 0xf0 && lead <= 0xf4 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || n - start + 1 >= wanted) return n;
    return start - 1;
}
