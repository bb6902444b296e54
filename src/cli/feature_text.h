/* feature_text.h — features on the terminal: a line each, or everything about one. To stdout. */
#ifndef CLI_FEATURE_TEXT_H
#define CLI_FEATURE_TEXT_H

#include "analysis/db.h"

void feature_print_heading(void);
void feature_print_line(const feature_stats *f);

/* A place where the feature fires: colour by how strongly, relative to max, where the terminal has it, else « » around the
 * activating token. */
void feature_print_example(const feature_example *x, double max);

/* Up to max of its strongest places, indented. */
void feature_print_top(const feature_card *card, int max);

void feature_print_card(const feature_card *card);

#endif
