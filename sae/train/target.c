#include "sae/train/target.h"

#include <math.h>

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
