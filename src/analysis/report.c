#include "analysis/report_internal.h"

#include "core/file.h"
#include "core/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOP_FEATURES = 24,
    EXAMPLES_SHOWN = 5,
    OUTPUTS_SHOWN = 12,
    CHOICE_SHOWN = 40,
    METRICS_BYTES_MAX = 16 << 20,
    LINES_MAX = 4000 /* of metrics in a figure */
};

typedef struct report {
    const ctx *c;
    const report_inputs *in;
    feature_db *db; /* NULL: there is none */
    char *scratch;  /* path of a figure while it is drawn */
    strbuf h;
    bool said_no_gnuplot;
} report;

/* ---- reading JSON ---- */

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static double number_of(const json_t *object, const char *key) {
    const json_t *x = json_object_get(object, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static const json_t *stage_of(const report *r, const char *name) {
    size_t i;
    json_t *stage;
    json_array_foreach(json_object_get(r->in->study, "stages"), i,
                       stage) if (!strcmp(text_of(stage, "name"), name)) return stage;
    return NULL;
}

static const json_t *result_of(const report *r, const char *stage) { return json_object_get(stage_of(r, stage), "result"); }

/* ---- small pieces ---- */

static void heading(strbuf *h, const char *text) { strbuf_addf(h, "<h2>%s</h2>\n", text); }

static void paragraph(strbuf *h, const char *class, const char *text) {
    strbuf_addf(h, *class ? "<p class=%s>" : "<p%s>", class);
    html_text(h, text);
    strbuf_add_str(h, "</p>\n");
}

static void interval_cell(strbuf *h, double low, double high, const char *format) {
    strbuf_add_str(h, "<td class=n>");
    if (isfinite(low) && isfinite(high)) {
        strbuf_addf(h, format, low);
        strbuf_add_str(h, " – ");
        strbuf_addf(h, format, high);
    } else {
        strbuf_add_str(h, "–");
    }
    strbuf_add_str(h, "</td>");
}

/* 1234567 as 1,234,567 */
static void add_count(strbuf *h, double x) {
    char digits[32];
    if (!isfinite(x) || fabs(x) > 1e15) {
        strbuf_add_str(h, "–");
        return;
    }
    int n = snprintf(digits, sizeof digits, "%.0f", x);
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0 && digits[i - 1] != '-') strbuf_add_char(h, ',');
        strbuf_add_char(h, digits[i]);
    }
}

/* Names and values, a line each, between facts_begin and facts_end. */
static void facts_begin(strbuf *h) { strbuf_add_str(h, "<table class=facts>\n"); }
static void facts_end(strbuf *h) { strbuf_add_str(h, "</table>\n"); }

static void fact_text(strbuf *h, const char *name, const char *text) {
    if (!*text) return;
    strbuf_addf(h, "<tr><th>%s</th>", name);
    html_cell(h, text);
    strbuf_add_str(h, "</tr>\n");
}

static void fact_count(strbuf *h, const char *name, double x) {
    if (!isfinite(x)) return;
    strbuf_addf(h, "<tr><th>%s</th><td>", name);
    add_count(h, x);
    strbuf_add_str(h, "</td></tr>\n");
}

static void fact_real(strbuf *h, const char *name, const char *format, double x) {
    char text[64];
    if (!isfinite(x)) return;
    snprintf(text, sizeof text, format, x);
    fact_text(h, name, text);
}

/* Draws the script, or says once that gnuplot is missing. */
static err_code figure(report *r, const char *script, const char *caption, bool *drawn, err *e) {
    strbuf svg = STRBUF_INIT;
    err_code rc;
    TRY(plot_svg(script, r->scratch, &svg, drawn, e));
    if (*drawn) {
        strbuf_add_str(&r->h, "<figure>");
        strbuf_add(&r->h, svg.data, svg.len);
        strbuf_addf(&r->h, "<figcaption>%s</figcaption></figure>\n", caption);
    } else if (!r->said_no_gnuplot) {
        r->said_no_gnuplot = true;
        paragraph(&r->h, "note",
                  "gnuplot did not draw (is gnuplot-nox installed?): figures are shown as tables of their numbers.");
        ctx_log(r->c, LOG_NOTE, "gnuplot did not draw: the report shows tables in place of figures");
    }
    TRY(strbuf_check(&svg, e));
done:
    strbuf_release(&svg);
    return rc;
}

