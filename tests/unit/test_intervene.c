/* Interventions in closed form on an SAE small enough to encode by hand, and what must not depend on batch or threads. */
#include "support/oom.h"
#include "support/test.h"

#include "sae/variants/variants.h"
#include "steer/intervene.h"

enum { D = 4, N_LATENTS = 5, K = 2, SKIP = 1 };

/* Latent i < 4 reads coordinate i (latent 1 with a bias), latent 4 reads nothing. Decoder rows differ from encoder rows and
 * are not orthogonal, so that mixing up the two, or reading codes after an earlier intervention, shows. */
static const float decoder[N_LATENTS][D] = {
    {0.6f, 0.8f, 0, 0}, {0, 0.6f, 0.8f, 0}, {0, 0, 0.6f, 0.8f}, {0.8f, 0, 0, 0.6f}, {0.5f, 0.5f, 0.5f, 0.5f}};
static const float row[D] = {3, 2, 1, -7};

static sae *small_sae(void) {
    err e = {0};
    sae *s;
    sae_config cfg = {.variant = &sae_topk, .d_in = D, .d_sae = N_LATENTS, .k = K};
    assert_ok(sae_new(&cfg, &s, &e), &e);
    for (int i = 0; i < D; i++) s->W_enc[i * D + i] = 1;
    s->b_enc[1] = 0.5f;
    memcpy(s->W_dec, decoder, sizeof decoder);
    return s;
}

static const intervention_kind *kind(const char *name) {
    err e = {0};
    const intervention_kind *k = intervention_kind_by_name(name, &e);
    assert_ok(e.code, &e);
    return k;
}

/* Runs the lists on a batch where every sequence has three positions, all holding `row`. x [3 n_seqs, D] receives it. */
static int64_t run(const sae *s, const intervention_list *lists, int n_seqs, int threads, float *x) {
    err e = {0};
    ctx c = test_ctx(threads);
    int32_t seq[3 * 16], pos[3 * 16];
    model_hook hook;
    int64_t per_seq[16] = {0}, sum = 0;
    intervene v = {.sae = s, .per_seq = lists, .n_seqs = n_seqs, .skip_first = SKIP, .changed_per_seq = per_seq};
    for (int r = 0; r < 3 * n_seqs; r++) {
        seq[r] = r / 3;
        pos[r] = r % 3;
        memcpy(x + r * D, row, sizeof row);
    }
    hook_rows rows = {.n_tokens = 3 * n_seqs, .d_model = D, .x = x, .seq = seq, .pos = pos};
    assert_ok(intervene_hook(&v, &hook, &e), &e);
    assert_ok(hook.fn(hook.user, &c, &rows, &e), &e);
    intervene_release(&v);
    for (int i = 0; i < n_seqs; i++) sum += per_seq[i];
    assert_int_equal(sum, v.positions_changed);
    return v.positions_changed;
}

/* One intervention: the row's move, as an amount along direction u. */
static void expect_move(const sae *s, intervention item, const float *u, float amount) {
    float x[3 * D];
    intervention_list list = {&item, 1};
    int64_t changed = run(s, &list, 1, 1, x);
    assert_int_equal(changed, amount != 0 ? 2 : 0);
    for (int r = 0; r < 3; r++)
        for (int j = 0; j < D; j++) assert_float_equal(x[r * D + j], row[j] + (r < SKIP ? 0 : amount * u[j]), 1e-6);
}

/* f(row) = {0: 3, 1: 2.5}: latent 2 sees 1 but loses against the two, so its code is 0. */
static void moves_in_closed_form(void **state) {
    (void)state;
    sae *s = small_sae();
    const float u[D] = {0, 0, 0, 1};
    expect_move(s, (intervention){.kind = kind("clamp"), .feature = 0, .value = 10}, decoder[0], 10 - 3);
    expect_move(s, (intervention){.kind = kind("clamp"), .feature = 1, .value = 10}, decoder[1], 10 - 2.5f);
    expect_move(s, (intervention){.kind = kind("clamp"), .feature = 2, .value = 10}, decoder[2], 10); /* not 9 */
    expect_move(s, (intervention){.kind = kind("clamp"), .feature = 3, .value = -2}, decoder[3], -2);
    expect_move(s, (intervention){.kind = kind("clamp"), .feature = 1, .value = 2.5f}, decoder[1], 0);
    expect_move(s, (intervention){.kind = kind("add"), .feature = 0, .value = 1.5f}, decoder[0], 1.5f);
    expect_move(s, (intervention){.kind = kind("scale"), .feature = 0, .value = 3}, decoder[0], 2 * 3);
    expect_move(s, (intervention){.kind = kind("scale"), .feature = 2, .value = 3}, decoder[2], 0);
    expect_move(s, (intervention){.kind = kind("ablate"), .feature = 1, .value = 99}, decoder[1], -2.5f);
    expect_move(s, (intervention){.kind = kind("ablate"), .feature = 4}, decoder[4], 0);
    expect_move(s, (intervention){.kind = kind("ablate_mean"), .feature = 0, .mean = 0.25f}, decoder[0], 0.25f - 3);
    expect_move(s, (intervention){.kind = kind("direction"), .value = -4, .direction = u}, u, -4);
    expect_move(NULL, (intervention){.kind = kind("direction"), .value = -4, .direction = u}, u, -4);
    sae_free(s);
}

