#include "sae/train/adam.h"

#include <math.h>

adam_step adam_step_at(const adam_rules *a, double lr, int64_t t) {
    return (adam_step){.beta1 = (float)a->beta1,
                       .beta2 = (float)a->beta2,
                       .share1 = (float)(1 - a->beta1),
                       .share2 = (float)(1 - a->beta2),
                       .rate = (float)(lr / (1 - pow(a->beta1, (double)t))),
                       .inverse_v = (float)(1 / sqrt(1 - pow(a->beta2, (double)t))),
                       .eps = (float)a->eps};
}
