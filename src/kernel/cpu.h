/* What this processor can run, as far as the kernel tiers ask. */
#ifndef FM_KERNEL_CPU_H
#define FM_KERNEL_CPU_H

#include <stdbool.h>

/* AVX2, FMA and F16C, and an operating system that saves the 256-bit registers.  false on other architectures. */
bool fm_cpu_has_avx2(void);
/* Besides, AVX-512 F, BW, VL and VNNI, and a system that saves the 512-bit registers. */
bool fm_cpu_has_avx512_vnni(void);

/* The dot products of int8 of ARMv8.2 (sdot).  false on other architectures. */
bool fm_cpu_has_dotprod(void);
/* Besides, the products of matrices of int8 of ARMv8.6 (smmla). */
bool fm_cpu_has_i8mm(void);

#endif
