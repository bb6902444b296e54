#include "activations/live.h"
#include "activations/split.h"
#include "cli/command.h"
#include "cli/sweep_options.h"
#include "core/mem.h"
#include "core/names.h"
#include "sae/eval/ce.h"
#include "sae/train/curves.h"
#include "sae/train/sweep.h"
#include "sae/train/train.h"
#include "sae/variants/training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const option options[] = {
    {"out", OPT_STRING, NULL, "DIR", "folder of the autoencoder; the same command goes on where one was stopped", 0, 0, false,
     true},
    {"model", OPT_STRING, NULL, "MODEL", "instead of F.h5: rows straight from this model while it reads --corpus", 0, 0,
     false, false},
    {"corpus", OPT_STRING, NULL, "C", "a .txt or .jsonl file, or a folder of them", 0, 0, false, false},
    {"layer", OPT_INT, NULL, "L", "of the model: its blocks.L.hook_resid_post", 0, 1e6, false, false},
    {"hook", OPT_STRING, NULL, "NAME", "of the model, as blocks.16.hook_mlp_out", 0, 0, false, false},
    {"context", OPT_INT, "256", "TOKENS", "of the corpus, cut longer documents into windows of this", 1, 1 << 20, false,
     false},
    {"skip-first", OPT_INT, "1", "N", "leave out this many positions at the head of each window; 0 keeps all", 0, 1 << 20,
     false, false},
    {"tokens", OPT_INT, NULL, "N", "of the corpus, a seeded sample of whole documents that reaches N tokens", 1, 1e15, false,
     false},
    {"batch-tokens", OPT_INT, "4096", "N", "of the corpus, tokens in one forward pass", 1, 1 << 24, false, false},
    {"pool", OPT_INT, "131072", "ROWS", "of the model that are in memory at a time, and shuffled", 1, 1e12, false, false},
    {"dataset", OPT_STRING, NULL, "NAME", "hook, or path of an [n, d] dataset of floats (default: the file's only hook)", 0,
     0, false, false},
    {"target", OPT_STRING, NULL, "NAME", "hook or dataset of the rows to reconstruct (transcoder, skip_transcoder)", 0, 0,
     false, false},
    {"variant", OPT_STRING, "topk", "NAME",
     "topk, batchtopk, matryoshka, standard (ReLU, L1), gated, jumprelu, transcoder or skip_transcoder", 0, 0, false, false},
    {"width", OPT_INT, "4608", "LATENTS", "how many latents", 1, 4e9, false, false},
    {"k", OPT_INT, "32", "LATENTS", "how many of them a row may use, or uses on average (names with topk, transcoders)", 1,
     4e9, false, false},
    {"l0", OPT_REAL, "32", "LATENTS",
     "of a row on average: the penalty's weight is moved to it (standard, gated, jumprelu; batchtopk: as --k)", 0, 4e9, false,
     false},
    {"sparsity", OPT_REAL, "0", "WEIGHT",
     "of the penalty on latents that fire, fixed (standard, gated: L1; jumprelu: L0); 0: by --l0", 0, 1e9, false, false},
    {"bandwidth", OPT_REAL, "0.3", "WIDTH", "around a threshold, in which it learns (jumprelu)", 1e-9, 1e9, false, false},
    {"prefixes", OPT_STRING, NULL, "N,N,..",
     "latents that reconstruct alone (matryoshka; default: 1/16, 1/8, 1/4, 1/2 of the width, and all)", 0, 0, false, false},
    {"rows", OPT_INT, "3000000", "ROWS", "how many to train on; more than the file has: several epochs", 1, 1e15, false,
     false},
    {"batch", OPT_INT, "4096", "ROWS", "rows in a step", 1, 1 << 24, false, false},
    {"lr", OPT_REAL, "0", "RATE", "learning rate at its highest; 0: by a rule from the width", 0, 1, false, false},
    {"warmup", OPT_INT, "-1", "STEPS", "over which it rises; -1: by a rule from the steps", -1, 1e12, false, false},
    {"decay", OPT_REAL, "0.2", "SHARE", "of the steps, at the end, over which it falls to 0", 0, 1, false, false},
    {"auxk", OPT_REAL, "0.03125", "WEIGHT", "of the term that revives dead latents (Gao et al. 2024; where --k is)", 0, 1e6,
     false, false},
    {"k-aux", OPT_INT, "0", "LATENTS", "dead latents it may use in a row; 0: half the columns", 0, 4e9, false, false},
    {"dead-rows", OPT_INT, "0", "ROWS", "without firing until a latent is dead; 0: by a rule from the rows", 0, 1e15, false,
     false},
    {"preselect", OPT_STRING, "auto", "auto|int8|off",
     "look for the k largest scores among whole numbers first: the same latents, sooner", 0, 0, false, false},
    {"held-out", OPT_REAL, "0.02", "SHARE", "of the documents never trained on, for FVU, L0 and dead", 0, 0.5, false, false},
    {"sweep", OPT_STRING, NULL, "\"NAME=V,V ..\"",
     "many autoencoders from one reading of the rows, in OUT/k16-width4096 and so on: values of variant, width, k, l0, "
     "sparsity, bandwidth, lr, warmup, decay, auxk, k-aux or dead-rows; with --model and --corpus also what each costs the "
     "model",
     0, 0, false, false},
    {"ce-tokens", OPT_INT, "16384", "TOKENS",
     "sampled from the corpus' held-out documents (of its --tokens, as captured), for what those of a sweep cost the model",
     1, 9e15, false, false},
    {"log-every", OPT_INT, "0", "ROWS", "between lines of metrics.csv; 0: at most fifty lines", 0, 1e15, false, false},
    {"checkpoint-every", OPT_INT, "0", "ROWS", "between checkpoints; 0: one every two minutes", 0, 1e15, false, false},
    {0},
};

