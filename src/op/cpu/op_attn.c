/* Causal attention, flash style (Dao et al. 2022): for every query row the keys are folded in blocks of 64 absolute
 * positions, in order:
 *
 *   z = q·scale·kᵀ;  m' = max(m, max z);  y = y·e^(m−m') + e^(z−m')·v;  l = l·e^(m−m') + Σ e^(z−m')     at the end y/l
 *
 * starting anew every 512 positions, a span; the spans' (m, l, y) are merged in order by the same formula.
 * A tile is some rows × some heads that share a key head: rows of one gemm, row-major by position, then head.
 *
 *            keys 0…63   64…127   128…            one decoded token, latent attention: 16…128 heads are the rows
 *   pos 70 h0 ████████ ██                         one head, a prompt: up to 256 positions are the rows
 *   pos 70 h1 ████████ ██
 *   pos 71 h0 ████████ ███     rows before a block's first key take no part in it; within a block, keys after a row's
 *   pos 71 h1 ████████ ███     position get weight +0, which leaves the sums as they are
 *
 * One thread does a tile, or, when tiles are few (decoding), a span of a tile.  So a row's bits depend on its position
 * and its keys only: not on the tile, the chunk, threads or batch mates. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernel/math.h"
#include "op/cpu/backend.h"

enum {
    BLOCK = FM_KV_BLOCK,
    SPAN = 8 * BLOCK, /* changes the bits of longer contexts                       */
    ROWS_MAX = 256,   /* of a tile: enough to make packing of keys cheap     */
    ROWS_SPLIT = 32,  /* not cut further for the sake of threads             */
    HEADS_SPLIT = 8,  /* not either: gemm slows down with fewer rows         */
    DIAGONAL = 32,    /* rows at a time where the causal edge crosses        */
};

struct job {
    struct fm_ctx *c;
    float *y, *lse;
    const float *q;
    const struct fm_rows *k, *v;
    const struct fm_attn *a;
    const struct fm_batch *b;
    int group;       /* query heads per key head */
    int heads, rows; /* of a tile                */
    int n_tiles;
    int n_spans; /* of the longest row; 0: a thread does all spans of its tile */
};

/* What folding leaves behind for the m rows of a tile. */
struct state {
    float *y; /* [m,Dv] unnormalised */
    float *max, *sum;
};

struct tile {
    const struct fm_rows *k, *v;
    size_t k_head, v_head;
    int row0, pos0; /* first row of the step and its position */
    int n, h0, heads;
    int m;                 /* n·heads gemm rows                       */
    float *q;              /* [m,Dk] scaled                           */
    float *p;              /* [m,64] scores, then weights             */
    struct state now, all; /* this span; the spans before it together */
    float *work;
};

static struct state state_at(float *at, int m, int Dv)
{
    float *max = at + (size_t)m * Dv;
    return (struct state){at, max, max + m};
}

static size_t state_floats(int m, int Dv) { return (size_t)m * (Dv + 2); }

/* Where tile i lies; the scratch is carved from the thread's own. */
static struct tile tile_at(const struct job *j, int i, int thread)
{
    const struct fm_attn *a = j->a;
    int parts = (j->group + j->heads - 1) / j->heads, s = 0, blocks;
    for (;; s++) {
        blocks = (j->b->seqs[s].n + j->rows - 1) / j->rows;
        if (i < blocks * a->Hkv * parts) break;
        i -= blocks * a->Hkv * parts;
    }
    const struct fm_seq *seq = &j->b->seqs[s];
    int part = i % parts, hk = i / parts % a->Hkv, r0 = i / parts / a->Hkv * j->rows;
    struct tile t = {.k = &j->k[s], .v = &j->v[s], .row0 = seq->row0 + r0, .pos0 = seq->pos0 + r0};
    t.k_head = (size_t)hk * t.k->head;
    t.v_head = (size_t)hk * t.v->head;
    t.n = seq->n - r0 < j->rows ? seq->n - r0 : j->rows;
    t.h0 = hk * j->group + part * j->heads;
    t.heads = j->group - part * j->heads < j->heads ? j->group - part * j->heads : j->heads;
    t.m = t.n * t.heads;
    t.q = fm_cpu_tile(j->c, thread);
    t.p = t.q + (size_t)t.m * a->Dk;
    t.now = state_at(t.p + (size_t)t.m * BLOCK, t.m, a->Dv);
    t.all = state_at(t.now.y + state_floats(t.m, a->Dv), t.m, a->Dv);
    t.work = fm_cpu_work(j->c, thread);
    return t;
}

