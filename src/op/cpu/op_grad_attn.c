/* Backward of attention over this step's own rows.  Weights are computed again from lse (Dao et al. 2022, algorithm 4):
 *
 *   P = exp(scale·Q·Kᵀ − lse);  dV += Pᵀ·dY;  dZ = P ⊙ (dY·Vᵀ − rowsum(dY⊙Y));  dQ = scale·dZ·K;  dK += dZᵀ·(scale·Q)
 *
 * One task is a sequence's key head with all its query heads: nobody else writes those dK, dV.  Within it, query heads,
 * then runs of up to 256 rows, then blocks of 64 keys, in order: each output is a sum in one fixed order. */
#include <assert.h>
#include <string.h>

#include "op/cpu/backend.h"

enum { BLOCK = FM_KV_BLOCK, ROWS_MAX = 256, DIAGONAL = 32 };

struct job {
    struct fm_ctx *c;
    float *dq;
    const struct fm_rows *dk, *dv;
    const float *dy, *y, *lse, *q;
    const struct fm_rows *k, *v;
    const struct fm_attn *a;
    const struct fm_batch *b;
};

/* Rows r0 … r0+m−1 of a sequence for one query head h, which reads key head hk. */
struct run {
    int seq, row0, h, hk, r0, m;
    size_t ldq, ldy; /* between rows of q and of y: H·Dk, H·Dv */
    const float *dy; /* at the run's first row and head */
    float *dq;
    float *q;      /* [m,Dk] scaled          */
    float *p, *dz; /* [m,64]                 */
    float *delta;  /* [m] Σ dy·y             */
    float *work;
};

static struct run run_at(const struct job *j, int seq, int h, int hk, int r0, int most, int thread)
{
    const struct fm_attn *a = j->a;
    const struct fm_seq *s = &j->b->seqs[seq];
    struct run r = {
        .seq = seq, .row0 = s->row0 + r0, .h = h, .hk = hk, .r0 = r0, .m = s->n - r0 < most ? s->n - r0 : most};
    r.ldq = (size_t)a->H * a->Dk;
    r.ldy = (size_t)a->H * a->Dv;
    r.dy = j->dy + r.row0 * r.ldy + (size_t)h * a->Dv;
    r.dq = j->dq + r.row0 * r.ldq + (size_t)h * a->Dk;
    r.q = fm_cpu_tile(j->c, thread);
    r.p = r.q + (size_t)most * a->Dk;
    r.dz = r.p + (size_t)most * BLOCK;
    r.delta = r.dz + (size_t)most * BLOCK;
    r.work = fm_cpu_work(j->c, thread);
    return r;
}

/* Scale the queries, take Σ dy·y, clear dq. */
static void begin_run(const struct job *j, const struct run *r, const struct fm_kernels *k)
{
    size_t Dk = (size_t)j->a->Dk, Dv = (size_t)j->a->Dv;
    const float *q = j->q + r->row0 * r->ldq + r->h * Dk, *y = j->y + r->row0 * r->ldy + r->h * Dv;
    for (int i = 0; i < r->m; i++) {
        memcpy(r->q + i * Dk, q + i * r->ldq, Dk * sizeof(float));
        memset(r->dq + i * r->ldq, 0, Dk * sizeof(float));
        r->delta[i] = k->dot(r->dy + i * r->ldy, y + i * r->ldy, Dv);
    }
    k->scale(r->q, j->a->scale, r->m * Dk);
}

/* Rows i0 … i1−1 of the run against keys s0 … s0+n−1. */
struct part {
    int i0, i1, s0, n;
};

static float *row_at(const struct fm_rows *r, int s, int hk) { return fm_rows_at(r, s) + hk * r->head; }

/* p = exp(q·kᵀ − lse), 0 for keys after the row */
static void weights(const struct job *j, const struct run *r, const struct part *x, const struct fm_kernels *k)
{
    int Dk = j->a->Dk;
    k->gemm_f32(x->i1 - x->i0, x->n, Dk, r->q + (size_t)x->i0 * Dk, Dk, 1, row_at(&j->k[r->seq], x->s0, r->hk), 1,
                (ptrdiff_t)j->k[r->seq].stride, r->p + x->i0 * BLOCK, BLOCK, false, r->work);
    for (int i = x->i0; i < x->i1; i++) {
        float *p = r->p + i * BLOCK, lse = j->lse[(size_t)(r->row0 + i) * j->a->H + r->h];
        int seen = r->r0 + i + 1 - x->s0 < x->n ? r->r0 + i + 1 - x->s0 : x->n;
        k->exp_sum(p, p, (size_t)seen, lse);
        for (int s = seen; s < x->n; s++) p[s] = 0;
    }
}

/* dz = p ⊙ (dy·vᵀ − delta) */
static void score_grads(const struct job *j, const struct run *r, const struct part *x, const struct fm_kernels *k)
{
    k->gemm_f32(x->i1 - x->i0, x->n, j->a->Dv, r->dy + x->i0 * r->ldy, (ptrdiff_t)r->ldy, 1,
                row_at(&j->v[r->seq], x->s0, r->hk), 1, (ptrdiff_t)j->v[r->seq].stride, r->dz + x->i0 * BLOCK, BLOCK,
                false, r->work);
    for (int i = x->i0; i < x->i1; i++) {
        float *restrict dz = r->dz + i * BLOCK, delta = r->delta[i];
        const float *restrict p = r->p + i * BLOCK;
        for (int s = 0; s < x->n; s++) dz[s] = p[s] * (dz[s] - delta);
    }
}

