/* level.h — how one kernel source becomes a version per machine level.
 *
 * Every .c file in this folder is compiled once per cpu_level, with that level's instruction set and KERNEL_LEVEL set to
 * portable, avx2 or avx512 (kernels.cmake). Its functions are named through KERNEL(name), and it defines one constant struct
 * of function pointers, KERNEL(family), which the public header hands out by level:
 *
 *   const dense_kernels *k = dense_kernels_for(c->cpu);
 *
 * Intrinsics stand under #if defined(__AVX512F__) / defined(__AVX2__) inside the same function where plain loops are not
 * enough. All levels are tested on the same cases against math/ref.h.
 */
#ifndef MATH_KERNELS_LEVEL_H
#define MATH_KERNELS_LEVEL_H

#define KERNEL_PASTE_(name, level) name##_##level
#define KERNEL_PASTE(name, level)  KERNEL_PASTE_(name, level)
#define KERNEL(name)               KERNEL_PASTE(name, KERNEL_LEVEL)

#endif
