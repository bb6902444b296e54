/* Which features fire on the concept and not on what could be mistaken for it.
 *
 * Everything is an item: a short stretch of rows (the last token of a mention and the few behind it) with a class, a half and a
 * cluster. An item's score for a feature is the largest activation on its rows; the same items score single coordinates of the
 * residual stream and the difference of means, so that all are compared on equal terms. */
#include "analysis/find_internal.h"

#include "core/mem.h"
#include "core/rng.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BEHIND = 2, /* tokens behind a mention that count as its */
    POSITIVES_MAX = 1200,
    HARD_MAX = 2400, /* of the corpus, shared out evenly among rivals */
    OTHERS = 1600,   /* random places */
    TEMPLATE_RIVALS = 16,
    TEMPLATE_RIVALS_MIN = 4,
    BATCH_TOKENS = 2048,
    SHUFFLES = 20,
    TEXT_BYTES_MAX = 1 << 20 /* of a file of positives or negatives */
};

/* ---- gathering items ---- */

typedef struct gathering {
    const finder *f;
    item *items;
    int64_t n;
    float *x; /* [n_rows, d] */
    int64_t n_rows, d;
    int32_t n_clusters; /* document groups come first */
    size_t cap_items, cap_x;
} gathering;

static err_code add_item(gathering *g, item_class class, int half, int32_t cluster, int64_t n_rows, float **rows, err *e) {
    err_code rc;
    TRY(mem_grow(&g->items, &g->cap_items, (size_t)g->n + 1, sizeof *g->items, "items", e));
    TRY(mem_grow(&g->x, &g->cap_x, (size_t)(g->n_rows + n_rows), (size_t)g->d * sizeof *g->x, "rows of items", e));
    g->items[g->n++] = (item){class, (uint8_t)half, cluster, g->n_rows, n_rows};
    *rows = g->x + g->n_rows * g->d;
    g->n_rows += n_rows;
done:
    return rc;
}

static int half_of_group(const finder *f, int32_t group) {
    rng r = rng_stream(f->opts->seed, RNG_SPLIT, (uint64_t)group);
    return (int)(rng_u64(&r) >> 63);
}

/* The rows of tokens from .. to of a document, as far as it goes; none of them may be missing but at the head. */
static err_code add_corpus_item(const ctx *c, gathering *g, item_class class, int64_t from, int64_t to, err *e) {
    const corpus_index *x = &g->f->rows.index;
    int32_t doc = x->token_doc[from];
    if (to >= (int64_t)x->corpus->doc_offsets[doc + 1]) to = (int64_t)x->corpus->doc_offsets[doc + 1] - 1;
    while (from <= to && x->token_row[from] < 0) from++;
    while (from <= to && x->token_row[to] < 0) to--;
    if (from > to) return ERR_OK;
    int64_t first = x->token_row[from], n = x->token_row[to] - first + 1;
    float *rows;
    err_code rc = add_item(g, class, half_of_group(g->f, x->doc_group[doc]), x->doc_group[doc], n, &rows, e);
    return rc ? rc : row_source_read(&g->f->rows, c, first, n, rows, e);
}

