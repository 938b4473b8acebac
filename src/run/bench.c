/* Tokens per second of a model, behind several depths and by several numbers of threads.
 *
 *   depth 0       │ prompt │ … again and again, then single tokens, with each number of threads
 *   depth 4096    │ fill with all threads │ prompt │ back to 4096 │ prompt │ back │ …
 *   depth 16384   │ fill from 4096 on … │
 *
 * Between two runs the session goes back to its depth, so that a depth is filled once for all numbers of threads. */
#include "run/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/host.h"
#include "base/mem.h"
#include "base/rng.h"
#include "run/run.h"

enum { PROMPT = 512, TOKENS = 64, RUNS = 5, RUNS_MAX = 1000, TOKENS_MAX = 1 << 20, BUDGET = 600 };
static const double LIMIT_SECONDS = 0.3;

struct fm_bench {
    struct fm_bench_options o;
    int depths[FM_BENCH_LIST], threads[FM_BENCH_LIST];
    struct fm_engine *e;
    struct fm_session *s;
    struct fm_forecast *f;
    int32_t *ids; /* [ctx] random */
    int done, total;
    double start, share; /* seconds that one row may take for its runs */
    volatile bool stop;
    struct fm_bench_result r;
    double times[RUNS_MAX];
};

/* ---- options --------------------------------------------------------------------------------------------------- */

static enum fm_status bad(struct fm_error *err, const char *what, int value, int min, int max)
{
    return fm_fail(err, FM_ERR_USAGE, "bench: %s: %d is not within %d … %d", what, value, min, max);
}

/* 0: the default; negative: none. */
static enum fm_status number(int *value, int standard, const char *what, struct fm_error *err)
{
    if (*value > TOKENS_MAX || *value < -1) return bad(err, what, *value, -1, TOKENS_MAX);
    *value = !*value ? standard : *value < 0 ? 0 : *value;
    return FM_OK;
}

