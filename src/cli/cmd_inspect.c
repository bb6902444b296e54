#include "activations/codes.h"
#include "activations/store.h"
#include "analysis/db.h"
#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/text.h"
#include "sae/sae.h"
#include "sae/variants/variants.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const option options[] = {
    {"tensors", OPT_FLAG, NULL, NULL, "also a model's tensors, one a line", 0, 0, false, false},
    {0},
};

/* ---- an autoencoder's folder ---- */

static void add_text(json_t *doc, const char *key, const char *text) {
    if (text && *text) json_object_set_new(doc, key, command_json_text(text, strlen(text)));
}

static void add_integer(json_t *doc, const char *key, int64_t n) { json_object_set_new(doc, key, json_integer(n)); }

static int64_t count_parameters(const sae *s) {
    const sae_config *f = &s->cfg;
    int64_t d_out = f->d_out ? f->d_out : f->d_in;
    int64_t per_latent = f->d_in + d_out + 1 + (s->threshold != NULL) + 2 * (s->b_gate != NULL);
    return f->d_sae * per_latent + d_out + (s->W_skip ? d_out * f->d_in : 0);
}

static void describe_sae(const sae *s, json_t *doc) {
    const sae_config *f = &s->cfg;
    add_text(doc, "kind", f->transcoder ? "transcoder" : "autoencoder");
    add_text(doc, "variant", f->variant->name);
    add_integer(doc, "d_in", f->d_in);
    add_integer(doc, "d_sae", f->d_sae);
    if (f->d_out) add_integer(doc, "d_out", f->d_out);
    if (f->k) add_integer(doc, "k", f->k);
    add_integer(doc, "parameters", count_parameters(s));
    json_object_set_new(doc, "apply_b_dec_to_input", json_boolean(f->apply_b_dec_to_input));
    add_text(doc, "hook", f->hook_name);
    add_text(doc, "hook_out", f->hook_out);
    add_text(doc, "model", f->model_name);
    add_text(doc, "model_sha256", f->model_sha256);
    if (f->context) add_integer(doc, "context", f->context);
    if (f->trained_rows) {
        add_integer(doc, "trained_rows", f->trained_rows);
        add_integer(doc, "seed", f->seed);
    }
    add_integer(doc, "skip_first", f->skip_first);
    add_text(doc, "sha256", s->sha256);
    add_text(doc, "note", s->note);
}

/* ---- activations ---- */

static const char *dtype_name(store_dtype t) {
    static const char *const names[] = {"float16", "bfloat16", "float32"};
    return names[t];
}

static json_t *hook_to_json(const store_hook *h, int64_t n_rows) {
    return json_pack("{s:s s:i s:I s:s s:I s:b s:o s:o s:o s:o}", "name", h->name, "layer", h->layer, "d_model",
                     (json_int_t)h->d_model, "dtype", dtype_name(h->dtype), "rows_done", (json_int_t)h->rows_done, "complete",
                     h->rows_done == n_rows, "mean_norm", command_json_real(h->mean_norm), "rms", command_json_real(h->rms),
                     "deviation_mean", command_json_real(h->deviation.mean), "deviation_max",
                     command_json_real(h->deviation.max));
}

static err_code describe_activations(const char *path, json_t *doc, err *e) {
    store *s = NULL;
    err_code rc = store_open(path, &s, e);
    if (rc) return rc;
    const store_info *f = store_info_of(s);
    json_t *hooks = json_array();
    for (int i = 0; i < f->n_hooks; i++) json_array_append_new(hooks, hook_to_json(&f->hooks[i], f->n_rows));
    add_text(doc, "kind", "activations");
    add_integer(doc, "tokens", f->n_tokens);
    add_integer(doc, "documents", f->n_docs);
    add_integer(doc, "rows", f->n_rows);
    add_integer(doc, "vocabulary", f->n_vocab);
    add_integer(doc, "context", f->context);
    add_integer(doc, "skip_first", f->skip_first);
    json_object_set_new(doc, "bos", json_boolean(f->bos));
    add_text(doc, "model", f->model_name);
    add_text(doc, "model_sha256", f->model_sha256);
    add_text(doc, "architecture", f->architecture);
    add_text(doc, "precision", model_precision_names[f->precision]);
    add_text(doc, "tokenizer_sha256", f->tokenizer_sha256);
    add_text(doc, "tool_version", f->tool_version);
    add_text(doc, "command", f->command);
    json_object_set_new(doc, "hooks", hooks);
    store_close(s);
    return ERR_OK;
}

/* ---- latents of rows ---- */

static err_code describe_codes(const char *path, json_t *doc, err *e) {
    codes k;
    err_code rc = codes_read(path, &k, e);
    if (rc) return rc;
    int64_t fired = k.indptr[k.n_rows];
    add_text(doc, "kind", "codes");
    add_integer(doc, "rows", k.n_rows);
    add_integer(doc, "d_sae", k.d_sae);
    add_integer(doc, "fired", fired);
    json_object_set_new(doc, "l0", command_json_real(k.n_rows ? (double)fired / (double)k.n_rows : NAN));
    add_text(doc, "hook", k.hook_name);
    add_text(doc, "sae_sha256", k.sae_sha256);
    codes_release(&k);
    return ERR_OK;
}

