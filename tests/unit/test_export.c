/* Models written again: every architecture from a folder to GGUF and back, from GGUF to a folder and back, in every type. The
 * source models are compared with Hugging Face's in test_models.c; here a model that was written must be the one that was read,
 * and what llama.cpp's converter makes of three of the folders is compared tensor by tensor. Catches: rows of q and k in the
 * wrong order, a gain without its 1, a matrix not turned, a key that is forgotten or has another kind. */
#include "support/oom.h"
#include "support/recorded.h"
#include "support/test.h"

#include "core/file.h"
#include "core/mem.h"
#include "formats/quantize.h"
#include "model/export.h"
#include "model/model.h"

#include <unistd.h>

static const char *const folders[] = {"llama", "llama3_folder", "mistral",       "qwen2",  "qwen3",
                                      "gemma", "gemma2_scalar", "gemma3_scaled", "gpt2",   "gpt_neox",
                                      "phi3",  "olmo2",         "granite",       "smollm3"};
static const char *const ggufs[] = {"llama", "llama3", "qwen3", "gemma2", "gemma3", "gpt2", "gpt_neox_seq"};
enum {
    N_FOLDERS = sizeof folders / sizeof *folders,
    N_GGUFS = sizeof ggufs / sizeof *ggufs,
    TOKENS = 24,
    KINDS = 5,
    LAYERS = 8
};

/* The files of a fixture's folder, without its GGUF file. */
static char *source_folder(const char *name, const char *tensors) {
    const char *const names[] = {"config.json", "tokenizer.json", tensors};
    char *dir = test_make_dir(), path[256], *copy, *source;
    err e = {0};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "models/%s/%s", name, names[i]);
        source = test_fixture(path);
        assert_ok(path_join(dir, names[i], &copy, &e), &e);
        assert_int_equal(symlink(source, copy), 0);
        free(source), free(copy);
    }
    return dir;
}

static char *gguf_fixture(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "models/%s/model.gguf", name);
    return test_fixture(path);
}

static void convert(const char *from, const char *to, export_format format, const char *type) {
    const ctx c = test_ctx(2);
    const export_opts o = {.format = format, .type = type ? quant_by_name(type) : NULL};
    export_result result;
    weights *w;
    err e = {0};
    assert_ok(weights_open(from, &w, &e), &e);
    assert_ok(model_export(&c, w, &o, to, &result, &e), &e);
    assert_true(result.n_tensors > 0);
    weights_close(w);
}

/* ---- the same model ---- */

typedef struct seen_model {
    collected hooks[LAYERS * KINDS];
    int n_hooks;
    float *logits;
    int64_t n_logits;
} seen_model;

static seen_model look_at(const char *path) {
    const ctx c = test_ctx(2);
    seen_model s = {0};
    model_hook hooks[LAYERS * KINDS];
    test_batch b = {0};
    model *m;
    int64_t ids[TOKENS];
    err e = {0};
    assert_ok(model_open(&c, path, &m, &e), &e);
    const model_config *g = model_config_of(m);
    for (int i = 0; i < TOKENS; i++) ids[i] = (i * 37 + 11) % g->n_vocab;
    test_batch_add(&b, 0, 0, ids, TOKENS);
    for (int h = 0; h < g->n_layers * KINDS; h++) {
        char name[HOOK_NAME_MAX];
        const hook_point at = {.layer = h / KINDS, .kind = (hook_kind)(h % KINDS)};
        hook_format(at, name);
        if (!strncmp(g->architecture, "gptneox", 7) && strstr(name, "resid_mid")) continue; /* parallel blocks have none */
        s.hooks[s.n_hooks].at = at;
        hooks[s.n_hooks] = collect_hook(s.hooks + s.n_hooks);
        s.n_hooks++;
    }
    float *hidden = malloc((size_t)(TOKENS * g->d_model) * sizeof *hidden);
    s.n_logits = TOKENS * g->n_vocab;
    s.logits = malloc((size_t)s.n_logits * sizeof *s.logits);
    assert_ok(model_forward(&c, m, &b.b, NULL, hooks, s.n_hooks, hidden, &e), &e);
    assert_ok(model_logits(&c, m, hidden, TOKENS, s.logits, &e), &e);
    free(hidden), test_batch_release(&b), model_close(m);
    return s;
}

