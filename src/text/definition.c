#include "text/definition.h"

#include "core/mem.h"
#include "text/folder.h"

#include <stdlib.h>
#include <string.h>

void definition_release(tokenizer_def *d) {
    free(d->pieces);
    free(d->merges);
    normalizer_free(d->normalizer);
    pretok_close(d->pretok);
    if (d->release_owner) d->release_owner(d->owner);
    *d = TOKENIZER_DEF_EMPTY;
}

err_code definition_spaces(tokenizer_def *d, bool prefix, err *e) {
    err_code rc = d->normalizer ? ERR_OK : normalizer_new(&d->normalizer, e);
    if (!rc && prefix) rc = normalizer_add(d->normalizer, NORMAL_PREPEND, "", "\xe2\x96\x81", e);
    if (!rc) rc = normalizer_add(d->normalizer, NORMAL_REPLACE, " ", "\xe2\x96\x81", e);
    d->prefix = prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
    return rc;
}

int64_t definition_find(const tokenizer_def *d, const char *bytes, size_t n) {
    for (int64_t i = 0; i < d->n_pieces; i++)
        if (d->pieces[i].n == n && !memcmp(d->pieces[i].bytes, bytes, n)) return i;
    return -1;
}

err_code definition_read_folder(const weights *w, const char *folder, tokenizer_def *d, err *e) {
    if (model_folder_has(folder, "tokenizer.json")) return definition_from_json(w, folder, d, e);
    if (model_folder_has(folder, "tokenizer.model")) return definition_from_sentencepiece(w, folder, d, e);
    return err_set(e, ERR_FORMAT,
                   "no tokenizer: neither metadata tokenizer.ggml.model nor tokenizer.json or tokenizer.model");
}

err_code definition_read(const weights *w, tokenizer_def *d, err *e) {
    char *folder = NULL;
    if (weights_meta(w, "tokenizer.ggml.model")) return definition_from_gguf(w, d, e);
    err_code rc = model_folder(w, &folder, e);
    if (!rc) rc = definition_read_folder(w, folder, d, e);
    free(folder);
    return rc;
}
