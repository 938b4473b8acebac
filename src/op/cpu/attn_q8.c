/* Keys folded in integers: int8 tiles of a Q8_0 cache by queries and weights of 8 bits.
 *
 * Of each group of 64 values, 64 keys' sums are exact; they join a row's score in order of the groups:
 *
 *   z[s] = Σ_groups d_q·d_k[s]·Σ q8·k8[s]     q8 = the query's group, spread as the keys are (op/kv_tile.h), as int8 with factor d_q
 *   m' = max z;  p = e^(z − m');  l' = Σ p;  then with m = max(m_old, m'):
 *   y = y·e^(m_old−m) + e^(m'−m)·f·Σ_s w[s]·v8[s],   w = p⊙d_v as uint8 with factor f, of each group
 *
 * w is rounded beside the largest contribution p·d_v of its block, that is where the values' own rounding is at least as coarse;
 * q as the keys are. */
#include <math.h>
#include <string.h>

#include "op/cpu/attn.h"

enum { BLOCK = FM_KV_BLOCK, GROUP = FM_KV_GROUP, TILE = GROUP * BLOCK, LINE = 64, ZERO = 128 };

/* The scratch: bytes go four to a float. */
struct parts {
    int8_t *tile;                      /* [64·64] a group of values, turned       */
    float *d;                          /* [64] its factors, 0 behind the last row */
    float *p;                          /* [m,64] scores, then weights             */
    uint8_t *w;                        /* [m,64] weights by factors               */
    uint8_t *q;                        /* [m,ldq] + ZERO                          */
    float *d_q;                        /* [groups,m]                              */
    float *old, *fade, *f, *top, *sum; /* [m] each                                */
};

static struct parts parts_of(const struct fm_attn_job *j, const struct fm_attn_tile *t)
{
    const size_t m = (size_t)t->m;
    struct parts x = {.tile = (int8_t *)t->scratch, .d = t->scratch + TILE / 4 };
    x.p = x.d + BLOCK;
    x.w = (uint8_t *)(x.p + m * BLOCK);
    x.q = x.w + m * BLOCK;
    x.d_q = (float *)(void *)(x.q + m * (size_t)j->ldq);
    x.old = x.d_q + m * (size_t)fm_kv_groups(j->a->Dk);
    x.fade = x.old + m;
    x.f = x.fade + m;
    x.top = x.f + m;
    x.sum = x.top + m;
    return x;
}

static size_t row_floats(const struct fm_attn_job *j)
{
    return BLOCK + BLOCK / 4 + (size_t)j->ldq / 4 + (size_t)fm_kv_groups(j->a->Dk) + 5;
}

static void begin(const struct fm_attn_job *j, const struct fm_attn_tile *t)
{
    const struct parts x = parts_of(j, t);
    const int Dk = j->a->Dk;
    for (int i = 0; i < t->m; i++) {
        const size_t row = (size_t)(t->row0 + i / t->heads) * (size_t)j->a->H + (size_t)(t->h0 + i % t->heads);
        for (int g = 0; g < fm_kv_groups(Dk); g++) {
            const int n = fm_kv_group_width(t->k->width, g), at = g * GROUP;
            float y[GROUP] = {0};
            int8_t q[GROUP];
            memcpy(y, j->q + row * (size_t)Dk + at, (size_t)fm_min_int(Dk - at, n) * sizeof *y);
            j->kernels->spread(y, n);
            x.d_q[g * t->m + i] = j->kernels->quantise_kv(q, y, n) * j->a->scale;
            for (int k = 0; k < n; k++) x.q[(size_t)i * (size_t)j->ldq + (size_t)(at + k)] = (uint8_t)(q[k] + ZERO);
        }
    }
}

/* The next block's part of what is read now: hardware does not see that tiles follow each other across blocks. */
static void fetch_ahead(const struct fm_attn_tile *t, const struct fm_rows *r, int s0, int g)
{
    if (s0 + BLOCK >= t->pos0 + t->n) return;
    const struct fm_kv_tile next = fm_kv_tile_at(r, s0 / BLOCK + 1, t->hk, g);
    for (int i = 0; i < next.n * BLOCK + BLOCK * (int)sizeof(float); i += LINE) __builtin_prefetch(next.q + i);
}

