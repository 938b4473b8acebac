/* Keys folded in integers: int8 tiles of a Q8_0 cache by queries and weights of int16.
 *
 * Of each group of 64 values, 64 keys' sums are exact; they join a row's score in order of the groups:
 *
 *   z[s] = Σ_groups d_k[s]·Σ q·k8[s]          q = the query as int16, d_q a factor of the whole row
 *   m' = max z·d_q;  p = e^(z·d_q − m');  l' = Σ p;  then with m = max(m_old, m'):
 *   y = y·e^(m_old−m) + e^(m'−m)·f·Σ_s w[s]·v8[s],   w = p⊙d_v as int16 with factor f, of each group
 *
 * w has 15 bits below the block's own largest p·d_v, q 15 below its largest value: what is lost beside the cache's own
 * rounding is a hundredth of that. */
#include <math.h>
#include <string.h>

#include "kernel/math.h"
#include "op/cpu/attn.h"

enum { BLOCK = FM_KV_BLOCK, GROUP = FM_KV_GROUP, TILE = GROUP * BLOCK };

/* The scratch: int16 go two to a float. */
struct parts {
    int16_t *tile;         /* [64·64] a group of keys or values         */
    float *d;              /* [64] its factors, 0 behind the last row   */
    float *p;              /* [m,64] scores, then weights               */
    int16_t *w;            /* [m,64] weights by factors                 */
    int16_t *q;            /* [m,ldq]                                   */
    float *d_q, *fade, *f; /* [m] each                          */
};

static struct parts parts_of(const struct fm_attn_job *j, const struct fm_attn_tile *t)
{
    const size_t m = (size_t)t->m;
    struct parts x = {.tile = (int16_t *)(void *)t->scratch, .d = t->scratch + TILE / 2 };
    x.p = x.d + BLOCK;
    x.w = (int16_t *)(void *)(x.p + m * BLOCK);
    x.q = x.w + m * BLOCK;
    x.d_q = (float *)(void *)(x.q + m * (size_t)j->ldq);
    x.fade = x.d_q + m;
    x.f = x.fade + m;
    return x;
}

static size_t row_floats(const struct fm_attn_job *j) { return BLOCK + BLOCK / 2 + (size_t)j->ldq / 2 + 3; }

static void begin(const struct fm_attn_job *j, const struct fm_attn_tile *t)
{
    const struct parts x = parts_of(j, t);
    const int Dk = j->a->Dk;
    for (int i = 0; i < t->m; i++) {
        const size_t row = (size_t)(t->row0 + i / t->heads) * (size_t)j->a->H + (size_t)(t->h0 + i % t->heads);
        int16_t *q = x.q + (size_t)i * (size_t)j->ldq;
        x.d_q[i] = j->kernels->quantise_q15(q, j->q + row * (size_t)Dk, Dk) * j->a->scale;
        memset(q + Dk, 0, (size_t)(j->ldq - Dk) * sizeof *q);
    }
}

/* z[i0 … m, 64], of all 64 rows, whatever lies in those that are not there yet. */
static void scores(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int s0, int i0)
{
    const struct fm_kernels *k = j->kernels;
    float *z = x->p + (size_t)i0 * BLOCK;
    memset(z, 0, (size_t)(t->m - i0) * BLOCK * sizeof *z);
    for (int g = 0; g < fm_kv_groups(j->a->Dk); g++) {
        const struct fm_kv_tile keys = fm_kv_tile_at(t->k, s0 / BLOCK, t->hk, g);
        k->widen(x->tile, keys.q, keys.n * BLOCK);
        k->gemm_q15(z, BLOCK, x->q + (size_t)i0 * j->ldq + g * GROUP, j->ldq, x->tile, keys.d, NULL, t->m - i0, BLOCK,
                    keys.n / 2);
    }
}

/* Row i's scores into weights of the `seen` rows; the row's state and x->fade[i] = e^(m'−m). */
static void soften(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int i, int seen)
{
    const struct fm_kernels *k = j->kernels;
    float *p = x->p + (size_t)i * BLOCK, *max = &t->now.max[i], *sum = &t->now.sum[i], old = 1;
    k->scale(p, x->d_q[i], (size_t)seen);
    const float m = k->max(p, (size_t)seen), l = k->exp_sum(p, p, (size_t)seen, m);
    memset(p + seen, 0, (size_t)(BLOCK - seen) * sizeof *p);
    x->fade[i] = 1;
    if (m > *max) {
        if (*sum > 0) old = fm_expf(*max - m);
        *max = m;
    } else if (m < *max) {
        x->fade[i] = fm_expf(m - *max);
    }
    *sum = *sum * old + l * x->fade[i];
    if (old != 1) k->scale(t->now.y + (size_t)i * j->ldy, old, (size_t)j->ldy);
}

/* The tile of values of group g, its rows' factors; those behind the last row count nothing. */
static int open_values(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int s0, int g)
{
    const struct fm_kv_tile v = fm_kv_tile_at(t->v, s0 / BLOCK, t->hk, g);
    const int there = fm_min_int(t->pos0 + t->n - s0, BLOCK);
    if (t->v->by_value)
        j->kernels->widen(x->tile, v.q, v.n * BLOCK);
    else
        j->kernels->turn(x->tile, v.q, v.n);
    memcpy(x->d, v.d, (size_t)there * sizeof *v.d);
    memset(x->d + there, 0, (size_t)(BLOCK - there) * sizeof *v.d);
    return v.n;
}

static void weigh(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int s0, int i0)
{
    const struct fm_kernels *k = j->kernels;
    const int m = t->m - i0;
    for (int g = 0; g < fm_kv_groups(j->a->Dv); g++) {
        const int n = open_values(j, t, x, s0, g);
        k->weigh_q15(x->w, x->f, x->p + (size_t)i0 * BLOCK, x->d, m);
        for (int i = 0; i < m; i++) x->f[i] *= x->fade[i0 + i];
        k->gemm_q15(t->now.y + (size_t)i0 * j->ldy + g * GROUP, j->ldy, x->w, BLOCK, x->tile, NULL, x->f, m, n,
                    BLOCK / 2);
    }
}

static void fold(const struct fm_attn_job *j, const struct fm_attn_tile *t, int s0)
{
    const struct parts x = parts_of(j, t);
    const int i0 = s0 > t->pos0 ? (s0 - t->pos0) * t->heads : 0; /* rows before see nothing of it */
    scores(j, t, &x, s0, i0);
    for (int i = i0; i < t->m; i++) soften(j, t, &x, i, fm_min_int(t->pos0 + i / t->heads + 1 - s0, BLOCK));
    weigh(j, t, &x, s0, i0);
}

const struct fm_attn_way fm_attn_q15 = {
    .row_floats = row_floats, .tile_floats = TILE / 2 + BLOCK, .begin = begin, .fold = fold};