/* Whether tokens from .. to touch a mention of the concept or what is counted as its. */
static bool touches_concept(const finder *f, int64_t from, int64_t to) {
    int64_t low = 0, high = f->mentions.n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (f->mentions.items[middle].last + BEHIND < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low < f->mentions.n && f->mentions.items[low].first <= to;
}

/* Up to `max` of a list, evenly spaced. */
static err_code add_mentions(const ctx *c, gathering *g, item_class class, const mention_list *l, int64_t max, err *e) {
    err_code rc = ERR_OK;
    int64_t taken = l->n < max ? l->n : max;
    for (int64_t i = 0; i < taken; i++) {
        mention m = l->items[i * l->n / taken];
        if (class == ITEM_HARD && touches_concept(g->f, m.first, m.last + BEHIND)) continue;
        TRY(add_corpus_item(c, g, class, m.last, m.last + BEHIND, e));
    }
done:
    return rc;
}

static err_code add_random_places(const ctx *c, gathering *g, err *e) {
    const finder *f = g->f;
    rng r = rng_stream(f->opts->seed, RNG_CONTROL, 0);
    err_code rc = ERR_OK;
    for (int i = 0; i < OTHERS; i++) {
        int64_t token = (int64_t)f->rows.row_token[rng_below(&r, (uint64_t)f->rows.info->n_rows)];
        if (!touches_concept(f, token, token + BEHIND)) TRY(add_corpus_item(c, g, ITEM_OTHER, token, token + BEHIND, e));
    }
done:
    return rc;
}

/* ---- items from texts ---- */

typedef struct text_item { /* tokens of a batch's sequence that make an item */
    item_class class;
    int half;
    int32_t cluster;
    int64_t from, to; /* tokens of the batch, both included */
} text_item;

typedef struct text_batch {
    sequences s;
    text_item *items;
    int64_t n;
    size_t cap;
    float *x; /* [s.n_tokens, d] what the hook saw */
} text_batch;

static err_code keep_rows(void *user, const ctx *c, const hook_rows *rows, err *e) {
    (void)c, (void)e;
    text_batch *b = user;
    memcpy(b->x, rows->x, (size_t)rows->n_tokens * (size_t)rows->d_model * sizeof *b->x);
    return ERR_OK;
}

static err_code run_texts(const ctx *c, gathering *g, text_batch *b, err *e) {
    model_batch batch = {b->s.n_tokens, b->s.tokens, b->s.seq, b->s.pos};
    model_hook hook = {g->f->at, keep_rows, b};
    err_code rc = ERR_OK;
    if (!b->n) goto done;
    TRY(mem_new(&b->x, (size_t)b->s.n_tokens, (size_t)g->d * sizeof *b->x, "rows of texts", e));
    TRY(model_forward(c, g->f->model, &batch, NULL, &hook, 1, NULL, e));
    for (int64_t i = 0; i < b->n; i++) {
        const text_item *t = &b->items[i];
        float *rows;
        TRY(add_item(g, t->class, t->half, t->cluster, t->to - t->from + 1, &rows, e));
        memcpy(rows, b->x + t->from * g->d, (size_t)((t->to - t->from + 1) * g->d) * sizeof *rows);
    }
done:
    free(b->x);
    b->x = NULL;
    b->n = 0;
    sequences_clear(&b->s);
    return rc;
}

/* Appends text as a sequence whose tokens that end at bytes from+1 .. to (to 0: all) make an item with the few behind. */
static err_code add_text(const ctx *c, gathering *g, text_batch *b, token_ids *ids, const char *text, size_t to, text_item t,
                         err *e) {
    const tokenizer *tok = model_tokenizer(g->f->model);
    int64_t skip = g->f->sae->cfg.skip_first > 1 ? g->f->sae->cfg.skip_first : 1, n, last = -1;
    err_code rc;
    TRY(find_tokenize(g->f, text, true, ids, e));
    n = (int64_t)ids->len;
    size_t end = 0;
    for (int64_t i = 0; i < n && to > 0 && last < 0; i++) {
        size_t length;
        tokenizer_piece(tok, ids->ids[i], &length);
        if (!tokenizer_is_special(tok, ids->ids[i])) end += length;
        if (end >= to) last = i;
    }
    t.from = to > 0 ? last : skip;
    t.to = to > 0 && last + BEHIND < n ? last + BEHIND : n - 1;
    if (t.from < skip) t.from = skip;
    if (t.from > t.to) return ERR_OK;
    if (b->s.n_tokens + n > BATCH_TOKENS) TRY(run_texts(c, g, b, e));
    TRY(mem_grow(&b->items, &b->cap, (size_t)b->n + 1, sizeof *b->items, "items", e));
    t.from += b->s.n_tokens;
    t.to += b->s.n_tokens;
    b->items[b->n++] = t;
    TRY(sequences_add(&b->s, ids->ids, n, e));
done:
    return rc;
}

/* Names that stand where the concept does: its rivals, or what is always at hand when the corpus has too few. */
static const char *template_name(const finder *f, int i) {
    if (i < f->rivals.n && i < TEMPLATE_RIVALS) return f->rivals.items[i].text;
    i -= f->rivals.n;
    return f->rivals.n < TEMPLATE_RIVALS_MIN && i < n_find_control_words ? find_control_words[i] : NULL;
}

static err_code add_templates(const ctx *c, gathering *g, text_batch *b, token_ids *ids, err *e) {
    strbuf text = STRBUF_INIT;
    err_code rc = ERR_OK;
    for (int i = 0; i < FIND_TEMPLATES; i++) {
        text_item t = {.class = ITEM_POSITIVE, .half = i % 2, .cluster = g->n_clusters++};
        const char *name = g->f->concept;
        for (int k = 0; name; name = template_name(g->f, k++)) {
            size_t from, to;
            strbuf_reset(&text);
            find_fill_template(&text, find_templates[i], name, &from, &to);
            TRY(strbuf_check(&text, e));
            TRY(add_text(c, g, b, ids, text.data, to, t, e));
            t.class = ITEM_HARD;
        }
    }
done:
    strbuf_release(&text);
    return rc;
}

/* A file of texts, one a line: the feature may fire anywhere in them. */
static err_code add_file(const ctx *c, gathering *g, text_batch *b, token_ids *ids, const char *path, item_class class,
                         err *e) {
    char *bytes = NULL;
    size_t size;
    int64_t lines = 0, context = model_config_of(g->f->model)->n_ctx;
    err_code rc;
    TRY(file_read(path, TEXT_BYTES_MAX, &bytes, &size, e));
    char *rest = bytes;
    for (char *line; (line = strtok_r(rest, "\r\n", &rest));) {
        text_item t = {.class = class, .half = (int)(lines++ % 2), .cluster = g->n_clusters++};
        rc = find_tokenize(g->f, line, true, ids, e);
        if (!rc && (int64_t)ids->len > context)
            rc = err_set(e, ERR_FORMAT, "line %lld has %lld tokens, the model takes %lld", (long long)lines,
                         (long long)ids->len, (long long)context);
        if (!rc) rc = add_text(c, g, b, ids, line, 0, t, e);
        if (rc) {
            err_prefix(e, rc, "%s", path);
            goto done;
        }
    }
    if (lines < 2)
        rc = err_set(e, ERR_FORMAT, "%s: expected at least two texts, one a line, found %lld", path, (long long)lines);
done:
    free(bytes);
    return rc;
}

static err_code gather(const ctx *c, gathering *g, err *e) {
    const finder *f = g->f;
    text_batch b = {0};
    token_ids ids = {0};
    err_code rc;
    TRY(add_mentions(c, g, ITEM_POSITIVE, &f->mentions, POSITIVES_MAX, e));
    for (int i = 0; i < f->rivals.n; i++)
        TRY(add_mentions(c, g, ITEM_HARD, &f->rival_mentions[i], HARD_MAX / f->rivals.n, e));
    TRY(add_random_places(c, g, e));
    TRY(add_templates(c, g, &b, &ids, e));
    if (f->opts->positives) TRY(add_file(c, g, &b, &ids, f->opts->positives, ITEM_POSITIVE, e));
    if (f->opts->negatives) TRY(add_file(c, g, &b, &ids, f->opts->negatives, ITEM_HARD, e));
    TRY(run_texts(c, g, &b, e));
done:
    sequences_release(&b.s);
    free(b.items);
    free(ids.ids);
    return rc;
}

/* ---- scores of items ---- */

/* Largest activation of every feature on every item, as postings of items. */
static err_code score_features(const ctx *c, const gathering *g, postings *values, err *e) {
    const sae *s = g->f->sae;
    sparse_acts rows = {0}, items = {0};
    float *best = NULL;
    uint32_t *seen = NULL;
    err_code rc;
    TRY(sae_encode(c, s, g->x, g->n_rows, &rows, e));
    TRY(mem_new0(&best, (size_t)s->cfg.d_sae, sizeof *best, "scores", e));
    TRY(mem_new(&seen, (size_t)s->cfg.d_sae, sizeof *seen, "scores", e));
    TRY(sparse_reserve(&items, g->n, rows.indptr[g->n_rows], e));
    items.indptr[0] = 0;
    int64_t nnz = 0;
    for (int64_t i = 0; i < g->n; i++) {
        int64_t n_seen = 0, first = g->items[i].first_row;
        for (int64_t j = rows.indptr[first]; j < rows.indptr[first + g->items[i].n_rows]; j++) {
            uint32_t feature = rows.indices[j];
            if (best[feature] == 0) seen[n_seen++] = feature;
            if (rows.values[j] > best[feature]) best[feature] = rows.values[j];
        }
        for (int64_t j = 0; j < n_seen; j++) {
            if (best[seen[j]] > 0) {
                items.indices[nnz] = seen[j];
                items.values[nnz++] = best[seen[j]];
            }
            best[seen[j]] = 0;
        }
        items.indptr[i + 1] = nnz;
    }
    TRY(postings_build(s->cfg.d_sae, g->n, items.indptr, items.indices, items.values, values, e));
done:
    sparse_release(&rows);
    sparse_release(&items);
    free(best);
    free(seen);
    return rc;
}

static bool compares(const item *x, int half) { return x->half == half && x->class != ITEM_OTHER; }

static scored scored_item(const item *x, double score) { return (scored){score, x->cluster, x->class == ITEM_POSITIVE}; }

int find_choose_detectors(const ctx *c, const item *items, int64_t n, const postings *values, const double *density,
                          double *choice_auroc, int32_t *chosen, int max, err *e) {
    scored *scratch; /* [threads, n] */
    int64_t n_pos = 0, n_neg = 0;
    if (mem_new(&scratch, (size_t)c->threads, (size_t)n * sizeof *scratch, "scores", e)) return -1;
    for (int64_t i = 0; i < n; i++)
        if (compares(&items[i], 0)) items[i].class == ITEM_POSITIVE ? n_pos++ : n_neg++;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 16)
    for (int64_t f = 0; f < values->n_features; f++) {
        scored *mine = scratch + omp_get_thread_num() * n;
        int64_t k = 0;
        for (int64_t j = values->start[f]; j < values->start[f + 1]; j++)
            if (compares(&items[values->rows[j]], 0)) mine[k++] = scored_item(&items[values->rows[j]], values->values[j]);
        choice_auroc[f] = stats_auroc_sparse(mine, k, n_pos, n_neg);
    }
    free(scratch);
    top_entry best[64];
    int n_best = 0;
    if (max > 64) max = 64;
    for (int64_t f = 0; f < values->n_features; f++)
        if (choice_auroc[f] > 0.5)
            top_keep(best, &n_best, max, (top_entry){(int32_t)f, choice_auroc[f] - FIND_DENSITY_COST * density[f]});
    for (int i = 0; i < n_best; i++) chosen[i] = best[i].key;
    return n_best;
}