/* What --sweep may vary: what changes neither the rows nor when a run is measured. */
static const sweep_name varied[] = {
    {"variant", ""},       {"width", "width"},         {"k", "k"},         {"l0", "l0_"},    {"sparsity", "sparsity"},
    {"lr", "lr"},          {"warmup", "warmup"},       {"decay", "decay"}, {"auxk", "auxk"}, {"k-aux", "kaux"},
    {"dead-rows", "dead"}, {"bandwidth", "bandwidth"},
};
enum { N_VARIED = sizeof varied / sizeof *varied };

/* Options that not every variant has are handed on only when given: train_run refuses those that mean nothing. */
static train_opts train_options(const parsed_options *o, const char *folder) {
    train_opts t = {.variant = opt_string(o, "variant"),
                    .width = opt_int(o, "width"),
                    .rows = opt_int(o, "rows"),
                    .batch = opt_int(o, "batch"),
                    .seed = opt_seed(o),
                    .lr = opt_real(o, "lr"),
                    .warmup = opt_int(o, "warmup"),
                    .decay = opt_real(o, "decay"),
                    .auxk = -1,
                    .dead_rows = opt_int(o, "dead-rows"),
                    .log_every = opt_int(o, "log-every"),
                    .checkpoint_every = opt_int(o, "checkpoint-every"),
                    .out = folder,
                    .command = opt_command_line(o)};
    if (opt_given(o, "k")) t.k = opt_int(o, "k");
    if (opt_given(o, "l0")) t.l0 = opt_real(o, "l0");
    if (opt_given(o, "sparsity")) t.sparsity = opt_real(o, "sparsity");
    if (opt_given(o, "bandwidth")) t.bandwidth = opt_real(o, "bandwidth");
    if (opt_given(o, "auxk")) t.auxk = opt_real(o, "auxk");
    if (opt_given(o, "k-aux")) t.k_aux = opt_int(o, "k-aux");
    return t;
}

/* "288,1152,4608" */
static err_code read_prefixes(const char *text, train_opts *t, err *e) {
    const int most = sizeof t->prefixes / sizeof *t->prefixes;
    for (const char *at = text; at; at = strchr(at, ',')) {
        char *end;
        at += at != text;
        long long n = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || t->n_prefixes == most)
            return err_set(e, ERR_USAGE, "--prefixes: expected up to %d numbers with commas between, found '%s'", most, text);
        t->prefixes[t->n_prefixes++] = n;
    }
    return ERR_OK;
}

