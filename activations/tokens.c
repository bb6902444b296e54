/* tokens.c — reads documents one after the other, tokenises them in batches on all threads, appends them in order, samples. */
#include "activations/tokens.h"

#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"

#include <assert.h>
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utf8proc.h>

enum { BATCH_DOCS = 256, BATCH_BYTES = 1 << 22, TEXT_BYTES_MAX = INT32_MAX, SOURCE_MAX = 512 };

/* A document that was read and waits for its batch to be tokenised. */
typedef struct pending {
    char *text; /* NULL: given as ids */
    size_t n;
    token_ids ids;
    err failure; /* of tokenising it */
    char source[SOURCE_MAX];
} pending;

typedef struct reader {
    const ctx *c;
    const tokenizer *t;
    const corpus_opts *o;
    token_corpus *k;
    size_t tokens_cap, offsets_cap, sources_cap;
    pending batch[BATCH_DOCS];
    int n_batch;
    size_t batch_bytes;
    int64_t bytes_done, bytes_total; /* of all files */
} reader;

/* ---- tokenised documents ---- */

/* Window w of the document `source` becomes a document of the corpus. */
static err_code add_window(reader *r, const uint32_t *ids, int64_t n, const char *source, int64_t w, err *e) {
    token_corpus *k = r->k;
    err_code rc;
    char name[SOURCE_MAX + 32];
    snprintf(name, sizeof name, w ? "%s#%lld" : "%s", source, (long long)w);
    TRY(mem_grow(&k->tokens, &r->tokens_cap, (size_t)(k->n_tokens + n), sizeof *k->tokens, "the corpus", e));
    TRY(mem_grow(&k->doc_offsets, &r->offsets_cap, (size_t)k->n_docs + 2, sizeof *k->doc_offsets, "the corpus", e));
    TRY(mem_grow(&k->doc_source, &r->sources_cap, (size_t)k->n_docs + 1, sizeof *k->doc_source, "the corpus", e));
    if (!(k->doc_source[k->n_docs] = strdup(name))) return err_nomem(e, "the corpus", strlen(name));
    memcpy(k->tokens + k->n_tokens, ids, (size_t)n * sizeof *ids);
    k->doc_offsets[k->n_docs] = (uint64_t)k->n_tokens;
    k->n_tokens += n;
    k->n_docs++;
    k->doc_offsets[k->n_docs] = (uint64_t)k->n_tokens;
done:
    return rc;
}

static err_code add_document(reader *r, const pending *p, err *e) {
    err_code rc = ERR_OK;
    int64_t len = (int64_t)p->ids.len, step = r->o->context;
    for (int64_t at = 0, w = 0; at < len && !rc; at += step, w++)
        rc = add_window(r, p->ids.ids + at, len - at < step ? len - at : step, p->source, w, e);
    return rc;
}

static void forget_batch(reader *r) {
    for (int i = 0; i < r->n_batch; i++) {
        free(r->batch[i].text);
        free(r->batch[i].ids.ids);
        r->batch[i] = (pending){0};
    }
    r->n_batch = 0;
    r->batch_bytes = 0;
}

/* Tokenises what waits, a document per thread, and appends it in the order it was read. */
static err_code flush_batch(reader *r, err *e) {
    err_code rc = ERR_OK;
    TRY(ctx_check_cancel(r->c, e));
#pragma omp parallel for num_threads(r->c->threads) schedule(dynamic)
    for (int i = 0; i < r->n_batch; i++) {
        pending *p = &r->batch[i];
        if (p->text) tokenizer_encode(r->t, p->text, p->n, &TOKENIZE_DEFAULTS, &p->ids, &p->failure);
    }
    for (int i = 0; i < r->n_batch; i++) {
        const pending *p = &r->batch[i];
        if (p->failure.code) {
            rc = err_set(e, p->failure.code, "%s: %s", p->source, p->failure.message);
            goto done;
        }
        TRY(add_document(r, p, e));
    }
    ctx_report(r->c, &(progress){.stage = "tokenise", .unit = "bytes", .done = r->bytes_done, .total = r->bytes_total});
done:
    forget_batch(r);
    return rc;
}

static err_code make_room(reader *r, err *e) {
    return r->n_batch == BATCH_DOCS || r->batch_bytes > BATCH_BYTES ? flush_batch(r, e) : ERR_OK;
}

/* The next place in the batch, where there is room, for the document `file` or `file:line`. */
static pending *next_pending(reader *r, const char *path, int64_t line) {
    pending *p = &r->batch[r->n_batch++];
    snprintf(p->source, SOURCE_MAX, line ? "%s:%lld" : "%s", path_base(path), (long long)line);
    return p;
}

