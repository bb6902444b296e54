#include "math/dense.h"

extern const dense_kernels dense_kernels_portable;
#if defined(__x86_64__)
extern const dense_kernels dense_kernels_avx2, dense_kernels_avx512;
#endif

const dense_kernels *dense_kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_AVX512) return &dense_kernels_avx512;
    if (level >= CPU_AVX2) return &dense_kernels_avx2;
#endif
    (void)level;
    return &dense_kernels_portable;
}