/* ---- the report on the other half ---- */

/* AUROC on the reporting half of what score(user, i) says of item i, against hard negatives or against random places. */
static err_code report_auroc(const item *items, int64_t n, const double *scores, item_class against, scored *scratch,
                             interval *out, err *e) {
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (items[i].half == 1 && (items[i].class == ITEM_POSITIVE || items[i].class == against))
            scratch[k++] = scored_item(&items[i], scores[i]);
    return stats_auroc_interval(scratch, k, out, e);
}

static void dense_scores(const postings *values, int64_t feature, int64_t n, double *scores) {
    for (int64_t i = 0; i < n; i++) scores[i] = 0;
    for (int64_t j = values->start[feature]; j < values->start[feature + 1]; j++) scores[values->rows[j]] = values->values[j];
}

static interval firing_rate(const gathering *g, const double *scores) {
    int64_t fires = 0, n = 0;
    for (int64_t i = 0; i < g->n; i++) {
        if (g->items[i].half != 1 || g->items[i].class != ITEM_POSITIVE) continue;
        fires += scores[i] > 0;
        n++;
    }
    return stats_wilson(fires, n);
}

/* The strongest places as one line each, the ends cut to fit. */
static void show_examples(const feature_card *card, find_detector *out) {
    enum { BEFORE_MAX = 100 };
    for (int64_t i = 0; i < card->n_examples && i < FIND_EXAMPLES && !strcmp(card->examples[i].kind, "top"); i++) {
        const feature_example *x = &card->examples[i];
        size_t skip = strlen(x->before) > BEFORE_MAX ? strlen(x->before) - BEFORE_MAX : 0;
        while (((unsigned char)x->before[skip] & 0xC0) == 0x80) skip++;
        strbuf s = STRBUF_INIT;
        strbuf_addf(&s, "%s\u00ab%s\u00bb%s", x->before + skip, x->focus, x->after);
        size_t n = s.len < FIND_EXAMPLE_MAX ? s.len : text_whole_chars(s.data, FIND_EXAMPLE_MAX - 1);
        memcpy(out->examples[i], s.data, n);
        strbuf_release(&s);
    }
}