static void release_seen(seen_model *s) {
    for (int i = 0; i < s->n_hooks; i++) collected_release(s->hooks + i);
    free(s->logits);
}

/* The largest relative distance of any hook and of the logits. */
static double distance(const seen_model *a, const seen_model *b) {
    double worst = test_relative_distance(a->logits, b->logits, b->n_logits);
    assert_int_equal(a->n_hooks, b->n_hooks);
    assert_int_equal(a->n_logits, b->n_logits);
    for (int i = 0; i < a->n_hooks; i++) {
        assert_int_equal(a->hooks[i].n, TOKENS);
        assert_int_equal(a->hooks[i].d, b->hooks[i].d);
        worst = fmax(worst, test_relative_distance(a->hooks[i].x, b->hooks[i].x, TOKENS * a->hooks[i].d));
    }
    return worst;
}

/* Reals of GGUF files are float32: an epsilon or a base may differ in the eighth digit. Where scores are scaled by the queries
 * instead, they are rounded once more. */
static void assert_same_model(const char *a, const char *b, double within) {
    seen_model s = look_at(a), t = look_at(b);
    if (!(distance(&s, &t) <= within)) fail_msg("%s and %s: off by %.2g", a, b, distance(&s, &t));
    release_seen(&s), release_seen(&t);
}

static void assert_same_tokens(const char *a, const char *b) {
    static const char *const texts[] = {"",
                                        " ",
                                        "the cat sat on the mat",
                                        "  two  spaces\n\n and\tlines ",
                                        "Li Bai 701\xe2\x80\x93"
                                        "762: \xe6\x9d\x8e\xe7\x99\xbd \xf0\x9f\x98\x80",
                                        "<|begin|>x<|end|><eos>",
                                        "l'\xc3\xa9t\xc3\xa9, 12345 \xff\xfe!"};
    const tokenize_opts o = TOKENIZE_DEFAULTS;
    weights *w[2];
    tokenizer *t[2];
    err e = {0};
    for (int i = 0; i < 2; i++) {
        assert_ok(weights_open(i ? b : a, &w[i], &e), &e);
        assert_ok(tokenizer_open(w[i], &t[i], &e), &e);
    }
    assert_int_equal(tokenizer_bos(t[0]), tokenizer_bos(t[1]));
    assert_int_equal(tokenizer_eos(t[0]), tokenizer_eos(t[1]));
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        token_ids ids[2] = {{0}};
        for (int i = 0; i < 2; i++) assert_ok(tokenizer_encode(t[i], texts[k], strlen(texts[k]), &o, &ids[i], &e), &e);
        if (ids[0].len != ids[1].len || (ids[0].len && memcmp(ids[0].ids, ids[1].ids, ids[0].len * sizeof *ids[0].ids)))
            fail_msg("%s and %s: '%s' gives other tokens", a, b, texts[k]);
        strbuf text = STRBUF_INIT;
        tokenizer_decode(t[1], ids[1].ids, ids[1].len, true, &text);
        strbuf first = STRBUF_INIT;
        tokenizer_decode(t[0], ids[0].ids, ids[0].len, true, &first);
        assert_string_equal(text.data, first.data);
        strbuf_release(&text), strbuf_release(&first);
        free(ids[0].ids), free(ids[1].ids);
    }
    for (int i = 0; i < 2; i++) tokenizer_close(t[i]), weights_close(w[i]);
}

/* Every tensor of a is in b, the same to the bit; gains that had 1 added and taken away only nearly so. */
static void assert_tensors(const char *a, const char *b, bool gains_are_near) {
    weights *w, *v;
    err e = {0};
    assert_ok(weights_open(a, &w, &e), &e);
    assert_ok(weights_open(b, &v, &e), &e);
    for (int64_t i = 0; i < weights_tensor_count(w); i++) {
        const tensor_view *t = weights_tensor_at(w, i), *u = NULL;
        assert_ok(weights_require(v, t->name, t->n_dims, t->shape, &u, &e), &e);
        assert_string_equal(u->type->name, t->type->name);
        if (!memcmp(t->data, u->data, t->size)) continue;
        bool near = gains_are_near && t->n_dims == 1;
        for (int64_t k = 0; near && k < t->shape[0]; k++)
            near = fabsf(((const float *)t->data)[k] - ((const float *)u->data)[k]) <= 0x1p-23f;
        if (!near) fail_msg("%s and %s: tensor %s differs", a, b, t->name);
    }
    weights_close(w), weights_close(v);
}

