/* What this machine can do: the figures of `fathom doctor`, one step per row.  op/cpu/limits.h does the measuring. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "fathom.h"
#include "op/cpu/limits.h"
#include "run/disk_speed.h"

enum { SECONDS = 60, SECONDS_QUICK = 8, K = 4096, K_PREFILL = 2048, T_PREFILL = 256, KEYS = 4096 };

struct job {
    const struct fm_doctor_options *o;
    struct fm_machine *m;
    struct fm_limits l;
    size_t bytes;          /* to read from memory */
    double figure_seconds; /* for each figure     */
    int done, total;
    struct fm_error *err;
};

static double seconds_of(const struct fm_doctor_options *o)
{
    return o->seconds > 0 ? o->seconds : o->quick ? SECONDS_QUICK : SECONDS;
}

typedef enum fm_status (*step_fn)(struct job *j);

static enum fm_status begin(struct job *j, const char *what)
{
    if (j->o->progress && !j->o->progress(j->o->arg, what, j->done, j->total))
        return fm_fail(j->err, FM_ERR_CANCELLED, "measure this machine: %s: stopped by the user", what);
    j->done++;
    return FM_OK;
}

/* ---- memory and arithmetic ---- */

static enum fm_status read_small(struct job *j)
{
    return fm_limits_read(&j->l, j->bytes, false, j->m->read, NULL, j->err);
}

static enum fm_status read_huge(struct job *j)
{
    bool got = false;
    double rate[2];
    FM_TRY(fm_limits_read(&j->l, j->bytes, true, rate, &got, j->err));
    if (got) memcpy(j->m->read_huge, rate, sizeof rate);
    return FM_OK;
}

static void peak(struct job *j, bool int8, double rate[2], char instruction[24])
{
    const char *name = "";
    for (int all = 0; all < 2; all++) rate[all] = fm_limits_peak(&j->l, int8, all, &name);
    snprintf(instruction, 24, "%s", name);
}

static enum fm_status f32_peak(struct job *j)
{
    peak(j, false, j->m->f32_peak, j->m->f32_instruction);
    return FM_OK;
}

static enum fm_status int8_peak(struct job *j)
{
    peak(j, true, j->m->int8_peak, j->m->int8_instruction);
    return FM_OK;
}

/* Less memory: a smaller product, so that tests end soon. */
static struct fm_limits_product prefill_shape(const struct job *j, enum fm_fmt fmt, bool all)
{
    const bool small = j->bytes < (size_t)64 << 20;
    return (struct fm_limits_product){fmt, small ? 16 : T_PREFILL, small ? 64 : 512, small ? 256 : K_PREFILL, all};
}

/* Multiply-adds per second of prompts. */
static enum fm_status prefill(struct job *j, enum fm_fmt fmt, bool all, double *rate)
{
    double seconds;
    const struct fm_limits_product p = prefill_shape(j, fmt, all);
    FM_TRY(fm_limits_product(&j->l, &p, &seconds, j->err));
    *rate = (double)p.T * p.N * p.K / seconds;
    return FM_OK;
}

static enum fm_status both(struct job *j, enum fm_fmt fmt, double rate[2])
{
    FM_TRY(prefill(j, fmt, false, &rate[0]));
    return prefill(j, fmt, true, &rate[1]);
}

static enum fm_status f32_gemm(struct job *j) { return both(j, FM_F32, j->m->f32_gemm); }
static enum fm_status int8_gemm(struct job *j) { return both(j, FM_Q8_0, j->m->int8_gemm); }

/* ---- attention ---- */

static enum fm_status attention(struct job *j, const struct fm_limits_attn *p, double *seconds)
{
    return fm_limits_attn(&j->l, p, seconds, j->err);
}

static int keys(const struct job *j) { return j->bytes < (size_t)64 << 20 ? 128 : KEYS; }

/* Llama 3's heads: four to a key, so that reading decides. */
static enum fm_status attn_read(struct job *j)
{
    const struct fm_limits_attn p = {{32, 8, 128, 128, 0.088f}, false, 1, keys(j), true};
    double seconds;
    FM_TRY(attention(j, &p, &seconds));
    j->m->attn_read = (double)p.n * p.a.Hkv * (p.a.Dk + p.a.Dv) * sizeof(float) / seconds;
    return FM_OK;
}