/* ---- .txt ---- */

static size_t skip_bom(const char *text, size_t n) { return n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0; }

static err_code check_text(const char *path, const char *text, size_t n, err *e) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t letter;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &letter);
        if (len <= 0)
            return err_set(e, ERR_FORMAT, "%s: expected UTF-8 text, found the byte 0x%02X at offset %zu", path,
                           (unsigned char)text[i], i);
        if (!letter)
            return err_set(e, ERR_FORMAT, "%s: expected a text, found a binary file (NUL byte at offset %zu)", path, i);
        i += (size_t)len;
    }
    return ERR_OK;
}

static err_code read_txt(reader *r, const char *path, err *e) {
    char *text = NULL;
    size_t n;
    err_code rc;
    TRY(make_room(r, e));
    TRY(file_read(path, TEXT_BYTES_MAX, &text, &n, e));
    TRY(check_text(path, text, n, e));
    r->bytes_done += (int64_t)n;
    size_t skip = skip_bom(text, n);
    if (n > skip) {
        pending *p = next_pending(r, path, 0);
        memmove(text, text + skip, n - skip);
        p->text = text;
        p->n = n - skip;
        r->batch_bytes += p->n;
        text = NULL;
    }
done:
    free(text);
    return rc;
}

/* ---- .jsonl ---- */

static err_code take_ids(const reader *r, const json_t *list, token_ids *out, err *e) {
    size_t n = json_array_size(list), i;
    const json_t *value;
    if (!json_is_array(list)) return err_set(e, ERR_FORMAT, "\"ids\": expected a list of token ids");
    err_code rc = mem_grow(&out->ids, &out->cap, n, sizeof *out->ids, "token ids", e);
    if (rc) return rc;
    json_array_foreach(list, i, value) {
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (!json_is_integer(value)) return err_set(e, ERR_FORMAT, "\"ids\": item %zu is not a whole number", i);
        if (id < 0 || id >= tokenizer_size(r->t))
            return err_set(e, ERR_FORMAT, "\"ids\": item %zu is %lld, expected a token of this model, 0 to %lld", i,
                           (long long)id, (long long)tokenizer_size(r->t) - 1);
        out->ids[out->len++] = (uint32_t)id;
    }
    return ERR_OK;
}

static err_code take_text(reader *r, const json_t *text, pending *p, err *e) {
    if (!json_is_string(text)) return err_set(e, ERR_FORMAT, "\"text\": expected a string");
    size_t n = json_string_length(text);
    err_code rc = mem_new(&p->text, n, 1, "a document", e);
    if (rc) return rc;
    memcpy(p->text, json_string_value(text), n);
    p->n = n;
    r->batch_bytes += n;
    return ERR_OK;
}

/* {"text": ".."} or {"ids": [..]}; ids count when both are there. */
static err_code read_line(reader *r, const char *text, size_t n, pending *p, err *e) {
    json_error_t bad;
    err_code rc = ERR_OK;
    json_t *doc = json_loadb(text, n, 0, &bad);
    if (!doc) return err_set(e, ERR_FORMAT, "expected a JSON document: %s at byte %d", bad.text, bad.position);
    const json_t *ids = json_object_get(doc, "ids"), *string = json_object_get(doc, "text");
    if (!ids && !string) {
        rc = err_set(e, ERR_FORMAT, "expected {\"text\": \"..\"} or {\"ids\": [..]}, found %s",
                     json_is_object(doc) ? "an object with neither" : "no object");
        goto done;
    }
    TRY(ids ? take_ids(r, ids, &p->ids, e) : take_text(r, string, p, e));
done:
    json_decref(doc);
    return rc;
}

static bool is_blank(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    return true;
}

static err_code read_jsonl(reader *r, const char *path, err *e) {
    file_map m;
    err_code rc = file_map_open(path, &m, e);
    if (rc) return rc;
    const char *text = (const char *)m.data;
    int64_t line = 1;
    for (size_t at = m.data ? skip_bom(text, m.size) : 0; at < m.size && !rc; line++) {
        const char *end = memchr(text + at, '\n', m.size - at);
        size_t n = end ? (size_t)(end - text) - at : m.size - at;
        TRY(make_room(r, e));
        if (!is_blank(text + at, n)) rc = read_line(r, text + at, n, next_pending(r, path, line), e);
        if (rc) err_prefix(e, rc, "%s: line %lld", path, (long long)line);
        at += n + 1;
        r->bytes_done += (int64_t)n + 1;
    }
done:
    file_map_close(&m);
    return rc;
}

