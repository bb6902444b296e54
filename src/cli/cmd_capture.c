/* cmd_capture.c — sae capture: what a model holds at its hooks while it reads a corpus, into an HDF5 file. */
#include "cli/command.h"
#include "cli/precision.h"

#include "activations/capture.h"

#include <stdlib.h>
#include <string.h>

static const option options[] = {
    {.name = "layer",
     .type = OPT_INT,
     .unit = "L",
     .help = "capture blocks.L.hook_resid_post, the output of block L",
     .min = 0,
     .max = 1e6,
     .repeatable = false},
    {.name = "hook",
     .type = OPT_STRING,
     .unit = "NAME",
     .help = "a hook, as blocks.16.hook_mlp_out; may be given several times",
     .repeatable = true},
    {.name = "corpus",
     .type = OPT_STRING,
     .unit = "C",
     .help = "a .txt or .jsonl file, or a folder of them",
     .required = true},
    {.name = "out",
     .type = OPT_STRING,
     .unit = "F.h5",
     .help = "the activation file; one that is there is continued",
     .required = true},
    {.name = "context",
     .type = OPT_INT,
     .fallback = "256",
     .unit = "TOKENS",
     .help = "cut longer documents into windows of this",
     .min = 1,
     .max = 1 << 20},
    {.name = "skip-first",
     .type = OPT_INT,
     .fallback = "1",
     .unit = "N",
     .help = "leave out this many positions at the head of each window; 0 keeps all",
     .min = 0,
     .max = 1 << 20},
    {.name = "dtype",
     .type = OPT_CHOICE,
     .fallback = "float16",
     .unit = "float16|bfloat16|float32",
     .help = "of the stored rows; float16 becomes bfloat16 where numbers are too large for it"},
    {.name = "tokens",
     .type = OPT_INT,
     .unit = "N",
     .help = "a seeded sample of whole documents that reaches N tokens",
     .min = 1,
     .max = 1e15},
    {.name = "batch-tokens",
     .type = OPT_INT,
     .fallback = "4096",
     .unit = "N",
     .help = "tokens in one forward pass",
     .min = 1,
     .max = 1 << 24},
    PRECISION_OPTION,
    {0},
};

typedef struct job {
    const parsed_options *o;
    model *m;
    token_corpus corpus;
    hook_point hooks[STORE_HOOKS_MAX];
    int n_hooks;
    capture_result result;
    store *file; /* opened again, to say what it holds */
} job;

/* ---- hooks ---- */

static int by_order(const void *a, const void *b) { return hook_compare(*(const hook_point *)a, *(const hook_point *)b); }

static err_code add_hook(job *j, const char *name, err *e) {
    if (j->n_hooks == STORE_HOOKS_MAX) return err_set(e, ERR_USAGE, "expected at most %d hooks, found more", STORE_HOOKS_MAX);
    return model_hook_point(j->m, name, &j->hooks[j->n_hooks++], e);
}

static err_code read_hooks(job *j, err *e) {
    char layer[32];
    err_code rc = ERR_OK;
    if (!opt_given(j->o, "layer") && !opt_count(j->o, "hook"))
        return err_set(e, ERR_USAGE, "expected --layer L or --hook NAME, found neither");
    if (opt_given(j->o, "layer")) {
        snprintf(layer, sizeof layer, "%lld", (long long)opt_int(j->o, "layer"));
        rc = add_hook(j, layer, e);
    }
    for (int i = 0; i < opt_count(j->o, "hook") && !rc; i++) rc = add_hook(j, opt_string_at(j->o, "hook", i), e);
    if (rc) return rc;
    qsort(j->hooks, (size_t)j->n_hooks, sizeof *j->hooks, by_order);
    for (int i = 1; i < j->n_hooks; i++) {
        char name[HOOK_NAME_MAX];
        hook_format(j->hooks[i], name);
        if (!hook_compare(j->hooks[i - 1], j->hooks[i])) return err_set(e, ERR_USAGE, "%s is asked for twice", name);
    }
    return ERR_OK;
}

/* ---- the work ---- */

static store_dtype dtype_given(const parsed_options *o) { return dtype_named(opt_string(o, "dtype"), NULL)->id; }

