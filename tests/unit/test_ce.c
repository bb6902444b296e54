/* The loss with an SAE spliced in, against the plain way: one document at a time, rows replaced here, everything in double. */
#include "support/test.h"

#include "core/mem.h"
#include "core/rng.h"
#include "sae/eval/ce.h"
#include "sae/variants/variants.h"

#define assert_near(a, b, tolerance)                                                                                         \
    do {                                                                                                                     \
        if (!(fabs((a) - (b)) <= (tolerance))) fail_msg("%s: %.12g is not %.12g", #a, (double)(a), (double)(b));             \
    } while (0)

enum { LAYER = 1, D_SAE = 96, K = 4 };
static const int lengths[] = {9, 1, 30, 2, 17, 3, 64, 25};
enum { N_DOCS = sizeof lengths / sizeof *lengths, N_TOKENS_MAX = 256 };

typedef struct fixture {
    model *m;
    sae *s;
    token_corpus k;
} fixture;

/* Directions at random, the decoder their transpose at half length: a poor reconstruction, so that every loss is its own. */
static sae *random_sae(int64_t d) {
    sae_config cfg = {.variant = &sae_topk, .d_in = d, .d_sae = D_SAE, .k = K, .apply_b_dec_to_input = true};
    rng r = rng_stream(8, RNG_SYNTHETIC, 0);
    sae *s;
    err e = {0};
    snprintf(cfg.hook_name, sizeof cfg.hook_name, "blocks.%d.hook_resid_post", LAYER);
    assert_ok(sae_new(&cfg, &s, &e), &e);
    for (int64_t i = 0; i < D_SAE * d; i++) s->W_dec[i] = (s->W_enc[i] = (float)(rng_normal(&r) / sqrt((double)d))) / 2;
    for (int64_t i = 0; i < D_SAE; i++) s->b_enc[i] = (float)(0.1 * rng_normal(&r));
    for (int64_t i = 0; i < d; i++) s->b_dec[i] = (float)(0.3 * rng_normal(&r));
    return s;
}

static int set_up(void **state) {
    static fixture f;
    static uint32_t tokens[N_TOKENS_MAX];
    static uint64_t offsets[N_DOCS + 1];
    static char names[N_DOCS][16], *sources[N_DOCS];
    err e = {0};
    ctx c = test_ctx(1);
    char *path = test_fixture("models/llama/model.gguf");
    rng r = rng_stream(9, RNG_SYNTHETIC, 0);
    assert_ok(model_open(&c, path, &f.m, &e), &e);
    for (int i = 0; i < N_DOCS; i++) {
        snprintf(names[i], sizeof names[i], "%d.txt", i);
        sources[i] = names[i];
        offsets[i + 1] = offsets[i] + (uint64_t)lengths[i];
    }
    f.k = (token_corpus){tokens, (int64_t)offsets[N_DOCS], offsets, N_DOCS, sources, 0};
    assert_in_range(f.k.n_tokens, 1, N_TOKENS_MAX);
    for (int64_t i = 0; i < f.k.n_tokens; i++) tokens[i] = (uint32_t)rng_below(&r, (uint64_t)model_config_of(f.m)->n_vocab);
    f.s = random_sae(model_config_of(f.m)->d_model);
    free(path);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    sae_free(f->s);
    model_close(f->m);
    return 0;
}

/* ---- the plain way ---- */

typedef enum what { ALONE, SPLICED, ZEROED, MEANED, N_WHATS } what;

typedef struct replacing {
    const sae *s;
    what what;
    int64_t skip_first;
    double *sum, count; /* [d_in] of the rows that would be replaced */
} replacing;

static void reconstruct(const sae *s, float *x) {
    double pre[D_SAE], out[512];
    int64_t d = s->cfg.d_in;
    for (int i = 0; i < D_SAE; i++) {
        pre[i] = s->b_enc[i];
        for (int64_t j = 0; j < d; j++) pre[i] += ((double)x[j] - s->b_dec[j]) * s->W_enc[i * d + j];
    }
    for (int64_t j = 0; j < d; j++) out[j] = s->b_dec[j];
    for (int picked = 0; picked < K; picked++) {
        int best = 0;
        for (int i = 1; i < D_SAE; i++)
            if (pre[i] > pre[best]) best = i;
        for (int64_t j = 0; pre[best] > 0 && j < d; j++) out[j] += pre[best] * s->W_dec[best * d + j];
        pre[best] = -INFINITY;
    }
    for (int64_t j = 0; j < d; j++) x[j] = (float)out[j];
}

static err_code replace(void *user, const ctx *c, const hook_rows *rows, err *e) {
    (void)c, (void)e;
    replacing *r = user;
    int64_t d = rows->d_model;
    for (int64_t t = r->skip_first; t < rows->n_tokens; t++) {
        float *x = rows->x + t * d;
        switch (r->what) {
        case ALONE:
            for (int64_t j = 0; j < d; j++) r->sum[j] += x[j];
            r->count++;
            break;
        case SPLICED: reconstruct(r->s, x); break;
        case ZEROED: memset(x, 0, (size_t)d * sizeof *x); break;
        case MEANED:
            for (int64_t j = 0; j < d; j++) x[j] = (float)(r->sum[j] / r->count);
            break;
        default: fail();
        }
    }
    return ERR_OK;
}

static double nats(const float *logits, int64_t n, uint32_t target) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - logits[target]);
    return log(sum);
}

