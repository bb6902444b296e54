/* command.h — the program's commands: one cmd_*.c file and one row in the table in main.c each.
 *
 * A command gets its parsed options and prints data to stdout only; notes, warnings and progress go to stderr through ctx.
 * It returns an err_code; main prints the sentence and exits with err_exit_code. It neither exits nor checks its prints:
 * main flushes and checks stdout. ERR_CANCELLED may come with a sentence saying how to go on.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/options.h"
#include "core/ctx.h"

#include <jansson.h>

typedef struct command {
    const char *name;
    const char *help;       /* one line, what it does, begins with a small letter */
    const char *usage;      /* "MODEL --layer L --corpus C --out F.h5" */
    const char *examples;   /* two of them, a line each: "sae capture model.gguf --layer 16 ...\nsae capture ..." */
    const option *options;  /* ends with {0}; --json --seed --threads --quiet --verbose --help are added to every command */
    int min_args, max_args; /* positional; max_args -1: any number */
    err_code (*run)(ctx *c, const parsed_options *o, err *e);
} command;

/* How to add one: declare it here, define it in cmd_<name>.c, add it to the table in main.c. */
extern const command cmd_inspect, cmd_tokenize, cmd_generate, cmd_perplexity, cmd_capture, cmd_train, cmd_encode, cmd_convert,
    cmd_eval, cmd_features, cmd_find, cmd_steer, cmd_study;

/* Prints one document on stdout, with "schema": "sae.<command>/1" put first. Steals doc. NULL doc (jansson ran out of memory
 * while it was built) is ERR_NOMEM. */
err_code command_print_json(const parsed_options *o, json_t *doc, err *e);

/* A number for a document: null when x is infinite or not a number, which JSON cannot say. New reference. */
json_t *command_json_real(double x);

/* Text that may hold bytes that are not UTF-8: each such byte becomes U+FFFD. New reference. */
json_t *command_json_text(const char *bytes, size_t n);

#endif