static err_code read_preselect(const char *name, preselect *out, err *e) {
    static const struct {
        const char *name;
        preselect how;
    } ways[] = {{"auto", PRESELECT_AUTO}, {"int8", PRESELECT_ON}, {"off", PRESELECT_OFF}};
    enum { N_WAYS = sizeof ways / sizeof *ways };
    int found = names_find(name, ways, N_WAYS, sizeof *ways);
    if (found < 0) return names_unknown(e, ERR_USAGE, "--preselect", name, ways, N_WAYS, sizeof *ways);
    *out = ways[found].how;
    return ERR_OK;
}

static err_code check_variant(const char *name, err *e) {
    if (names_find(name, sae_trainings, n_sae_trainings, NAMES_OF_POINTERS) >= 0) return ERR_OK;
    return names_unknown(e, ERR_USAGE, "--variant", name, sae_trainings, n_sae_trainings, NAMES_OF_POINTERS);
}

/* ---- rows ---- */

/* Where they come from: a file, or a model that reads a corpus. */
typedef struct rows_from {
    source *rows;
    model *m;
    token_corpus corpus;
} rows_from;

static void rows_release(rows_from *r) {
    source_close(r->rows);
    corpus_release(&r->corpus);
    model_close(r->m);
}

static err_code open_file(ctx *c, const parsed_options *o, rows_from *out, err *e) {
    const source_opts from = {.dataset = opt_string(o, "dataset"),
                              .target = opt_string(o, "target"),
                              .seed = opt_seed(o),
                              .held_out = opt_real(o, "held-out")};
    static const char *const of_reading[] = {"layer", "hook", "context", "skip-first", "pool", NULL};
    static const char *const of_models[] = {"model", "corpus", "tokens", "batch-tokens", NULL}; /* or of a sweep's costs */
    err_code rc = opt_refuse(o, of_reading, "sae train F.h5; leave out F.h5 and give --model", e);
    if (!rc && !opt_given(o, "sweep")) rc = opt_refuse(o, of_models, "sae train F.h5; leave out F.h5 and give --model", e);
    return rc ? rc : source_open_hdf5(c, opt_arg(o, 0), &from, &out->rows, e);
}

static err_code find_hook(const parsed_options *o, const model *m, hook_point *out, err *e) {
    char layer[32];
    if (opt_given(o, "layer") == opt_given(o, "hook"))
        return err_set(e, ERR_USAGE, "expected --layer L or --hook NAME, found %s",
                       opt_given(o, "layer") ? "both" : "neither");
    snprintf(layer, sizeof layer, "%lld", (long long)opt_int(o, "layer"));
    return model_hook_point(m, opt_given(o, "layer") ? layer : opt_string(o, "hook"), out, e);
}

static err_code open_model(ctx *c, const parsed_options *o, rows_from *out, err *e) {
    static const char *const of_files[] = {"dataset", NULL};
    const corpus_opts cut = {.context = opt_int(o, "context"), .max_tokens = opt_int(o, "tokens"), .seed = opt_seed(o)};
    live_opts from = LIVE_DEFAULTS;
    hook_point target;
    err_code rc;
    TRY(opt_refuse(o, of_files, "sae train --model; --hook says where in the model", e));
    TRY(model_open(c, opt_string(o, "model"), &out->m, e));
    TRY(find_hook(o, out->m, &from.hook, e));
    if (opt_given(o, "target")) {
        TRY(model_hook_point(out->m, opt_string(o, "target"), &target, e));
        from.target = &target;
    }
    TRY(corpus_read(c, opt_string(o, "corpus"), model_tokenizer(out->m), &cut, &out->corpus, e));
    from.context = cut.context;
    from.skip_first = opt_int(o, "skip-first");
    from.batch_tokens = opt_int(o, "batch-tokens");
    from.pool_rows = opt_int(o, "pool");
    from.seed = opt_seed(o);
    from.held_out = opt_real(o, "held-out");
    TRY(source_open_live(c, out->m, &out->corpus, &from, &out->rows, e));
done:
    return rc;
}

