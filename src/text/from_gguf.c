/* from_gguf.c — the tokenizer.ggml.* metadata of a GGUF file as a tokenizer_def. */
#include "core/mem.h"
#include "core/names.h"
#include "text/kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How to add one: a row; a new way of making tokens is a kind (kinds.h). */
static const struct {
    const char *name; /* tokenizer.ggml.model */
    const tokenizer_kind_row *kind;
    piece_spelling spelling;
} models[] = {
    {"gpt2", &tokenizer_byte_bpe, SPELLED_BYTE_LEVEL},
    {"llama", &tokenizer_score_bpe, SPELLED_SENTENCEPIECE},
    {"t5", &tokenizer_unigram, SPELLED_SENTENCEPIECE},
};
enum { N_MODELS = sizeof models / sizeof *models };

static err_code meta_array(const weights *w, const char *key, meta_kind kind, const char *of, const meta_value **out,
                           err *e) {
    const meta_value *v = weights_meta(w, key);
    if (!v) return err_set(e, ERR_FORMAT, "no metadata %s: the file has no tokenizer, or half of one", key);
    if (v->kind != META_ARRAY || (v->array.count && v->array.kind != kind))
        return err_set(e, ERR_FORMAT, "metadata %s: expected an array of %s", key, of);
    *out = v;
    return ERR_OK;
}

/* ---- pieces ---- */

static err_code read_tokens(const weights *w, tokenizer_def *d, err *e) {
    const meta_value *tokens = NULL;
    err_code rc = meta_array(w, "tokenizer.ggml.tokens", META_STRING, "strings", &tokens, e);
    if (rc) return rc;
    if (tokens->array.count < 1 || tokens->array.count > PIECES_MAX)
        return err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.tokens: expected 1 to %d tokens, got %lld", PIECES_MAX,
                       (long long)tokens->array.count);
    rc = mem_new0(&d->pieces, (size_t)tokens->array.count, sizeof *d->pieces, "the vocabulary", e);
    if (rc) return rc;
    d->n_pieces = tokens->array.count;
    for (int64_t i = 0; i < d->n_pieces; i++) {
        const meta_value *t = &tokens->array.items[i];
        d->pieces[i] = (piece_def){.bytes = t->string.bytes, .n = t->string.len, .type = TOKEN_NORMAL, .listed = true};
    }
    return ERR_OK;
}

static err_code check_count(const char *key, const meta_value *v, const tokenizer_def *d, err *e) {
    if (v->array.count == d->n_pieces) return ERR_OK;
    return err_set(e, ERR_FORMAT, "metadata %s: expected %lld values, one per token, got %lld", key, (long long)d->n_pieces,
                   (long long)v->array.count);
}

/* What the file calls the beginning or end of text is a control token even where it lists no types. */
static void mark_named_controls(tokenizer_def *d, const weights *w) {
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id", "tokenizer.ggml.padding_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const meta_value *id = weights_meta(w, keys[i]);
        if (id && id->kind == META_INT && id->integer >= 0 && id->integer < d->n_pieces)
            d->pieces[id->integer].type = TOKEN_CONTROL, d->pieces[id->integer].listed = false;
    }
}

static err_code read_types(const weights *w, tokenizer_def *d, err *e) {
    static const char key[] = "tokenizer.ggml.token_type";
    const meta_value *types = NULL;
    if (!weights_meta(w, key)) {
        mark_named_controls(d, w);
        return ERR_OK;
    }
    err_code rc = meta_array(w, key, META_INT, "integers", &types, e);
    if (rc || (rc = check_count(key, types, d, e))) return rc;
    for (int64_t i = 0; i < d->n_pieces; i++) {
        int64_t type = types->array.items[i].integer;
        if (type < TOKEN_UNDEFINED || type > TOKEN_BYTE)
            return err_set(e, ERR_FORMAT, "metadata %s: token %lld has type %lld, expected 0 to 6", key, (long long)i,
                           (long long)type);
        d->pieces[i].type = (uint8_t)type;
        d->pieces[i].listed = type != TOKEN_UNKNOWN && type != TOKEN_CONTROL && type != TOKEN_BYTE;
    }
    return ERR_OK;
}

