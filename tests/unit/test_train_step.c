/* One training step against central differences of a naive double-precision loss, and ten steps against vectors that other
 * software made (golden/sae_training, with its own hand-written float64 backward). Catches: a term of the gradient that is
 * missing or has the wrong sign, projection or clipping in the wrong order, AuxK that leaks into the residual or into b_dec,
 * bias corrections, bits that depend on threads. */
#include "support/oom.h"
#include "support/test.h"

#include "core/rng.h"
#include "formats/weights.h"
#include "sae/train/step.h"
#include "sae/variants/variants.h"

#include <jansson.h>

/* ---- a naive loss in double ---- */

enum { D = 7, N = 21, K = 3, K_AUX = 4, ROWS = 70, N_DEAD = 6 };

typedef struct params {
    double W_enc[N][D], W_dec[N][D], b_enc[N], b_dec[D];
} params;
enum { N_PARAMS = sizeof(params) / sizeof(double) };

typedef struct naive_case {
    bool fvu;
    double auxk;
    const float *x; /* [ROWS, D] */
    bool is_dead[N];
    double e[ROWS][D]; /* residual at the point of the step: AuxK holds it fixed */
} naive_case;

/* f of the k largest positive pre among those allowed */
static void choose(const double pre[N], int k, const bool *allowed, double f[N]) {
    for (int i = 0; i < N; i++) {
        int rank = 0;
        for (int j = 0; j < N; j++) rank += (!allowed || allowed[j]) && (pre[j] > pre[i] || (pre[j] == pre[i] && j < i));
        f[i] = (!allowed || allowed[i]) && rank < k && pre[i] > 0 ? pre[i] : 0;
    }
}

static double spread(double v[ROWS][D]) {
    double sum = 0;
    for (int j = 0; j < D; j++) {
        double mean = 0;
        for (int r = 0; r < ROWS; r++) mean += v[r][j] / ROWS;
        for (int r = 0; r < ROWS; r++) sum += (v[r][j] - mean) * (v[r][j] - mean);
    }
    return sum;
}

static void score_row(const params *p, const float *x, double pre[N]) {
    for (int i = 0; i < N; i++) {
        pre[i] = p->b_enc[i];
        for (int j = 0; j < D; j++) pre[i] += (x[j] - p->b_dec[j]) * p->W_enc[i][j];
    }
}

static void naive_residuals(const params *p, const float *x, double e[ROWS][D]) {
    for (int r = 0; r < ROWS; r++) {
        double pre[N], f[N];
        score_row(p, x + r * D, pre);
        choose(pre, K, NULL, f);
        for (int j = 0; j < D; j++) {
            e[r][j] = x[r * D + j] - p->b_dec[j];
            for (int i = 0; i < N; i++) e[r][j] -= f[i] * p->W_dec[i][j];
        }
    }
}

static double naive_loss(const naive_case *c, const params *p, double *aux) {
    double e[ROWS][D], fixed[ROWS][D], wide[ROWS][D], squares = 0, r_squares = 0;
    naive_residuals(p, c->x, e);
    for (int r = 0; r < ROWS; r++) {
        double pre[N], z[N];
        score_row(p, c->x + r * D, pre);
        choose(pre, K_AUX, c->is_dead, z);
        for (int j = 0; j < D; j++) {
            double e_hat = 0;
            for (int i = 0; i < N; i++) e_hat += z[i] * p->W_dec[i][j];
            squares += e[r][j] * e[r][j];
            r_squares += (e_hat - c->e[r][j]) * (e_hat - c->e[r][j]);
            wide[r][j] = c->x[r * D + j];
            fixed[r][j] = c->e[r][j];
        }
    }
    *aux = c->auxk * r_squares / spread(fixed);
    return squares / (c->fvu ? spread(wide) : ROWS);
}

