#include "analysis/pass.h"

#include "activations/codes.h"
#include "analysis/db.h"
#include "analysis/examples.h"
#include "analysis/labels.h"
#include "analysis/logit_lens.h"
#include "analysis/neighbours.h"
#include "analysis/output_score.h"
#include "analysis/rows.h"
#include "core/mem.h"
#include "sae/variants/variants.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BATCH_ROWS = STORE_CHUNK_ROWS,
    CARD_BLOCK = 512, /* features whose cards are in memory at once */
    LENS_TOP = 10,
    NEIGHBOURS = 8,
    TOP_TOKENS = 6,
    CONTEXT_EXAMPLES = 6,             /* whose text can be searched for */
    DATABASE_BYTES_PER_FEATURE = 4096 /* about 10,000 with all examples */
};

typedef struct pass {
    const features_opts *opts;
    row_source rows;
    sae *sae;
    model *model; /* NULL: no logit lens */
    label_index *labels;
    sparse_acts codes; /* of all rows */
    postings postings;
    top_entry *neighbours; /* [d_sae, n_neighbours] */
    int n_neighbours;
    lens_top lens;
    double *output_scores; /* [d_sae]; NULL: not asked for */
    double text_entropy;   /* of the corpus' tokens, nats */
    char *codes_path;
    double started;
} pass;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- inputs ---- */

/* The model is only needed for the logit lens: without one everything else is still worth having. */
static err_code open_model(const ctx *c, pass *p, err *e) {
    const store_info *info = p->rows.info;
    const char *path = p->opts->model ? p->opts->model : info->model_path ? info->model_path : "";
    bool needed = p->opts->model || p->opts->output_scores;
    char sha256[SHA256_HEX];
    if (!needed && !file_exists(path)) {
        ctx_log(c, LOG_WARNING, "no logit lens: the activations' model '%s' is not there, name it with --model", path);
        return ERR_OK;
    }
    err_code rc;
    TRY(model_open(c, path, &p->model, e));
    TRY(model_sha256(p->model, sha256, e));
    if (info->model_sha256 && info->model_sha256[0] && strcmp(sha256, info->model_sha256))
        rc = err_set(e, ERR_MISMATCH, "%s: not the model of these activations (SHA-256 %.12s.., expected %.12s..)", path,
                     sha256, info->model_sha256);
    else if (model_config_of(p->model)->d_model != p->sae->cfg.d_out)
        rc = err_set(e, ERR_MISMATCH, "%s: d_model is %" PRId64 ", the SAE's d_out %" PRId64, path,
                     model_config_of(p->model)->d_model, p->sae->cfg.d_out);
done:
    return rc;
}

static err_code open_inputs(const ctx *c, pass *p, const char *activations, const char *sae_folder, err *e) {
    err_code rc;
    TRY(sae_load(sae_folder, &p->sae, e));
    if (p->sae->cfg.variant->signed_values)
        return err_set(e, ERR_UNSUPPORTED, "%s: latents of %s may be negative, which features are not counted and ranked by",
                       sae_folder, p->sae->cfg.variant->name);
    if (p->sae->note) ctx_log(c, LOG_WARNING, "%s: %s", sae_folder, p->sae->note);
    TRY(row_source_open(activations, p->opts->dataset ? p->opts->dataset : p->sae->cfg.hook_name, &p->rows, e));
    rc = sae_check_fits(p->sae, p->rows.hook->name, p->rows.info->model_sha256, p->rows.hook->d_model, e);
    if (rc) {
        err_prefix(e, rc, "%s", activations);
        goto done;
    }
    TRY(open_model(c, p, e));
    TRY(label_index_new(&p->rows.index, p->opts->seed, &p->labels, e));
done:
    return rc;
}

/* ---- the streaming pass ---- */

