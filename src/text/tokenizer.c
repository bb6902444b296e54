#include "text/tokenizer.h"

#include "core/mem.h"
#include "core/names.h"
#include "text/kinds.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* How to add one: a file that fills a tokenizer_kind_row, its declaration in kinds.h, a row here, token ids of another
 * program in tests/golden/tokenizers. */
static const struct {
    const char *name; /* tokenizer.ggml.model */
    const tokenizer_kind_row *row;
} kinds[] = {
    {"gpt2", &tokenizer_bpe},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

struct tokenizer {
    const tokenizer_kind_row *kind;
    void *state; /* the kind's */
    vocab v;
    int64_t bos, eos, eot;
    bool adds_bos;
    char *label;
    char sha256[SHA256_HEX];
};

/* ---- life ---- */

static err_code find_kind(const weights *w, const tokenizer_kind_row **out, err *e) {
    char *name = NULL;
    err_code rc = weights_meta_string(w, "tokenizer.ggml.model", &name, e);
    if (rc) return rc;
    int i = names_find(name, kinds, N_KINDS, sizeof *kinds);
    if (i < 0)
        rc = names_unknown(e, ERR_UNSUPPORTED, "tokenizer", name, kinds, N_KINDS, sizeof *kinds);
    else
        *out = kinds[i].row;
    free(name);
    return rc;
}

static err_code read_special_id(const weights *w, const char *key, int64_t n_tokens, int64_t *out, err *e) {
    err_code rc = weights_meta_int_or(w, key, -1, out, e);
    if (rc) return rc;
    if (*out < -1 || *out >= n_tokens)
        return err_set(e, ERR_FORMAT, "metadata %s: token %lld, but the vocabulary has %lld", key, (long long)*out,
                       (long long)n_tokens);
    return ERR_OK;
}

/* Over the pieces and merges as the file spells them, a NUL behind each. */
static err_code hash_metadata(const weights *w, char out[SHA256_HEX], err *e) {
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    strbuf all = STRBUF_INIT;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const meta_value *v = weights_meta(w, keys[k]);
        for (int64_t i = 0; v && v->kind == META_ARRAY && v->array.kind == META_STRING && i < v->array.count; i++) {
            strbuf_add(&all, v->array.items[i].string.bytes, v->array.items[i].string.len);
            strbuf_add_char(&all, '\0');
        }
    }
    err_code rc = strbuf_check(&all, e);
    if (!rc) bytes_sha256(all.data, all.len, out);
    strbuf_release(&all);
    return rc;
}

static err_code make_label(tokenizer *t, err *e) {
    strbuf label = STRBUF_INIT;
    strbuf_addf(&label, "%s, pre-tokenizer %s", t->kind->label, t->kind->pretok(t->state));
    t->label = strbuf_detach(&label);
    strbuf_release(&label);
    return t->label ? ERR_OK : err_nomem(e, "the tokenizer", 64);
}

err_code tokenizer_open(const weights *w, tokenizer **out, err *e) {
    *out = NULL;
    tokenizer *t;
    err_code rc = mem_new0(&t, 1, sizeof *t, "the tokenizer", e);
    if (rc) return rc;
    TRY(find_kind(w, &t->kind, e));
    TRY(vocab_open(w, t->kind->spelling, &t->v, e));
    TRY(t->kind->open(w, &t->v, &t->state, e));
    TRY(read_special_id(w, "tokenizer.ggml.bos_token_id", t->v.n, &t->bos, e));
    TRY(read_special_id(w, "tokenizer.ggml.eos_token_id", t->v.n, &t->eos, e));
    TRY(read_special_id(w, "tokenizer.ggml.eot_token_id", t->v.n, &t->eot, e));
    TRY(weights_meta_bool_or(w, "tokenizer.ggml.add_bos_token", t->kind->adds_bos(t->state), &t->adds_bos, e));
    t->adds_bos = t->adds_bos && t->bos >= 0;
    TRY(hash_metadata(w, t->sha256, e));
    TRY(make_label(t, e));
done:
    if (rc) {
        tokenizer_close(t);
        return err_prefix(e, rc, "%s", weights_path(w));
    }
    *out = t;
    return ERR_OK;
}

void tokenizer_close(tokenizer *t) {
    if (!t) return;
    if (t->kind) t->kind->close(t->state);
    vocab_release(&t->v);
    free(t->label);
    free(t);
}

/* ---- what it is ---- */

const char *tokenizer_kind(const tokenizer *t) { return t->label; }
int64_t tokenizer_size(const tokenizer *t) { return t->v.n; }
const char *tokenizer_sha256(const tokenizer *t) { return t->sha256; }
int64_t tokenizer_bos(const tokenizer *t) { return t->bos; }
int64_t tokenizer_eos(const tokenizer *t) { return t->eos; }
bool tokenizer_adds_bos(const tokenizer *t) { return t->adds_bos; }

bool tokenizer_is_special(const tokenizer *t, uint32_t id) {
    assert(id < t->v.n);
    return t->v.types[id] == TOKEN_CONTROL || t->v.types[id] == TOKEN_UNKNOWN;
}

bool tokenizer_ends_text(const tokenizer *t, uint32_t id) {
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|end|>"};
    if ((int64_t)id == t->eos || (int64_t)id == t->eot) return true;
    if (!tokenizer_is_special(t, id)) return false;
    size_t n;
    const char *piece = tokenizer_piece(t, id, &n);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (n == strlen(names[i]) && !memcmp(piece, names[i], n)) return true;
    return false;
}

/* ---- text to ids ---- */

err_code token_ids_add(token_ids *out, uint32_t id, err *e) {
    err_code rc = mem_grow(&out->ids, &out->cap, out->len + 1, sizeof *out->ids, "token ids", e);
    if (!rc) out->ids[out->len++] = id;
    return rc;
}

/* Length of the text before the next marked piece, whose id goes to *marked: NO_TOKEN at the end of text. */
static size_t plain_length(const tokenizer *t, const char *text, size_t n, bool control, uint32_t *marked) {
    *marked = NO_TOKEN;
    for (size_t i = 0; i < n; i++)
        if ((*marked = vocab_marked_at(&t->v, text + i, n - i, control)) != NO_TOKEN) return i;
    return n;
}

err_code tokenizer_encode(const tokenizer *t, const char *text, size_t len, const tokenize_opts *o, token_ids *out, err *e) {
    err_code rc = ERR_OK;
    if (o->add_bos && t->adds_bos) TRY(token_ids_add(out, (uint32_t)t->bos, e));
    for (size_t at = 0; at < len;) {
        uint32_t marked;
        size_t plain = plain_length(t, text + at, len - at, o->parse_special, &marked);
        TRY(t->kind->encode(t->state, text + at, plain, out, e));
        at += plain;
        if (marked == NO_TOKEN) break;
        TRY(token_ids_add(out, marked, e));
        size_t n;
        vocab_piece(&t->v, marked, &n);
        at += n;
    }
done:
    return rc;
}

/* ---- ids to text ---- */

const char *tokenizer_piece(const tokenizer *t, uint32_t id, size_t *len) {
    assert(id < t->v.n);
    return vocab_piece(&t->v, id, len);
}

void tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t n, bool keep_special, strbuf *out) {
    for (size_t i = 0; i < n; i++) {
        if (tokenizer_is_special(t, ids[i]) && !keep_special) continue;
        size_t len;
        const char *piece = tokenizer_piece(t, ids[i], &len);
        strbuf_add(out, piece, len);
    }
}