/* x' - x_hat(f with f_i := c) = x - x_hat(f): what the SAE does not explain stays, bit for bit but for rounding. */
static void clamp_keeps_the_error(void **state) {
    (void)state;
    err e = {0};
    ctx c = test_ctx(1);
    sae *s = small_sae();
    sparse_acts f = {0};
    float x[3 * D], x_hat[D];
    assert_ok(sae_encode(&c, s, row, 1, &f, &e), &e);
    assert_ok(sae_decode(&c, s, &f, x_hat, &e), &e);
    intervention item = {.kind = kind("clamp"), .feature = 1, .value = 8};
    run(s, &(intervention_list){&item, 1}, 1, 1, x);
    assert_int_equal(f.indices[1], 1);
    for (int j = 0; j < D; j++) {
        float error_before = row[j] - x_hat[j];
        float error_after = x[2 * D + j] - (x_hat[j] + (8 - f.values[1]) * decoder[1][j]);
        assert_float_equal(error_after, error_before, 2e-6);
    }
    sparse_release(&f);
    sae_free(s);
}

/* The same where the SAE works in units of each row: x_hat is taken back by the row's own scale, and so is a move. */
static void clamp_keeps_the_error_under_a_norm(void **state) {
    (void)state;
    for (int n = 0; n < n_sae_norms; n++) {
        err e = {0};
        ctx c = test_ctx(1);
        sae *s = small_sae();
        sparse_acts f = {0};
        float x[3 * D], before[D], after[D];
        s->cfg.norm = &sae_norms[n];
        assert_ok(sae_encode(&c, s, row, 1, &f, &e), &e);
        assert_int_equal(f.indptr[1], K);
        assert_ok(sae_reconstruct(&c, s, &f, row, before, &e), &e);
        intervention item = {.kind = kind("clamp"), .feature = f.indices[0], .value = 8};
        assert_int_equal(run(s, &(intervention_list){&item, 1}, 1, 1, x), 2);
        f.values[0] = 8;
        assert_ok(sae_reconstruct(&c, s, &f, row, after, &e), &e);
        for (int j = 0; j < D; j++) assert_float_equal(x[2 * D + j] - after[j], row[j] - before[j], 2e-5);
        assert_int_equal(sae_decode(&c, s, &f, after, &e), ERR_UNSUPPORTED);
        sparse_release(&f);
        sae_free(s);
    }
}

static void a_transcoder_cannot_be_clamped(void **state) {
    (void)state;
    err e = {0};
    sae *s = small_sae();
    model_hook hook;
    intervention item = {.kind = kind("clamp"), .feature = 1, .value = 8};
    intervene v = {.sae = s, .per_seq = &(intervention_list){&item, 1}, .n_seqs = 1};
    s->cfg.transcoder = true;
    assert_int_equal(intervene_hook(&v, &hook, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "transcoder"));
    sae_free(s);
}

/* Codes are those of the row as it arrives: moving along latent 0's direction raises coordinate 1, which latent 1 reads. */
static void several_add_up(void **state) {
    (void)state;
    sae *s = small_sae();
    float x[3 * D];
    intervention both[2] = {{.kind = kind("clamp"), .feature = 0, .value = 10},
                            {.kind = kind("clamp"), .feature = 1, .value = 10}};
    for (int swapped = 0; swapped < 2; swapped++) {
        assert_int_equal(run(s, &(intervention_list){both, 2}, 1, 1, x), 2);
        for (int j = 0; j < D; j++) assert_float_equal(x[D + j], row[j] + 7 * decoder[0][j] + 7.5f * decoder[1][j], 2e-6);
        intervention first = both[0];
        both[0] = both[1];
        both[1] = first;
    }
    sae_free(s);
}

/* Sequences without a list stay as they are, and a sequence's rows do not depend on where in the batch it stands, on what
 * stands beside it, or on threads. */