/* Appends a batch's codes to those in memory. */
static err_code keep_codes(sparse_acts *all, const sparse_acts *batch, err *e) {
    int64_t nnz = all->n_rows ? all->indptr[all->n_rows] : 0, more = batch->indptr[batch->n_rows];
    err_code rc;
    TRY(mem_grow(&all->indptr, &all->cap_rows, (size_t)(all->n_rows + batch->n_rows + 1), sizeof *all->indptr, "codes", e));
    TRY(mem_grow(&all->indices, &all->cap_nnz, (size_t)(nnz + more), sizeof *all->indices, "codes", e));
    TRY(mem_grow(&all->values, &all->cap_values, (size_t)(nnz + more), sizeof *all->values, "codes", e));
    if (more) {
        memcpy(all->indices + nnz, batch->indices, (size_t)more * sizeof *all->indices);
        memcpy(all->values + nnz, batch->values, (size_t)more * sizeof *all->values);
    }
    all->indptr[0] = 0;
    for (int64_t r = 1; r <= batch->n_rows; r++) all->indptr[all->n_rows + r] = nnz + batch->indptr[r];
    all->n_rows += batch->n_rows;
done:
    return rc;
}

/* The rows that are too long fire nothing. */
static void drop_rows(sparse_acts *f, const uint8_t *dropped /* [f->n_rows] */) {
    int64_t kept = 0, from = 0;
    for (int64_t r = 0; r < f->n_rows; r++) {
        int64_t n = dropped[r] ? 0 : f->indptr[r + 1] - from;
        memmove(f->indices + kept, f->indices + from, (size_t)n * sizeof *f->indices);
        memmove(f->values + kept, f->values + from, (size_t)n * sizeof *f->values);
        from = f->indptr[r + 1];
        f->indptr[r + 1] = kept += n;
    }
}

/* What codes and database will take at least: of codes only what is known before. */
static err_code check_space(const pass *p, err *e) {
    const sae_config *f = &p->sae->cfg;
    int64_t latents = p->rows.info->n_rows * (f->k * (int64_t)(sizeof(uint32_t) + sizeof(float)) + (int64_t)sizeof(uint64_t));
    return file_check_space(p->codes_path, (uint64_t)(latents + f->d_sae * DATABASE_BYTES_PER_FEATURE), e);
}

static err_code encode_rows(const ctx *c, pass *p, err *e) {
    const store_info *info = p->rows.info;
    const store_hook *hook = p->rows.hook;
    codes_info about = {
        .sae_sha256 = p->sae->sha256, .hook_name = hook->name, .d_sae = p->sae->cfg.d_sae, .n_rows = info->n_rows};
    codes_writer *w = NULL;
    float *x = NULL;
    sparse_acts batch = {0};
    err_code rc;
    TRY(check_space(p, e));
    TRY(codes_create(p->codes_path, &about, &w, e));
    TRY(mem_new(&x, BATCH_ROWS, (size_t)hook->d_model * sizeof *x, "a batch of rows", e));
    for (int64_t r = 0; r < info->n_rows; r += BATCH_ROWS) {
        int64_t n = info->n_rows - r < BATCH_ROWS ? info->n_rows - r : BATCH_ROWS;
        TRY(ctx_check_cancel(c, e));
        ctx_report(c, &(progress){.stage = "encode", .unit = "rows", .done = r, .total = info->n_rows});
        TRY(row_source_read(&p->rows, c, r, n, x, e));
        TRY(sae_encode(c, p->sae, x, n, &batch, e));
        if (p->rows.n_long) drop_rows(&batch, p->rows.is_long + r);
        TRY(codes_append(w, n, batch.indptr, batch.indices, batch.values, NULL, e));
        TRY(keep_codes(&p->codes, &batch, e));
    }
    ctx_report(c, &(progress){.stage = "encode", .unit = "rows", .done = info->n_rows, .total = info->n_rows});
    TRY(codes_finish(w, e));
    TRY(postings_build(p->sae->cfg.d_sae, p->codes.n_rows, p->codes.indptr, p->codes.indices, p->codes.values, &p->postings,
                       e));
done:
    codes_abandon(w);
    free(x);
    sparse_release(&batch);
    return rc;
}

