/* fathom doctor: what this machine is and what it can do. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/env.h"
#include "base/status.h"
#include "base/str.h"
#include "base/topology.h"
#include "cli/machine.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

struct doctor {
    struct fm_setup setup;
    bool quick, no_save;
    double seconds;
    int threads;
};

static const struct fm_opt rows[] = {
    {0, "quick", FM_OPT_FLAG, offsetof(struct doctor, quick), 0, 0, NULL, "the usual formats only, about 8 seconds"},
    {0, "seconds", FM_OPT_DOUBLE, offsetof(struct doctor, seconds), 0.1, 3600, "S",
     "time for the measurements, about (default: 60)"},
    {'t', "threads", FM_OPT_INT, offsetof(struct doctor, threads), 1, 1024, "N",
     "compute threads (default: one per core)"},
    {0, "no-save", FM_OPT_FLAG, offsetof(struct doctor, no_save), 0, 0, NULL,
     "do not keep the figures for fathom plan"},
    {0},
};

/* ---- the table ------------------------------------------------------------------------------------------------- */

static void fact(const char *name, const char *value)
{
    if (*value) printf("%-24s %s\n", name, value);
}

/* "2: 8 cores, 16 processors, threads 0-7; 8 cores, …" */
static void nodes(int threads)
{
    static struct fm_topology t;
    int first[FM_NODES_MAX + 1];
    struct fm_buf b = {0};
    fm_topology_here(&t);
    if (t.n_nodes < 2) return;
    fm_topology_share(&t, threads, first);
    fm_buf_printf(&b, "%d", t.n_nodes);
    for (int k = 0; k < t.n_nodes; k++) {
        fm_buf_printf(&b, "%s node %d: %d cores, %d processors", k ? ";" : ",", t.node_id[k], t.node_cores[k],
                      t.node_cpus[k]);
        if (first[k] < first[k + 1]) fm_buf_printf(&b, ", threads %d-%d", first[k], first[k + 1] - 1);
    }
    if (!b.failed) fact("memory nodes", b.data);
    fm_buf_release(&b);
}

static void facts(const struct fm_machine *m)
{
    char text[160], a[16], b[16], c[16];
    fact("processor", m->cpu);
    fact("kernels", m->tier);
    snprintf(text, sizeof text, "%d%s, %d usable, %d threads%s", m->cores_online,
             m->cores_physical && m->cores_physical < m->cores_online ? " (with sibling threads)" : "",
             m->cores_allowed, m->threads, m->virtual_machine ? ", virtual machine" : "");
    fact("cores", text);
    if (m->cpu_quota > 0) {
        snprintf(text, sizeof text, "%.2f processors", m->cpu_quota);
        fact("processor limit", text);
    }
    if (m->l1_bytes || m->l2_bytes || m->l3_bytes) {
        snprintf(text, sizeof text, "L1 %s, L2 %s, L3 %s", fm_bytes_text(m->l1_bytes, a), fm_bytes_text(m->l2_bytes, b),
                 fm_bytes_text(m->l3_bytes, c));
        fact("caches", text);
    }
    snprintf(text, sizeof text, "%s, %s available%s", fm_bytes_text(m->memory_total, a),
             fm_bytes_text(m->memory_free, b), m->memory_limit ? " (control group)" : "");
    fact("memory", text);
    if (m->swap_total) {
        snprintf(text, sizeof text, "%s, %s in use", fm_bytes_text(m->swap_total, a), fm_bytes_text(m->swap_used, b));
        fact("swap", text);
    }
    nodes(m->threads);
    fact("huge pages", m->huge_pages);
    fact("governor", m->governor);
    fact("turbo", m->turbo < 0 ? "" : m->turbo ? "on" : "off");
    snprintf(text, sizeof text, "%.2f", m->load);
    fact("load", text);
}

static void cell(double rate, double unit)
{
    if (rate > 0)
        printf(" %12.1f", rate / unit);
    else
        printf(" %12s", "-");
}

static void pair(const char *name, const double rate[2], double unit, const char *unit_name, const char *remark)
{
    printf("%-24s", name);
    cell(rate[0], unit);
    cell(rate[1], unit);
    printf(" %-8s%s%s\n", unit_name, *remark ? " " : "", remark);
}

static void limits(const struct fm_machine *m)
{
    const double read[2] = {0, m->attn_read}, decode[2] = {0, m->attn_decode}, prompts[2] = {0, m->attn_prefill};
    char text[32];
    snprintf(text, sizeof text, "%d thread%s", m->threads, m->threads == 1 ? "" : "s");
    printf("\n%-24s %12s %12s\n", "limits", "1 thread", text);
    pair("memory, 4 KiB pages", m->read, 1e9, "GB/s", "");
    pair("memory, 2 MiB pages", m->read_huge, 1e9, "GB/s", "");
    pair("float32, peak", m->f32_peak, 1e9, "GMAC/s", m->f32_instruction);
    pair("float32, products", m->f32_gemm, 1e9, "GMAC/s", "");
    pair("int8, peak", m->int8_peak, 1e9, "GMAC/s", m->int8_instruction);
    pair("int8, products", m->int8_gemm, 1e9, "GMAC/s", "Q8_0");
    pair("attention, reading", read, 1e9, "GB/s", "");
    pair("attention, decoding", decode, 1e9, "GMAC/s", "");
    pair("attention, prompts", prompts, 1e9, "GMAC/s", "");
    printf("%-24s %12s %12.1f us\n", "sharing a loop", "", m->loop_seconds * 1e6);
    printf("%-24s", "disk");
    cell(m->disk, 1e9);
    cell(m->disk_direct, 1e9);
    printf(" GB/s     through the page cache, past it%s%s\n", *m->disk_path ? "; " : "", m->disk_path);
}

