/* write_folder.c — a tokenizer_def as the files of a Hugging Face folder: tokenizer.json for a byte-level vocabulary,
 * SentencePiece's tokenizer.model for the others, tokenizer_config.json beside either. */
#include "core/mem.h"
#include "text/chat.h"
#include "text/kinds.h"
#include "text/regex.h"
#include "text/write.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- tokenizer.json ---- */

static json_t *text_of(const piece_def *p) { return json_stringn(p->bytes, p->n); }

static bool is_marked(const piece_def *p) {
    return p->type == TOKEN_CONTROL || p->type == TOKEN_USER_DEFINED || p->type == TOKEN_UNKNOWN;
}

static json_t *added_tokens(const tokenizer_def *d) {
    json_t *all = json_array();
    for (int64_t i = 0; i < d->n_pieces; i++) {
        const piece_def *p = d->pieces + i;
        if (!is_marked(p) || !p->n) continue;
        json_t *token = json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content", text_of(p),
                                  "single_word", !!(p->marks & MARK_WORD), "lstrip", !!(p->marks & MARK_LEFT_STRIP), "rstrip",
                                  !!(p->marks & MARK_RIGHT_STRIP), "normalized", 0, "special", p->type != TOKEN_USER_DEFINED);
        if (!token || json_array_append_new(all, token)) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

/* Unused pieces are the model's padding: vocab_size says how many. */
static json_t *vocabulary(const tokenizer_def *d) {
    json_t *all = json_object();
    for (int64_t i = 0; i < d->n_pieces; i++) {
        const piece_def *p = d->pieces + i;
        if (p->type == TOKEN_UNUSED || !p->n) continue;
        char *name = strndup(p->bytes, p->n);
        bool seen = name && json_object_get(all, name);
        if (!name || (!seen && json_object_set_new(all, name, json_integer(i)))) {
            json_decref(all);
            all = NULL;
        }
        free(name);
        if (!all) return NULL;
    }
    return all;
}

static json_t *merges(const tokenizer_def *d) {
    json_t *all = json_array();
    for (int64_t i = 0; i < d->n_merges; i++) {
        const merge_def *m = d->merges + i;
        json_t *pair = json_pack("[o, o]", json_stringn(m->left, m->n_left), json_stringn(m->right, m->n_right));
        if (!pair || json_array_append_new(all, pair)) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

static json_t *byte_level(bool use_regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
                     use_regex);
}

/* The patterns one after the other, then the bytes' alphabet. */
static json_t *pre_tokenizer(const tokenizer_def *d) {
    json_t *steps = json_array();
    const char *pattern;
    for (int i = 0; (pattern = pretok_pattern(d->pretok, i)); i++) {
        strbuf regex = STRBUF_INIT;
        regex_for_json(pattern, &regex);
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", regex.data,
                                               "behavior", "Isolated", "invert", 0));
        strbuf_release(&regex);
    }
    json_array_append_new(steps, byte_level(false));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

/* BOS in front, if the model wants one. */
static json_t *post_processor(const tokenizer_def *d) {
    if (!d->adds_bos || d->bos < 0) return byte_level(true);
    json_t *name = text_of(d->pieces + d->bos);
    const char *bos = json_string_value(name);
    json_t *post =
        bos ? json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}, "
                        "{s:{s:s, s:i}}], s:{s:{s:s, s:[I], s:[s]}}}",
                        "type", "TemplateProcessing", "single", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id",
                        "A", "type_id", 0, "pair", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id", "A", "type_id",
                        0, "SpecialToken", "id", bos, "type_id", 1, "Sequence", "id", "B", "type_id", 1, "special_tokens",
                        bos, "id", bos, "ids", (json_int_t)d->bos, "tokens", bos)
            : NULL;
    json_decref(name);
    return post;
}

static json_t *tokenizer_json(const tokenizer_def *d) {
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                              "ignore_merges", d->whole_pieces, "vocab", vocabulary(d), "merges", merges(d));
    return json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding",
                     "added_tokens", added_tokens(d), "normalizer", "pre_tokenizer", pre_tokenizer(d), "post_processor",
                     post_processor(d), "decoder", byte_level(true), "model", model);
}

static err_code write_text(const char *folder, const char *name, json_t *root, size_t flags, err *e) {
    char *path = NULL, *text = root ? json_dumps(root, flags) : NULL;
    err_code rc =
        text ? path_join(folder, name, &path, e) : err_set(e, ERR_FAILED, "%s: a token cannot be put into JSON", name);
    if (!rc) rc = file_write(path, text, strlen(text), e);
    free(text), free(path);
    json_decref(root);
    return rc;
}

/* ---- tokenizer.model: numbers of the fields in from_sentencepiece.c ---- */