static void gather_queries(const struct job *j, const struct tile *t, const struct fm_kernels *k)
{
    size_t Dk = (size_t)j->a->Dk;
    for (int r = 0; r < t->n; r++)
        memcpy(t->q + r * t->heads * Dk, j->q + ((size_t)(t->row0 + r) * j->a->H + t->h0) * Dk,
               t->heads * Dk * sizeof(float));
    k->scale(t->q, j->a->scale, t->m * Dk);
}

/* p[i0 … i1, n] = q·kᵀ */
static void scores(const struct job *j, const struct tile *t, const struct fm_kernels *k, int i0, int i1, int s0, int n)
{
    int Dk = j->a->Dk;
    k->gemm_f32(i1 - i0, n, Dk, t->q + (size_t)i0 * Dk, Dk, 1, fm_rows_at(t->k, s0) + t->k_head, 1,
                (ptrdiff_t)t->k->stride, t->p + (size_t)i0 * BLOCK, BLOCK, false, t->work);
}

/* Turn row i's scores into weights: the first `seen` of n count, the rest become 0. */
static void soften(const struct job *j, const struct tile *t, const struct fm_kernels *k, int i, int seen, int n)
{
    float *p = t->p + (size_t)i * BLOCK, max = k->max(p, (size_t)seen);
    if (max > t->now.max[i]) {
        if (t->now.sum[i] > 0) {
            float fade = fm_expf(t->now.max[i] - max);
            k->scale(t->now.y + (size_t)i * j->a->Dv, fade, (size_t)j->a->Dv);
            t->now.sum[i] *= fade;
        }
        t->now.max[i] = max;
    }
    t->now.sum[i] += k->exp_sum(p, p, (size_t)seen, t->now.max[i]);
    for (int s = seen; s < n; s++) p[s] = 0;
}

/* y[i0 … i1, Dv] += p·v */
static void weigh(const struct job *j, const struct tile *t, const struct fm_kernels *k, int i0, int i1, int s0, int n)
{
    int Dv = j->a->Dv;
    const float *v = fm_rows_at(t->v, s0) + t->v_head, *p = t->p + (size_t)i0 * BLOCK;
    float *y = t->now.y + (size_t)i0 * Dv;
    if (i1 - i0 > 1)
        k->gemm_f32(i1 - i0, Dv, n, p, BLOCK, 1, v, (ptrdiff_t)t->v->stride, 1, y, Dv, true, t->work);
    else /* the same chains, but each value row is read in one run: it may come from memory */
        for (int s = 0; s < n; s++) k->axpy(y, p[s], v + s * t->v->stride, (size_t)Dv);
}

/* Keys s0 … s0+63, as far as the tile's rows see them.  Rows on the diagonal go a few at a time with the keys that the
 * last of them sees, the rest at once. */
static void fold(const struct job *j, const struct tile *t, const struct fm_kernels *k, int s0)
{
    int all = fm_min_int(t->pos0 + t->n - s0, BLOCK), step = (DIAGONAL + t->heads - 1) / t->heads;
    for (int r = s0 > t->pos0 ? s0 - t->pos0 : 0, end; r < t->n; r = end) {
        end = t->pos0 + r + 1 - s0 >= all ? t->n : fm_min_int(r + step, t->n);
        int i0 = r * t->heads, i1 = end * t->heads, n = fm_min_int(t->pos0 + end - s0, all);
        scores(j, t, k, i0, i1, s0, n);
        for (int i = i0; i < i1; i++) soften(j, t, k, i, fm_min_int(t->pos0 + i / t->heads + 1 - s0, n), n);
        weigh(j, t, k, i0, i1, s0, n);
    }
}

