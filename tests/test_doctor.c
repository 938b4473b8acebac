/* What the system says, read from folders made here; what doctor measures; how figures are kept. */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/host.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/topology.h"
#include "fathom.h"
#include "run/disk_speed.h"

static char root[64]; /* a folder for everything */
static struct fm_error err;

static void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/fathom-doctor-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

/* root/path with its folders; text NULL: no such file any more */
static void put(const char *path, const char *text)
{
    char full[512];
    (void)snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        if (mkdir(full, 0777) && errno != EEXIST) fail_msg("mkdir %s", full);
    }
    if (!text) {
        (void)unlink(full);
        return;
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* ---- facts ----------------------------------------------------------------------------------------------------- */

static void put_machine(void)
{
    put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU 9000\nflags\t\t: fpu hypervisor avx2\n");
    put("/proc/loadavg", "1.25 0.50 0.10 1/99 1234\n");
    put("/proc/meminfo", "MemTotal:       32000000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n"
                         "SwapTotal:       4000000 kB\nSwapFree:        3000000 kB\n");
    put("/sys/devices/system/cpu/online", "0-3,6\n");
    put("/sys/devices/system/node/online", "0-1\n");
    static const char *const siblings[] = {"0,2", "1,3", "0,2", "1,3", NULL, NULL, "6"};
    for (int i = 0; i < 7; i++) {
        char path[96];
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", i);
        if (siblings[i]) put(path, siblings[i]);
    }
    static const char *const cache[][3] = {
        {"1", "Data", "48K"}, {"1", "Instruction", "32K"}, {"2", "Unified", "2M"}, {"3", "Unified", "36864K"}};
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"level", "type", "size"};
        for (int k = 0; k < 3; k++) {
            char path[96];
            (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", i, names[k]);
            put(path, cache[i][k]);
        }
    }
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    put("/sys/devices/system/cpu/intel_pstate/no_turbo", "1\n");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
}

static void facts_are_read(void **state)
{
    struct fm_host h;
    (void)state;
    put_machine();
    fm_host_read(&h, root);
    assert_string_equal(h.cpu, "Some CPU 9000");
    assert_true(h.virtual_machine);
    assert_int_equal(h.cores_online, 5);
    assert_int_equal(h.cores_physical, 3);
    assert_true(h.cores_allowed >= 1);
    assert_int_equal(h.numa_nodes, 2);
    assert_int_equal(h.l1_bytes, 48 << 10);
    assert_int_equal(h.l2_bytes, 2 << 20);
    assert_int_equal(h.l3_bytes, 36 << 20);
    assert_true(fabs(h.load - 1.25) < 1e-9);
    assert_int_equal(h.memory_total, (uint64_t)32000000 << 10);
    assert_int_equal(h.memory_available, (uint64_t)20000000 << 10);
    assert_int_equal(h.swap_total, (uint64_t)4000000 << 10);
    assert_int_equal(h.swap_used, (uint64_t)1000000 << 10);
    assert_string_equal(h.huge_pages, "never");
    assert_string_equal(h.governor, "powersave");
    assert_int_equal(h.turbo, 0);
    assert_int_equal(h.memory_limit, 0);
    assert_int_equal(fm_host_memory_free(&h), h.memory_available);
}

/* ---- topology -------------------------------------------------------------------------------------------------- */

/* Two nodes of four cores with two threads each, numbered as servers do: all first siblings, then all second ones. */
static void put_two_nodes(void)
{
    put("/sys/devices/system/cpu/online", "0-15\n");
    put("/sys/devices/system/node/online", "0-1\n");
    put("/sys/devices/system/node/node0/cpulist", "0-3,8-11\n");
    put("/sys/devices/system/node/node1/cpulist", "4-7,12-15\n");
    for (int i = 0; i < 16; i++) {
        char path[96], list[16];
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", i);
        (void)snprintf(list, sizeof list, "%d,%d\n", i % 8, i % 8 + 8);
        put(path, list);
    }
}

static void stand(const struct fm_topology *t, int n, const int *cpus)
{
    for (int i = 0; i < n; i++) assert_int_equal(fm_topology_place(t, n, i)->id, cpus[i]);
}

