/* prompts.h — the prompts a command was given: every --prompt, then every line of the file behind --prompts. */
#ifndef CLI_PROMPTS_H
#define CLI_PROMPTS_H

#include "cli/options.h"

typedef struct prompt_list {
    const char **items; /* [n] borrowed from the options and from file */
    int n;
    size_t cap;
    char *file;
} prompt_list; /* zero-initialise; prompt_list_release */

/* Lines without text are left out. ERR_USAGE for a prompt, ERR_FORMAT for a file that is not UTF-8; a list may stay empty. */
err_code prompt_list_read(const parsed_options *o, prompt_list *out, err *e);
void prompt_list_release(prompt_list *l);

#endif
