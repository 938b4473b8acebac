/* Chains of multiply-adds in each width and kind that x86 has.  Twelve independent chains, or eight of three instructions:
 * more than latency times units (4 to 5 cycles, 2 units).  The instructions are spelled out, so that no compiler moves
 * them out of the loop, and each function asks for its instruction set alone. */
#include "kernel/probe.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include "kernel/cpu.h"

typedef float f8 __attribute__((vector_size(32)));
typedef float f16 __attribute__((vector_size(64)));
typedef signed char b32 __attribute__((vector_size(32)));
typedef signed char b64 __attribute__((vector_size(64)));
typedef short s16 __attribute__((vector_size(32)));
typedef int i8 __attribute__((vector_size(32)));
typedef int i16 __attribute__((vector_size(64)));

#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define EIGHT(X)  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

/* a = a·x + y stays near y/(1−x) = 1. */
__attribute__((target("avx2,fma"))) static void fma_256(long rounds)
{
    f8 x = (f8){0} + 0.999f, y = (f8){0} + 1e-3f;
#define SET(i)  f8 a##i = y * (float)(i + 1);
#define STEP(i) __asm__ volatile("vfmadd213ps %2, %1, %0" : "+x"(a##i) : "x"(x), "x"(y));
    TWELVE(SET)
    for (long r = 0; r < rounds; r++) {
        TWELVE(STEP)
    }
#undef SET
#undef STEP
}

__attribute__((target("avx512f"))) static void fma_512(long rounds)
{
    f16 x = (f16){0} + 0.999f, y = (f16){0} + 1e-3f;
#define SET(i)  f16 a##i = y * (float)(i + 1);
#define STEP(i) __asm__ volatile("vfmadd213ps %2, %1, %0" : "+v"(a##i) : "v"(x), "v"(y));
    TWELVE(SET)
    for (long r = 0; r < rounds; r++) {
        TWELVE(STEP)
    }
#undef SET
#undef STEP
}

/* The exact product of unsigned and signed bytes without VNNI: pairs to 16 bits, pairs to 32 bits, add. */
__attribute__((target("avx2"))) static void maddubs_256(long rounds)
{
    b32 x = (b32){0} + (signed char)3, y = (b32){0} - (signed char)2;
    s16 ones = (s16){0} + (short)1;
    i8 t;
#define SET(i) i8 a##i = (i8){0} + i;
#define STEP(i)                                                                        \
    __asm__ volatile("vpmaddubsw %3, %2, %1\n vpmaddwd %4, %1, %1\n vpaddd %1, %0, %0" \
                     : "+x"(a##i), "=&x"(t)                                            \
                     : "x"(x), "x"(y), "x"(ones));
    EIGHT(SET)
    for (long r = 0; r < rounds; r++) {
        EIGHT(STEP)
    }
#undef SET
#undef STEP
}

__attribute__((target("avx2"))) static void dpbusd_256(long rounds)
{
    b32 x = (b32){0} + (signed char)3, y = (b32){0} - (signed char)2;
#define SET(i)  i8 a##i = (i8){0} + i;
#define STEP(i) __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(a##i) : "x"(x), "x"(y));
    TWELVE(SET)
    for (long r = 0; r < rounds; r++) {
        TWELVE(STEP)
    }
#undef SET
#undef STEP
}

__attribute__((target("avx512f,avx512bw"))) static void dpbusd_512(long rounds)
{
    b64 x = (b64){0} + (signed char)3, y = (b64){0} - (signed char)2;
#define SET(i)  i16 a##i = (i16){0} + i;
#define STEP(i) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(a##i) : "v"(x), "v"(y));
    TWELVE(SET)
    for (long r = 0; r < rounds; r++) {
        TWELVE(STEP)
    }
#undef SET
#undef STEP
}

static bool has_avx512f(void) { return __builtin_cpu_supports("avx512f"); }
static bool has_avx512_vnni(void) { return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"); }

/* Intel SDM volume 2, CPUID, leaf 7, subleaf 1, EAX bit 4; builtins of older compilers do not know it. */
static bool has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return fm_cpu_has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 4);
}

const struct fm_probe fm_x86_probes[] = {
    {"fma ymm", FM_PROBE_F32, fm_cpu_has_avx2, fma_256, 12 * 8},
    {"fma zmm", FM_PROBE_F32, has_avx512f, fma_512, 12 * 16},
    {"maddubs ymm", FM_PROBE_INT8, fm_cpu_has_avx2, maddubs_256, 8 * 32},
    {"dpbusd ymm", FM_PROBE_INT8, has_avx_vnni, dpbusd_256, 12 * 32},
    {"dpbusd zmm", FM_PROBE_INT8, has_avx512_vnni, dpbusd_512, 12 * 64},
};
const int fm_n_x86_probes = sizeof fm_x86_probes / sizeof *fm_x86_probes;
#else
typedef int fm_no_probes_here; /* a file is never empty */
#endif