static const char plot_head[] = "set terminal svg size 900,300 dynamic font 'sans-serif,13'\n"
                                "set border 3 lw 0.7\nset tics nomirror out scale 0.5\nset key top right samplen 1.5\n"
                                "set grid ytics lw 0.4 lc rgb '#88909a'\n";

/* ---- head ---- */

static void title(report *r) {
    strbuf *h = &r->h;
    const json_t *study = r->in->study, *m = json_object_get(study, "model");
    const char *concept = text_of(study, "concept");
    strbuf_add_str(h, "<h1>");
    if (*concept) {
        html_text(h, concept);
        strbuf_add_str(h, " in ");
    }
    html_text(h, text_of(m, "name"));
    strbuf_add_str(h, "</h1>\n<p class=lead>Features of a sparse autoencoder at <code>");
    html_text(h, text_of(study, "hook"));
    strbuf_add_str(h, "</code></p>\n");
}

static void finding_detector(report *r) {
    strbuf *h = &r->h;
    const json_t *d = json_array_get(json_object_get(r->in->find, "detectors"), 0);
    if (!d) return;
    strbuf_addf(h, "<li><b>Detected</b> best by feature %.0f (", number_of(d, "feature"));
    html_text(h, text_of(d, "label"));
    strbuf_addf(h,
                "): AUROC %.3f, 95 %% interval %.3f – %.3f against hard negatives; it fires on %.2f %% of all rows.</li>\n",
                number_of(d, "auroc"), number_of(d, "low"), number_of(d, "high"), 100 * number_of(d, "density"));
}

static void finding_cause(report *r) {
    strbuf *h = &r->h;
    const json_t *k = json_array_get(json_object_get(r->in->find, "causes"), 0);
    if (!k) return;
    strbuf_addf(h, "<li><b>Caused</b> best by feature %.0f (", number_of(k, "feature"));
    html_text(h, text_of(k, "label"));
    strbuf_addf(h, "): clamped at %.1f× its maximum it adds %.1f nats to the concept's log-probability.</li>\n",
                number_of(k, "multiple"), number_of(k, "delta_logprob"));
}

/* The best arm of the report beside the unsteered one. */
static void finding_steering(report *r) {
    strbuf *h = &r->h;
    const json_t *s = r->in->steering, *arms = json_object_get(s, "arms"), *unsteered = json_array_get(arms, 0);
    size_t i;
    json_t *arm;
    json_array_foreach(arms, i, arm) {
        if (i == 0 || strcmp(text_of(arm, "arm"), text_of(s, "best"))) continue;
        strbuf_add_str(h, "<li><b>Steered</b> with ");
        html_text(h, text_of(arm, "arm"));
        strbuf_addf(
            h, ", %.0f of %.0f continuations of neutral prompts mention the concept or its words; unsteered %.0f.</li>\n",
            number_of(arm, "mentions"), number_of(arm, "n"), number_of(unsteered, "mentions"));
        return;
    }
}

static void findings(report *r) {
    const json_t *gate = json_object_get(r->in->find, "gate");
    if (!gate) return;
    strbuf_add_str(&r->h, "<ul class=findings><li>");
    html_text(&r->h, text_of(gate, "sentence"));
    strbuf_add_str(&r->h, "</li>\n");
    finding_detector(r);
    finding_cause(r);
    finding_steering(r);
    strbuf_add_str(&r->h, "</ul>\n");
}

/* ---- what was captured ---- */

