/* One training step of every row of the table against a double-precision loss and gradient (support/ref_training.h), that
 * gradient against the loss's differences, and ten steps against vectors that other software made (golden/sae_training, with
 * its own hand-written float64 backward). Catches: a term of the gradient that is missing or has the wrong sign, projection or
 * clipping in the wrong order, AuxK that leaks into the residual or into b_dec, gates that teach the decoder, bias corrections,
 * a matrix path that differs from the sparse one, bits that depend on threads. */
#include "support/oom.h"
#include "support/ref_training.h"
#include "support/test.h"

#include "core/rng.h"
#include "formats/weights.h"
#include "sae/train/step.h"
#include "sae/variants/training.h"

#include <jansson.h>

/* ---- a small case of every row ---- */

enum { D = 7, D_OUT = 5, N = 70, K = 3, K_AUX = 4, ROWS = 70, N_DEAD = 6 };

static sae_config small_config(const sae_training *t) {
    return step_config(t, D, t->options & TRAINS_TARGET && !t->skip ? D_OUT : D, N, K);
}

static step_rules small_rules(const sae_training *t) {
    step_rules r = step_defaults(t);
    r.k_aux = K_AUX;
    r.own = (training_rules){.k = K, .sparsity = 0.7, .bandwidth = 0.3, .threshold_keep = 0.9};
    if (t->options & TRAINS_PREFIXES) {
        r.own.n_prefixes = 3;
        r.own.prefixes[0] = 9;
        r.own.prefixes[1] = 66; /* in the second block of latents */
        r.own.prefixes[2] = N;
    }
    return r;
}

static void random_floats(float *x, int64_t n, double mean, double deviation, uint64_t seed) {
    rng r = rng_stream(seed, RNG_SYNTHETIC, 0);
    for (int64_t i = 0; x && i < n; i++) x[i] = (float)(mean + deviation * rng_normal(&r));
}

/* bias: of the scores; well below 0 few latents fire. */
static void random_parameters(sae *s, double bias, bool unit) {
    int64_t n = s->cfg.d_sae, d_out = s->cfg.d_out;
    random_floats(s->W_enc, n * s->cfg.d_in, 0, 1, 1);
    random_floats(s->W_dec, n * d_out, 0, 0.5, 2);
    random_floats(s->b_enc, n, bias, 0.2, 3);
    random_floats(s->b_dec, d_out, 0, 0.3, 4);
    random_floats(s->b_gate, n, bias, 0.2, 5);
    random_floats(s->r_mag, n, 0, 0.2, 6);
    random_floats(s->W_skip, s->cfg.skip ? d_out * s->cfg.d_in : 0, 0, 0.2, 7);
    random_floats(s->threshold, n, 0, 0.3, 8);
    for (int64_t i = 0; s->threshold && i < n; i++) s->threshold[i] = 0.5f * expf(s->threshold[i]);
    for (int64_t i = 0; unit && i < n; i++) sparse_kernels_for(CPU_PORTABLE)->normalize(s->W_dec + i * d_out, d_out);
}

static void to_params(const sae *s, double factor, ref_params *p) {
    const struct {
        const float *from;
        double *to;
        int64_t n;
    } all[] = {{s->W_enc, p->W_enc, s->cfg.d_sae * s->cfg.d_in},
               {s->W_dec, p->W_dec, s->cfg.d_sae * s->cfg.d_out},
               {s->b_enc, p->b_enc, s->cfg.d_sae},
               {s->b_dec, p->b_dec, s->cfg.d_out},
               {s->threshold, p->log_threshold, s->cfg.d_sae},
               {s->b_gate, p->b_gate, s->cfg.d_sae},
               {s->r_mag, p->r_mag, s->cfg.d_sae},
               {s->W_skip, p->W_skip, s->cfg.d_in * s->cfg.d_out}};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        for (int64_t i = 0; all[k].from && i < all[k].n; i++) all[k].to[i] = factor * (double)all[k].from[i];
}