static err_code report_detector(const gathering *g, const postings *values, int32_t feature, double density, double *scores,
                                scored *scratch, find_detector *out, err *e) {
    interval random;
    feature_card card = {0};
    err_code rc;
    dense_scores(values, feature, g->n, scores);
    *out = (find_detector){.feature = feature, .density = density, .rate = firing_rate(g, scores)};
    TRY(report_auroc(g->items, g->n, scores, ITEM_HARD, scratch, &out->auroc, e));
    TRY(report_auroc(g->items, g->n, scores, ITEM_OTHER, scratch, &random, e));
    out->auroc_random = random.value;
    TRY(feature_db_card(g->f->db, feature, &card, e));
    memcpy(out->label, card.stats.label, sizeof out->label);
    memcpy(out->top_tokens, card.stats.top_tokens, sizeof out->top_tokens);
    show_examples(&card, out);
done:
    feature_card_release(&card);
    return rc;
}

/* ---- controls ---- */

/* Largest value of sign * coordinate on the item's rows. */
static double coordinate_score(const gathering *g, int64_t i, int64_t coordinate, double sign) {
    double best = -INFINITY;
    for (int64_t r = g->items[i].first_row; r < g->items[i].first_row + g->items[i].n_rows; r++)
        best = fmax(best, sign * g->x[r * g->d + coordinate]);
    return best;
}