static void captured(report *r) {
    strbuf *h = &r->h;
    const json_t *m = json_object_get(r->in->study, "model"), *k = result_of(r, "capture");
    heading(h, "What was captured");
    facts_begin(h);
    fact_text(h, "Model", text_of(m, "name"));
    fact_text(h, "File", text_of(m, "path"));
    fact_text(h, "SHA-256", text_of(m, "sha256"));
    fact_text(h, "Architecture", text_of(m, "architecture"));
    fact_count(h, "Layers", number_of(m, "n_layers"));
    fact_count(h, "d_model", number_of(m, "d_model"));
    fact_text(h, "Hook", text_of(r->in->study, "hook"));
    fact_text(h, "Corpus", text_of(k, "corpus"));
    fact_count(h, "Documents", number_of(k, "documents"));
    fact_count(h, "Tokens", number_of(k, "tokens"));
    fact_count(h, "Rows", number_of(k, "rows"));
    fact_count(h, "Context length", number_of(k, "context"));
    fact_count(h, "Positions left out at the head of a document", number_of(k, "skip_first"));
    facts_end(h);
}

/* ---- training ---- */

typedef struct curve {
    double *rows, *fvu, *dead; /* [n] */
    int n;
} curve;

static int column_of(const char *line, const char *name) {
    for (int i = 0; *line && *line != '\n'; i++) {
        size_t n = strcspn(line, ",\r\n");
        if (n == strlen(name) && !memcmp(line, name, n)) return i;
        line += n + (line[n] == ',');
    }
    return -1;
}

static double field(const char *line, int column) {
    for (; column > 0; column--) {
        line += strcspn(line, ",\n");
        if (*line != ',') return NAN;
        line++;
    }
    char *end;
    double x = strtod(line, &end);
    return end == line ? NAN : x;
}

static err_code read_curve(const char *path, curve *out, err *e) {
    char *csv = NULL;
    size_t size;
    err_code rc;
    TRY(file_read(path, METRICS_BYTES_MAX, &csv, &size, e));
    int rows = column_of(csv, "rows"), fvu = column_of(csv, "fvu"), dead = column_of(csv, "dead");
    TRY(mem_new(&out->rows, LINES_MAX, sizeof *out->rows, "a curve", e));
    TRY(mem_new(&out->fvu, LINES_MAX, sizeof *out->fvu, "a curve", e));
    TRY(mem_new(&out->dead, LINES_MAX, sizeof *out->dead, "a curve", e));
    if (rows < 0 || fvu < 0) goto done;
    for (const char *line = csv + strcspn(csv, "\n"); *line == '\n' && line[1] && out->n < LINES_MAX;) {
        line++;
        out->rows[out->n] = field(line, rows);
        out->fvu[out->n] = field(line, fvu);
        out->dead[out->n] = dead < 0 ? NAN : field(line, dead);
        out->n += isfinite(out->rows[out->n]) && isfinite(out->fvu[out->n]);
        line += strcspn(line, "\n");
    }
done:
    free(csv);
    return rc;
}

static void curve_script(strbuf *s, const curve *k) {
    strbuf_add_str(s, plot_head);
    strbuf_add_str(s, "$data << EOD\n");
    for (int i = 0; i < k->n; i++)
        strbuf_addf(s, "%.6g %.6g %.6g\n", k->rows[i] / 1e6, k->fvu[i], isfinite(k->dead[i]) ? 100 * k->dead[i] : 0);
    strbuf_add_str(s, "EOD\nset xlabel 'million rows'\nset ylabel 'held-out FVU'\nset y2label 'dead latents, %'\n"
                      "set border 11 lw 0.7\nset ytics nomirror\nset y2tics nomirror out scale 0.5\nset xrange [0:*]\nset "
                      "yrange [0:*]\nset y2range [0:*]\n"
                      "plot $data using 1:2 with lines lw 2.2 lc rgb '#0b72d4' title 'FVU', "
                      "$data using 1:3 axes x1y2 with lines lw 1.6 lc rgb '#e07b00' title 'dead'\n");
}

static void curve_table(strbuf *h, const curve *k) {
    static const char *const columns[] = {"rows#", "held-out FVU#", "dead, %#"};
    int step = k->n > 20 ? k->n / 20 : 1;
    html_table_begin(h, columns, 3);
    for (int i = 0; i < k->n; i += step) {
        html_row(h);
        html_number(h, "%.0f", k->rows[i]);
        html_number(h, "%.4f", k->fvu[i]);
        html_number(h, "%.2f", 100 * k->dead[i]);
    }
    html_table_end(h);
}

