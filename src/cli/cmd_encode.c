#include "analysis/encode_file.h"
#include "cli/command.h"
#include "cli/outcome.h"

#include <math.h>

static const option options[] = {
    {"out", OPT_STRING, NULL, "F.h5", "latents as /latents/{indptr,indices,values} (CSR) and /reconstruction [n, d]", 0, 0,
     false, true},
    {"dataset", OPT_STRING, NULL, "NAME", "hook or path of the dataset (default: the SAE's hook, else the file's only one)",
     0, 0, false, false},
    {"k", OPT_INT, NULL, "K", "how many latents fire, where the SAE's files do not say", 1, 1e9, false, false},
    {"scaling-factor", OPT_REAL, NULL, "S", "what rows are multiplied by first, where the SAE's files do not say", 1e-30,
     1e30, false, false},
    {0},
};

static err_code run(ctx *c, const parsed_options *o, err *e) {
    const char *out = opt_string(o, "out");
    const encode_opts how = {.dataset = opt_string(o, "dataset"),
                             .given = {.k = opt_int(o, "k"),
                                       .scaling_factor = opt_given(o, "scaling-factor") ? opt_real(o, "scaling-factor") : 0}};
    encode_result r;
    err_code rc = encode_file(c, opt_arg(o, 0), opt_arg(o, 1), out, &how, &r, e);
    if (rc) return rc;
    double l0 = r.rows ? (double)r.nonzeros / (double)r.rows : (double)NAN, rate = (double)r.rows / r.seconds;
    if (opt_json(o))
        return command_print_json(o,
                                  json_pack("{s:I s:I s:I s:o s:o s:o s:s}", "rows", (json_int_t)r.rows, "latents",
                                            (json_int_t)r.latents, "nonzeros", (json_int_t)r.nonzeros, "l0",
                                            command_json_real(l0), "fvu", command_json_real(r.fvu), "rows_per_second",
                                            command_json_real(rate), "out", out),
                                  e);
    printf("%lld rows, %.4g of %lld latents on each", (long long)r.rows, l0, (long long)r.latents);
    if (isfinite(r.fvu)) printf(", FVU %.4g", r.fvu);
    printf("; %.0f rows/s\n\n", rate);
    outcome_wrote(out, "latents and reconstructions");
    outcome_again(o);
    return ERR_OK;
}

const command cmd_encode = {
    .name = "encode",
    .help = "rows of a file to sparse latents and reconstructions, with any SAE that loads",
    .usage = "SAE ROWS --out F.h5",
    .examples = "sae encode study/sae study/activations.h5 --out codes.h5\n"
                "sae encode layer16.sae.pt rows.npy --k 50 --out codes.h5",
    .options = options,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
