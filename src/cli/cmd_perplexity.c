#include "cli/command.h"
#include "cli/precision.h"
#include "cli/text.h"
#include "core/file.h"
#include "core/mem.h"
#include "sae/splice.h"
#include "steer/perplexity.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 30 };

static const option options[] = {
    {"file", OPT_STRING, NULL, "F", "the text", 0, 0, false, true},
    {"context", OPT_INT, NULL, "N", "tokens in a window (default: the model's context, at most 2048)", 2, 1e9, false, false},
    {"per-token", OPT_FLAG, NULL, NULL, "also each token's log-probability", 0, 0, false, false},
    {"sae", OPT_STRING, NULL, "DIR", "also with this autoencoder's reconstruction in place of the activations at its hook", 0,
     0, false, false},
    PRECISION_OPTION,
    {0},
};

typedef struct job {
    const ctx *c;
    const parsed_options *o;
    model *m;
    sae *s; /* NULL without --sae */
    token_ids ids;
    int64_t context, n;         /* tokens predicted */
    double *logprobs, *spliced; /* [n] spliced: with the autoencoder */
    int64_t rows_changed;
    char hook[HOOK_NAME_MAX];
} job;

/* ---- work ---- */

static err_code read_text(job *j, err *e) {
    const char *path = opt_string(j->o, "file");
    char *text = NULL;
    size_t size;
    err_code rc;
    TRY(file_read(path, FILE_BYTES_MAX, &text, &size, e));
    TRY(tokenizer_encode(model_tokenizer(j->m), text, size, &TOKENIZE_DEFAULTS, &j->ids, e));
    if (j->ids.len < 2)
        rc = err_set(e, ERR_FORMAT, "%s: expected a text of at least two tokens, found %zu: nothing to predict", path,
                     j->ids.len);
    j->n = (int64_t)j->ids.len - 1;
done:
    free(text);
    return rc;
}

static err_code choose_context(job *j, err *e) {
    int64_t most = model_config_of(j->m)->n_ctx;
    j->context = opt_given(j->o, "context") ? opt_int(j->o, "context") : most < 2048 ? most : 2048;
    if (j->context <= most) return ERR_OK;
    return err_set(e, ERR_USAGE, "--context: expected at most the model's context of %" PRId64 ", found %" PRId64, most,
                   j->context);
}

static err_code measure(job *j, const model_hook *hook, double **logprobs, err *e) {
    perplexity_opts how = {
        .context = j->context, .hooks = hook, .n_hooks = hook != NULL, .stage = hook ? "spliced" : "perplexity"};
    err_code rc;
    TRY(mem_new(logprobs, (size_t)j->n, sizeof **logprobs, "log-probabilities", e));
    TRY(perplexity_run(j->c, j->m, j->ids.ids, (int64_t)j->ids.len, &how, *logprobs, e));
done:
    return rc;
}

static err_code measure_spliced(job *j, err *e) {
    char sha256[SHA256_HEX];
    const model_config *cfg = model_config_of(j->m);
    model_hook hook;
    splice s = {.mode = SPLICE_RECONSTRUCT};
    err_code rc;
    TRY(sae_load(opt_string(j->o, "sae"), &j->s, e));
    TRY(model_sha256(j->m, sha256, e));
    TRY(sae_check_fits(j->s, j->s->cfg.hook_name, sha256, cfg->d_model, e));
    s.sae = j->s;
    s.skip_first = j->s->cfg.skip_first;
    TRY(splice_hook(&s, cfg->n_layers, &hook, e));
    hook_format(hook.at, j->hook);
    TRY(measure(j, &hook, &j->spliced, e));
    j->rows_changed = s.rows_changed;
done:
    splice_release(&s);
    return rc;
}

static double nll(const job *j, const double *logprobs) {
    double sum = 0;
    for (int64_t i = 0; i < j->n; i++) sum -= logprobs[i];
    return sum / (double)j->n;
}

/* ---- output ---- */

static json_t *reals(const double *x, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, command_json_real(x[i]));
    return list;
}

/* nll, ppl and logprobs are with the autoencoder when there is one; what they are without it stands beside them. */
static err_code print_json(const job *j, err *e) {
    double plain = nll(j, j->logprobs), given = j->s ? nll(j, j->spliced) : plain;
    json_t *doc =
        json_pack("{s:I s:I s:o s:o s:I s:I}", "tokens", (json_int_t)j->ids.len, "predicted", (json_int_t)j->n, "nll",
                  command_json_real(given), "ppl", command_json_real(exp(given)), "context", (json_int_t)j->context,
                  "windows", (json_int_t)perplexity_windows((int64_t)j->ids.len, j->context));
    if (j->s)
        json_object_set_new(doc, "sae",
                            json_pack("{s:s s:I s:o s:o}", "hook", j->hook, "rows_changed", (json_int_t)j->rows_changed,
                                      "nll_without", command_json_real(plain), "ppl_without", command_json_real(exp(plain))));
    if (opt_flag(j->o, "per-token")) json_object_set_new(doc, "logprobs", reals(j->s ? j->spliced : j->logprobs, j->n));
    return command_print_json(j->o, doc, e);
}

static void print_tokens(const job *j) {
    const tokenizer *t = model_tokenizer(j->m);
    for (int64_t i = 0; i < j->n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, j->ids.ids[i + 1], &n);
        strbuf shown = STRBUF_INIT;
        text_add_printable(&shown, piece, n);
        printf("%9.4f", j->logprobs[i]);
        if (j->s) printf(" %9.4f", j->spliced[i]);
        fputs("  '", stdout);
        cli_print_text(shown.data, shown.len);
        puts("'");
        strbuf_release(&shown);
    }
}

static void print_text(const job *j) {
    double plain = nll(j, j->logprobs);
    if (opt_flag(j->o, "per-token")) print_tokens(j);
    printf("%" PRId64 " tokens predicted in windows of %" PRId64 "\n", j->n, j->context);
    printf("nll  %.4f nats per token\nppl  %.4f\n", plain, exp(plain));
    if (!j->s) return;
    double spliced = nll(j, j->spliced);
    printf("\nwith %s at %s (%" PRId64 " positions replaced)\n", opt_string(j->o, "sae"), j->hook, j->rows_changed);
    printf("nll  %.4f nats per token (%+.4f)\nppl  %.4f\n", spliced, spliced - plain, exp(spliced));
}

static err_code work(job *j, err *e) {
    err_code rc;
    TRY(model_open_as(j->c, opt_arg(j->o, 0), precision_read(j->o), &j->m, e));
    TRY(choose_context(j, e));
    TRY(read_text(j, e));
    TRY(measure(j, NULL, &j->logprobs, e));
    if (opt_given(j->o, "sae")) TRY(measure_spliced(j, e));
    if (opt_json(j->o))
        rc = print_json(j, e);
    else
        print_text(j);
done:
    return rc;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    job j = {.c = c, .o = o};
    err_code rc = work(&j, e);
    free(j.ids.ids);
    free(j.logprobs);
    free(j.spliced);
    sae_free(j.s);
    model_close(j.m);
    return rc;
}

const command cmd_perplexity = {
    .name = "perplexity",
    .help = "how likely the model finds a text, also with an autoencoder in it",
    .usage = "MODEL --file F",
    .examples = "sae perplexity model.gguf --file poem.txt --per-token\n"
                "sae perplexity model.gguf --file poem.txt --sae study/sae --json",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
