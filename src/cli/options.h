/* options.h — a command's options as a table that parses, checks, prints help and saves itself.
 *
 * Names match exactly; --name=value and --name value both work; "--" ends the options. Values are checked when parsed: a wrong
 * one is ERR_USAGE naming the option, what was expected and the next step; an unknown name answers with the nearest one.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "core/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum option_type { OPT_FLAG, OPT_INT, OPT_REAL, OPT_STRING, OPT_CHOICE } option_type;

typedef struct option {
    const char *name;     /* "layer" */
    option_type type;
    const char *fallback; /* default as text; NULL: none */
    const char *unit;     /* "TOKENS", shown in help as the value's name; for OPT_CHOICE "a|b|c" */
    const char *help;
    double min, max;      /* OPT_INT and OPT_REAL, unless both are 0 */
    bool repeatable, required;
} option;

typedef struct parsed_options parsed_options;

bool opt_given(const parsed_options *o, const char *name); /* on the command line */
bool opt_flag(const parsed_options *o, const char *name);
int64_t opt_int(const parsed_options *o, const char *name);
double opt_real(const parsed_options *o, const char *name);
const char *opt_string(const parsed_options *o, const char *name); /* NULL when neither given nor defaulted */
int opt_count(const parsed_options *o, const char *name);          /* repeatable options */
const char *opt_string_at(const parsed_options *o, const char *name, int i);

int opt_n_args(const parsed_options *o);
const char *opt_arg(const parsed_options *o, int i);

bool opt_json(const parsed_options *o);
bool opt_quiet(const parsed_options *o);
uint64_t opt_seed(const parsed_options *o);

const char *opt_command_line(const parsed_options *o); /* as typed, for provenance; borrowed */
json_t *opt_to_json(const parsed_options *o);          /* every option with its value; new reference */

#endif
