/* write_gguf.c — a tokenizer_def as the tokenizer.ggml.* metadata of a GGUF file: what from_gguf.c reads, the other way. */
#include "core/mem.h"
#include "formats/gguf.h"
#include "text/chat.h"
#include "text/kinds.h"
#include "text/write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METASPACE "\xe2\x96\x81"

typedef struct writing {
    const ctx *c;
    tokenizer_def *d;
    int64_t n; /* tokens written */
    weights *to;
} writing;

static err_code add_array(const writing *x, const char *key, meta_kind kind, meta_value *items, int64_t n, err *e) {
    const meta_value v = {.kind = META_ARRAY, .array = {.kind = kind, .count = n, .items = items}};
    return weights_add_meta(x->to, &v, key, strlen(key), e);
}

static err_code copy_string(const writing *x, const char *bytes, size_t n, meta_value *out, err *e) {
    *out = (meta_value){.kind = META_STRING, .string.len = n};
    return weights_copy_text(x->to, bytes, n, &out->string.bytes, e);
}

/* ---- pieces ---- */

/* Rows of the embedding without a token get one that no text has. */
static bool is_padding(const writing *x, int64_t i) { return i >= x->d->n_pieces || !x->d->pieces[i].n; }

static err_code write_tokens(const writing *x, err *e) {
    meta_value *items;
    err_code rc = weights_items(x->to, x->n, &items, e);
    for (int64_t i = 0; !rc && i < x->n; i++) {
        char padding[32];
        const piece_def *p = x->d->pieces + i;
        if (is_padding(x, i))
            rc = copy_string(x, padding, (size_t)snprintf(padding, sizeof padding, "[PAD%lld]", (long long)i), items + i, e);
        else
            rc = copy_string(x, p->bytes, p->n, items + i, e);
    }
    return rc ? rc : add_array(x, "tokenizer.ggml.tokens", META_STRING, items, x->n, e);
}

static err_code write_types(const writing *x, err *e) {
    meta_value *items;
    err_code rc = weights_items(x->to, x->n, &items, e);
    for (int64_t i = 0; !rc && i < x->n; i++) {
        int64_t type = is_padding(x, i) ? TOKEN_UNUSED : x->d->pieces[i].type;
        if (i == x->d->unknown && type == TOKEN_CONTROL && x->d->kind != &tokenizer_byte_bpe) type = TOKEN_UNKNOWN;
        items[i] = (meta_value){.kind = META_INT, .integer = type};
    }
    return rc ? rc : add_array(x, "tokenizer.ggml.token_type", META_INT, items, x->n, e);
}

static err_code write_scores(const writing *x, const double *scores, err *e) {
    meta_value *items;
    err_code rc = weights_items(x->to, x->n, &items, e);
    for (int64_t i = 0; !rc && i < x->n; i++) {
        double score = is_padding(x, i) ? 0 : scores ? scores[i] : x->d->pieces[i].score;
        items[i] = (meta_value){.kind = META_FLOAT, .real = score};
    }
    return rc ? rc : add_array(x, "tokenizer.ggml.scores", META_FLOAT, items, x->n, e);
}

static err_code write_merges(const writing *x, err *e) {
    meta_value *items;
    strbuf line = STRBUF_INIT;
    err_code rc = weights_items(x->to, x->d->n_merges, &items, e);
    for (int64_t i = 0; !rc && i < x->d->n_merges; i++) {
        const merge_def *m = x->d->merges + i;
        strbuf_reset(&line);
        strbuf_add(&line, m->left, m->n_left);
        strbuf_add_char(&line, ' ');
        strbuf_add(&line, m->right, m->n_right);
        rc = strbuf_check(&line, e);
        if (!rc) rc = copy_string(x, line.data, line.len, items + i, e);
    }
    strbuf_release(&line);
    return rc ? rc : add_array(x, "tokenizer.ggml.merges", META_STRING, items, x->d->n_merges, e);
}

/* ---- merges as scores ---- */

/* "A merge makes piece id at rank r" becomes "piece id has the score -r". The two ways of merging give the same tokens when the
 * merges of a piece stand together, and every way to cut a piece in two pieces is one of them: SentencePiece's converters make
 * them so. */
typedef struct scoring {
    const writing *x;
    vocab v;
    double *scores;     /* [n_pieces] */
    int64_t *merges_of; /* [n_pieces] how many make it */
} scoring;

static err_code not_scores(err *e) {
    return err_set(e, ERR_UNSUPPORTED,
                   "tokenizer.json: its merges are no order of pieces, which is all that a GGUF file of a SentencePiece "
                   "vocabulary says");
}

static err_code score_merges(const scoring *s, err *e) {
    const tokenizer_def *d = s->x->d;
    strbuf whole = STRBUF_INIT;
    uint32_t last = NO_TOKEN;
    err_code rc = ERR_OK;
    for (int64_t r = 0; r < d->n_merges; r++) {
        strbuf_reset(&whole);
        strbuf_add(&whole, d->merges[r].left, d->merges[r].n_left);
        strbuf_add(&whole, d->merges[r].right, d->merges[r].n_right);
        TRY(strbuf_check(&whole, e));
        uint32_t id = vocab_find(&s->v, whole.data, whole.len);
        if (id == NO_TOKEN || (s->merges_of[id] && id != last)) TRY(not_scores(e));
        if (!s->merges_of[id]++) s->scores[id] = -(double)r;
        last = id;
    }
done:
    strbuf_release(&whole);
    return rc;
}

