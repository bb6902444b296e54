/* options.h — a command's options as a table that parses, checks, prints help and saves itself.
 *
 * Names match exactly; --name=value and --name value both work; "--" ends the options. Values are checked when parsed: a
 * wrong one is ERR_USAGE naming the option, what was expected and the next step; an unknown name answers with the nearest
 * one. Asking for an option the table does not have, or as another type, is a bug in the caller (assert).
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "core/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum option_type {
    OPT_FLAG,
    OPT_INT,
    OPT_REAL,
    OPT_STRING,
    OPT_CHOICE,
    OPT_MAYBE /* a string that may be left out: alone, before another option or at the line's end, it is the default */
} option_type;

typedef struct option {
    const char *name; /* "layer" */
    option_type type;
    const char *fallback; /* default as text; NULL: none. OPT_MAYBE: what the option alone means; not given it is NULL */
    const char *unit;     /* "TOKENS", shown in help as the value's name; for OPT_CHOICE "a|b|c" */
    const char *help;
    double min, max; /* OPT_INT and OPT_REAL, both included, unless both are 0; max may be INFINITY */
    bool repeatable, required;
} option;

typedef struct parsed_options parsed_options;

/* ---- for commands ---- */

bool opt_given(const parsed_options *o, const char *name); /* on the command line */
bool opt_flag(const parsed_options *o, const char *name);
int64_t opt_int(const parsed_options *o, const char *name); /* 0 when neither given nor defaulted */
double opt_real(const parsed_options *o, const char *name); /* NAN when neither given nor defaulted */
const char *opt_string(const parsed_options *o,
                       const char *name); /* also OPT_CHOICE and OPT_MAYBE; NULL: neither given nor defaulted */
int opt_count(const parsed_options *o, const char *name); /* repeatable options: how often given */
const char *opt_string_at(const parsed_options *o, const char *name, int i);

int opt_n_args(const parsed_options *o);
const char *opt_arg(const parsed_options *o, int i);

bool opt_json(const parsed_options *o);
bool opt_quiet(const parsed_options *o);
uint64_t opt_seed(const parsed_options *o);

const char *opt_command(const parsed_options *o);      /* "capture" */
const char *opt_command_line(const parsed_options *o); /* as typed, quoted for a shell, for provenance; borrowed */

/* The same command line with n options that are not repeatable given so; strings are borrowed, *out is freed with options_free.
 * ERR_USAGE as if it had been typed. */
err_code opt_with(const parsed_options *o, const char *const *names, const char *const *values, int n, parsed_options **out,
                  err *e);

/* ERR_USAGE when one of the names (NULL behind the last) was given, since `form`, the rest of the sentence, would ignore it. */
err_code opt_refuse(const parsed_options *o, const char *const *names, const char *form, err *e);

/* Every option that can change a result, with its value (null when it has none; an array when repeatable): the command's own
 * and the seed, but not --threads and the like. New reference. */
json_t *opt_to_json(const parsed_options *o);

/* ---- for main ---- */

/* What a command line of `command` may hold; args are its positional arguments, max_args -1 for any number. */
typedef struct option_rules {
    const char *command;
    const option *options; /* ends with {0}; NULL: none; the common options are added */
    int min_args, max_args;
    const char *usage; /* shown when the arguments are wrong */
} option_rules;

/* argv[0 .. argc) behind the command's name; argv is borrowed until options_free. With --help among the options only
 * opt_flag(o, "help") means anything: nothing else was checked. */
err_code options_parse(const option_rules *rules, int argc, char *const *argv, parsed_options **out, err *e);
void options_free(parsed_options *o); /* accepts NULL */

/* The tables as help text: own options, then the common ones. */
void options_print_help(FILE *to, const option *own);

#endif
