/* formats.c — the table of formats, and sae_load: which row a path belongs to, its files opened, described and built. */
#include "sae/formats/formats.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <stdlib.h>
#include <string.h>

static const sae_format *const formats[] = {
    &sae_format_sparsify,     &sae_format_saelens,     &sae_format_llama_scope_r1, &sae_format_dictionary_learning,
    &sae_format_gemma_scope2, &sae_format_llama_scope, &sae_format_gemma_scope,    &sae_format_openai,
    &sae_format_goodfire,     &sae_format_deepseek_r1, &sae_format_qwen_scope,     &sae_format_circuit_tracer,
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* A path's format and files. Names are owned. */
typedef struct opened {
    const sae_format *format;
    char *folder, *cfg_path, *weights_path;
    json_t *cfg;
    weights *w, *companion;
} opened;

static void opened_release(opened *o) {
    weights_close(o->companion);
    weights_close(o->w);
    json_decref(o->cfg);
    free(o->folder);
    free(o->cfg_path);
    free(o->weights_path);
}

/* ---- folders ---- */

static err_code folder_has(const char *folder, const char *name, bool *has, err *e) {
    char *path = NULL;
    *has = false;
    if (!name) return ERR_OK;
    err_code rc = path_join(folder, name, &path, e);
    if (!rc) *has = file_exists(path);
    free(path);
    return rc;
}

/* What the formats that one file speaks for would have beside it. */
static err_code half_a_folder(const char *folder, const bool *speaks, err *e) {
    strbuf known = STRBUF_INIT;
    for (int i = 0; i < N_FORMATS; i++) {
        const sae_format *f = formats[i];
        if (!speaks[i]) continue;
        strbuf_addf(&known, "%s%s%s%s (%s)", known.len ? ", or " : "", f->cfg_name ? f->cfg_name : "",
                    f->cfg_name ? " and " : "", f->weights_name, f->name);
    }
    err_code rc = strbuf_check(&known, e);
    if (!rc) rc = err_set(e, ERR_FORMAT, "%s: expected %s, found only one of them", folder, known.data);
    strbuf_release(&known);
    return rc;
}

/* The format all of whose files are there. */
static err_code find_folder_format(opened *o, err *e) {
    bool speaks[N_FORMATS] = {false}, any = false;
    for (int i = 0; i < N_FORMATS; i++) {
        const sae_format *f = formats[i];
        bool cfg, tensors;
        if (!f->weights_name) continue;
        err_code rc = folder_has(o->folder, f->cfg_name, &cfg, e);
        if (!rc) rc = folder_has(o->folder, f->weights_name, &tensors, e);
        if (rc) return rc;
        if (tensors && (cfg || !f->cfg_name)) {
            o->format = f;
            return ERR_OK;
        }
        speaks[i] = tensors || (cfg && strcmp(f->cfg_name, "config.json") != 0); /* which every model has */
        any |= speaks[i];
    }
    if (any) return half_a_folder(o->folder, speaks, e);
    return err_set(e, ERR_FORMAT, "%s: not the folder of an autoencoder of a kind known here (SAELens has %s and %s)",
                   o->folder, sae_format_saelens.cfg_name, sae_format_saelens.weights_name);
}

static err_code open_folder(opened *o, err *e) {
    err_code rc;
    TRY(find_folder_format(o, e));
    TRY(path_join(o->folder, o->format->weights_name, &o->weights_path, e));
    if (o->format->cfg_name) {
        TRY(path_join(o->folder, o->format->cfg_name, &o->cfg_path, e));
        TRY(cfg_load(o->cfg_path, &o->cfg, e));
    }
    TRY(weights_open(o->weights_path, &o->w, e));
done:
    return rc;
}

/* ---- files ---- */

/* The folder that path is the weights file of, by its name, into *folder; NULL when it is none. */
static err_code folder_of_weights(const char *path, char **folder, err *e) {
    size_t n = strlen(path);
    *folder = NULL;
    for (int i = 0; i < N_FORMATS; i++) {
        const char *name = formats[i]->weights_name;
        size_t m = name ? strlen(name) : n + 1;
        if (m > n || strcmp(path + n - m, name) != 0 || (n > m && path[n - m - 1] != '/')) continue;
        *folder = n > m + 1 ? strndup(path, n - m - 1) : strdup(n > m ? "/" : ".");
        return *folder ? ERR_OK : err_nomem(e, "path", n);
    }
    return ERR_OK;
}

bool weights_have(const weights *w, const char *const *names) {
    for (; *names; names++)
        if (!weights_find(w, *names)) return false;
    return true;
}

static err_code open_file(opened *o, const char *path, err *e) {
    err_code rc;
    o->weights_path = strdup(path);
    o->folder = strdup(".");
    if (!o->weights_path || !o->folder) return err_nomem(e, "path", strlen(path));
    TRY(weights_open(path, &o->w, e));
    for (int i = 0; i < N_FORMATS && !o->format; i++)
        if (formats[i]->is && formats[i]->is(o->w)) o->format = formats[i];
    if (!o->format) rc = err_set(e, ERR_FORMAT, "%s: its tensors are not those of an autoencoder of a kind known here", path);
done:
    return rc;
}

/* ---- loading ---- */

static err_code open_path(opened *o, const char *path, err *e) {
    err_code rc = ERR_OK;
    if (file_is_dir(path)) {
        o->folder = strdup(path);
        if (!o->folder) return err_nomem(e, "path", strlen(path));
    } else {
        rc = folder_of_weights(path, &o->folder, e);
    }
    if (rc) return rc;
    return o->folder ? open_folder(o, e) : open_file(o, path, e);
}

err_code sae_load_given(const char *path, const sae_given *given, sae **out, err *e) {
    opened o = {0};
    sae_description d = {0};
    sae *s = NULL;
    err_code rc;
    *out = NULL;
    TRY(open_path(&o, path, e));
    const sae_files files = {.path = path, .folder = o.folder, .w = o.w, .cfg = o.cfg, .companion = &o.companion};
    rc = o.format->describe(&files, &d, e);
    if (rc) {
        err_prefix(e, rc, "%s", o.cfg_path ? o.cfg_path : o.weights_path);
        goto done;
    }
    rc = sae_build(&d, o.w, given, &s, e);
    if (rc) {
        err_prefix(e, rc, "%s", o.weights_path);
        goto done;
    }
    TRY(file_sha256(o.weights_path, s->sha256, e));
    *out = s;
    s = NULL;
done:
    sae_free(s);
    opened_release(&o);
    return rc;
}

err_code sae_load(const char *path, sae **out, err *e) { return sae_load_given(path, &(sae_given){0}, out, e); }
