/* sampling.h — the options of every command that lets a model write: how tokens are drawn. */
#ifndef CLI_SAMPLING_H
#define CLI_SAMPLING_H

#include "cli/options.h"
#include "steer/generate.h"

/* Rows for a command's table of options. */
#define SAMPLING_OPTIONS(repeat_penalty)                                                                                       \
    {"temperature", OPT_REAL, "0.7", "T", "0: always the likeliest token", 0, 100, false, false},                              \
        {"top-k", OPT_INT, "0", "K", "sample among the K likeliest tokens; 0: all", 0, 1e9, false, false},                     \
        {"top-p", OPT_REAL, "1", "P", "sample among the likeliest tokens that hold P of the probability", 0, 1, false, false}, \
        {"min-p", OPT_REAL, "0", "P", "leave out tokens less likely than P times the likeliest", 0, 1, false, false}, {        \
        "repeat-penalty", OPT_REAL, repeat_penalty, "R", "make tokens that stood before less likely; 1: not", 0.01, 100,       \
            false, false                                                                                                       \
    }

sample_opts sampling_read(const parsed_options *o);

#endif
