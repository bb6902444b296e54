/* prompts.h — the prompts a command was given: every --prompt, then every line of the file behind --prompts; and whether they are
 * messages of a chat. */
#ifndef CLI_PROMPTS_H
#define CLI_PROMPTS_H

#include "cli/options.h"
#include "text/chat.h"

/* Rows for a command's table of options. */
#define PROMPT_OPTIONS                                                                                                       \
    {"prompt", OPT_STRING, NULL, "TEXT", "text to continue", 0, 0, true, false},                                             \
        {"prompts", OPT_STRING, NULL, "FILE", "prompts, one a line", 0, 0, false, false},                                    \
        {"chat", OPT_FLAG, NULL, NULL, "a prompt is a user's message, put into the model's template", 0, 0, false, false}, { \
        "chat-template", OPT_STRING, NULL, "FILE", "--chat with the template in this file instead of the model's", 0, 0,     \
            false, false                                                                                                     \
    }

typedef struct prompt_list {
    const char **items; /* [n] borrowed from the options and from file */
    int n;
    size_t cap;
    char *file;
} prompt_list; /* zero-initialise; prompt_list_release */

/* Lines without text are left out. ERR_USAGE for a prompt, ERR_FORMAT for a file that is not UTF-8; a list may stay empty. */
err_code prompt_list_read(const parsed_options *o, prompt_list *out, err *e);
void prompt_list_release(prompt_list *l);

bool prompts_are_chat(const parsed_options *o);
/* The template that prompts are put into; *out is NULL when they are raw text. Owned by the caller, chat_close. */
err_code prompts_open_chat(const parsed_options *o, const weights *w, chat **out, err *e);

#endif