/* The gradient that Adam saw in the first step, from its first moment m = (1 - beta1) g. */
static void first_gradient(const learner *l, ref_params *g) { to_params(l->m, 1 / (1 - l->rules.adam.beta1), g); }

static void assert_close(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.9g by the reference, %.9g by the step", what, want, got);
}

typedef struct small_case {
    float x[ROWS * D], y[ROWS * D], centred[ROWS * D];
    bool is_dead[N];
    uint32_t dead[N_DEAD];
} small_case;

static void fill_case(small_case *c, const sae_training *t) {
    random_floats(c->x, ROWS * D, 0.5, 1, 15);
    random_floats(c->y, ROWS * D, 0.2, 1, 16);
    memcpy(c->centred, c->x, sizeof c->x);
    if (!(t->options & TRAINS_TARGET)) memcpy(c->y, c->x, sizeof c->x);
    for (uint32_t i = 0; i < N_DEAD; i++) c->is_dead[c->dead[i] = 11 * i + 1] = true; /* some of them fire all the same */
}

static void agrees_with_reference(const sae_training *t, bool fvu, double auxk, double bias, cpu_level level) {
    static small_case c;
    learner l;
    step_report report;
    err e = {0};
    step_rules rules = small_rules(t);
    sae_config cfg = small_config(t);
    ctx run = test_ctx(2);
    run.cpu = level;
    rules.fvu = fvu;
    rules.project = rules.renormalize = false;
    rules.auxk = auxk;
    fill_case(&c, t);
    assert_ok(learner_init(&l, &cfg, &rules, &e), &e);
    random_parameters(l.s, bias, false);
    ref_params p = ref_params_of(&l.s->cfg), want = ref_params_of(&l.s->cfg), got = ref_params_of(&l.s->cfg);
    ref_params_from(l.s, &p);
    const ref_case ref = {&rules, &l.s->cfg, c.x, c.y, ROWS, c.is_dead};
    ref_losses losses = ref_loss(&ref, &p, &p, &want);
    assert_ok(
        learner_step(&run, &l, c.centred, t->options & TRAINS_TARGET ? c.y : NULL, ROWS, 1e-3, c.dead, N_DEAD, &report, &e),
        &e);
    assert_close("loss", report.loss, losses.reconstruction, 1e-5 * losses.reconstruction);
    assert_close("auxk", report.auxk, losses.auxk, 1e-5 * losses.auxk);
    assert_close("sparsity", report.sparsity, losses.sparsity, 1e-5 * losses.sparsity);
    assert_close("gates", report.gates, losses.gates, 1e-5 * losses.gates);
    assert_close("l0", report.l0, losses.l0, 1e-9);
    first_gradient(&l, &got);
    double largest = 0;
    for (int64_t i = 0; i < want.n; i++) largest = fmax(largest, fabs(want.all[i]));
    /* float32 sums of a few hundred terms: some 1e-6 of the largest gradient */
    for (int64_t i = 0; i < want.n; i++)
        if (!(fabs(got.all[i] - want.all[i]) <= 1e-5 * largest))
            fail_msg("%s, parameter %lld: %.9g by the reference, %.9g by the step", t->name, (long long)i, want.all[i],
                     got.all[i]);
    ref_params_free(&p), ref_params_free(&want), ref_params_free(&got);
    learner_release(&l);
}

/* With bias 0 latents fire on half of the rows where nothing limits them: matrix products. With -5 on a few. */
static void gradients(void **state) {
    (void)state;
    for (int i = 0; i < n_sae_trainings; i++)
        for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
            for (int fvu = 0; fvu < 2; fvu++) {
                const sae_training *t = sae_trainings[i];
                agrees_with_reference(t, fvu, 0, 0, level);
                agrees_with_reference(t, fvu, 0, -5, level);
                if (!(t->options & TRAINS_AUXK)) continue;
                agrees_with_reference(t, fvu, 1.0 / 32, 0, level);
                agrees_with_reference(t, fvu, 5, 0, level); /* large enough that its errors would stand out */
            }
}

