#include "cli/command.h"
#include "core/strbuf.h"

#include <math.h>

err_code command_print_json(const parsed_options *o, json_t *doc, err *e) {
    json_t *whole = json_object();
    int failed = !doc || json_object_set_new(whole, "schema", json_sprintf("sae.%s/1", opt_command(o))) ||
                 json_object_update(whole, doc);
    if (!failed) { /* 15 digits: what was typed as 0.1 prints as 0.1 */
        json_dumpf(whole, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
        putchar('\n');
    }
    json_decref(whole);
    json_decref(doc);
    return failed ? err_set(e, ERR_NOMEM, "out of memory: the JSON document") : ERR_OK;
}

json_t *command_json_real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

/* Length of the valid UTF-8 sequence at s (RFC 3629: no surrogates, no overlong forms), 0 when there is none. */
static size_t utf8_length(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < length) return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return length;
}

json_t *command_json_text(const char *bytes, size_t n) {
    strbuf s = STRBUF_INIT;
    for (size_t i = 0; i < n;) {
        size_t length = utf8_length((const unsigned char *)bytes + i, n - i);
        if (length)
            strbuf_add(&s, bytes + i, length);
        else
            strbuf_add_str(&s, "\xef\xbf\xbd");
        i += length ? length : 1;
    }
    json_t *text = s.failed ? NULL : json_stringn(s.data, s.len);
    strbuf_release(&s);
    return text;
}