/* DeepSeek-V2-Lite's latent heads: sixteen to a key, so that arithmetic decides. */
static enum fm_status attn_decode(struct job *j)
{
    const struct fm_limits_attn p = {{16, 1, 576, 512, 0.1f}, true, 1, keys(j), true};
    double seconds;
    FM_TRY(attention(j, &p, &seconds));
    j->m->attn_decode = (double)p.n * p.a.H * (p.a.Dk + p.a.Dv) / seconds;
    return FM_OK;
}

static enum fm_status attn_prefill(struct job *j)
{
    const int n = keys(j) / 8;
    const struct fm_limits_attn p = {{16, 16, 128, 128, 0.088f}, false, n, n, true};
    double seconds;
    FM_TRY(attention(j, &p, &seconds));
    j->m->attn_prefill = (double)n * (n + 1) / 2 * p.a.H * (p.a.Dk + p.a.Dv) / seconds;
    return FM_OK;
}

static enum fm_status loop(struct job *j)
{
    j->m->loop_seconds = fm_limits_loop(&j->l);
    return FM_OK;
}

/* ---- formats ---- */

static const enum fm_fmt usual[] = {FM_F32, FM_F16, FM_BF16, FM_Q8_0, FM_Q4_0, FM_Q4_1, FM_Q4_K, FM_Q6_K};
enum { N_USUAL = sizeof usual / sizeof *usual };

static bool computable(enum fm_fmt f) { return fm_formats[f].decode && f != FM_F64 && f != FM_F8_E8M0; }

static bool computable_name(const char *name)
{
    const enum fm_fmt f = fm_format_by_name(name);
    return f != FM_FMT_COUNT && computable(f);
}

/* Bytes of weights per second when a token is generated, from weights of about that many bytes. */
static enum fm_status decode(struct job *j, enum fm_fmt fmt, size_t bytes, double *rate)
{
    const size_t row = (size_t)fm_format_bytes(fmt, K);
    const int rows = (int)fmax(64, (double)(bytes / row & ~(size_t)63));
    const struct fm_limits_product p = {fmt, 1, rows, K, true};
    double seconds;
    FM_TRY(fm_limits_product(&j->l, &p, &seconds, j->err));
    *rate = (double)row * rows / seconds;
    return FM_OK;
}

static enum fm_status measure_format(struct job *j, enum fm_fmt fmt)
{
    const size_t cache = j->m->l3_bytes ? j->m->l3_bytes / 4 : (size_t)4 << 20, memory = j->bytes / 2;
    struct fm_machine_format f = {0};
    snprintf(f.name, sizeof f.name, "%s", fm_formats[fmt].name);
    FM_TRY(begin(j, f.name));
    FM_TRY(decode(j, fmt, memory, &f.decode));
    FM_TRY(decode(j, fmt, cache < memory ? cache : memory, &f.decode_cache));
    FM_TRY(prefill(j, fmt, true, &f.prefill));
    j->m->formats[j->m->n_formats++] = f;
    return FM_OK;
}

/* Whether the options ask for this format. */
static bool wanted(const struct fm_doctor_options *o, enum fm_fmt fmt)
{
    if (!computable(fmt)) return false;
    for (const char *const *f = o->formats; f && *f; f++)
        if (fm_format_by_name(*f) == fmt) return true;
    if (o->formats) return false;
    for (int i = 0; o->quick && i < N_USUAL; i++)
        if (usual[i] == fmt) return true;
    return !o->quick;
}

static int count_formats(const struct fm_doctor_options *o)
{
    int n = 0;
    for (int f = 0; f < FM_FMT_COUNT; f++) n += wanted(o, (enum fm_fmt)f);
    return n;
}

static enum fm_status all_formats(struct job *j)
{
    _Static_assert((int)FM_FMT_COUNT <= (int)FM_MACHINE_FORMATS, "a place for each");
    for (int f = 0; f < FM_FMT_COUNT; f++)
        if (wanted(j->o, (enum fm_fmt)f)) FM_TRY(measure_format(j, (enum fm_fmt)f));
    return FM_OK;
}

/* ---- disk ---- */

