/* The autoencoder's own rules: what configurations it takes, which rows it fits, what its registry answers, and what happens
 * when memory runs out. */
#include "core/rng.h"
#include "support/oom.h"
#include "support/test.h"

#include "sae/variants/variants.h"

static void refuses_impossible_configurations(void **state) {
    (void)state;
    sae *s = NULL;
    err e = {0};
    const sae_config wrong[] = {
        {.variant = &sae_topk, .d_in = 4, .d_sae = 8, .k = 0},     {.variant = &sae_topk, .d_in = 4, .d_sae = 8, .k = 9},
        {.variant = &sae_topk, .d_in = 0, .d_sae = 8, .k = 1},     {.variant = &sae_standard, .d_in = 4, .d_sae = -1},
        {.variant = &sae_standard, .d_in = 4, .d_sae = 1LL << 33},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(sae_new(&wrong[i], &s, &e), ERR_FORMAT);
        assert_null(s);
    }
    assert_non_null(strstr(e.message, "8589934592"));
}

static void fits(void **state) {
    (void)state;
    sae *s;
    err e = {0};
    sae_config cfg = {.variant = &sae_topk, .d_in = 4, .d_sae = 8, .k = 2, .hook_name = "blocks.3.hook_resid_post"};
    memset(cfg.model_sha256, 'a', SHA256_HEX - 1);
    char other[SHA256_HEX] = {0};
    memset(other, 'b', SHA256_HEX - 1);
    assert_ok(sae_new(&cfg, &s, &e), &e);
    assert_ok(sae_check_fits(s, "blocks.3.hook_resid_post", cfg.model_sha256, 4, &e), &e);
    assert_ok(sae_check_fits(s, "", "", 4, &e), &e); /* what is not known is not compared */
    assert_ok(sae_check_fits(s, NULL, NULL, 4, &e), &e);
    assert_int_equal(sae_check_fits(s, NULL, NULL, 5, &e), ERR_MISMATCH);
    assert_int_equal(sae_check_fits(s, "blocks.4.hook_resid_post", NULL, 4, &e), ERR_MISMATCH);
    assert_non_null(strstr(e.message, "blocks.3.hook_resid_post"));
    assert_non_null(strstr(e.message, "blocks.4.hook_resid_post"));
    assert_int_equal(sae_check_fits(s, NULL, other, 4, &e), ERR_MISMATCH);
    sae_free(s);
}

enum { D = 5, N = 39, D_OUT = 4 }; /* 39 has a divisor, for groups */

static sae *random_sae(const sae_config *more, uint64_t seed) {
    sae *s;
    err e = {0};
    const sae_variant *v = more->variant;
    sae_config cfg = {.variant = v,
                      .d_in = D,
                      .d_sae = N,
                      .d_out = more->transcoder ? D_OUT : D,
                      .transcoder = more->transcoder,
                      .skip = more->skip,
                      .norm = more->norm,
                      .k = v->uses_k ? 3 : 0,
                      .apply_b_dec_to_input = !more->transcoder,
                      .hook_name = "blocks.3.hook_resid_post",
                      .model_name = "a \"model\"",
                      .context = 256,
                      .seed = 7,
                      .trained_rows = 1234567890123,
                      .skip_first = 1};
    memset(cfg.model_sha256, 'a', SHA256_HEX - 1);
    assert_ok(sae_new(&cfg, &s, &e), &e);
    const struct {
        float *values;
        int64_t n;
    } parameters[] = {{s->W_enc, N * D},     {s->W_dec, N * cfg.d_out}, {s->b_enc, N},
                      {s->b_dec, cfg.d_out}, {s->threshold, N},         {s->b_gate, N},
                      {s->r_mag, N},         {s->W_skip, cfg.d_out * D}};
    rng r = rng_stream(seed, RNG_INIT, 0);
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        for (int64_t j = 0; parameters[i].values && j < parameters[i].n; j++) parameters[i].values[j] = (float)rng_normal(&r);
    return s;
}

