#include "analysis/find.h"

#include "activations/codes.h"
#include "analysis/find_internal.h"
#include "core/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RELATED_WORDS = 12 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- opening ---- */

static err_code check_model(const finder *f, err *e) {
    char *expected = NULL, found[SHA256_HEX];
    err_code rc;
    TRY(feature_db_meta(f->db, "model_sha256", &expected, e));
    TRY(model_sha256(f->model, found, e));
    if (expected[0] && strcmp(expected, found))
        rc = err_set(e, ERR_MISMATCH, "%s was made with the model %.12s.., this one (%s) is %.12s..", f->db->path, expected,
                     model_name(f->model), found);
done:
    free(expected);
    return rc;
}

static err_code check_same(const finder *f, const char *what, const char *path, const char *found, const char *expected,
                           err *e) {
    if (!strcmp(found, expected)) return ERR_OK;
    return err_set(e, ERR_MISMATCH, "%s: %s %.64s, but %s was made with %.64s; run sae features again", path, what, found,
                   f->db->path, expected);
}

static err_code load_codes(finder *f, const char *path, const char *sae_sha256, err *e) {
    codes k = {0};
    err_code rc;
    TRY(codes_read(path, &k, e));
    TRY(check_same(f, "codes of SAE", path, k.sae_sha256, sae_sha256, e));
    if (k.d_sae != f->sae->cfg.d_sae || k.n_rows != f->rows.info->n_rows) {
        rc = err_set(e, ERR_MISMATCH, "%s: %" PRId64 " features on %" PRId64 " rows, expected %" PRId64 " on %" PRId64, path,
                     k.d_sae, k.n_rows, f->sae->cfg.d_sae, f->rows.info->n_rows);
        goto done;
    }
    rc = postings_build(k.d_sae, k.n_rows, k.indptr, k.indices, k.values, &f->codes, e);
    if (rc) err_prefix(e, rc, "%s", path);
done:
    codes_release(&k);
    return rc;
}

static err_code open_parts(finder *f, err *e) {
    char *sae_path = NULL, *rows_path = NULL, *codes_path = NULL, *hook = NULL, *sha256 = NULL;
    err_code rc;
    TRY(feature_db_meta_path(f->db, "sae", &sae_path, e));
    TRY(feature_db_meta_path(f->db, "activations", &rows_path, e));
    TRY(feature_db_meta_path(f->db, "codes", &codes_path, e));
    TRY(feature_db_meta(f->db, "hook_name", &hook, e));
    TRY(feature_db_meta(f->db, "sae_sha256", &sha256, e));
    TRY(sae_load(sae_path, &f->sae, e));
    TRY(check_same(f, "weights", sae_path, f->sae->sha256, sha256, e));
    TRY(sae_check_autoencoder(f->sae, e));
    TRY(row_source_open(rows_path, hook, &f->rows, e));
    TRY(model_hook_point(f->model, hook, &f->at, e));
    TRY(sae_check_fits(f->sae, hook, f->rows.info->model_sha256, model_config_of(f->model)->d_model, e));
    if (f->rows.hook->d_model != f->sae->cfg.d_in) {
        rc = err_set(e, ERR_MISMATCH, "%s: rows of %" PRId64 " values, the SAE takes %" PRId64, rows_path,
                     f->rows.hook->d_model, f->sae->cfg.d_in);
        goto done;
    }
    if (f->rows.info->n_vocab != model_config_of(f->model)->n_vocab &&
        f->rows.info->n_vocab != tokenizer_size(model_tokenizer(f->model))) {
        rc = err_set(e, ERR_MISMATCH, "%s: a vocabulary of %" PRId64 " pieces, the model has %" PRId64, rows_path,
                     f->rows.info->n_vocab, model_config_of(f->model)->n_vocab);
        goto done;
    }
    TRY(load_codes(f, codes_path, sha256, e));
done:
    free(sae_path);
    free(rows_path);
    free(codes_path);
    free(hook);
    free(sha256);
    return rc;
}

