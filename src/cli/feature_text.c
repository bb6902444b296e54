#include "cli/feature_text.h"

#include "cli/text.h"
#include "core/strbuf.h"
#include "math/stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- lists ---- */

static void print_real(const char *format, double x, int width) {
    if (isfinite(x))
        printf(format, x);
    else
        printf("%*s", width, "-");
}

void feature_print_heading(void) {
    printf("%8s %6s %9s %8s %8s %6s  %s\n", "feature", "interp", "density", "max", "mean", "select",
           "label, or what it fires on");
}

void feature_print_line(const feature_stats *f) {
    printf("%8" PRId64 " ", f->id);
    print_real("%6.2f", f->interpretability, 6);
    print_real(" %8.3f%%", 100 * f->density, 10);
    print_real(" %8.4g", f->max, 9);
    print_real(" %8.4g", f->mean, 9);
    print_real(" %6.2f", f->selectivity, 7);
    fputs("  ", stdout);
    cli_print_line(f->label[0] ? f->label : f->top_tokens[0] ? f->top_tokens : "(never fires)");
}

/* ---- places ---- */

/* Black on backgrounds from faint to strong, of the 256-colour palette: readable on dark and light terminals alike. */
static const int shades[] = {230, 222, 214, 208};
enum { N_SHADES = sizeof shades / sizeof *shades };

static void print_shaded(const char *text, size_t n, double share) {
    int shade = (int)(share * N_SHADES);
    printf("\033[48;5;%d;30m", shades[shade < 0 ? 0 : shade >= N_SHADES ? N_SHADES - 1 : shade]);
    cli_print_text(text, n);
    fputs("\033[0m", stdout);
}

static void print_coloured(const feature_example *x, double max) {
    strbuf text = STRBUF_INIT;
    strbuf_addf(&text, "%s%s%s", x->before, x->focus, x->after);
    size_t at = 0;
    for (int64_t i = 0; i < x->n_spans; i++) {
        size_t start = (size_t)x->spans[i].start, end = (size_t)x->spans[i].end;
        if (start < at || end < start || end > text.len) continue; /* as a damaged database may have it */
        cli_print_text(text.data + at, start - at);
        print_shaded(text.data + start, end - start, max > 0 ? x->spans[i].value / max : 0);
        at = end;
    }
    cli_print_text(text.data + at, text.len - at);
    strbuf_release(&text);
}

void feature_print_example(const feature_example *x, double max) {
    printf("%9.4g  ", x->value);
    if (cli_has_colour()) {
        print_coloured(x, max);
    } else {
        cli_print_text(x->before, strlen(x->before));
        fputs("\u00ab", stdout);
        cli_print_text(x->focus, strlen(x->focus));
        fputs("\u00bb", stdout);
        cli_print_text(x->after, strlen(x->after));
    }
    putchar('\n');
}

void feature_print_top(const feature_card *card, int max) {
    for (int64_t i = 0; i < card->n_examples && i < max && !strcmp(card->examples[i].kind, "top"); i++)
        feature_print_example(&card->examples[i], card->stats.max);
}

/* ---- one feature ---- */

/* Counts as bars of eighths, on a logarithmic scale, from the lowest bin to the highest. */
static void print_histogram(const feature_card *card) {
    static const char *const bars[] = {" ", "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};
    double most = 0;
    if (!card->n_bins) return;
    int64_t first = card->histogram[0].bin, last = card->histogram[card->n_bins - 1].bin;
    if (last - first > STATS_BIN_MAX - STATS_BIN_MIN) return;
    for (int64_t i = 0; i < card->n_bins; i++) most = fmax(most, log1p((double)card->histogram[i].count));
    printf("histogram   %.3g ", stats_bin_low(first));
    for (int64_t bin = first, i = 0; bin <= last; bin++) {
        while (i < card->n_bins && card->histogram[i].bin < bin) i++;
        double count = i < card->n_bins && card->histogram[i].bin == bin ? (double)card->histogram[i].count : 0;
        fputs(bars[count > 0 ? 1 + (int)(7 * log1p(count) / most) : 0], stdout);
    }
    printf(" %.3g\n", stats_bin_low(last + 1));
}

static void print_labels(const feature_card *card) {
    for (int64_t i = 0; i < card->n_labels; i++) {
        const feature_label *l = &card->labels[i];
        fputs("label       ", stdout);
        cli_print_text(l->label, strlen(l->label));
        fputs("  (", stdout);
        cli_print_text(l->source, strlen(l->source));
        if (isfinite(l->score))
            printf("; held out: F1 %.2f, precision %.2f, recall %.2f, AUROC %.2f on %" PRId64 " rows", l->score, l->precision,
                   l->recall, l->auroc, l->fires);
        fputs(")\n", stdout);
    }
}

static void print_logits(const feature_card *card, bool promoted) {
    bool any = false;
    for (int64_t i = 0; i < card->n_logits; i++) {
        const feature_logit *l = &card->logits[promoted ? i : card->n_logits - 1 - i];
        if ((l->rank > 0) != promoted) continue;
        printf("%s", any ? "  " : promoted ? "promotes    " : "suppresses  ");
        putchar('"');
        cli_print_text(l->piece, strlen(l->piece));
        printf("\" %+.1f", l->score);
        any = true;
    }
    if (any) putchar('\n');
}

static void print_pairs(const char *name, const feature_pair *pairs, int64_t n) {
    if (!n) return;
    fputs(name, stdout);
    for (int64_t i = 0; i < n; i++) printf("%s%" PRId64 " (%.2f)", i ? "  " : "", pairs[i].other, pairs[i].value);
    putchar('\n');
}

/* "q95" is the 95 % quantile of its firing. */
static void print_examples(const feature_card *card) {
    const char *kind = "";
    for (int64_t i = 0; i < card->n_examples; i++) {
        const feature_example *x = &card->examples[i];
        if (strcmp(kind, x->kind)) {
            kind = x->kind;
            if (!strcmp(kind, "top"))
                puts("\nstrongest places, one a document");
            else
                printf("\nat the %s %% quantile of its firing\n", kind + (kind[0] == 'q'));
        }
        feature_print_example(x, card->stats.max);
    }
}

void feature_print_card(const feature_card *card) {
    const feature_stats *f = &card->stats;
    printf("feature     %" PRId64 "\n", f->id);
    print_labels(card);
    if (!f->fires) {
        puts("never fires on this corpus");
    } else {
        fputs("fires on    ", stdout);
        cli_print_line(f->top_tokens);
        printf("            %" PRId64 " rows (%.3g %%), %" PRId64 " documents, %" PRId64 " different tokens\n", f->fires,
               100 * f->density, f->docs, f->tokens);
        printf("activation  max %.4g, mean %.4g where it fires\n", f->max, f->mean);
    }
    printf("scores      interpretability ");
    print_real("%.2f", f->interpretability, 1);
    printf(", selectivity ");
    print_real("%.2f", f->selectivity, 1);
    printf(", neighbour ");
    print_real("%.2f", f->neighbour, 1);
    printf(", output ");
    print_real("%.2f", f->output, 1);
    putchar('\n');
    print_histogram(card);
    print_logits(card, true);
    print_logits(card, false);
    print_pairs("neighbours  ", card->neighbours, card->n_neighbours);
    print_pairs("fires with  ", card->cooccurrence, card->n_cooccurrence);
    print_examples(card);
}