static void assert_same(const float *a, const float *b, int64_t n) {
    assert_int_equal(!a, !b);
    if (a) assert_memory_equal(a, b, (size_t)n * sizeof *a);
}

/* Saving twice gives the same bytes. */
static void check_comes_back(const sae_config *more, err_code (*save)(sae *s, const char *folder, err *e)) {
    err e = {0};
    char *dir = test_make_dir(), *folder, first[SHA256_HEX];
    sae *s = random_sae(more, 5), *t;
    assert_ok(path_join(dir, "new/folder", &folder, &e), &e);
    assert_ok(save(s, folder, &e), &e);
    memcpy(first, s->sha256, sizeof first);
    assert_ok(save(s, folder, &e), &e);
    assert_string_equal(s->sha256, first);
    assert_ok(sae_load(folder, &t, &e), &e);
    assert_memory_equal(&t->cfg, &s->cfg, sizeof t->cfg);
    assert_same(t->W_enc, s->W_enc, N * D);
    assert_same(t->W_dec, s->W_dec, N * s->cfg.d_out);
    assert_same(t->b_enc, s->b_enc, N);
    assert_same(t->b_dec, s->b_dec, s->cfg.d_out);
    assert_same(t->threshold, s->threshold, N);
    assert_same(t->b_gate, s->b_gate, N);
    assert_same(t->r_mag, s->r_mag, N);
    assert_same(t->W_skip, s->W_skip, s->cfg.d_out * D);
    assert_string_equal(t->sha256, s->sha256);
    sae_free(t);
    sae_free(s);
    free(folder);
    test_remove_dir(dir);
}

/* Every variant gets this by being in the table. */
static void saved_is_loaded_bit_for_bit(void **state) {
    (void)state;
    for (int i = 0; i < n_sae_variants; i++) {
        const sae_config more = {.variant = sae_variants[i]};
        check_comes_back(&more, more.variant == &sae_groupmax ? sae_save_sparsify : sae_save);
    }
    for (int i = 0; i < n_sae_norms; i++)
        check_comes_back(&(sae_config){.variant = &sae_topk, .norm = &sae_norms[i]}, sae_save);
    for (int skip = 0; skip < 2; skip++) {
        check_comes_back(&(sae_config){.variant = &sae_standard, .transcoder = true, .skip = skip}, sae_save);
        check_comes_back(&(sae_config){.variant = &sae_jumprelu, .transcoder = true, .skip = skip}, sae_save);
    }
    check_comes_back(&(sae_config){.variant = &sae_topk}, sae_save_sparsify);
}

static void what_a_format_cannot_hold_is_not_written(void **state) {
    (void)state;
    err e = {0};
    char *dir = test_make_dir();
    const struct {
        sae_config more;
        err_code (*save)(sae *s, const char *folder, err *e);
    } wrong[] = {{{.variant = &sae_groupmax}, sae_save},
                 {{.variant = &sae_topk, .transcoder = true}, sae_save},
                 {{.variant = &sae_gated}, sae_save_sparsify},
                 {{.variant = &sae_topk, .transcoder = true}, sae_save_sparsify}, /* its d_out is not its d_in */
                 {{.variant = &sae_topk, .norm = &sae_norms[0]}, sae_save_sparsify}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sae *s = random_sae(&wrong[i].more, 1), *t;
        assert_int_equal(wrong[i].save(s, dir, &e), ERR_UNSUPPORTED);
        assert_int_equal(sae_load(dir, &t, &e), ERR_FORMAT); /* nothing there */
        sae_free(s);
    }
    test_remove_dir(dir);
}

