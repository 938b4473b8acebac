/* Detection by CPUID and XGETBV.  Source: Intel SDM volume 1, §14.3 (AVX), §14.7.1 (AVX2); volume 2, CPUID.  On aarch64 by
 * what the kernel tells each program: Linux, Documentation/arch/arm64/elf_hwcaps.rst. */
#include "kernel/cpu.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

enum {
    LEAF1_ECX_FMA = 1 << 12,
    LEAF1_ECX_OSXSAVE = 1 << 27,
    LEAF1_ECX_AVX = 1 << 28,
    LEAF1_ECX_F16C = 1 << 29,
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512 = 1 << 16 | 1 << 30, /* F, BW; VL is the sign bit, below */
    LEAF7_ECX_VNNI = 1 << 11,
    XCR0_AVX512 = 0xE0, /* the system saves k0 … k7, zmm0 … zmm15, zmm16 … zmm31 (bits 5, 6, 7) */
    XCR0_SSE_AVX = 6    /* the system saves xmm (bit 1) and the upper halves of ymm (bit 2) */
};

static unsigned xcr0(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

bool fm_cpu_has_avx2(void)
{
    const unsigned need = LEAF1_ECX_FMA | LEAF1_ECX_OSXSAVE | LEAF1_ECX_AVX | LEAF1_ECX_F16C;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & need) != need) return false;
    if ((xcr0() & XCR0_SSE_AVX) != XCR0_SSE_AVX) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & LEAF7_EBX_AVX2);
}

bool fm_cpu_has_avx512_vnni(void)
{
    const unsigned need = LEAF7_EBX_AVX512 | 1u << 31;
    unsigned a, b, c, d;
    return fm_cpu_has_avx2() && (xcr0() & XCR0_AVX512) == XCR0_AVX512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (b & need) == need && (c & LEAF7_ECX_VNNI);
}
#else
bool fm_cpu_has_avx2(void) { return false; }
bool fm_cpu_has_avx512_vnni(void) { return false; }
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

enum { HWCAP_DOT_PRODUCTS = 1 << 20, HWCAP2_INT8_MATRICES = 1 << 13 };

bool fm_cpu_has_dotprod(void) { return getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCTS; }
bool fm_cpu_has_i8mm(void) { return fm_cpu_has_dotprod() && getauxval(AT_HWCAP2) & HWCAP2_INT8_MATRICES; }
#else
bool fm_cpu_has_dotprod(void) { return false; }
bool fm_cpu_has_i8mm(void) { return false; }
#endif
