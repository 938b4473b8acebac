/* Causal attention, flash style (Dao et al. 2022): for every query row the keys are folded in blocks of 64 absolute
 * positions, in order:
 *
 *   z = q·scale·kᵀ;  m' = max(m, max z);  y = y·e^(m−m') + e^(z−m')·v;  l = l·e^(m−m') + Σ e^(z−m')     at the end y/l
 *
 * A tile is some rows × some heads that share a key head: rows of one gemm, row-major by position, then head.
 *
 *            keys 0…63   64…127   128…            one decoded token, latent attention: 16…128 heads are the rows
 *   pos 70 h0 ████████ ██                         one head, a prompt: up to 256 positions are the rows
 *   pos 70 h1 ████████ ██
 *   pos 71 h0 ████████ ███     rows before a block's first key take no part in it; within a block, keys after a row's
 *   pos 71 h1 ████████ ███     position get weight +0, which leaves the sums as they are
 *
 * So a row's bits depend on its position and its keys only: not on the tile, the chunk, threads or batch mates. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernel/math.h"
#include "op/cpu/backend.h"

enum {
    BLOCK = FM_KV_BLOCK,
    ROWS_MAX = 256,  /* of a tile: enough to make packing of keys cheap                 */
    ROWS_SPLIT = 32, /* not cut further for the sake of threads                         */
    GEMV_ROWS = 4,   /* fewer: read keys and values in place, one row at a time         */
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
};

struct tile {
    const struct fm_rows *k, *v;
    size_t k_head, v_head;
    int row0, pos0; /* first row of the step and its position */
    int n, h0, heads;
    int m;        /* n·heads gemm rows */
    float *q, *y; /* [m,Dk] scaled, [m,Dv] unnormalised */
    float *p;     /* [m,64] scores, then weights        */
    float *max, *sum;
    float *work;
};

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
    t.y = t.q + (size_t)t.m * a->Dk;
    t.p = t.y + (size_t)t.m * a->Dv;
    t.max = t.p + (size_t)t.m * BLOCK;
    t.sum = t.max + t.m;
    t.work = fm_cpu_work(j->c, thread);
    return t;
}

static void begin_tile(const struct job *j, struct tile *t, const struct fm_kernels *k)
{
    size_t Dk = (size_t)j->a->Dk;
    for (int r = 0; r < t->n; r++)
        memcpy(t->q + r * t->heads * Dk, j->q + ((size_t)(t->row0 + r) * j->a->H + t->h0) * Dk,
               t->heads * Dk * sizeof(float));
    k->scale(t->q, j->a->scale, t->m * Dk);
    memset(t->y, 0, (size_t)t->m * j->a->Dv * sizeof(float));
    for (int i = 0; i < t->m; i++) {
        t->max[i] = -INFINITY;
        t->sum[i] = 0;
    }
}

/* p[i0 … m, n] = q·kᵀ */
static void scores(const struct job *j, const struct tile *t, const struct fm_kernels *k, int i0, int s0, int n)
{
    int Dk = j->a->Dk;
    const float *key = fm_rows_at(t->k, s0) + t->k_head, *q = t->q + (size_t)i0 * Dk;
    float *p = t->p + (size_t)i0 * BLOCK;
    if (t->m - i0 < GEMV_ROWS)
        for (int i = i0; i < t->m; i++, q += Dk, p += BLOCK)
            k->gemv[FM_F32](p, key, t->k->stride * sizeof(float), q, n, Dk);
    else
        k->gemm_f32(t->m - i0, n, Dk, q, Dk, 1, key, 1, (ptrdiff_t)t->k->stride, p, BLOCK, false, t->work);
}

/* Turn row i's scores into weights: the first `seen` of n count, the rest become 0. */
static void soften(const struct job *j, const struct tile *t, const struct fm_kernels *k, int i, int seen, int n)
{
    float *p = t->p + (size_t)i * BLOCK, max = k->max(p, (size_t)seen);
    if (max > t->max[i]) {
        if (t->sum[i] > 0) {
            float fade = fm_expf(t->max[i] - max);
            k->scale(t->y + (size_t)i * j->a->Dv, fade, (size_t)j->a->Dv);
            t->sum[i] *= fade;
        }
        t->max[i] = max;
    }
    t->sum[i] += k->exp_sum(p, p, (size_t)seen, t->max[i]);
    for (int s = seen; s < n; s++) p[s] = 0;
}