static void note_epochs(const ctx *c, const parsed_options *o, int64_t n_rows) {
    if (opt_int(o, "rows") <= n_rows || n_rows <= opt_int(o, "pool")) return;
    ctx_log(c, LOG_NOTE, "%lld rows are %.1f epochs, and the model reads the corpus in each; sae capture reads it once",
            (long long)opt_int(o, "rows"), (double)opt_int(o, "rows") / (double)n_rows);
}

static err_code open_rows(ctx *c, const parsed_options *o, int64_t batch, rows_from *out, err *e) {
    const char *path = opt_n_args(o) ? opt_arg(o, 0) : opt_string(o, "corpus");
    if (!opt_n_args(o) && !(opt_given(o, "model") && opt_given(o, "corpus")))
        return err_set(e, ERR_USAGE, "expected F.h5, or --model and --corpus, found %s",
                       opt_given(o, "model")    ? "--model alone"
                       : opt_given(o, "corpus") ? "--corpus alone"
                                                : "neither");
    err_code rc = opt_n_args(o) ? open_file(c, o, out, e) : open_model(c, o, out, e);
    if (!rc && out->m) note_epochs(c, o, out->rows->n_rows);
    if (rc || out->rows->n_rows >= batch) return rc;
    return err_set(e, ERR_MISMATCH, "%s: too few rows to train on: expected at least a batch of %lld, found %lld", path,
                   (long long)batch, (long long)out->rows->n_rows);
}

/* ---- the runs ---- */

typedef struct job {
    ctx *c;
    const parsed_options *o;
    rows_from from;
    sweep sweep;
    train_opts *how;       /* [sweep.n_runs] */
    train_result *results; /* [sweep.n_runs] */
    sweep_point *points;   /* [sweep.n_runs] in their own order */
    token_corpus judged;   /* what costs are measured on */
    bool measures_ce;
} job;

static void job_release(job *j) {
    rows_release(&j->from);
    corpus_release(&j->judged);
    sweep_release(&j->sweep);
    free(j->how);
    free(j->results);
    free(j->points);
}

static bool is_sweep(const job *j) { return j->sweep.n_axes > 0; }

static err_code read_runs(job *j, err *e) {
    err_code rc;
    TRY(sweep_read(j->o, varied, N_VARIED, &j->sweep, e));
    size_t n = (size_t)j->sweep.n_runs;
    TRY(mem_new(&j->how, n, sizeof *j->how, "runs", e));
    TRY(mem_new0(&j->results, n, sizeof *j->results, "runs", e));
    TRY(mem_new0(&j->points, n, sizeof *j->points, "runs", e));
    for (size_t i = 0; i < n; i++) {
        const sweep_run *r = &j->sweep.runs[i];
        j->how[i] = train_options(r->options, r->folder);
        TRY(read_preselect(opt_string(j->o, "preselect"), &j->how[i].preselect, e));
        TRY(check_variant(j->how[i].variant, e));
        TRY(read_prefixes(opt_string(j->o, "prefixes"), &j->how[i], e));
    }
done:
    return rc;
}

static err_code draw_curves(const job *j, err *e) {
    bool drawn, all = true;
    err_code rc = ERR_OK;
    for (int i = 0; i < j->sweep.n_runs && !rc; i++) {
        if (j->results[i].resumed_from == j->results[i].rows && curves_exist(j->how[i].out)) continue;
        rc = curves_draw(j->how[i].out, &drawn, e);
        all &= drawn;
    }
    if (!all) ctx_log(j->c, LOG_NOTE, "gnuplot did not draw the curves of metrics.csv (is gnuplot-nox installed?)");
    return rc;
}

/* ---- a sweep ---- */

