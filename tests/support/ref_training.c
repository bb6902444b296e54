#include "support/ref_training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- parameters ---- */

static bool has_threshold(const sae_config *cfg) { return cfg->variant->uses_threshold; }

ref_params ref_params_of(const sae_config *cfg) {
    int64_t n = cfg->d_sae, d = cfg->d_in, d_out = cfg->d_out ? cfg->d_out : d;
    ref_params p = {0};
    const struct {
        double **to;
        int64_t size;
    } parts[] = {{&p.W_enc, n * d},
                 {&p.W_dec, n * d_out},
                 {&p.b_enc, n},
                 {&p.b_dec, d_out},
                 {&p.log_threshold, has_threshold(cfg) ? n : 0},
                 {&p.b_gate, cfg->variant->uses_gate ? n : 0},
                 {&p.r_mag, cfg->variant->uses_gate ? n : 0},
                 {&p.W_skip, cfg->skip ? d * d_out : 0}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) p.n += parts[i].size;
    p.all = calloc((size_t)p.n, sizeof *p.all);
    double *at = p.all;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].to = parts[i].size ? at : NULL;
        at += parts[i].size;
    }
    return p;
}

void ref_params_free(ref_params *p) { free(p->all); }

static void copy(const float *from, double *to, int64_t n) {
    for (int64_t i = 0; from && to && i < n; i++) to[i] = (double)from[i];
}

void ref_params_from(const sae *s, ref_params *p) {
    int64_t n = s->cfg.d_sae, d = s->cfg.d_in, d_out = s->cfg.d_out;
    copy(s->W_enc, p->W_enc, n * d);
    copy(s->W_dec, p->W_dec, n * d_out);
    copy(s->b_enc, p->b_enc, n);
    copy(s->b_dec, p->b_dec, d_out);
    copy(s->b_gate, p->b_gate, n);
    copy(s->r_mag, p->r_mag, n);
    copy(s->W_skip, p->W_skip, d * d_out);
    for (int64_t i = 0; p->log_threshold && i < n; i++) p->log_threshold[i] = log((double)s->threshold[i]);
}

/* ---- scores and choices: [rows, n] ---- */

typedef struct sizes {
    int64_t rows, n, d, d_out;
} sizes;

static sizes sizes_of(const ref_case *c) {
    return (sizes){c->rows, c->cfg->d_sae, c->cfg->d_in, c->cfg->d_out ? c->cfg->d_out : c->cfg->d_in};
}

static double *zeros(int64_t n) { return calloc((size_t)n + 1, sizeof(double)); }

/* x or x - b_dec */
static double input(const ref_case *c, const ref_params *p, int64_t r, int64_t j) {
    return (double)c->x[r * c->cfg->d_in + j] - (c->cfg->apply_b_dec_to_input ? p->b_dec[j] : 0);
}

static void products(const ref_case *c, const ref_params *p, double *lin) {
    sizes s = sizes_of(c);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.n; i++)
            for (int64_t j = 0; j < s.d; j++) lin[r * s.n + i] += input(c, p, r, j) * p->W_enc[i * s.d + j];
}

typedef struct ranked {
    double value;
    int64_t at;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return (x->at > y->at) - (x->at < y->at);
}

/* 1 for the k largest of m values among those allowed. */
static void largest(const double *v, int64_t m, int64_t k, const bool *allowed, double *keep) {
    ranked *all = calloc((size_t)m + 1, sizeof *all);
    int64_t n = 0;
    for (int64_t i = 0; i < m; i++) {
        keep[i] = 0;
        if (!allowed || allowed[i]) all[n++] = (ranked){v[i], i};
    }
    qsort(all, (size_t)n, sizeof *all, by_rank);
    for (int64_t i = 0; i < n && i < k; i++) keep[all[i].at] = 1;
    free(all);
}

static bool is(const ref_case *c, const char *name) { return !strcmp(c->rules->training->name, name); }
static bool is_batchtopk(const ref_case *c) { return is(c, "batchtopk") || is(c, "matryoshka"); }