static void assert_same_tensors(const char *a, const char *b) { assert_tensors(a, b, false); }

static void folders_to_gguf_and_back(void **state) {
    (void)state;
    for (int i = 0; i < N_FOLDERS; i++) {
        char *folder = source_folder(folders[i], "model.safetensors"), *dir = test_make_dir(), *gguf, *back, *again;
        bool scaled = strstr(folders[i], "_scal"); /* the query takes the scale, and cannot give it back */
        err e = {0};
        assert_ok(path_join(dir, "model.gguf", &gguf, &e), &e);
        assert_ok(path_join(dir, "back", &back, &e), &e);
        assert_ok(path_join(dir, "again.gguf", &again, &e), &e);
        convert(folder, gguf, EXPORT_GGUF, i % 2 ? "F32" : NULL);
        assert_same_model(folder, gguf, scaled ? 1e-5 : 1e-6);
        assert_same_tokens(folder, gguf);
        convert(gguf, back, EXPORT_FOLDER, NULL);
        if (!scaled) assert_tensors(back, folder, !strncmp(folders[i], "gemma", 5));
        assert_same_model(gguf, back, 1e-6);
        assert_same_tokens(folder, back);
        convert(back, again, EXPORT_GGUF, NULL);
        assert_same_tensors(gguf, again);
        free(gguf), free(back), free(again), test_remove_dir(dir), test_remove_dir(folder);
    }
}

static void gguf_to_folders_and_back(void **state) {
    (void)state;
    for (int i = 0; i < N_GGUFS; i++) {
        char *gguf = gguf_fixture(ggufs[i]), *dir = test_make_dir(), *folder, *back;
        err e = {0};
        assert_ok(path_join(dir, "folder", &folder, &e), &e);
        assert_ok(path_join(dir, "back.gguf", &back, &e), &e);
        convert(gguf, folder, EXPORT_FOLDER, "F32");
        assert_same_model(gguf, folder, 1e-6);
        assert_same_tokens(gguf, folder);
        convert(folder, back, EXPORT_GGUF, NULL);
        assert_same_tensors(gguf, back);
        assert_same_tokens(gguf, back);
        free(gguf), free(folder), free(back), test_remove_dir(dir);
    }
}

/* ---- against llama.cpp's converter ---- */

static bool same_value(const meta_value *a, const meta_value *b) {
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case META_BOOL: return a->boolean == b->boolean;
    case META_INT: return a->integer == b->integer;
    case META_FLOAT: return a->real == b->real;
    case META_STRING: return a->string.len == b->string.len && !memcmp(a->string.bytes, b->string.bytes, a->string.len);
    case META_ARRAY: break;
    }
    if (a->array.count != b->array.count) return false;
    for (int64_t i = 0; i < a->array.count; i++)
        if (!same_value(a->array.items + i, b->array.items + i)) return false;
    return true;
}

static void gguf_is_what_llama_cpp_makes(void **state) {
    (void)state;
    static const char *const both[] = {"llama", "qwen3", "gpt2"};
    for (int i = 0; i < 3; i++) {
        char *folder = source_folder(both[i], "model.safetensors"), *theirs = gguf_fixture(both[i]), *dir = test_make_dir(),
             *ours;
        weights *w, *v;
        err e = {0};
        assert_ok(path_join(dir, "ours.gguf", &ours, &e), &e);
        convert(folder, ours, EXPORT_GGUF, "F32");
        assert_same_tensors(theirs, ours);
        assert_same_tensors(ours, theirs);
        assert_ok(weights_open(theirs, &w, &e), &e);
        assert_ok(weights_open(ours, &v, &e), &e);
        for (int64_t k = 0; k < weights_meta_count(w); k++) {
            const meta_value *a = weights_meta_at(w, k), *b = weights_meta(v, a->key);
            if (!strncmp(a->key, "general.name", 12)) continue;
            if (!b || !same_value(a, b) || a->stored != b->stored) fail_msg("%s: key %s differs", both[i], a->key);
        }
        weights_close(w), weights_close(v);
        free(theirs), free(ours), test_remove_dir(dir), test_remove_dir(folder);
    }
}