/* z[i0 … m, 64], of all 64 rows, whatever lies in those that are not there yet. */
static void scores(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int s0, int i0)
{
    float *z = x->p + (size_t)i0 * BLOCK;
    memset(z, 0, (size_t)(t->m - i0) * BLOCK * sizeof *z);
    for (int g = 0; g < fm_kv_groups(j->a->Dk); g++) {
        const struct fm_kv_tile keys = fm_kv_tile_at(t->k, s0 / BLOCK, t->hk, g);
        fetch_ahead(t, t->k, s0, g);
        j->kernels->gemm_u8(z, BLOCK, x->q + (size_t)i0 * (size_t)j->ldq + g * GROUP, j->ldq, ZERO, keys.q, keys.d,
                            x->d_q + g * t->m + i0, t->m - i0, BLOCK, keys.n / 4);
    }
}

/* Scores into weights, each row's of the keys that it sees: heads of one position see the same. */
static void soften(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int s0, int i0)
{
    for (int i = i0, end; i < t->m; i = end) {
        const int seen = t->pos0 + i / t->heads + 1 - s0;
        end = seen < BLOCK ? i + t->heads : t->m;
        j->kernels->soften(x->p + (size_t)i * BLOCK, x->top + i, x->sum + i, end - i, fm_min_int(seen, BLOCK));
    }
}

/* The block joins the rows' states but for what it adds to y, which counts x->fade = e^(m'−m). */
static void join(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int i0)
{
    j->kernels->join(t->now.max + i0, t->now.sum + i0, x->old + i0, x->fade + i0, x->top + i0, x->sum + i0, t->m - i0);
    for (int i = i0; i < t->m; i++)
        if (x->old[i] != 1) j->kernels->scale(t->now.y + (size_t)i * j->ldy, x->old[i], (size_t)j->ldy);
}

/* The tile of values of group g, its rows' factors; those behind the last row count nothing. */
static const int8_t *open_values(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x,
                                 int s0, int g, int *n)
{
    const struct fm_kv_tile v = fm_kv_tile_at(t->v, s0 / BLOCK, t->hk, g);
    const int there = fm_min_int(t->pos0 + t->n - s0, BLOCK);
    memcpy(x->d, v.d, (size_t)there * sizeof *v.d);
    memset(x->d + there, 0, (size_t)(BLOCK - there) * sizeof *v.d);
    *n = v.n;
    if (t->v->by_value) {
        fetch_ahead(t, t->v, s0, g);
        return v.q;
    }
    j->kernels->turn(x->tile, v.q, v.n);
    return x->tile;
}

static void weigh(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct parts *x, int s0, int i0)
{
    const struct fm_kernels *k = j->kernels;
    const int m = t->m - i0;
    for (int g = 0; g < fm_kv_groups(j->a->Dv); g++) {
        int n;
        const int8_t *v = open_values(j, t, x, s0, g, &n);
        k->weigh_u8(x->w, x->f, x->p + (size_t)i0 * BLOCK, x->d, m);
        for (int i = 0; i < m; i++) x->f[i] *= x->fade[i0 + i];
        k->gemm_u8(t->now.y + (size_t)i0 * j->ldy + g * GROUP, j->ldy, x->w, BLOCK, 0, v, NULL, x->f, m, n, BLOCK / 4);
    }
}

static void fold(const struct fm_attn_job *j, const struct fm_attn_tile *t, int s0)
{
    const struct parts x = parts_of(j, t);
    const int i0 = s0 > t->pos0 ? (s0 - t->pos0) * t->heads : 0; /* rows before see nothing of it */
    scores(j, t, &x, s0, i0);
    soften(j, t, &x, s0, i0);
    join(j, t, &x, i0);
    weigh(j, t, &x, s0, i0);
}

const struct fm_attn_way fm_attn_q8 = {
    .row_floats = row_floats, .tile_floats = TILE / 4 + BLOCK, .begin = begin, .fold = fold};