/* 1 where a latent fires, from pre (gated: from the magnitudes and the gates). */
static void fires(const ref_case *c, const ref_params *p, const double *pre, const double *pi, double *keep) {
    sizes s = sizes_of(c);
    for (int64_t r = 0; r < s.rows && c->cfg->variant->uses_k; r++)
        largest(pre + r * s.n, s.n, c->cfg->k, NULL, keep + r * s.n);
    if (is_batchtopk(c)) largest(pre, s.rows * s.n, c->rules->own.k * s.rows, NULL, keep);
    for (int64_t at = 0; at < s.rows * s.n; at++) {
        if (is(c, "standard")) keep[at] = 1;
        if (is(c, "gated")) keep[at] = pi[at] > 0;
        if (is(c, "jumprelu"))
            keep[at] = pre[at] > exp(p->log_threshold[at % s.n]);
        else
            keep[at] *= pre[at] > 0;
    }
}

/* ---- reconstructions ---- */

/* out = f W_dec + b_dec + x W_skip^T - y of the first m latents; b_dec only where wanted */
static void residual(const ref_case *c, const ref_params *p, const double *f, int64_t m, double *out) {
    sizes s = sizes_of(c);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t j = 0; j < s.d_out; j++) {
            double sum = p->b_dec[j] - (double)c->y[r * s.d_out + j];
            for (int64_t i = 0; i < m; i++) sum += f[r * s.n + i] * p->W_dec[i * s.d_out + j];
            for (int64_t l = 0; p->W_skip && l < s.d; l++) sum += (double)c->x[r * s.d + l] * p->W_skip[j * s.d + l];
            out[r * s.d_out + j] = sum;
        }
}

static double squares(const double *v, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += v[i] * v[i];
    return sum;
}

/* sum_r ||v_r - mean v||^2 */
static double spread(const double *v, int64_t rows, int64_t d) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++) {
        double mean = 0;
        for (int64_t r = 0; r < rows; r++) mean += v[r * d + j] / (double)rows;
        for (int64_t r = 0; r < rows; r++) sum += (v[r * d + j] - mean) * (v[r * d + j] - mean);
    }
    return sum;
}

static double unit_of(const ref_case *c) {
    sizes s = sizes_of(c);
    if (!c->rules->fvu) return 1 / (double)s.rows;
    double *y = zeros(s.rows * s.d_out);
    copy(c->y, y, s.rows * s.d_out);
    double unit = 1 / spread(y, s.rows, s.d_out);
    free(y);
    return unit;
}

/* d_f += scale v W_dec^T for the first m latents; with g, its W_dec += scale f^T v. */
static void backward(const ref_case *c, const ref_params *p, double scale, const double *v, const double *f, int64_t m,
                     double *d_f, ref_params *g) {
    sizes s = sizes_of(c);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < s.d_out; j++) {
                d_f[r * s.n + i] += scale * v[r * s.d_out + j] * p->W_dec[i * s.d_out + j];
                if (g) g->W_dec[i * s.d_out + j] += scale * f[r * s.n + i] * v[r * s.d_out + j];
            }
}

/* ---- the whole ---- */

typedef struct work {
    double *lin, *pre, *pi, *keep, *f; /* [rows, n] */
    double *d_f, *d_pre, *d_pi;        /* [rows, n] */
    double *u, *v;                     /* [rows, d_out] */
} work;

static double reconstruction(const ref_case *c, const ref_params *p, double unit, work *w, ref_params *g) {
    sizes s = sizes_of(c);
    const training_rules *own = &c->rules->own;
    double loss = 0;
    for (int k = 0; k < (own->n_prefixes ? own->n_prefixes : 1); k++) {
        int64_t m = own->n_prefixes ? own->prefixes[k] : s.n;
        residual(c, p, w->f, m, w->u);
        loss += unit * squares(w->u, s.rows * s.d_out);
        if (!g) continue;
        backward(c, p, 2 * unit, w->u, w->f, m, w->d_f, g);
        for (int64_t at = 0; at < s.rows * s.d_out; at++) {
            g->b_dec[at % s.d_out] += 2 * unit * w->u[at];
            for (int64_t l = 0; g->W_skip && l < s.d; l++)
                g->W_skip[at % s.d_out * s.d + l] += 2 * unit * w->u[at] * (double)c->x[at / s.d_out * s.d + l];
        }
    }
    return loss;
}