/* The reference's gradient is that of its loss, but for thresholds, where the loss is a step. */
static void reference_agrees_with_differences(void **state) {
    (void)state;
    enum { FEW = 12 };
    for (int k = 0; k < n_sae_trainings; k++) {
        static small_case c;
        const sae_training *t = sae_trainings[k];
        step_rules rules = small_rules(t);
        sae_config cfg = small_config(t);
        sae *s;
        err e = {0};
        rules.auxk = t->options & TRAINS_AUXK ? 5 : 0;
        fill_case(&c, t);
        assert_ok(sae_new(&cfg, &s, &e), &e);
        random_parameters(s, 0, false);
        ref_params p = ref_params_of(&s->cfg), fixed = ref_params_of(&s->cfg), g = ref_params_of(&s->cfg);
        ref_params_from(s, &p);
        ref_params_from(s, &fixed);
        const ref_case ref = {&rules, &s->cfg, c.x, c.y, FEW, c.is_dead};
        ref_loss(&ref, &p, &fixed, &g);
        for (int64_t i = 0; i < p.n; i += 1 + i % 7) {
            double keep = p.all[i], h = 1e-6, up, down;
            if (p.log_threshold && p.all + i >= p.log_threshold && p.all + i < p.log_threshold + N) continue;
            p.all[i] = keep + h;
            up = ref_loss(&ref, &p, &fixed, NULL).total;
            p.all[i] = keep - h;
            down = ref_loss(&ref, &p, &fixed, NULL).total;
            p.all[i] = keep;
            if (fabs(g.all[i] - (up - down) / (2 * h)) > 1e-6 * (1 + fabs(g.all[i])))
                fail_msg("%s, parameter %lld: %.9g by differences, %.9g in closed form", t->name, (long long)i,
                         (up - down) / (2 * h), g.all[i]);
        }
        ref_params_free(&p), ref_params_free(&fixed), ref_params_free(&g);
        sae_free(s);
    }
}

/* ---- vectors of other software ---- */

