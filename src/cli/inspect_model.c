/* inspect_model.c — a model file's metadata, tensors, parameters by kind, tokenizer and the memory that running it takes. */
#include "activations/store.h"
#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/text.h"
#include "model/arch.h"
#include "text/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- accounting: the first word found in a tensor's name says what it belongs to ---- */

static const struct {
    const char *word, *kind;
} kinds[] = {{"norm", "norm"},           {"ln_", "norm"},      {"embd", "embedding"}, {"embed_tokens", "embedding"},
             {"embed_in", "embedding"},  {"wte", "embedding"}, {"wpe", "embedding"},  {"attn", "attention"},
             {"attention", "attention"}, {"ffn", "mlp"},       {"mlp", "mlp"},        {"lm_head", "head"},
             {"embed_out", "head"},      {"output", "head"},   {"", "other"}};
static const char *const kind_names[] = {"embedding", "attention", "mlp", "norm", "head", "other"};
enum { N_KINDS = sizeof kind_names / sizeof *kind_names };

static const char *kind_of(const char *name) {
    int i = 0;
    while (!strstr(name, kinds[i].word)) i++;
    return kinds[i].kind;
}

/* What tensors hold together. */
typedef struct tally {
    int64_t tensors, parameters, bytes;
} tally;

static void count(tally *t, const tensor_view *v) {
    t->tensors++;
    t->parameters += tensor_count(v);
    t->bytes += (int64_t)v->size;
}

static double bits_per_weight(const tally *t) { return t->parameters ? 8 * (double)t->bytes / (double)t->parameters : 0; }

static json_t *tally_to_json(const char *key, const char *name, const tally *t) {
    return json_pack("{s:s s:I s:I s:I s:f}", key, name, "tensors", (json_int_t)t->tensors, "parameters",
                     (json_int_t)t->parameters, "bytes", (json_int_t)t->bytes, "bits_per_weight", bits_per_weight(t));
}

static json_t *by_kind(const weights *w) {
    json_t *list = json_array();
    for (int k = 0; k < N_KINDS; k++) {
        tally t = {0};
        for (int64_t i = 0; i < weights_tensor_count(w); i++)
            if (!strcmp(kind_of(weights_tensor_at(w, i)->name), kind_names[k])) count(&t, weights_tensor_at(w, i));
        if (t.tensors) json_array_append_new(list, tally_to_json("kind", kind_names[k], &t));
    }
    return list;
}

static json_t *by_type(const weights *w) {
    json_t *list = json_array();
    for (int k = 0; k < n_quant_types; k++) {
        tally t = {0};
        for (int64_t i = 0; i < weights_tensor_count(w); i++)
            if (weights_tensor_at(w, i)->type == &quant_types[k]) count(&t, weights_tensor_at(w, i));
        if (t.tensors) json_array_append_new(list, tally_to_json("type", quant_types[k].name, &t));
    }
    return list;
}

static json_t *whole(const weights *w) {
    tally t = {0};
    for (int64_t i = 0; i < weights_tensor_count(w); i++) count(&t, weights_tensor_at(w, i));
    return tally_to_json("of", "all tensors", &t);
}

/* ---- tensors and metadata ---- */

static json_t *tensor_to_json(const tensor_view *v) {
    json_t *shape = json_array();
    for (int i = 0; i < v->n_dims; i++) json_array_append_new(shape, json_integer(v->shape[i]));
    return json_pack("{s:o s:s s:o s:I s:I}", "name", command_json_text(v->name, strlen(v->name)), "type", v->type->name,
                     "shape", shape, "bytes", (json_int_t)v->size, "offset", (json_int_t)v->offset);
}

static const char *meta_kind_name(meta_kind k) {
    static const char *const names[] = {"bool", "int", "float", "string", "array"};
    return names[k];
}

/* An array as what it holds: a vocabulary is not something to print. */
static json_t *meta_to_json(const meta_value *v) {
    switch (v->kind) {
    case META_BOOL: return json_boolean(v->boolean);
    case META_INT: return json_integer(v->integer);
    case META_FLOAT: return command_json_real(v->real);
    case META_STRING: return command_json_text(v->string.bytes, v->string.len);
    case META_ARRAY:
        return json_pack("{s:s s:I}", "array_of", meta_kind_name(v->array.kind), "n", (json_int_t)v->array.count);
    }
    return NULL;
}