/* ---- one feature ---- */

typedef struct worker { /* one per thread */
    example_scratch examples;
    label_scratch *labels;
    double *token_mass;   /* [n_vocab] */
    int32_t *tokens_seen; /* [n_vocab] those with mass, in order of first sight */
    int32_t *together;    /* [d_sae] */
} worker;

static err_code worker_init(worker *w, const pass *p, err *e) {
    *w = (worker){.examples = EXAMPLE_SCRATCH_INIT};
    err_code rc;
    TRY(label_scratch_new(p->labels, &w->labels, e));
    TRY(mem_new0(&w->token_mass, (size_t)p->rows.index.vocab.n, sizeof *w->token_mass, "feature scratch", e));
    TRY(mem_new(&w->tokens_seen, (size_t)p->rows.index.vocab.n, sizeof *w->tokens_seen, "feature scratch", e));
    TRY(mem_new0(&w->together, (size_t)p->sae->cfg.d_sae, sizeof *w->together, "feature scratch", e));
done:
    return rc;
}

static void worker_release(worker *w) {
    example_scratch_release(&w->examples);
    label_scratch_free(w->labels);
    free(w->token_mass);
    free(w->tokens_seen);
    free(w->together);
}

static void count_firing(const pass *p, feature_stats *f) {
    const postings *all = &p->postings;
    int32_t last_doc = -1;
    double sum = 0;
    f->fires = postings_fires(all, f->id);
    f->density = p->codes.n_rows ? (double)f->fires / (double)p->codes.n_rows : 0;
    for (int64_t i = all->start[f->id]; i < all->start[f->id + 1]; i++) {
        int32_t doc = p->rows.index.token_doc[p->rows.row_token[all->rows[i]]];
        f->docs += doc != last_doc;
        last_doc = doc;
        sum += all->values[i];
        if (all->values[i] > f->max) f->max = all->values[i];
    }
    f->mean = f->fires ? sum / (double)f->fires : 0;
}

/* How its activation spreads over token types: their number, selectivity, and the heaviest ones as text. */
static void describe_tokens(const pass *p, worker *w, feature_stats *f) {
    const postings *all = &p->postings;
    double total = 0, entropy = 0;
    top_entry heaviest[TOP_TOKENS];
    int n = 0;
    for (int64_t i = all->start[f->id]; i < all->start[f->id + 1]; i++) {
        uint32_t token = p->rows.corpus.tokens[p->rows.row_token[all->rows[i]]];
        if (w->token_mass[token] == 0) w->tokens_seen[f->tokens++] = (int32_t)token;
        w->token_mass[token] += all->values[i];
        total += all->values[i];
    }
    for (int64_t i = 0; i < f->tokens; i++) {
        double mass = w->token_mass[w->tokens_seen[i]], share = mass / total;
        entropy -= share * log(share);
        top_keep(heaviest, &n, TOP_TOKENS, (top_entry){w->tokens_seen[i], mass});
        w->token_mass[w->tokens_seen[i]] = 0;
    }
    f->selectivity = f->fires ? 1 - exp(entropy - p->text_entropy) : NAN;
    strbuf text = STRBUF_INIT;
    for (int i = 0; i < n; i++) {
        size_t before = text.len;
        if (i) strbuf_add_char(&text, ' ');
        text_add_quoted_piece(&text, &p->rows.index.vocab, (uint32_t)heaviest[i].key);
        if (text.len >= FEATURE_TOKENS_MAX) { /* whole tokens only */
            text.len = before;
            break;
        }
    }
    memcpy(f->top_tokens, text.data, text.len < FEATURE_TOKENS_MAX ? text.len : 0);
    strbuf_release(&text);
}

