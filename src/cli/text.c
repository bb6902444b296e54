#include "cli/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cli_print_text(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)text[i];
        if (b == '\n')
            fputs("\u21b5", stdout);
        else if (b == '\t')
            putchar(' ');
        else if (b == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0)
            i++; /* C1 control characters, two bytes each */
        else if (b >= 0x20 && b != 0x7F)
            putchar(b);
    }
}

void cli_print_line(const char *text) {
    cli_print_text(text, strlen(text));
    putchar('\n');
}

bool cli_has_colour(void) {
    const char *term = getenv("TERM"), *refused = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && !(refused && *refused) && term && *term && strcmp(term, "dumb") != 0;
}