static err_code training(report *r, err *e) {
    strbuf *h = &r->h, script = STRBUF_INIT;
    const json_t *t = result_of(r, "train");
    curve k = {0};
    bool drawn = false;
    err_code rc = ERR_OK;
    if (!t) return ERR_OK;
    heading(h, "The autoencoder");
    if (r->in->metrics && file_exists(r->in->metrics)) TRY(read_curve(r->in->metrics, &k, e));
    if (k.n > 1) {
        curve_script(&script, &k);
        TRY(strbuf_check(&script, e));
        TRY(figure(r, script.data,
                   "Share of variance left unexplained (FVU) on rows never trained on, and latents that no "
                   "longer fire, during training.",
                   &drawn, e));
        if (!drawn) curve_table(h, &k);
    }
    facts_begin(h);
    fact_text(h, "Variant", text_of(t, "variant"));
    fact_count(h, "Latents (d_sae)", number_of(t, "d_sae"));
    fact_count(h, "Active at a time (k)", number_of(t, "k"));
    fact_count(h, "Rows trained on", number_of(t, "rows"));
    fact_real(h, "Held-out FVU", "%.4f", number_of(t, "fvu"));
    fact_real(h, "L0", "%.1f", number_of(t, "l0"));
    fact_real(h, "Dead latents", "%.2f %%", 100 * number_of(t, "dead"));
    fact_text(h, "From", text_of(t, "sae"));
    facts_end(h);
done:
    free(k.rows);
    free(k.fvu);
    free(k.dead);
    strbuf_release(&script);
    return rc;
}

/* {"fvu": {value, low, high}, ..}: every member with an interval is a line. */
static void evaluation(report *r) {
    static const char *const columns[] = {"measure", "value#", "95 % interval#"};
    strbuf *h = &r->h;
    const char *name;
    json_t *x;
    if (!r->in->eval) return;
    strbuf_add_str(h, "<h3>Spliced into the model</h3>\n");
    paragraph(h, "",
              "The model's rows at the hook are replaced by their reconstruction. Delta CE is what that costs in nats per "
              "token; CE recovered is 1 when it costs nothing and 0 when it costs as much as removing the rows.");
    html_table_begin(h, columns, 3);
    json_object_foreach((json_t *)r->in->eval, name, x) {
        if (!json_is_object(x) || !json_object_get(x, "low")) continue;
        html_row(h);
        html_cell(h, name);
        html_number(h, "%.4g", number_of(x, "value"));
        interval_cell(h, number_of(x, "low"), number_of(x, "high"), "%.4g");
    }
    html_table_end(h);
}

/* ---- features ---- */

enum { DENSITY_BINS_PER_DECADE = 5, DENSITY_DECADES = 7, DENSITY_BINS = DENSITY_BINS_PER_DECADE * DENSITY_DECADES };

static double bin_low(int bin) { return pow(10, (double)bin / DENSITY_BINS_PER_DECADE - DENSITY_DECADES); }

static void count_densities(const feature_stats *all, int64_t n, int64_t *bins, int64_t *dead) {
    for (int64_t i = 0; i < n; i++) {
        if (!(all[i].density > 0)) {
            (*dead)++;
            continue;
        }
        int bin = (int)floor(DENSITY_BINS_PER_DECADE * (log10(all[i].density) + DENSITY_DECADES));
        bins[bin < 0 ? 0 : bin >= DENSITY_BINS ? DENSITY_BINS - 1 : bin]++;
    }
}

