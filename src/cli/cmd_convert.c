#include "cli/command.h"
#include "sae/variants/variants.h"

#include <stdio.h>
#include <string.h>

static const option options[] = {
    {"out", OPT_STRING, NULL, "DIR", "folder to write", 0, 0, false, true},
    {"to", OPT_CHOICE, "saelens", "saelens|sparsify", "format of the folder", 0, 0, false, false},
    {"k", OPT_INT, NULL, "K", "how many latents fire, where the files do not say", 1, 1e9, false, false},
    {"scaling-factor", OPT_REAL, NULL, "S", "what rows are multiplied by first, where the files do not say", 1e-30, 1e30,
     false, false},
    {0},
};

static void print_text(const sae *s, const char *out) {
    const sae_config *cfg = &s->cfg;
    printf("%s%s%s%s, %lld -> %lld -> %lld", cfg->variant->name, cfg->transcoder ? " transcoder" : "",
           cfg->skip ? " with a skip connection" : "", cfg->norm ? " on normalised rows" : "", (long long)cfg->d_in,
           (long long)cfg->d_sae, (long long)cfg->d_out);
    if (cfg->k) printf(", k %lld", (long long)cfg->k);
    if (cfg->hook_name[0]) printf(", at %s", cfg->hook_name);
    printf("\nwrote  %s\n", out);
}

static err_code print_json(const sae *s, const parsed_options *o, err *e) {
    const sae_config *cfg = &s->cfg;
    return command_print_json(o,
                              json_pack("{s:s s:b s:b s:s? s:I s:I s:I s:I s:o s:s s:s}", "variant", cfg->variant->name,
                                        "transcoder", cfg->transcoder, "skip", cfg->skip, "norm",
                                        cfg->norm ? cfg->norm->name : NULL, "d_in", (json_int_t)cfg->d_in, "d_sae",
                                        (json_int_t)cfg->d_sae, "d_out", (json_int_t)cfg->d_out, "k", (json_int_t)cfg->k,
                                        "hook_name", command_json_text(cfg->hook_name, strlen(cfg->hook_name)), "sha256",
                                        s->sha256, "out", opt_string(o, "out")),
                              e);
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    const char *out = opt_string(o, "out");
    const sae_given given = {.k = opt_int(o, "k"),
                             .scaling_factor = opt_given(o, "scaling-factor") ? opt_real(o, "scaling-factor") : 0};
    sae *s = NULL;
    err_code rc;
    TRY(sae_load_given(opt_arg(o, 0), &given, &s, e));
    if (s->note) ctx_log(c, LOG_WARNING, "%s: %s", opt_arg(o, 0), s->note);
    TRY(!strcmp(opt_string(o, "to"), "sparsify") ? sae_save_sparsify(s, out, e) : sae_save(s, out, e));
    if (opt_json(o))
        rc = print_json(s, o, e);
    else
        print_text(s, out);
done:
    sae_free(s);
    return rc;
}

const command cmd_convert = {
    .name = "convert",
    .help = "an autoencoder of any format to a SAELens or sparsify folder",
    .usage = "SAE --out DIR",
    .examples = "sae convert gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz --out sae\n"
                "sae convert layer16.sae.pt --k 50 --to sparsify --out layers.16",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
