/* outcome.h — how a command's text output ends: what it wrote, and how to do it again. To stdout. */
#ifndef CLI_OUTCOME_H
#define CLI_OUTCOME_H

#include "cli/options.h"

void outcome_wrote(const char *path, const char *what); /* "wrote  study/sae  the autoencoder" */
void outcome_again(const parsed_options *o);            /* "again  sae train ..." */

#endif
