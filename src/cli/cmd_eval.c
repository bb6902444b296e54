#include "analysis/json.h"
#include "cli/command.h"
#include "cli/outcome.h"

#include <math.h>

static const option options[] = {
    {"corpus", OPT_STRING, NULL, "PATH", "texts to run the model on: a .txt or .jsonl file or a folder of them", 0, 0, false,
     false},
    {"tokens", OPT_INT, "16384", "TOKENS", "of the corpus, a seeded sample of whole documents; 0: all", 0, 9e15, false,
     false},
    {"skip-tokens", OPT_INT, "0", "TOKENS", "leave out the documents that a capture with --tokens TOKENS took", 0, 9e15,
     false, false},
    {"context", OPT_INT, "256", "TOKENS", "longest document; longer ones are cut into windows", 2, 1e6, false, false},
    {"skip-first", OPT_INT, NULL, "POSITIONS", "keep the rows of so many positions at a document's head (default: the SAE's)",
     0, 1e6, false, false},
    {"batch-tokens", OPT_INT, "4096", "TOKENS", "in one forward pass", 1, 1e6, false, false},
    {"dataset", OPT_STRING, NULL, "NAME", "hook or dataset of F.h5 (default: the SAE's hook)", 0, 0, false, false},
    {"held-out", OPT_FLAG, NULL, NULL, "of F.h5, only the rows that a training with this --seed kept out", 0, 0, false,
     false},
    {0},
};

/* ---- text ---- */

static void print_line(const char *name, interval x, const char *meaning) {
    printf("%-18s %10.4g  ", name, x.value);
    if (isfinite(x.low) && isfinite(x.high))
        printf("%9.4g .. %-9.4g", x.low, x.high);
    else
        printf("%22s", "");
    printf("  %s\n", meaning);
}

static void print_recon(const recon_result *r) {
    print_line("fvu", r->fvu, "share of variance left unexplained");
    print_line("l0", r->l0, "latents that fire, a row");
    print_line("cosine", r->cosine, "between row and reconstruction");
    print_line("norm_ratio", r->norm_ratio, "length of the reconstruction by that of the row");
    print_line("dead", r->dead, "share of latents that never fired here");
}

static void print_losses(const ce_result *r) {
    print_line("ce", r->ce, "nats per token, the model left alone");
    print_line("ce_sae", r->ce_sae, "with the reconstruction in place of the rows");
    print_line("ce_zero", r->ce_zero, "with zeros in their place");
    print_line("ce_mean", r->ce_mean, "with the mean row in their place");
    print_line("delta_ce", r->delta_ce, "ce_sae - ce: what the SAE costs");
    print_line("ce_recovered", r->ce_recovered, "1: costs nothing, 0: as much as zeros");
    print_line("ce_recovered_mean", r->ce_recovered_mean, "the same against the mean row");
}

static err_code print(const parsed_options *o, const recon_result *rows, const ce_result *losses, err *e) {
    if (opt_json(o)) return command_print_json(o, losses ? ce_result_to_json(losses) : recon_result_to_json(rows), e);
    if (losses)
        printf("%lld documents, %lld tokens predicted, %lld rows\n\n", (long long)losses->documents,
               (long long)losses->tokens, (long long)rows->rows);
    else
        printf("%lld rows\n\n", (long long)rows->rows);
    printf("%-18s %10s  %22s\n", "measure", "value", "95 % interval   ");
    print_recon(rows);
    if (losses) print_losses(losses);
    putchar('\n');
    outcome_again(o);
    return ERR_OK;
}

/* ---- the two forms ---- */

static err_code eval_in_model(ctx *c, const parsed_options *o, err *e) {
    model *m = NULL;
    sae *s = NULL;
    token_corpus k = {0};
    ce_result result;
    const corpus_opts which = {.context = opt_int(o, "context"),
                               .max_tokens = opt_int(o, "tokens"),
                               .skip_tokens = opt_int(o, "skip-tokens"),
                               .seed = opt_seed(o)};
    const ce_opts how = {.skip_first = opt_given(o, "skip-first") ? opt_int(o, "skip-first") : -1,
                         .batch_tokens = opt_int(o, "batch-tokens"),
                         .seed = opt_seed(o)};
    err_code rc;
    TRY(sae_load(opt_arg(o, 1), &s, e));
    TRY(model_open(c, opt_arg(o, 0), &m, e));
    TRY(corpus_read(c, opt_string(o, "corpus"), model_tokenizer(m), &which, &k, e));
    if (!k.n_docs) {
        rc = err_set(e, ERR_USAGE, "--skip-tokens: expected fewer than %s has, none of its documents are left",
                     opt_string(o, "corpus"));
        goto done;
    }
    rc = ce_run(c, m, s, &k, &how, &result, e);
    if (rc)
        err_prefix(e, rc, "%s", opt_arg(o, 1));
    else
        rc = print(o, &result.recon, &result, e);
done:
    corpus_release(&k);
    sae_free(s);
    model_close(m);
    return rc;
}

static err_code eval_rows(ctx *c, const parsed_options *o, err *e) {
    sae *s = NULL;
    recon_result result;
    const recon_file_opts how = {
        .dataset = opt_string(o, "dataset"), .held_out = opt_flag(o, "held-out"), .seed = opt_seed(o)};
    err_code rc;
    TRY(sae_load(opt_arg(o, 0), &s, e));
    TRY(recon_file(c, s, opt_arg(o, 1), &how, &result, e));
    rc = print(o, &result, NULL, e);
done:
    sae_free(s);
    return rc;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    static const char *const of_rows[] = {"dataset", "held-out", NULL};
    static const char *const of_model[] = {"tokens", "skip-tokens", "context", "skip-first", "batch-tokens", NULL};
    bool in_model = opt_given(o, "corpus");
    err_code rc = opt_refuse(o, in_model ? of_rows : of_model,
                             in_model ? "sae eval MODEL SAE --corpus C" : "sae eval SAE F.h5; add --corpus", e);
    if (rc) return rc;
    return in_model ? eval_in_model(c, o, e) : eval_rows(c, o, e);
}

const command cmd_eval = {
    .name = "eval",
    .help = "how good an SAE is: reconstruction, sparsity, dead latents, and what it costs the model, with intervals",
    .usage = "MODEL SAE --corpus C | SAE F.h5",
    .examples = "sae eval model.gguf study/sae --corpus texts/\nsae eval study/sae study/activations.h5 --held-out",
    .options = options,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