/* On a linear axis of logarithms: gnuplot's boxes have one width there. */
static void density_script(strbuf *s, const int64_t *bins, int first, int last) {
    strbuf_add_str(s, plot_head);
    strbuf_add_str(s, "$data << EOD\n");
    for (int i = first; i <= last; i++)
        strbuf_addf(s, "%.4f %lld\n", log10(bin_low(i)) + 0.5 / DENSITY_BINS_PER_DECADE, (long long)bins[i]);
    strbuf_addf(s, "EOD\nset xrange [%.4f:%.4f]\nset xtics ()\n", log10(bin_low(first)), log10(bin_low(last + 1)));
    for (int decade = -DENSITY_DECADES; decade <= 0; decade++)
        strbuf_addf(s, "set xtics add ('10^{%d}' %d)\n", decade, decade);
    strbuf_addf(s,
                "set xlabel 'share of rows on which a feature fires'\nset ylabel 'features'\nset yrange [0:*]\n"
                "set style fill solid 0.75 noborder\nset boxwidth %.3f\nunset key\n"
                "plot $data using 1:2 with boxes lc rgb '#0b72d4'\n",
                0.9 / DENSITY_BINS_PER_DECADE);
}

static void density_table(strbuf *h, const int64_t *bins, int first, int last) {
    static const char *const columns[] = {"fires on a share of rows from#", "to#", "features#"};
    html_table_begin(h, columns, 3);
    for (int i = first; i <= last; i++) {
        html_row(h);
        html_number(h, "%.2g", bin_low(i));
        html_number(h, "%.2g", bin_low(i + 1));
        html_number(h, "%.0f", (double)bins[i]);
    }
    html_table_end(h);
}

static err_code densities(report *r, err *e) {
    feature_query every = {.sort = "id", .with_dead = true};
    feature_stats *all = NULL;
    strbuf script = STRBUF_INIT;
    int64_t n = 0, dead = 0, bins[DENSITY_BINS] = {0};
    int first = 0, last = DENSITY_BINS - 1;
    bool drawn;
    err_code rc;
    TRY(feature_db_count(r->db, &every.limit, e));
    TRY(feature_db_list(r->db, &every, &all, &n, e));
    count_densities(all, n, bins, &dead);
    strbuf_add_str(&r->h, "<p>");
    add_count(&r->h, (double)n);
    strbuf_add_str(&r->h, " latents, of which ");
    add_count(&r->h, (double)(n - dead));
    strbuf_add_str(&r->h, " fire somewhere in the corpus.</p>\n");
    while (first < last && !bins[first]) first++;
    while (last > first && !bins[last]) last--;
    density_script(&script, bins, first, last);
    TRY(strbuf_check(&script, e));
    TRY(figure(r, script.data, "How often features fire.", &drawn, e));
    if (!drawn) density_table(&r->h, bins, first, last);
done:
    free(all);
    strbuf_release(&script);
    return rc;
}

static void add_logits(strbuf *h, const feature_card *card) {
    bool any = false;
    for (int64_t i = 0; i < card->n_logits; i++) {
        if (card->logits[i].rank < 1 || card->logits[i].rank > 8) continue;
        strbuf_add_str(h, any ? ", " : "<p class=note>Promotes ");
        strbuf_add_str(h, "<code>");
        html_text(h, card->logits[i].piece);
        strbuf_add_str(h, "</code>");
        any = true;
    }
    if (any) strbuf_add_str(h, "</p>\n");
}

/* A feature that opens to its strongest places. */
static err_code feature_entry(report *r, int64_t feature, bool open, err *e) {
    feature_card card = {0};
    strbuf *h = &r->h;
    int shown = 0;
    err_code rc = feature_db_card(r->db, feature, &card, e);
    if (rc) return rc;
    strbuf_addf(h, "<details%s><summary><code>%" PRId64 "</code> <b>", open ? " open" : "", feature);
    html_text(h, *card.stats.label ? card.stats.label : card.stats.top_tokens);
    strbuf_add_str(h, "</b><span class=note>");
    if (isfinite(card.stats.interpretability)) strbuf_addf(h, "label's held-out F1 %.2f · ", card.stats.interpretability);
    strbuf_addf(h, "fires on %.3g %% of rows · max %.3g</span></summary>\n", 100 * card.stats.density, card.stats.max);
    for (int64_t i = 0; i < card.n_examples && shown < EXAMPLES_SHOWN; i++) {
        if (strcmp(card.examples[i].kind, "top")) continue;
        html_example(h, &card.examples[i], card.stats.max);
        shown++;
    }
    add_logits(h, &card);
    strbuf_add_str(h, "</details>\n");
    feature_card_release(&card);
    return ERR_OK;
}

