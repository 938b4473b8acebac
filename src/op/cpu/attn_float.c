/* Keys folded in float32, by the gemm that everything exact uses.  Rows that the cache keeps as bfloat16 are widened 64 at a
 * time; a row's chain over its values goes on from one piece of them to the next. */
#include <math.h>
#include <string.h>

#include "kernel/math.h"
#include "op/cpu/attn.h"

enum {
    BLOCK = FM_KV_BLOCK,
    DIAGONAL = 32, /* rows at a time where the causal edge crosses */
    PIECE = 512,   /* values of 64 rows widened at a time           */
};
_Static_assert(PIECE *BLOCK <= FM_CPU_PANEL_SIDE * FM_CPU_PANEL_SIDE, "the panel holds a piece");

static float *queries(const struct fm_attn_tile *t) { return t->scratch; }
static float *weights(const struct fm_attn_job *j, const struct fm_attn_tile *t)
{
    return t->scratch + (size_t)t->m * (size_t)j->a->Dk; /* [m,64] scores, then weights */
}

static size_t row_floats(const struct fm_attn_job *j) { return (size_t)j->a->Dk + BLOCK; }

static void begin(const struct fm_attn_job *j, const struct fm_attn_tile *t)
{
    size_t Dk = (size_t)j->a->Dk;
    float *q = queries(t);
    for (int r = 0; r < t->n; r++)
        memcpy(q + r * t->heads * Dk, j->q + ((size_t)(t->row0 + r) * j->a->H + t->h0) * Dk,
               t->heads * Dk * sizeof(float));
    j->kernels->scale(q, j->a->scale, t->m * Dk);
}

/* Rows s0 … s0+n−1 of the tile's head, values at … at+width−1: where they lie, or widened in the panel. */
struct span {
    const float *at;
    ptrdiff_t ld;
};

static struct span rows_at(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct fm_rows *r, int s0,
                           int n, int at, int width)
{
    const size_t from = (size_t)t->hk * r->head + (size_t)at;
    if (r->flat || r->type == FM_KV_F32) return (struct span){fm_rows_at(r, s0) + from, (ptrdiff_t)r->stride};
    float *panel = fm_cpu_panel(j->c, t->thread);
    for (int s = 0; s < n; s++)
        j->kernels->decode[FM_BF16](panel + s * width, fm_rows_bf16(r, s0 + s) + from, (size_t)width);
    return (struct span){panel, width};
}

/* How many values at a time: all that lie as floats. */
static int piece(const struct fm_rows *r, int width)
{
    return r->flat || r->type == FM_KV_F32 ? width : fm_min_int(width, PIECE);
}

/* p[i0 … i1, n] = q·kᵀ */
static void scores(const struct fm_attn_job *j, const struct fm_attn_tile *t, int i0, int i1, int s0, int n)
{
    const int Dk = j->a->Dk, step = piece(t->k, Dk);
    for (int at = 0; at < Dk; at += step) {
        const int width = fm_min_int(step, Dk - at);
        const struct span k = rows_at(j, t, t->k, s0, n, at, width);
        j->kernels->gemm_f32(i1 - i0, n, width, queries(t) + (size_t)i0 * Dk + at, Dk, 1, k.at, 1, k.ld,
                             weights(j, t) + (size_t)i0 * BLOCK, BLOCK, at > 0, fm_cpu_work(j->c, t->thread));
    }
}

/* Turn row i's scores into weights: the first `seen` of n count, the rest become 0. */
static void soften(const struct fm_attn_job *j, const struct fm_attn_tile *t, int i, int seen, int n)
{
    const struct fm_kernels *k = j->kernels;
    float *p = weights(j, t) + (size_t)i * BLOCK, max = k->max(p, (size_t)seen);
    if (max > t->now.max[i]) {
        if (t->now.sum[i] > 0) {
            float fade = fm_expf(t->now.max[i] - max);
            k->scale(t->now.y + (size_t)i * j->ldy, fade, (size_t)j->ldy);
            t->now.sum[i] *= fade;
        }
        t->now.max[i] = max;
    }
    t->now.sum[i] += k->exp_sum(p, p, (size_t)seen, t->now.max[i]);
    for (int s = seen; s < n; s++) p[s] = 0;
}

/* y[i0 … i1, Dv] += p·v */
static void weigh(const struct fm_attn_job *j, const struct fm_attn_tile *t, int i0, int i1, int s0, int n)
{
    const int Dv = j->a->Dv, step = piece(t->v, Dv);
    const float *p = weights(j, t) + (size_t)i0 * BLOCK;
    for (int at = 0; at < Dv; at += step) {
        const int width = fm_min_int(step, Dv - at);
        const struct span v = rows_at(j, t, t->v, s0, n, at, width);
        float *y = t->now.y + (size_t)i0 * j->ldy + at;
        if (i1 - i0 > 1)
            j->kernels->gemm_f32(i1 - i0, width, n, p, BLOCK, 1, v.at, v.ld, 1, y, j->ldy, true,
                                 fm_cpu_work(j->c, t->thread));
        else /* the same chains, but each value row is read in one run: it may come from memory */
            for (int s = 0; s < n; s++) j->kernels->axpy(y, p[s], v.at + s * v.ld, (size_t)width);
    }
}

/* Rows on the diagonal go a few at a time with the keys that the last of them sees, the rest at once. */
static void fold(const struct fm_attn_job *j, const struct fm_attn_tile *t, int s0)
{
    int all = fm_min_int(t->pos0 + t->n - s0, BLOCK), step = (DIAGONAL + t->heads - 1) / t->heads;
    for (int r = s0 > t->pos0 ? s0 - t->pos0 : 0, end; r < t->n; r = end) {
        end = t->pos0 + r + 1 - s0 >= all ? t->n : fm_min_int(r + step, t->n);
        int i0 = r * t->heads, i1 = end * t->heads, n = fm_min_int(t->pos0 + end - s0, all);
        scores(j, t, i0, i1, s0, n);
        for (int i = i0; i < i1; i++) soften(j, t, i, fm_min_int(t->pos0 + i / t->heads + 1 - s0, n), n);
        weigh(j, t, i0, i1, s0, n);
    }
}

const struct fm_attn_way fm_attn_float = {.row_floats = row_floats, .begin = begin, .fold = fold};
