/* Training speed by shape: tokens and floating point operations per second, and the share of what matmul alone reaches.
 *
 *   bench_train [-t THREADS] [-s SECONDS] [-p GFLOPS] [PRESET …]
 *
 * A step is forward, backward and AdamW on random tokens, micro-batch as the trainer chooses it.  "per CPU second" counts
 * the time the cores really worked, so a busy machine shows there what a quiet one would show in the column before.
 * -p: peak to compare with, in GFLOP/s of one core; else measured with a large matmul first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "train/adamw.h"
#include "train/presets.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void die(const struct fm_error *err)
{
    fprintf(stderr, "bench_train: %s\n", err->message);
    exit(1);
}

struct bench {
    struct fm_pool *pool;
    void *backend;
    double seconds, peak; /* per shape; FLOP/s of one core */
};

/* ---- what matmul alone reaches on one core ---- */

static double measure_peak(void)
{
    enum { T = 2048, N = 512, K = 512 };
    struct fm_error err;
    struct fm_arena arena;
    void *backend = NULL;
    if (fm_arena_init(&arena, "peak", sizeof(float) * (T * (N + K) + N * K) + 4096, &err) ||
        fm_cpu_backend_new(NULL, &backend, &err))
        die(&err);
    struct fm_ctx c = {.op = &fm_ops_cpu, .arena = &arena, .backend = backend};
    float *x = fm_ctx_reals(&c, T * K, "x"), *y = fm_ctx_reals(&c, T * N, "y"), *w = fm_ctx_reals(&c, N * K, "w");
    for (int i = 0; i < T * K; i++) x[i] = (float)(i % 7) - 3;
    for (int i = 0; i < N * K; i++) w[i] = (float)(i % 5) - 2;
    const struct fm_mat m = fm_mat_of(FM_F32, N, K, w);
    double best = 0;
    for (int i = 0; i < 20; i++) {
        const double start = cpu_seconds();
        for (int j = 0; j < 4; j++) c.op->matmul(&c, y, N, x, K, &m, T);
        const double rate = 4 * 2.0 * T * N * K / (cpu_seconds() - start);
        if (rate > best) best = rate;
    }
    fm_cpu_backend_free(backend);
    fm_arena_release(&arena);
    return best;
}

/* ---- one shape ---- */

struct shape {
    struct fm_params p;
    struct fm_arena arena;
    struct fm_ctx ctx;
    struct fm_batch batch;
    struct fm_step step;
    double freq[512];
    int32_t *ids;
};

static void make_batch(struct shape *s, int seq, int micro)
{
    const int T = seq * micro, V = s->p.cfg.V;
    struct fm_rng rng;
    fm_rng_init(&rng, 1);
    s->ids = fm_malloc((size_t)T * 3 * sizeof *s->ids);
    struct fm_seq *seqs = fm_calloc((size_t)micro, sizeof *seqs);
    if (!s->ids || !seqs) exit(1);
    for (int i = 0; i < T; i++) {
        s->ids[i] = (int32_t)fm_rng_below(&rng, (uint64_t)V);
        s->ids[T + i] = i % seq;
        s->ids[2 * T + i] = (int32_t)fm_rng_below(&rng, (uint64_t)V);
    }
    for (int i = 0; i < micro; i++) seqs[i] = (struct fm_seq){.row0 = i * seq, .n = seq, .segment_n = seq};
    s->batch = (struct fm_batch){.T = T, .n_seqs = micro, .seqs = seqs, .ids = s->ids, .pos = s->ids + T};
    s->step = (struct fm_step){.target = s->ids + 2 * T,
                               .next = s->p.cfg.n_mtp ? s->ids + 2 * T : NULL,
                               .target2 = s->ids,
                               .scale = 1.0 / T,
                               .scale_mtp = 0.3 / T,
                               .balance_alpha = s->p.cfg.moe.router.E ? 1e-3 : 0,
                               .balance_seq_weight = 1.0 / micro};
}

static void model_step(struct shape *s)
{
    fm_model_step(&s->ctx, &s->p.cfg, &s->p.w, &s->p.dw, s->freq, &s->batch, &s->step);
    if (s->ctx.status) die(&s->ctx.error);
}

