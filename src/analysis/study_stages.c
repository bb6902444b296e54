/* The stages of a study: what goes into each, the command that does the same, and the call. */
#include "activations/capture.h"
#include "activations/source.h"
#include "analysis/find.h"
#include "analysis/json.h"
#include "analysis/pass.h"
#include "analysis/report.h"
#include "analysis/steering.h"
#include "analysis/study_internal.h"
#include "core/mem.h"
#include "sae/eval/ce.h"
#include "sae/train/checkpoint.h"
#include "sae/train/train.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    EVAL_TOKENS = 6144, /* enough for delta CE to a few percent; four forward passes of them take a minute */
    STEER_CAUSES = 4,   /* best causes, and as many of the related words, whose steering is tried */
    JSON_BYTES_MAX = 64 << 20
};
static const char *const strengths[] = {"1x", "1.5x"};
enum { N_STRENGTHS = sizeof strengths / sizeof *strengths };

static bool always(const study *s) { return s != NULL; }

/* ---- files ---- */

err_code study_read_json(const char *path, json_t **out, err *e) {
    char *text;
    size_t size;
    json_error_t error;
    err_code rc = file_read(path, JSON_BYTES_MAX, &text, &size, e);
    if (rc) return rc;
    *out = json_loadb(text, size, 0, &error);
    free(text);
    return *out ? ERR_OK : err_set(e, ERR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
}

/* As the command of that name prints it. */
static err_code write_json(const char *path, const char *schema, const json_t *doc, err *e) {
    json_t *whole = json_object();
    char *text = NULL;
    err_code rc = ERR_OK;
    if (!json_object_set_new(whole, "schema", json_string(schema)) && !json_object_update(whole, (json_t *)doc))
        text = json_dumps(whole, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    rc = text ? file_write(path, text, strlen(text), e) : err_nomem(e, path, 0);
    free(text);
    json_decref(whole);
    return rc;
}

static err_code remove_file(const char *path, err *e) {
    if (!unlink(path) || errno == ENOENT) return ERR_OK;
    return err_set_errno(e, "%s: cannot remove what was made from other inputs", path);
}

/* ---- inputs ---- */

static err_code put(json_t *in, const char *key, json_t *value, err *e) {
    return json_object_set_new(in, key, value) ? err_nomem(e, "the study's state", 0) : ERR_OK;
}

static err_code put_int(json_t *in, const char *key, int64_t x, err *e) { return put(in, key, json_integer(x), e); }
static err_code put_text(json_t *in, const char *key, const char *x, err *e) {
    return put(in, key, x ? json_string(x) : json_null(), e);
}

static err_code put_file(study *s, json_t *in, const char *key, const char *path, err *e) {
    char sha256[SHA256_HEX];
    err_code rc = study_state_hash(&s->state, path, sha256, e);
    return rc ? rc : put_text(in, key, sha256, e);
}

static err_code put_model(study *s, json_t *in, err *e) { return put_text(in, "model", s->model_sha256, e); }

static err_code put_corpus(study *s, json_t *in, err *e) {
    char hash[32];
    snprintf(hash, sizeof hash, "%016" PRIx64, s->corpus.hash);
    return put_text(in, "corpus", hash, e);
}

/* ---- commands ---- */

static void begin(strbuf *out, const char *command) { strbuf_addf(out, "sae %s", command); }

static void word(strbuf *out, const char *text) {
    strbuf_add_char(out, ' ');
    strbuf_add_shell_word(out, text);
}

static void named(strbuf *out, const char *option, const char *value) {
    word(out, option);
    word(out, value);
}

static void number(strbuf *out, const char *option, int64_t value) { strbuf_addf(out, " %s %" PRId64, option, value); }

static void seed(const study *s, strbuf *out) { number(out, "--seed", (int64_t)s->o->seed); }

/* ---- capture ---- */

static err_code capture_inputs(study *s, json_t *in, err *e) {
    err_code rc;
    TRY(put_model(s, in, e));
    TRY(put_corpus(s, in, e));
    TRY(put_text(in, "hook", s->hook, e));
    TRY(put_int(in, "context", s->o->context, e));
    TRY(put_int(in, "skip_first", s->o->skip_first, e));
done:
    return rc;
}

static err_code capture_command(const study *s, strbuf *out, err *e) {
    (void)e;
    begin(out, "capture");
    word(out, s->model_path);
    named(out, "--hook", s->hook);
    named(out, "--corpus", s->o->corpus);
    named(out, "--out", s->activations);
    number(out, "--context", s->o->context);
    number(out, "--skip-first", s->o->skip_first);
    number(out, "--tokens", s->o->tokens);
    seed(s, out);
    return ERR_OK;
}

static bool capture_is_there(const study *s) { return file_exists(s->activations); }
static err_code capture_forget(study *s, err *e) { return remove_file(s->activations, e); }

static err_code capture_stage(study *s, const char *command, json_t **result, err *e) {
    capture_opts o = CAPTURE_DEFAULTS;
    capture_result r;
    o.hooks = &s->at;
    o.n_hooks = 1;
    o.skip_first = s->o->skip_first;
    o.command = command;
    err_code rc = capture_run(s->c, s->model, &s->corpus, s->activations, &o, &r, e);
    if (rc) return rc;
    *result = json_pack("{s:s s:I s:I s:I s:I s:I s:f}", "corpus", s->o->corpus, "documents", (json_int_t)s->corpus.n_docs,
                        "tokens", (json_int_t)r.tokens, "rows", (json_int_t)r.rows, "context", (json_int_t)s->o->context,
                        "skip_first", (json_int_t)s->o->skip_first, "tokens_per_second",
                        r.seconds > 0 ? (double)r.tokens_run / r.seconds : 0);
    return *result ? ERR_OK : err_nomem(e, "the study", 0);
}

/* ---- train ---- */

static bool train_wanted(const study *s) { return !s->o->sae; }

static train_opts training(const study *s, const char *command) {
    train_opts o = TRAIN_DEFAULTS;
    o.width = s->o->width;
    o.k = s->o->k;
    o.rows = s->o->rows;
    o.batch = s->o->batch;
    o.seed = s->o->seed;
    o.out = s->sae;
    o.command = command;
    return o;
}

static err_code train_inputs(study *s, json_t *in, err *e) {
    train_opts o = training(s, NULL);
    err_code rc;
    TRY(put_file(s, in, "activations", s->activations, e));
    TRY(put_text(in, "hook", s->hook, e));
    TRY(put_text(in, "variant", o.variant, e));
    TRY(put_int(in, "width", o.width, e));
    TRY(put_int(in, "k", o.k, e));
    TRY(put_int(in, "rows", o.rows, e));
    TRY(put_int(in, "batch", o.batch, e));
    TRY(put_int(in, "seed", (int64_t)o.seed, e));
done:
    return rc;
}

static err_code train_command(const study *s, strbuf *out, err *e) {
    train_opts o = training(s, NULL);
    (void)e;
    begin(out, "train");
    word(out, s->activations);
    named(out, "--out", s->sae);
    named(out, "--variant", o.variant);
    number(out, "--width", o.width);
    number(out, "--k", o.k);
    number(out, "--rows", o.rows);
    number(out, "--batch", o.batch);
    seed(s, out);
    return ERR_OK;
}

static bool train_is_there(const study *s) { return file_exists(s->weights); }

/* Only what training writes: whatever else lies there stays. */
static err_code train_forget(study *s, err *e) {
    static const char *const files[] = {"sae_weights.safetensors", "cfg.json", "train.json", "metrics.csv"};
    char *path = NULL;
    err_code rc = ERR_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        TRY(path_join(s->sae, files[i], &path, e));
        TRY(remove_file(path, e));
        free(path);
        path = NULL;
    }
    TRY(checkpoint_remove(s->sae, e));
done:
    free(path);
    return rc;
}

static err_code train_stage(study *s, const char *command, json_t **result, err *e) {
    train_opts o = training(s, command);
    source_opts from = SOURCE_DEFAULTS;
    source *rows = NULL;
    train_result r;
    err_code rc;
    from.dataset = s->hook;
    from.seed = s->o->seed;
    TRY(source_open_hdf5(s->c, s->activations, &from, &rows, e));
    TRY(train_run(s->c, rows, &o, &r, e));
    *result = json_pack("{s:s s:I s:I s:I s:f s:f s:f s:f}", "variant", o.variant, "d_sae", (json_int_t)o.width, "k",
                        (json_int_t)o.k, "rows", (json_int_t)r.rows, "rows_per_second", r.rows_per_second, "fvu", r.fvu, "l0",
                        r.l0, "dead", r.dead);
    if (!*result) rc = err_nomem(e, "the study", 0);
done:
    source_close(rows);
    return rc;
}

/* ---- eval ---- */

/* Documents that were not captured, if the corpus has more; else a part of those that were. */
static corpus_opts eval_corpus(const study *s, bool held_out) {
    return (corpus_opts){
        .context = s->o->context, .max_tokens = EVAL_TOKENS, .skip_tokens = held_out ? s->o->tokens : 0, .seed = s->o->seed};
}

static err_code eval_inputs(study *s, json_t *in, err *e) {
    err_code rc;
    TRY(put_model(s, in, e));
    TRY(put_corpus(s, in, e));
    TRY(put_file(s, in, "sae", s->weights, e));
    TRY(put_int(in, "tokens", EVAL_TOKENS, e));
    TRY(put_int(in, "seed", (int64_t)s->o->seed, e));
done:
    return rc;
}

static err_code eval_command(const study *s, strbuf *out, err *e) {
    (void)e;
    corpus_opts which = eval_corpus(s, true);
    begin(out, "eval");
    word(out, s->model_path);
    word(out, s->sae);
    named(out, "--corpus", s->o->corpus);
    number(out, "--tokens", which.max_tokens);
    number(out, "--skip-tokens", which.skip_tokens);
    number(out, "--context", which.context);
    seed(s, out);
    return ERR_OK;
}

static bool eval_is_there(const study *s) { return file_exists(s->eval); }

static err_code read_eval_corpus(study *s, token_corpus *k, bool *held_out, err *e) {
    *held_out = s->o->tokens > 0;
    corpus_opts which = eval_corpus(s, *held_out);
    const tokenizer *t = model_tokenizer(s->model);
    err_code rc = corpus_read(s->c, s->o->corpus, t, &which, k, e);
    if (rc || k->n_docs) return rc;
    ctx_log(s->c, LOG_NOTE, "the whole corpus was captured: evaluating on documents that were trained on");
    *held_out = false;
    which = eval_corpus(s, false);
    corpus_release(k);
    return corpus_read(s->c, s->o->corpus, t, &which, k, e);
}

static err_code eval_stage(study *s, const char *command, json_t **result, err *e) {
    (void)command;
    ce_opts o = CE_DEFAULTS;
    ce_result r;
    token_corpus k = {0};
    sae *coder = NULL;
    bool held_out;
    err_code rc;
    o.skip_first = s->o->skip_first;
    o.seed = s->o->seed;
    TRY(sae_load(s->sae, &coder, e));
    TRY(read_eval_corpus(s, &k, &held_out, e));
    TRY(ce_run(s->c, s->model, coder, &k, &o, &r, e));
    *result = ce_result_to_json(&r);
    if (!*result || json_object_set_new(*result, "held_out", json_boolean(held_out))) {
        rc = err_nomem(e, "the evaluation", 0);
        goto done;
    }
    rc = write_json(s->eval, "sae.eval/1", *result, e);
done:
    corpus_release(&k);
    sae_free(coder);
    return rc;
}

/* ---- features ---- */

static err_code features_inputs(study *s, json_t *in, err *e) {
    err_code rc;
    TRY(put_model(s, in, e));
    TRY(put_file(s, in, "activations", s->activations, e));
    TRY(put_file(s, in, "sae", s->weights, e));
    TRY(put_text(in, "sae_folder", s->sae, e)); /* the database remembers where it is */
    TRY(put_int(in, "seed", (int64_t)s->o->seed, e));
done:
    return rc;
}

static err_code features_command(const study *s, strbuf *out, err *e) {
    (void)e;
    begin(out, "features");
    word(out, s->activations);
    word(out, s->sae);
    named(out, "--out", s->db);
    named(out, "--model", s->model_path);
    seed(s, out);
    return ERR_OK;
}

static bool features_is_there(const study *s) { return file_exists(s->db) && file_exists(s->codes); }

static err_code features_stage(study *s, const char *command, json_t **result, err *e) {
    features_opts o = FEATURES_DEFAULTS;
    features_result r;
    o.model = s->model_path;
    o.dataset = s->hook;
    o.seed = s->o->seed;
    o.command = command;
    err_code rc = features_build(s->c, s->activations, s->sae, s->db, &o, &r, e);
    if (rc) return rc;
    *result = json_pack("{s:I s:I s:I s:f}", "features", (json_int_t)r.features, "alive", (json_int_t)r.alive, "rows",
                        (json_int_t)r.rows, "rows_per_second", r.rows_per_second);
    return *result ? ERR_OK : err_nomem(e, "the study", 0);
}

/* ---- find ---- */

static bool find_wanted(const study *s) { return s->o->concept != NULL; }

static err_code find_inputs(study *s, json_t *in, err *e) {
    err_code rc;
    TRY(put_model(s, in, e));
    TRY(put_file(s, in, "features", s->db, e));
    TRY(put_text(in, "concept", s->o->concept, e));
    TRY(put_text(in, "words", s->o->words, e));
    TRY(put(in, "anyway", json_boolean(s->o->anyway), e));
    TRY(put_int(in, "seed", (int64_t)s->o->seed, e));
done:
    return rc;
}

static err_code find_command(const study *s, strbuf *out, err *e) {
    (void)e;
    begin(out, "find");
    word(out, s->model_path);
    word(out, s->db);
    word(out, s->o->concept);
    if (s->o->words) named(out, "--words", s->o->words);
    if (s->o->anyway) word(out, "--anyway");
    seed(s, out);
    return ERR_OK;
}

static bool find_is_there(const study *s) { return file_exists(s->find); }

static err_code find_stage(study *s, const char *command, json_t **result, err *e) {
    (void)command;
    find_opts o = FIND_DEFAULTS;
    find_result r = {0};
    word_list given = {0};
    const char **words = NULL;
    json_t *doc = NULL;
    err_code rc = ERR_OK;
    if (s->o->words) {
        TRY(word_list_parse(s->o->words, &given, e));
        TRY(mem_new(&words, (size_t)given.n, sizeof *words, "words", e));
        for (int i = 0; i < given.n; i++) words[i] = given.items[i].text;
    }
    o.words = words;
    o.n_words = given.n;
    o.anyway = s->o->anyway;
    o.seed = s->o->seed;
    TRY(find_run(s->c, s->model, s->db, s->o->concept, &o, &r, e));
    doc = find_result_to_json(&r);
    if (!doc) {
        rc = err_nomem(e, "what was found", 0);
        goto done;
    }
    TRY(write_json(s->find, "sae.find/1", doc, e));
    *result = json_pack("{s:b s:i s:i}", "known", r.gate.known, "detectors", r.n_detectors, "causes", r.n_causes);
    if (!*result) rc = err_nomem(e, "the study", 0);
done:
    json_decref(doc);
    find_result_release(&r);
    free(words);
    word_list_release(&given);
    return rc;
}

/* ---- steer ---- */

/* With causes to steer by, which a concept that the model does not know has none of. */
static bool steer_wanted(const study *s) {
    if (!s->o->concept) return false;
    const json_t *found = json_object_get(study_state_stage(&s->state, "find"), "result");
    if (json_integer_value(json_object_get(found, "causes")) > 0) return true;
    ctx_log(s->c, LOG_NOTE, "steer: nothing found to steer by, left out");
    return false;
}

static err_code steer_inputs(study *s, json_t *in, err *e) {
    err_code rc;
    TRY(put_model(s, in, e));
    TRY(put_file(s, in, "features", s->db, e));
    TRY(put_file(s, in, "find", s->find, e));
    TRY(put_text(in, "words", s->o->words, e));
    TRY(put_int(in, "seed", (int64_t)s->o->seed, e));
done:
    return rc;
}

/* What counts as being about the concept: itself and the words that go with it. "Li Bai|Tang|poet" */
static void words_to_count(const study *s, const json_t *found, strbuf *out) {
    size_t i;
    json_t *x;
    strbuf_add_str(out, s->o->concept);
    json_array_foreach(json_object_get(found, "words"), i, x) strbuf_addf(out, "|%s", json_string_value(x));
}

/* The best causes, then the best of the related words that are not among them. Returns how many. */
static int features_to_try(const json_t *found, int64_t *out /* [2 * STEER_CAUSES] */) {
    static const char *const lists[] = {"causes", "word_causes"};
    int n = 0;
    for (int l = 0; l < 2; l++) {
        const json_t *list = json_object_get(found, lists[l]);
        int added = 0;
        for (size_t i = 0; i < json_array_size(list) && added < STEER_CAUSES; i++) {
            int64_t feature = json_integer_value(json_object_get(json_array_get(list, i), "feature"));
            int known = 0;
            while (known < n && out[known] != feature) known++;
            if (known < n) continue;
            out[n++] = feature;
            added++;
        }
    }
    return n;
}

static err_code steer_command(const study *s, strbuf *out, err *e) {
    json_t *found;
    strbuf words = STRBUF_INIT;
    err_code rc = study_read_json(s->find, &found, e);
    if (rc) return rc;
    begin(out, "steer");
    word(out, s->model_path);
    word(out, s->db);
    int64_t features[2 * STEER_CAUSES];
    int n = features_to_try(found, features);
    for (int i = 0; i < n; i++) number(out, "--feature", features[i]);
    strbuf_add_str(out, " --sweep ");
    for (size_t i = 0; i < N_STRENGTHS; i++) strbuf_addf(out, "%s%s", i ? "," : "", strengths[i]);
    words_to_count(s, found, &words);
    named(out, "--words", words.data);
    seed(s, out);
    rc = strbuf_check(&words, e);
    strbuf_release(&words);
    json_decref(found);
    return rc;
}

static bool steer_is_there(const study *s) { return file_exists(s->steer); }

/* Every feature at every strength. */
static err_code list_candidates(const steering *st, const json_t *found, steering_candidate *out, int *n, err *e) {
    const intervention_kind *clamp = intervention_kind_by_name("clamp", e);
    int64_t features[2 * STEER_CAUSES];
    int n_features = features_to_try(found, features);
    err_code rc = ERR_OK;
    *n = 0;
    for (int i = 0; i < n_features; i++)
        for (size_t j = 0; j < N_STRENGTHS; j++) {
            steering_setting setting = {.feature = features[i], .has_strength = true};
            steering_candidate *x = &out[(*n)++];
            *x = (steering_candidate){.n = 1};
            snprintf(x->name, sizeof x->name, "%" PRId64 " at %s", setting.feature, strengths[j]);
            TRY(steering_parse_strength(strengths[j], &setting.strength, e));
            TRY(steering_resolve(st, clamp, &setting, &x->items[0], e));
        }
done:
    return rc;
}

static err_code steer_stage(study *s, const char *command, json_t **result, err *e) {
    (void)command;
    steering_candidate *candidates = NULL;
    steering st = {0};
    word_list words = {0};
    strbuf spec = STRBUF_INIT;
    json_t *found = NULL, *doc = NULL;
    int n;
    err_code rc;
    TRY(study_read_json(s->find, &found, e));
    words_to_count(s, found, &spec);
    TRY(strbuf_check(&spec, e));
    TRY(word_list_parse(spec.data, &words, e));
    TRY(steering_open(s->model, s->db, &st, e));
    TRY(mem_new(&candidates, 2 * STEER_CAUSES * N_STRENGTHS, sizeof *candidates, "candidates", e));
    TRY(list_candidates(&st, found, candidates, &n, e));
    steering_search_opts o = {.steer = STEER_DEFAULTS,
                              .prompts = steer_prompts,
                              .n_prompts = STEER_PROMPTS,
                              .choice_samples = STEERING_CHOICE_SAMPLES,
                              .report_samples = STEERING_REPORT_SAMPLES};
    o.steer.words = &words;
    o.steer.sample.seed = s->o->seed;
    TRY(steering_search(s->c, &st, candidates, n, &o, &doc, e));
    TRY(write_json(s->steer, "sae.steer/1", doc, e));
    *result = json_pack("{s:O s:O}", "best", json_object_get(doc, "best"), "positions_changed",
                        json_object_get(doc, "positions_changed"));
    if (!*result) rc = err_nomem(e, "the study", 0);
done:
    json_decref(found);
    json_decref(doc);
    free(candidates);
    word_list_release(&words);
    strbuf_release(&spec);
    steering_release(&st);
    return rc;
}

/* ---- report ---- */

static err_code report_inputs_of(study *s, json_t *in, err *e) {
    const struct {
        const char *stage, *path;
    } files[] = {{"eval", s->eval}, {"features", s->db}, {"find", s->find}, {"steer", s->steer}};
    size_t i;
    json_t *stage;
    err_code rc = ERR_OK;
    json_array_foreach(s->stages, i, stage) {
        const char *name = json_string_value(json_object_get(stage, "name"));
        TRY(put(in, name, json_incref(json_object_get(stage, "command")), e));
        for (size_t k = 0; k < sizeof files / sizeof *files; k++)
            if (!strcmp(files[k].stage, name)) TRY(put_file(s, in, path_base(files[k].path), files[k].path, e));
    }
done:
    return rc;
}

/* No command of its own: the study's. */
static err_code report_command(const study *s, strbuf *out, err *e) {
    const study_opts *o = s->o;
    (void)e;
    begin(out, "study");
    word(out, s->model_path);
    if (o->layer) named(out, "--layer", o->layer);
    named(out, "--corpus", o->corpus);
    if (o->concept) named(out, "--concept", o->concept);
    if (o->words) named(out, "--words", o->words);
    if (o->anyway) word(out, "--anyway");
    if (o->sae) named(out, "--sae", o->sae);
    named(out, "--out", o->out);
    number(out, "--tokens", o->tokens);
    number(out, "--context", o->context);
    number(out, "--skip-first", o->skip_first);
    if (!o->sae) {
        number(out, "--width", o->width);
        number(out, "--k", o->k);
        number(out, "--rows", o->rows);
        number(out, "--batch", o->batch);
    }
    seed(s, out);
    return ERR_OK;
}

static bool report_is_there(const study *s) { return file_exists(s->report); }

static err_code report_stage(study *s, const char *command, json_t **result, err *e) {
    (void)command;
    json_t *about;
    err_code rc = study_describe(s, &about, e);
    if (rc) return rc;
    const json_t *eval = json_object_get(about, "eval"), *find = json_object_get(about, "find"),
                 *steered = json_object_get(about, "steering");
    const report_inputs in = {.study = about,
                              .eval = json_is_null(eval) ? NULL : eval,
                              .find = json_is_null(find) ? NULL : find,
                              .steering = json_is_null(steered) ? NULL : steered,
                              .db = s->db,
                              .metrics = train_wanted(s) ? s->metrics : NULL};
    rc = report_write(s->c, &in, s->report, e);
    json_decref(about);
    *result = json_object();
    return rc;
}

const study_stage study_stages[] = {
    {"capture", always, capture_inputs, capture_command, capture_is_there, capture_forget, capture_stage},
    {"train", train_wanted, train_inputs, train_command, train_is_there, train_forget, train_stage},
    {"eval", always, eval_inputs, eval_command, eval_is_there, NULL, eval_stage},
    {"features", always, features_inputs, features_command, features_is_there, NULL, features_stage},
    {"find", find_wanted, find_inputs, find_command, find_is_there, NULL, find_stage},
    {"steer", steer_wanted, steer_inputs, steer_command, steer_is_there, NULL, steer_stage},
    {"report", always, report_inputs_of, report_command, report_is_there, NULL, report_stage},
};
const int n_study_stages = sizeof study_stages / sizeof *study_stages;