/* Ways to cut piece id in two pieces. */
static int64_t count_cuts(const scoring *s, int64_t id) {
    const piece_def *p = s->x->d->pieces + id;
    int64_t n = 0;
    for (size_t at = 1; at < p->n; at++) {
        if (((unsigned char)p->bytes[at] & 0xc0) == 0x80) continue; /* within a character */
        n += vocab_find(&s->v, p->bytes, at) != NO_TOKEN && vocab_find(&s->v, p->bytes + at, p->n - at) != NO_TOKEN;
    }
    return n;
}

static err_code check_cuts(const scoring *s, err *e) {
    const tokenizer_def *d = s->x->d;
    for (int64_t i = 0; i < d->n_pieces; i++)
        if (d->pieces[i].type == TOKEN_NORMAL && count_cuts(s, i) != s->merges_of[i]) return not_scores(e);
    return ERR_OK;
}

static err_code write_merges_as_scores(const writing *x, err *e) {
    scoring s = {.x = x};
    err_code rc;
    TRY(vocab_open(x->d, &s.v, e));
    TRY(mem_new0(&s.scores, (size_t)x->d->n_pieces, sizeof *s.scores, "scores", e));
    TRY(mem_new0(&s.merges_of, (size_t)x->d->n_pieces, sizeof *s.merges_of, "scores", e));
    TRY(score_merges(&s, e));
    TRY(check_cuts(&s, e));
    for (int64_t i = 0; i < x->d->n_pieces; i++) /* letters are never made */
        if (!s.merges_of[i] && x->d->pieces[i].type == TOKEN_NORMAL) s.scores[i] = -(double)x->d->n_merges;
    rc = write_scores(x, s.scores, e);
done:
    vocab_release(&s.v);
    free(s.scores), free(s.merges_of);
    return rc;
}

/* ---- what happens to a text before ---- */

static err_code add_bytes(void *user, const char *piece, size_t n, err *e) {
    (void)e;
    strbuf_add(user, piece, n);
    return ERR_OK;
}

/* What a text is when tokens are made of it, its pieces joined again. */
static err_code prepare(const tokenizer_def *d, const char *text, strbuf *out, err *e) {
    strbuf normal = STRBUF_INIT;
    err_code rc = normalizer_apply(d->normalizer, text, strlen(text), &normal, e);
    strbuf_reset(out);
    if (!rc) rc = pretok_split(d->pretok, normal.data, normal.len, true, add_bytes, out, e);
    if (!rc) rc = strbuf_check(out, e);
    strbuf_release(&normal);
    return rc;
}

/* A GGUF file says of a byte-level vocabulary how text is cut and nothing of normalizers, which change little: NFC. */
static err_code write_pretok(const writing *x, err *e) {
    static const char plain[] = "A plain  text, 12 words.\n";
    const char *name = x->d->pretok_name;
    strbuf text = STRBUF_INIT;
    err_code rc = ERR_OK;
    if (x->d->normalizer) {
        TRY(normalizer_apply(x->d->normalizer, plain, sizeof plain - 1, &text, e));
        if (strcmp(text.data, plain))
            TRY(err_set(e, ERR_UNSUPPORTED, "its tokenizer rewrites text in a way that a GGUF file has no words for"));
        ctx_log(x->c, LOG_NOTE,
                "the normalizer of its tokenizer has no place in a GGUF file: text that is not in its form is "
                "cut into other tokens");
    }
    if (!name) TRY(pretok_recognize(x->d->pretok, x->d->whole_pieces, &name, e));
    if (!name) TRY(err_set(e, ERR_UNSUPPORTED, "its tokenizer cuts text as none of the pre-tokenizers that GGUF files name"));
    rc = weights_set_text(x->to, "tokenizer.ggml.pre", name, strlen(name), e);
done:
    strbuf_release(&text);
    return rc;
}

/* Spaces become U+2581, perhaps with one in front, perhaps runs of them joined: all else is an error. */
static err_code write_spaces(const writing *x, err *e) {
    static const char *const forms[2][2] = {{"a" METASPACE METASPACE "b", METASPACE "a" METASPACE METASPACE "b"},
                                            {"a" METASPACE "b", METASPACE "a" METASPACE "b"}};
    strbuf text = STRBUF_INIT;
    int collapses = -1, prefix = -1;
    err_code rc;
    TRY(prepare(x->d, "a  b", &text, e));
    for (int i = 0; i < 4; i++)
        if (!strcmp(text.data, forms[i / 2][i % 2])) collapses = i / 2, prefix = i % 2;
    if (prefix < 0)
        TRY(err_set(e, ERR_UNSUPPORTED, "its tokenizer rewrites text in a way that a GGUF file has no words for"));
    TRY(weights_set_text(x->to, "tokenizer.ggml.pre", "default", 7, e));
    TRY(weights_set_bool(x->to, "tokenizer.ggml.add_space_prefix", prefix, e));
    if (x->d->kind == &tokenizer_unigram)
        TRY(weights_set_bool(x->to, "tokenizer.ggml.remove_extra_whitespaces", collapses, e));
    else if (collapses)
        rc = err_set(e, ERR_UNSUPPORTED,
                     "its tokenizer joins runs of spaces, which a GGUF file says of unigram vocabularies only");
done:
    strbuf_release(&text);
    return rc;
}

