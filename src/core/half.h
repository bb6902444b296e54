/* half.h — one float16 or bfloat16 value to and from float32, round to nearest even, in portable C.
 * The specification for the array versions in math/dense.h. Overflow gives infinity; NaN stays NaN.
 */
#ifndef CORE_HALF_H
#define CORE_HALF_H

#include <stdint.h>

float half_to_f32(uint16_t h);
uint16_t half_from_f32(float x);

float bf16_to_f32(uint16_t b);
uint16_t bf16_from_f32(float x);

#endif
