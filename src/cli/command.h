/* command.h — the program's commands: one cmd_*.c file and one row in the table in main.c each.
 *
 * A command gets its parsed options and prints data to stdout only; notes, warnings and progress go to stderr through ctx.
 * It returns an err_code; main prints the sentence and exits with err_exit_code.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/options.h"
#include "core/ctx.h"

#include <jansson.h>

typedef struct command {
    const char *name;
    const char *help;     /* one line */
    const char *usage;    /* "MODEL --layer L --corpus C --out F.h5" */
    const char *examples; /* two of them, a line each */
    const option *options; /* ends with {0}; --json --seed --threads --quiet --verbose --help are added to every command */
    int min_args, max_args; /* positional; max_args -1: any number */
    err_code (*run)(ctx *c, const parsed_options *o, err *e);
} command;

/* How to add one: declare it here, define it in cmd_<name>.c, add it to the table in main.c. */
extern const command cmd_inspect, cmd_tokenize, cmd_generate, cmd_perplexity, cmd_capture, cmd_train, cmd_encode, cmd_eval,
    cmd_features, cmd_find, cmd_steer, cmd_study;

/* Prints one document on stdout, with "schema": "sae.<command>/1" put first. Steals doc. */
err_code command_print_json(const parsed_options *o, json_t *doc, err *e);

#endif
