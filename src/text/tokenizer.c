#include "text/tokenizer.h"

#include "core/mem.h"
#include "text/kinds.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct tokenizer {
    const tokenizer_kind_row *kind;
    void *state; /* the kind's */
    vocab v;
    normalizer *normalizer;
    pretok *pretok;
    space_prefix prefix;
    int64_t bos, eos, eot;
    bool adds_bos;
    char *label;
    char sha256[SHA256_HEX];
};

/* ---- life ---- */

/* Over the pieces and merges as the file spells them, a NUL behind each. */
static err_code hash_definition(const tokenizer_def *d, char out[SHA256_HEX], err *e) {
    strbuf all = STRBUF_INIT;
    for (int64_t i = 0; i < d->n_pieces; i++) {
        strbuf_add(&all, d->pieces[i].bytes, d->pieces[i].n);
        strbuf_add_char(&all, '\0');
    }
    for (int64_t i = 0; i < d->n_merges; i++) {
        strbuf_add(&all, d->merges[i].left, d->merges[i].n_left);
        strbuf_add_char(&all, ' ');
        strbuf_add(&all, d->merges[i].right, d->merges[i].n_right);
        strbuf_add_char(&all, '\0');
    }
    err_code rc = strbuf_check(&all, e);
    if (!rc) bytes_sha256(all.data, all.len, out);
    strbuf_release(&all);
    return rc;
}

static err_code make_label(const tokenizer_def *d, char **out, err *e) {
    strbuf label = STRBUF_INIT;
    strbuf_add_str(&label, d->kind->label);
    if (d->pretok_name)
        strbuf_addf(&label, ", pre-tokenizer %s", d->pretok_name);
    else
        strbuf_addf(&label, ", from %s", d->source);
    *out = strbuf_detach(&label);
    strbuf_release(&label);
    return *out ? ERR_OK : err_nomem(e, "the tokenizer", 64);
}

err_code tokenizer_build(tokenizer_def *d, tokenizer **out, err *e) {
    *out = NULL;
    tokenizer *t;
    err_code rc = mem_new0(&t, 1, sizeof *t, "the tokenizer", e);
    if (rc) return rc;
    TRY(vocab_open(d, &t->v, e));
    t->kind = d->kind;
    TRY(t->kind->open(d, &t->v, &t->state, e));
    TRY(hash_definition(d, t->sha256, e));
    TRY(make_label(d, &t->label, e));
    t->prefix = d->prefix;
    t->bos = d->bos;
    t->eos = d->eos;
    t->eot = d->eot;
    t->adds_bos = d->adds_bos && d->bos >= 0;
    t->normalizer = d->normalizer;
    t->pretok = d->pretok;
    d->normalizer = NULL;
    d->pretok = NULL;
done:
    if (rc)
        tokenizer_close(t);
    else
        *out = t;
    return rc;
}

err_code tokenizer_open(const weights *w, tokenizer **out, err *e) {
    tokenizer_def d = TOKENIZER_DEF_EMPTY;
    *out = NULL;
    err_code rc = definition_read(w, &d, e);
    if (!rc) rc = tokenizer_build(&d, out, e);
    definition_release(&d);
    return rc ? err_prefix(e, rc, "%s", weights_path(w)) : ERR_OK;
}

err_code tokenizer_open_folder(const char *folder, tokenizer **out, err *e) {
    tokenizer_def d = TOKENIZER_DEF_EMPTY;
    *out = NULL;
    err_code rc = definition_read_folder(NULL, folder, &d, e);
    if (!rc) rc = tokenizer_build(&d, out, e);
    definition_release(&d);
    return rc ? err_prefix(e, rc, "%s", folder) : ERR_OK;
}

void tokenizer_close(tokenizer *t) {
    if (!t) return;
    if (t->kind) t->kind->close(t->state);
    normalizer_free(t->normalizer);
    pretok_close(t->pretok);
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
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "<|im_end|>",   "<|eot_id|>",
                                        "<|end|>",       "<end_of_turn>",   "<|endofturn|>"};
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

typedef struct encoding {
    const tokenizer *t;
    bool control; /* control tokens written in the text count */
    kind_scratch scratch;
    strbuf normal;
    token_ids *out;
} encoding;

