/* tokenizer.json, and behind a NUL a text for it. */
#include "use_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, '\0', size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    tokenizer_def d;
    err e = {0};
    err_code rc = definition_parse_json((const char *)data, n, &d, &e);
    return use_tokenizer(rc, &d, &e, nul ? (const char *)nul + 1 : NULL, nul ? size - n - 1 : 0);
}