static int by_size(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* Copies n numbers of v in order, each once. */
static enum fm_status list(int to[FM_BENCH_LIST], const int **v, int *n, const char *what, int min, int max,
                           struct fm_error *err)
{
    int kept = 0;
    if (*n < 1 || *n > FM_BENCH_LIST)
        return fm_fail(err, FM_ERR_USAGE, "bench: %s: %d of them, not 1 … %d", what, *n, FM_BENCH_LIST);
    for (int i = 0; i < *n; i++)
        if ((*v)[i] < min || (*v)[i] > max) return bad(err, what, (*v)[i], min, max);
    memcpy(to, *v, (size_t)*n * sizeof *to);
    qsort(to, (size_t)*n, sizeof *to, by_size);
    for (int i = 0; i < *n; i++)
        if (!i || to[i] != to[kept - 1]) to[kept++] = to[i];
    *v = to;
    *n = kept;
    return FM_OK;
}

static enum fm_status lists(struct fm_bench *b, struct fm_error *err)
{
    static const int usual[] = {0, 4096, 16384};
    struct fm_bench_options *o = &b->o;
    const int most = o->engine.threads ? o->engine.threads : fm_default_threads(), scaling[] = {1, most};
    if (!o->depths) o->depths = usual, o->n_depths = 3;
    if (!o->threads) o->threads = scaling, o->n_threads = 2;
    FM_TRY(list(b->depths, &o->depths, &o->n_depths, "depth", 0, FM_CTX_MAX - 2 * TOKENS_MAX, err));
    return list(b->threads, &o->threads, &o->n_threads, "threads", 1, 256, err);
}

static enum fm_status settle(struct fm_bench *b, struct fm_error *err)
{
    struct fm_bench_options *o = &b->o;
    FM_TRY(number(&o->prompt, PROMPT, "tokens of a prompt", err));
    FM_TRY(number(&o->tokens, TOKENS, "tokens to decode", err));
    FM_TRY(lists(b, err));
    if (o->runs < 0 || o->runs > RUNS_MAX) return bad(err, "runs", o->runs, 1, RUNS_MAX);
    if (!o->runs) o->runs = RUNS;
    if (!(o->budget >= 0)) return fm_fail(err, FM_ERR_USAGE, "bench: budget: %g seconds: negative", o->budget);
    if (o->budget == 0) o->budget = BUDGET;
    if (!o->prompt && !o->tokens) return fm_fail(err, FM_ERR_USAGE, "bench: tokens: nothing to measure");
    return FM_OK;
}

/* Tokens behind a depth that its rows need. */
static int behind(const struct fm_bench *b) { return b->o.prompt > b->o.tokens ? b->o.prompt : b->o.tokens; }

/* As much as the depths need and the model was made for. */
static enum fm_status choose_ctx(struct fm_bench *b, struct fm_error *err)
{
    struct fm_model_info *info;
    struct fm_engine_options *o = &b->o.engine;
    o->threads = b->threads[b->o.n_threads - 1];
    if (o->ctx) return FM_OK;
    FM_TRY(fm_model_inspect(o->model, &info, err));
    const int most = info->ctx_train > 0 ? info->ctx_train : FM_CTX_MAX;
    for (int i = 0; i < b->o.n_depths; i++)
        if (b->depths[i] + behind(b) <= most) o->ctx = b->depths[i] + behind(b);
    if (!o->ctx) o->ctx = b->depths[0] + behind(b);
    fm_model_info_free(info);
    return FM_OK;
}

/* ---- the model ------------------------------------------------------------------------------------------------- */

static enum fm_status open_model(struct fm_bench *b, struct fm_error *err)
{
    const double start = fm_seconds();
    FM_TRY(fm_engine_open(&b->o.engine, &b->e, err));
    b->r.open_seconds = fm_seconds() - start;
    FM_TRY(fm_session_new(b->e, 0, &b->s, err));
    FM_TRY(fm_forecast_new(&b->o.engine, NULL, &b->f, err));
    b->r.ctx = fm_session_ctx(b->s);
    b->r.model = fm_engine_info(b->e);
    b->ids = fm_calloc((size_t)b->r.ctx, sizeof *b->ids);
    if (!b->ids) return fm_fail_memory(err, "bench tokens", (size_t)b->r.ctx * sizeof *b->ids);
    struct fm_rng rng;
    fm_rng_init(&rng, 1);
    for (int i = 0; i < b->r.ctx; i++) b->ids[i] = (int32_t)fm_rng_below(&rng, (uint32_t)b->r.model->vocab);
    return FM_OK;
}

enum fm_status fm_bench_new(const struct fm_bench_options *o, struct fm_bench **out, struct fm_error *err)
{
    struct fm_bench *b = fm_calloc(1, sizeof *b);
    if (!b) return fm_fail_memory(err, "a bench", sizeof *b);
    enum fm_status st;
    b->o = *o;
    fm_machine_facts(&b->r.machine); /* its load before ours */
    FM_GOTO(settle(b, err));
    FM_GOTO(choose_ctx(b, err));
    FM_GOTO(open_model(b, err));
    *out = b;
    return FM_OK;
out:
    fm_bench_free(b);
    return st;
}

void fm_bench_free(struct fm_bench *b)
{
    if (!b) return;
    fm_forecast_free(b->f);
    fm_session_free(b->s);
    fm_engine_close(b->e);
    fm_free(b->ids);
    fm_free(b);
}

void fm_bench_cancel(struct fm_bench *b)
{
    b->stop = true;
    fm_session_cancel(b->s);
}

/* ---- runs ------------------------------------------------------------------------------------------------------ */

static enum fm_status tell(struct fm_bench *b, const char *what, struct fm_error *err)
{
    if (b->o.progress && !b->o.progress(b->o.arg, what, b->done, b->total)) b->stop = true;
    return b->stop ? fm_fail(err, FM_ERR_CANCELLED, "bench: %s: stopped by the user", what) : FM_OK;
}

static enum fm_status feed(struct fm_bench *b, int n, struct fm_error *err)
{
    return fm_session_feed_on(b->s, b->ids + fm_session_length(b->s), n, NULL, err);
}

/* One run behind the depth, and back. */
static enum fm_status run(struct fm_bench *b, const struct fm_bench_row *row, double *seconds, struct fm_error *err)
{
    const int piece = row->decode ? 1 : row->tokens;
    enum fm_status st = FM_OK;
    fm_session_rewind(b->s, row->depth);
    const double start = fm_seconds();
    for (int at = 0; at < row->tokens && !st; at += piece) st = feed(b, piece, err);
    *seconds = fmax(fm_seconds() - start, 1e-9);
    return st;
}

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(struct fm_bench *b, struct fm_bench_row *row)
{
    const int n = row->runs;
    double *t = b->times;
    qsort(t, (size_t)n, sizeof *t, by_time);
    row->rate = row->tokens / (0.5 * (t[(n - 1) / 2] + t[n / 2]));
    row->slowest = row->tokens / t[n - 1];
    row->fastest = row->tokens / t[0];
}

/* All runs of a row; the first single token is fed before them: threads have just been made, the caches were another's. */
static enum fm_status measure(struct fm_bench *b, struct fm_bench_row *row, struct fm_error *err)
{
    char what[96];
    snprintf(what, sizeof what, "%s of %d behind %d, %d thread%s", row->decode ? "decode" : "prefill", row->tokens,
             row->depth, row->threads, row->threads == 1 ? "" : "s");
    fm_session_rewind(b->s, row->depth);
    FM_TRY(feed(b, 1, err));
    for (const double stop = fm_seconds() + b->share; row->runs < b->o.runs && (!row->runs || fm_seconds() < stop);) {
        FM_TRY(tell(b, what, err));
        FM_TRY(run(b, row, &b->times[row->runs], err));
        row->runs++;
    }
    summarise(b, row);
    return FM_OK;
}

/* ---- depths ---------------------------------------------------------------------------------------------------- */

static double left(const struct fm_bench *b) { return b->start + b->o.budget - fm_seconds(); }

/* The rate of the last row of that kind and number of threads; 0: there is none. */
static double known_rate(const struct fm_bench *b, bool decode, int threads)
{
    for (int i = b->r.n_rows; i-- > 0;)
        if (b->r.rows[i].runs && b->r.rows[i].decode == decode && b->r.rows[i].threads == threads)
            return b->r.rows[i].rate;
    return 0;
}

/* Seconds that filling up to a depth and one run of each row will take at least. */
static double forecast(const struct fm_bench *b, int depth)
{
    const int most = b->threads[b->o.n_threads - 1];
    const double fill = known_rate(b, false, most);
    double seconds = fill > 0 ? (depth - fm_session_length(b->s)) / fill : 0;
    for (int t = 0; t < b->o.n_threads; t++) {
        const double p = known_rate(b, false, b->threads[t]), d = known_rate(b, true, b->threads[t]);
        seconds += (p > 0 ? b->o.prompt / p : 0) + (d > 0 ? b->o.tokens / d : 0);
    }
    return seconds;
}

static const char *why_not(const struct fm_bench *b, int depth)
{
    if (depth + behind(b) > b->r.ctx) return "the context is shorter";
    if (depth > 0 && forecast(b, depth) > left(b)) return "there is no time left";
    return NULL;
}

/* Up to the depth, with all threads. */
static enum fm_status fill(struct fm_bench *b, int depth, struct fm_error *err)
{
    char what[64];
    if (fm_session_length(b->s) >= depth) return FM_OK;
    FM_TRY(fm_engine_set_threads(b->e, b->threads[b->o.n_threads - 1], err));
    for (int at; (at = fm_session_length(b->s)) < depth;) {
        snprintf(what, sizeof what, "filling: %d of %d tokens", at, depth);
        FM_TRY(tell(b, what, err));
        FM_TRY(feed(b, depth - at < PROMPT ? depth - at : PROMPT, err));
    }
    return FM_OK;
}

static struct fm_bench_row *add_row(struct fm_bench *b, bool decode, int threads, int depth)
{
    struct fm_bench_row *row = &b->r.rows[b->r.n_rows++];
    *row = (struct fm_bench_row){
        .decode = decode, .threads = threads, .depth = depth, .tokens = decode ? b->o.tokens : b->o.prompt};
    fm_bench_work(b->f, b->o.engine.exact, row);
    return row;
}

static enum fm_status with_threads(struct fm_bench *b, int threads, int depth, struct fm_error *err)
{
    FM_TRY(fm_engine_set_threads(b->e, threads, err));
    for (int decode = 0; decode < 2; decode++) {
        if (!(decode ? b->o.tokens : b->o.prompt)) continue;
        FM_TRY(measure(b, add_row(b, decode, threads, depth), err));
        b->done++;
    }
    return FM_OK;
}

static void leave_out(struct fm_bench *b, int depth, const char *why)
{
    for (int t = 0; t < b->o.n_threads; t++)
        for (int decode = 0; decode < 2; decode++) {
            if (!(decode ? b->o.tokens : b->o.prompt)) continue;
            add_row(b, decode, b->threads[t], depth)->left_out = why;
            b->done++;
        }
}

static enum fm_status at_depth(struct fm_bench *b, int depth, struct fm_error *err)
{
    const char *why = why_not(b, depth);
    if (why) {
        leave_out(b, depth, why);
        return FM_OK;
    }
    fm_session_rewind(b->s, depth); /* the last depth's runs */
    FM_TRY(fill(b, depth, err));
    for (int t = 0; t < b->o.n_threads; t++) FM_TRY(with_threads(b, b->threads[t], depth, err));
    return FM_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

/* The weights come into memory, and the logits show that they are weights. */
static enum fm_status warm_up(struct fm_bench *b, struct fm_error *err)
{
    const int n = b->o.prompt ? b->o.prompt : 1, V = b->r.model->vocab;
    FM_TRY(tell(b, "warming up", err));
    fm_session_rewind(b->s, 0);
    FM_TRY(feed(b, n < b->r.ctx ? n : b->r.ctx, err));
    const float *l = fm_session_logits(b->s);
    float least = l[0], most = l[0];
    bool finite = true;
    for (int i = 0; i < V; i++) {
        finite = finite && isfinite(l[i]);
        least = fminf(least, l[i]);
        most = fmaxf(most, l[i]);
    }
    if (finite && most > least) return FM_OK;
    return fm_fail(err, FM_ERR_INPUT, "bench: %s: its logits are %s: such weights cannot be timed", b->r.model->path,
                   finite ? "all the same" : "not finite");
}

static enum fm_status limits(struct fm_bench *b, struct fm_error *err)
{
    const double bytes = fm_bench_active_bytes(b->f), seconds = fmin(LIMIT_SECONDS, b->o.budget / 200);
    for (int t = 0; t < b->o.n_threads; t++) {
        FM_TRY(tell(b, "limits of this machine", err));
        FM_TRY(fm_bench_measure_limit(b->threads[t], seconds, bytes, &b->r.limits[t], err));
        b->r.n_limits = t + 1;
        b->done++;
    }
    return FM_OK;
}

static void bound_rows(struct fm_bench *b)
{
    for (int i = 0; i < b->r.n_rows; i++)
        for (int t = 0; t < b->r.n_limits; t++)
            if (b->r.limits[t].threads == b->r.rows[i].threads) fm_bench_bound(&b->r.limits[t], &b->r.rows[i]);
}

enum fm_status fm_bench_run(struct fm_bench *b, const struct fm_bench_result **out, struct fm_error *err)
{
    const int kinds = (b->o.prompt > 0) + (b->o.tokens > 0), rows = b->o.n_threads * b->o.n_depths * kinds;
    b->start = fm_seconds();
    b->r.n_rows = b->r.n_limits = b->done = 0;
    b->total = rows + b->o.n_threads;
    b->share = b->o.budget / rows;
    FM_TRY(warm_up(b, err));
    for (int d = 0; d < b->o.n_depths; d++) FM_TRY(at_depth(b, b->depths[d], err));
    b->r.resident_bytes = fm_host_resident_peak(""); /* before the limits take memory of their own */
    FM_TRY(limits(b, err));
    FM_TRY(tell(b, "done", err));
    bound_rows(b);
    b->r.seconds = fm_seconds() - b->start;
    *out = &b->r;
    return FM_OK;
}
