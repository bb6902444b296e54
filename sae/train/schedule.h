/* schedule.h — the learning rate over a run: up from 0 over the warm-up, level, and down to 0 over the end. */
#ifndef SAE_TRAIN_SCHEDULE_H
#define SAE_TRAIN_SCHEDULE_H

#include <stdint.h>

typedef struct schedule {
    double peak;
    int64_t steps, warmup, decay; /* in all, at the beginning, at the end */
} schedule;

/* The rules behind lr 0 and warmup -1; schedule.c says where they come from. */
double schedule_default_lr(int64_t d_in, int64_t width);
int64_t schedule_default_warmup(int64_t steps);

/* Of step t, counted from 0. */
double schedule_lr(const schedule *s, int64_t t);

#endif