static void open_shape(const struct bench *b, struct shape *s, const struct fm_preset_row *p, int micro)
{
    struct fm_error err;
    struct fm_config cfg;
    struct fm_arena dry;
    json_t *j = fm_preset_config(p, p->V);
    if (fm_config_from_json(j, p->name, &cfg, &err) || fm_params_init(&s->p, &cfg, &err)) die(&err);
    json_decref(j);
    make_batch(s, p->seq, micro);
    fm_arena_init_dry(&dry, "dry");
    s->ctx = (struct fm_ctx){.op = &fm_ops_dry, .grad = &fm_ops_grad_dry, .arena = &dry};
    model_step(s);
    if (fm_arena_init(&s->arena, "step", dry.peak, &err) || fm_params_alloc(&s->p, true, &err)) die(&err);
    fm_params_start(&s->p, 1, b->pool);
    fm_rope_frequencies(&cfg, s->freq);
    s->ctx = (struct fm_ctx){
        .op = &fm_ops_cpu, .grad = &fm_ops_grad_cpu, .arena = &s->arena, .pool = b->pool, .backend = b->backend};
}

static void close_shape(struct shape *s)
{
    fm_free(s->ids);
    fm_free((void *)(uintptr_t)s->batch.seqs);
    fm_arena_release(&s->arena);
    fm_params_release(&s->p);
}

static void one_step(struct shape *s, int64_t t)
{
    const struct fm_adamw_rule rule = {1e-4, 0.9f, 0.95f, 1e-8f, 0.1f, 1};
    fm_adamw_zero(&s->ctx, &s->p);
    model_step(s);
    fm_adamw_step(&s->ctx, &s->p, &rule, t, fm_adamw_norm(&s->ctx, &s->p));
}

static void run_shape(const struct bench *b, const struct fm_preset_row *p)
{
    struct shape *s = fm_calloc(1, sizeof *s);
    struct fm_counts n;
    int micro = 2048 / p->seq;
    if (!s) exit(1);
    if (micro > p->batch) micro = p->batch;
    while (p->batch % micro) micro--;
    open_shape(b, s, p, micro);
    fm_model_count(&s->p.cfg, p->seq, &n);
    one_step(s, 1);
    const double start = now(), cpu = cpu_seconds();
    int64_t steps = 0;
    do one_step(s, ++steps + 1);
    while (now() - start < b->seconds || steps < 3);
    const double wall = now() - start, busy = cpu_seconds() - cpu, tokens = (double)steps * s->batch.T;
    const double flops = tokens * n.train_flops_per_token;
    printf("%-12s %7.2f %9.2f %9.2f %10d %9.0f %9.1f %13.1f %8.0f %%\n", p->name, (double)n.params_total / 1e6,
           (double)n.params_active / 1e6, n.train_flops_per_token / 1e6, s->batch.T, tokens / wall, flops / wall / 1e9,
           flops / busy / 1e9, 100 * flops / busy / b->peak);
    fflush(stdout);
    close_shape(s);
    fm_free(s);
}

int main(int argc, char **argv)
{
    struct bench b = {.seconds = 3};
    struct fm_error err;
    int threads = 0, o;
    while ((o = getopt(argc, argv, "t:s:p:")) != -1) {
        if (o == 't')
            threads = atoi(optarg);
        else if (o == 's')
            b.seconds = atof(optarg);
        else if (o == 'p')
            b.peak = atof(optarg) * 1e9;
        else
            return 2;
    }
    if (b.peak <= 0) b.peak = measure_peak();
    if (fm_pool_new(threads, &b.pool, &err) || fm_cpu_backend_new(b.pool, &b.backend, &err)) die(&err);
    printf("%d threads, %s, matmul on one core %.1f GFLOP/s\n", fm_pool_size(b.pool), fm_cpu_backend_tier(b.backend),
           b.peak / 1e9);
    printf("%-12s %7s %9s %9s %10s %9s %9s %13s %10s\n", "shape", "M param", "M active", "MFLOP/tok", "rows/micro",
           "tokens/s", "GFLOP/s", "per CPU second", "of matmul");
    for (int i = 0; i < fm_preset_count(); i++) {
        const struct fm_preset_row *p = fm_preset_find(fm_preset(i).name);
        bool wanted = optind == argc;
        for (int k = optind; k < argc; k++) wanted |= strcmp(argv[k], p->name) == 0;
        if (wanted) run_shape(&b, p);
    }
    fm_cpu_backend_free(b.backend);
    fm_pool_free(b.pool);
    return 0;
}
