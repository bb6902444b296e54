/* Every autoencoder under golden/sae_formats: it loads and gives the latents and reconstructions that its own library gives,
 * or is refused with a sentence that names what is wrong with it. */
#include "support/oom.h"
#include "support/test.h"

#include "core/mem.h"
#include "formats/weights.h"
#include "sae/sae.h"

#include <jansson.h>

#define TOLERANCE 1e-5f

/* A word of the sentence that refuses a sample. */
static const struct {
    const char *sample, *word;
} words[] = {
    {"saelens_temporal", "temporal"},
    {"saelens_matching_pursuit", "matching_pursuit"},
    {"hostile_unknown_architecture", "foldedrelu"},
    {"hostile_unknown_key", "post_activation"},
    {"hostile_unknown_key_of_other_arch", "rescale_acts_by_decoder_norm"},
    {"hostile_unknown_normalization", "rms_norm"},
    {"hostile_topk_without_k", "--k"},
    {"hostile_k_too_large", "k: expected 1 to d_sae"},
    {"hostile_k_zero", "k: expected a whole number of at least 1, found 0"},
    {"hostile_k_fraction", "found 5.5"},
    {"hostile_d_sae_mismatch", "[24, 65]"},
    {"hostile_d_in_negative", "d_in"},
    {"hostile_cfg_not_json", "not JSON"},
    {"hostile_cfg_missing", "cfg.json"},
    {"hostile_cfg_nan", "not JSON"},
    {"hostile_weights_missing", "sae_weights.safetensors"},
    {"hostile_missing_tensor", "b_enc"},
    {"hostile_extra_tensor", "W_res"},
    {"hostile_finetuning_scaling_factor", "scaling_factor"},
    {"hostile_wrong_shape", "W_dec"},
    {"hostile_transposed", "W_enc"},
    {"hostile_nan_weights", "W_enc"},
    {"hostile_inf_weights", "W_dec"},
    {"hostile_integer_weights", "I32"},
    {"hostile_truncated", "sae_weights.safetensors"},
    {"hostile_truncated_header", "sae_weights.safetensors"},
    {"hostile_empty_file", "empty"},
    {"hostile_trailing_bytes", "bytes of data"},
    {"hostile_header_length_huge", "header"},
    {"hostile_header_length_past_end", "header"},
    {"hostile_header_length_short", "header"},
    {"hostile_header_not_json", "header"},
    {"hostile_header_not_object", "header"},
    {"hostile_header_deep", "header"},
    {"hostile_duplicate_name", "W_enc"},
    {"hostile_offsets_past_end", "offsets"},
    {"hostile_offsets_overlap", "offset"},
    {"hostile_offsets_reversed", "W_enc"},
    {"hostile_offsets_negative", "W_enc"},
    {"hostile_size_mismatch", "W_enc"},
    {"hostile_shape_overflow", "W_enc"},
    {"hostile_shape_negative", "W_enc"},
    {"hostile_shape_zero", "offset"},
    {"hostile_dtype_unknown", "F24"},
    {"hostile_dtype_missing", "dtype"},
    {"hostile_pt_code", "eval"},
    {"hostile_pt_plain_pickle", "pickle"},
    {"hostile_pt_truncated", "zip"},
    {"hostile_pt_storage_short", "bytes"},
    {"hostile_pt_storage_missing", "data/"},
    {"hostile_pt_stride_escape", "storage"},
    {"hostile_pt_k_conflict", "in ae.pt"},
    {"hostile_pt_unknown_class", "IdentityDict"},
    {"hostile_npz_truncated", "zip"},
    {"hostile_npz_shape_lies", "W_enc"},
    {"hostile_npz_object", "Python objects"},
    {"hostile_npz_missing", "threshold"},
    {"hostile_npz_big_endian", "big-endian"},
    {"hostile_sparsify_activation", "softmax"},
    {"hostile_sparsify_signed", "signed"},
    {"hostile_sparsify_groupmax_uneven", "divides"},
    {"hostile_sparsify_no_skip", "W_skip"},
    {"hostile_llama_scope_zero_norm", "dataset_average_activation_norm"},
    {"hostile_llama_scope_pre_bias", "apply_decoder_bias_to_pre_encoder"},
    {"hostile_llama_scope_glu", "use_glu_encoder"},
    {"hostile_llama_scope_token_wise", "token-wise"},
};

typedef struct sample {
    const char *name, *expect;
    char path[512], answers[512];
    sae_given given; /* what index.json knows of it */
} sample;