/* Everything that a part's rows and keys have to do with each other. */
static void fold_part(const struct job *j, const struct run *r, const struct part *x, const struct fm_kernels *k)
{
    int Dk = j->a->Dk, Dv = j->a->Dv, m = x->i1 - x->i0, n = x->n;
    const struct fm_rows *dk = &j->dk[r->seq], *dv = &j->dv[r->seq];
    const float *p = r->p + x->i0 * BLOCK, *dz = r->dz + x->i0 * BLOCK;
    weights(j, r, x, k);
    k->gemm_f32(n, Dv, m, p, 1, BLOCK, r->dy + x->i0 * r->ldy, (ptrdiff_t)r->ldy, 1, row_at(dv, x->s0, r->hk),
                (ptrdiff_t)dv->stride, true, r->work);
    score_grads(j, r, x, k);
    k->gemm_f32(m, Dk, n, dz, BLOCK, 1, row_at(&j->k[r->seq], x->s0, r->hk), (ptrdiff_t)j->k[r->seq].stride, 1,
                r->dq + x->i0 * r->ldq, (ptrdiff_t)r->ldq, true, r->work);
    k->gemm_f32(n, Dk, m, dz, 1, BLOCK, r->q + (size_t)x->i0 * Dk, Dk, 1, row_at(dk, x->s0, r->hk),
                (ptrdiff_t)dk->stride, true, r->work);
}

/* Keys s0 … s0+63 and the run's rows.  Rows on the diagonal go a few at a time with the keys that the last of them sees,
 * the rest at once. */
static void fold(const struct job *j, const struct run *r, const struct fm_kernels *k, int s0)
{
    int left = r->r0 + r->m - s0, all = left < BLOCK ? left : BLOCK, i = s0 > r->r0 ? s0 - r->r0 : 0;
    while (i < r->m) {
        bool whole = r->r0 + i + 1 - s0 >= all;
        struct part x = {i, whole || r->m - i < DIAGONAL ? r->m : i + DIAGONAL, s0, 0};
        int seen = r->r0 + x.i1 - s0;
        x.n = seen < all ? seen : all;
        fold_part(j, r, &x, k);
        i = x.i1;
    }
}

static void clear(const struct fm_rows *d, int n, int hk, int width)
{
    for (int s = 0; s < n; s++) memset(fm_rows_at(d, s) + hk * d->head, 0, (size_t)width * sizeof(float));
}

_Static_assert(FM_OP_HEAD_WIDTH + 2 * BLOCK + 1 <= FM_CPU_TILE, "one row at least");

static void key_head(const struct job *j, int seq, int hk, int thread)
{
    const struct fm_kernels *k = fm_cpu_kernels(j->c);
    const struct fm_attn *a = j->a;
    int n = j->b->seqs[seq].n, group = a->H / a->Hkv, fit = FM_CPU_TILE / (a->Dk + 2 * BLOCK + 1);
    int most = fit < ROWS_MAX ? fit : ROWS_MAX;
    clear(&j->dk[seq], n, hk, a->Dk);
    clear(&j->dv[seq], n, hk, a->Dv);
    for (int h = hk * group; h < (hk + 1) * group; h++)
        for (int r0 = 0; r0 < n; r0 += most) {
            struct run r = run_at(j, seq, h, hk, r0, most, thread);
            begin_run(j, &r, k);
            for (int s0 = 0; s0 < r.r0 + r.m && !fm_cpu_cancelled(j->c); s0 += BLOCK) fold(j, &r, k, s0);
            for (int i = 0; i < r.m; i++) k->scale(r.dq + i * r.ldq, a->scale, (size_t)a->Dk);
        }
}

static void run_heads(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    for (int i = begin; i < end; i++) key_head(j, i / j->a->Hkv, i % j->a->Hkv, thread);
}

void fm_cpu_attn_bwd(struct fm_ctx *c, float *dq, const struct fm_rows *dk, const struct fm_rows *dv, const float *dy,
                     const float *y, const float *lse, const float *q, const struct fm_rows *k, const struct fm_rows *v,
                     const struct fm_attn *a, const struct fm_batch *b)
{
    if (c->status) return;
    struct job j = {c, dq, dk, dv, dy, y, lse, q, k, v, a, b};
    double cost = 0;
    assert(a->H % a->Hkv == 0);
    for (int s = 0; s < b->n_seqs; s++) {
        assert(k[s].flat && v[s].flat && dk[s].flat && dv[s].flat && b->seqs[s].pos0 == 0);
        cost += (double)b->seqs[s].n * b->seqs[s].n * a->H * (a->Dk + a->Dv) / FM_CPU_MACS;
    }
    int n = b->n_seqs * a->Hkv;
    fm_cpu_for(c, n, cost < FM_CPU_GRAIN ? n : 1, run_heads, &j);
}