static err_code read_scores(const weights *w, tokenizer_def *d, err *e) {
    static const char key[] = "tokenizer.ggml.scores";
    const meta_value *scores = NULL;
    err_code rc = meta_array(w, key, META_FLOAT, "numbers", &scores, e);
    if (rc || (rc = check_count(key, scores, d, e))) return rc;
    for (int64_t i = 0; i < d->n_pieces; i++) {
        d->pieces[i].score = scores->array.items[i].real;
        if (!isfinite(d->pieces[i].score))
            return err_set(e, ERR_FORMAT, "metadata %s: the score of token %lld is not finite", key, (long long)i);
    }
    return ERR_OK;
}

/* ---- merges ---- */

/* "Ġt he": two pieces with a space between. */
static err_code read_merges(const weights *w, tokenizer_def *d, err *e) {
    const meta_value *lines = NULL;
    err_code rc = meta_array(w, "tokenizer.ggml.merges", META_STRING, "strings", &lines, e);
    if (rc) return rc;
    if (lines->array.count > INT32_MAX)
        return err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.merges: %lld merges", (long long)lines->array.count);
    rc = mem_new(&d->merges, (size_t)lines->array.count, sizeof *d->merges, "merges", e);
    if (rc) return rc;
    d->n_merges = lines->array.count;
    for (int64_t i = 0; i < d->n_merges; i++) {
        const char *text = lines->array.items[i].string.bytes;
        size_t n = lines->array.items[i].string.len;
        const char *space = n > 2 ? memchr(text + 1, ' ', n - 2) : NULL;
        if (!space)
            return err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.merges: merge %lld is not two pieces with a space between",
                           (long long)i);
        size_t half = (size_t)(space - text);
        d->merges[i] = (merge_def){.left = text, .n_left = half, .right = space + 1, .n_right = n - half - 1};
    }
    return ERR_OK;
}

/* ---- what happens to a text before ---- */

/* GGUF files of Phi-3 call their pre-tokenizer "default" as all SentencePiece vocabularies do. */
static bool is_phi3(const weights *w) {
    const meta_value *v = weights_meta(w, "general.architecture");
    return v && v->kind == META_STRING && v->string.len == 4 && !memcmp(v->string.bytes, "phi3", 4);
}

static err_code read_pretok(const weights *w, tokenizer_def *d, err *e) {
    char *name = NULL;
    bool spaces = d->spelling == SPELLED_SENTENCEPIECE;
    err_code rc;
    TRY(weights_meta_string_or(w, "tokenizer.ggml.pre", "default", &name, e));
    TRY(pretok_open(spaces && is_phi3(w) ? "phi-3" : name, spaces, &d->pretok, e));
    if (!spaces) d->pretok_name = pretok_name(d->pretok);
    d->whole_pieces = pretok_whole_pieces(d->pretok);
    d->adds_bos = pretok_adds_bos(d->pretok);
done:
    free(name);
    return rc;
}

static err_code add_charsmap(const weights *w, tokenizer_def *d, err *e) {
    const meta_value *v = weights_meta(w, "tokenizer.ggml.precompiled_charsmap");
    if (!v) return ERR_OK;
    if (v->kind != META_ARRAY || (v->array.count && v->array.kind != META_INT))
        return err_set(e, ERR_FORMAT, "metadata tokenizer.ggml.precompiled_charsmap: expected an array of bytes");
    char *bytes;
    err_code rc = mem_new(&bytes, (size_t)v->array.count, 1, "a character map", e);
    if (rc) return rc;
    for (int64_t i = 0; i < v->array.count; i++) bytes[i] = (char)v->array.items[i].integer;
    if (v->array.count) rc = normalizer_add_charsmap(d->normalizer, bytes, (size_t)v->array.count, false, e);
    free(bytes);
    return rc;
}