/* ---- types ---- */

/* How far a value of a block may be from what it stands for: in steps of the block's scale, and of the scale's own rounding. */
static void check_rounding(const tensor_view *from, const tensor_view *to) {
    int64_t n = tensor_count(from), block = to->type->block_size;
    float *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
    from->type->dequantize(from->data, n, x);
    to->type->dequantize(to->data, n, y);
    for (int64_t i = 0; i < n; i += block) {
        double most = 0, low = INFINITY, high = -INFINITY;
        for (int64_t j = i; j < i + block; j++) {
            most = fmax(most, fabs((double)x[j])), low = fmin(low, (double)x[j]), high = fmax(high, (double)x[j]);
        }
        const char *t = to->type->name;
        double step = !strcmp(t, "Q8_0")   ? most / 127 / 2
                      : !strcmp(t, "Q4_0") ? most / 8 /* the far end has 7 steps, not 8 */
                      : !strcmp(t, "Q4_1") ? (high - low) / 15 / 2
                      : !strcmp(t, "F16")  ? fmax(most * 0x1p-11, 0x1p-25) /* subnormal */
                      : !strcmp(t, "BF16") ? most * 0x1p-8
                                           : 0;
        for (int64_t j = i; j < i + block; j++)
            if (!(fabs((double)x[j] - (double)y[j]) <= step * 1.0001 + most * 0x1p-10 * (block > 1)))
                fail_msg("%s: %s: %g became %g", to->name, t, (double)x[j], (double)y[j]);
    }
    free(x), free(y);
}

/* Within GGUF: matrices whose rows are whole blocks get the type, the others F16, the rest stays float32. */
static void every_type(void **state) {
    (void)state;
    static const char *const types[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"};
    char *folder = source_folder("llama3_folder", "model.safetensors"), *dir = test_make_dir(), *f32, *path;
    err e = {0};
    assert_ok(path_join(dir, "f32.gguf", &f32, &e), &e);
    assert_ok(path_join(dir, "other.gguf", &path, &e), &e);
    convert(folder, f32, EXPORT_GGUF, NULL);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        weights *a, *b;
        int64_t file_type;
        static const int64_t numbers[] = {0, 1, 32, 7, 2, 3};
        convert(i % 2 ? folder : f32, path, EXPORT_GGUF, types[i]);
        assert_ok(weights_open(f32, &a, &e), &e);
        assert_ok(weights_open(path, &b, &e), &e);
        assert_ok(weights_meta_int(b, "general.file_type", &file_type, &e), &e);
        assert_int_equal(file_type, numbers[i]);
        assert_int_equal(weights_tensor_count(a), weights_tensor_count(b));
        for (int64_t k = 0; k < weights_tensor_count(a); k++) {
            const tensor_view *from = weights_tensor_at(a, k), *to = weights_find(b, from->name);
            bool whole = from->n_dims == 2 && from->shape[1] % quant_by_name(types[i])->block_size == 0;
            assert_string_equal(to->type->name, from->n_dims < 2 ? "F32" : whole ? types[i] : "F16");
            check_rounding(from, to);
        }
        weights_close(a), weights_close(b);
        seen_model s = look_at(f32), t = look_at(path);
        double off = distance(&t, &s);
        if (!(off <= (i == 0 ? 0 : i < 4 ? 0.05 : 0.5))) fail_msg("%s: off by %g", types[i], off);
        if (i) assert_true(off > 0);
        release_seen(&s), release_seen(&t);
    }
    free(f32), free(path), test_remove_dir(dir), test_remove_dir(folder);
}

/* Weights that are ternary already lose nothing. */
static void ternary_weights_are_exact(void **state) {
    (void)state;
    const quant_type *t = quant_by_name("TQ2_0");
    float x[512], y[512];
    uint8_t blocks[2 * 66];
    for (int i = 0; i < 512; i++) x[i] = (float)((i * 7 + i / 5) % 3 - 1) * (i < 256 ? 0.25f : 3);
    quantizer_of(t)(x, 512, blocks);
    t->dequantize(blocks, 512, y);
    assert_memory_equal(x, y, sizeof x);
}

