/* Where the time of a step goes: every slot of the operation table timed, products by matrix shape with the bytes they
 * read.
 *
 *   bench_step MODEL [--threads N] [--tokens N] [--depth N] [--rows N | --streams N [--temp X]]
 *
 * --rows 1 (the usual): decoding, one token at a time, N tokens behind a context of depth.  More rows: segments of that
 * many tokens.  --streams N: N answers of a scheduler together, sampled at temperature X (0) and turned into text; a line of
 * tokens counts all of them.  What no slot accounts for (without --streams nothing is sampled) is in the last line. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "op/slots.h"
#include "run/scheduler.h"

enum { MOST = 256 };

struct line {
    char name[72];
    double seconds, bytes;
    long calls;
};
static struct line lines[MOST];
static int n_lines;

static void note(const char *name, double seconds, double bytes)
{
    int i = 0;
    while (i < n_lines && strcmp(lines[i].name, name)) i++;
    if (i == MOST) return;
    if (i == n_lines) (void)snprintf(lines[n_lines++].name, sizeof lines[0].name, "%s", name);
    lines[i].seconds += seconds;
    lines[i].bytes += bytes;
    lines[i].calls++;
}

static double size_of(const struct fm_mat *w) { return (double)w->rows * (double)w->row_bytes; }

static void note_mat(const char *slot, const struct fm_mat *w, int n, double seconds, double bytes)
{
    char name[72];
    (void)snprintf(name, sizeof name, "%s %d x %dx%d %s", slot, n, w->rows, w->cols, fm_formats[w->fmt].name);
    note(name, seconds, bytes);
}

#define PLAIN(SLOT, PARAMS, ARGS)             \
    static void t_##SLOT                      \
    PARAMS                                    \
    {                                         \
        const double start = fm_seconds();    \
        fm_ops_cpu.SLOT                       \
        ARGS;                                 \
        note(#SLOT, fm_seconds() - start, 0); \
    }

PLAIN(embed, (struct fm_ctx * c, float *y, const struct fm_mat *w, const int32_t *ids, int T), (c, y, w, ids, T))
PLAIN(add, (struct fm_ctx * c, float *y, const float *a, const float *b, size_t n), (c, y, a, b, n))
PLAIN(add_bias, (struct fm_ctx * c, float *y, const float *bias, int T, int N), (c, y, bias, T, N))
PLAIN(copy,
      (struct fm_ctx * c, float *dst, size_t dst_ld, const float *src, size_t src_ld, int repeat, int rows, int cols),
      (c, dst, dst_ld, src, src_ld, repeat, rows, cols))
PLAIN(rms_norm,
      (struct fm_ctx * c, float *y, size_t ldy, const float *x, size_t ldx, const float *w, int rows, int D, float eps),
      (c, y, ldy, x, ldx, w, rows, D, eps))
PLAIN(rope_table, (struct fm_ctx * c, float *cs, const int32_t *pos, int T, const double *freq, int half),
      (c, cs, pos, T, freq, half))
PLAIN(rope,
      (struct fm_ctx * c, float *x, size_t x_t, size_t x_h, int H, int T, const float *cs, int half, bool interleaved,
       bool inverse),
      (c, x, x_t, x_h, H, T, cs, half, interleaved, inverse))
PLAIN(swiglu, (struct fm_ctx * c, float *y, const float *g, const float *u, size_t n), (c, y, g, u, n))
PLAIN(store,
      (struct fm_ctx * c, const struct fm_rows *dst, const float *src, size_t ld, int cols, const struct fm_batch *b),
      (c, dst, src, ld, cols, b))
PLAIN(fetch, (struct fm_ctx * c, float *dst, const struct fm_rows *src, int n, int cols), (c, dst, src, n, cols))
PLAIN(attn,
      (struct fm_ctx * c, float *y, float *lse, const float *q, const struct fm_rows *k, const struct fm_rows *v,
       const struct fm_attn *a, const struct fm_batch *b),
      (c, y, lse, q, k, v, a, b))
PLAIN(router,
      (struct fm_ctx * c, int32_t *idx, float *w, float *scores, const float *logits, const float *bias,
       const struct fm_router *r, int T),
      (c, idx, w, scores, logits, bias, r, T))
PLAIN(moe_sort,
      (struct fm_ctx * c, int32_t *order, int32_t *slot, int32_t *first, const int32_t *idx, int T, int K, int E),
      (c, order, slot, first, idx, T, K, E))
PLAIN(moe_gather, (struct fm_ctx * c, float *y, const float *x, const int32_t *order, int K, int n, int D),
      (c, y, x, order, K, n, D))
PLAIN(moe_combine,
      (struct fm_ctx * c, float *y, const float *x, const float *w, const int32_t *slot, int T, int K, int D,
       bool accumulate),
      (c, y, x, w, slot, T, K, D, accumulate))

static void t_matmul(struct fm_ctx *c, float *y, size_t ldy, const float *x, size_t ldx, const struct fm_mat *w, int T)
{
    const double start = fm_seconds();
    fm_ops_cpu.matmul(c, y, ldy, x, ldx, w, T);
    note_mat("matmul", w, 1, fm_seconds() - start, size_of(w));
}

static void t_matmul_n(struct fm_ctx *c, int n, float *const *y, const float *x, size_t ldx,
                       const struct fm_mat *const *w, int T)
{
    const double start = fm_seconds();
    double bytes = 0;
    fm_ops_cpu.matmul_n(c, n, y, x, ldx, w, T);
    for (int i = 0; i < n; i++) bytes += size_of(w[i]);
    note_mat("matmul_n", w[0], n, fm_seconds() - start, bytes);
}

static void t_matmul_heads(struct fm_ctx *c, float *y, size_t y_t, size_t y_h, const float *x, size_t x_t, size_t x_h,
                           const struct fm_mat *w, int head_rows, int row0, int n, int H, int T)
{
    const double start = fm_seconds();
    fm_ops_cpu.matmul_heads(c, y, y_t, y_h, x, x_t, x_h, w, head_rows, row0, n, H, T);
    note_mat("matmul_heads", w, n, fm_seconds() - start, (double)n * H * (double)w->row_bytes);
}

static double bytes_of_groups(const struct fm_mat *w, const int32_t *start, int E)
{
    double bytes = 0;
    for (int e = 0; e < E; e++) bytes += start[e + 1] > start[e] ? size_of(&w[e]) : 0;
    return bytes;
}

static void t_matmul_grouped(struct fm_ctx *c, int n, float *const *y, const float *x, const struct fm_mat *const *w,
                             const int32_t *at, int E)
{
    const double start = fm_seconds();
    double bytes = 0;
    fm_ops_cpu.matmul_grouped(c, n, y, x, w, at, E);
    const double seconds = fm_seconds() - start;
    for (int i = 0; i < n; i++) bytes += bytes_of_groups(w[i], at, E);
    note_mat("matmul_grouped", w[0], n * E, seconds, bytes);
}

static const struct fm_ops timed = {.name = "timed", FM_OP_ROWS(t_)};

static void die(const struct fm_error *err)
{
    (void)fprintf(stderr, "bench_step: %s\n", err->message);
    exit(1);
}

static int falling(const void *a, const void *b)
{
    const double x = ((const struct line *)a)->seconds, y = ((const struct line *)b)->seconds;
    return (x < y) - (x > y);
}

static void print(double seconds, int tokens)
{
    double known = 0, bytes = 0;
    qsort(lines, (size_t)n_lines, sizeof *lines, falling);
    printf("%10s %6s %8s %9s %8s\n", "us/token", "%", "calls", "MB/token", "GB/s");
    for (int i = 0; i < n_lines; i++) {
        const struct line *l = &lines[i];
        printf("%10.1f %6.2f %8.1f %9.2f %8.2f  %s\n", l->seconds / tokens * 1e6, l->seconds / seconds * 100,
               (double)l->calls / tokens, l->bytes / tokens * 1e-6, l->bytes / l->seconds * 1e-9, l->name);
        known += l->seconds;
        bytes += l->bytes;
    }
    printf("%10.1f %6.2f %8s %9s %8s  outside of the operations\n", (seconds - known) / tokens * 1e6,
           (seconds - known) / seconds * 100, "", "", "");
    printf("%10.1f %6.2f %8s %9.2f %8.2f  in all: %.2f tokens/s\n", seconds / tokens * 1e6, 100.0, "",
           bytes / tokens * 1e-6, bytes / seconds * 1e-9, tokens / seconds);
}

static void feed(struct fm_session *s, const int32_t *ids, int n)
{
    struct fm_error err;
    if (fm_session_feed(s, ids, n, NULL, &err)) die(&err);
}

/* ---- streams ---- */

