/* unknown.c — what becomes of characters that no piece covers. */
#include "text/kinds.h"

#include <stdio.h>
#include <string.h>

void unknown_rule_init(const tokenizer_def *d, const vocab *v, unknown_rule *out) {
    memset(out->byte_ids, 0xff, sizeof out->byte_ids); /* NO_TOKEN */
    out->unknown = d->unknown >= 0 && d->unknown < d->n_pieces ? (uint32_t)d->unknown : NO_TOKEN;
    out->fuses = d->fuses_unknown;
    for (int64_t i = 0; d->byte_fallback && i < v->n; i++) {
        size_t n;
        const char *text = string_at(&v->texts, (uint32_t)i, &n);
        if (v->types[i] == TOKEN_BYTE && n == 1) out->byte_ids[(unsigned char)text[0]] = (uint32_t)i;
    }
}

err_code unknown_rule_add(const unknown_rule *r, const char *text, size_t n, token_ids *out, size_t begin, err *e) {
    bool has_bytes = true;
    for (size_t i = 0; i < n; i++) has_bytes = has_bytes && r->byte_ids[(unsigned char)text[i]] != NO_TOKEN;
    err_code rc = ERR_OK;
    for (size_t i = 0; has_bytes && i < n && !rc; i++) rc = token_ids_add(out, r->byte_ids[(unsigned char)text[i]], e);
    if (has_bytes || r->unknown == NO_TOKEN) return rc;
    bool fused = r->fuses && out->len > begin && out->ids[out->len - 1] == r->unknown;
    return fused ? ERR_OK : token_ids_add(out, r->unknown, e);
}