static void sequences_are_apart(void **state) {
    (void)state;
    sae *s = small_sae();
    const float u[D] = {0, 1, 0, 0};
    intervention items[4] = {{.kind = kind("clamp"), .feature = 2, .value = 6},
                             {.kind = kind("add"), .feature = 3, .value = 2},
                             {.kind = kind("direction"), .value = 5, .direction = u},
                             {.kind = kind("scale"), .feature = 1, .value = 0.5f}};
    intervention_list lists[16], turned[16];
    float x[16 * 3 * D], y[16 * 3 * D], z[16 * 3 * D], alone[3 * D];
    for (int i = 0; i < 16; i++) {
        lists[i] = (intervention_list){&items[i % 4], i % 5 == 0 ? 0 : i % 3 == 0 ? 1 : 4 - i % 4};
        turned[(i + 7) % 16] = lists[i];
    }
    int64_t changed = run(s, lists, 16, 1, x);
    assert_int_equal(changed, 2 * 12);
    assert_int_equal(run(s, lists, 16, 2, y), changed);
    assert_memory_equal(x, y, sizeof x);
    assert_int_equal(run(s, turned, 16, 3, z), changed);
    for (int i = 0; i < 16; i++) {
        assert_memory_equal(x + i * 3 * D, z + (i + 7) % 16 * 3 * D, sizeof alone);
        run(s, &lists[i], 1, 1, alone);
        assert_memory_equal(x + i * 3 * D, alone, sizeof alone);
        if (i % 5 == 0)
            assert_memory_equal(alone, ((const float[3][D]){{3, 2, 1, -7}, {3, 2, 1, -7}, {3, 2, 1, -7}}), sizeof alone);
    }
    sae_free(s);
}

static void refuses_what_cannot_be(void **state) {
    (void)state;
    err e = {0};
    sae *s = small_sae();
    model_hook hook;
    intervention item = {.kind = kind("clamp"), .feature = 5, .value = 1};
    intervention_list list = {&item, 1};
    intervene v = {.sae = s, .per_seq = &list, .n_seqs = 1};
    assert_int_equal(intervene_hook(&v, &hook, &e), ERR_USAGE);
    assert_string_equal(e.message, "feature 5 does not exist, the SAE has 0 .. 4");
    item.feature = -1;
    assert_int_equal(intervene_hook(&v, &hook, &e), ERR_USAGE);
    item = (intervention){.kind = kind("clamp"), .feature = 1, .value = NAN};
    assert_int_equal(intervene_hook(&v, &hook, &e), ERR_USAGE);
    assert_null(intervention_kind_by_name("clmp", &e));
    assert_non_null(strstr(e.message, "did you mean 'clamp'"));

    ctx c = test_ctx(1);
    float x[2 * D] = {0};
    int32_t zero = 0;
    hook_rows rows = {.n_tokens = 1, .d_model = 2 * D, .x = x, .seq = &zero, .pos = &zero};
    item.value = 1;
    assert_ok(intervene_hook(&v, &hook, &e), &e);
    assert_int_equal(hook.fn(hook.user, &c, &rows, &e), ERR_MISMATCH);
    intervene_release(&v);
    sae_free(s);
}

static void every_kind_is_complete(void **state) {
    (void)state;
    for (int i = 0; i < n_intervention_kinds; i++) {
        assert_true(strlen(intervention_kinds[i].help) > 0);
        assert_non_null(intervention_kinds[i].amount);
    }
}

static err_code clamp_once(void *arg, err *e) {
    ctx c = test_ctx(2);
    float x[D] = {3, 2, 1, -7};
    int32_t seq = 0, pos = 1;
    model_hook hook;
    intervention item = {.kind = &intervention_kinds[0], .feature = 0, .value = 1};
    intervene v = {.sae = arg, .per_seq = &(intervention_list){&item, 1}, .n_seqs = 1, .skip_first = 1};
    hook_rows rows = {.n_tokens = 1, .d_model = D, .x = x, .seq = &seq, .pos = &pos};
    err_code rc;
    TRY(intervene_hook(&v, &hook, e));
    TRY(hook.fn(hook.user, &c, &rows, e));
done:
    intervene_release(&v);
    return rc;
}

static void survives_failing_allocations(void **state) {
    (void)state;
    sae *s = small_sae();
    oom_sweep(clamp_once, s, 50);
    sae_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_in_closed_form),
        cmocka_unit_test(clamp_keeps_the_error),
        cmocka_unit_test(clamp_keeps_the_error_under_a_norm),
        cmocka_unit_test(a_transcoder_cannot_be_clamped),
        cmocka_unit_test(several_add_up),
        cmocka_unit_test(sequences_are_apart),
        cmocka_unit_test(refuses_what_cannot_be),
        cmocka_unit_test(every_kind_is_complete),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