struct race {
    struct fm_scheduler *s;
    int streams, begun, tokens, wanted; /* begun: have a token; when all have: tokens since then */
    double start, seconds;
    bool over;
    pthread_mutex_t lock;
    pthread_cond_t end;
};
struct stream {
    struct race *race;
    bool begun;
};

static void finish(struct race *r)
{
    (void)pthread_mutex_lock(&r->lock);
    if (!r->over) r->seconds = fm_seconds() - r->start;
    r->over = true;
    r->s->ctx_step.op = &fm_ops_cpu;
    (void)pthread_cond_signal(&r->end);
    (void)pthread_mutex_unlock(&r->lock);
}

/* On the scheduler's thread, between two steps: there the table of operations may change. */
static void on_token(void *arg, const struct fm_token_event *ev)
{
    struct stream *m = arg;
    struct race *r = m->race;
    (void)ev;
    if (r->begun == r->streams && !r->over && ++r->tokens == r->wanted) finish(r);
    if (m->begun) return;
    m->begun = true;
    if (++r->begun < r->streams) return;
    r->s->ctx_step.op = &timed;
    r->start = fm_seconds();
}

static void on_end(void *arg, const struct fm_request_result *result)
{
    if (result->end == FM_END_FAILED) die(&result->error);
    finish(((struct stream *)arg)->race);
}