static void formats(const struct fm_machine *m)
{
    printf("\n%-24s %12s %12s %12s\n", "weights, all threads", "decode", "in cache", "prompts");
    printf("%-24s %12s %12s %12s\n", "", "GB/s", "GB/s", "GMAC/s");
    for (int i = 0; i < m->n_formats; i++) {
        const struct fm_machine_format *f = &m->formats[i];
        printf("%-24s", f->name);
        cell(f->decode, 1e9);
        cell(f->decode_cache, 1e9);
        cell(f->prefill, 1e9);
        putchar('\n');
    }
}

static void warnings(const struct fm_machine *m)
{
    char text[200];
    for (int i = 0; fm_machine_warning(m, i, text, sizeof text); i++) printf("%s- %s\n", i ? "" : "\n", text);
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static void stop(void *arg) { (void)arg; }

static bool show_progress(void *arg, const char *what, int done, int total)
{
    struct fm_bar *bar = arg;
    bar->total = (unsigned long long)total;
    fm_progress_bar(bar, (unsigned long long)done, what);
    return !fm_signals_pending();
}

enum fm_status fm_measure_machine(const struct fm_doctor_options *o, struct fm_machine *m, struct fm_error *err)
{
    struct fm_bar bar = {
        .what = "measuring",
        .unit = "steps",
        .start = fm_clock(),
    };
    struct fm_doctor_options mine = *o;
    mine.progress = show_progress;
    mine.arg = &bar;
    fm_signals_init();
    if (!fm_signals_busy(stop, NULL))
        return fm_fail(err, FM_ERR_CANCELLED, "measure this machine: stopped by the user");
    enum fm_status st = fm_doctor_run(&mine, m, err);
    (void)fm_signals_done();
    fm_progress_end();
    return st;
}

static enum fm_status print_machine(const struct fm_machine *m, bool json, struct fm_error *err)
{
    char *text;
    size_t n;
    if (!json) {
        facts(m);
        limits(m);
        formats(m);
        warnings(m);
        return FM_OK;
    }
    FM_TRY(fm_machine_json(m, &text, &n, err));
    fm_out(text, n);
    fm_out("\n", 1);
    fm_text_free(text);
    return FM_OK;
}

const char *fm_cache_folder(char path[PATH_MAX])
{
    const char *cache = fm_env("XDG_CACHE_HOME"), *home = fm_env("HOME");
    if (!cache && !home) return NULL;
    const int n = cache ? snprintf(path, PATH_MAX - 16, "%s", cache) : snprintf(path, PATH_MAX - 16, "%s/.cache", home);
    if (n <= 0 || n >= PATH_MAX - 16) return NULL;
    (void)mkdir(path, 0777);
    memcpy(path + n, "/fathom", sizeof "/fathom");
    return mkdir(path, 0777) == 0 || errno == EEXIST ? path : NULL;
}

bool fm_machine_path(char path[PATH_MAX])
{
    if (!fm_cache_folder(path)) return false;
    const size_t n = strlen(path);
    return snprintf(path + n, PATH_MAX - n, "/doctor.json") < (int)(PATH_MAX - n);
}

static enum fm_status save(const struct fm_machine *m, struct fm_error *err)
{
    char path[PATH_MAX];
    if (!fm_machine_path(path)) return FM_OK; /* no home */
    FM_TRY(fm_machine_save(m, path, err));
    fm_note("saved to %s", path);
    return FM_OK;
}

enum fm_status fm_cmd_doctor(struct fm_cli *cli, struct fm_error *err)
{
    struct doctor d = {0};
    const struct fm_opt_set sets[] = {{rows, &d}, {fm_json_row, &d.setup}, {fm_log_rows, &d.setup}, {0}};
    struct fm_words words;
    struct fm_machine m;
    char folder[PATH_MAX];
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&d.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 1, "FILE", err));
    struct fm_doctor_options o = {.threads = d.threads,
                                  .seconds = d.seconds,
                                  .quick = d.quick,
                                  .file = words.n ? words.v[0] : NULL,
                                  .folder = fm_cache_folder(folder)};
    FM_TRY(fm_measure_machine(&o, &m, err));
    FM_TRY(print_machine(&m, d.setup.json, err));
    return d.no_save ? FM_OK : save(&m, err);
}