/* ---- files and folders ---- */

static const struct {
    const char *suffix;
    err_code (*read)(reader *r, const char *path, err *e);
} formats[] = {{".txt", read_txt}, {".jsonl", read_jsonl}};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static int format_of(const char *path) {
    size_t n = strlen(path);
    for (int i = 0; i < N_FORMATS; i++) {
        size_t m = strlen(formats[i].suffix);
        if (n > m && !strcmp(path + n - m, formats[i].suffix)) return i;
    }
    return -1;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

typedef struct file_list {
    char **paths;
    size_t n, cap;
} file_list;

static void file_list_release(file_list *l) {
    for (size_t i = 0; i < l->n; i++) free(l->paths[i]);
    free(l->paths);
}

static err_code list_folder(const char *path, file_list *l, err *e) {
    DIR *dir = opendir(path);
    if (!dir) return err_set_errno(e, "%s: cannot read the folder", path);
    err_code rc = ERR_OK;
    for (struct dirent *d; !rc && (d = readdir(dir));) { /* readdir is safe: nobody shares dir */
        if (d->d_name[0] == '.' || format_of(d->d_name) < 0) continue;
        TRY(mem_grow(&l->paths, &l->cap, l->n + 1, sizeof *l->paths, "file names", e));
        TRY(path_join(path, d->d_name, &l->paths[l->n], e));
        if (file_is_dir(l->paths[l->n]))
            free(l->paths[l->n]);
        else
            l->n++;
    }
    if (l->n) qsort(l->paths, l->n, sizeof *l->paths, by_name);
    if (!l->n) rc = err_set(e, ERR_FORMAT, "%s: expected .txt or .jsonl files in the folder, found none", path);
done:
    closedir(dir);
    return rc;
}

static err_code list_files(const char *path, file_list *l, err *e) {
    if (file_is_dir(path)) return list_folder(path, l, e);
    err_code rc;
    if (file_exists(path) && format_of(path) < 0)
        return err_set(e, ERR_FORMAT, "%s: expected a corpus: a .txt or .jsonl file or a folder of them", path);
    TRY(mem_grow(&l->paths, &l->cap, 1, sizeof *l->paths, "file names", e));
    if (!(l->paths[0] = strdup(path))) return err_nomem(e, "file names", strlen(path));
    l->n = 1;
done:
    return rc;
}

static int64_t size_of(const char *path) {
    struct stat st;
    return stat(path, &st) ? 0 : (int64_t)st.st_size;
}

static err_code read_files(reader *r, const file_list *l, err *e) {
    err_code rc = ERR_OK;
    for (size_t i = 0; i < l->n; i++) r->bytes_total += size_of(l->paths[i]);
    for (size_t i = 0; i < l->n; i++) TRY(formats[format_of(l->paths[i])].read(r, l->paths[i], e));
    r->bytes_done = r->bytes_total;
    TRY(flush_batch(r, e));
done:
    forget_batch(r);
    return rc;
}

/* ---- the sample ---- */

static uint64_t hash_more(uint64_t h, const void *bytes, size_t n) { /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
    return h;
}

static uint64_t hash_corpus(const token_corpus *k) {
    uint64_t h = hash_more(14695981039346656037u, k->tokens, (size_t)k->n_tokens * sizeof *k->tokens);
    return hash_more(h, k->doc_offsets, ((size_t)k->n_docs + 1) * sizeof *k->doc_offsets);
}

void corpus_keep(token_corpus *k, const bool *kept) {
    int64_t n_docs = 0, n_tokens = 0;
    for (int64_t i = 0; i < k->n_docs; i++) {
        uint64_t from = k->doc_offsets[i], n = k->doc_offsets[i + 1] - from;
        if (!kept[i]) {
            free(k->doc_source[i]);
            continue;
        }
        memmove(k->tokens + n_tokens, k->tokens + from, n * sizeof *k->tokens);
        k->doc_source[n_docs] = k->doc_source[i];
        k->doc_offsets[n_docs++] = (uint64_t)n_tokens; /* n_docs <= i: behind what is still to be read */
        n_tokens += (int64_t)n;
    }
    k->doc_offsets[n_docs] = (uint64_t)n_tokens;
    k->n_docs = n_docs;
    k->n_tokens = n_tokens;
    k->hash = hash_corpus(k);
}

/* Documents are drawn without replacement. */
err_code corpus_sample(token_corpus *k, const corpus_opts *o, err *e) {
    uint64_t *order = NULL;
    bool *kept = NULL;
    err_code rc;
    if (!o->skip_tokens && (!o->max_tokens || k->n_tokens <= o->max_tokens)) return ERR_OK;
    TRY(mem_new(&order, (size_t)k->n_docs, sizeof *order, "the sample", e));
    TRY(mem_new0(&kept, (size_t)k->n_docs, sizeof *kept, "the sample", e));
    for (int64_t i = 0; i < k->n_docs; i++) order[i] = (uint64_t)i;
    rng stream = rng_stream(o->seed, RNG_CORPUS, 0);
    rng_permute(&stream, order, (uint64_t)k->n_docs);
    for (int64_t i = 0, skipped = 0, n = 0; i < k->n_docs && (!o->max_tokens || n < o->max_tokens); i++) {
        kept[order[i]] = skipped >= o->skip_tokens;
        *(kept[order[i]] ? &n : &skipped) += (int64_t)(k->doc_offsets[order[i] + 1] - k->doc_offsets[order[i]]);
    }
    corpus_keep(k, kept);
done:
    free(order);
    free(kept);
    return rc;
}

/* ---- all of it ---- */

err_code corpus_read(const ctx *c, const char *path, const tokenizer *t, const corpus_opts *o, token_corpus *out, err *e) {
    assert(o->context > 0 && o->max_tokens >= 0);
    *out = (token_corpus){0};
    file_list files = {0};
    reader *r = NULL;
    err_code rc;
    TRY(mem_new0(&r, 1, sizeof *r, "the corpus reader", e));
    r->c = c, r->t = t, r->o = o, r->k = out;
    TRY(list_files(path, &files, e));
    TRY(read_files(r, &files, e));
    if (!out->n_tokens) {
        rc = err_set(e, ERR_FORMAT, "%s: expected texts, found an empty corpus", path);
        goto done;
    }
    out->hash = hash_corpus(out);
    TRY(corpus_sample(out, o, e));
done:
    file_list_release(&files);
    free(r);
    if (rc) corpus_release(out);
    return rc;
}

/* "poets.jsonl:17#2" is a window of "poets.jsonl:17". */
static size_t text_length(const char *source) {
    const char *mark = strrchr(source, '#');
    return mark ? (size_t)(mark - source) : strlen(source);
}

int32_t corpus_texts(const token_corpus *k, int32_t *of) {
    int32_t n = 0;
    for (int64_t d = 0; d < k->n_docs; d++) {
        const char *source = k->doc_source ? k->doc_source[d] : NULL, *last = d && source ? k->doc_source[d - 1] : NULL;
        bool continues = last && text_length(source) == text_length(last) && !strncmp(source, last, text_length(source));
        n += !continues;
        of[d] = n - 1;
    }
    return n;
}

void corpus_release(token_corpus *k) {
    for (int64_t i = 0; i < k->n_docs; i++) free(k->doc_source[i]);
    free(k->tokens);
    free(k->doc_offsets);
    free(k->doc_source);
    *k = (token_corpus){0};
}

err_code corpus_rows_number(const token_corpus *k, int64_t skip_first, int64_t n_ctx, corpus_rows *out, err *e) {
    int64_t n = 0;
    err_code rc;
    TRY(mem_new(&out->first, (size_t)k->n_docs + 1, sizeof *out->first, "rows of documents", e));
    for (int64_t doc = 0; doc < k->n_docs; doc++) {
        int64_t len = (int64_t)(k->doc_offsets[doc + 1] - k->doc_offsets[doc]);
        if (len > n_ctx) {
            rc = err_set(e, ERR_USAGE,
                         "%s: expected at most the %" PRId64 " tokens that the model was trained for, found %" PRId64
                         "; cut with --context",
                         k->doc_source[doc], n_ctx, len);
            goto done;
        }
        out->first[doc] = n;
        n += len > skip_first ? len - skip_first : 0;
    }
    out->first[k->n_docs] = out->n = n;
    if (!n) {
        rc = err_set(e, ERR_FORMAT,
                     "%s and all other documents: expected more than %" PRId64
                     " tokens, since so many are skipped at the head of each",
                     k->doc_source[0], skip_first);
        goto done;
    }
    TRY(mem_new(&out->token, (size_t)n, sizeof *out->token, "tokens of rows", e));
    for (int64_t doc = 0; doc < k->n_docs; doc++)
        for (int64_t r = out->first[doc]; r < out->first[doc + 1]; r++)
            out->token[r] = k->doc_offsets[doc] + (uint64_t)(skip_first + r - out->first[doc]);
done:
    if (rc) corpus_rows_release(out);
    return rc;
}

void corpus_rows_release(corpus_rows *r) {
    free(r->first);
    free(r->token);
    *r = (corpus_rows){0};
}
