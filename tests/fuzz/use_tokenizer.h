/* use_tokenizer.h — what the fuzz targets of tokenizer files do with one: it must be refused in a sentence, or encode any text to ids of
 * its vocabulary, and decode them. */
#ifndef TESTS_FUZZ_USE_TOKENIZER_H
#define TESTS_FUZZ_USE_TOKENIZER_H

#include "text/kinds.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void encode_text(const tokenizer *t, const char *text, size_t n) {
    err e = {0};
    token_ids ids = {0};
    strbuf back = STRBUF_INIT;
    if (tokenizer_encode(t, text, n, &TOKENIZE_DEFAULTS, &ids, &e) && !e.message[0]) abort();
    for (size_t i = 0; i < ids.len; i++)
        if (ids.ids[i] >= tokenizer_size(t)) abort();
    tokenizer_decode(t, ids.ids, ids.len, true, &back);
    if (text_whole_chars(back.data, back.len) > back.len) abort();
    strbuf_release(&back);
    free(ids.ids);
}

/* d as its reader left it, with what the reader returned; releases it. `more`: another text, may be NULL. */
static inline int use_tokenizer(err_code rc, tokenizer_def *d, err *e, const char *more, size_t n_more) {
    static const char text[] = "It's 12  o'clock\n\n<s> \xe6\x9d\x8e\xe7\x99\xbd\xe2\x96\x81 \xc3\xa9\xff<0x41></s>";
    tokenizer *t = NULL;
    if (!rc) rc = tokenizer_build(d, &t, e);
    definition_release(d);
    if (rc && (!e->message[0] || strchr(e->message, '\n'))) abort();
    if (!rc) encode_text(t, text, sizeof text - 1);
    if (!rc && more) encode_text(t, more, n_more);
    tokenizer_close(t);
    return 0;
}

#endif