static char *folder;
static json_t *index_json;

static int open_index(void **state) {
    (void)state;
    char path[512];
    folder = test_fixture("sae_formats");
    snprintf(path, sizeof path, "%s/index.json", folder);
    index_json = json_load_file(path, 0, NULL);
    return index_json ? 0 : -1;
}

static int close_index(void **state) {
    (void)state;
    json_decref(index_json);
    free(folder);
    return 0;
}

static sample sample_at(size_t i) {
    const json_t *row = json_array_get(json_object_get(index_json, "samples"), i);
    sample s = {.name = json_string_value(json_object_get(row, "name")),
                .expect = json_string_value(json_object_get(row, "expect")),
                .given = {.k = json_integer_value(json_object_get(row, "k")),
                          .scaling_factor = json_number_value(json_object_get(row, "scaling_factor"))}};
    snprintf(s.path, sizeof s.path, "%s/%s", folder, json_string_value(json_object_get(row, "load")));
    snprintf(s.answers, sizeof s.answers, "%s/%s/expected.safetensors", folder, s.name);
    return s;
}

static size_t n_samples(void) { return json_array_size(json_object_get(index_json, "samples")); }

/* ---- answers ---- */

/* [rows, width], owned by the caller */
static float *answer(const weights *w, const char *name, int64_t *rows, int64_t *width) {
    const tensor_view *t = weights_find(w, name);
    err e = {0};
    float *values;
    assert_non_null(t);
    int64_t n = tensor_count(t);
    assert_ok(mem_new(&values, (size_t)n, sizeof *values, name, &e), &e);
    t->type->dequantize(t->data, n, values);
    *rows = t->shape[0];
    *width = n / *rows;
    return values;
}

static void check_latents(const sample *p, const sparse_acts *acts, const float *f, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t at = acts->indptr[r] + 1; at < acts->indptr[r + 1]; at++)
            assert_true(acts->indices[at - 1] < acts->indices[at]);
        for (int64_t i = 0; i < n; i++) {
            float found = sparse_get(acts, r, (uint32_t)i), expected = f[r * n + i];
            if ((found != 0) != (expected != 0) || !(fabsf(found - expected) <= TOLERANCE))
                fail_msg("%s: row %d, latent %d: expected %g, found %g", p->name, (int)r, (int)i, expected, found);
        }
    }
}

static void check_matches(const sample *p, const sae *s) {
    err e = {0};
    ctx c = test_ctx(2);
    weights *w;
    sparse_acts acts = {0};
    int64_t rows, d_in, n, d_out;
    assert_ok(weights_open(p->answers, &w, &e), &e);
    float *x = answer(w, "x", &rows, &d_in), *f = answer(w, "f", &rows, &n), *x_hat = answer(w, "x_hat", &rows, &d_out);
    assert_int_equal(s->cfg.d_in, d_in);
    assert_int_equal(s->cfg.d_sae, n);
    assert_int_equal(s->cfg.d_out, d_out);
    assert_ok(sae_encode(&c, s, x, rows, &acts, &e), &e);
    check_latents(p, &acts, f, rows, n);
    float *found = NULL;
    assert_ok(mem_new(&found, (size_t)(rows * d_out), sizeof *found, "x_hat", &e), &e);
    assert_ok(sae_reconstruct(&c, s, &acts, x, found, &e), &e);
    for (int64_t i = 0; i < rows * d_out; i++)
        if (!(fabsf(found[i] - x_hat[i]) <= TOLERANCE))
            fail_msg("%s: x_hat %d: expected %g, found %g", p->name, (int)i, x_hat[i], found[i]);
    free(x), free(f), free(x_hat), free(found);
    sparse_release(&acts);
    weights_close(w);
}

static int n_complaints; /* all samples are gone through before the test fails */

static void complain(const sample *p, const char *why, const char *sentence) {
    print_error("%s: %s: %s\n", p->name, why, sentence);
    n_complaints++;
}

static void check_refused(const sample *p, err_code rc, const err *e) {
    const char *word = NULL;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i].sample, p->name)) word = words[i].word;
    if (!word) complain(p, "refused without need", e->message);
    assert_int_equal(rc, e->code);
    if (err_exit_code(rc) != 3) complain(p, "refused with another exit code", e->message);
    if (word && !strstr(e->message, word)) complain(p, word, e->message);
    assert_null(strchr(e->message, '\n'));
    if (getenv("SAE_TEST_VERBOSE")) printf("%-40s %s\n", p->name, e->message + strlen(folder) + 1);
}