static err_code look_up_names(finder *f, err *e) {
    err_code rc;
    TRY(name_parse(&f->rows.index, f->concept, &f->name, e));
    TRY(mentions_find(&f->rows.index, &f->name, &f->mentions, e));
    TRY(rivals_propose(&f->rows.index, &f->name, &f->mentions, &f->rivals, e));
    TRY(mem_new0(&f->rival_mentions, (size_t)f->rivals.n, sizeof *f->rival_mentions, "names", e));
    for (int i = 0; i < f->rivals.n; i++)
        TRY(mentions_find(&f->rows.index, &f->rivals.items[i].name, &f->rival_mentions[i], e));
done:
    return rc;
}

static void finder_release(finder *f) {
    for (int i = 0; f->rival_mentions && i < f->rivals.n; i++) free(f->rival_mentions[i].items);
    free(f->rival_mentions);
    rivals_release(&f->rivals);
    free(f->mentions.items);
    postings_release(&f->codes);
    row_source_release(&f->rows);
    sae_free(f->sae);
    feature_db_close(f->db);
}

/* ---- the result ---- */

static err_code copy_string(const char *text, char **out, err *e) {
    *out = strdup(text);
    return *out ? ERR_OK : err_nomem(e, "text", strlen(text));
}

static err_code start_result(const finder *f, find_result *r, err *e) {
    const find_opts *o = f->opts;
    int max_words = o->words ? o->n_words : RELATED_WORDS;
    err_code rc;
    TRY(copy_string(f->concept, &r->concept, e));
    r->mentions = f->mentions.n;
    TRY(mem_new0(&r->words, (size_t)max_words, sizeof *r->words, "words", e));
    for (; o->words && r->n_words < o->n_words; r->n_words++)
        TRY(copy_string(o->words[r->n_words], &r->words[r->n_words], e));
    if (!o->words) TRY(related_words(&f->rows.index, &f->name, &f->mentions, max_words, r->words, &r->n_words, e));
    TRY(mem_new0(&r->rivals, (size_t)f->rivals.n, sizeof *r->rivals, "names", e));
    for (; r->n_rivals < f->rivals.n; r->n_rivals++)
        TRY(copy_string(f->rivals.items[r->n_rivals].text, &r->rivals[r->n_rivals], e));
done:
    return rc;
}

err_code find_run(const ctx *c, model *m, const char *db_path, const char *concept, const find_opts *o, find_result *out,
                  err *e) {
    finder f = {.opts = o, .concept = concept, .model = m};
    double *choice_auroc = NULL;
    *out = (find_result){0};
    err_code rc;
    TRY(feature_db_open(db_path, &f.db, e));
    TRY(check_model(&f, e));
    TRY(open_parts(&f, e));
    TRY(look_up_names(&f, e));
    TRY(start_result(&f, out, e));
    TRY(find_gate_run(c, &f, &out->gate, e));
    if (!out->gate.known && !o->anyway) goto done;
    double started = now();
    TRY(mem_new(&choice_auroc, (size_t)f.sae->cfg.d_sae, sizeof *choice_auroc, "scores", e));
    TRY(find_detect_run(c, &f, out, choice_auroc, e));
    out->seconds_detect = now() - started;
    TRY(find_cause_run(c, &f, choice_auroc, out, e));
    out->seconds_cause = now() - started - out->seconds_detect;
done:
    free(choice_auroc);
    finder_release(&f);
    if (rc) find_result_release(out);
    return rc;
}

void find_result_release(find_result *r) {
    for (int i = 0; r->words && i < r->n_words; i++) free(r->words[i]);
    for (int i = 0; r->rivals && i < r->n_rivals; i++) free(r->rivals[i]);
    free(r->words);
    free(r->rivals);
    free(r->detectors);
    free(r->causes);
    free(r->word_causes);
    free(r->concept);
    *r = (find_result){0};
}