static void random_params(params *p, uint64_t seed) {
    rng r = rng_stream(seed, RNG_INIT, 0);
    for (int i = 0; i < N; i++) {
        double norm = 0;
        for (int j = 0; j < D; j++) {
            p->W_enc[i][j] = (float)rng_normal(&r);
            p->W_dec[i][j] = rng_normal(&r);
            norm += p->W_dec[i][j] * p->W_dec[i][j];
        }
        for (int j = 0; j < D; j++) p->W_dec[i][j] = (float)(p->W_dec[i][j] / sqrt(norm));
        p->b_enc[i] = (float)(0.2 * rng_normal(&r));
    }
    for (int j = 0; j < D; j++) p->b_dec[j] = (float)(0.3 * rng_normal(&r));
}

static void random_x(float *x, int64_t n, uint64_t seed) {
    rng r = rng_stream(seed, RNG_SYNTHETIC, 0);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(0.5 + rng_normal(&r));
}

static void to_doubles(const float *from, double factor, double *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = factor * from[i];
}

static void to_floats(const double *from, float *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)from[i];
}

static void set_learner(learner *l, const params *p) {
    to_floats(&p->W_enc[0][0], l->s->W_enc, N * D);
    to_floats(&p->W_dec[0][0], l->s->W_dec, N * D);
    to_floats(p->b_enc, l->s->b_enc, N);
    to_floats(p->b_dec, l->s->b_dec, D);
}

/* The gradient that Adam saw in the first step, from its first moment m = (1 - beta1) g. */
static void first_gradient(const learner *l, params *g) {
    double factor = 1 / (1 - l->rules.adam.beta1);
    to_doubles(l->m->W_enc, factor, &g->W_enc[0][0], N * D);
    to_doubles(l->m->W_dec, factor, &g->W_dec[0][0], N * D);
    to_doubles(l->m->b_enc, factor, g->b_enc, N);
    to_doubles(l->m->b_dec, factor, g->b_dec, D);
}

static const sae_config small = {.variant = &sae_topk, .d_in = D, .d_sae = N, .k = K, .apply_b_dec_to_input = true};

static void agrees_with_differences(bool fvu, double auxk, cpu_level level) {
    static float x[ROWS * D], centred[ROWS * D];
    static naive_case c;
    static params p, g;
    learner l;
    step_report report;
    err e = {0};
    uint32_t dead[N_DEAD];
    step_rules rules = STEP_DEFAULTS;
    ctx t = test_ctx(2);
    t.cpu = level;
    rules.fvu = fvu;
    rules.project = rules.renormalize = false;
    rules.auxk = auxk;
    rules.k_aux = K_AUX;
    random_x(x, ROWS * D, 5);
    random_params(&p, 6);
    c = (naive_case){.fvu = fvu, .auxk = auxk, .x = x};
    for (int i = 0; i < N_DEAD; i++) c.is_dead[dead[i] = (uint32_t)(3 * i + 1)] = true; /* some of them fire all the same */
    naive_residuals(&p, x, c.e);
    assert_ok(learner_init(&l, &small, &rules, &e), &e);
    set_learner(&l, &p);
    memcpy(centred, x, sizeof x);
    assert_ok(learner_step(&t, &l, centred, ROWS, 1e-3, dead, N_DEAD, &report, &e), &e);
    double aux, loss = naive_loss(&c, &p, &aux);
    assert_true(fabs(report.loss / loss - 1) < 1e-5);
    assert_true(fabs(report.auxk - aux) < 1e-5 * (aux + 1e-9));
    first_gradient(&l, &g);
    double *at = &p.W_enc[0][0], *got = &g.W_enc[0][0], largest = 0;
    for (int i = 0; i < N_PARAMS; i++) largest = fmax(largest, fabs(got[i]));
    for (int i = 0; i < N_PARAMS; i++) {
        double keep = at[i], h = 1e-6, up, down;
        at[i] = keep + h;
        up = naive_loss(&c, &p, &aux);
        up += aux;
        at[i] = keep - h;
        down = naive_loss(&c, &p, &aux);
        down += aux;
        at[i] = keep;
        /* float32 sums of a few hundred terms: some 1e-6 of the largest gradient */
        if (fabs(got[i] - (up - down) / (2 * h)) > 1e-5 * largest)
            fail_msg("parameter %d: %.9g by differences, %.9g by the step", i, (up - down) / (2 * h), got[i]);
    }
    learner_release(&l);
}