/* For what a sweep's autoencoders cost the model: before hours are spent on training. */
static err_code prepare_costs(job *j, err *e) {
    const parsed_options *o = j->o;
    const source *rows = j->from.rows;
    const corpus_opts all = {.context = rows->context ? rows->context : opt_int(o, "context"),
                             .max_tokens = opt_int(o, "tokens"),
                             .seed = opt_seed(o)},
                      some = {.max_tokens = opt_int(o, "ce-tokens"), .seed = opt_seed(o)};
    char sha256[SHA256_HEX];
    err_code rc = ERR_OK;
    if (!j->from.m) TRY(model_open(j->c, opt_string(o, "model"), &j->from.m, e));
    TRY(model_sha256(j->from.m, sha256, e));
    if (rows->model_sha256[0] && strcmp(sha256, rows->model_sha256) != 0) {
        rc = err_set(e, ERR_MISMATCH, "%s: expected the model that the rows are of, %s, found another",
                     opt_string(o, "model"), rows->model_name);
        goto done;
    }
    TRY(corpus_read(j->c, opt_string(o, "corpus"), model_tokenizer(j->from.m), &all, &j->judged, e));
    TRY(corpus_keep_held_out(&j->judged, rows->skip_first, opt_real(o, "held-out"), e));
    TRY(corpus_sample(&j->judged, &some, e));
    j->measures_ce = true;
done:
    return rc;
}

static err_code measure_cost(const job *j, int i, double *out, err *e) {
    const ce_opts how = {
        .skip_first = -1, .batch_tokens = opt_int(j->o, "batch-tokens"), .delta_only = true, .seed = opt_seed(j->o)};
    sae *s = NULL;
    ce_result result;
    err_code rc;
    TRY(sae_load(j->how[i].out, &s, e));
    TRY(ce_run(j->c, j->from.m, s, &j->judged, &how, &result, e));
    *out = result.delta_ce.value;
done:
    sae_free(s);
    return rc ? err_prefix(e, rc, "%s", j->how[i].out) : rc;
}

static err_code check_costs(const parsed_options *o, err *e) {
    if (opt_given(o, "model") == opt_given(o, "corpus")) return ERR_OK;
    return err_set(e, ERR_USAGE, "expected --model and --corpus, found --%s alone",
                   opt_given(o, "model") ? "model" : "corpus");
}

static err_code compare(job *j, err *e) {
    const char *out = opt_string(j->o, "out");
    int n = j->sweep.n_runs;
    bool drawn;
    err_code rc = ERR_OK;
    for (int i = 0; i < n; i++) {
        const train_result *r = &j->results[i];
        j->points[i] = (sweep_point){.name = j->sweep.runs[i].name,
                                     .values = j->sweep.runs[i].values,
                                     .rows = r->rows,
                                     .l0 = r->l0,
                                     .fvu = r->fvu,
                                     .dead = r->dead,
                                     .delta_ce = NAN};
    }
    for (int i = 0; i < n && j->measures_ce; i++) TRY(measure_cost(j, i, &j->points[i].delta_ce, e));
    sweep_sort(j->points, n);
    sweep_mark_front(j->points, n);
    TRY(sweep_write(out, j->sweep.names, j->sweep.n_axes, j->points, n, e));
    TRY(sweep_draw(out, j->measures_ce, &drawn, e));
    if (!drawn) ctx_log(j->c, LOG_NOTE, "gnuplot did not draw sweep.csv (is gnuplot-nox installed?)");
done:
    return rc;
}

static void print_sweep(const job *j) {
    int width = 4, n = j->sweep.n_runs;
    for (int i = 0; i < n; i++) width = (int)strlen(j->points[i].name) > width ? (int)strlen(j->points[i].name) : width;
    printf("%-*s %9s %9s %8s%s  front\n", width, "", "L0", "FVU", "dead", j->measures_ce ? "  delta CE" : "");
    for (const sweep_point *p = j->points; p < j->points + n; p++) {
        printf("%-*s %9.1f %9.4f %6.2f %%", width, p->name, p->l0, p->fvu, 100 * p->dead);
        if (j->measures_ce) printf(" %9.4f", p->delta_ce);
        printf("  %s\n", p->on_front ? "*" : "");
    }
    printf("\nfront  no other has as few latents a row and as little left unexplained\n");
    printf("wrote  %s: %d autoencoder%s, sweep.csv, sweep.png\n", opt_string(j->o, "out"), n, n > 1 ? "s" : "");
}