/* Mean nats a token; returns how many tokens are predicted. */
static int64_t plain(const fixture *f, int64_t skip_first, double loss[N_WHATS]) {
    ctx c = test_ctx(1);
    err e = {0};
    int64_t d = model_config_of(f->m)->d_model, v = model_config_of(f->m)->n_vocab, predicted = 0;
    assert_true(d <= 512);
    double sum[512] = {0};
    replacing r = {f->s, ALONE, skip_first, sum, 0};
    const model_hook hook = {{LAYER, HOOK_RESID_POST}, replace, &r};
    float *hidden = malloc((size_t)(64 * d) * sizeof *hidden), *logits = malloc((size_t)v * sizeof *logits);
    int32_t seq[64] = {0}, pos[64];
    for (int i = 0; i < 64; i++) pos[i] = i;
    for (r.what = ALONE; r.what < N_WHATS; r.what++) {
        loss[r.what] = 0;
        predicted = 0;
        for (int doc = 0; doc < N_DOCS; doc++) {
            uint32_t *ids = f->k.tokens + f->k.doc_offsets[doc];
            model_batch b = {lengths[doc], ids, seq, pos};
            assert_ok(model_forward(&c, f->m, &b, NULL, &hook, 1, hidden, &e), &e);
            for (int64_t t = skip_first; t + 1 < lengths[doc]; t++, predicted++) {
                assert_ok(model_logits(&c, f->m, hidden + t * d, 1, logits, &e), &e);
                loss[r.what] += nats(logits, v, ids[t + 1]);
            }
        }
        loss[r.what] /= (double)predicted;
    }
    free(hidden);
    free(logits);
    return predicted;
}

static void losses_are_those_of_the_plain_way(void **state) {
    fixture *f = *state;
    static const int64_t batches[] = {1, 40, 4096};
    err e = {0};
    for (int64_t skip_first = 0; skip_first < 3; skip_first++) {
        double loss[N_WHATS];
        int64_t predicted = plain(f, skip_first, loss);
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
            for (int threads = 1; threads <= 2; threads++) {
                ctx c = test_ctx(threads);
                ce_opts o = {.skip_first = skip_first, .batch_tokens = batches[b], .seed = 1};
                ce_result got;
                assert_ok(ce_run(&c, f->m, f->s, &f->k, &o, &got, &e), &e);
                assert_int_equal(got.tokens, predicted);
                assert_near(got.ce.value, loss[ALONE], 1e-5);
                assert_near(got.ce_sae.value, loss[SPLICED], 1e-5);
                assert_near(got.ce_zero.value, loss[ZEROED], 1e-5);
                assert_near(got.ce_mean.value, loss[MEANED], 1e-5);
                assert_near(got.delta_ce.value, loss[SPLICED] - loss[ALONE], 2e-5);
                assert_near(got.ce_recovered.value * (loss[ZEROED] - loss[ALONE]), loss[ZEROED] - loss[SPLICED], 4e-5);
                assert_near(got.ce_recovered_mean.value * (loss[MEANED] - loss[ALONE]), loss[MEANED] - loss[SPLICED], 4e-5);
                ce_result half;
                o.delta_only = true;
                assert_ok(ce_run(&c, f->m, f->s, &f->k, &o, &half, &e), &e);
                assert_true(half.delta_ce.value == got.delta_ce.value && half.ce_sae.value == got.ce_sae.value);
                assert_true(isnan(half.ce_zero.value) && isnan(half.ce_recovered.value) && isnan(half.ce_mean.value));
            }
        assert_true(fabs(loss[SPLICED] - loss[ALONE]) > 1e-2 && fabs(loss[ZEROED] - loss[SPLICED]) > 1e-2 &&
                    fabs(loss[ZEROED] - loss[MEANED]) > 1e-2);
    }
}

/* Without a document that predicts a token behind skip_first there is nothing to say. */
static void nothing_to_predict(void **state) {
    fixture *f = *state;
    ctx c = test_ctx(1);
    err e = {0};
    ce_result got;
    ce_opts o = {.skip_first = 63, .batch_tokens = 64};
    assert_int_equal(ce_run(&c, f->m, f->s, &f->k, &o, &got, &e), ERR_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(losses_are_those_of_the_plain_way),
                                       cmocka_unit_test(nothing_to_predict)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