static err_code add_label(const pass *p, worker *w, feature_card *card, err *e) {
    label_rule rule;
    label_score score;
    err_code rc;
    TRY(label_feature(p->labels, &p->postings, card->stats.id, w->labels, &rule, &score, e));
    card->stats.interpretability = score.f1;
    if (!rule.n_terms) goto done;
    label_rule_text(p->labels, &rule, card->stats.label);
    TRY(mem_new0(&card->labels, 1, sizeof *card->labels, "a label", e));
    feature_label *label = &card->labels[card->n_labels++];
    *label = (feature_label){.source = "rule",
                             .score = score.f1,
                             .auroc = score.auroc,
                             .precision = score.precision,
                             .recall = score.recall,
                             .fires = score.fires};
    label->label = strdup(card->stats.label);
    if (!label->label) rc = err_nomem(e, "a label", FEATURE_LABEL_MAX);
done:
    return rc;
}

static err_code add_pairs(const pass *p, worker *w, feature_card *card, err *e) {
    int64_t feature = card->stats.id, together[NEIGHBOURS];
    top_entry with[NEIGHBOURS];
    err_code rc;
    TRY(mem_new(&card->neighbours, NEIGHBOURS, sizeof *card->neighbours, "neighbours", e));
    TRY(mem_new(&card->cooccurrence, NEIGHBOURS, sizeof *card->cooccurrence, "co-occurrence", e));
    for (int i = 0; i < p->n_neighbours; i++) {
        top_entry near = p->neighbours[feature * p->n_neighbours + i];
        card->neighbours[card->n_neighbours++] = (feature_pair){.rank = i + 1, .other = near.key, .value = near.score};
    }
    card->stats.neighbour = card->n_neighbours ? card->neighbours[0].value : NAN;
    int n = cooccurring(&p->postings, p->codes.indptr, p->codes.indices, feature, NEIGHBOURS, w->together, with, together);
    for (int i = 0; i < n; i++)
        card->cooccurrence[card->n_cooccurrence++] =
            (feature_pair){.rank = i + 1, .other = with[i].key, .count = together[i], .value = with[i].score};
done:
    return rc;
}

static err_code add_logit(const pass *p, feature_card *card, int64_t rank, top_entry x, err *e) {
    strbuf piece = STRBUF_INIT;
    const vocab_view *v = &p->rows.index.vocab;
    if (x.key < v->n) text_add_printable(&piece, v->bytes + v->offsets[x.key], v->offsets[x.key + 1] - v->offsets[x.key]);
    feature_logit *l = &card->logits[card->n_logits++];
    *l = (feature_logit){.rank = rank, .token = x.key, .score = x.score, .piece = strbuf_detach(&piece)};
    return l->piece ? ERR_OK : err_nomem(e, "a token", 0);
}

static err_code add_logits(const pass *p, feature_card *card, err *e) {
    int top = p->lens.top;
    const top_entry *promoted = p->lens.promoted + card->stats.id * top,
                    *suppressed = p->lens.suppressed + card->stats.id * top;
    err_code rc;
    TRY(mem_new0(&card->logits, 2 * (size_t)top, sizeof *card->logits, "logits", e));
    for (int i = top; i-- > 0;) TRY(add_logit(p, card, -(i + 1), suppressed[i], e));
    for (int i = 0; i < top; i++) TRY(add_logit(p, card, i + 1, promoted[i], e));
done:
    return rc;
}

static err_code make_card(const pass *p, worker *w, int64_t feature, feature_card *card, err *e) {
    *card = (feature_card){
        .stats = {.id = feature, .interpretability = NAN, .selectivity = NAN, .neighbour = NAN, .output = NAN}};
    err_code rc;
    count_firing(p, &card->stats);
    describe_tokens(p, w, &card->stats);
    TRY(examples_fill(&p->rows.index, &p->postings, feature, &w->examples, card, e));
    TRY(add_label(p, w, card, e));
    TRY(add_pairs(p, w, card, e));
    if (p->model) TRY(add_logits(p, card, e));
    if (p->output_scores) card->stats.output = p->output_scores[feature];
done:
    return rc;
}

/* ---- all features ---- */

