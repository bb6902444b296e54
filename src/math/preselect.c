#include "math/preselect.h"

extern const preselect_kernels preselect_kernels_portable;
#if defined(__x86_64__)
extern const preselect_kernels preselect_kernels_avx2, preselect_kernels_avx512, preselect_kernels_vnni;
#endif

const preselect_kernels *preselect_kernels_for(cpu_level level) {
#if defined(__x86_64__)
    if (level >= CPU_VNNI) return &preselect_kernels_vnni;
    if (level >= CPU_AVX512) return &preselect_kernels_avx512;
    if (level >= CPU_AVX2) return &preselect_kernels_avx2;
#endif
    (void)level;
    return &preselect_kernels_portable;
}
