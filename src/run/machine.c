/* The machine as the system describes it, and what its user should know. */
#include <stdio.h>
#include <string.h>

#include "base/host.h"
#include "fathom.h"

void fm_machine_facts(struct fm_machine *m)
{
    struct fm_host h;
    fm_host_read(&h, "");
    *m = (struct fm_machine){
        .cores_online = h.cores_online,
        .cores_physical = h.cores_physical,
        .cores_allowed = h.cores_allowed,
        .threads = fm_default_threads(),
        .numa_nodes = h.numa_nodes,
        .turbo = h.turbo,
        .virtual_machine = h.virtual_machine,
        .cpu_quota = h.cpu_quota,
        .load = h.load,
        .l1_bytes = h.l1_bytes,
        .l2_bytes = h.l2_bytes,
        .l3_bytes = h.l3_bytes,
        .memory_total = h.memory_total,
        .memory_available = h.memory_available,
        .memory_limit = h.memory_limit,
        .memory_free = fm_host_memory_free(&h),
        .swap_total = h.swap_total,
        .swap_used = h.swap_used,
    };
    snprintf(m->cpu, sizeof m->cpu, "%s", *h.cpu ? h.cpu : "unknown");
    snprintf(m->tier, sizeof m->tier, "%s", fm_cpu_tier());
    snprintf(m->huge_pages, sizeof m->huge_pages, "%s", h.huge_pages);
    snprintf(m->governor, sizeof m->governor, "%s", h.governor);
}

/* ---- warnings ---- */

static double gb(uint64_t bytes) { return (double)bytes * 1e-9; }

/* Each writes its line when it applies. */
static bool busy(const struct fm_machine *m, char *text, size_t n)
{
    if (m->load < 0.5 * m->cores_allowed && m->noise < 0.25) return false;
    if (m->noise > 0)
        snprintf(text, n,
                 "the machine is busy (load %.1f, figures vary by %.0f %%): they are low, measure again when it rests",
                 m->load, 100 * m->noise);
    else
        snprintf(text, n, "the machine is busy: load %.1f on %d cores", m->load, m->cores_allowed);
    return true;
}

static bool no_vectors(const struct fm_machine *m, char *text, size_t n)
{
    if (strcmp(m->tier, "scalar") != 0) return false;
    snprintf(text, n,
             "no AVX2 with FMA and F16C (or FATHOM_CPU=scalar is set): plain code computes, several times slower");
    return true;
}

static bool memory_limited(const struct fm_machine *m, char *text, size_t n)
{
    if (!m->memory_limit) return false;
    snprintf(text, n, "a control group limits memory to %.1f GB of %.1f GB, %.1f GB are left", gb(m->memory_limit),
             gb(m->memory_total), gb(m->memory_free));
    return true;
}

static bool cpu_limited(const struct fm_machine *m, char *text, size_t n)
{
    if (!(m->cpu_quota > 0) || m->cpu_quota >= m->threads) return false;
    snprintf(text, n, "a control group allows %.1f processors for %d threads: try --threads %d", m->cpu_quota,
             m->threads, m->cpu_quota < 1 ? 1 : (int)m->cpu_quota);
    return true;
}

static bool some_cores(const struct fm_machine *m, char *text, size_t n)
{
    if (!m->cores_online || m->cores_allowed >= m->cores_online) return false;
    snprintf(text, n, "%d of %d cores may be used (affinity)", m->cores_allowed, m->cores_online);
    return true;
}

static bool smt(const struct fm_machine *m, char *text, size_t n)
{
    if (!m->cores_physical || m->threads <= m->cores_physical) return false;
    snprintf(text, n, "%d threads on %d cores: more than one a core seldom helps, try --threads %d", m->threads,
             m->cores_physical, m->cores_physical);
    return true;
}

static bool swapping(const struct fm_machine *m, char *text, size_t n)
{
    if (m->swap_used < (uint64_t)64 << 20) return false;
    snprintf(text, n, "swap is in use (%.1f GB): memory is or was short", gb(m->swap_used));
    return true;
}

static bool no_huge_pages(const struct fm_machine *m, char *text, size_t n)
{
    if (strcmp(m->huge_pages, "never") != 0) return false;
    snprintf(text, n, "huge pages are off: as root, echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
    return true;
}

static bool slow_clock(const struct fm_machine *m, char *text, size_t n)
{
    if (strcmp(m->governor, "powersave") != 0 && m->turbo != 0) return false;
    if (m->turbo == 0)
        snprintf(text, n, "turbo is off: the clock stays at its base");
    else
        snprintf(text, n, "the governor is powersave: the clock may rise slowly or not at all");
    return true;
}

static bool many_nodes(const struct fm_machine *m, char *text, size_t n)
{
    if (m->numa_nodes < 2) return false;
    snprintf(text, n,
             "%d memory nodes: weights that stay mapped lie where they were read first, see numactl --interleave=all",
             m->numa_nodes);
    return true;
}

static bool slow_disk(const struct fm_machine *m, char *text, size_t n)
{
    const double best = m->disk > m->disk_direct ? m->disk : m->disk_direct;
    if (!(best > 0) || best > 3e8) return false;
    snprintf(text, n, "the disk reads %.0f MB/s: a model of 10 GB takes %.0f s to load the first time", best * 1e-6,
             1e10 / best);
    return true;
}

bool fm_machine_warning(const struct fm_machine *m, int i, char *text, size_t n)
{
    static bool (*const all[])(const struct fm_machine *, char *, size_t) = {
        no_vectors,    busy,     memory_limited, cpu_limited, some_cores, smt,
        no_huge_pages, swapping, slow_clock,     many_nodes,  slow_disk,
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        if (all[k](m, text, n) && i-- == 0) return true;
    return false;
}