enum { WIRE_VARINT = 0, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_varint(strbuf *s, uint64_t x) {
    for (; x >= 0x80; x >>= 7) strbuf_add_char(s, (char)(x | 0x80));
    strbuf_add_char(s, (char)x);
}

static void put_tag(strbuf *s, int number, int wire) { put_varint(s, (uint64_t)(number << 3 | wire)); }

static void put_number(strbuf *s, int number, int64_t value) {
    put_tag(s, number, WIRE_VARINT);
    put_varint(s, (uint64_t)value);
}

static void put_bytes(strbuf *s, int number, const char *bytes, size_t n) {
    put_tag(s, number, WIRE_BYTES);
    put_varint(s, n);
    strbuf_add(s, bytes, n);
}

static void put_piece(strbuf *s, strbuf *room, const piece_def *p) {
    float score = (float)p->score;
    strbuf_reset(room);
    put_bytes(room, 1, p->bytes, p->n);
    put_tag(room, 2, WIRE_32);
    strbuf_add(room, &score, sizeof score);
    if (p->type > TOKEN_NORMAL) put_number(room, 3, p->type);
    put_bytes(s, 1, room->data, room->len);
}

static void put_trainer(strbuf *s, strbuf *room, const tokenizer_def *d) {
    strbuf_reset(room);
    put_number(room, 3, d->kind == &tokenizer_unigram ? 1 : 2);
    put_number(room, 4, d->n_pieces);
    put_number(room, 35, d->byte_fallback);
    put_number(room, 40, d->unknown);
    put_number(room, 41, d->bos);
    put_number(room, 42, d->eos);
    put_number(room, 43, -1);
    put_bytes(s, 2, room->data, room->len);
}

static void put_normalizer(strbuf *s, strbuf *room, const tokenizer_def *d, bool collapses) {
    strbuf map = STRBUF_INIT;
    normalizer_charsmap(d->normalizer, &map);
    strbuf_reset(room);
    put_bytes(room, 1, map.len ? "user_defined" : "identity", strlen(map.len ? "user_defined" : "identity"));
    if (map.len) put_bytes(room, 2, map.data, map.len);
    put_number(room, 3, d->prefix != PREFIX_NEVER);
    put_number(room, 4, collapses);
    put_number(room, 5, 1);
    put_bytes(s, 3, room->data, room->len);
    s->failed |= map.failed;
    strbuf_release(&map);
}

static err_code write_model(const weights *from, const tokenizer_def *d, const char *folder, err *e) {
    strbuf all = STRBUF_INIT, room = STRBUF_INIT;
    char *path = NULL;
    bool collapses;
    err_code rc;
    TRY(weights_meta_bool_or(from, "tokenizer.ggml.remove_extra_whitespaces", false, &collapses, e));
    for (int64_t i = 0; i < d->n_pieces; i++) put_piece(&all, &room, d->pieces + i);
    put_trainer(&all, &room, d);
    put_normalizer(&all, &room, d, collapses && d->kind == &tokenizer_unigram);
    TRY(strbuf_check(&room, e));
    TRY(strbuf_check(&all, e));
    TRY(path_join(folder, "tokenizer.model", &path, e));
    rc = file_write(path, all.data, all.len, e);
done:
    strbuf_release(&all), strbuf_release(&room);
    free(path);
    return rc;
}

/* ---- what stands beside ---- */

static void set_token(json_t *config, const char *key, const tokenizer_def *d, int64_t id) {
    if (id >= 0) json_object_set_new(config, key, text_of(d->pieces + id));
}

static err_code write_config(const weights *from, const tokenizer_def *d, const char *folder, err *e) {
    char *template = NULL;
    err_code rc = chat_template_of(from, &template, e);
    if (rc) return rc;
    json_t *config = json_pack("{s:b, s:b, s:b, s:s}", "add_bos_token", d->adds_bos && d->bos >= 0, "add_eos_token", 0,
                               "clean_up_tokenization_spaces", 0, "tokenizer_class",
                               d->kind == &tokenizer_byte_bpe  ? "PreTrainedTokenizerFast"
                               : d->kind == &tokenizer_unigram ? "T5Tokenizer"
                                                               : "LlamaTokenizer");
    set_token(config, "bos_token", d, d->bos);
    set_token(config, "eos_token", d, d->eos);
    set_token(config, "unk_token", d, d->unknown);
    if (template) json_object_set_new(config, "chat_template", json_string(template));
    free(template);
    return write_text(folder, "tokenizer_config.json", config, JSON_INDENT(2), e);
}

/* Where another token ends a turn, config.json has both. */
static err_code set_ids(const tokenizer_def *d, weights *config, err *e) {
    meta_value *ids, both = {.kind = META_ARRAY, .array = {.kind = META_INT, .count = 2}};
    err_code rc = d->bos < 0 ? ERR_OK : weights_set_int(config, "bos_token_id", d->bos, e);
    if (rc || d->eos < 0) return rc;
    if (d->eot < 0 || d->eot == d->eos) return weights_set_int(config, "eos_token_id", d->eos, e);
    TRY(weights_items(config, 2, &ids, e));
    ids[0] = (meta_value){.kind = META_INT, .integer = d->eot};
    ids[1] = (meta_value){.kind = META_INT, .integer = d->eos};
    both.array.items = ids;
    rc = weights_add_meta(config, &both, "eos_token_id", strlen("eos_token_id"), e);
done:
    return rc;
}

static void warn_of_marks(const ctx *c, const tokenizer_def *d) {
    bool any = false;
    for (int64_t i = 0; i < d->n_pieces; i++) any |= (d->pieces[i].marks & MARK_RIGHT_STRIP) != 0;
    if (any && d->kind != &tokenizer_byte_bpe)
        ctx_log(c, LOG_WARNING, "special tokens take the white space behind them along; tokenizer.model cannot say so");
}

err_code tokenizer_write_folder(const ctx *c, const weights *from, const char *folder, weights *config, err *e) {
    tokenizer_def d = TOKENIZER_DEF_EMPTY;
    err_code rc;
    TRY(definition_read(from, &d, e));
    TRY(d.kind == &tokenizer_byte_bpe ? write_text(folder, "tokenizer.json", tokenizer_json(&d), JSON_INDENT(1), e)
                                      : write_model(from, &d, folder, e));
    TRY(write_config(from, &d, folder, e));
    TRY(set_ids(&d, config, e));
    warn_of_marks(c, &d);
done:
    definition_release(&d);
    return rc;
}