static json_t *metadata_to_json(const weights *w) {
    json_t *all = json_object();
    for (int64_t i = 0; i < weights_meta_count(w); i++) {
        const meta_value *v = weights_meta_at(w, i);
        json_t *key = command_json_text(v->key, strlen(v->key));
        if (key) json_object_set_new(all, json_string_value(key), meta_to_json(v));
        json_decref(key);
    }
    return all;
}

/* ---- tokenizer, configuration, memory ---- */

static json_t *id_or_null(int64_t id) { return id < 0 ? json_null() : json_integer(id); }

static json_t *tokenizer_to_json(const weights *w) {
    err unusable = {0};
    tokenizer *t = NULL;
    if (tokenizer_open(w, &t, &unusable)) return json_pack("{s:s}", "unusable", unusable.message);
    json_t *out = json_pack("{s:s s:I s:o s:o s:b s:s}", "kind", tokenizer_kind(t), "size", (json_int_t)tokenizer_size(t),
                            "bos", id_or_null(tokenizer_bos(t)), "eos", id_or_null(tokenizer_eos(t)), "adds_bos",
                            tokenizer_adds_bos(t), "sha256", tokenizer_sha256(t));
    tokenizer_close(t);
    return out;
}

static json_t *config_to_json(const model_config *f) {
    return json_pack("{s:s s:I s:I s:I s:I s:I s:I s:I s:I s:f s:f s:b}", "architecture", f->architecture, "layers",
                     (json_int_t)f->n_layers, "d_model", (json_int_t)f->d_model, "heads", (json_int_t)f->n_heads, "kv_heads",
                     (json_int_t)f->n_kv_heads, "d_head", (json_int_t)f->d_head, "d_ff", (json_int_t)f->d_ff, "vocabulary",
                     (json_int_t)f->n_vocab, "context", (json_int_t)f->n_ctx, "norm_eps", f->norm_eps, "rope_base",
                     f->rope_base, "tied_embedding", f->tied_embedding);
}

enum { PASS_TOKENS = 4096 }; /* what commands put into one pass */

/* m: by model_precision. */
static json_t *memory_to_json(const model_config *f, const model_memory m[MODEL_PRECISIONS]) {
    return json_pack("{s:I s:I s:I s:I s:I s:I s:I s:I s:I s:I s:I}", "blocks_kept", (json_int_t)m->blocks,
                     "blocks_kept_bf16", (json_int_t)m[MODEL_BF16].blocks, "blocks_kept_int8",
                     (json_int_t)m[MODEL_INT8].blocks, "blocks_read_every_pass", (json_int_t)m->blocks_in_file, "head_kept",
                     (json_int_t)m->head, "embedding_mapped", (json_int_t)m->embedding, "block_as_float32",
                     (json_int_t)m->layer, "pass_of_4096_tokens", (json_int_t)(m->pass + PASS_TOKENS / 1024 * m->pass_1024),
                     "pass_per_1024_more", (json_int_t)m->pass_1024, "cache_per_1024_tokens", (json_int_t)m->cache_1024,
                     "capture_per_hook", (json_int_t)(STORE_CHUNK_ROWS * f->d_model) * (json_int_t)sizeof(float));
}

/* Described, not opened: a tokenizer may be missing. */
static void add_description(const weights *w, json_t *doc) {
    err unusable = {0};
    model_spec spec;
    model_memory memory[MODEL_PRECISIONS];
    err_code rc = ERR_OK;
    if (arch_describe(w, &spec, &unusable)) {
        json_object_set_new(doc, "unusable", json_string(unusable.message));
        return;
    }
    json_object_set_new(doc, "config", config_to_json(&spec.cfg));
    for (int p = 0; p < MODEL_PRECISIONS && !rc; p++) rc = model_measure(w, (model_precision)p, memory + p, &unusable);
    if (rc)
        json_object_set_new(doc, "unusable", json_string(unusable.message));
    else
        json_object_set_new(doc, "memory", memory_to_json(&spec.cfg, memory));
}