typedef struct vectors {
    weights *w;
    json_t *about;
    int64_t d, d_out, n, batch, steps;
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
    const tensor_view *b_dec = weights_find(v->w, "init.b_dec");
    assert_non_null(b_dec);
    v->d_out = tensor_count(b_dec);
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

/* The tensors of a set of parameters, under their names in the file. */
typedef struct named {
    const char *name;
    float *values;
    int64_t n, columns; /* columns: of the transposed matrix in the file; 0 when not transposed */
    bool log;           /* the file has the logarithm */
} named;
enum { NAMED = 8 };

static void name_all(const vectors *v, const sae *s, named all[NAMED]) {
    const named list[NAMED] = {{"W_enc", s->W_enc, v->n * v->d, v->n, false},
                               {"W_dec", s->W_dec, v->n * v->d_out, 0, false},
                               {s->b_gate ? "b_mag" : "b_enc", s->b_enc, v->n, 0, false},
                               {"b_dec", s->b_dec, v->d_out, 0, false},
                               {"b_gate", s->b_gate, v->n, 0, false},
                               {"r_mag", s->r_mag, v->n, 0, false},
                               {"log_threshold", s->threshold, v->n, 0, true},
                               {"W_skip", s->W_skip, v->d_out * v->d, 0, false}};
    memcpy(all, list, sizeof list);
    if (!weights_find(v->w, "init.log_threshold")) all[6].values = NULL; /* batchtopk's is no parameter */
}

static void set_parameters(const vectors *v, const sae *s) {
    named all[NAMED];
    name_all(v, s, all);
    for (int p = 0; p < NAMED; p++) {
        char name[64];
        if (!all[p].values) continue;
        snprintf(name, sizeof name, "init.%s", all[p].name);
        double *theirs = tensor(v, name, all[p].n);
        for (int64_t i = 0; i < all[p].n; i++) {
            int64_t at = all[p].columns ? i % all[p].columns * v->d + i / all[p].columns : i;
            all[p].values[at] = (float)(all[p].log ? exp(theirs[i]) : theirs[i]);
        }
        free(theirs);
    }
}

/* factor: ours times this is theirs; raw: moments, of logarithms already */
static void compare(const vectors *v, const char *prefix, const sae *s, bool raw, double factor, double tolerance) {
    named all[NAMED];
    name_all(v, s, all);
    for (int p = 0; p < NAMED; p++) {
        char name[64];
        if (!all[p].values) continue;
        snprintf(name, sizeof name, "%s.%s", prefix, all[p].name);
        double *theirs = tensor(v, name, all[p].n);
        for (int64_t i = 0; i < all[p].n; i++) {
            int64_t at = all[p].columns ? i % all[p].columns * v->d + i / all[p].columns : i;
            double ours = all[p].log && !raw ? log((double)all[p].values[at]) : factor * (double)all[p].values[at];
            if (!(fabs(ours - theirs[i]) <= tolerance))
                fail_msg("%s[%lld]: expected %.9g, got %.9g", name, (long long)i, theirs[i], ours);
        }
        free(theirs);
    }
}

static double number(const json_t *about, const char *key) { return json_number_value(json_object_get(about, key)); }

static step_rules rules_of(const vectors *v, const sae_training *t) {
    const json_t *adam = json_object_get(v->about, "adam"), *prefixes = json_object_get(v->about, "prefixes");
    step_rules r = {
        .training = t,
        .adam = {number(adam, "beta1"), number(adam, "beta2"), number(adam, "eps")},
        .fvu = !strcmp(json_string_value(json_object_get(v->about, "loss")), "fvu"),
        .project = json_is_true(json_object_get(v->about, "project_gradient")),
        .renormalize = json_is_true(json_object_get(v->about, "renormalize")),
        .clip = number(v->about, "clip_norm"),
        .auxk = number(v->about, "aux_coefficient"),
        .k_aux = (int64_t)number(v->about, "k_aux"),
        .own = {.k = (int64_t)number(v->about, "k"),
                .sparsity = number(v->about, "l1") + number(v->about, "l0_coefficient"),
                .bandwidth = number(v->about, "bandwidth"),
                .threshold_keep = number(v->about, "threshold_beta"),
                .n_prefixes = (int)json_array_size(prefixes)},
    };
    for (int i = 0; i < r.own.n_prefixes; i++) r.own.prefixes[i] = json_integer_value(json_array_get(prefixes, (size_t)i));
    assert_true(r.adam.beta1 == t->beta1); /* the table has the paper's */
    assert_int_equal(r.project, t->unit_decoder);
    assert_int_equal(json_is_true(json_object_get(v->about, "subtract_b_dec")), t->subtracts_b_dec);
    return r;
}

static void learner_of(const vectors *v, const step_rules *rules, learner *l) {
    err e = {0};
    sae_config cfg = step_config(rules->training, v->d, v->d_out, v->n, json_integer_value(json_object_get(v->about, "k")));
    assert_ok(learner_init(l, &cfg, rules, &e), &e);
    set_parameters(v, l->s);
}

static int64_t dead_of(const vectors *v, uint32_t *dead) {
    const tensor_view *mask = weights_find(v->w, "dead_mask");
    int64_t n = 0;
    for (int64_t i = 0; mask && i < v->n; i++)
        if (((const uint8_t *)mask->data)[i]) dead[n++] = (uint32_t)i;
    return n;
}

/* Rows of step t, of x or y; false without. */
static bool batch_of(const vectors *v, const char *name, int64_t t, int64_t d, float *x) {
    if (!weights_find(v->w, name)) return false;
    double *all = tensor(v, name, v->steps * v->batch * d);
    for (int64_t i = 0; i < v->batch * d; i++) x[i] = (float)all[t * v->batch * d + i];
    free(all);
    return true;
}

/* Where the file has it. */
static void expect_close(const vectors *v, const char *name, int64_t t, double got, double tolerance) {
    if (!weights_find(v->w, name)) return;
    double *theirs = tensor(v, name, v->steps);
    tolerance = fmax(tolerance, 1e-6 * fabs(theirs[t])); /* a float32 square of a row's residual has 24 bits */
    if (!(fabs(got - theirs[t]) <= tolerance))
        fail_msg("%s of step %lld: expected %.9g, got %.9g", name, (long long)t + 1, theirs[t], got);
    free(theirs);
}

/* A step of the vectors' own batch. */
static step_report vector_step(const vectors *v, const ctx *c, learner *l, int64_t t) {
    step_report report;
    err e = {0};
    float *x = malloc((size_t)(v->batch * v->d) * sizeof *x), *y = malloc((size_t)(v->batch * v->d_out) * sizeof *y);
    uint32_t *dead = malloc((size_t)v->n * sizeof *dead);
    double lr = number(json_object_get(v->about, "adam"), "lr");
    assert_true(batch_of(v, "x", t, v->d, x));
    bool has_y = batch_of(v, "y", t, v->d_out, y);
    int64_t n_dead = dead_of(v, dead);
    assert_ok(learner_step(c, l, x, has_y ? y : NULL, v->batch, lr, dead, n_dead, &report, &e), &e);
    free(dead), free(x), free(y);
    return report;
}

/* Tolerances for float32 as the vectors' README derives them: gradients 5e-6, losses 2e-5, parameters 1e-5. */
static void ten_steps_of(const char *name, const sae_training *training, cpu_level level) {
    vectors v;
    learner l;
    ctx c = test_ctx(2);
    c.cpu = level;
    vectors_open(&v, name);
    step_rules rules = rules_of(&v, training), raw = rules;
    double per_moment = 1 / (1 - rules.adam.beta1);

    raw.project = raw.renormalize = false;
    raw.clip = 0;
    learner_of(&v, &raw, &l);
    vector_step(&v, &c, &l, 0);
    compare(&v, "grad", l.m, true, per_moment, 5e-6);
    learner_release(&l);

    learner_of(&v, &rules, &l);
    for (int64_t t = 0; t < v.steps; t++) {
        step_report report = vector_step(&v, &c, &l, t);
        if (!rules.own.n_prefixes) expect_close(&v, rules.fvu ? "loss.fvu" : "loss.mse", t, report.loss, 2e-5);
        expect_close(&v, "loss.auxk", t, report.auxk, 2e-5);
        expect_close(&v, "loss.l1", t, report.sparsity, 2e-5);
        expect_close(&v, "loss.l0", t, report.sparsity, 2e-5);
        expect_close(&v, "loss.gate_reconstruction", t, report.gates, 2e-5);
        expect_close(&v, "loss.total", t, report.loss + report.auxk + report.sparsity + report.gates, 4e-5);
        expect_close(&v, "l0", t, report.l0, 1e-12);
        if (rules.clip > 0) expect_close(&v, "grad_norm", t, report.grad_norm, 5e-6 * sqrt((double)(2 * v.n * v.d)));
        if (training->after) expect_close(&v, "threshold", t, (double)l.s->threshold[v.n - 1], 1e-5);
        if (t == 0 && weights_find(v.w, "grad_used.b_dec")) compare(&v, "grad_used", l.m, true, per_moment, 5e-6);
        if (t == 0) compare(&v, "step1", l.s, false, 1, 1e-5);
    }
    compare(&v, "step10", l.s, false, 1, 1e-5);
    learner_release(&l);
    vectors_close(&v);
}

static const struct {
    const char *name;
    const sae_training *training;
} vector_sets[] = {
    {"topk_auxk", &sae_training_topk},
    {"topk_auxk_fvu", &sae_training_topk},
    {"batchtopk_auxk", &sae_training_batchtopk},
    {"matryoshka_batchtopk_auxk", &sae_training_matryoshka},
    {"relu_l1", &sae_training_standard},
    {"gated", &sae_training_gated},
    {"jumprelu", &sae_training_jumprelu},
    {"transcoder_topk_auxk", &sae_training_transcoder},
    {"transcoder_topk_skip", &sae_training_skip_transcoder},
};
enum { N_VECTOR_SETS = sizeof vector_sets / sizeof *vector_sets };

static void vectors_of_other_software(void **state) {
    (void)state;
    for (cpu_level level = CPU_PORTABLE; level <= cpu_best(); level++)
        for (int i = 0; i < N_VECTOR_SETS; i++) ten_steps_of(vector_sets[i].name, vector_sets[i].training, level);
    for (int i = 0; i < n_sae_trainings; i++) { /* a new row brings its vectors */
        bool has = false;
        for (int k = 0; k < N_VECTOR_SETS; k++) has |= vector_sets[k].training == sae_trainings[i];
        if (!has) fail_msg("no vectors for %s", sae_trainings[i]->name);
    }
}

/* ---- exactness ---- */

/* A few steps at a shape with tails everywhere, several blocks of rows and latents, some latents dead. */
static err_code odd_steps(const sae_training *t, int threads, learner *l, err *e) {
    enum { d = 37, n = 203, rows = 331 };
    sae_config cfg = step_config(t, d, d, n, 9);
    step_rules rules = small_rules(t);
    static float x[rows * d], y[rows * d];
    uint32_t dead[] = {0, 63, 64, 65, 150, 202};
    step_report report;
    ctx c = test_ctx(threads);
    rules.own.k = 9;
    if (rules.own.n_prefixes) rules.own.prefixes[2] = n;
    err_code rc = learner_init(l, &cfg, &rules, e);
    if (rc) return rc;
    random_parameters(l->s, 0, t->unit_decoder);
    for (uint64_t step = 0; !rc && step < 4; step++) {
        random_floats(x, rows * d, 0.5, 1, 10 + step);
        random_floats(y, rows * d, 0.5, 1, 20 + step);
        rc = learner_step(&c, l, x, t->options & TRAINS_TARGET ? y : NULL, rows, 1e-3, dead, step < 2 ? 6 : 0, &report, e);
    }
    return rc;
}

static void assert_same(const float *a, const float *b, int64_t n) {
    assert_int_equal(!a, !b);
    if (a) assert_memory_equal(a, b, (size_t)n * sizeof *a);
}

static void same_bits_on_any_threads(void **state) {
    (void)state;
    for (int i = 0; i < n_sae_trainings; i++) {
        const sae_training *t = sae_trainings[i];
        learner one, many;
        err e = {0};
        assert_ok(odd_steps(t, 1, &one, &e), &e);
        int64_t n = one.s->cfg.d_sae, d = one.s->cfg.d_in;
        for (int threads = 2; threads <= 4; threads++) {
            assert_ok(odd_steps(t, threads, &many, &e), &e);
            assert_same(one.s->W_enc, many.s->W_enc, n * d);
            assert_same(one.s->W_dec, many.s->W_dec, n * d);
            assert_same(one.v->W_enc, many.v->W_enc, n * d);
            assert_same(one.s->b_enc, many.s->b_enc, n);
            assert_same(one.s->b_dec, many.s->b_dec, d);
            assert_same(one.s->threshold, many.s->threshold, n);
            assert_same(one.s->b_gate, many.s->b_gate, n);
            assert_same(one.s->r_mag, many.s->r_mag, n);
            assert_same(one.s->W_skip, many.s->W_skip, d * d);
            learner_release(&many);
        }
        for (int64_t j = 0; t->unit_decoder && j < n; j++) { /* and decoder rows have length 1 */
            double norm = 0;
            for (int64_t l = 0; l < d; l++) norm += pow((double)one.s->W_dec[j * d + l], 2);
            assert_true(fabs(norm - 1) < 1e-5);
        }
        learner_release(&one);
    }
}

/* Latents in copies that 8 bits cannot tell apart: whole numbers leave too many candidates, the next steps go without them, and
 * weights are those of a run that never had them. */
static void whole_numbers_give_way(void **state) {
    (void)state;
    enum { d = 24, n = 1024, rows = 600, k = 4, steps = 3 };
    static float x[rows * d];
    learner ways[2];
    ctx c = test_ctx(2);
    err e = {0};
    if (cpu_best() < CPU_VNNI) skip(); /* 16 bits can */
    sae_config cfg = step_config(&sae_training_topk, d, d, n, k);
    for (int w = 0; w < 2; w++) {
        learner *l = &ways[w];
        step_rules rules = step_defaults(&sae_training_topk);
        rules.own.preselect = w ? PRESELECT_OFF : PRESELECT_AUTO;
        assert_ok(learner_init(l, &cfg, &rules, &e), &e);
        random_parameters(l->s, 0, true);
        memset(l->s->b_enc, 0, n * sizeof *l->s->b_enc);
        random_floats(l->s->W_enc, n * d, 0, 1e-3, 30);
        random_floats(x, 8 * d, 0, 1, 31);
        for (int i = 0; i < n * d; i++) l->s->W_enc[i] += x[i % (8 * d)];
        for (uint64_t step = 0; step < steps; step++) {
            step_report report;
            random_floats(x, rows * d, 0, 1, 40 + step);
            assert_ok(learner_step(&c, l, x, NULL, rows, 1e-6, NULL, 0, &report, &e), &e);
            assert_true(w || step ? report.top.rescored < rows * 16 : report.top.rescored > rows * 64);
        }
    }
    assert_same(ways[0].s->W_enc, ways[1].s->W_enc, n * d);
    assert_same(ways[0].s->W_dec, ways[1].s->W_dec, n * d);
    learner_release(&ways[0]), learner_release(&ways[1]);
}

static err_code steps_once(void *arg, err *e) {
    learner l;
    err_code rc = odd_steps(arg, 2, &l, e);
    learner_release(&l);
    return rc;
}

static void out_of_memory(void **state) {
    (void)state;
    for (int i = 0; i < n_sae_trainings; i++) oom_sweep(steps_once, (void *)sae_trainings[i], 200);
}

/* Rows without spread, and rows that nothing fires on: no division by zero reaches a parameter. */
static void nothing_to_learn(void **state) {
    (void)state;
    for (int i = 0; i < n_sae_trainings; i++) {
        const sae_training *t = sae_trainings[i];
        learner l;
        step_report report;
        err e = {0};
        ctx c = test_ctx(1);
        const uint32_t dead[] = {2};
        step_rules rules = small_rules(t);
        sae_config cfg = small_config(t);
        assert_ok(learner_init(&l, &cfg, &rules, &e), &e);
        random_parameters(l.s, -100, true);
        for (int step = 0; step < 3; step++) {
            float x[5 * D] = {0}, y[5 * D] = {0};
            assert_ok(learner_step(&c, &l, x, t->options & TRAINS_TARGET ? y : NULL, 5, 1e-3, dead, 1, &report, &e), &e);
        }
        assert_true(report.l0 == 0);
        for (int64_t j = 0; j < N * D; j++) assert_true(isfinite(l.s->W_enc[j]));
        for (int64_t j = 0; j < N * l.s->cfg.d_out; j++) assert_true(isfinite(l.s->W_dec[j]));
        for (int64_t j = 0; j < l.s->cfg.d_out; j++) assert_true(isfinite(l.s->b_dec[j]));
        for (int64_t j = 0; l.s->threshold && j < N; j++) assert_true(isfinite(l.s->threshold[j]));
        learner_release(&l);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),
        cmocka_unit_test(reference_agrees_with_differences),
        cmocka_unit_test(vectors_of_other_software),
        cmocka_unit_test(same_bits_on_any_threads),
        cmocka_unit_test(whole_numbers_give_way),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(nothing_to_learn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
