#include "cli/precision.h"

#include <string.h>

model_precision precision_read(const parsed_options *o) {
    model_precision p = MODEL_F32;
    while (strcmp(model_precision_names[p], opt_string(o, "precision")) != 0) p++; /* the table allows only these */
    return p;
}
