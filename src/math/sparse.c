#include "math/sparse.h"

extern const sparse_kernels sparse_kernels_portable;
#if defined(__x86_64__)
extern const sparse_kernels sparse_kernels_avx2, sparse_kernels_avx512;
#endif

const sparse_kernels *sparse_kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_AVX512) return &sparse_kernels_avx512;
    if (level >= CPU_AVX2) return &sparse_kernels_avx2;
#endif
    (void)level;
    return &sparse_kernels_portable;
}