static err_code describe_hdf5(const char *path, json_t *doc, err *e) {
    err rows = {0}, latents = {0};
    if (!describe_activations(path, doc, &rows) || !describe_codes(path, doc, &latents)) return ERR_OK;
    return err_set(e, rows.code, "%s; as codes: %s", rows.message, latents.message);
}

/* ---- a feature database ---- */

static err_code describe_features(const char *path, json_t *doc, err *e) {
    static const struct {
        const char *key;
        bool number;
    } keys[] = {{"model", false},       {"model_sha256", false}, {"hook_name", false}, {"sae", false}, {"sae_sha256", false},
                {"activations", false}, {"codes", false},        {"rows", true},       {"seed", true}};
    feature_db *db = NULL;
    feature_stats *alive = NULL;
    feature_query all = FEATURE_QUERY_DEFAULTS;
    int64_t n_features, n_alive;
    err_code rc;
    all.limit = INT64_MAX;
    TRY(feature_db_open(path, &db, e));
    TRY(feature_db_count(db, &n_features, e));
    TRY(feature_db_list(db, &all, &alive, &n_alive, e));
    add_text(doc, "kind", "features");
    add_integer(doc, "features", n_features);
    add_integer(doc, "alive", n_alive);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        err absent = {0};
        char *value = NULL;
        if (feature_db_meta(db, keys[i].key, &value, &absent)) continue;
        if (keys[i].number)
            add_integer(doc, keys[i].key, strtoll(value, NULL, 10));
        else
            add_text(doc, keys[i].key, value);
        free(value);
    }
done:
    free(alive);
    feature_db_close(db);
    return rc;
}

/* ---- kinds of file, by content ---- */

static bool begins_with(const char *path, const char *magic, size_t n) {
    char head[16];
    FILE *f = fopen(path, "re");
    bool same = f && fread(head, 1, n, f) == n && !memcmp(head, magic, n);
    if (f) fclose(f);
    return same;
}

static bool has_cfg(const char *path) {
    char *cfg = NULL;
    err ignored = {0};
    bool has = file_is_dir(path) && !path_join(path, "cfg.json", &cfg, &ignored) && file_exists(cfg);
    free(cfg);
    return has;
}

/* Autoencoders and models come in the same containers and are told apart by what is in these. */
static err_code describe_tensors(const char *path, json_t *doc, err *e) {
    sae *s = NULL;
    err_code rc = sae_load(path, &s, e);
    if (!rc) describe_sae(s, doc);
    sae_free(s);
    if (rc != ERR_FORMAT || has_cfg(path)) return rc; /* also when all is well */
    rc = inspect_model(path, doc, e);
    if (rc == ERR_FORMAT) {
        err inner = *e;
        err_set(e, rc, "%s (nor is it activations (HDF5), a feature database (SQLite) or an autoencoder)", inner.message);
    }
    return rc;
}

static err_code describe(const char *path, json_t *doc, err *e) {
    json_object_set_new(doc, "file", command_json_text(path, strlen(path)));
    if (begins_with(path, "\x89HDF\r\n\x1a\n", 8)) return describe_hdf5(path, doc, e);
    if (begins_with(path, "SQLite format 3", 16)) return describe_features(path, doc, e);
    return describe_tensors(path, doc, e);
}

/* ---- as text ---- */

static void print_hooks(const json_t *hooks, int64_t rows) {
    size_t i;
    const json_t *h;
    puts("\nhooks");
    json_array_foreach(hooks, i, h) {
        int64_t done = json_integer_value(json_object_get(h, "rows_done"));
        printf("  %-32s %" JSON_INTEGER_FORMAT " %s, %" PRId64 " of %" PRId64 " rows",
               json_string_value(json_object_get(h, "name")), json_integer_value(json_object_get(h, "d_model")),
               json_string_value(json_object_get(h, "dtype")), done, rows);
        if (json_is_real(json_object_get(h, "mean_norm")))
            printf(", mean norm %.4g, rms %.4g", json_real_value(json_object_get(h, "mean_norm")),
                   json_real_value(json_object_get(h, "rms")));
        putchar('\n');
    }
}

/* Every plain value in its order, then what has a table of its own. */
static void print_document(const json_t *doc, bool all_tensors) {
    const char *key;
    const json_t *value;
    const char *kind = json_string_value(json_object_get(doc, "kind"));
    json_object_foreach((json_t *)doc, key, value) if (!json_is_object(value) && !json_is_array(value) &&
                                                       strcmp(key, "unusable") != 0) inspect_print_value(key, value);
    if (!strcmp(kind, "model")) {
        putchar('\n');
        inspect_print_model(doc, all_tensors);
    }
    if (!strcmp(kind, "activations"))
        print_hooks(json_object_get(doc, "hooks"), json_integer_value(json_object_get(doc, "rows")));
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    (void)c;
    json_t *doc = json_object();
    err_code rc = describe(opt_arg(o, 0), doc, e);
    if (!rc && opt_json(o)) return command_print_json(o, doc, e);
    if (!rc) print_document(doc, opt_flag(o, "tensors"));
    json_decref(doc);
    return rc;
}

const command cmd_inspect = {
    .name = "inspect",
    .help = "what is in a model, an autoencoder's folder, activations, codes or a feature database",
    .usage = "FILE",
    .examples = "sae inspect model.gguf --tensors\n"
                "sae inspect study/activations.h5 --json",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
