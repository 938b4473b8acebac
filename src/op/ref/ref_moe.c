/* Mixture of experts: the router's scores and choice, and moving rows to their experts and back.
 * Source: spec models.md §3.3 (DeepSeek-V2), §4.1 (DeepSeek-V3, noaux_tc), §1.4 (ties take the lower index). */
#include <math.h>

#include "op/ref/ref.h"

static void score_row(fm_real *s, const fm_real *z, const struct fm_router *r)
{
    double m = z[0], sum = 0;
    for (int e = 1; e < r->E; e++) m = z[e] > m ? z[e] : m;
    for (int e = 0; e < r->E; e++) sum += exp(z[e] - m);
    for (int e = 0; e < r->E; e++) s[e] = (fm_real)(r->sigmoid ? 1 / (1 + exp(-(double)z[e])) : exp(z[e] - m) / sum);
}

static bool among(const int32_t *list, int n, int e)
{
    for (int i = 0; i < n; i++)
        if (list[i] == e) return true;
    return false;
}

/* What the choice compares: the score plus the bias, rounded once to fm_real. */
static fm_real select_score(const fm_real *s, const fm_real *bias, int e) { return bias ? s[e] + bias[e] : s[e]; }

/* The best expert of [begin, end) that is not in taken[n]. */
static int best_of(const fm_real *s, const fm_real *bias, int begin, int end, const int32_t *taken, int n)
{
    int best = -1;
    for (int e = begin; e < end; e++)
        if (!among(taken, n, e) && (best < 0 || select_score(s, bias, e) > select_score(s, bias, best))) best = e;
    return best;
}

static fm_real group_score(const fm_real *s, const fm_real *bias, int begin, int end, bool top2)
{
    int32_t first = best_of(s, bias, begin, end, NULL, 0);
    int second = top2 ? best_of(s, bias, begin, end, &first, 1) : -1;
    return select_score(s, bias, first) + (second < 0 ? 0 : select_score(s, bias, second));
}

/* Whether fewer than topk_group groups are better than g (a tie counts for the lower one). */
static bool group_kept(const fm_real *s, const fm_real *bias, const struct fm_router *r, int g)
{
    int size = r->E / r->n_group, better = 0;
    fm_real mine = group_score(s, bias, g * size, (g + 1) * size, r->group_top2);
    for (int o = 0; o < r->n_group; o++) {
        fm_real other = group_score(s, bias, o * size, (o + 1) * size, r->group_top2);
        better += other > mine || (other == mine && o < g);
    }
    return better < r->topk_group;
}

static void choose(int32_t *idx, const fm_real *s, const fm_real *bias, const struct fm_router *r)
{
    int size = r->E / r->n_group;
    for (int j = 0; j < r->K; j++) {
        int best = -1;
        for (int g = 0; g < r->n_group; g++) {
            if (!group_kept(s, bias, r, g)) continue;
            int e = best_of(s, bias, g * size, (g + 1) * size, idx, j);
            if (e >= 0 && (best < 0 || select_score(s, bias, e) > select_score(s, bias, best))) best = e;
        }
        idx[j] = best;
    }
}

void fm_ref_router(struct fm_ctx *c, int32_t *idx, fm_real *w, fm_real *scores, const fm_real *logits,
                   const fm_real *bias, const struct fm_router *r, int T)
{
    if (c->status) return;
    for (int t = 0; t < T; t++) {
        fm_real *s = scores + (size_t)t * r->E, *wt = w + (size_t)t * r->K;
        int32_t *it = idx + (size_t)t * r->K;
        score_row(s, logits + (size_t)t * r->E, r);
        choose(it, s, bias, r);
        double sum = 0;
        for (int j = 0; j < r->K; j++) sum += s[it[j]];
        for (int j = 0; j < r->K; j++) wt[j] = (fm_real)(s[it[j]] / (r->norm_topk ? sum + 1e-20 : 1) * r->scale);
    }
}

