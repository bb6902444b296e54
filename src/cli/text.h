/* text.h — text from models, corpora and databases on a terminal: whatever it holds, it stays on its line. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* To stdout: line breaks as signs, tabs as spaces, control characters (an escape sequence might be among them) left out. */
void cli_print_text(const char *text, size_t n);
void cli_print_line(const char *text); /* the same, and the line's end */

/* stdout is a terminal with colours, and NO_COLOR does not refuse them. */
bool cli_has_colour(void);

#endif
