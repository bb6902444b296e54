#include "sae/train/target.h"

#include "core/mem.h"
#include "math/sparse.h"

#include <math.h>
#include <stdlib.h>

static const double ERROR_MAX = 0.3, RAMP = 0.4, GUESS = 0.01, PULL = 10;
static const double GAIN_STEPS = 100, GAIN_MAX = 0.3, GAIN_MIN = 0.01; /* gain: a hundredth of the run follows an error */

static double within(double x, double low, double high) { return fmin(fmax(x, low), high); }

target_state target_start(const l0_target *t, int64_t d) {
    return (target_state){.log_weight = log(GUESS * (double)d / t->wanted)};
}

double target_weight(const l0_target *t, const target_state *s) {
    return exp(s->log_weight) * (t->counts ? 1 + PULL * s->error : exp(s->error));
}

void target_update(const l0_target *t, target_state *s, int64_t step, double l0, double lr_share) {
    double ramp = RAMP * (double)t->steps, left = fmax(0, 1 - (double)(step + 1) / ramp);
    double gain = within(GAIN_STEPS / (double)t->steps, GAIN_MIN, GAIN_MAX);
    if (t->counts) gain /= 3; /* the pull does most of the work */
    if (s->first == 0) s->first = fmax(l0, t->wanted);
    double goal = t->wanted * pow(s->first / t->wanted, left);
    s->error = l0 > 0 ? within(log(l0 / goal), -ERROR_MAX, ERROR_MAX) : -ERROR_MAX;
    s->log_weight += gain * lr_share * s->error;
}

/* ---- thresholds ---- */

static void scale_thresholds(sae *s, float factor) {
    for (int64_t i = 0; i < s->cfg.d_sae; i++) s->threshold[i] *= factor;
}

/* Of the scores above their thresholds, in multiples of these: halfway between the m-th largest and the next, where no rounding
 * changes which are larger. 1 when there are no more than m. */
static err_code multiple_of(const ctx *c, const sae *s, const sparse_acts *f, int64_t m, float *out, err *e) {
    const sparse_kernels *k = sparse_kernels_for(c->cpu);
    int64_t n = f->indptr[f->n_rows];
    float *multiples = NULL, next = INFINITY;
    uint32_t *places = NULL;
    err_code rc;
    TRY(mem_new(&multiples, (size_t)n, sizeof *multiples, "scores of a batch", e));
    TRY(mem_new(&places, (size_t)n, sizeof *places, "scores of a batch", e));
    for (int64_t i = 0; i < n; i++) {
        multiples[i] = f->values[i] / s->threshold[f->indices[i]];
        places[i] = (uint32_t)i;
    }
    *out = 1;
    if (n <= m) goto done;
    if (n > m + 1) k->keep_largest(multiples, places, n, m + 1);
    for (int64_t i = 0; i <= m; i++) next = fminf(next, multiples[i]);
    *out = (k->keep_largest(multiples, places, m + 1, m) + next) / 2;
done:
    free(multiples);
    free(places);
    return rc;
}

err_code target_settle(const ctx *c, sae *s, const float *x, int64_t n, double wanted, err *e) {
    const float lowest = 0x1p-10f;
    int64_t m = llround(wanted * (double)n);
    sparse_acts f = {0};
    float multiple, factor = 1;
    err_code rc;
    TRY(sae_encode(c, s, x, n, &f, e));
    for (; f.indptr[n] < m && factor > lowest; factor /= 2) {
        scale_thresholds(s, 0.5f);
        TRY(sae_encode(c, s, x, n, &f, e));
    }
    TRY(multiple_of(c, s, &f, m, &multiple, e));
    scale_thresholds(s, multiple);
done:
    sparse_release(&f);
    return rc;
}
