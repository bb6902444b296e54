/* from_config.c — what the files beside a tokenizer say about it: tokenizer_config.json, and config.json, which is the weights'
 * metadata. */
#include "core/mem.h"
#include "text/folder.h"
#include "text/kinds.h"

#include <stdlib.h>
#include <string.h>

/* "<s>" or {"content": "<s>", ..} */
static int64_t named_token(const tokenizer_def *d, const json_t *v) {
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_is_string(v) ? definition_find(d, json_string_value(v), json_string_length(v)) : -1;
}

/* The number `key` of config.json, or the first of an array of them; -1 when there is none. */
static int64_t config_id(const weights *w, const char *key, const tokenizer_def *d) {
    const meta_value *v = w ? weights_meta(w, key) : NULL;
    if (v && v->kind == META_ARRAY && v->array.kind == META_INT && v->array.count) v = &v->array.items[0];
    return v && v->kind == META_INT && v->integer >= 0 && v->integer < d->n_pieces ? v->integer : -1;
}

/* Models round their vocabulary up: what is behind the tokenizer's last piece has no text. */
static err_code pad_pieces(const weights *w, tokenizer_def *d, err *e) {
    const meta_value *v = w ? weights_meta(w, "vocab_size") : NULL;
    if (!v || v->kind != META_INT || v->integer <= d->n_pieces || v->integer > PIECES_MAX) return ERR_OK;
    piece_def *pieces;
    err_code rc = mem_new(&pieces, (size_t)v->integer, sizeof *pieces, "the vocabulary", e);
    if (rc) return rc;
    memcpy(pieces, d->pieces, (size_t)d->n_pieces * sizeof *pieces);
    for (int64_t i = d->n_pieces; i < v->integer; i++) pieces[i] = (piece_def){.bytes = "", .type = TOKEN_UNUSED};
    free(d->pieces);
    d->pieces = pieces;
    d->n_pieces = v->integer;
    return ERR_OK;
}

err_code definition_from_config(const weights *w, const char *folder, tokenizer_def *d, err *e) {
    json_t *config;
    err_code rc = model_folder_json(folder, "tokenizer_config.json", &config, e);
    if (rc) return rc;
    const json_t *adds = json_object_get(config, "add_bos_token");
    int64_t bos = named_token(d, json_object_get(config, "bos_token")),
            eos = named_token(d, json_object_get(config, "eos_token"));
    if (bos >= 0) d->bos = bos;
    if (d->bos < 0) d->bos = config_id(w, "bos_token_id", d);
    if (eos >= 0) d->eos = eos;
    if (d->eos < 0) d->eos = config_id(w, "eos_token_id", d);
    if (d->eot < 0) d->eot = config_id(w, "eos_token_id", d); /* where the two files differ, either ends a text */
    if (json_is_boolean(adds)) d->adds_bos = json_is_true(adds);
    json_decref(config);
    return pad_pieces(w, d, e);
}