static enum fm_status disk(struct job *j)
{
    struct fm_disk_speed d = {0};
    const double seconds = fmax(0.05, 0.05 * seconds_of(j->o));
    const size_t bytes = j->bytes < (size_t)256 << 20 ? j->bytes : (size_t)256 << 20;
    if (j->o->file)
        FM_TRY(fm_disk_speed_of(j->o->file, seconds, &d, j->err));
    else if (j->o->folder)
        FM_TRY(fm_disk_speed_in(j->o->folder, bytes, seconds, &d, j->err));
    j->m->disk = d.cached;
    j->m->disk_direct = d.direct;
    memcpy(j->m->disk_path, d.path, sizeof d.path);
    return FM_OK;
}

/* ---- all of it ---- */

static const struct {
    const char *what;
    step_fn run;
    int figures; /* that share the time */
} steps[] = {
    {"memory, 4 KiB pages", read_small, 2},  {"memory, 2 MiB pages", read_huge, 2},
    {"float32 peak", f32_peak, 4},           {"int8 peak", int8_peak, 4},
    {"float32 products", f32_gemm, 2},       {"int8 products", int8_gemm, 2},
    {"attention, reading", attn_read, 1},    {"attention, decoding", attn_decode, 1},
    {"attention, prompts", attn_prefill, 1}, {"threads", loop, 1},
};
enum { N_STEPS = sizeof steps / sizeof *steps, FORMAT_FIGURES = 3 };

/* Enough that no cache holds it, little enough that nobody is pushed out of memory. */
static size_t bytes_to_read(const struct fm_doctor_options *o, const struct fm_machine *m)
{
    if (o->memory_bytes) return o->memory_bytes > (size_t)1 << 16 ? o->memory_bytes : (size_t)1 << 16;
    double bytes = fmin(fmax(8.0 * (double)m->l3_bytes, 0x1p28), 0x1p30);
    if (m->memory_free) bytes = fmin(bytes, fmax((double)m->memory_free / 8, 0x1p20));
    return (size_t)bytes;
}

static void share_time(struct job *j)
{
    const int formats = count_formats(j->o);
    int figures = FORMAT_FIGURES * formats;
    for (int i = 0; i < N_STEPS; i++) figures += steps[i].figures;
    j->total = N_STEPS + formats + 1;
    j->figure_seconds = 0.7 * seconds_of(j->o) / figures; /* the rest: filling memory, the disk */
}

static enum fm_status measure(struct job *j)
{
    FM_TRY(begin(j, "disk")); /* first, because the file may not be there */
    FM_TRY(disk(j));
    for (int i = 0; i < N_STEPS; i++) {
        FM_TRY(begin(j, steps[i].what));
        FM_TRY(steps[i].run(j));
    }
    return all_formats(j);
}

static enum fm_status check(const struct fm_doctor_options *o, struct fm_error *err)
{
    enum { THREADS_MAX = 1024 };
    if (o->threads < 0 || o->threads > THREADS_MAX)
        return fm_fail(err, FM_ERR_USAGE, "measure this machine: %d threads: not within 0 … %d", o->threads,
                       THREADS_MAX);
    for (const char *const *f = o->formats; f && *f; f++)
        if (!computable_name(*f))
            return fm_fail(err, FM_ERR_USAGE, "measure this machine: %.40s: is no format of weights", *f);
    return FM_OK;
}

enum fm_status fm_doctor_run(const struct fm_doctor_options *o, struct fm_machine *out, struct fm_error *err)
{
    struct fm_machine m;
    const double start = fm_seconds();
    FM_TRY(check(o, err));
    fm_machine_facts(&m);
    struct job j = {.o = o, .m = &m, .err = err, .bytes = bytes_to_read(o, &m)};
    share_time(&j);
    FM_TRY(fm_limits_open(&j.l, o->threads, j.figure_seconds, err));
    m.threads = j.l.n_threads;
    enum fm_status st = measure(&j);
    m.noise = j.l.n_figures ? j.l.noise / j.l.n_figures : 0;
    fm_limits_close(&j.l);
    if (st) return st;
    m.seconds = fm_seconds() - start;
    m.when = (int64_t)time(NULL);
    *out = m;
    return FM_OK;
}