/* Blocks by hand: the scale from the value furthest from 0, ties away from 0 in Q8_0, up in Q4_0, the end that Q4_0 lacks. */
static void blocks_by_hand(void **state) {
    (void)state;
    float x[32] = {-8, 7.5f, 7.4f, 0.5f, -0.5f, -7.5f, 8}, y[32];
    uint8_t block[34];
    static const int fours[] = {-8, 7, 7, 1, 0, -7, 7};
    quantizer_of(quant_by_name("Q4_0"))(x, 32, block);
    quant_by_name("Q4_0")->dequantize(block, 32, y);
    for (int i = 0; i < 7; i++) assert_true(y[i] == (float)fours[i]);
    float z[32] = {-127, 2.5f, -2.5f, 126.5f, 0.49f, 127};
    static const int eights[] = {-127, 3, -3, 127, 0, 127};
    quantizer_of(quant_by_name("Q8_0"))(z, 32, block);
    for (int i = 0; i < 6; i++) assert_int_equal((int8_t)block[2 + i], eights[i]);
    float w[32] = {-1, 14, 0.5f, 6.4f};
    static const float ones[] = {-1, 14, 1, 6};
    for (int i = 4; i < 32; i++) w[i] = -1;
    quantizer_of(quant_by_name("Q4_1"))(w, 32, block);
    quant_by_name("Q4_1")->dequantize(block, 32, y);
    for (int i = 0; i < 4; i++) assert_true(y[i] == ones[i]);
    memset(x, 0, sizeof x);
    quantizer_of(quant_by_name("Q4_0"))(x, 32, block);
    quant_by_name("Q4_0")->dequantize(block, 32, y);
    for (int i = 0; i < 32; i++) assert_true(y[i] == 0);
    x[3] = NAN, x[4] = INFINITY; /* gives something, and stays within the block */
    for (int k = 0; k < n_quant_types; k++)
        if (quantizer_of(quant_types + k) && quant_types[k].block_size == 32) quantizer_of(quant_types + k)(x, 32, block);
}

/* ---- folders in other types, and other sources ---- */

static void folders_within_the_format(void **state) {
    (void)state;
    char *folder = source_folder("llama", "model.safetensors"), *pickled = source_folder("llama", "pytorch_model.bin");
    char *dir = test_make_dir(), *same, *half, *gguf;
    err e = {0};
    assert_ok(path_join(dir, "same", &same, &e), &e);
    assert_ok(path_join(dir, "half", &half, &e), &e);
    assert_ok(path_join(dir, "model.gguf", &gguf, &e), &e);
    convert(pickled, same, EXPORT_FOLDER, NULL);
    assert_same_tensors(folder, same);
    assert_same_model(folder, same, 0);
    assert_same_tokens(folder, same);
    convert(folder, half, EXPORT_FOLDER, "BF16");
    assert_same_model(folder, half, 0.05);
    convert(pickled, gguf, EXPORT_GGUF, "F32");
    assert_same_model(folder, gguf, 1e-6);
    free(same), free(half), free(gguf), test_remove_dir(dir), test_remove_dir(folder), test_remove_dir(pickled);
}

/* ---- what cannot be said ---- */

static const struct {
    const char *name, *from, *to;
    export_format format;
    const char *type;
    err_code code;
    const char *says;
} refusals[] = {
    {"smollm3", "\"no_rope_layer_interval\": 4", "\"no_rope_layer_interval\": 2", EXPORT_GGUF, NULL, ERR_UNSUPPORTED,
     "differences between layers (windows, ropes) cannot be said in a GGUF file of smollm3"},
    {"llama", "\"model_type\": \"llama\"", "\"model_type\": \"lama\"", EXPORT_GGUF, NULL, ERR_UNSUPPORTED,
     "did you mean 'llama'"},
    {"llama", "\"model_type\": \"llama\"", "\"model_type\": \"llama\"", EXPORT_FOLDER, "Q8_0", ERR_USAGE,
     "a folder's numbers are F32, F16 or BF16, not Q8_0"},
    {"llama", "\"model_type\": \"llama\"", "\"model_type\": \"llama\"", EXPORT_GGUF, "Q4_K", ERR_USAGE,
     "no tensors are written as Q4_K (known: F32, F16, BF16, Q8_0, Q4_0, Q4_1, TQ2_0)"},
};