static err_code put_card(feature_db_writer *w, const feature_card *card, err *e) {
    strbuf contexts = STRBUF_INIT;
    for (int64_t i = 0; i < card->n_examples && i < CONTEXT_EXAMPLES; i++)
        strbuf_addf(&contexts, "%s%s%s\n", card->examples[i].before, card->examples[i].focus, card->examples[i].after);
    err_code rc = strbuf_check(&contexts, e);
    if (!rc) rc = feature_db_put_card(w, card, contexts.data, e);
    strbuf_release(&contexts);
    return rc;
}

static err_code put_features(const ctx *c, pass *p, feature_db_writer *db, features_result *result, err *e) {
    int64_t n = p->sae->cfg.d_sae;
    worker *workers = NULL;
    feature_card *cards = NULL;
    err_code rc;
    TRY(mem_new0(&workers, (size_t)c->threads, sizeof *workers, "feature scratch", e));
    TRY(mem_new0(&cards, CARD_BLOCK, sizeof *cards, "feature cards", e));
    for (int i = 0; i < c->threads; i++) TRY(worker_init(&workers[i], p, e));
    for (int64_t first = 0; first < n; first += CARD_BLOCK) {
        int64_t block = n - first < CARD_BLOCK ? n - first : CARD_BLOCK;
        err_code failed = ERR_OK;
        TRY(ctx_check_cancel(c, e));
        ctx_report(c, &(progress){.stage = "describe", .unit = "features", .done = first, .total = n});
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 4)
        for (int64_t i = 0; i < block; i++) {
            err mine;
            err_code code = make_card(p, &workers[omp_get_thread_num()], first + i, &cards[i], &mine);
            if (code)
#pragma omp critical
            {
                failed = code;
                if (e) *e = mine;
            }
        }
        rc = failed;
        for (int64_t i = 0; i < block; i++) {
            if (!rc) rc = put_card(db, &cards[i], e);
            result->alive += cards[i].stats.fires > 0;
            feature_card_release(&cards[i]);
        }
        if (rc) goto done;
    }
    ctx_report(c, &(progress){.stage = "describe", .unit = "features", .done = n, .total = n});
done:
    for (int i = 0; workers && i < c->threads; i++) worker_release(&workers[i]);
    free(workers);
    free(cards);
    return rc;
}

/* ---- meta ---- */

static err_code put_number(feature_db_writer *db, const char *key, int64_t value, err *e) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    return feature_db_put_meta(db, key, text, e);
}

static err_code put_about(pass *p, feature_db_writer *db, const char *activations, const char *sae_folder, err *e) {
    const store_info *info = p->rows.info;
    const store_hook *hook = p->rows.hook;
    char model_path[PATH_MAX] = "";
    const char *named = p->opts->model ? p->opts->model : info->model_path;
    if (named && !realpath(named, model_path)) snprintf(model_path, sizeof model_path, "%s", named);
    err_code rc;
    TRY(feature_db_put_meta_path(db, "sae", sae_folder, e));
    TRY(feature_db_put_meta_path(db, "activations", activations, e));
    TRY(feature_db_put_meta_path(db, "codes", p->codes_path, e));
    TRY(feature_db_put_meta(db, "model", model_path, e));
    TRY(feature_db_put_meta(db, "model_name", info->model_name ? info->model_name : "", e));
    TRY(feature_db_put_meta(db, "model_sha256", info->model_sha256 ? info->model_sha256 : "", e));
    TRY(feature_db_put_meta(db, "sae_sha256", p->sae->sha256, e));
    TRY(feature_db_put_meta(db, "hook_name", hook->name, e));
    TRY(feature_db_put_meta(db, "lens", !p->model ? "none" : p->opts->lens_raw ? "raw" : "standard deviations", e));
    TRY(feature_db_put_meta(db, "command", p->opts->command ? p->opts->command : "", e));
    TRY(put_number(db, "rows", info->n_rows, e));
    TRY(put_number(db, "tokens", info->n_tokens, e));
    TRY(put_number(db, "docs", info->n_docs, e));
    TRY(put_number(db, "context", info->context, e));
    TRY(put_number(db, "skip_first", info->skip_first, e));
    TRY(put_number(db, "seed", (int64_t)p->opts->seed, e));
    for (int64_t d = 0; d < p->rows.corpus.n_docs; d++) TRY(feature_db_put_doc(db, d, p->rows.corpus.doc_source[d], e));
done:
    return rc;
}