static void gradients(void **state) {
    (void)state;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int fvu = 0; fvu < 2; fvu++) {
            agrees_with_differences(fvu, 0, level);
            agrees_with_differences(fvu, 1.0 / 32, level);
            agrees_with_differences(fvu, 5, level); /* large enough that its errors would stand out */
        }
}

/* ---- vectors of other software ---- */

typedef struct vectors {
    weights *w;
    json_t *about;
    int64_t d, n, batch, steps;
} vectors;

static void vectors_open(vectors *v, const char *name) {
    char path[64];
    err e = {0};
    json_error_t problem;
    snprintf(path, sizeof path, "sae_training/%s.safetensors", name);
    char *file = test_fixture(path);
    assert_ok(weights_open(file, &v->w, &e), &e);
    free(file);
    snprintf(path, sizeof path, "sae_training/%s.json", name);
    file = test_fixture(path);
    assert_non_null(v->about = json_load_file(file, 0, &problem));
    free(file);
    v->d = json_integer_value(json_object_get(v->about, "d_in"));
    v->n = json_integer_value(json_object_get(v->about, "d_sae"));
    v->batch = json_integer_value(json_object_get(v->about, "batch"));
    v->steps = json_integer_value(json_object_get(v->about, "steps"));
}

static void vectors_close(vectors *v) {
    weights_close(v->w);
    json_decref(v->about);
}

/* A tensor of doubles or floats, as doubles; owned by the caller. */
static double *tensor(const vectors *v, const char *name, int64_t n) {
    const tensor_view *t = weights_find(v->w, name);
    if (!t) fail_msg("no tensor %s", name);
    assert_int_equal(tensor_count(t), n);
    double *out = malloc((size_t)n * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        float x;
        if (t->size == (size_t)n * sizeof(double)) {
            memcpy(out + i, (const char *)t->data + (size_t)i * sizeof(double), sizeof(double));
            continue;
        }
        memcpy(&x, (const char *)t->data + (size_t)i * sizeof x, sizeof x);
        out[i] = x;
    }
    return out;
}

/* Calls with (ours, theirs): W_enc is [d, n] in the file. */
static void set_or_compare(const vectors *v, const char *prefix, const sae *s, bool compare, double factor,
                           double tolerance) {
    const struct {
        const char *name;
        float *values;
        int64_t n, columns; /* columns: of the transposed matrix in the file; 0 when not transposed */
    } all[] = {{"W_enc", s->W_enc, v->n * v->d, v->n},
               {"W_dec", s->W_dec, v->n * v->d, 0},
               {"b_enc", s->b_enc, v->n, 0},
               {"b_dec", s->b_dec, v->d, 0}};
    for (size_t p = 0; p < sizeof all / sizeof *all; p++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%s", prefix, all[p].name);
        double *theirs = tensor(v, name, all[p].n);
        for (int64_t i = 0; i < all[p].n; i++) {
            int64_t at = all[p].columns ? i % all[p].columns * v->d + i / all[p].columns : i;
            if (!compare)
                all[p].values[at] = (float)theirs[i];
            else if (fabs(factor * all[p].values[at] - theirs[i]) > tolerance)
                fail_msg("%s[%lld]: expected %.9g, got %.9g", name, (long long)i, theirs[i], factor * all[p].values[at]);
        }
        free(theirs);
    }
}

static double number(const json_t *about, const char *key) { return json_number_value(json_object_get(about, key)); }

static step_rules rules_of(const vectors *v) {
    const json_t *adam = json_object_get(v->about, "adam");
    return (step_rules){
        .adam = {number(adam, "beta1"), number(adam, "beta2"), number(adam, "eps")},
        .fvu = !strcmp(json_string_value(json_object_get(v->about, "loss")), "fvu"),
        .project = json_is_true(json_object_get(v->about, "project_gradient")),
        .renormalize = json_is_true(json_object_get(v->about, "renormalize")),
        .clip = number(v->about, "clip_norm"),
        .auxk = number(v->about, "aux_coefficient"),
        .k_aux = (int64_t)number(v->about, "k_aux"),
    };
}