static err_code top_features(report *r, err *e) {
    feature_query best = {.sort = "interpretability", .limit = TOP_FEATURES, .min_fires = 50};
    feature_stats *found = NULL;
    int64_t n = 0;
    err_code rc;
    heading(&r->h, "The features");
    TRY(densities(r, e));
    TRY(feature_db_list(r->db, &best, &found, &n, e));
    strbuf_add_str(&r->h, "<h3>Those whose label predicts best where they fire</h3>\n");
    paragraph(&r->h, "",
              "A label is the shortest rule over tokens and words that predicts firing; its F1 is measured on documents that "
              "did not choose it. Below each, its strongest places: the deeper the colour, the stronger it fires.");
    for (int64_t i = 0; i < n; i++) TRY(feature_entry(r, found[i].id, i < 3, e));
done:
    free(found);
    return rc;
}

/* ---- the concept ---- */

static void detectors(report *r) {
    static const char *const columns[] = {
        "feature#", "label", "AUROC#", "95 % interval#", "against other text#", "fires on mentions, %#", "density, %#"};
    strbuf *h = &r->h;
    size_t i;
    json_t *d;
    strbuf_add_str(h, "<h3>Detectors: features that fire on it</h3>\n");
    paragraph(h, "",
              "Mentions of the concept against hard negatives: other names in the same places and the same sentences. "
              "Chosen on one half of documents and templates, measured on the other.");
    html_table_begin(h, columns, 7);
    json_array_foreach(json_object_get(r->in->find, "detectors"), i, d) {
        html_row(h);
        html_number(h, "%.0f", number_of(d, "feature"));
        html_cell(h, text_of(d, "label"));
        html_number(h, "%.3f", number_of(d, "auroc"));
        interval_cell(h, number_of(d, "low"), number_of(d, "high"), "%.3f");
        html_number(h, "%.3f", number_of(d, "auroc_random"));
        html_number(h, "%.0f", 100 * number_of(d, "rate"));
        html_number(h, "%.3g", 100 * number_of(d, "density"));
    }
    json_array_foreach(json_object_get(r->in->find, "controls"), i, d) {
        html_row(h);
        strbuf_add_str(h, "<td class=n>–</td>");
        html_cell(h, text_of(d, "name"));
        html_number(h, "%.3f", number_of(d, "auroc"));
        interval_cell(h, number_of(d, "low"), number_of(d, "high"), "%.3f");
        strbuf_add_str(h, "<td class=n>–</td><td class=n>–</td><td class=n>–</td>");
    }
    html_table_end(h);
}

static void causes(report *r) {
    static const char *const columns[] = {"feature#",       "label",          "clamped at#",    "× max#", "change, nats#",
                                          "95 % interval#", "related words#", "control words#", "KL#",    "repetition#"};
    strbuf *h = &r->h;
    size_t i;
    json_t *k;
    strbuf_add_str(h, "<h3>Causes: features that make the model say it</h3>\n");
    paragraph(
        h, "",
        "What clamping the feature on neutral prompts does to the log-probability of the concept, of words that go with "
        "it, and of unrelated control words, which rise too when a feature merely breaks the model.");
    html_table_begin(h, columns, 10);
    json_array_foreach(json_object_get(r->in->find, "causes"), i, k) {
        html_row(h);
        html_number(h, "%.0f", number_of(k, "feature"));
        html_cell(h, text_of(k, "label"));
        html_number(h, "%.3g", number_of(k, "strength"));
        html_number(h, "%.1f", number_of(k, "multiple"));
        html_number(h, "%+.2f", number_of(k, "delta_logprob"));
        interval_cell(h, number_of(k, "low"), number_of(k, "high"), "%+.2f");
        html_number(h, "%+.2f", number_of(k, "delta_words"));
        html_number(h, "%+.2f", number_of(k, "delta_control"));
        html_number(h, "%.2f", number_of(k, "kl"));
        html_number(h, "%.3f", number_of(k, "repetition"));
    }
    html_table_end(h);
}