static void refuses(void **state) {
    (void)state;
    const ctx c = test_ctx(1);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        char *folder = source_folder(refusals[i].name, "model.safetensors"), *dir = test_make_dir(), *config, *out, *text,
             changed[4096];
        const export_opts o = {.format = refusals[i].format,
                               .type = refusals[i].type ? quant_by_name(refusals[i].type) : NULL};
        export_result result;
        size_t size;
        weights *w;
        err e = {0};
        assert_ok(path_join(folder, "config.json", &config, &e), &e);
        assert_ok(path_join(dir, "out", &out, &e), &e);
        assert_ok(file_read(config, 4000, &text, &size, &e), &e);
        char *at = strstr(text, refusals[i].from);
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, refusals[i].to, at + strlen(refusals[i].from));
        unlink(config);
        assert_ok(file_write(config, changed, strlen(changed), &e), &e);
        assert_ok(weights_open(folder, &w, &e), &e);
        err_code rc = model_export(&c, w, &o, out, &result, &e);
        if (rc != refusals[i].code || !strstr(e.message, refusals[i].says))
            fail_msg("refusal %zu: code %d, '%s'; expected '%s'", i, rc, e.message, refusals[i].says);
        assert_false(file_exists(out));
        weights_close(w);
        free(config), free(out), free(text), test_remove_dir(dir), test_remove_dir(folder);
    }
}

/* A value that float16 does not reach is not made infinite. */
static void values_beyond_half(void **state) {
    (void)state;
    const ctx c = test_ctx(1);
    char *gguf = gguf_fixture("llama"), *dir = test_make_dir(), *copy, *out, *text;
    size_t size;
    float large = 1e6f;
    weights *w;
    export_result result;
    err e = {0};
    assert_ok(file_read(gguf, 1 << 20, &text, &size, &e), &e);
    assert_ok(weights_open(gguf, &w, &e), &e);
    memcpy(text + weights_find(w, "blk.1.ffn_up.weight")->offset + 4 * 100, &large, sizeof large);
    weights_close(w);
    assert_ok(path_join(dir, "large.gguf", &copy, &e), &e);
    assert_ok(path_join(dir, "out.gguf", &out, &e), &e);
    assert_ok(file_write(copy, text, size, &e), &e);
    assert_ok(weights_open(copy, &w, &e), &e);
    const export_opts o = {.format = EXPORT_GGUF, .type = quant_by_name("F16")};
    assert_int_equal(model_export(&c, w, &o, out, &result, &e), ERR_MISMATCH);
    assert_non_null(strstr(e.message, "blk.1.ffn_up.weight has values beyond 65504"));
    assert_false(file_exists(out));
    weights_close(w);
    free(gguf), free(copy), free(out), free(text), test_remove_dir(dir);
}

typedef struct swept {
    const char *from, *out;
    export_format format;
} swept;

static err_code open_and_export(void *arg, err *e) {
    const swept *s = arg;
    const ctx c = test_ctx(1);
    const export_opts o = {.format = s->format};
    export_result result;
    weights *w = NULL;
    err_code rc = weights_open(s->from, &w, e);
    if (!rc) rc = model_export(&c, w, &o, s->out, &result, e);
    weights_close(w);
    return rc;
}

static void out_of_memory(void **state) {
    (void)state;
    char *folder = source_folder("gpt2", "model.safetensors"), *gguf = gguf_fixture("gemma3"), *dir = test_make_dir(), *out;
    err e = {0};
    assert_ok(path_join(dir, "out.gguf", &out, &e), &e);
    oom_sweep(open_and_export, &(swept){folder, out, EXPORT_GGUF}, 3000);
    free(out);
    assert_ok(path_join(dir, "out", &out, &e), &e);
    oom_sweep(open_and_export, &(swept){gguf, out, EXPORT_FOLDER}, 3000);
    free(out), free(gguf), test_remove_dir(dir), test_remove_dir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_to_gguf_and_back),     cmocka_unit_test(gguf_to_folders_and_back),
        cmocka_unit_test(gguf_is_what_llama_cpp_makes), cmocka_unit_test(every_type),
        cmocka_unit_test(ternary_weights_are_exact),    cmocka_unit_test(blocks_by_hand),
        cmocka_unit_test(folders_within_the_format),    cmocka_unit_test(refuses),
        cmocka_unit_test(values_beyond_half),           cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