/* ---- the whole ---- */

/* "study/features.db" -> "study/features.codes.h5" */
static err_code name_codes(const char *db, char **out, err *e) {
    size_t stem = strlen(db);
    if (stem > 3 && !strcmp(db + stem - 3, ".db")) stem -= 3;
    strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "%.*s.codes.h5", (int)stem, db);
    *out = strbuf_detach(&s);
    return *out ? ERR_OK : err_nomem(e, "a path", stem);
}

static double entropy_of_tokens(const corpus_index *x) {
    double entropy = 0;
    int64_t n = x->corpus->n_tokens;
    for (int64_t v = 0; v < x->vocab.n; v++) {
        int64_t count = x->of_token_start[v + 1] - x->of_token_start[v];
        if (count) entropy -= (double)count / (double)n * log((double)count / (double)n);
    }
    return entropy;
}

static err_code compare_directions(const ctx *c, pass *p, err *e) {
    const sae_config *cfg = &p->sae->cfg;
    p->n_neighbours = cfg->d_sae - 1 < NEIGHBOURS ? (int)cfg->d_sae - 1 : NEIGHBOURS;
    err_code rc;
    TRY(mem_new0(&p->neighbours, (size_t)cfg->d_sae, (size_t)p->n_neighbours * sizeof *p->neighbours, "decoder neighbours",
                 e));
    if (p->n_neighbours) TRY(decoder_neighbours(c, p->sae->W_dec, cfg->d_sae, cfg->d_out, p->n_neighbours, p->neighbours, e));
    if (!p->model) goto done;
    TRY(logit_lens(c, p->model, p->sae->W_dec, cfg->d_sae, LENS_TOP, p->opts->lens_raw, &p->lens, e));
    if (!p->opts->output_scores) goto done;
    hook_point at;
    TRY(model_hook_point(p->model, p->rows.hook->name, &at, e));
    TRY(mem_new(&p->output_scores, (size_t)cfg->d_sae, sizeof *p->output_scores, "output scores", e));
    TRY(output_scores(c, p->model, p->sae, at, &p->postings, &p->lens, p->output_scores, e));
done:
    return rc;
}

static void pass_release(pass *p) {
    lens_top_release(&p->lens);
    free(p->output_scores);
    free(p->neighbours);
    postings_release(&p->postings);
    sparse_release(&p->codes);
    label_index_free(p->labels);
    model_close(p->model);
    sae_free(p->sae);
    row_source_release(&p->rows);
    free(p->codes_path);
}

err_code features_build(const ctx *c, const char *activations, const char *sae_folder, const char *out_db,
                        const features_opts *o, features_result *result, err *e) {
    pass p = {.opts = o, .started = now()};
    feature_db_writer *db = NULL;
    *result = (features_result){0};
    err_code rc;
    TRY(name_codes(out_db, &p.codes_path, e));
    TRY(open_inputs(c, &p, activations, sae_folder, e));
    p.text_entropy = entropy_of_tokens(&p.rows.index);
    TRY(feature_db_create(out_db, &db, e)); /* before the work: a folder that is not there is known now */
    TRY(encode_rows(c, &p, e));
    TRY(compare_directions(c, &p, e));
    TRY(put_about(&p, db, activations, sae_folder, e));
    TRY(put_features(c, &p, db, result, e));
    TRY(feature_db_finish(db, e));
    result->features = p.sae->cfg.d_sae;
    result->rows = p.codes.n_rows;
    result->seconds = now() - p.started;
    result->rows_per_second = (double)result->rows / result->seconds;
done:
    feature_db_abandon(db);
    pass_release(&p);
    return rc;
}