/* With numpy's reader: W_enc comes as [d_in, d_sae]. Nothing to test with where the package is not installed. */
static void python_opens_what_we_save(void **state) {
    (void)state;
    err e = {0};
    if (system("python3 -c 'import safetensors.numpy' 2>/dev/null") != 0) skip();
    char *dir = test_make_dir(), command[1024];
    sae *s = random_sae(&(sae_config){.variant = &sae_topk}, 1);
    assert_ok(sae_save(s, dir, &e), &e);
    snprintf(
        command, sizeof command,
        "python3 -c '\n"
        "import json, safetensors.numpy as st\n"
        "t = st.load_file(\"%s/sae_weights.safetensors\")\n"
        "assert sorted(t) == [\"W_dec\", \"W_enc\", \"b_dec\", \"b_enc\"]\n"
        "assert t[\"W_enc\"].shape == (5, 39) and t[\"W_dec\"].shape == (39, 5) and str(t[\"W_enc\"].dtype) == \"float32\"\n"
        "assert t[\"W_enc\"][2, 9] == %.9g and t[\"W_dec\"][9, 2] == %.9g\n"
        "c = json.load(open(\"%s/cfg.json\"))\n"
        "assert c[\"architecture\"] == \"topk\" and c[\"k\"] == 3 and c[\"d_sae\"] == 39\n"
        "'",
        dir, s->W_enc[9 * 5 + 2], s->W_dec[9 * 5 + 2], dir);
    assert_int_equal(system(command), 0);
    sae_free(s);
    test_remove_dir(dir);
}

static void registry_knows_its_rows(void **state) {
    (void)state;
    const sae_variant *v;
    err e = {0};
    for (int i = 0; i < n_sae_variants; i++) {
        assert_ok(sae_variant_find(sae_variants[i]->name, &v, &e), &e);
        assert_ptr_equal(v, sae_variants[i]);
        assert_true(strlen(v->help) > 0 && strlen(v->paper) > 0);
    }
    assert_int_equal(sae_variant_find("topkk", &v, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "did you mean 'topk'"));
}

static err_code encode_and_decode(void *arg, err *e) {
    (void)arg;
    const sae_config cfg = {.variant = &sae_jumprelu, .d_in = 3, .d_sae = 600, .apply_b_dec_to_input = true};
    ctx c = test_ctx(2);
    err_code rc;
    sae *s = NULL;
    sparse_acts acts = {0};
    float x[300 * 3], x_hat[300 * 3];
    TRY(sae_new(&cfg, &s, e));
    for (int i = 0; i < 600; i++) s->b_enc[i] = (float)(i % 3) - 1;
    memset(x, 0, sizeof x);
    TRY(sae_encode(&c, s, x, 300, &acts, e));
    assert_int_equal(acts.indptr[300], 300 * 200);
    TRY(sae_decode(&c, s, &acts, x_hat, e));
done:
    sparse_release(&acts);
    sae_free(s);
    return rc;
}

/* Of rows on which no latent fires, b_dec is left. */
static void nothing_fires(void **state) {
    (void)state;
    sae *s = random_sae(&(sae_config){.variant = &sae_standard}, 5);
    ctx c = test_ctx(2);
    err e = {0};
    sparse_acts f = {0};
    const float x[3 * D] = {1, 2, 3};
    float back[3 * D];
    for (int64_t i = 0; i < N; i++) s->b_enc[i] = -1e9f;
    assert_ok(sae_encode(&c, s, x, 3, &f, &e), &e);
    assert_int_equal(f.indptr[3], 0);
    assert_ok(sae_reconstruct(&c, s, &f, x, back, &e), &e);
    for (int r = 0; r < 3; r++) assert_memory_equal(back + r * D, s->b_dec, sizeof(float) * D);
    sparse_release(&f);
    sae_free(s);
}

static void survives_failing_allocations(void **state) {
    (void)state;
    oom_sweep(encode_and_decode, NULL, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_impossible_configurations), cmocka_unit_test(fits),
        cmocka_unit_test(saved_is_loaded_bit_for_bit),       cmocka_unit_test(what_a_format_cannot_hold_is_not_written),
        cmocka_unit_test(python_opens_what_we_save),         cmocka_unit_test(registry_knows_its_rows),
        cmocka_unit_test(survives_failing_allocations),      cmocka_unit_test(nothing_fires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
