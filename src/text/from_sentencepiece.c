/* from_sentencepiece.c — SentencePiece's tokenizer.model as a tokenizer_def.
 *
 * A protocol buffer (sentencepiece_model.proto): fields are a number with a wire type, then a varint, 4, 8 or counted bytes.
 *   1  pieces       1 piece: bytes   2 score: float   3 type: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
 *   2  trainer      3 model_type: 1 unigram, 2 BPE    24 treat_whitespace_as_suffix   35 byte_fallback   40, 41, 42: ids of
 *                   unknown, BOS, EOS
 *   3  normalizer   2 precompiled_charsmap   3 add_dummy_prefix   4 remove_extra_whitespaces   5 escape_whitespaces
 */
#include "core/mem.h"
#include "text/folder.h"
#include "text/kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the wire ---- */

typedef struct message {
    const char *bytes;
    size_t n, at;
} message;

typedef struct field {
    uint64_t number;
    uint64_t value; /* varint or fixed */
    message inner;  /* counted bytes */
} field;

static bool read_varint(message *m, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && m->at < m->n; shift += 7) {
        unsigned char byte = (unsigned char)m->bytes[m->at++];
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* Reads the next field; false with *rc set when the message is broken, without at its end. */
static bool next_field(message *m, field *f, err_code *rc, err *e) {
    uint64_t tag = 0, length = 0;
    size_t start = m->at;
    if (m->at >= m->n) return false;
    *f = (field){0};
    bool ok = read_varint(m, &tag);
    f->number = tag >> 3;
    if (ok && (tag & 7) == 0) {
        ok = read_varint(m, &f->value);
    } else if (ok && ((tag & 7) == 1 || (tag & 7) == 5)) {
        length = (tag & 7) == 1 ? 8 : 4;
        ok = length <= m->n - m->at;
        if (ok) memcpy(&f->value, m->bytes + m->at, length);
        if (ok) m->at += length;
    } else if (ok && (tag & 7) == 2) {
        ok = read_varint(m, &length) && length <= m->n - m->at;
        if (ok) f->inner = (message){.bytes = m->bytes + m->at, .n = length};
        if (ok) m->at += length;
    } else
        ok = false;
    if (!ok) *rc = err_set(e, ERR_FORMAT, "a broken field at byte %zu of a message of %zu", start, m->n);
    return ok;
}

/* ---- what it says ---- */

typedef struct options {
    uint64_t model_type;
    bool byte_fallback, suffix, prefix, collapses, escapes;
    message charsmap;
} options;

static err_code read_piece(message m, piece_def *p, err *e) {
    field f;
    err_code rc = ERR_OK;
    *p = (piece_def){.bytes = "", .type = TOKEN_NORMAL};
    while (next_field(&m, &f, &rc, e)) {
        if (f.number == 1 && f.inner.bytes) {
            p->bytes = f.inner.bytes;
            p->n = f.inner.n;
        } else if (f.number == 2) {
            float score;
            uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
            p->score = score;
        } else if (f.number == 3) {
            if (f.value < TOKEN_NORMAL || f.value > TOKEN_BYTE)
                return err_set(e, ERR_FORMAT, "a piece of type %llu", (unsigned long long)f.value);
            p->type = (uint8_t)f.value;
        }
    }
    if (p->type == TOKEN_USER_DEFINED) p->marks = MARK_NORMALIZED; /* no space is put in front of what follows */
    if (!rc && !isfinite(p->score)) rc = err_set(e, ERR_FORMAT, "a piece whose score is not finite");
    p->listed = p->type == TOKEN_NORMAL || p->type == TOKEN_UNUSED || p->type == TOKEN_USER_DEFINED;
    return rc;
}

static err_code read_trainer(message m, tokenizer_def *d, options *o, err *e) {
    field f;
    err_code rc = ERR_OK;
    while (next_field(&m, &f, &rc, e)) {
        int64_t id = (int32_t)f.value;
        switch (f.number) {
        case 3: o->model_type = f.value; break;
        case 24: o->suffix = f.value; break;
        case 35: o->byte_fallback = f.value; break;
        case 40: d->unknown = id; break;
        case 41: d->bos = id; break;
        case 42: d->eos = id; break;
        default: break;
        }
    }
    return rc;
}

static err_code read_normalizer(message m, options *o, err *e) {
    field f;
    err_code rc = ERR_OK;
    while (next_field(&m, &f, &rc, e)) {
        switch (f.number) {
        case 2: o->charsmap = f.inner; break;
        case 3: o->prefix = f.value; break;
        case 4: o->collapses = f.value; break;
        case 5: o->escapes = f.value; break;
        default: break;
        }
    }
    return rc;
}

static err_code read_model(message m, tokenizer_def *d, options *o, err *e) {
    field f;
    size_t cap = 0;
    err_code rc = ERR_OK;
    while (!rc && next_field(&m, &f, &rc, e)) {
        if (f.number == 1 && d->n_pieces == PIECES_MAX) return err_set(e, ERR_FORMAT, "more than %d pieces", PIECES_MAX);
        if (f.number == 1) {
            rc = mem_grow(&d->pieces, &cap, (size_t)d->n_pieces + 1, sizeof *d->pieces, "the vocabulary", e);
            if (!rc) rc = read_piece(f.inner, &d->pieces[d->n_pieces++], e);
        } else if (f.number == 2)
            rc = read_trainer(f.inner, d, o, e);
        else if (f.number == 3)
            rc = read_normalizer(f.inner, o, e);
    }
    return rc;
}

static err_code apply_options(tokenizer_def *d, const options *o, err *e) {
    if (o->model_type != 1 && o->model_type != 2)
        return err_set(e, ERR_UNSUPPORTED, "model_type %llu is not supported (known: 1 unigram, 2 BPE)",
                       (unsigned long long)o->model_type);
    if (o->suffix) return err_set(e, ERR_UNSUPPORTED, "treat_whitespace_as_suffix is not supported");
    if (!o->escapes) return err_set(e, ERR_UNSUPPORTED, "escape_whitespaces = false is not supported");
    d->kind = o->model_type == 1 ? &tokenizer_unigram : &tokenizer_score_bpe;
    d->spelling = SPELLED_SENTENCEPIECE;
    d->byte_fallback = o->byte_fallback;
    d->fuses_unknown = true;
    if (d->bos >= d->n_pieces) d->bos = -1;
    if (d->eos >= d->n_pieces) d->eos = -1;
    if (d->unknown >= d->n_pieces) d->unknown = -1;
    err_code rc = normalizer_new(&d->normalizer, e);
    if (!rc && o->charsmap.n) rc = normalizer_add_charsmap(d->normalizer, o->charsmap.bytes, o->charsmap.n, false, e);
    if (!rc && o->collapses) rc = normalizer_add(d->normalizer, NORMAL_COLLAPSE, "", "", e);
    return rc ? rc : definition_spaces(d, o->prefix, e);
}

err_code definition_parse_sentencepiece(const char *bytes, size_t n, tokenizer_def *d, err *e) {
    *d = TOKENIZER_DEF_EMPTY;
    d->source = "tokenizer.model";
    d->marks_as_shown = true;
    d->unknown = 0;
    d->bos = 1;
    d->eos = 2;
    options o = {.model_type = 1, .prefix = true, .collapses = true, .escapes = true}; /* the proto's defaults */
    err_code rc = read_model((message){.bytes = bytes, .n = n}, d, &o, e);
    return rc ? rc : apply_options(d, &o, e);
}

err_code definition_from_sentencepiece(const weights *w, const char *folder, tokenizer_def *d, err *e) {
    char *bytes = NULL;
    size_t n;
    *d = TOKENIZER_DEF_EMPTY;
    err_code rc = model_folder_read(folder, "tokenizer.model", &bytes, &n, e);
    if (rc) return rc;
    rc = definition_parse_sentencepiece(bytes, n, d, e);
    d->owner = bytes; /* pieces are borrowed from it */
    d->release_owner = free;
    d->adds_bos = true;
    return rc ? err_prefix(e, rc, "tokenizer.model") : definition_from_config(w, folder, d, e);
}
