#include "cli/command.h"
#include "core/names.h"
#include "sae/train/train.h"
#include "sae/variants/variants.h"

enum { VARIANTS_MAX = 64 };

static const option options[] = {
    {"out", OPT_STRING, NULL, "DIR", "folder of the autoencoder; the same command goes on where one was stopped", 0, 0, false,
     true},
    {"dataset", OPT_STRING, NULL, "NAME", "hook, or path of an [n, d] dataset of floats (default: the file's only hook)", 0,
     0, false, false},
    {"variant", OPT_STRING, "topk", "NAME", "kind of autoencoder", 0, 0, false, false},
    {"width", OPT_INT, "4608", "LATENTS", "how many latents", 1, 4e9, false, false},
    {"k", OPT_INT, "32", "LATENTS", "how many of them a row may use (topk)", 1, 4e9, false, false},
    {"rows", OPT_INT, "3000000", "ROWS", "how many to train on; more than the file has: several epochs", 1, 1e15, false,
     false},
    {"batch", OPT_INT, "4096", "ROWS", "rows in a step", 1, 1 << 24, false, false},
    {"lr", OPT_REAL, "0", "RATE", "learning rate at its highest; 0: by a rule from the width", 0, 1, false, false},
    {"warmup", OPT_INT, "-1", "STEPS", "over which it rises; -1: by a rule from the steps", -1, 1e12, false, false},
    {"decay", OPT_REAL, "0.2", "SHARE", "of the steps, at the end, over which it falls to 0", 0, 1, false, false},
    {"auxk", OPT_REAL, "0.03125", "WEIGHT", "of the term that revives dead latents (Gao et al. 2024)", 0, 1e6, false, false},
    {"k-aux", OPT_INT, "0", "LATENTS", "dead latents it may use in a row; 0: half the columns", 0, 4e9, false, false},
    {"dead-rows", OPT_INT, "0", "ROWS", "without firing until a latent is dead; 0: by a rule from the rows", 0, 1e15, false,
     false},
    {"held-out", OPT_REAL, "0.02", "SHARE", "of the documents never trained on, for FVU, L0 and dead", 0, 0.5, false, false},
    {"log-every", OPT_INT, "0", "ROWS", "between lines of metrics.csv; 0: at most fifty lines", 0, 1e15, false, false},
    {"checkpoint-every", OPT_INT, "0", "ROWS", "between checkpoints; 0: one every two minutes", 0, 1e15, false, false},
    {0},
};

static train_opts train_options(const parsed_options *o) {
    return (train_opts){.variant = opt_string(o, "variant"),
                        .width = opt_int(o, "width"),
                        .k = opt_int(o, "k"),
                        .rows = opt_int(o, "rows"),
                        .batch = opt_int(o, "batch"),
                        .seed = opt_seed(o),
                        .lr = opt_real(o, "lr"),
                        .warmup = opt_int(o, "warmup"),
                        .decay = opt_real(o, "decay"),
                        .auxk = opt_real(o, "auxk"),
                        .k_aux = opt_int(o, "k-aux"),
                        .dead_rows = opt_int(o, "dead-rows"),
                        .log_every = opt_int(o, "log-every"),
                        .checkpoint_every = opt_int(o, "checkpoint-every"),
                        .out = opt_string(o, "out"),
                        .command = opt_command_line(o)};
}

/* Of the kinds there are, those that can be trained. */
static err_code check_variant(const char *name, err *e) {
    struct {
        const char *name;
    } trainable[VARIANTS_MAX];
    int n = 0;
    for (int i = 0; i < n_sae_variants && n < VARIANTS_MAX; i++)
        if (sae_variants[i]->trains) trainable[n++].name = sae_variants[i]->name;
    if (names_find(name, trainable, n, sizeof *trainable) >= 0) return ERR_OK;
    return names_unknown(e, ERR_USAGE, "--variant", name, trainable, n, sizeof *trainable);
}

static err_code check_rows(const char *path, const source *rows, int64_t batch, err *e) {
    if (rows->n_rows >= batch) return ERR_OK;
    return err_set(e, ERR_MISMATCH, "%s: too few rows to train on: expected at least a batch of %lld, found %lld", path,
                   (long long)batch, (long long)rows->n_rows);
}

static void print_result(const parsed_options *o, const train_result *r) {
    if (r->resumed_from == r->rows)
        printf("%s was complete already: ", opt_string(o, "out"));
    else if (r->resumed_from)
        printf("went on from %lld rows: ", (long long)r->resumed_from);
    printf("%lld rows, %.0f rows/s; on held-out rows FVU %.4f, L0 %.1f; %.2f %% of the latents dead\n", (long long)r->rows,
           r->rows_per_second, r->fvu, r->l0, 100 * r->dead);
    printf("wrote  %s\nlook   sae eval %s %s\n", opt_string(o, "out"), opt_string(o, "out"), opt_arg(o, 0));
}

static json_t *result_to_json(const parsed_options *o, const train_result *r) {
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:s}", "rows", (json_int_t)r->rows, "rows_per_second",
                     command_json_real(r->rows_per_second), "fvu", command_json_real(r->fvu), "l0", command_json_real(r->l0),
                     "dead", command_json_real(r->dead), "resumed_from", (json_int_t)r->resumed_from, "out",
                     opt_string(o, "out"));
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    err_code rc;
    source *rows = NULL;
    train_result result;
    source_opts from = SOURCE_DEFAULTS;
    train_opts how = train_options(o);
    from.dataset = opt_string(o, "dataset");
    from.seed = opt_seed(o);
    from.held_out = opt_real(o, "held-out");
    TRY(check_variant(how.variant, e));
    TRY(source_open_hdf5(c, opt_arg(o, 0), &from, &rows, e));
    TRY(check_rows(opt_arg(o, 0), rows, how.batch, e));
    TRY(train_run(c, rows, &how, &result, e));
    if (opt_json(o))
        rc = command_print_json(o, result_to_json(o, &result), e);
    else
        print_result(o, &result);
done:
    source_close(rows);
    return rc;
}

const command cmd_train = {
    .name = "train",
    .help = "trains a sparse autoencoder on captured rows",
    .usage = "F.h5 --out DIR [options]",
    .examples = "sae train activations.h5 --out sae/ --width 8192 --k 32 --rows 3000000\n"
                "sae train rows.h5 --dataset /acts --out sae/ --seed 1 --json",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