static err_code capture(job *j, ctx *c, err *e) {
    const parsed_options *o = j->o;
    capture_opts how = CAPTURE_DEFAULTS;
    corpus_opts cut = {.context = opt_int(o, "context"), .max_tokens = opt_int(o, "tokens"), .seed = opt_seed(o)};
    err_code rc;
    TRY(model_open_as(c, opt_arg(o, 0), precision_read(o), &j->m, e));
    TRY(read_hooks(j, e));
    TRY(corpus_read(c, opt_string(o, "corpus"), model_tokenizer(j->m), &cut, &j->corpus, e));
    how.hooks = j->hooks;
    how.n_hooks = j->n_hooks;
    how.skip_first = opt_int(o, "skip-first");
    how.batch_tokens = opt_int(o, "batch-tokens");
    how.context = cut.context;
    how.dtype = dtype_given(o);
    how.command = opt_command_line(o);
    TRY(capture_run(c, j->m, &j->corpus, opt_string(o, "out"), &how, &j->result, e));
    TRY(store_open(opt_string(o, "out"), &j->file, e));
done:
    return rc;
}

static double tokens_per_second(const capture_result *r) { return r->tokens_run ? (double)r->tokens_run / r->seconds : 0; }

static json_t *hook_to_json(const store_hook *h) {
    return json_pack("{s:s s:i s:I s:s s:o s:o s:o s:o}", "name", h->name, "layer", h->layer, "d_model",
                     (json_int_t)h->d_model, "dtype", dtype_of(h->dtype)->name, "mean_norm", command_json_real(h->mean_norm),
                     "rms", command_json_real(h->rms), "deviation_mean", command_json_real(h->deviation.mean),
                     "deviation_max", command_json_real(h->deviation.max));
}

static err_code print_json(const job *j, err *e) {
    const capture_result *r = &j->result;
    const store_info *info = store_info_of(j->file);
    json_t *hooks = json_array();
    for (int i = 0; i < info->n_hooks; i++) json_array_append_new(hooks, hook_to_json(&info->hooks[i]));
    return command_print_json(j->o,
                              json_pack("{s:s s:s s:I s:I s:I s:I s:o s:o s:o s:o}", "file", opt_string(j->o, "out"),
                                        "precision", model_precision_names[info->precision], "tokens", (json_int_t)r->tokens,
                                        "documents", (json_int_t)info->n_docs, "rows", (json_int_t)r->rows, "tokens_run",
                                        (json_int_t)r->tokens_run, "seconds", command_json_real(r->seconds),
                                        "writing_seconds", command_json_real(r->writing_seconds), "tokens_per_second",
                                        command_json_real(tokens_per_second(r)), "hooks", hooks),
                              e);
}

static err_code print(const job *j, err *e) {
    const capture_result *r = &j->result;
    const store_info *info = store_info_of(j->file);
    if (opt_json(j->o)) return print_json(j, e);
    printf("%s: %lld rows of %lld tokens in %lld documents\n", opt_string(j->o, "out"), (long long)r->rows,
           (long long)r->tokens, (long long)info->n_docs);
    for (int i = 0; i < info->n_hooks; i++) {
        const store_hook *h = &info->hooks[i];
        printf("  %-28s %lld x %s, mean norm %.4g, rms %.4g\n", h->name, (long long)h->d_model, dtype_of(h->dtype)->name,
               h->mean_norm, h->rms);
        if (info->precision != MODEL_F32)
            printf("  %-28s %s is off float32 by %.2g of a row's length on average, at most %.2g (first batch)\n", "",
                   model_precision_names[info->precision], h->deviation.mean, h->deviation.max);
    }
    if (r->tokens_run)
        printf("  %lld tokens in %.1f s, %.0f tokens/s\n", (long long)r->tokens_run, r->seconds, tokens_per_second(r));
    else
        puts("  nothing was missing");
    return ERR_OK;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    job j = {.o = o};
    err_code rc = capture(&j, c, e);
    if (!rc) rc = print(&j, e);
    store_close(j.file);
    corpus_release(&j.corpus);
    model_close(j.m);
    return rc;
}

const command cmd_capture = {
    .name = "capture",
    .help = "a corpus through the model, what its hooks hold into an HDF5 file",
    .usage = "MODEL --layer L | --hook NAME.. --corpus C --out F.h5",
    .examples =
        "sae capture model.gguf --layer 16 --corpus texts/ --out activations.h5\n"
        "sae capture model.gguf --hook blocks.8.hook_mlp_out --hook blocks.8.hook_resid_post --corpus a.jsonl --out a.h5",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
