#include "cli/inspect.h"
#include "cli/text.h"

#include <stdio.h>
#include <string.h>

const char *inspect_size(double bytes, char buffer[32]) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int u = 0;
    for (; bytes >= 1000 && u < 4; u++) bytes /= 1000;
    snprintf(buffer, 32, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return buffer;
}

void inspect_print_value(const char *name, const json_t *value) {
    printf("  ");
    cli_print_text(name, strlen(name));
    printf("%*s ", (int)(strlen(name) < 32 ? 32 - strlen(name) : 0), "");
    if (json_is_string(value))
        cli_print_text(json_string_value(value), json_string_length(value));
    else if (json_is_integer(value))
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        printf("%.6g", json_real_value(value));
    else if (json_is_object(value))
        printf("%" JSON_INTEGER_FORMAT " x %s", json_integer_value(json_object_get(value, "n")),
               json_string_value(json_object_get(value, "array_of")));
    else
        fputs(json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-", stdout);
    putchar('\n');
}
