#include "analysis/study.h"

#include "analysis/study_internal.h"
#include "sae/sae.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- opening ---- */

static err_code name_files(study *s, err *e) {
    const char *out = s->o->out;
    err_code rc;
    TRY(file_make_dirs(out, e));
    TRY(path_join(out, "activations.h5", &s->activations, e));
    TRY(path_join(out, "eval.json", &s->eval, e));
    TRY(path_join(out, "features.db", &s->db, e));
    TRY(path_join(out, "features.codes.h5", &s->codes, e));
    TRY(path_join(out, "find.json", &s->find, e));
    TRY(path_join(out, "steer.json", &s->steer, e));
    TRY(path_join(out, "report.html", &s->report, e));
    if (s->o->sae) {
        s->sae = strdup(s->o->sae);
        if (!s->sae) rc = err_nomem(e, "a path", strlen(s->o->sae));
    } else {
        TRY(path_join(out, "sae", &s->sae, e));
    }
    if (rc) goto done;
    TRY(path_join(s->sae, "sae_weights.safetensors", &s->weights, e));
    TRY(path_join(s->sae, "metrics.csv", &s->metrics, e));
done:
    return rc;
}

/* The hook asked for, or the one a published SAE names. */
static err_code find_hook(study *s, err *e) {
    sae *published = NULL;
    const char *name = s->o->layer;
    err_code rc = ERR_OK;
    if (s->o->sae) {
        TRY(sae_load(s->o->sae, &published, e));
        if (!name) name = published->cfg.hook_name;
        if (!*name) {
            rc = err_set(e, ERR_MISMATCH, "%s does not say which hook it was made for: name it with --layer", s->o->sae);
            goto done;
        }
    }
    TRY(model_hook_point(s->model, name, &s->at, e));
    hook_format(s->at, s->hook);
    if (published) {
        rc = sae_check_fits(published, s->hook, s->model_sha256, model_config_of(s->model)->d_model, e);
        if (rc) err_prefix(e, rc, "%s", s->o->sae);
    }
done:
    sae_free(published);
    return rc;
}

static err_code open_study(study *s, err *e) {
    const corpus_opts which = {.context = s->o->context, .max_tokens = s->o->tokens, .seed = s->o->seed};
    err_code rc;
    TRY(model_open(s->c, s->model_path, &s->model, e));
    TRY(model_sha256(s->model, s->model_sha256, e));
    TRY(find_hook(s, e));
    TRY(corpus_read(s->c, s->o->corpus, model_tokenizer(s->model), &which, &s->corpus, e));
    TRY(name_files(s, e));
    TRY(study_state_open(s->o->out, &s->state, e));
    s->stages = json_array();
    if (!s->stages) rc = err_nomem(e, "the study", 0);
done:
    return rc;
}

static void close_study(study *s) {
    char *paths[] = {s->activations, s->sae, s->weights, s->metrics, s->eval, s->db, s->codes, s->find, s->steer, s->report};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) free(paths[i]);
    json_decref(s->stages);
    study_state_release(&s->state);
    corpus_release(&s->corpus);
    model_close(s->model);
}

/* ---- stages ---- */

/* From these inputs and this command on, what the stage makes is its own again, or continues. */
static err_code make(study *s, const study_stage *stage, const char *command, const json_t *in, err *e) {
    double started = now();
    json_t *result = NULL;
    err_code rc;
    if (study_state_status(&s->state, stage->name, in) == STAGE_CHANGED && stage->forget) TRY(stage->forget(s, e));
    TRY(study_state_begin(&s->state, stage->name, command, in, e));
    TRY(stage->run(s, command, &result, e));
    TRY(study_state_finish(&s->state, stage->name, now() - started, result, e));
done:
    json_decref(result);
    return rc;
}

static err_code add_to_result(study *s, const char *name, bool skipped, err *e) {
    const json_t *known = study_state_stage(&s->state, name);
    json_t *stage =
        json_pack("{s:s s:O s:O s:b s:O}", "name", name, "command", json_object_get(known, "command"), "seconds",
                  json_object_get(known, "seconds"), "skipped", skipped, "result", json_object_get(known, "result"));
    return json_array_append_new(s->stages, stage) ? err_nomem(e, "the study", 0) : ERR_OK;
}

