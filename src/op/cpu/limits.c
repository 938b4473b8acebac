/* See limits.h. */
#include "op/cpu/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernel/probe.h"
#include "op/cpu/backend.h"

enum { RUNS_MAX = 256 };

enum fm_status fm_limits_open(struct fm_limits *l, int threads, double seconds, struct fm_error *err)
{
    enum fm_status st = FM_OK;
    *l = (struct fm_limits){.seconds = seconds};
    for (int i = 0; i < 2 && !st; i++) {
        st = fm_pool_new(i ? threads : 1, &l->pool[i], err);
        if (!st) st = fm_cpu_backend_new(l->pool[i], &l->backend[i], err);
    }
    if (st) {
        fm_limits_close(l);
        return st;
    }
    l->n_threads = fm_pool_size(l->pool[1]);
    fm_arena_init_dry(&l->arena, "measuring"); /* gives nothing out */
    return FM_OK;
}

void fm_limits_close(struct fm_limits *l)
{
    for (int i = 0; i < 2; i++) {
        fm_cpu_backend_free(l->backend[i]);
        fm_pool_free(l->pool[i]);
    }
    *l = (struct fm_limits){0};
}

/* ---- time ---- */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Best seconds of call(arg), and the median's distance for the noise.  One run is enough where it fills the time. */
static double best_of(struct fm_limits *l, void (*call)(void *arg), void *arg)
{
    double t[RUNS_MAX];
    int n = 0;
    for (double stop = fm_seconds() + l->seconds; n < 1 || (n < RUNS_MAX && fm_seconds() < stop); n++) {
        const double begin = fm_seconds();
        call(arg);
        t[n] = fmax(fm_seconds() - begin, 1e-9);
    }
    qsort(t, (size_t)n, sizeof *t, by_size);
    l->noise += t[n / 2] / t[0] - 1;
    l->n_figures++;
    return t[0];
}

struct loop {
    struct fm_pool *pool;
    int n, grain;
    fm_pool_fn fn;
    void *arg;
};

static void run_loop(void *arg)
{
    const struct loop *l = arg;
    fm_parallel_for(l->pool, l->n, l->grain, l->fn, l->arg);
}

double fm_limits_time(struct fm_limits *l, bool all, int n, fm_pool_fn fn, void *arg)
{
    const int threads = all ? l->n_threads : 1;
    struct loop loop = {l->pool[all], n, (n + threads - 1) / threads, fn, arg};
    return best_of(l, run_loop, &loop);
}

/* ---- memory ---- */

enum { PIECE = 1 << 16 }; /* bytes of an item when reading */

typedef uint64_t u64x2 __attribute__((vector_size(16)));

static void read_pieces(void *arg, int begin, int end, int thread)
{
    const u64x2 *p = (const u64x2 *)((const char *)arg + (size_t)begin * PIECE);
    u64x2 a = {0}, b = {0}, c = {0}, d = {0};
    (void)thread;
    for (size_t i = 0, n = (size_t)(end - begin) * (PIECE / sizeof *p); i < n; i += 8) {
        a ^= p[i] ^ p[i + 4];
        b ^= p[i + 1] ^ p[i + 5];
        c ^= p[i + 2] ^ p[i + 6];
        d ^= p[i + 3] ^ p[i + 7];
    }
    a ^= b ^ c ^ d;
    __asm__ volatile("" ::"r"(a[0] ^ a[1]));
}

static void fill_random(void *p, size_t bytes)
{
    struct fm_rng r;
    fm_rng_init(&r, bytes);
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        const uint64_t x = fm_rng_u64(&r);
        memcpy((char *)p + i, &x, sizeof x);
    }
}

/* A mapping that begins at a 2 MiB boundary within a larger one, or in small pages only. */
struct area {
    void *mapped;
    char *data;
    size_t mapped_bytes, bytes;
};

