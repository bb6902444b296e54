#include "cli/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of the control character at text[i], 0 when it is none: C0, DEL, and C1, which are two bytes each. */
static size_t control_length(const char *text, size_t n, size_t i) {
    unsigned char b = (unsigned char)text[i];
    if (b < 0x20 || b == 0x7F) return 1;
    return b == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0 ? 2 : 0;
}

static void print(const char *text, size_t n, const char *line_break, char tab) {
    for (size_t i = 0; i < n;) {
        size_t control = control_length(text, n, i);
        if (text[i] == '\n')
            fputs(line_break, stdout);
        else if (text[i] == '\t')
            putchar(tab);
        else if (!control)
            putchar((unsigned char)text[i]);
        i += control ? control : 1;
    }
}

void cli_print_text(const char *text, size_t n) { print(text, n, "\u21b5", ' '); }

void cli_print_block(const char *text, size_t n) { print(text, n, "\n", '\t'); }

void cli_print_line(const char *text) {
    cli_print_text(text, strlen(text));
    putchar('\n');
}

bool cli_has_colour(void) {
    const char *term = getenv("TERM"), *refused = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && !(refused && *refused) && term && *term && strcmp(term, "dumb") != 0;
}
