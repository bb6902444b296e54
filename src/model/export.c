#include "model/export.h"
#include "core/strbuf.h"
#include "formats/gguf.h"
#include "formats/quantize.h"
#include "formats/safetensors.h"
#include "model/export_internal.h"
#include "text/write.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void export_plan_release(export_plan *p) {
    weights_close(p->to);
    free(p->jobs), free(p->rope_factors);
    *p = (export_plan){0};
}

/* ---- types ---- */

static bool is_float(const quant_type *t) {
    return !strcmp(t->name, "F32") || !strcmp(t->name, "F16") || !strcmp(t->name, "BF16");
}

/* Positions, counts, masks: not weights. */
static bool is_whole_number(const quant_type *t) { return t->block_size == 1 && strchr("IUB", t->name[0]) && !is_float(t); }

static bool has_type(const export_opts *o, const quant_type *t) {
    return o->format == EXPORT_GGUF ? t->ggml_id != QUANT_NO_ID : t->block_size == 1;
}

static bool ends_in(const char *text, const char *ending) {
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

/* What llama.cpp multiplies: it expects the rest of a GGUF file in float32. */
static bool is_gguf_matrix(const char *name, int n_dims) {
    return n_dims >= 2 && ends_in(name, ".weight") && !ends_in(name, "_norm.weight") && strcmp(name, "position_embd.weight");
}

/* Ternary numbers are for matrices between layers. */
static bool is_end(const char *name) { return !strcmp(name, "token_embd.weight") || !strcmp(name, "output.weight"); }

/* The type all parts have, NULL when they differ or nothing is read. */
static const quant_type *source_type(const job *j) {
    const quant_type *t = j->n_parts && j->parts[0].from ? j->parts[0].from->type : NULL;
    for (int i = 1; i < j->n_parts; i++)
        if (!j->parts[i].from || j->parts[i].from->type != t) return NULL;
    return t;
}

static const quant_type *pick_type(export_plan *p, const export_opts *o, const char *name, int n_dims, int64_t row,
                                   const job *j) {
    const quant_type *f32 = quant_by_name("F32"), *f16 = quant_by_name("F16"), *source = source_type(j);
    bool gguf = o->format == EXPORT_GGUF, computed = j->scale != 1 || j->shift != 0 || j->values;
    if (source && is_whole_number(source) && has_type(o, source)) return source;
    if (gguf && !is_gguf_matrix(name, n_dims)) return f32;
    if (!o->type)
        return source && has_type(o, source) && quantizer_of(source) && (!computed || is_float(source)) ? source
               : source && has_type(o, source) && !computed && !j->across                               ? source
                                                                                                        : f32;
    if (!strcmp(o->type->name, "TQ2_0") && is_end(name)) return f16;
    if (row % o->type->block_size == 0) return o->type;
    if (!p->n_fallback++) p->first_fallback = (int64_t)p->n_jobs;
    return f16;
}

err_code export_add(export_plan *p, const export_opts *o, const char *name, const int64_t *shape, int n_dims, const job *j,
                    err *e) {
    tensor_view t = {.n_dims = n_dims};
    int64_t count;
    err_code rc;
    memcpy(t.shape, shape, (size_t)n_dims * sizeof *shape);
    t.type = pick_type(p, o, name, n_dims, n_dims ? shape[n_dims - 1] : 1, j);
    for (int i = 0; i < j->n_parts; i++)
        if (j->parts[i].from && j->k % j->parts[i].from->type->block_size)
            return err_set(e, ERR_UNSUPPORTED, "tensor %s: rows of %lld values of %s cannot be taken apart",
                           j->parts[i].from->name, (long long)j->k, j->parts[i].from->type->name);
    if (!shape_count(n_dims, t.shape, &count) || !quant_bytes(t.type, count, &t.size))
        return err_set(e, ERR_FORMAT, "tensor %s is too large", name);
    TRY(mem_grow(&p->jobs, &p->cap_jobs, p->n_jobs + 1, sizeof *p->jobs, "a plan", e));
    TRY(weights_add_tensor(p->to, &t, name, strlen(name), e));
    p->jobs[p->n_jobs++] = *j;
done:
    return rc;
}

/* ---- within a format ---- */

static err_code plan_within(const weights *from, const export_opts *o, export_plan *p, err *e) {
    err_code rc = ERR_OK;
    for (int64_t i = 0; !rc && i < weights_tensor_count(from); i++) {
        const tensor_view *t = weights_tensor_at(from, i);
        int64_t k = t->n_dims ? t->shape[t->n_dims - 1] : 1, n = k ? tensor_count(t) / k : 0;
        const place whole = place_whole(NULL, n ? n : 1, k);
        const job j = {.parts = {{.from = t, .source = whole.order, .target = whole.order, .n = n}},
                       .n_parts = 1,
                       .n_rows = n,
                       .k = k,
                       .scale = 1};
        rc = export_add(p, o, t->name, t->shape, t->n_dims, &j, e);
    }
    return rc;
}

static err_code copy_keys(const weights *from, const quant_type *type, weights *to, err *e) {
    err_code rc = ERR_OK;
    for (int64_t i = 0; !rc && i < weights_meta_count(from); i++) {
        const meta_value *v = weights_meta_at(from, i);
        if (!type || strcmp(v->key, "general.file_type")) rc = weights_add_meta(to, v, v->key, strlen(v->key), e);
    }
    return rc;
}

/* ---- GGUF ---- */

/* llama.cpp's number for "mostly of this type". */
static int64_t file_type(const quant_type *t) {
    static const struct {
        const char *name;
        int number;
    } numbers[] = {{"F32", 0}, {"F16", 1}, {"Q4_0", 2}, {"Q4_1", 3}, {"Q8_0", 7}, {"BF16", 32}, {"TQ2_0", 37}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(numbers[i].name, t->name)) return numbers[i].number;
    return 0;
}

/* The type that most bytes have. */
static const quant_type *main_type(const weights *to) {
    const quant_type *best = quant_by_name("F32");
    uint64_t most = 0;
    for (int k = 0; k < n_quant_types; k++) {
        uint64_t bytes = 0;
        for (int64_t i = 0; i < weights_tensor_count(to); i++)
            if (weights_tensor_at(to, i)->type == quant_types + k) bytes += weights_tensor_at(to, i)->size;
        if (bytes > most) most = bytes, best = quant_types + k;
    }
    return best;
}

/* The last part of the path, as a name. */
static err_code put_name(const char *path, weights *to, err *e) {
    size_t end = strlen(path), start;
    while (end > 1 && path[end - 1] == '/') end--;
    for (start = end; start && path[start - 1] != '/';) start--;
    return weights_set_text(to, "general.name", path + start, end - start, e);
}

static int64_t vocabulary_of(const weights *from) {
    static const char *const names[] = {"model.embed_tokens.weight", "transformer.wte.weight", "wte.weight",
                                        "gpt_neox.embed_in.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (weights_find(from, names[i])) return weights_find(from, names[i])->shape[0];
    return 0;
}

static err_code plan_gguf(const ctx *c, const weights *from, const export_opts *o, export_plan *p, err *e) {
    err_code rc;
    if (config_is_gguf(from)) {
        TRY(copy_keys(from, o->type, p->to, e));
        TRY(plan_within(from, o, p, e));
        if (o->type) TRY(weights_set_int(p->to, "general.file_type", file_type(main_type(p->to)), e));
    } else {
        TRY(export_plan_across(c, from, o, p, e));
        TRY(weights_set_text(p->to, "general.type", "model", strlen("model"), e));
        TRY(put_name(weights_path(from), p->to, e));
        TRY(weights_set_int(p->to, "general.file_type", file_type(main_type(p->to)), e));
        TRY(weights_set_int(p->to, "general.quantization_version", 2, e));
        TRY(tokenizer_write_keys(c, from, vocabulary_of(from), p->to, e));
    }
    rc = weights_index(p->to, e);
done:
    return rc;
}

/* ---- folders ---- */

static json_t *json_of(const meta_value *v) {
    json_t *array;
    switch (v->kind) {
    case META_BOOL: return json_boolean(v->boolean);
    case META_INT: return json_integer(v->integer);
    case META_FLOAT: return json_real(v->real);
    case META_STRING: return json_stringn(v->string.bytes, v->string.len);
    default: break;
    }
    array = json_array();
    for (int64_t i = 0; i < v->array.count; i++) json_array_append_new(array, json_of(v->array.items + i));
    return array;
}

/* Sets "a.b" as {"a": {"b": ..}}. */
static bool set_nested(json_t *root, const char *key, json_t *value) {
    const char *dot = strchr(key, '.');
    if (!dot) return !json_object_set_new(root, key, value);
    json_t *inner = json_object_getn(root, key, (size_t)(dot - key));
    if (!inner && json_object_setn_new(root, key, (size_t)(dot - key), inner = json_object())) return false;
    return !json_object_set_new(inner, dot + 1, value);
}

static err_code write_json(const char *path, const json_t *root, err *e) {
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    err_code rc = text ? file_write(path, text, strlen(text), e) : err_nomem(e, path, 0);
    free(text);
    return rc;
}

static const char *torch_name(const quant_type *t) {
    return !strcmp(t->name, "F16") ? "float16" : !strcmp(t->name, "BF16") ? "bfloat16" : "float32";
}

static err_code write_config(const weights *config, const quant_type *type, const char *path, err *e) {
    json_t *root = json_object();
    bool built = root && !json_object_set_new(root, "torch_dtype", json_string(torch_name(type)));
    for (int64_t i = 0; built && i < weights_meta_count(config); i++) {
        const meta_value *v = weights_meta_at(config, i);
        built = set_nested(root, v->key, json_of(v));
    }
    err_code rc = built ? write_json(path, root, e) : err_nomem(e, path, 0);
    json_decref(root);
    return rc;
}

/* The source's own config.json but for the type of the numbers. */
static err_code copy_config(const weights *from, const quant_type *type, const char *path, err *e) {
    char *source = NULL, *text = NULL;
    size_t n;
    json_t *root = NULL;
    json_error_t why;
    err_code rc;
    TRY(path_join(weights_path(from), "config.json", &source, e));
    TRY(file_read(source, 4 << 20, &text, &n, e));
    root = json_loadb(text, n, 0, &why);
    if (!root) TRY(err_set(e, ERR_FORMAT, "%s: byte %d: %s", source, why.position, why.text));
    const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
    if (json_object_set_new(root, key, json_string(torch_name(type)))) TRY(err_nomem(e, source, n));
    rc = write_json(path, root, e);
done:
    json_decref(root);
    free(source), free(text);
    return rc;
}

/* What stands beside a model and belongs to it. */
static const char *const companions[] = {"tokenizer.json",      "tokenizer.model", "tokenizer_config.json",
                                         "chat_template.jinja", "vocab.json",      "special_tokens_map.json",
                                         "added_tokens.json",   "merges.txt",      "generation_config.json"};
enum { N_COMPANIONS = sizeof companions / sizeof *companions };

static err_code copy_companions(const weights *from, const char *out, err *e) {
    err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < N_COMPANIONS; i++) {
        char *source = NULL, *target = NULL, *bytes = NULL;
        size_t n;
        rc = path_join(weights_path(from), companions[i], &source, e);
        if (!rc) rc = path_join(out, companions[i], &target, e);
        if (!rc && file_exists(source)) {
            rc = file_read(source, 1 << 28, &bytes, &n, e);
            if (!rc) rc = file_write(target, bytes, n, e);
        }
        free(source), free(target), free(bytes);
    }
    return rc;
}

/* Everything in the folder but the tensors. */
static err_code write_folder(const ctx *c, const weights *from, export_plan *p, const quant_type *type, const char *out,
                             err *e) {
    char *config = NULL;
    err_code rc;
    TRY(file_make_dirs(out, e));
    TRY(path_join(out, "config.json", &config, e));
    if (config_is_gguf(from)) {
        TRY(tokenizer_write_folder(c, from, out, p->to, e));
        TRY(write_config(p->to, type, config, e));
    } else {
        TRY(copy_companions(from, out, e));
        TRY(copy_config(from, type, config, e));
    }
done:
    free(config);
    return rc;
}

static err_code plan_folder(const ctx *c, const weights *from, const export_opts *o, export_plan *p, err *e) {
    const arch *a;
    if (config_is_gguf(from)) return export_plan_across(c, from, o, p, e);
    err_code rc = arch_find(from, &a, e);
    return rc ? rc : plan_within(from, o, p, e);
}

/* The header of safetensors says for which library it is; the keys of the plan are config.json's. */
static err_code tensors_alone(const export_plan *p, weights **out, err *e) {
    err_code rc = weights_new(weights_path(p->to), out, e);
    if (!rc) rc = weights_set_text(*out, "format", "pt", 2, e);
    for (int64_t i = 0; !rc && i < weights_tensor_count(p->to); i++) {
        const tensor_view *t = weights_tensor_at(p->to, i);
        rc = weights_add_tensor(*out, t, t->name, strlen(t->name), e);
    }
    return rc;
}

static void remove_file(const char *folder, const char *name) {
    char *path;
    if (path_join(folder, name, &path, NULL)) return;
    unlink(path);
    free(path);
}

/* A folder that was made for a model that then could not be written. */
static void remove_folder(const char *out) {
    remove_file(out, "config.json");
    for (int i = 0; i < N_COMPANIONS; i++) remove_file(out, companions[i]);
    rmdir(out);
}

static err_code export_folder(const ctx *c, const weights *from, export_plan *p, const char *out, export_run *run, err *e) {
    weights *tensors = NULL;
    char *path = NULL;
    bool is_new = !file_exists(out);
    err_code rc;
    TRY(file_check_space(out, run->total, e));
    TRY(write_folder(c, from, p, main_type(p->to), out, e));
    TRY(path_join(out, "model.safetensors", &path, e));
    TRY(tensors_alone(p, &tensors, e));
    rc = safetensors_write_described(path, tensors, export_produce, run, e);
done:
    if (rc && is_new) remove_folder(out);
    weights_close(tensors);
    free(path);
    return rc;
}

/* ---- all of it ---- */

static err_code check_opts(const export_opts *o, err *e) {
    char known[QUANTIZABLE_TEXT];
    if (o->type && !quantizer_of(o->type))
        return err_set(e, ERR_USAGE, "no tensors are written as %s (known: %s)", o->type->name, quantizable_types(known));
    if (o->type && o->format == EXPORT_FOLDER && !is_float(o->type))
        return err_set(e, ERR_USAGE, "a folder's numbers are F32, F16 or BF16, not %s", o->type->name);
    return ERR_OK;
}

err_code model_export(const ctx *c, const weights *from, const export_opts *o, const char *out, export_result *result,
                      err *e) {
    export_plan p = {0};
    export_run run = {.c = c, .plan = &p};
    err_code rc;
    *result = (export_result){0};
    TRY(check_opts(o, e));
    TRY(weights_new(out, &p.to, e));
    rc = o->format == EXPORT_GGUF ? plan_gguf(c, from, o, &p, e) : plan_folder(c, from, o, &p, e);
    if (rc) {
        err_prefix(e, rc, "%s", weights_path(from));
        goto done;
    }
    for (int64_t i = 0; i < weights_tensor_count(p.to); i++) {
        run.total += weights_tensor_at(p.to, i)->size;
        result->n_values += tensor_count(weights_tensor_at(p.to, i));
    }
    result->n_tensors = weights_tensor_count(p.to);
    result->bytes = run.total;
    result->n_fallback = p.n_fallback;
    if (p.n_fallback)
        ctx_log(c, LOG_NOTE, "%lld tensors are F16: their rows are no whole blocks of %lld values (%s is the first)",
                (long long)p.n_fallback, (long long)o->type->block_size, weights_tensor_at(p.to, p.first_fallback)->name);
    rc = o->format == EXPORT_GGUF ? gguf_write(out, p.to, export_produce, &run, e) : export_folder(c, from, &p, out, &run, e);
done:
    export_plan_release(&p);
    return rc;
}