/* The single coordinate of the residual stream, either way round, that separates best on the choosing half. */
static err_code control_coordinate(const ctx *c, const gathering *g, double *scores, scored *scratch, find_control *out,
                                   err *e) {
    double *aurocs = NULL;
    scored *mine = NULL;
    err_code rc;
    TRY(mem_new(&aurocs, (size_t)g->d, 2 * sizeof *aurocs, "controls", e));
    TRY(mem_new(&mine, (size_t)c->threads, (size_t)g->n * sizeof *mine, "controls", e));
#pragma omp parallel for num_threads(c->threads)
    for (int64_t j = 0; j < 2 * g->d; j++) {
        scored *list = mine + omp_get_thread_num() * g->n;
        int64_t k = 0;
        for (int64_t i = 0; i < g->n; i++)
            if (compares(&g->items[i], 0))
                list[k++] = scored_item(&g->items[i], coordinate_score(g, i, j / 2, j % 2 ? -1 : 1));
        aurocs[j] = stats_auroc(list, k);
    }
    int64_t best = 0;
    for (int64_t j = 1; j < 2 * g->d; j++)
        if (aurocs[j] > aurocs[best]) best = j;
    for (int64_t i = 0; i < g->n; i++) scores[i] = coordinate_score(g, i, best / 2, best % 2 ? -1 : 1);
    snprintf(out->name, sizeof out->name, "best residual coordinate, %lld (%c)", (long long)(best / 2), best % 2 ? '-' : '+');
    TRY(report_auroc(g->items, g->n, scores, ITEM_HARD, scratch, &out->auroc, e));
done:
    free(aurocs);
    free(mine);
    return rc;
}

static void add_rows(const gathering *g, const item *x, double *sum) {
    for (int64_t r = x->first_row; r < x->first_row + x->n_rows; r++)
        for (int64_t j = 0; j < g->d; j++) sum[j] += g->x[r * g->d + j];
}

/* Projection on mean(positives) - mean(hard negatives) of the choosing half. */
static err_code control_means(const gathering *g, double *scores, scored *scratch, find_control *out, err *e) {
    double *means = NULL; /* [2, d] */
    int64_t rows[2] = {0};
    err_code rc;
    TRY(mem_new0(&means, 2 * (size_t)g->d, sizeof *means, "controls", e));
    for (int64_t i = 0; i < g->n; i++) {
        if (!compares(&g->items[i], 0)) continue;
        add_rows(g, &g->items[i], means + g->items[i].class * g->d);
        rows[g->items[i].class] += g->items[i].n_rows;
    }
    for (int64_t i = 0; i < g->n; i++) {
        scores[i] = -INFINITY;
        for (int64_t r = g->items[i].first_row; r < g->items[i].first_row + g->items[i].n_rows; r++) {
            double dot = 0;
            for (int64_t j = 0; j < g->d; j++)
                dot +=
                    g->x[r * g->d + j] * (means[j] / (double)rows[ITEM_POSITIVE] - means[g->d + j] / (double)rows[ITEM_HARD]);
            scores[i] = fmax(scores[i], dot);
        }
    }
    snprintf(out->name, sizeof out->name, "difference of means");
    TRY(report_auroc(g->items, g->n, scores, ITEM_HARD, scratch, &out->auroc, e));
done:
    free(means);
    return rc;
}

/* Classes dealt out anew among the compared items of each half, as many of each. */
static void shuffle_classes(item *items, int64_t n, uint64_t seed, uint64_t round, int64_t *places) {
    for (int half = 0; half < 2; half++) {
        int64_t k = 0;
        rng r = rng_stream(seed, RNG_CONTROL, 1 + 2 * round + (uint64_t)half);
        for (int64_t i = 0; i < n; i++)
            if (compares(&items[i], half)) places[k++] = i;
        for (int64_t i = k; i > 1; i--) {
            int64_t a = places[i - 1], b = places[rng_below(&r, (uint64_t)i)];
            item_class swap = items[a].class;
            items[a].class = items[b].class;
            items[b].class = swap;
        }
    }
}

