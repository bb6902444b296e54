#include "cli/sampling.h"

sample_opts sampling_read(const parsed_options *o) {
    return (sample_opts){.temperature = opt_real(o, "temperature"),
                         .top_p = opt_real(o, "top-p"),
                         .min_p = opt_real(o, "min-p"),
                         .repeat_penalty = opt_real(o, "repeat-penalty"),
                         .top_k = opt_int(o, "top-k"),
                         .seed = opt_seed(o)};
}
