/* Tokens per second of a model file: prompts of several lengths in one segment, then single tokens behind them.
 *
 *   bench_decode MODEL [--exact] [--threads N] [--tokens N]
 *
 * Each number is the best of three runs: other programs only ever make a run slower. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fathom.h"

enum { RUNS = 3, LONGEST = 1024 };
static const int lengths[] = {1, 16, 128, 512, LONGEST};

static void die(const struct fm_error *err)
{
    (void)fprintf(stderr, "bench_decode: %s\n", err->message);
    exit(1);
}

static double seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void feed(struct fm_session *s, const int32_t *ids, int n)
{
    struct fm_error err;
    if (fm_session_feed(s, ids, n, NULL, &err)) die(&err);
}

/* Seconds to feed ids[n] behind the first `at` tokens, as one segment or one by one. */
static double best(struct fm_session *s, int at, const int32_t *ids, int n, int segment)
{
    double least = 1e30;
    for (int run = 0; run < RUNS; run++) {
        fm_session_rewind(s, at);
        double start = seconds();
        for (int i = 0; i < n; i += segment) feed(s, ids + i, segment);
        double took = seconds() - start;
        if (took < least) least = took;
    }
    return least;
}

static void measure(struct fm_engine *e, const int32_t *ids, int n_decode)
{
    const struct fm_model_info *m = fm_engine_info(e);
    struct fm_error err;
    struct fm_session *s;
    if (fm_session_new(e, 0, &s, &err)) die(&err);
    printf("%8s %16s %16s %16s %10s\n", "context", "prefill token/s", "decode token/s", "prefill GFLOP/s", "GB/s read");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int n = lengths[i];
        double prefill = n / best(s, 0, ids, n, n), decode = n_decode / best(s, n, ids, n_decode, 1);
        double flops = m->flops_per_token + m->flops_per_token_per_ctx * n / 2;
        double bytes = (double)m->active_weight_bytes + (double)m->kv_bytes_per_token * n;
        printf("%8d %16.1f %16.1f %16.2f %10.2f\n", n, prefill, decode, prefill * flops * 1e-9, decode * bytes * 1e-9);
        (void)fflush(stdout);
    }
    fm_session_free(s);
}

int main(int argc, char **argv)
{
    struct fm_engine_options o = {.ctx = LONGEST + 256};
    struct fm_engine *e;
    struct fm_error err;
    int n_decode = 32;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--exact"))
            o.exact = true;
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            o.threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--tokens") && i + 1 < argc)
            n_decode = atoi(argv[++i]);
        else
            o.model = argv[i];
    }
    if (!o.model || n_decode < 1 || n_decode > 256) {
        (void)fprintf(stderr, "usage: bench_decode MODEL [--exact] [--threads N] [--tokens 1…256]\n");
        return 2;
    }
    if (fm_engine_open(&o, &e, &err)) die(&err);
    const struct fm_model_info *m = fm_engine_info(e);
    int32_t *ids = malloc(LONGEST * sizeof *ids);
    if (!ids) return 1;
    for (int i = 0; i < LONGEST; i++) ids[i] = (int32_t)((unsigned)i * 2654435761u % (unsigned)m->vocab);
    printf("%s, %s, %.1f MB, %s, %s, %d threads\n", m->name, m->format, (double)m->weight_bytes * 1e-6,
           o.exact ? "exact" : "fast", fm_engine_tier(e), fm_engine_threads(e));
    measure(e, ids, n_decode);
    free(ids);
    fm_engine_close(e);
    return 0;
}