static void race(struct fm_engine *e, const int32_t *ids, int streams, int depth, int tokens, float temp)
{
    struct race r = {.streams = streams,
                     .wanted = tokens * streams,
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .end = PTHREAD_COND_INITIALIZER,
                     .begun = 0};
    struct fm_error err;
    if (fm_scheduler_new(e, &(struct fm_scheduler_options){.slots = streams, .no_cache = true}, &r.s, &err)) die(&err);
    struct stream *m = calloc((size_t)streams, sizeof *m);
    if (!m) exit(1);
    for (int i = 0; i < streams; i++) {
        struct fm_request *request;
        struct fm_request_options o = {.ids = ids + i, .n_ids = depth, .top = -1, .ignore_end = true, .arg = &m[i]};
        m[i].race = &r;
        o.sampling = (struct fm_sampling){.temp = temp, .top_p = 1, .repeat = 1, .seed = (uint64_t)i};
        o.max_tokens = -1;
        o.on_token = on_token;
        o.on_end = on_end;
        if (fm_scheduler_submit(r.s, &o, &request, NULL, &err)) die(&err);
        fm_request_free(request);
    }
    (void)pthread_mutex_lock(&r.lock);
    while (!r.over) (void)pthread_cond_wait(&r.end, &r.lock);
    (void)pthread_mutex_unlock(&r.lock);
    print(r.seconds, r.tokens);
    fm_scheduler_free(r.s);
    free(m);
}

int main(int argc, char **argv)
{
    struct fm_engine_options o = {0};
    struct fm_engine *e;
    struct fm_session *s;
    struct fm_error err;
    int tokens = 32, depth = 8, rows = 1, streams = 0;
    float temp = 0;
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--threads") && more)
            o.threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--tokens") && more)
            tokens = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--depth") && more)
            depth = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--rows") && more)
            rows = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--streams") && more)
            streams = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--temp") && more)
            temp = strtof(argv[++i], NULL);
        else
            o.model = argv[i];
    }
    if (!o.model || tokens < 1 || depth < 0 || rows < 1 || streams < 0 || streams > 256) {
        (void)fprintf(
            stderr,
            "usage: bench_step MODEL [--threads N] [--tokens N] [--depth N] [--rows N | --streams N [--temp X]]\n");
        return 2;
    }
    if (streams && !depth) depth = 1;
    const int count = depth + rows + streams * (streams ? depth + 1 : 0) + (tokens + rows - 1) / rows * rows;
    o.ctx = count;
    if (fm_engine_open(&o, &e, &err) || fm_session_new(e, 0, &s, &err)) die(&err);
    int32_t *ids = malloc((size_t)count * sizeof *ids);
    if (!ids) return 1;
    for (int i = 0; i < count; i++) ids[i] = (int32_t)((unsigned)i * 2654435761u % (unsigned)e->info->vocab);
    if (streams) {
        race(e, ids, streams, depth, tokens, temp);
        goto out;
    }
    if (depth) feed(s, ids, depth);
    feed(s, ids + depth, rows); /* warm */
    e->ctx.op = &timed;
    const double start = fm_seconds();
    for (int i = 0; i < tokens; i += rows) feed(s, ids + depth + rows + i, rows);
    print(fm_seconds() - start, (tokens + rows - 1) / rows * rows);
out:
    free(ids);
    fm_session_free(s);
    fm_engine_close(e);
    return 0;
}