static void threads_have_their_places(void **state)
{
    static struct fm_topology t;
    int first[FM_NODES_MAX + 1];
    (void)state;
    put_two_nodes();
    fm_topology_read(&t, root);
    assert_int_equal(t.n, 16);
    assert_int_equal(t.n_cores, 8);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.node_cores[1], 4);
    assert_int_equal(t.node_cpus[1], 8);
    /* both nodes' memory, and no core twice while there are others */
    stand(&t, 2, (const int[]){0, 4});
    stand(&t, 4, (const int[]){0, 1, 4, 5});
    stand(&t, 8, (const int[]){0, 1, 2, 3, 4, 5, 6, 7});
    stand(&t, 12, (const int[]){0, 1, 2, 3, 8, 9, 4, 5, 6, 7, 12, 13});
    stand(&t, 16, (const int[]){0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15});
    for (int n = 1; n <= 40; n++) { /* more than processors, too: each thread on the node it counts for */
        fm_topology_share(&t, n, first);
        assert_int_equal(first[0], 0);
        assert_int_equal(first[2], n);
        assert_true(abs(2 * first[1] - n) <= 1);
        for (int i = 0; i < n; i++) assert_int_equal(fm_topology_place(&t, n, i)->node, i >= first[1]);
    }
    /* a node with fewer cores gets fewer threads, one without processors none */
    put("/sys/devices/system/cpu/online", "0-5\n");
    put("/sys/devices/system/node/online", "0-2\n");
    put("/sys/devices/system/node/node2/cpulist", "\n");
    fm_topology_read(&t, root);
    assert_int_equal(t.n_nodes, 2);
    stand(&t, 6, (const int[]){0, 1, 2, 3, 4, 5});
    stand(&t, 3, (const int[]){0, 1, 4});
    fm_topology_read(&t, "/nonexistent");
    assert_int_equal(t.n, 1);
    assert_int_equal(fm_topology_place(&t, 3, 2)->id, 0);
}

