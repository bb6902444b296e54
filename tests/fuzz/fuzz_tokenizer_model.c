/* SentencePiece's tokenizer.model. */
#include "use_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tokenizer_def d;
    err e = {0};
    err_code rc = definition_parse_sentencepiece((const char *)data, size, &d, &e);
    return use_tokenizer(rc, &d, &e, NULL, 0);
}