/* SentencePiece: spaces are letters. */
static err_code read_spaces(const weights *w, tokenizer_def *d, err *e) {
    bool prefix, collapses;
    err_code rc = normalizer_new(&d->normalizer, e);
    if (rc) return rc;
    TRY(weights_meta_bool_or(w, "tokenizer.ggml.add_space_prefix", true, &prefix, e));
    TRY(weights_meta_bool_or(w, "tokenizer.ggml.remove_extra_whitespaces", false, &collapses, e));
    if (d->kind == &tokenizer_unigram) TRY(add_charsmap(w, d, e));
    if (d->kind == &tokenizer_unigram && collapses) TRY(normalizer_add(d->normalizer, NORMAL_COLLAPSE, "", "", e));
    d->byte_fallback = true;
    d->fuses_unknown = true;
    d->adds_bos = d->kind != &tokenizer_unigram;
    rc = definition_spaces(d, prefix, e);
done:
    return rc;
}

/* Phi-3's special tokens but for the end of text take white space behind them along; GGUF has no field that says so. */
static void mark_strips(tokenizer_def *d) {
    for (int64_t i = 0; i < d->n_pieces; i++) {
        const piece_def *p = &d->pieces[i];
        bool control = p->type == TOKEN_CONTROL && p->n > 4 && !memcmp(p->bytes, "<|", 2);
        bool is_end = p->n == 13 && !memcmp(p->bytes, "<|endoftext|>", 13);
        bool closes = p->n == 4 && !memcmp(p->bytes, "</s>", 4);
        if ((control && !is_end) || closes) d->pieces[i].marks |= MARK_RIGHT_STRIP;
    }
}

static err_code read_special_id(const weights *w, const char *key, int64_t n, int64_t *out, err *e) {
    err_code rc = weights_meta_int_or(w, key, -1, out, e);
    if (rc) return rc;
    if (*out < -1 || *out >= n)
        return err_set(e, ERR_FORMAT, "metadata %s: token %lld, but the vocabulary has %lld", key, (long long)*out,
                       (long long)n);
    return ERR_OK;
}

err_code definition_from_gguf(const weights *w, tokenizer_def *d, err *e) {
    char *name = NULL;
    *d = TOKENIZER_DEF_EMPTY;
    d->source = "GGUF";
    d->marks_as_shown = true;
    err_code rc;
    TRY(weights_meta_string(w, "tokenizer.ggml.model", &name, e));
    int i = names_find(name, models, N_MODELS, sizeof *models);
    if (i < 0) {
        rc = names_unknown(e, ERR_UNSUPPORTED, "tokenizer", name, models, N_MODELS, sizeof *models);
        goto done;
    }
    d->kind = models[i].kind;
    d->spelling = models[i].spelling;
    TRY(read_tokens(w, d, e));
    TRY(read_types(w, d, e));
    TRY(read_special_id(w, "tokenizer.ggml.bos_token_id", d->n_pieces, &d->bos, e));
    TRY(read_special_id(w, "tokenizer.ggml.eos_token_id", d->n_pieces, &d->eos, e));
    TRY(read_special_id(w, "tokenizer.ggml.eot_token_id", d->n_pieces, &d->eot, e));
    TRY(read_special_id(w, "tokenizer.ggml.unknown_token_id", d->n_pieces, &d->unknown, e));
    TRY(read_pretok(w, d, e));
    if (d->kind == &tokenizer_byte_bpe) {
        TRY(read_merges(w, d, e));
    } else {
        TRY(read_scores(w, d, e));
        TRY(read_spaces(w, d, e));
        if (pretok_marks_strip(d->pretok)) mark_strips(d);
    }
    rc = weights_meta_bool_or(w, "tokenizer.ggml.add_bos_token", d->adds_bos, &d->adds_bos, e);
done:
    free(name);
    return rc;
}