err_code inspect_model(const char *path, json_t *doc, err *e) {
    weights *w = NULL;
    err_code rc = weights_open(path, &w, e);
    if (rc) return rc;
    json_object_set_new(doc, "kind", json_string("model"));
    json_object_set_new(doc, "format", json_string(weights_format(w)));
    if (weights_file_count(w) > 1) json_object_set_new(doc, "files", json_integer((json_int_t)weights_file_count(w)));
    json_object_set_new(doc, "bytes", json_integer((json_int_t)weights_file_size(w)));
    add_description(w, doc);
    json_t *tensors = json_array();
    for (int64_t i = 0; i < weights_tensor_count(w); i++)
        json_array_append_new(tensors, tensor_to_json(weights_tensor_at(w, i)));
    json_object_set_new(doc, "parameters", whole(w));
    json_object_set_new(doc, "by_kind", by_kind(w));
    json_object_set_new(doc, "by_type", by_type(w));
    json_object_set_new(doc, "tokenizer", tokenizer_to_json(w));
    json_object_set_new(doc, "metadata", metadata_to_json(w));
    json_object_set_new(doc, "tensors", tensors);
    weights_close(w);
    return ERR_OK;
}

/* ---- as text ---- */

static int64_t integer(const json_t *object, const char *key) { return json_integer_value(json_object_get(object, key)); }

static void print_tallies(const char *title, const char *key, const json_t *list, int64_t parameters) {
    size_t i;
    const json_t *t;
    char size[32];
    printf("\n%-12s %8s %14s %7s %10s %13s\n", title, "tensors", "parameters", "share", "size", "bits/weight");
    json_array_foreach(list, i, t)
        printf("%-12s %8" PRId64 " %14" PRId64 " %6.1f%% %10s %13.2f\n", json_string_value(json_object_get(t, key)),
               integer(t, "tensors"), integer(t, "parameters"),
               parameters ? 100 * (double)integer(t, "parameters") / (double)parameters : 0,
               inspect_size((double)integer(t, "bytes"), size), json_real_value(json_object_get(t, "bits_per_weight")));
}

static void print_table(const char *title, const json_t *object) {
    const char *key;
    const json_t *value;
    if (!object) return;
    printf("\n%s\n", title);
    json_object_foreach((json_t *)object, key, value) inspect_print_value(key, value);
}

static void print_memory(const json_t *memory) {
    const char *key;
    const json_t *value;
    char size[32];
    if (!memory) return;
    puts("\nmemory");
    json_object_foreach((json_t *)memory, key, value)
        printf("  %-32s %s\n", key, inspect_size((double)json_integer_value(value), size));
}

static void print_tensors(const json_t *tensors) {
    size_t i, j;
    const json_t *t, *n;
    puts("\ntensors");
    json_array_foreach(tensors, i, t) {
        const char *name = json_string_value(json_object_get(t, "name"));
        printf("  %-6s ", json_string_value(json_object_get(t, "type")));
        cli_print_text(name, strlen(name));
        printf(" [");
        json_array_foreach(json_object_get(t, "shape"), j, n)
            printf("%s%" JSON_INTEGER_FORMAT, j ? ", " : "", json_integer_value(n));
        puts("]");
    }
}

void inspect_print_model(const json_t *doc, bool all_tensors) {
    const json_t *parameters = json_object_get(doc, "parameters"), *unusable = json_object_get(doc, "unusable");
    int64_t n = integer(parameters, "parameters");
    printf("%" PRId64 " parameters in %" PRId64 " tensors, %.2f bits per weight\n", n, integer(parameters, "tensors"),
           json_real_value(json_object_get(parameters, "bits_per_weight")));
    if (unusable) {
        fputs("cannot be run here: ", stdout);
        cli_print_line(json_string_value(unusable));
    }
    print_tallies("kind", "kind", json_object_get(doc, "by_kind"), n);
    print_tallies("type", "type", json_object_get(doc, "by_type"), n);
    print_table("configuration", json_object_get(doc, "config"));
    print_table("tokenizer", json_object_get(doc, "tokenizer"));
    print_memory(json_object_get(doc, "memory"));
    print_table("metadata", json_object_get(doc, "metadata"));
    if (all_tensors)
        print_tensors(json_object_get(doc, "tensors"));
    else
        puts("\n--tensors lists the tensors");
}