static double auxk(const ref_case *c, const ref_params *p, const double *e, work *w, ref_params *g) {
    sizes s = sizes_of(c);
    double *keep = zeros(s.rows * s.n), *z = zeros(s.rows * s.n), *d_z = zeros(s.rows * s.n), *r = zeros(s.rows * s.d_out);
    double per = c->rules->auxk / spread(e, s.rows, s.d_out);
    for (int64_t i = 0; i < s.rows; i++) largest(w->pre + i * s.n, s.n, c->rules->k_aux, c->dead, keep + i * s.n);
    for (int64_t at = 0; at < s.rows * s.n; at++) z[at] = keep[at] > 0 && w->pre[at] > 0 ? w->pre[at] : 0;
    for (int64_t at = 0; at < s.rows * s.d_out; at++) {
        r[at] = e[at]; /* x_hat - y */
        for (int64_t i = 0; i < s.n; i++) r[at] += z[at / s.d_out * s.n + i] * p->W_dec[i * s.d_out + at % s.d_out];
    }
    double loss = per * squares(r, s.rows * s.d_out);
    if (g) {
        backward(c, p, 2 * per, r, z, s.n, d_z, g);
        for (int64_t at = 0; at < s.rows * s.n; at++) w->d_pre[at] += z[at] > 0 ? d_z[at] : 0;
    }
    free(keep), free(z), free(d_z), free(r);
    return loss;
}

static double l1(const ref_case *c, const ref_params *p, double each, work *w, ref_params *g) {
    sizes s = sizes_of(c);
    double loss = 0;
    for (int64_t i = 0; i < s.n; i++) {
        double norm = sqrt(squares(p->W_dec + i * s.d_out, s.d_out)), sum = 0;
        for (int64_t r = 0; r < s.rows; r++) {
            sum += w->f[r * s.n + i];
            w->d_f[r * s.n + i] += each * norm;
        }
        loss += each * norm * sum;
        for (int64_t j = 0; g && j < s.d_out; j++) g->W_dec[i * s.d_out + j] += each * sum * p->W_dec[i * s.d_out + j] / norm;
    }
    (void)c;
    return loss;
}

static double gates(const ref_case *c, const ref_params *p, const ref_params *fixed, double unit, work *w, double *penalty,
                    ref_params *g) {
    sizes s = sizes_of(c);
    double *a = zeros(s.rows * s.n), *d_a = zeros(s.rows * s.n);
    ref_params frozen = *p;
    frozen.W_dec = fixed->W_dec;
    frozen.b_dec = fixed->b_dec;
    *penalty = 0;
    for (int64_t at = 0; at < s.rows * s.n; at++) {
        a[at] = w->pi[at] > 0 ? w->pi[at] : 0;
        d_a[at] = c->rules->own.sparsity * unit;
        *penalty += d_a[at] * a[at];
    }
    residual(c, &frozen, a, s.n, w->v);
    if (g) backward(c, &frozen, 2 * unit, w->v, NULL, s.n, d_a, NULL);
    for (int64_t at = 0; at < s.rows * s.n; at++) w->d_pi[at] = w->pi[at] > 0 ? d_a[at] : 0;
    free(a), free(d_a);
    return unit * squares(w->v, s.rows * s.d_out);
}

/* Rajamanoharan et al. 2024b, section 3 */
static double l0(const ref_case *c, const ref_params *p, double each, const work *w, ref_params *g) {
    sizes s = sizes_of(c);
    double loss = 0, width = c->rules->own.bandwidth;
    for (int64_t at = 0; at < s.rows * s.n; at++) {
        double theta = exp(p->log_threshold[at % s.n]), near = fabs((w->pre[at] - theta) / width) < 0.5;
        loss += each * w->keep[at];
        if (g) g->log_threshold[at % s.n] -= theta * (each / width * near + theta / width * near * w->d_f[at]);
    }
    return loss;
}

