/* One table per tier, filled on first use and never written again. */
#include "kernel/kernel.h"

#include <pthread.h>
#include <string.h>

#include "base/env.h"
#include "kernel/cpu.h"

static bool always(void) { return true; }

/* A row per tier, best last.  fill overwrites slots of a table that the scalar tier has filled already. */
static struct tier {
    const char *name;
    bool (*runs_here)(void);
    void (*fill)(struct fm_kernels *k, const char *tier);
    struct fm_kernels table;
    bool runs; /* asked once: under a hypervisor each CPUID costs tens of microseconds */
} tiers[] = {
    {.name = "scalar", .runs_here = always},
#if defined(__x86_64__) || defined(__i386__)
    {.name = "avx2", .runs_here = fm_cpu_has_avx2, .fill = fm_kernels_init_x86},
    {.name = "avx512", .runs_here = fm_cpu_has_avx512_vnni, .fill = fm_kernels_init_x86},
#elif defined(__aarch64__)
    {.name = "neon", .runs_here = always, .fill = fm_kernels_init_arm},
    {.name = "dotprod", .runs_here = fm_cpu_has_dotprod, .fill = fm_kernels_init_arm},
    {.name = "i8mm", .runs_here = fm_cpu_has_i8mm, .fill = fm_kernels_init_arm},
#endif
};

enum { N_TIERS = sizeof tiers / sizeof *tiers };

const char *const fm_kernel_tiers[] = {
    "scalar",
#if defined(__x86_64__) || defined(__i386__)
    "avx2",
    "avx512",
#elif defined(__aarch64__)
    "neon",
    "dotprod",
    "i8mm",
#endif
};
const int fm_n_kernel_tiers = N_TIERS;
_Static_assert(sizeof fm_kernel_tiers / sizeof *fm_kernel_tiers == N_TIERS, "one name per tier");

static void fill_all(void)
{
    for (int i = 0; i < N_TIERS; i++) {
        struct tier *t = &tiers[i];
        fm_kernels_init_scalar(&t->table);
        if (t->fill) t->fill(&t->table, t->name);
        t->table.tier = t->name;
        t->runs = t->runs_here();
    }
}

const struct fm_kernels *fm_kernels_tier(const char *name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_all);
    for (int i = 0; i < N_TIERS; i++)
        if (!strcmp(tiers[i].name, name)) return tiers[i].runs ? &tiers[i].table : NULL;
    return NULL;
}

const struct fm_kernels *fm_kernels_get(const char **warning)
{
    const char *want = fm_env("FATHOM_CPU"), *why = NULL;
    const struct fm_kernels *k = want ? fm_kernels_tier(want) : NULL;
    if (want && !k) why = "FATHOM_CPU names a tier that is unknown or that this CPU cannot run: using the best one";
    for (int i = N_TIERS; !k;) k = fm_kernels_tier(tiers[--i].name); /* ends: scalar always runs */
    if (warning) *warning = why;
    return k;
}