/* Fold a span into t->now, from nothing.  Rows before the span keep max = −inf. */
static void fold_span(const struct job *j, const struct tile *t, const struct fm_kernels *k, int span)
{
    int end = (span + 1) * SPAN < t->pos0 + t->n ? (span + 1) * SPAN : t->pos0 + t->n;
    memset(t->now.y, 0, (size_t)t->m * j->a->Dv * sizeof(float));
    for (int i = 0; i < t->m; i++) {
        t->now.max[i] = -INFINITY;
        t->now.sum[i] = 0;
    }
    for (int s0 = span * SPAN; s0 < end && !fm_cpu_cancelled(j->c); s0 += BLOCK) fold(j, t, k, s0);
}

/* all = all and then now, for the rows that saw something of now. */
static void merge(const struct state *all, const struct state *now, int m, int Dv, const struct fm_kernels *k)
{
    for (int i = 0; i < m; i++) {
        float *y = all->y + (size_t)i * Dv, a = all->max[i], n = now->max[i];
        if (n == -INFINITY) continue;
        if (n > a) k->scale(y, fm_expf(a - n), (size_t)Dv);
        float fade_all = n > a ? fm_expf(a - n) : 1, fade_now = n < a ? fm_expf(n - a) : 1;
        k->axpy(y, fade_now, now->y + (size_t)i * Dv, (size_t)Dv);
        all->sum[i] = all->sum[i] * fade_all + now->sum[i] * fade_now;
        all->max[i] = n > a ? n : a;
    }
}

/* y/l and lse.  Adding +0 turns a −0, which a masked key (0·v) may or may not have met, into +0. */
static void finish(const struct job *j, const struct tile *t, const struct state *all)
{
    int Dv = j->a->Dv;
    for (int i = 0; i < t->m; i++) {
        size_t at = (size_t)(t->row0 + i / t->heads) * j->a->H + t->h0 + i % t->heads;
        float *y = j->y + at * Dv, inv = 1 / all->sum[i];
        const float *from = all->y + (size_t)i * Dv;
        for (int d = 0; d < Dv; d++) y[d] = from[d] * inv + 0.0f;
        if (j->lse) j->lse[at] = all->max[i] + fm_logf(all->sum[i]);
    }
}

/* Whole tiles.  Late rows see most keys: longest first. */
static void run_tiles(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    const struct fm_kernels *k = fm_cpu_kernels(j->c);
    for (int i = begin; i < end; i++) {
        struct tile t = tile_at(j, j->n_tiles - 1 - i, thread);
        gather_queries(j, &t, k);
        fold_span(j, &t, k, 0);
        struct state first = t.now;
        t.now = t.all;
        for (int span = 1; span * SPAN < t.pos0 + t.n; span++) {
            fold_span(j, &t, k, span);
            merge(&first, &t.now, t.m, j->a->Dv, k);
        }
        finish(j, &t, &first);
    }
}

/* Scratch of span s of tile i: the shared rows. */
static struct state span_state(const struct job *j, int i, int s, int m)
{
    size_t each = state_floats(j->rows * j->heads, j->a->Dv);
    return state_at((float *)fm_cpu_backend(j->c)->rows + ((size_t)i * j->n_spans + s) * each, m, j->a->Dv);
}

static void run_spans(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    const struct fm_kernels *k = fm_cpu_kernels(j->c);
    for (int i = begin; i < end; i++) {
        int tile = i / j->n_spans, span = i % j->n_spans;
        struct tile t = tile_at(j, tile, thread);
        if (span * SPAN >= t.pos0 + t.n) continue;
        t.now = span_state(j, tile, span, t.m);
        gather_queries(j, &t, k);
        fold_span(j, &t, k, span);
    }
}