/* The best of a list, with their examples. */
static err_code best_entries(report *r, const char *list, int max, err *e) {
    size_t i;
    json_t *x;
    err_code rc = ERR_OK;
    json_array_foreach(json_object_get(r->in->find, list), i, x) {
        if ((int)i == max || !r->db) break;
        TRY(feature_entry(r, (int64_t)number_of(x, "feature"), i == 0, e));
    }
done:
    return rc;
}

static err_code concept(report *r, err *e) {
    const json_t *f = r->in->find;
    err_code rc = ERR_OK;
    if (!f) return ERR_OK;
    strbuf_add_str(&r->h, "<h2>Where “");
    html_text(&r->h, text_of(f, "concept"));
    strbuf_add_str(&r->h, "” is</h2>\n");
    paragraph(&r->h, "", text_of(json_object_get(f, "gate"), "sentence"));
    if (json_array_size(json_object_get(f, "detectors"))) {
        detectors(r);
        TRY(best_entries(r, "detectors", 3, e));
    }
    if (json_array_size(json_object_get(f, "causes"))) {
        causes(r);
        TRY(best_entries(r, "causes", 4, e));
    }
done:
    return rc;
}

/* ---- steering ---- */

/* The share as a bar with its interval as a line across. */
static void rate_bar(strbuf *h, const json_t *arm) {
    double rate = number_of(arm, "rate"), low = number_of(arm, "low"), high = number_of(arm, "high");
    strbuf_add_str(h, "<td>");
    if (isfinite(rate))
        strbuf_addf(h, "<span class=bar><i style=width:%.0f%%></i><u style=left:%.0f%%;width:%.0f%%></u></span>", 100 * rate,
                    100 * low, 100 * (high - low));
    strbuf_add_str(h, "</td>");
}

static void arms_table(strbuf *h, const json_t *arms, size_t max) {
    static const char *const columns[] = {"steered by",   "mention it#", "share, with 95 % interval",
                                          "interval, %#", "repetition#", "perplexity#"};
    size_t i;
    json_t *arm;
    html_table_begin(h, columns, 6);
    json_array_foreach(arms, i, arm) {
        if (i == max) break;
        html_row(h);
        html_cell(h, text_of(arm, "arm"));
        strbuf_addf(h, "<td class=n>%.0f of %.0f</td>", number_of(arm, "mentions"), number_of(arm, "n"));
        rate_bar(h, arm);
        interval_cell(h, 100 * number_of(arm, "low"), 100 * number_of(arm, "high"), "%.0f");
        html_number(h, "%.3f", number_of(arm, "repetition"));
        html_number(h, "%.1f", number_of(arm, "perplexity"));
    }
    html_table_end(h);
}

static void side_by_side(strbuf *h, const json_t *outputs) {
    size_t i;
    json_t *x;
    strbuf_add_str(h, "<h3>Unsteered beside steered</h3>\n");
    json_array_foreach(outputs, i, x) {
        if (i == OUTPUTS_SHOWN) break;
        strbuf_add_str(h, "<div class=pair><p class=prompt>");
        html_text(h, text_of(x, "prompt"));
        strbuf_add_str(h, " …</p><p>");
        html_text(h, text_of(x, "unsteered"));
        strbuf_add_str(h, "</p><p>");
        html_text(h, text_of(x, "steered"));
        strbuf_add_str(h, "</p></div>\n");
    }
}