static err_code run_stage(study *s, const study_stage *stage, err *e) {
    json_t *in = json_object();
    strbuf command = STRBUF_INIT;
    bool skipped = false;
    err_code rc;
    TRY(ctx_check_cancel(s->c, e));
    TRY(stage->inputs(s, in, e));
    TRY(stage->command(s, &command, e));
    TRY(strbuf_check(&command, e));
    skipped = study_state_status(&s->state, stage->name, in) == STAGE_DONE && stage->is_there(s);
    ctx_log(s->c, LOG_NOTE, "%s%s", stage->name, skipped ? ": done before, skipped" : "");
    if (!skipped) TRY(make(s, stage, command.data, in, e));
    TRY(add_to_result(s, stage->name, skipped, e));
done:
    json_decref(in);
    strbuf_release(&command);
    return rc ? err_prefix(e, rc, "%s", stage->name) : ERR_OK;
}

/* ---- the result ---- */

static json_t *files_to_json(const study *s) {
    const struct {
        const char *name, *path;
    } files[] = {{"activations", s->activations},
                 {"sae", s->sae},
                 {"eval", s->eval},
                 {"features", s->db},
                 {"codes", s->codes},
                 {"find", s->find},
                 {"steer", s->steer},
                 {"report", s->report}};
    json_t *out = json_object();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (file_exists(files[i].path)) json_object_set_new(out, files[i].name, json_string(files[i].path));
    return out;
}

/* What a stage's file says, null when the stage was left out. */
static err_code add_file(const study *s, json_t *doc, const char *key, const char *stage, const char *path, err *e) {
    json_t *content = NULL, *known;
    size_t i;
    bool made = false;
    err_code rc = ERR_OK;
    json_array_foreach(s->stages, i, known) made |= !strcmp(json_string_value(json_object_get(known, "name")), stage);
    if (made) TRY(study_read_json(path, &content, e));
    if (json_object_set_new(doc, key, content ? content : json_null())) rc = err_nomem(e, "the study", 0);
done:
    return rc;
}

/* What the report and the caller are told. */
err_code study_describe(const study *s, json_t **out, err *e) {
    const model_config *cfg = model_config_of(s->model);
    err_code rc = ERR_OK;
    json_t *about = json_pack("{s:s s:s s:s s:s s:I s:I}", "name", model_name(s->model), "path", s->model_path, "sha256",
                              s->model_sha256, "architecture", cfg->architecture, "n_layers", (json_int_t)cfg->n_layers,
                              "d_model", (json_int_t)cfg->d_model);
    *out = json_pack("{s:s s:s? s:o s:s s:O s:o}", "folder", s->o->out, "concept", s->o->concept, "model", about, "hook",
                     s->hook, "stages", s->stages, "files", files_to_json(s));
    if (!*out) return err_nomem(e, "the study", 0);
    TRY(add_file(s, *out, "eval", "eval", s->eval, e));
    TRY(add_file(s, *out, "find", "find", s->find, e));
    TRY(add_file(s, *out, "steering", "steer", s->steer, e));
done:
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

err_code study_run(const ctx *c, const char *model_path, const study_opts *o, json_t **out, err *e) {
    study s = {.c = c, .o = o, .model_path = model_path};
    double started = now();
    *out = NULL;
    err_code rc;
    if (!o->layer && !o->sae)
        return err_set(e, ERR_USAGE, "--layer is missing: it says where in the model to look (0 is the first block)");
    TRY(open_study(&s, e));
    for (int i = 0; i < n_study_stages; i++)
        if (study_stages[i].wanted(&s)) TRY(run_stage(&s, &study_stages[i], e));
    TRY(study_describe(&s, out, e));
    if (json_object_set_new(*out, "seconds", json_real(now() - started))) rc = err_nomem(e, "the study", 0);
done:
    close_study(&s);
    return rc;
}
