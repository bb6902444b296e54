#include "cli/command.h"
#include "core/names.h"
#include "model/export.h"
#include "sae/variants/variants.h"

#include <stdio.h>
#include <string.h>

static const option options[] = {
    {"out", OPT_STRING, NULL, "PATH", "folder to write, or with --to gguf a file", 0, 0, false, true},
    {"to", OPT_CHOICE, NULL, "saelens|sparsify|safetensors|gguf",
     "format: of an autoencoder saelens or sparsify, of a model safetensors (a Hugging Face folder) or gguf; by default "
     "saelens, "
     "or gguf where PATH ends so",
     0, 0, false, false},
    {"dtype", OPT_CHOICE, NULL, "F32|F16|BF16|Q8_0|Q4_0|Q4_1|TQ2_0",
     "type of a model's matrices; by default each keeps its own, or becomes F32 where the format lacks it", 0, 0, false,
     false},
    {"k", OPT_INT, NULL, "K", "how many latents of an autoencoder fire, where the files do not say", 1, 1e9, false, false},
    {"scaling-factor", OPT_REAL, NULL, "S", "what an autoencoder's rows are multiplied by first, where the files do not say",
     1e-30, 1e30, false, false},
    {0},
};

/* ---- autoencoders ---- */

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

static err_code convert_sae(const ctx *c, const parsed_options *o, err_code (*save)(sae *s, const char *dir, err *e),
                            err *e) {
    const sae_given given = {.k = opt_int(o, "k"),
                             .scaling_factor = opt_given(o, "scaling-factor") ? opt_real(o, "scaling-factor") : 0};
    const char *out = opt_string(o, "out");
    sae *s = NULL;
    err_code rc;
    TRY(sae_load_given(opt_arg(o, 0), &given, &s, e));
    if (s->note) ctx_log(c, LOG_WARNING, "%s: %s", opt_arg(o, 0), s->note);
    TRY(save(s, out, e));
    if (opt_json(o))
        rc = print_json(s, o, e);
    else
        print_text(s, out);
done:
    sae_free(s);
    return rc;
}

/* ---- models ---- */

static err_code print_model(const export_result *r, const export_opts *x, const parsed_options *o, const char *to, err *e) {
    const char *out = opt_string(o, "out"), *type = x->type ? x->type->name : NULL;
    if (opt_json(o))
        return command_print_json(o,
                                  json_pack("{s:s s:s? s:I s:I s:I s:I s:s}", "to", to, "dtype", type, "tensors",
                                            (json_int_t)r->n_tensors, "values", (json_int_t)r->n_values, "bytes",
                                            (json_int_t)r->bytes, "f16_instead", (json_int_t)r->n_fallback, "out", out),
                                  e);
    printf("%lld numbers in %lld tensors, %s, %.1f MB\nwrote  %s\n", (long long)r->n_values, (long long)r->n_tensors,
           type ? type : "in types of their own", (double)r->bytes / 1e6, out);
    return ERR_OK;
}

static err_code convert_model(const ctx *c, const parsed_options *o, export_format format, const char *to, err *e) {
    const export_opts x = {.format = format, .type = opt_given(o, "dtype") ? quant_by_name(opt_string(o, "dtype")) : NULL};
    export_result result;
    weights *from = NULL;
    err_code rc;
    TRY(weights_open(opt_arg(o, 0), &from, e));
    TRY(model_export(c, from, &x, opt_string(o, "out"), &result, e));
    rc = print_model(&result, &x, o, to, e);
done:
    weights_close(from);
    return rc;
}

/* ---- both ---- */

/* How to add one: a row, its name in the option --to. */
static const struct {
    const char *name;
    err_code (*save)(sae *s, const char *dir, err *e); /* NULL: of models */
    export_format format;
} targets[] = {
    {.name = "saelens", .save = sae_save},
    {.name = "sparsify", .save = sae_save_sparsify},
    {.name = "safetensors", .format = EXPORT_FOLDER},
    {.name = "gguf", .format = EXPORT_GGUF},
};
enum { N_TARGETS = sizeof targets / sizeof *targets };

static const char *target_name(const parsed_options *o) {
    const char *out = opt_string(o, "out");
    size_t n = strlen(out);
    if (opt_given(o, "to")) return opt_string(o, "to");
    return n > 5 && !strcmp(out + n - 5, ".gguf") ? "gguf" : "saelens";
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    int i = names_find(target_name(o), targets, N_TARGETS, sizeof *targets);
    bool is_sae = targets[i].save != NULL;
    static const char *const of_saes[] = {"k", "scaling-factor"};
    if (is_sae && opt_given(o, "dtype"))
        return err_set(e, ERR_USAGE, "--dtype is for models: give --to safetensors or --to gguf");
    for (int k = 0; k < 2 && !is_sae; k++)
        if (opt_given(o, of_saes[k])) return err_set(e, ERR_USAGE, "--%s is for autoencoders, not for models", of_saes[k]);
    return is_sae ? convert_sae(c, o, targets[i].save, e) : convert_model(c, o, targets[i].format, targets[i].name, e);
}

const command cmd_convert = {
    .name = "convert",
    .help = "an autoencoder to a SAELens or sparsify folder, a model to GGUF or safetensors",
    .usage = "SAE|MODEL --out PATH [--to FORMAT] [--dtype TYPE]",
    .examples = "sae convert Qwen3-0.6B/ --to gguf --dtype Q8_0 --out qwen3.gguf\n"
                "sae convert layer16.sae.pt --k 50 --to sparsify --out layers.16",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