static void steering(report *r) {
    strbuf *h = &r->h;
    const json_t *s = r->in->steering, *words = json_object_get(s, "words");
    size_t i;
    json_t *word;
    if (!s) return;
    heading(h, "Steering");
    if (*text_of(s, "reason")) paragraph(h, "", text_of(s, "reason"));
    if (!json_array_size(json_object_get(s, "arms"))) return;
    strbuf_add_str(h, "<p>A text counts when it mentions one of: ");
    json_array_foreach(words, i, word) {
        strbuf_add_str(h, i ? ", " : "");
        html_text(h, json_string_value(word) ? json_string_value(word) : "");
    }
    strbuf_addf(
        h,
        ". Features and strengths were chosen on %.0f neutral prompts; below are the others, %.0f with %.0f samples of %.0f "
        "tokens each (temperature %.2g, repetition penalty %.3g). Perplexity is that of the text under the unsteered "
        "model; repetition the share of repeated 3-grams. The controls move every row as far as the best features do.</p>\n",
        number_of(s, "prompts_choice"), number_of(s, "prompts_report"), number_of(s, "samples_report"),
        number_of(s, "tokens"), number_of(s, "temperature"), number_of(s, "repeat_penalty"));
    arms_table(h, json_object_get(s, "arms"), CHOICE_SHOWN);
    side_by_side(h, json_object_get(s, "outputs"));
    strbuf_add_str(h, "<details><summary>Everything that was tried on the choosing half</summary>\n");
    arms_table(h, json_object_get(s, "choice"), CHOICE_SHOWN);
    strbuf_add_str(h, "</details>\n");
}

/* ---- how to do it again ---- */

static void again(report *r) {
    static const char *const columns[] = {"stage", "seconds#"};
    strbuf *h = &r->h;
    const json_t *stages = json_object_get(r->in->study, "stages");
    size_t i;
    json_t *stage;
    heading(h, "How to do it again");
    paragraph(h, "", "Each step is a command of its own; all its inputs and outputs are ordinary files.");
    strbuf_add_str(h, "<pre>");
    json_array_foreach(stages, i, stage) {
        if (!*text_of(stage, "command")) continue;
        html_text(h, text_of(stage, "command"));
        strbuf_add_char(h, '\n');
    }
    strbuf_add_str(h, "</pre>\n");
    html_table_begin(h, columns, 2);
    json_array_foreach(stages, i, stage) {
        if (!isfinite(number_of(stage, "seconds"))) continue;
        html_row(h);
        html_cell(h, text_of(stage, "name"));
        html_number(h, "%.1f", number_of(stage, "seconds"));
    }
    html_table_end(h);
    strbuf_addf(h, "<p class=note>sae %s</p>\n", SAE_VERSION);
}

/* ---- the whole ---- */

static void begin_page(report *r) {
    strbuf *h = &r->h;
    strbuf_add_str(
        h, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
           "<meta name=viewport content=\"width=device-width,initial-scale=1\">"
           "<meta http-equiv=Content-Security-Policy content=\"default-src 'none';style-src 'unsafe-inline'\"><title>");
    html_text(h, text_of(r->in->study, "concept"));
    strbuf_add_str(h, *text_of(r->in->study, "concept") ? " in " : "");
    html_text(h, text_of(json_object_get(r->in->study, "model"), "name"));
    strbuf_add_str(h, "</title><style>");
    strbuf_add_str(h, report_style);
    strbuf_add_str(h, "</style></head><body>\n");
}

err_code report_write(const ctx *c, const report_inputs *in, const char *out_path, err *e) {
    report r = {.c = c, .in = in, .h = STRBUF_INIT};
    strbuf scratch = STRBUF_INIT;
    err_code rc = ERR_OK;
    strbuf_addf(&scratch, "%s.svg", out_path);
    TRY(strbuf_check(&scratch, e));
    r.scratch = scratch.data;
    if (in->db) TRY(feature_db_open(in->db, &r.db, e));
    begin_page(&r);
    title(&r);
    findings(&r);
    captured(&r);
    TRY(training(&r, e));
    evaluation(&r);
    if (r.db) TRY(top_features(&r, e));
    TRY(concept(&r, e));
    steering(&r);
    again(&r);
    strbuf_add_str(&r.h, "</body></html>\n");
    TRY(strbuf_check(&r.h, e));
    TRY(file_write(out_path, r.h.data, r.h.len, e));
done:
    feature_db_close(r.db);
    strbuf_release(&scratch);
    strbuf_release(&r.h);
    return rc;
}