static json_t *sweep_to_json(const job *j) {
    json_t *runs = json_array();
    for (const sweep_point *p = j->points; p < j->points + j->sweep.n_runs; p++)
        json_array_append_new(runs, json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:b}", "name", p->name, "rows",
                                              (json_int_t)p->rows, "fvu", command_json_real(p->fvu), "l0",
                                              command_json_real(p->l0), "dead", command_json_real(p->dead), "delta_ce",
                                              command_json_real(p->delta_ce), "front", p->on_front));
    return json_pack("{s:s, s:o}", "out", opt_string(j->o, "out"), "runs", runs);
}

/* ---- one ---- */

static void print_result(const parsed_options *o, const train_result *r) {
    if (r->resumed_from == r->rows)
        printf("%s was complete already: ", opt_string(o, "out"));
    else if (r->resumed_from)
        printf("went on from %lld rows: ", (long long)r->resumed_from);
    printf("%lld rows, %.0f rows/s; on held-out rows FVU %.4f, L0 %.1f; %.2f %% of the latents dead\n", (long long)r->rows,
           r->rows_per_second, r->fvu, r->l0, 100 * r->dead);
    printf("wrote  %s\nlook   ", opt_string(o, "out"));
    if (opt_n_args(o))
        printf("sae eval %s %s\n", opt_string(o, "out"), opt_arg(o, 0));
    else
        printf("sae eval %s %s --corpus %s\n", opt_string(o, "model"), opt_string(o, "out"), opt_string(o, "corpus"));
}

static json_t *result_to_json(const parsed_options *o, const train_result *r) {
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:s}", "rows", (json_int_t)r->rows, "rows_per_second",
                     command_json_real(r->rows_per_second), "fvu", command_json_real(r->fvu), "l0", command_json_real(r->l0),
                     "dead", command_json_real(r->dead), "resumed_from", (json_int_t)r->resumed_from, "out",
                     opt_string(o, "out"));
}

static err_code print(const job *j, err *e) {
    if (opt_json(j->o))
        return command_print_json(j->o, is_sweep(j) ? sweep_to_json(j) : result_to_json(j->o, &j->results[0]), e);
    if (is_sweep(j))
        print_sweep(j);
    else
        print_result(j->o, &j->results[0]);
    return ERR_OK;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    job j = {.c = c, .o = o};
    err_code rc;
    TRY(read_runs(&j, e));
    if (is_sweep(&j)) TRY(check_costs(o, e));
    TRY(open_rows(c, o, j.how[0].batch, &j.from, e));
    /* a transcoder does not stand for rows of one hook, so none can be replaced */
    if (is_sweep(&j) && opt_given(o, "model") && !opt_given(o, "target")) TRY(prepare_costs(&j, e));
    TRY(train_runs(c, j.from.rows, j.how, j.sweep.n_runs, j.results, e));
    TRY(draw_curves(&j, e));
    if (is_sweep(&j)) TRY(compare(&j, e));
    rc = print(&j, e);
done:
    job_release(&j);
    return rc;
}

const command cmd_train = {
    .name = "train",
    .help = "trains a sparse autoencoder on captured rows, or on rows straight from a model",
    .usage = "F.h5 --out DIR [options] | --model MODEL --corpus C --layer L --out DIR [options]",
    .examples = "sae train activations.h5 --out sae/ --width 8192 --k 32 --rows 3000000\n"
                "sae train --model model.gguf --corpus texts/ --layer 16 --out sae/ --variant batchtopk --k 64\n"
                "sae train activations.h5 --out sweep/ --sweep \"k=16,32,64 width=4096,16384\"",
    .options = options,
    .min_args = 0,
    .max_args = 1,
    .run = run,
};