/* y[i0 … m, Dv] += p·v */
static void weigh(const struct job *j, const struct tile *t, const struct fm_kernels *k, int i0, int s0, int n)
{
    int Dv = j->a->Dv;
    const float *v = fm_rows_at(t->v, s0) + t->v_head, *p = t->p + (size_t)i0 * BLOCK;
    float *y = t->y + (size_t)i0 * Dv;
    if (t->m - i0 < GEMV_ROWS)
        for (int s = 0; s < n; s++)
            for (int i = 0; i < t->m - i0; i++)
                k->axpy(y + (size_t)i * Dv, p[i * BLOCK + s], v + s * t->v->stride, (size_t)Dv);
    else
        k->gemm_f32(t->m - i0, Dv, n, p, BLOCK, 1, v, (ptrdiff_t)t->v->stride, 1, y, Dv, true, t->work);
}

/* Keys s0 … s0+63, as far as the tile's rows see them. */
static void fold(const struct job *j, const struct tile *t, const struct fm_kernels *k, int s0)
{
    int last = t->pos0 + t->n - 1, n = last + 1 - s0 < BLOCK ? last + 1 - s0 : BLOCK;
    int i0 = s0 > t->pos0 ? (s0 - t->pos0) * t->heads : 0;
    scores(j, t, k, i0, s0, n);
    for (int i = i0; i < t->m; i++) {
        int seen = t->pos0 + i / t->heads + 1 - s0;
        soften(j, t, k, i, seen < n ? seen : n, n);
    }
    weigh(j, t, k, i0, s0, n);
}

/* y/l and lse.  Adding +0 turns a −0, which a masked key (0·v) may or may not have met, into +0. */
static void end_tile(const struct job *j, const struct tile *t)
{
    int Dv = j->a->Dv;
    for (int i = 0; i < t->m; i++) {
        size_t at = (size_t)(t->row0 + i / t->heads) * j->a->H + t->h0 + i % t->heads;
        float *y = j->y + at * Dv, inv = 1 / t->sum[i];
        const float *from = t->y + (size_t)i * Dv;
        for (int d = 0; d < Dv; d++) y[d] = from[d] * inv + 0.0f;
        if (j->lse) j->lse[at] = t->max[i] + fm_logf(t->sum[i]);
    }
}

static void run_tiles(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    const struct fm_kernels *k = fm_cpu_kernels(j->c);
    for (int i = begin; i < end; i++) {
        struct tile t = tile_at(j, j->n_tiles - 1 - i, thread); /* late rows see most keys: longest first */
        begin_tile(j, &t, k);
        for (int s0 = 0; s0 < t.pos0 + t.n && !fm_cpu_cancelled(j->c); s0 += BLOCK) fold(j, &t, k, s0);
        end_tile(j, &t);
    }
}

static int count_tiles(const struct job *j)
{
    int n = 0, parts = (j->group + j->heads - 1) / j->heads;
    for (int s = 0; s < j->b->n_seqs; s++) n += (j->b->seqs[s].n + j->rows - 1) / j->rows * j->a->Hkv * parts;
    return n;
}

/* As many gemm rows as the scratch holds, then smaller tiles until there is work for every thread.  Cutting heads makes
 * several threads read the same keys, so that comes last. */
static void choose_tiles(struct job *j)
{
    const struct fm_attn *a = j->a;
    int threads = fm_cpu_backend(j->c)->n_threads, rows = 1;
    int fit = FM_CPU_TILE / (a->Dk + a->Dv + BLOCK + 2), most = fit < ROWS_MAX ? fit : ROWS_MAX;
    assert(most > 0);
    for (int s = 0; s < j->b->n_seqs; s++) rows = j->b->seqs[s].n > rows ? j->b->seqs[s].n : rows;
    j->heads = j->group < most ? j->group : most;
    j->rows = rows < most / j->heads ? rows : most / j->heads;
    while ((j->n_tiles = count_tiles(j)) < 3 * threads && j->rows * j->heads > ROWS_SPLIT && j->rows > 1)
        j->rows = (j->rows + 1) / 2;
    while ((j->n_tiles = count_tiles(j)) < threads && j->heads > GEMV_ROWS) j->heads = (j->heads + 1) / 2;
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
    struct job j = {c, y, lse, q, k, v, a, b, a->H / a->Hkv, 0, 0, 0};
    assert(a->H % a->Hkv == 0);
    choose_tiles(&j);
    fm_cpu_for(c, j.n_tiles, cost(&j) < FM_CPU_GRAIN ? j.n_tiles : 1, run_tiles, &j);
}