static void merge_spans(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    for (int i = begin; i < end; i++) {
        struct tile t = tile_at(j, i, thread);
        struct state all = span_state(j, i, 0, t.m);
        for (int span = 1; span * SPAN < t.pos0 + t.n; span++) {
            struct state now = span_state(j, i, span, t.m);
            merge(&all, &now, t.m, j->a->Dv, fm_cpu_kernels(j->c));
        }
        finish(j, &t, &all);
    }
}

static int count_tiles(const struct job *j)
{
    int n = 0, parts = (j->group + j->heads - 1) / j->heads;
    for (int s = 0; s < j->b->n_seqs; s++) n += (j->b->seqs[s].n + j->rows - 1) / j->rows * j->a->Hkv * parts;
    return n;
}

/* Spans apart, if that gives threads work and the scratch holds them. */
static int choose_spans(const struct job *j)
{
    int last = 0;
    for (int s = 0; s < j->b->n_seqs; s++) {
        int end = j->b->seqs[s].pos0 + j->b->seqs[s].n;
        last = end > last ? end : last;
    }
    int spans = (last + SPAN - 1) / SPAN;
    size_t floats = state_floats(j->rows * j->heads, j->a->Dv) * (size_t)j->n_tiles * (size_t)spans;
    bool few = fm_cpu_backend(j->c)->n_threads > 1 && j->n_tiles < 2 * fm_cpu_backend(j->c)->n_threads;
    return few && spans > 1 && floats * sizeof(float) <= FM_CPU_ROWS_BYTES ? spans : 0;
}

_Static_assert(FM_OP_HEAD_WIDTH + BLOCK + 2 * 2 <= FM_CPU_TILE, "one row at least");

/* As many gemm rows as the scratch holds, then smaller tiles until there is work for every thread.  Cutting heads makes
 * several threads read the same keys, so that comes last. */
static void choose_tiles(struct job *j)
{
    const struct fm_attn *a = j->a;
    int threads = fm_cpu_backend(j->c)->n_threads, rows = 1;
    int fit = FM_CPU_TILE / (a->Dk + BLOCK + 2 * (a->Dv + 2)), most = fit < ROWS_MAX ? fit : ROWS_MAX;
    assert(most > 0);
    for (int s = 0; s < j->b->n_seqs; s++) rows = j->b->seqs[s].n > rows ? j->b->seqs[s].n : rows;
    j->heads = j->group < most ? j->group : most;
    j->rows = rows < most / j->heads ? rows : most / j->heads;
    while ((j->n_tiles = count_tiles(j)) < 3 * threads && j->rows * j->heads > ROWS_SPLIT && j->rows > 1)
        j->rows = (j->rows + 1) / 2;
    j->n_spans = choose_spans(j);
    while (!j->n_spans && (j->n_tiles = count_tiles(j)) < threads && j->heads > HEADS_SPLIT)
        j->heads = (j->heads + 1) / 2;
}

/* Element operations of the whole call, for deciding whether to wake threads. */
static double cost(const struct job *j)
{
    double pairs = 0;
    for (int s = 0; s < j->b->n_seqs; s++) {
        const struct fm_seq *q = &j->b->seqs[s];
        pairs += (double)q->n * (q->pos0 + q->n);
    }
    return pairs * j->a->H * (j->a->Dk + j->a->Dv + BLOCK) / FM_CPU_MACS;
}

void fm_cpu_attn(struct fm_ctx *c, float *y, float *lse, const float *q, const struct fm_rows *k,
                 const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b)
{
    if (c->status) return;
    struct job j = {c, y, lse, q, k, v, a, b, a->H / a->Hkv, 0, 0, 0, 0};
    assert(a->H % a->Hkv == 0);
    choose_tiles(&j);
    if (j.n_spans && cost(&j) >= FM_CPU_GRAIN) {
        fm_cpu_for(c, j.n_tiles * j.n_spans, 1, run_spans, &j);
        fm_cpu_for(c, j.n_tiles, 1, merge_spans, &j);
    } else {
        fm_cpu_for(c, j.n_tiles, cost(&j) < FM_CPU_GRAIN ? j.n_tiles : 1, run_tiles, &j);
    }
}
