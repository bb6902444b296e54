/* precision.h — the option of commands that run a model: how its products are computed (model/model.h). */
#ifndef CLI_PRECISION_H
#define CLI_PRECISION_H

#include "cli/options.h"
#include "model/model.h"

/* A row for a command's table of options. */
#define PRECISION_OPTION                                                                                                     \
    {                                                                                                                        \
        "precision", OPT_CHOICE, "f32", "f32|bf16|int8",                                                                     \
            "f32: exact; bf16, int8: products of the blocks in 16-bit floats, in 8-bit whole numbers: faster and only near " \
            "to that",                                                                                                       \
            0, 0, false, false                                                                                               \
    }

model_precision precision_read(const parsed_options *o);

#endif
