#include "sae/train/schedule.h"

#include <math.h>

double schedule_default_lr(int64_t width) { return 2e-3 * sqrt(4608.0 / (double)width); }

int64_t schedule_default_warmup(int64_t steps) { return steps / 10 < 100 ? steps / 10 : 100; }

double schedule_lr(const schedule *s, int64_t t) {
    double up = t < s->warmup ? (double)(t + 1) / (double)s->warmup : 1;
    double down = s->steps - t <= s->decay ? (double)(s->steps - t) / (double)(s->decay + 1) : 1;
    return s->peak * fmin(up, down);
}
