/* See host.h.  Sources: proc(5), Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst, sysfs-devices-system-cpu. */
#include "base/host.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"

enum { TEXT = 1 << 13 };

const char *fm_host_text(char *text, size_t room, const char *root, const char *path)
{
    char full[PATH_MAX];
    text[0] = 0;
    const int n = snprintf(full, sizeof full, "%s%s", root, path);
    FILE *f = n > 0 && (size_t)n < sizeof full ? fopen(full, "re") : NULL;
    if (!f) return text;
    text[fread(text, 1, room - 1, f)] = 0;
    (void)fclose(f);
    return text;
}

static const char *slurp(char text[TEXT], const char *root, const char *path)
{
    return fm_host_text(text, TEXT, root, path);
}

static bool number_in(const char *root, const char *path, uint64_t *out)
{
    char text[TEXT], *end;
    slurp(text, root, path);
    const unsigned long long v = strtoull(text, &end, 10);
    if (end == text) return false; /* "max" too */
    *out = v;
    return true;
}

/* The number behind key, and perhaps a colon, at a line's start. */
static bool line_number(const char *text, const char *key, uint64_t *out)
{
    const size_t n = strlen(key);
    for (const char *p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        if (strncmp(p, key, n) || !strchr(": \t", p[n])) continue;
        *out = strtoull(p + n + strspn(p + n, ": \t"), NULL, 10);
        return true;
    }
    return false;
}

/* The first word of text, cut to n − 1 bytes. */
static void first_word(char *dst, size_t n, const char *text)
{
    const size_t len = strcspn(text, " \n");
    snprintf(dst, n, "%.*s", (int)(len < n ? len : n - 1), text);
}

/* ---- processor ---- */

static void read_cpu(struct fm_host *h, const char *root)
{
    char text[TEXT];
    slurp(text, root, "/proc/cpuinfo");
    const char *p = strstr(text, "model name"), *colon = p ? strchr(p, ':') : NULL;
    if (colon) {
        colon += 1 + strspn(colon + 1, " ");
        snprintf(h->cpu, sizeof h->cpu, "%.*s", (int)strcspn(colon, "\n"), colon);
    }
    p = strstr(text, "\nflags");
    h->virtual_machine = p && strstr(p, " hypervisor");
}

/* Entries of a list such as "0-3,8,10-11"; *first: the first one. */
static int list_length(const char *text, int *first)
{
    int n = 0, a, b, used;
    while (sscanf(text, "%d%n", &a, &used) == 1) {
        text += used;
        b = a;
        if (*text == '-' && sscanf(text, "-%d%n", &b, &used) == 1) text += used;
        if (!n && first) *first = a;
        n += b >= a && b - a < 1 << 20 ? b - a + 1 : 1;
        if (*text++ != ',') break;
    }
    return n;
}

/* A core is counted at the first of its threads. */
static void count_cores(struct fm_host *h, const char *root)
{
    char path[96], text[TEXT];
    slurp(text, root, "/sys/devices/system/cpu/online");
    h->cores_online = list_length(text, NULL);
    for (int i = 0, seen = 0; i < 4096 && seen < h->cores_online; i++) {
        int first = i;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", i);
        if (!list_length(slurp(text, root, path), &first)) continue;
        seen++;
        h->cores_physical += first == i;
    }
    slurp(text, root, "/sys/devices/system/node/online");
    h->numa_nodes = list_length(text, NULL);
}

static void read_caches(struct fm_host *h, const char *root)
{
    char path[96], text[TEXT];
    for (int i = 0; i < 8; i++) {
        uint64_t level = 0, size = 0;
        char unit = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        if (*slurp(text, root, path) == 'I') continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!number_in(root, path, &level)) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (sscanf(slurp(text, root, path), "%" SCNu64 "%c", &size, &unit) < 1) continue;
        size <<= unit == 'K' ? 10 : unit == 'M' ? 20 : 0;
        if (level == 1) h->l1_bytes = size;
        if (level == 2) h->l2_bytes = size;
        if (level == 3) h->l3_bytes = size;
    }
}