/* The same search where there is nothing to find: mean of the best features' AUROC, and the extremes. */
static err_code control_shuffled(const ctx *c, const gathering *g, const postings *values, const double *density,
                                 double *scores, scored *scratch, find_control *out, err *e) {
    item *items = NULL;
    int64_t *places = NULL;
    double *choice = NULL;
    interval all = {0, 1, 0};
    err_code rc;
    TRY(mem_new(&items, (size_t)g->n, sizeof *items, "controls", e));
    TRY(mem_new(&places, (size_t)g->n, sizeof *places, "controls", e));
    TRY(mem_new(&choice, (size_t)values->n_features, sizeof *choice, "controls", e));
    for (int round = 0; round < SHUFFLES; round++) {
        int32_t best;
        interval auroc;
        memcpy(items, g->items, (size_t)g->n * sizeof *items);
        shuffle_classes(items, g->n, g->f->opts->seed, (uint64_t)round, places);
        int n = find_choose_detectors(c, items, g->n, values, density, choice, &best, 1, e);
        if (n < 0) {
            rc = ERR_NOMEM;
            goto done;
        }
        auroc.value = 0.5;
        if (n) {
            dense_scores(values, best, g->n, scores);
            TRY(report_auroc(items, g->n, scores, ITEM_HARD, scratch, &auroc, e));
        }
        all.value += auroc.value / SHUFFLES;
        all.low = fmin(all.low, auroc.value);
        all.high = fmax(all.high, auroc.value);
    }
    snprintf(out->name, sizeof out->name, "shuffled labels, mean and range of %d", SHUFFLES);
    out->auroc = all;
done:
    free(items);
    free(places);
    free(choice);
    return rc;
}

/* ---- the stage ---- */

static void count_reported(const gathering *g, find_result *out) {
    for (int64_t i = 0; i < g->n; i++)
        if (compares(&g->items[i], 1)) g->items[i].class == ITEM_POSITIVE ? out->positives++ : out->negatives++;
}

static err_code report(const ctx *c, const gathering *g, const postings *values, const double *density, double *choice_auroc,
                       find_result *out, err *e) {
    double *scores = NULL;
    scored *scratch = NULL;
    int32_t *chosen = NULL;
    int max = g->f->opts->n_detectors;
    err_code rc;
    TRY(mem_new(&scores, (size_t)g->n, sizeof *scores, "scores", e));
    TRY(mem_new(&scratch, (size_t)g->n, sizeof *scratch, "scores", e));
    TRY(mem_new(&chosen, (size_t)max, sizeof *chosen, "detectors", e));
    TRY(mem_new0(&out->detectors, (size_t)max, sizeof *out->detectors, "detectors", e));
    int n = find_choose_detectors(c, g->items, g->n, values, density, choice_auroc, chosen, max, e);
    if (n < 0) {
        rc = ERR_NOMEM;
        goto done;
    }
    for (int i = 0; i < n; i++) {
        TRY(report_detector(g, values, chosen[i], density[chosen[i]], scores, scratch, &out->detectors[i], e));
        out->n_detectors++;
    }
    TRY(control_coordinate(c, g, scores, scratch, &out->controls[0], e));
    TRY(control_means(g, scores, scratch, &out->controls[1], e));
    TRY(control_shuffled(c, g, values, density, scores, scratch, &out->controls[2], e));
    out->n_controls = 3;
done:
    free(scores);
    free(scratch);
    free(chosen);
    return rc;
}

err_code find_detect_run(const ctx *c, const finder *f, find_result *out, double *choice_auroc, err *e) {
    gathering g = {.f = f, .d = f->sae->cfg.d_in, .n_clusters = f->rows.index.n_groups};
    postings values = {0};
    double *density = NULL;
    err_code rc;
    TRY(mem_new(&density, (size_t)f->sae->cfg.d_sae, sizeof *density, "densities", e));
    for (int64_t i = 0; i < f->sae->cfg.d_sae; i++)
        density[i] = (double)postings_fires(&f->codes, i) / (double)f->codes.n_rows;
    TRY(gather(c, &g, e));
    TRY(score_features(c, &g, &values, e));
    count_reported(&g, out);
    TRY(report(c, &g, &values, density, choice_auroc, out, e));
done:
    free(g.items);
    free(g.x);
    postings_release(&values);
    free(density);
    return rc;
}