static void learner_of(const vectors *v, const step_rules *rules, learner *l) {
    err e = {0};
    sae_config cfg = {.variant = &sae_topk,
                      .d_in = v->d,
                      .d_sae = v->n,
                      .k = json_integer_value(json_object_get(v->about, "k")),
                      .apply_b_dec_to_input = json_is_true(json_object_get(v->about, "subtract_b_dec"))};
    assert_ok(learner_init(l, &cfg, rules, &e), &e);
    set_or_compare(v, "init", l->s, false, 1, 0);
}

static int64_t dead_of(const vectors *v, uint32_t *dead) {
    const tensor_view *mask = weights_find(v->w, "dead_mask");
    int64_t n = 0;
    assert_non_null(mask);
    for (int64_t i = 0; i < v->n; i++)
        if (((const uint8_t *)mask->data)[i]) dead[n++] = (uint32_t)i;
    return n;
}

static void batch_of(const vectors *v, int64_t t, float *x) {
    double *all = tensor(v, "x", v->steps * v->batch * v->d);
    to_floats(all + t * v->batch * v->d, x, v->batch * v->d);
    free(all);
}

static void expect_close(const vectors *v, const char *name, int64_t t, double got, double tolerance) {
    double *theirs = tensor(v, name, v->steps);
    if (fabs(got - theirs[t]) > tolerance)
        fail_msg("%s of step %lld: expected %.9g, got %.9g", name, (long long)t + 1, theirs[t], got);
    free(theirs);
}

/* Tolerances for float32 as the vectors' README derives them: gradients 5e-6, losses 2e-5, parameters 1e-5. */
static void ten_steps_of(const char *name, cpu_level level) {
    vectors v;
    learner l;
    step_report report;
    err e = {0};
    ctx c = test_ctx(2);
    c.cpu = level;
    vectors_open(&v, name);
    float *x = malloc((size_t)(v.batch * v.d) * sizeof *x);
    uint32_t *dead = malloc((size_t)v.n * sizeof *dead);
    int64_t n_dead = dead_of(&v, dead);
    double lr = number(json_object_get(v.about, "adam"), "lr");
    step_rules rules = rules_of(&v), raw = rules;
    double per_moment = 1 / (1 - rules.adam.beta1);

    raw.project = raw.renormalize = false;
    raw.clip = 0;
    learner_of(&v, &raw, &l);
    batch_of(&v, 0, x);
    assert_ok(learner_step(&c, &l, x, v.batch, lr, dead, n_dead, &report, &e), &e);
    set_or_compare(&v, "grad", l.m, true, per_moment, 5e-6);
    learner_release(&l);

    learner_of(&v, &rules, &l);
    for (int64_t t = 0; t < v.steps; t++) {
        batch_of(&v, t, x);
        assert_ok(learner_step(&c, &l, x, v.batch, lr, dead, n_dead, &report, &e), &e);
        expect_close(&v, rules.fvu ? "loss.fvu" : "loss.mse", t, report.loss, 2e-5);
        expect_close(&v, "loss.auxk", t, report.auxk, 2e-5);
        expect_close(&v, "loss.total", t, report.loss + report.auxk, 2e-5);
        expect_close(&v, "l0", t, report.l0, 1e-12);
        if (rules.clip > 0) expect_close(&v, "grad_norm", t, report.grad_norm, 5e-6 * sqrt((double)(2 * v.n * v.d)));
        if (t == 0) set_or_compare(&v, "grad_used", l.m, true, per_moment, 5e-6);
        if (t == 0) set_or_compare(&v, "step1", l.s, true, 1, 1e-5);
    }
    set_or_compare(&v, "step10", l.s, true, 1, 1e-5);
    learner_release(&l);
    free(dead);
    free(x);
    vectors_close(&v);
}

static void vectors_of_other_software(void **state) {
    (void)state;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++) {
        ten_steps_of("topk_auxk", level);
        ten_steps_of("topk_auxk_fvu", level);
    }
}