static void every_sample_matches_or_is_refused(void **state) {
    (void)state;
    int matched = 0, refused = 0;
    for (size_t i = 0; i < n_samples(); i++) {
        sample p = sample_at(i);
        sae *s = NULL;
        err e = {0};
        err_code rc = sae_load_given(p.path, &p.given, &s, &e);
        if (rc) {
            if (!strcmp(p.expect, "ok")) complain(&p, "expected to load", e.message);
            assert_null(s);
            check_refused(&p, rc, &e);
            refused++;
        } else {
            if (!strcmp(p.expect, "refuse"))
                complain(&p, "expected", "to be refused");
            else
                check_matches(&p, s);
            matched++;
        }
        sae_free(s);
    }
    print_message("%d samples match, %d are refused\n", matched, refused);
    assert_int_equal(matched + refused, 133);
    assert_int_equal(n_complaints, 0);
}

/* ---- what is given beside the files ---- */

static void expect_refused(const char *name, sae_given given, const char *word) {
    char path[512];
    sae *s;
    err e = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    err_code rc = sae_load_given(path, &given, &s, &e);
    assert_int_equal(err_exit_code(rc), 3);
    if (!strstr(e.message, word)) fail_msg("expected a sentence with '%s', found: %s", word, e.message);
}

static void what_is_given_must_be_needed_and_agree(void **state) {
    (void)state;
    expect_refused("qwen_scope/layer16.sae.pt", (sae_given){0}, "--k");
    expect_refused("qwen_scope/layer16.sae.pt", (sae_given){.k = 65}, "d_sae = 64");
    expect_refused("saelens_topk", (sae_given){.k = 7}, "the files say 6, given was 7");
    expect_refused("saelens_standard", (sae_given){.k = 6}, "not chosen by number");
    expect_refused("dictlearn_batch_topk", (sae_given){.k = 7}, "the files say 6");
    expect_refused("llama_scope_r1_distill", (sae_given){0}, "--scaling-factor");
    expect_refused("llama_scope_r1_distill", (sae_given){.scaling_factor = -1}, "positive");
    expect_refused("saelens_norm_expected_average_unfolded", (sae_given){.scaling_factor = 0.5}, "the files say 0.37");
    expect_refused("saelens_standard", (sae_given){.scaling_factor = 1.7}, "as they are");
}

/* A file stands for its folder; a folder that holds no autoencoder is refused. */
static void finds_what_a_path_means(void **state) {
    (void)state;
    char path[512];
    sae *s;
    err e = {0};
    snprintf(path, sizeof path, "%s/sparsify_topk/layers.16/sae.safetensors", folder);
    assert_ok(sae_load(path, &s, &e), &e);
    assert_string_equal(s->cfg.hook_name, "blocks.16.hook_resid_post"); /* what the folder is called */
    sae_free(s);
    snprintf(path, sizeof path, "%s/gemma_scope_transcoder/layer_16/width_16k/average_l0_6", folder);
    assert_ok(sae_load(path, &s, &e), &e);
    assert_true(s->cfg.transcoder);
    sae_free(s);
    snprintf(path, sizeof path, "%s/dictlearn_batch_topk_unset", folder);
    assert_ok(sae_load(path, &s, &e), &e);
    assert_non_null(strstr(s->note, "threshold"));
    sae_free(s);
    expect_refused("sparsify_topk", (sae_given){0}, "not the folder of an autoencoder");
    expect_refused("index.json", (sae_given){0}, "not a model file");
    expect_refused("sparsify_topk/expected.safetensors", (sae_given){0}, "not those of an autoencoder");
}

static err_code load(void *path, err *e) {
    sae *s;
    err_code rc = sae_load_given(path, &(sae_given){0}, &s, e);
    if (!rc) sae_free(s);
    return rc;
}

static void survives_failing_allocations(void **state) {
    (void)state;
    const char *const names[] = {"saelens_norm_whitening_unfolded", "sparsify_topk/layers.16", "dictlearn_gated",
                                 "llama_scope", "openai_topk/autoencoders/16.pt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        oom_sweep(load, path, 200);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_matches_or_is_refused),
        cmocka_unit_test(what_is_given_must_be_needed_and_agree),
        cmocka_unit_test(finds_what_a_path_means),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, open_index, close_index);
}
