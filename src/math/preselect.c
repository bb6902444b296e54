#include "math/preselect.h"

extern const preselect_kernels preselect_kernels_portable;
#if defined(__x86_64__)
extern const preselect_kernels preselect_kernels_avx2, preselect_kernels_avx512, preselect_kernels_vnni,
    preselect_kernels_vnni16;
#endif

/* With more channels, bounds in 8 bits are too wide for the scores' spread. */
enum { BYTES_MAX_D = 1024 };

const preselect_kernels *preselect_kernels_for(cpu_level level, int64_t d) {
#if defined(__x86_64__)
    if (level >= CPU_VNNI) return d <= BYTES_MAX_D ? &preselect_kernels_vnni : &preselect_kernels_vnni16;
    if (level >= CPU_AVX512) return &preselect_kernels_avx512;
    if (level >= CPU_AVX2) return &preselect_kernels_avx2;
#endif
    (void)level, (void)d;
    return &preselect_kernels_portable;
}
