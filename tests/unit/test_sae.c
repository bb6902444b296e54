/* The autoencoder's own rules: what configurations it takes, which rows it fits, what its registry answers, and what happens
 * when memory runs out. */
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

static void survives_failing_allocations(void **state) {
    (void)state;
    oom_sweep(encode_and_decode, NULL, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_impossible_configurations),
        cmocka_unit_test(fits),
        cmocka_unit_test(registry_knows_its_rows),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
