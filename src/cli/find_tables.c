#include "cli/find_tables.h"

#include "cli/text.h"

#include <stdio.h>
#include <string.h>

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static const char *text(const json_t *object, const char *key) {
    const char *found = json_string_value(json_object_get(object, key));
    return found ? found : "";
}

/* Unknown numbers are null: a dash in a column of this width. */
static void print_real(const json_t *object, const char *key, double scale, const char *format, int width) {
    const json_t *x = json_object_get(object, key);
    if (json_is_number(x))
        printf(format, scale * json_number_value(x));
    else
        printf("%*s", width, "-");
}

static void print_label(const json_t *x) {
    fputs("  ", stdout);
    cli_print_line(*text(x, "label") ? text(x, "label") : text(x, "top_tokens"));
}

static void print_names(const char *heading, const json_t *names, size_t max) {
    size_t i;
    json_t *name;
    if (!json_array_size(names)) return;
    printf("%s ", heading);
    json_array_foreach(names, i, name) {
        if (i == max) break;
        if (i) fputs(", ", stdout);
        const char *word = json_string_value(name);
        cli_print_text(word, strlen(word));
    }
    puts(json_array_size(names) > max ? ", .." : "");
}

void find_print_gate(const json_t *found) { cli_print_line(text(json_object_get(found, "gate"), "sentence")); }

/* ---- detectors ---- */

static void print_auroc(const json_t *x) {
    print_real(x, "auroc", 1, "%7.3f", 7);
    print_real(x, "low", 1, "  %6.3f", 8);
    print_real(x, "high", 1, " .. %-6.3f", 10);
}

void find_print_detectors(const json_t *found, size_t max, size_t places) {
    size_t i, j;
    json_t *x, *place;
    printf("Detectors: features that fire on it, best first on the half that chose them; the figures are of the other half, "
           "%.0f "
           "mentions and %.0f hard negatives.\n\n",
           number(found, "positives"), number(found, "negatives"));
    printf("%8s %7s  %16s %9s %9s %9s  %s\n", "feature", "AUROC", "95 % interval  ", "v. text", "fires on", "density",
           "label");
    json_array_foreach(json_object_get(found, "detectors"), i, x) {
        if (i == max) break;
        printf("%8.0f ", number(x, "feature"));
        print_auroc(x);
        print_real(x, "auroc_random", 1, " %9.3f", 10);
        print_real(x, "rate", 100, " %7.0f %%", 10);
        print_real(x, "density", 100, " %7.3f %%", 10);
        print_label(x);
        json_array_foreach(json_object_get(x, "examples"), j, place) {
            if (j == places) break;
            fputs("             ", stdout);
            cli_print_line(json_string_value(place));
        }
    }
    json_array_foreach(json_object_get(found, "controls"), i, x) {
        printf("%8s ", "-");
        print_auroc(x);
        printf("%30s  ", "");
        cli_print_line(text(x, "name"));
    }
    print_names("\nhard negatives:", json_object_get(found, "rivals"), 12);
}

/* ---- causes ---- */

static void print_causes(const json_t *causes, size_t max) {
    size_t i;
    json_t *x;
    printf("%8s %8s %6s %8s  %16s %7s %8s %6s %7s  %s\n", "feature", "clamp to", "x max", "change", "95 % interval  ",
           "related", "control", "KL", "repeat", "label");
    json_array_foreach(causes, i, x) {
        if (i == max) break;
        printf("%8.0f %8.4g %6.1f ", number(x, "feature"), number(x, "strength"), number(x, "multiple"));
        print_real(x, "delta_logprob", 1, "%+8.2f", 8);
        print_real(x, "low", 1, "  %+6.2f", 8);
        print_real(x, "high", 1, " .. %+-6.2f", 10);
        print_real(x, "delta_words", 1, " %+7.2f", 8);
        print_real(x, "delta_control", 1, " %+8.2f", 9);
        print_real(x, "kl", 1, " %6.2f", 7);
        print_real(x, "repetition", 1, " %7.3f", 8);
        print_label(x);
    }
}

void find_print_causes(const json_t *found, size_t max) {
    const json_t *of_words = json_object_get(found, "word_causes");
    printf("Causes: of %.0f tried, features that make the model say it when clamped, best first on the prompts that chose "
           "them; the figures, changes of log p in nats, are of other prompts.\n\n",
           number(found, "candidates"));
    print_causes(json_object_get(found, "causes"), max);
    print_names("\nrelated words:", json_object_get(found, "words"), 12);
    if (!json_array_size(of_words)) return;
    printf("\nFeatures that make it say the related words\n\n");
    print_causes(of_words, max);
}