/* ---- exactness ---- */

/* A few steps at a shape with tails everywhere, several blocks of rows and latents, some latents dead. */
static err_code odd_steps(int threads, learner *l, err *e) {
    enum { d = 37, n = 203, rows = 331 };
    const sae_config cfg = {.variant = &sae_topk, .d_in = d, .d_sae = n, .k = 9, .apply_b_dec_to_input = true};
    step_rules rules = STEP_DEFAULTS;
    float x[rows * d];
    uint32_t dead[] = {0, 63, 64, 65, 150, 202};
    step_report report;
    ctx c = test_ctx(threads);
    rules.k_aux = 4;
    err_code rc = learner_init(l, &cfg, &rules, e);
    if (rc) return rc;
    random_x(l->s->W_enc, n * d, 8);
    random_x(l->s->W_dec, n * d, 8);
    for (uint64_t t = 0; !rc && t < 4; t++) {
        random_x(x, rows * d, 10 + t);
        rc = learner_step(&c, l, x, rows, 1e-3, dead, t < 2 ? 6 : 0, &report, e);
    }
    return rc;
}

static void same_bits_on_any_threads(void **state) {
    (void)state;
    learner one, many;
    err e = {0};
    assert_ok(odd_steps(1, &one, &e), &e);
    for (int threads = 2; threads <= 5; threads++) {
        assert_ok(odd_steps(threads, &many, &e), &e);
        size_t matrix = (size_t)(one.s->cfg.d_sae * one.s->cfg.d_in) * sizeof(float);
        assert_memory_equal(one.s->W_enc, many.s->W_enc, matrix);
        assert_memory_equal(one.s->W_dec, many.s->W_dec, matrix);
        assert_memory_equal(one.v->W_enc, many.v->W_enc, matrix);
        assert_memory_equal(one.s->b_enc, many.s->b_enc, (size_t)one.s->cfg.d_sae * sizeof(float));
        assert_memory_equal(one.s->b_dec, many.s->b_dec, (size_t)one.s->cfg.d_in * sizeof(float));
        learner_release(&many);
    }
    for (int64_t i = 0; i < one.s->cfg.d_sae; i++) { /* and decoder rows have length 1 */
        double norm = 0;
        for (int64_t j = 0; j < one.s->cfg.d_in; j++) norm += pow((double)one.s->W_dec[i * one.s->cfg.d_in + j], 2);
        assert_true(fabs(norm - 1) < 1e-5);
    }
    learner_release(&one);
}

static err_code steps_once(void *arg, err *e) {
    (void)arg;
    learner l;
    err_code rc = odd_steps(2, &l, e);
    learner_release(&l);
    return rc;
}

static void out_of_memory(void **state) {
    (void)state;
    oom_sweep(steps_once, NULL, 100);
}

/* Rows without spread, and rows that nothing fires on: no division by zero reaches a parameter. */
static void nothing_to_learn(void **state) {
    (void)state;
    learner l;
    step_report report;
    err e = {0};
    ctx c = test_ctx(1);
    step_rules rules = STEP_DEFAULTS;
    const uint32_t dead[] = {2};
    float x[5 * D] = {0};
    params p;
    rules.k_aux = 2;
    random_params(&p, 1);
    assert_ok(learner_init(&l, &small, &rules, &e), &e);
    set_learner(&l, &p);
    for (int i = 0; i < N; i++) l.s->b_enc[i] = -100;
    for (int t = 0; t < 3; t++) assert_ok(learner_step(&c, &l, x, 5, 1e-3, dead, 1, &report, &e), &e);
    assert_true(report.l0 == 0);
    for (int i = 0; i < N * D; i++) assert_true(isfinite(l.s->W_dec[i]) && isfinite(l.s->W_enc[i]));
    for (int j = 0; j < D; j++) assert_true(isfinite(l.s->b_dec[j]));
    learner_release(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),
        cmocka_unit_test(vectors_of_other_software),
        cmocka_unit_test(same_bits_on_any_threads),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(nothing_to_learn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