static err_code encode_piece(void *user, const char *piece, size_t n, err *e) {
    encoding *x = user;
    return x->t->kind->encode(x->t->state, &x->scratch, piece, n, x->out, e);
}

/* A text without marked pieces. A byte that is not UTF-8 is a piece of its own, and PCRE2 never sees it. */
static err_code encode_plain(encoding *x, const char *text, size_t n, bool first, err *e) {
    err_code rc = ERR_OK;
    for (size_t at = 0; at < n && !rc;) {
        size_t whole = utf8_prefix(text + at, n - at);
        if (whole) rc = pretok_split(x->t->pretok, text + at, whole, first && !at, encode_piece, x, e);
        at += whole;
        if (at < n && !rc) rc = encode_piece(x, text + at++, 1, e);
    }
    return rc;
}

/* Calls `plain` for what lies between the marked pieces of text and adds their ids. */
static err_code between_marks(encoding *x, const mark_index *index, const char *text, size_t n, bool first,
                              err_code (*plain)(encoding *x, const char *text, size_t n, bool first, err *e), err *e) {
    for (size_t at = 0; at < n;) {
        mark m = vocab_next_mark(&x->t->v, index, text, n, at, x->control);
        err_code rc = m.from > at ? plain(x, text + at, m.from - at, first && !at, e) : ERR_OK;
        if (!rc && m.id != NO_TOKEN) rc = token_ids_add(x->out, m.id, e);
        if (rc) return rc;
        at = m.to;
    }
    return ERR_OK;
}

static err_code encode_section(encoding *x, const char *text, size_t n, bool first, err *e) {
    if (!x->t->normalizer) return between_marks(x, &x->t->v.normalized, text, n, first, encode_plain, e);
    strbuf_reset(&x->normal);
    err_code rc = normalizer_apply(x->t->normalizer, text, n, &x->normal, e);
    return rc ? rc : between_marks(x, &x->t->v.normalized, x->normal.data, x->normal.len, first, encode_plain, e);
}

err_code tokenizer_encode(const tokenizer *t, const char *text, size_t len, const tokenize_opts *o, token_ids *out, err *e) {
    encoding x = {.t = t, .control = o->parse_special, .normal = STRBUF_INIT, .out = out};
    err_code rc = ERR_OK;
    if (o->add_bos && t->adds_bos) rc = token_ids_add(out, (uint32_t)t->bos, e);
    if (!rc) rc = between_marks(&x, &t->v.raw, text, len, true, encode_section, e);
    for (size_t i = 0; i < sizeof x.scratch.data / sizeof *x.scratch.data; i++) free(x.scratch.data[i]);
    strbuf_release(&x.normal);
    return rc;
}

/* ---- ids to text ---- */

const char *tokenizer_piece(const tokenizer *t, uint32_t id, size_t *len) {
    assert(id < t->v.n);
    return string_at(&t->v.texts, id, len);
}

void tokenizer_decode_part(const tokenizer *t, const uint32_t *ids, size_t n, bool keep_special, strbuf *out) {
    for (size_t i = 0; i < n; i++) {
        if (tokenizer_is_special(t, ids[i]) && !keep_special) continue;
        size_t len;
        const char *piece = tokenizer_piece(t, ids[i], &len);
        strbuf_add(out, piece, len);
    }
}

/* Encoding puts its space in front of the text, and of what stands behind a token that was found in the raw text. */
static bool begins_section(const tokenizer *t, uint32_t id) {
    uint8_t type = t->v.types[id];
    return (type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED) && !(t->v.marks[id] & MARK_NORMALIZED);
}

void tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t n, bool keep_special, strbuf *out) {
    bool begins = t->prefix != PREFIX_NEVER;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *piece = tokenizer_piece(t, ids[i], &len);
        if (begins_section(t, ids[i])) {
            tokenizer_decode_part(t, &ids[i], 1, keep_special, out);
            begins = t->prefix == PREFIX_ALWAYS || (t->prefix == PREFIX_FIRST && begins && (int64_t)ids[i] == t->bos);
            continue;
        }
        bool takes_space = begins && len && piece[0] == ' ';
        if (takes_space)
            strbuf_add(out, piece + 1, len - 1);
        else
            tokenizer_decode_part(t, &ids[i], 1, keep_special, out);
        begins = false;
    }
}