static void pinning_is_decided(void **state)
{
    static struct fm_topology two, one;
    (void)state;
    put_two_nodes();
    fm_topology_read(&two, root);
    put("/sys/devices/system/node/online", "0\n");
    put("/sys/devices/system/node/node0/cpulist", "0-15\n");
    fm_topology_read(&one, root);
    assert_int_equal(one.n_nodes, 1);
    static const struct {
        enum fm_pin wanted;
        bool two;
        int n;
        double load, quota;
        enum fm_pin is;
    } rows[] = {
        {FM_PIN_AUTO, false, 8, 0, 0, FM_PIN_OFF}, /* one node: the system knows better             */
        {FM_PIN_AUTO, true, 8, 0.3, 0, FM_PIN_AUTO}, {FM_PIN_AUTO, true, 8, 1, 0, FM_PIN_OFF}, /* another program */
        {FM_PIN_AUTO, true, 6, 2, 0, FM_PIN_AUTO},   {FM_PIN_AUTO, true, 8, 0, 4, FM_PIN_OFF}, /* a control group */
        {FM_PIN_AUTO, true, 9, 0, 0, FM_PIN_OFF},    {FM_PIN_ON, false, 16, 9, 0, FM_PIN_ON},
        {FM_PIN_ON, true, 17, 0, 0, FM_PIN_OFF},     {FM_PIN_OFF, true, 8, 0, 0, FM_PIN_OFF},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(
            fm_pin_decide(rows[i].wanted, rows[i].two ? &two : &one, rows[i].n, rows[i].load, rows[i].quota),
            rows[i].is);
    assert_int_equal(fm_pin_named(NULL), FM_PIN_AUTO);
    assert_int_equal(fm_pin_named("on"), FM_PIN_ON);
    assert_int_equal(fm_pin_named("of"), FM_PIN_COUNT);
}

struct seen {
    atomic_int cpus[4]; /* of each thread: how many it may run on, 0: it had no item */
};

static void look(void *arg, int begin, int end, int thread)
{
    struct seen *s = arg;
    cpu_set_t set;
    (void)begin, (void)end;
    if (!sched_getaffinity(0, sizeof set, &set)) atomic_store(&s->cpus[thread], CPU_COUNT(&set));
    (void)usleep(1000); /* others come, too */
}

/* Workers stand on a processor each; the caller and the pool after it on all. */
static void workers_are_pinned(void **state)
{
    static struct fm_topology t;
    struct fm_pool *p;
    const int all = fm_cpu_allowed(), n = all < 4 ? all : 4;
    (void)state;
    fm_topology_here(&t);
    assert_int_equal(t.n, all);
    for (int how = FM_PIN_ON; how <= FM_PIN_OFF; how++) {
        struct seen s = {0};
        ok(fm_pool_new_pinned(n, (enum fm_pin)how, &p, &err));
        assert_int_equal(fm_pool_pin(p), how);
        for (int i = 0; i < 20; i++) fm_parallel_for(p, 4 * n, 1, look, &s);
        fm_pool_free(p);
        assert_int_equal(atomic_load(&s.cpus[0]), all);
        for (int i = 1; i < n; i++)
            if (atomic_load(&s.cpus[i])) assert_int_equal(atomic_load(&s.cpus[i]), how == FM_PIN_ON ? 1 : all);
    }
}

/* The tightest group above this process counts; pages of files can be given back. */
static void limits_of_control_groups(void **state)
{
    struct fm_host h;
    (void)state;
    put_machine();
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/memory.max", "8000000000\n");
    put("/sys/fs/cgroup/a/memory.current", "3000000000\n");
    put("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500000000\nactive_file 500000000\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    fm_host_read(&h, root);
    assert_int_equal(h.memory_limit, 8000000000);
    assert_int_equal(h.memory_limit_free, 6000000000);
    assert_int_equal(fm_host_memory_free(&h), 6000000000);
    assert_true(fabs(h.cpu_quota - 1.5) < 1e-9);
    put("/sys/fs/cgroup/a/b/memory.max", "1000000000\n");
    put("/sys/fs/cgroup/a/b/memory.current", "1200000000\n");
    fm_host_read(&h, root);
    assert_int_equal(h.memory_limit, 1000000000);
    assert_int_equal(fm_host_memory_free(&h), 0); /* more than the limit is taken: nothing is left */
    /* the first generation, seen from inside of a container whose own path does not exist there */
    put("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/123\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000000\n");
    put("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 100000000\ntotal_active_file 0\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    fm_host_read(&h, root);
    assert_int_equal(h.memory_limit, 2000000000);
    assert_int_equal(fm_host_memory_free(&h), 1600000000);
    assert_true(fabs(h.cpu_quota - 0.5) < 1e-9);
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* how it says: none */
    put("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
    fm_host_read(&h, root);
    assert_int_equal(h.memory_limit, 0);
    assert_true(h.cpu_quota == 0);
}

static void nothing_to_read(void **state)
{
    struct fm_host h;
    (void)state;
    fm_host_read(&h, "/nonexistent");
    assert_string_equal(h.cpu, "");
    assert_int_equal(h.memory_total, 0);
    assert_int_equal(fm_host_memory_free(&h), 0);
    assert_true(h.cores_allowed >= 1 && h.cores_online == 0);
    put("/proc/cpuinfo", "model name");
    put("/proc/meminfo", "MemTotal\nSwapTotal:");
    put("/proc/self/cgroup", "::\n:\nx\n0::");
    put("/sys/devices/system/cpu/online", "3-1,,");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "[");
    fm_host_read(&h, root);
    put_machine();
    put("/proc/self/cgroup", NULL);
}

/* ---- figures --------------------------------------------------------------------------------------------------- */

static bool count_steps(void *arg, const char *what, int done, int total)
{
    int *n = arg;
    assert_non_null(what);
    assert_int_equal(done, *n);
    assert_true(done < total);
    ++*n;
    return true;
}

static struct fm_doctor_options tiny(void)
{
    return (struct fm_doctor_options){
        .threads = 2, .seconds = 0.1, .quick = true, .memory_bytes = 1 << 20, .folder = root};
}

static bool sane(double rate) { return rate > 1e6 && rate < 1e13; }

static void check_figures(const struct fm_machine *m)
{
    assert_string_equal(m->tier, fm_cpu_tier());
    assert_int_equal(m->threads, 2);
    assert_true(sane(m->read[0]) && sane(m->read[1]));
    assert_true((m->read_huge[0] == 0) == (m->read_huge[1] == 0));
    assert_true(sane(m->f32_gemm[0]) && sane(m->f32_gemm[1]) && sane(m->int8_gemm[0]) && sane(m->int8_gemm[1]));
    assert_true(sane(m->attn_read) && sane(m->attn_decode) && sane(m->attn_prefill));
    assert_true(m->loop_seconds >= 0 && m->loop_seconds < 1);
    assert_true(m->noise >= 0 && m->seconds > 0 && m->when > 1700000000);
    /* a product never beats the peak of its kind: measured apart, so with room for a clock that rises */
    if (m->f32_peak[0] > 0) assert_true(m->f32_gemm[0] < 2 * m->f32_peak[0]);
    assert_int_equal(m->f32_peak[0] > 0, *m->f32_instruction != 0);
    assert_int_equal(m->int8_peak[1] > 0, *m->int8_instruction != 0);
    assert_true(m->n_formats >= 8);
    for (int i = 0; i < m->n_formats; i++) {
        const struct fm_machine_format *f = &m->formats[i];
        if (!*f->name || !sane(f->decode) || !sane(f->decode_cache) || !sane(f->prefill))
            fail_msg("format %d '%s': %g %g %g", i, f->name, f->decode, f->decode_cache, f->prefill);
    }
}

static void figures_are_sane(void **state)
{
    struct fm_machine m;
    int steps = 0;
    (void)state;
    struct fm_doctor_options o = tiny();
    o.progress = count_steps;
    o.arg = &steps;
    ok(fm_doctor_run(&o, &m, &err));
    check_figures(&m);
    assert_true(steps > 10);
    char path[96];
    (void)snprintf(path, sizeof path, "%s/doctor.tmp-%ld", root, (long)getpid());
    assert_int_equal(access(path, F_OK), -1); /* the temporary file is gone */
}

static bool has_format(const struct fm_machine *m, const char *name)
{
    for (int i = 0; i < m->n_formats; i++)
        if (!strcmp(m->formats[i].name, name)) return true;
    return false;
}

static void formats_that_are_measured(void **state)
{
    static const char *const two[] = {"q4_k", "IQ1_S", NULL}, *const bad[] = {"Q4_K", "Q9_9", NULL};
    struct fm_machine m;
    (void)state;
    struct fm_doctor_options o = tiny();
    o.folder = NULL;
    o.quick = false;
    o.memory_bytes = 1 << 18;
    ok(fm_doctor_run(&o, &m, &err)); /* all of them */
    check_figures(&m);
    assert_true(m.n_formats > 20 && has_format(&m, "IQ2_XXS") && has_format(&m, "MXFP4") && !has_format(&m, "I32"));
    assert_true(m.disk == 0 && m.disk_direct == 0 && !*m.disk_path);
    o.formats = two;
    ok(fm_doctor_run(&o, &m, &err));
    assert_true(m.n_formats == 2 && has_format(&m, "Q4_K") && has_format(&m, "IQ1_S"));
    o.formats = bad;
    assert_int_equal(fm_doctor_run(&o, &m, &err), FM_ERR_USAGE);
    assert_non_null(strstr(err.message, "Q9_9"));
    o.formats = NULL;
    o.threads = 1025;
    assert_int_equal(fm_doctor_run(&o, &m, &err), FM_ERR_USAGE);
}

static bool stop_at_fifth(void *arg, const char *what, int done, int total)
{
    (void)arg, (void)what, (void)total;
    return done < 5;
}

static void stops_when_told(void **state)
{
    struct fm_machine m = {.threads = -7};
    (void)state;
    struct fm_doctor_options o = tiny();
    o.progress = stop_at_fifth;
    assert_int_equal(fm_doctor_run(&o, &m, &err), FM_ERR_CANCELLED);
    assert_int_equal(m.threads, -7);
}

static void memory_may_be_short(void **state)
{
    (void)state;
    struct fm_doctor_options o = tiny();
    o.seconds = 0.001;
    o.memory_bytes = 1 << 16;
    enum fm_status st = FM_ERR_MEMORY;
    for (long n = 1; st && n < 1000; n += n < 20 ? 1 : 7) {
        struct fm_machine m = {.threads = -7};
        fm_mem_fail_at(n);
        st = fm_doctor_run(&o, &m, &err);
        fm_mem_fail_at(0);
        assert_true(st == FM_OK || st == FM_ERR_MEMORY);
        assert_true(!st || m.threads == -7);
    }
    assert_int_equal(st, FM_OK);
}

/* ---- the disk -------------------------------------------------------------------------------------------------- */

static void disk_of_files(void **state)
{
    struct fm_disk_speed d;
    char path[96];
    (void)state;
    put("/some/file", "text that is read");
    put("/some/larger", "text that is read because it is longer");
    (void)snprintf(path, sizeof path, "%s/some", root);
    ok(fm_disk_speed_of(path, 0.01, &d, &err));
    assert_non_null(strstr(d.path, "/some/larger"));
    assert_true(d.cached >= 0 && d.direct >= 0);
    (void)snprintf(path, sizeof path, "%s/none", root);
    assert_int_equal(fm_disk_speed_of(path, 0.01, &d, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(fm_disk_speed_of("/dev/null", 0.01, &d, &err), FM_ERR_INPUT);
    put("/empty/x", NULL);
    (void)snprintf(path, sizeof path, "%s/empty", root);
    assert_int_equal(fm_disk_speed_of(path, 0.01, &d, &err), FM_ERR_INPUT);
    ok(fm_disk_speed_in("/nonexistent", 1 << 20, 0.01, &d, &err)); /* nowhere to write: no figure */
    assert_true(d.cached == 0 && d.direct == 0);
}

/* ---- keeping --------------------------------------------------------------------------------------------------- */

static struct fm_machine some_machine(void)
{
    struct fm_machine m = {.cpu = "A \"quoted\" CPU", .tier = "avx2", .threads = 8, .cores_allowed = 8, .turbo = -1};
    m.memory_total = (uint64_t)1 << 40;
    m.virtual_machine = true;
    for (int i = 0; i < 2; i++) m.read[i] = 1e10 * (i + 1), m.f32_peak[i] = 5e10 * (i + 1);
    snprintf(m.disk_path, sizeof m.disk_path, "/a/b");
    m.formats[0] = (struct fm_machine_format){"Q4_K", 1e9, 2e9, 3e10};
    m.formats[1] = (struct fm_machine_format){"F16", 4e9, 5e9, 6e10};
    m.n_formats = 2;
    m.when = 1800000000;
    return m;
}

/* As JSON, which leaves the bytes between the members out. */
static void same_machine(const struct fm_machine *a, const struct fm_machine *b)
{
    char *x, *y;
    size_t n;
    ok(fm_machine_json(a, &x, &n, &err));
    ok(fm_machine_json(b, &y, &n, &err));
    assert_string_equal(x, y);
    fm_text_free(x);
    fm_text_free(y);
}

static void round_trip(void **state)
{
    struct fm_machine a = some_machine(), b = some_machine(), back;
    char path[96];
    (void)state;
    (void)snprintf(path, sizeof path, "%s/new/folder/doctor.json", root);
    assert_int_equal(fm_machine_load(path, &a, &back, &err), FM_ERR_INPUT);
    ok(fm_machine_save(&a, path, &err));
    b.threads = 4;
    b.read[0] = 7e9;
    ok(fm_machine_save(&b, path, &err)); /* beside a */
    ok(fm_machine_load(path, &a, &back, &err));
    same_machine(&a, &back);
    assert_true(back.n_formats == 2 && !strcmp(back.formats[1].name, "F16") && back.memory_total == (uint64_t)1 << 40);
    assert_true(back.turbo == -1 && back.virtual_machine && back.f32_peak[1] == 1e11 && back.when == 1800000000);
    ok(fm_machine_load(path, &b, &back, &err));
    same_machine(&b, &back);
    a.read[0] = 1.5e10;
    ok(fm_machine_save(&a, path, &err)); /* in a's place */
    ok(fm_machine_load(path, &a, &back, &err));
    assert_true(fabs(back.read[0] - 1.5e10) < 1);
    snprintf(b.cpu, sizeof b.cpu, "another");
    back.threads = -7;
    assert_int_equal(fm_machine_load(path, &b, &back, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "another"));
    assert_int_equal(back.threads, -7);
}

static void bad_files(void **state)
{
    struct fm_machine m = some_machine(), back = {.threads = -7};
    static const char *const texts[] = {"", "{", "[]", "{}", "7", "{\"x\":{}}"};
    char path[96];
    (void)state;
    (void)snprintf(path, sizeof path, "%s/doctor.json", root);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put("/doctor.json", texts[i]);
        assert_int_equal(fm_machine_load(path, &m, &back, &err), FM_ERR_INPUT);
        assert_non_null(strstr(err.message, path));
        assert_int_equal(back.threads, -7);
        ok(fm_machine_save(&m, path, &err)); /* replaces it */
        ok(fm_machine_load(path, &m, &back, &err));
        back.threads = -7;
    }
    char *text;
    size_t n;
    ok(fm_machine_json(&m, &text, &n, &err));
    assert_int_equal(strlen(text), n);
    assert_non_null(strstr(text, "\"Q4_K\""));
    fm_text_free(text);
    m.formats[1].decode = -1; /* such figures are refused when read */
    ok(fm_machine_save(&m, path, &err));
    assert_int_equal(fm_machine_load(path, &m, &back, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "formats"));
    assert_int_not_equal(fm_machine_save(&m, "/proc/no/such/doctor.json", &err), FM_OK);
}

/* ---- warnings -------------------------------------------------------------------------------------------------- */

static bool warns(const struct fm_machine *m, const char *about)
{
    char text[200];
    bool found = false;
    for (int i = 0; fm_machine_warning(m, i, text, sizeof text); i++) {
        assert_true(*text && strlen(text) < sizeof text - 1);
        found |= strstr(text, about) != NULL;
    }
    return found;
}

static void warnings(void **state)
{
    char text[200];
    (void)state;
    const struct fm_machine good = {.tier = "avx2",
                                    .cores_online = 8,
                                    .cores_physical = 8,
                                    .cores_allowed = 8,
                                    .threads = 8,
                                    .turbo = 1,
                                    .memory_total = 1 << 30,
                                    .disk = 2e9,
                                    .numa_nodes = 1,
                                    .huge_pages = "madvise",
                                    .governor = "performance",
                                    .noise = 0.05,
                                    .load = 0.2};
    assert_false(fm_machine_warning(&good, 0, text, sizeof text));
#define BAD(change, about)                                          \
    do {                                                            \
        struct fm_machine m = good;                                 \
        change;                                                     \
        assert_true(warns(&m, about));                              \
        assert_false(fm_machine_warning(&m, 1, text, sizeof text)); \
    } while (0)
    BAD(m.load = 6, "busy");
    BAD(m.noise = 0.5, "busy");
    BAD(strcpy(m.tier, "scalar"), "AVX2");
    BAD(m.memory_limit = 1 << 29, "control group");
    BAD(m.cpu_quota = 2.5, "--threads 2");
    BAD(m.cores_online = 16, "affinity");
    BAD(m.cores_physical = 4, "--threads 4");
    BAD(m.swap_used = 1 << 30, "swap");
    BAD(strcpy(m.huge_pages, "never"), "huge pages");
    BAD(strcpy(m.governor, "powersave"), "powersave");
    BAD(m.turbo = 0, "turbo");
    BAD(m.numa_nodes = 2, "nodes");
    BAD(m.disk = 1e8, "disk");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_are_read),
        cmocka_unit_test(threads_have_their_places),
        cmocka_unit_test(pinning_is_decided),
        cmocka_unit_test(workers_are_pinned),
        cmocka_unit_test(limits_of_control_groups),
        cmocka_unit_test(nothing_to_read),
        cmocka_unit_test(figures_are_sane),
        cmocka_unit_test(formats_that_are_measured),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(memory_may_be_short),
        cmocka_unit_test(disk_of_files),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(warnings),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
