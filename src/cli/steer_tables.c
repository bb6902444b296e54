#include "cli/steer_tables.h"

#include "cli/text.h"

#include <stdio.h>
#include <string.h>

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static void print_real(const json_t *object, const char *key, const char *format) {
    const json_t *x = json_object_get(object, key);
    if (json_is_number(x))
        printf(format, json_number_value(x));
    else
        printf("%10s", "-");
}

void steer_print_arms(const json_t *arms) {
    size_t i;
    json_t *arm;
    printf("%12s %17s %10s %10s  %s\n", "mention it", "95 % interval", "repetition", "perplexity", "steered by");
    json_array_foreach(arms, i, arm) {
        printf("%5.0f of %-4.0f %6.0f %% - %4.0f %% ", number(arm, "mentions"), number(arm, "n"), 100 * number(arm, "low"),
               100 * number(arm, "high"));
        print_real(arm, "repetition", "%10.3f");
        printf(" ");
        print_real(arm, "perplexity", "%10.1f");
        printf("  ");
        cli_print_line(json_string_value(json_object_get(arm, "arm")));
    }
}

static void print_field(const char *name, const json_t *output, const char *key) {
    const char *text = json_string_value(json_object_get(output, key));
    printf("%-10s ", name);
    cli_print_line(text ? text : "");
}

void steer_print_outputs(const json_t *outputs, size_t max) {
    bool all = json_array_size(outputs) <= max;
    const char *last = "";
    size_t i, printed = 0;
    json_t *output;
    json_array_foreach(outputs, i, output) {
        const char *prompt = json_string_value(json_object_get(output, "prompt"));
        if (!all && prompt && !strcmp(prompt, last)) continue;
        if (printed == max) break;
        if (printed++) putchar('\n');
        print_field("prompt", output, "prompt");
        print_field("unsteered", output, "unsteered");
        print_field("steered", output, "steered");
        last = prompt ? prompt : "";
    }
}