/* ds[e] from the chosen weights: w_j = scale·s_j/W, W = Σ s + 1e-20 (or w_j = scale·s_j); plus dscores.
 * norm_topk: ds_j = scale·(dw_j − Σ_i dw_i·s_i/W)/W. */
static void weights_bwd(fm_real *ds, const fm_real *dw, const int32_t *idx, const fm_real *s, const struct fm_router *r)
{
    double sum = 1e-20, dot = 0;
    for (int j = 0; j < r->K; j++) sum += s[idx[j]];
    for (int j = 0; j < r->K; j++) dot += (double)dw[j] * s[idx[j]];
    for (int j = 0; j < r->K; j++)
        ds[idx[j]] += (fm_real)(r->scale * (r->norm_topk ? (dw[j] - dot / sum) / sum : dw[j]));
}

void fm_ref_router_bwd(struct fm_ctx *c, fm_real *dlogits, const fm_real *dw, const fm_real *dscores,
                       const int32_t *idx, const fm_real *w, const fm_real *scores, const struct fm_router *r, int T)
{
    (void)w; /* the scores say the same, exactly */
    if (c->status) return;
    for (int t = 0; t < T; t++) {
        const fm_real *s = scores + (size_t)t * r->E;
        fm_real *ds = dlogits + (size_t)t * r->E;
        for (int e = 0; e < r->E; e++) ds[e] = dscores ? dscores[(size_t)t * r->E + e] : 0;
        weights_bwd(ds, dw + (size_t)t * r->K, idx + (size_t)t * r->K, s, r);
        double dot = 0;
        for (int e = 0; e < r->E; e++) dot += (double)ds[e] * s[e];
        for (int e = 0; e < r->E; e++)
            ds[e] = (fm_real)(r->sigmoid ? ds[e] * (double)s[e] * (1 - (double)s[e]) : s[e] * (ds[e] - dot));
    }
}

void fm_ref_moe_sort(struct fm_ctx *c, int32_t *order, int32_t *slot, int32_t *start, const int32_t *idx, int T, int K,
                     int E)
{
    if (c->status) return;
    int place = 0;
    for (int e = 0; e < E; e++) {
        start[e] = place;
        for (int i = 0; i < T * K; i++)
            if (idx[i] == e) {
                order[place] = i;
                slot[i] = place++;
            }
    }
    start[E] = place;
}

void fm_ref_moe_gather(struct fm_ctx *c, fm_real *y, const fm_real *x, const int32_t *order, int K, int n, int D)
{
    if (c->status) return;
    for (int i = 0; i < n; i++)
        for (int d = 0; d < D; d++) y[(size_t)i * D + d] = x[(size_t)(order[i] / K) * D + d];
}

void fm_ref_moe_combine(struct fm_ctx *c, fm_real *y, const fm_real *x, const fm_real *w, const int32_t *slot, int T,
                        int K, int D, bool accumulate)
{
    if (c->status) return;
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++) {
            double acc = accumulate ? y[(size_t)t * D + d] : 0;
            for (int j = 0; j < K; j++) {
                size_t i = (size_t)t * K + j;
                acc += (w ? (double)w[i] : 1) * x[(size_t)slot[i] * D + d];
            }
            y[(size_t)t * D + d] = (fm_real)acc;
        }
}

void fm_ref_moe_combine_bwd(struct fm_ctx *c, fm_real *dx, fm_real *dw, const fm_real *dy, const fm_real *x,
                            const fm_real *w, const int32_t *slot, int T, int K, int D)
{
    if (c->status) return;
    for (int i = 0; i < T * K; i++) {
        const fm_real *dyt = dy + (size_t)(i / K) * D, *xi = x + (size_t)slot[i] * D;
        fm_real *dxi = dx + (size_t)slot[i] * D;
        double acc = 0;
        for (int d = 0; d < D; d++) {
            acc += (double)dyt[d] * xi[d];
            dxi[d] = (w ? w[i] : 1) * dyt[d];
        }
        if (dw) dw[i] = (fm_real)acc;
    }
}