/* From gradients at x . W_enc_i to those of the encoder, and of b_dec through x - b_dec. */
static void encoder(const ref_case *c, const ref_params *p, const double *d_lin, ref_params *g) {
    sizes s = sizes_of(c);
    for (int64_t at = 0; at < s.rows * s.n; at++)
        for (int64_t j = 0; j < s.d; j++) {
            int64_t i = at % s.n, r = at / s.n;
            g->W_enc[i * s.d + j] += d_lin[at] * input(c, p, r, j);
            if (c->cfg->apply_b_dec_to_input) g->b_dec[j] -= d_lin[at] * p->W_enc[i * s.d + j];
        }
}

static work work_of(sizes s) {
    int64_t n = s.rows * s.n, d = s.rows * s.d_out;
    return (work){zeros(n), zeros(n), zeros(n), zeros(n), zeros(n), zeros(n), zeros(n), zeros(n), zeros(d), zeros(d)};
}

static void work_free(work *w) {
    free(w->lin), free(w->pre), free(w->pi), free(w->keep), free(w->f);
    free(w->d_f), free(w->d_pre), free(w->d_pi), free(w->u), free(w->v);
}

static void forward(const ref_case *c, const ref_params *p, work *w) {
    sizes s = sizes_of(c);
    products(c, p, w->lin);
    for (int64_t at = 0; at < s.rows * s.n; at++) {
        int64_t i = at % s.n;
        w->pre[at] = w->lin[at] * (p->r_mag ? exp(p->r_mag[i]) : 1) + p->b_enc[i];
        w->pi[at] = w->lin[at] + (p->b_gate ? p->b_gate[i] : 0);
    }
    fires(c, p, w->pre, w->pi, w->keep);
    for (int64_t at = 0; at < s.rows * s.n; at++) w->f[at] = w->keep[at] > 0 ? w->pre[at] : 0;
}

static double *fixed_residual(const ref_case *c, const ref_params *fixed) {
    sizes s = sizes_of(c);
    work w = work_of(s);
    double *e = zeros(s.rows * s.d_out);
    forward(c, fixed, &w);
    residual(c, fixed, w.f, s.n, e);
    work_free(&w);
    return e;
}

ref_losses ref_loss(const ref_case *c, const ref_params *p, const ref_params *fixed, ref_params *g) {
    sizes s = sizes_of(c);
    work w = work_of(s);
    ref_losses out = {0};
    double unit = unit_of(c), each = c->rules->own.sparsity * unit;
    if (g) memset(g->all, 0, (size_t)g->n * sizeof *g->all);
    forward(c, p, &w);
    for (int64_t at = 0; at < s.rows * s.n; at++) out.l0 += w.keep[at] / (double)s.rows;
    out.reconstruction = reconstruction(c, p, unit, &w, g);
    if (is(c, "standard")) out.sparsity = l1(c, p, each, &w, g);
    if (is(c, "gated")) out.gates = gates(c, p, fixed, unit, &w, &out.sparsity, g);
    if (is(c, "jumprelu")) out.sparsity = l0(c, p, each, &w, g);
    if (c->dead && c->rules->auxk > 0) {
        double *e = fixed_residual(c, fixed);
        out.auxk = auxk(c, p, e, &w, g);
        free(e);
    }
    out.total = out.reconstruction + out.sparsity + out.gates + out.auxk;
    for (int64_t at = 0; g && at < s.rows * s.n; at++) {
        int64_t i = at % s.n;
        double d_mag = w.keep[at] * w.d_f[at] + w.d_pre[at], gain = p->r_mag ? exp(p->r_mag[i]) : 1;
        g->b_enc[i] += d_mag;
        if (g->r_mag) g->r_mag[i] += d_mag * w.lin[at] * gain;
        if (g->b_gate) g->b_gate[i] += w.d_pi[at];
        w.d_pre[at] = d_mag * gain + (g->b_gate ? w.d_pi[at] : 0);
    }
    if (g) encoder(c, p, w.d_pre, g);
    work_free(&w);
    return out;
}
