/* text.h — text from models, corpora and databases on a terminal: whatever it holds, it cannot command the terminal. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* To stdout: line breaks as signs, tabs as spaces, control characters (an escape sequence might be among them) left out. */
void cli_print_text(const char *text, size_t n);
void cli_print_line(const char *text);            /* the same, and the line's end */
void cli_print_block(const char *text, size_t n); /* line breaks and tabs stay; control characters are left out as well */

/* stdout is a terminal with colours, and NO_COLOR does not refuse them. */
bool cli_has_colour(void);

#endif