static void read_clock(struct fm_host *h, const char *root)
{
    char text[TEXT];
    uint64_t v;
    first_word(h->governor, sizeof h->governor,
               slurp(text, root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    h->turbo = -1;
    if (number_in(root, "/sys/devices/system/cpu/intel_pstate/no_turbo", &v)) h->turbo = !v;
    if (number_in(root, "/sys/devices/system/cpu/cpufreq/boost", &v)) h->turbo = v != 0;
    h->load = fm_host_load(root);
}

/* ---- memory ---- */

static void read_memory(struct fm_host *h, const char *root)
{
    char text[TEXT];
    const struct {
        const char *key;
        uint64_t *to;
    } rows[] = {{"MemTotal", &h->memory_total}, {"MemAvailable", &h->memory_available}, {"SwapTotal", &h->swap_total}};
    uint64_t v;
    slurp(text, root, "/proc/meminfo");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (line_number(text, rows[i].key, &v)) *rows[i].to = v << 10;
    if (line_number(text, "SwapFree", &v)) h->swap_used = h->swap_total - (v << 10);
    slurp(text, root, "/sys/kernel/mm/transparent_hugepage/enabled");
    const char *mode = strchr(text, '[');
    if (mode) snprintf(h->huge_pages, sizeof h->huge_pages, "%.*s", (int)strcspn(mode + 1, "]"), mode + 1);
}

/* ---- control groups ---- */

/* One generation's files: where groups lie, and how the numbers are called. */
struct groups {
    const char *controller; /* field 2 of /proc/self/cgroup; "" is the second generation */
    const char *mount, *limit, *usage;
};
static const struct groups memory_groups[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current"},
    {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"},
};
static const struct groups cpu_groups[] = {
    {"", "/sys/fs/cgroup", "cpu.max", NULL},
    {"cpu", "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"},
};

static bool has_controller(const char *list, size_t n, const char *name)
{
    const size_t len = strlen(name);
    if (!len) return n == 0;
    for (const char *p = list, *end = list + n; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;
        if ((size_t)(stop - p) == len && !memcmp(p, name, len)) return true;
        p = stop + 1;
    }
    return false;
}

/* This process's group of a controller; false: none. */
static bool own_group(const char *root, const char *controller, char path[PATH_MAX])
{
    char text[TEXT];
    slurp(text, root, "/proc/self/cgroup");
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *list = strchr(line, ':'), *end = list ? strchr(list + 1, ':') : NULL;
        if (!end || !has_controller(list + 1, (size_t)(end - list - 1), controller)) continue;
        snprintf(path, PATH_MAX, "%s", end + 1);
        return true;
    }
    return false;
}

typedef void (*group_fn)(struct fm_host *h, const char *root, const struct groups *g, const char *folder);

/* fn for the group and all groups above it.  In a container the path may not exist: then only the mount's root answers. */
static void climb(struct fm_host *h, const char *root, const struct groups *g, group_fn fn)
{
    char path[PATH_MAX], folder[2 * PATH_MAX];
    if (!own_group(root, g->controller, path)) return;
    for (char *slash = path + strlen(path); slash; slash = strrchr(path, '/')) {
        *slash = 0;
        snprintf(folder, sizeof folder, "%s%s", g->mount, path);
        fn(h, root, g, folder);
    }
}

static bool group_number(const char *root, const char *folder, const char *file, uint64_t *out)
{
    char path[3 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return number_in(root, path, out);
}

static uint64_t reclaimable(const char *root, const char *folder)
{
    char path[3 * PATH_MAX], text[TEXT];
    uint64_t active = 0, inactive = 0;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    slurp(text, root, path);
    if (!line_number(text, "total_inactive_file", &inactive)) (void)line_number(text, "inactive_file", &inactive);
    if (!line_number(text, "total_active_file", &active)) (void)line_number(text, "active_file", &active);
    return active + inactive;
}

/* The group that leaves least counts.  Pages of files are given back when memory is short, so they are free. */
static void memory_group(struct fm_host *h, const char *root, const struct groups *g, const char *folder)
{
    uint64_t limit, used = 0;
    if (!group_number(root, folder, g->limit, &limit)) return;
    if (h->memory_total && limit >= h->memory_total) return; /* no limit at all, in the first generation's spelling */
    (void)group_number(root, folder, g->usage, &used);
    const uint64_t files = reclaimable(root, folder), held = used > files ? used - files : 0;
    const uint64_t left = limit > held ? limit - held : 0;
    if (h->memory_limit && left >= h->memory_limit_free) return;
    h->memory_limit = limit;
    h->memory_limit_free = left;
}

static void cpu_group(struct fm_host *h, const char *root, const struct groups *g, const char *folder)
{
    char path[3 * PATH_MAX], text[TEXT];
    double quota = 0, period = 0;
    uint64_t p;
    snprintf(path, sizeof path, "%s/%s", folder, g->limit);
    const int n = sscanf(slurp(text, root, path), "%lf %lf", &quota, &period); /* "max 100000" gives none */
    if (g->usage && n == 1 && group_number(root, folder, g->usage, &p)) period = (double)p;
    if (!(quota > 0 && period > 0)) return;
    if (!(h->cpu_quota > 0) || quota / period < h->cpu_quota) h->cpu_quota = quota / period;
}

void fm_host_read(struct fm_host *h, const char *root)
{
    *h = (struct fm_host){.cores_allowed = fm_cpu_allowed()};
    read_cpu(h, root);
    count_cores(h, root);
    read_caches(h, root);
    read_clock(h, root);
    read_memory(h, root);
    for (int i = 0; i < 2; i++) climb(h, root, &memory_groups[i], memory_group);
    h->cpu_quota = fm_host_cpu_quota(root);
}

double fm_host_load(const char *root)
{
    char text[TEXT];
    return strtod(slurp(text, root, "/proc/loadavg"), NULL);
}

double fm_host_cpu_quota(const char *root)
{
    struct fm_host h = {0};
    for (int i = 0; i < 2; i++) climb(&h, root, &cpu_groups[i], cpu_group);
    return h.cpu_quota;
}

uint64_t fm_host_memory_free(const struct fm_host *h)
{
    if (!h->memory_limit) return h->memory_available;
    return h->memory_available && h->memory_available < h->memory_limit_free ? h->memory_available
                                                                             : h->memory_limit_free;
}

uint64_t fm_host_resident_peak(const char *root)
{
    char text[TEXT];
    uint64_t kib = 0;
    (void)line_number(slurp(text, root, "/proc/self/status"), "VmHWM", &kib);
    return kib << 10;
}
