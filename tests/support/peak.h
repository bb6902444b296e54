/* peak.h — what this machine can do at most, measured: the denominator of every ratio a benchmark prints. */
#ifndef TESTS_SUPPORT_PEAK_H
#define TESTS_SUPPORT_PEAK_H

#include "core/ctx.h"

/* Float32 operations per second (a multiply-add is two) of c->threads threads that do nothing but multiply-adds in registers
 * at c->cpu's vector width. Takes a few hundredths of a second. */
double peak_f32(const ctx *c);

/* The same of whole numbers that are multiplied and summed in 32 bits: of 8 bits at CPU_VNNI, of 16 below. */
double peak_whole(const ctx *c);

/* Bytes per second that c->threads threads read together from memory far larger than the caches; 0 when out of memory. */
double peak_read(const ctx *c);

double seconds_now(void);

#endif