static err_code write_charsmap(const writing *x, err *e) {
    strbuf bytes = STRBUF_INIT;
    meta_value *items, v = {.kind = META_ARRAY, .stored = GGUF_U8 + 1};
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    err_code rc = ERR_OK;
    normalizer_charsmap(x->d->normalizer, &bytes);
    TRY(strbuf_check(&bytes, e));
    if (!bytes.len) goto done;
    TRY(weights_items(x->to, (int64_t)bytes.len, &items, e));
    for (size_t i = 0; i < bytes.len; i++) items[i] = (meta_value){.kind = META_INT, .integer = (unsigned char)bytes.data[i]};
    v.array.kind = META_INT, v.array.count = (int64_t)bytes.len, v.array.items = items;
    rc = weights_add_meta(x->to, &v, key, sizeof key - 1, e);
done:
    strbuf_release(&bytes);
    return rc;
}

/* ---- all of it ---- */

static int64_t padding_of(const weights *from, int64_t n) {
    const meta_value *v = weights_meta(from, "pad_token_id");
    return v && v->kind == META_INT && v->integer < n ? v->integer : -1;
}

static err_code write_ids(const writing *x, const weights *from, err *e) {
    const struct {
        const char *key;
        int64_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", x->d->bos},
               {"tokenizer.ggml.eos_token_id", x->d->eos},
               {"tokenizer.ggml.eot_token_id", x->d->eot == x->d->eos ? -1 : x->d->eot},
               {"tokenizer.ggml.unknown_token_id", x->d->unknown},
               {"tokenizer.ggml.padding_token_id", padding_of(from, x->n)}};
    err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id >= 0) rc = weights_set_int(x->to, ids[i].key, ids[i].id, e);
    return rc ? rc : weights_set_bool(x->to, "tokenizer.ggml.add_bos_token", x->d->adds_bos && x->d->bos >= 0, e);
}

static err_code write_kind(const writing *x, err *e) {
    bool bytes = x->d->kind == &tokenizer_byte_bpe, unigram = x->d->kind == &tokenizer_unigram;
    const char *model = bytes ? "gpt2" : unigram ? "t5" : "llama";
    err_code rc;
    if (!bytes && !unigram && (!x->d->byte_fallback || x->d->spelling != SPELLED_SENTENCEPIECE))
        return err_set(e, ERR_UNSUPPORTED,
                       "a vocabulary of characters without bytes for the others has no place in a GGUF file");
    TRY(weights_set_text(x->to, "tokenizer.ggml.model", model, strlen(model), e));
    TRY(bytes ? write_pretok(x, e) : write_spaces(x, e));
    TRY(write_tokens(x, e));
    TRY(write_types(x, e));
    TRY(bytes                               ? write_merges(x, e)
        : x->d->kind == &tokenizer_char_bpe ? write_merges_as_scores(x, e)
                                            : write_scores(x, NULL, e));
    if (unigram) rc = write_charsmap(x, e);
done:
    return rc;
}

static void warn_of_marks(const writing *x, const weights *from) {
    int64_t n = 0;
    for (int64_t i = 0; i < x->d->n_pieces; i++)
        n += (x->d->pieces[i].marks & (MARK_LEFT_STRIP | MARK_RIGHT_STRIP | MARK_WORD)) != 0;
    const meta_value *v = weights_meta(from, "model_type");
    bool phi3 = v && v->kind == META_STRING && v->string.len == 4 &&
                !memcmp(v->string.bytes, "phi3", 4); /* known to readers by its name */
    if (n && !phi3)
        ctx_log(x->c, LOG_WARNING, "%lld special tokens take white space around them along; a GGUF file cannot say so",
                (long long)n);
}

err_code tokenizer_write_keys(const ctx *c, const weights *from, int64_t n_vocab, weights *to, err *e) {
    tokenizer_def d = TOKENIZER_DEF_EMPTY;
    writing x = {.c = c, .d = &d, .n = n_vocab, .to = to};
    char *template = NULL;
    err_code rc;
    TRY(definition_read(from, &d, e));
    if (d.n_pieces > n_vocab)
        TRY(err_set(e, ERR_MISMATCH, "the tokenizer has %lld tokens, the embedding %lld rows", (long long)d.n_pieces,
                    (long long)n_vocab));
    TRY(write_kind(&x, e));
    TRY(write_ids(&x, from, e));
    TRY(chat_template_of(from, &template, e));
    if (template) TRY(weights_set_text(to, "tokenizer.chat_template", template, strlen(template), e));
    warn_of_marks(&x, from);
done:
    free(template);
    definition_release(&d);
    return rc;
}