static bool area_new(struct area *a, size_t bytes, bool huge)
{
    const size_t HUGE = (size_t)2 << 20;
    *a = (struct area){.mapped_bytes = bytes + HUGE, .bytes = bytes};
    a->mapped = fm_pages_alloc(a->mapped_bytes);
    if (!a->mapped) return false;
    a->data = (char *)(((uintptr_t)a->mapped + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    (void)madvise(a->mapped, a->mapped_bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return true;
}

static void area_free(struct area *a) { fm_pages_free(a->mapped, a->mapped_bytes); }

/* Whether most of the area lies in huge pages, by the mapping's entry in smaps. */
static bool area_is_huge(const struct area *a)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    unsigned long long kb, begin, end, at = (unsigned long long)(uintptr_t)a->data, huge = 0;
    bool inside = false;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%llx-%llx ", &begin, &end) == 2)
            inside = at >= begin && at < end;
        else if (inside && sscanf(line, "AnonHugePages: %llu kB", &kb) == 1)
            huge += kb << 10;
    }
    if (f) (void)fclose(f);
    return huge >= a->bytes / 2 && huge > 0;
}

enum fm_status fm_limits_read(struct fm_limits *l, size_t bytes, bool huge, double rate[2], bool *got_huge,
                              struct fm_error *err)
{
    struct area a;
    const int n = bytes < PIECE ? 1 : bytes / PIECE > INT32_MAX ? INT32_MAX : (int)(bytes / PIECE);
    if (!area_new(&a, (size_t)n * PIECE, huge)) return fm_fail_memory(err, "measuring memory", bytes);
    fill_random(a.data, a.bytes);
    if (got_huge) *got_huge = huge && area_is_huge(&a);
    for (int all = 0; all < 2; all++) rate[all] = (double)a.bytes / fm_limits_time(l, all, n, read_pieces, a.data);
    area_free(&a);
    return FM_OK;
}

/* ---- arithmetic ---- */

enum { ROUNDS = 200000 }; /* 1 … 5 ms */

static void run_probe(void *arg, int begin, int end, int thread)
{
    const struct fm_probe *p = arg;
    (void)thread;
    for (int i = begin; i < end; i++) p->run(ROUNDS);
}

int fm_limits_int8(enum fm_fmt fmt)
{
    const struct fm_kernels *k = fm_kernels_get(NULL);
    return k->gemm_q8[fmt] ? 1 : k->gemm_q14[fmt] ? 2 : 0;
}

double fm_limits_peak(struct fm_limits *l, bool int8, bool all, const char **name)
{
    double best = 0;
    const struct fm_probe *p;
    const int n = all ? l->n_threads : 1;
    *name = "";
    for (int i = 0; (p = fm_probe_at(i)); i++) {
        if (p->kind != (int8 ? FM_PROBE_INT8 : FM_PROBE_F32) || !p->runs_here()) continue;
        const double rate = n * p->macs * ROUNDS / fm_limits_time(l, all, n, run_probe, (void *)(uintptr_t)p);
        if (rate <= best) continue;
        best = rate;
        *name = p->name;
    }
    return best;
}

/* ---- operations ---- */

static struct fm_ctx context(struct fm_limits *l, bool all)
{
    return (struct fm_ctx){.op = &fm_ops_cpu, .arena = &l->arena, .pool = l->pool[all], .backend = l->backend[all]};
}

static void fill_floats(float *p, size_t n, uint64_t seed)
{
    struct fm_rng r;
    fm_rng_init(&r, seed);
    for (size_t i = 0; i < n; i++) p[i] = (float)(fm_rng_uniform(&r) - 0.5);
}

/* One block of random bytes whose values are finite and neither tiny nor huge; formats without an encoder need it. */
static void random_block(char *block, enum fm_fmt fmt, struct fm_rng *r)
{
    float v[256];
    const size_t n = fm_formats[fmt].block, bytes = fm_formats[fmt].block_bytes;
    for (int tries = 0, fine = 0; !fine && tries < 10000; tries++) {
        for (size_t i = 0; i < bytes; i++) block[i] = (char)fm_rng_below(r, 256);
        fm_formats[fmt].decode(v, block, n);
        float most = 0;
        for (size_t i = 0; i < n; i++) most = fmaxf(most, isfinite(v[i]) ? fabsf(v[i]) : INFINITY);
        fine = most > 1e-4f && most < 1e4f;
    }
}

/* Some different rows, repeated to the end. */
static void fill_weights(char *w, size_t row_bytes, int rows, int cols, enum fm_fmt fmt, float *row)
{
    enum { DISTINCT = 8 };
    struct fm_rng r;
    fm_rng_init(&r, (uint64_t)fmt + 1);
    const int first = rows < DISTINCT ? rows : DISTINCT;
    for (int i = 0; i < first; i++) {
        fill_floats(row, (size_t)cols, (uint64_t)i + 7);
        char *at = w + (size_t)i * row_bytes;
        if (fm_formats[fmt].encode)
            fm_formats[fmt].encode(at, row, (size_t)cols);
        else
            for (size_t b = 0; b < row_bytes; b += fm_formats[fmt].block_bytes) random_block(at + b, fmt, &r);
    }
    for (int i = first; i < rows; i++)
        memcpy(w + (size_t)i * row_bytes, w + (size_t)(i % first) * row_bytes, row_bytes);
}

struct matmul {
    struct fm_ctx c;
    struct fm_mat w;
    float *x, *y;
    int T;
};

static void run_matmul(void *arg)
{
    struct matmul *m = arg;
    m->c.op->matmul(&m->c, m->y, (size_t)m->w.rows, m->x, (size_t)m->w.cols, &m->w, m->T);
}

enum fm_status fm_limits_product(struct fm_limits *l, const struct fm_limits_product *p, double *seconds,
                                 struct fm_error *err)
{
    const size_t row_bytes = (size_t)fm_format_bytes(p->fmt, (uint64_t)p->K), w_bytes = row_bytes * (size_t)p->N,
                 x_floats = (size_t)p->T * (size_t)p->K, y_floats = (size_t)p->T * (size_t)p->N;
    struct area w = {0}, to = {0};
    const int group = fm_cpu_pack_rows(p->fmt, p->K);
    const bool packs = group > 0 && p->N >= group;
    float *x = fm_pages_alloc((x_floats + y_floats) * sizeof *x);
    enum fm_status st = FM_OK;
    if (!x || !area_new(&w, w_bytes, false) || (packs && !area_new(&to, w_bytes, true))) {
        st = fm_fail_memory(err, "measuring a product", w_bytes);
    } else {
        fill_weights(w.data, row_bytes, p->N, p->K, p->fmt, x);
        fill_floats(x, x_floats, 3);
        struct fm_packed packed = {.from = w.data, .to = to.data, .rows = p->N, .row_bytes = row_bytes};
        struct matmul m = {context(l, p->all), fm_mat_of(p->fmt, p->N, p->K, w.data), x, x + x_floats, p->T};
        if (packs) {
            m.w.packed = &packed;
            run_matmul(&m); /* the first one packs */
        }
        const double best = best_of(l, run_matmul, &m);
        st = m.c.status;
        if (st && err) *err = m.c.error;
        if (!st) *seconds = best;
    }
    area_free(&w);
    area_free(&to);
    fm_pages_free(x, (x_floats + y_floats) * sizeof *x);
    return st;
}

struct attention {
    struct fm_ctx c;
    struct fm_rows k, v;
    struct fm_attn a;
    struct fm_batch b;
    float *q, *y;
};

static void run_attention(void *arg)
{
    struct attention *t = arg;
    t->c.op->attn(&t->c, t->y, NULL, t->q, &t->k, &t->v, &t->a, &t->b);
}

enum fm_status fm_limits_attn(struct fm_limits *l, const struct fm_limits_attn *p, double *seconds,
                              struct fm_error *err)
{
    const struct fm_attn *a = &p->a;
    const size_t key = (size_t)a->Hkv * (size_t)a->Dk, value = p->shared ? 0 : (size_t)a->Hkv * (size_t)a->Dv,
                 q_floats = (size_t)p->T * (size_t)a->H * (size_t)a->Dk, kv_floats = (size_t)p->n * (key + value),
                 y_floats = (size_t)p->T * (size_t)a->H * (size_t)a->Dv, floats = q_floats + kv_floats + y_floats;
    float *at = fm_pages_alloc(floats * sizeof *at);
    if (!at) return fm_fail_memory(err, "measuring attention", floats * sizeof *at);
    fill_floats(at, floats, 11);
    float *kv = at + q_floats;
    struct fm_seq seq = {.n = p->T, .pos0 = p->n - p->T, .segment_pos0 = 0, .segment_n = p->n};
    struct attention t = {.c = context(l, p->all),
                          .k = {.flat = kv, .stride = key + value, .head = (size_t)a->Dk},
                          .v = {.flat = kv, .offset = p->shared ? 0 : key, .stride = key + value},
                          .a = *a,
                          .b = {.T = p->T, .n_seqs = 1, .seqs = &seq},
                          .q = at,
                          .y = kv + kv_floats};
    t.v.head = p->shared ? t.k.head : (size_t)a->Dv;
    const double best = best_of(l, run_attention, &t);
    enum fm_status st = t.c.status;
    if (st && err) *err = t.c.error;
    if (!st) *seconds = best;
    fm_pages_free(at, floats * sizeof *at);
    return st;
}

/* An item of a few microseconds: with less, the first thread would have done all of them before another one woke. */
static void little_work(void *arg, int begin, int end, int thread)
{
    (void)arg, (void)thread;
    unsigned x = 1;
    for (int i = 0; i < 4096 * (end - begin); i++) __asm__ volatile("" : "+r"(x) : : "memory");
}

enum { LOOPS = 100 };

static void run_loops(void *arg)
{
    for (int i = 0; i < LOOPS; i++) run_loop(arg);
}

double fm_limits_loop(struct fm_limits *l)
{
    struct loop alone = {l->pool[0], 1, 1, little_work, NULL},
                shared = {l->pool[1], l->n_threads, 1, little_work, NULL};
    const double one = best_of(l, run_loops, &alone), all = best_of(l, run_loops, &shared);
    return fmax(all - one, 0) / LOOPS;
}
