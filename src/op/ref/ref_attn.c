/* Causal softmax attention of one query head at a time: two passes forward, one backward.
 *   z_s = scale·q·k_s (s <= p);  m = max z;  l = Σ e^(z−m);  y = Σ e^(z−m)/l · v_s;  lse = m + log l
 * Where keys are kept spread (op/kv_tile.h) so is q, and so is y where these keys are the values, until it is done. */
#include <math.h>
#include <string.h>

#include "op/kv_tile.h"
#include "op/ref/ref.h"

/* One query head of one row and the keys it may see. */
struct head {
    const fm_real *q;
    const struct fm_rows *k, *v;
    int hk, n, Dk;
    double scale;
};

static struct head head_at(const fm_real *q, const struct fm_rows *k, const struct fm_rows *v, const struct fm_attn *a,
                           int row, int h, int pos)
{
    int hk = (int)((int64_t)h * a->Hkv / a->H);
    return (struct head){q + ((size_t)row * a->H + h) * a->Dk, k, v, hk, pos + 1, a->Dk, (double)a->scale};
}

static double score(const struct head *x, int s)
{
    double acc = 0;
    for (int i = 0; i < x->Dk; i++) acc += (double)x->q[i] * fm_rows_value(x->k, s, x->hk, i);
    return acc * x->scale;
}

static double max_score(const struct head *x)
{
    double m = score(x, 0);
    for (int s = 1; s < x->n; s++) {
        double z = score(x, s);
        m = z > m ? z : m;
    }
    return m;
}

static bool is_spread(const struct fm_rows *r) { return !r->flat && r->type == FM_KV_Q8_0 && !r->by_value; }

/* y[j0 … j0+n−1], 64 columns at a time so that the sums fit a small array; returns l. */
enum { COLS = FM_KV_GROUP };
static double weigh(const struct head *x, fm_real *y, int n, int j0, double m)
{
    const int width = is_spread(x->v) ? fm_kv_group_width(x->v->width, j0 / COLS) : n;
    fm_real out[COLS];
    double acc[COLS] = {0}, l = 0;
    for (int s = 0; s < x->n; s++) {
        double p = exp(score(x, s) - m);
        l += p;
        for (int j = 0; j < width; j++) acc[j] += p * fm_rows_value(x->v, s, x->hk, j0 + j);
    }
    for (int j = 0; j < width; j++) out[j] = (fm_real)(acc[j] / l);
    if (is_spread(x->v)) fm_kv_spread(out, width);
    memcpy(y + j0, out, (size_t)n * sizeof *y);
    return l;
}

/* A query as the keys are kept; out: Dk rounded up to whole groups. */
static const fm_real *query(fm_real *out, const struct head *x)
{
    memset(out, 0, (size_t)fm_kv_padded(x->k->width, x->Dk) * sizeof *out);
    memcpy(out, x->q, (size_t)x->Dk * sizeof *out);
    for (int g = 0; g < fm_kv_groups(x->Dk); g++)
        fm_kv_spread(out + g * FM_KV_GROUP, fm_kv_group_width(x->k->width, g));
    return out;
}

void fm_ref_attn(struct fm_ctx *c, fm_real *y, fm_real *lse, const fm_real *q, const struct fm_rows *k,
                 const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b)
{
    if (c->status) return;
    for (int i = 0; i < b->n_seqs; i++)
        for (int r = 0; r < b->seqs[i].n; r++)
            for (int h = 0; h < a->H; h++) {
                int row = b->seqs[i].row0 + r;
                struct head x = head_at(q, &k[i], &v[i], a, row, h, b->seqs[i].pos0 + r);
                fm_real kept[FM_OP_HEAD_WIDTH + FM_KV_GROUP];
                if (is_spread(x.k)) {
                    x.q = query(kept, &x);
                    x.Dk = fm_kv_padded(x.k->width, x.Dk);
                }
                double m = max_score(&x), l = 0;
                fm_real *yr = y + ((size_t)row * a->H + h) * a->Dv;
                for (int j = 0; j < a->Dv; j += COLS) l = weigh(&x, yr, a->Dv - j < COLS ? a->Dv - j : COLS, j, m);
                if (lse) lse[(size_t)row * a->H + h] = (fm_real)(m + log(l));
            }
}

static double dot(const fm_real *a, const fm_real *b, int n)
{
    double acc = 0;
    for (int i = 0; i < n; i++) acc += (double)a[i] * b[i];
    return acc;
}

static void clear_rows(const struct fm_rows *d, int n, int heads, int width)
{
    for (int s = 0; s < n; s++)
        for (int h = 0; h < heads; h++)
            memset(fm_rows_at(d, s) + (size_t)h * d->head, 0, (size_t)width * sizeof(fm_real));
}

/* p_s = e^(z_s − lse);  dv_s += p_s·dy;  dz_s = p_s·(dy·v_s − dy·y);  dq += scale·dz_s·k_s;  dk_s += scale·dz_s·q */
static void head_bwd(const struct head *x, fm_real *dq, const struct fm_rows *dk, const struct fm_rows *dv,
                     size_t dk_head, size_t dv_head, const fm_real *dy, const fm_real *y, double lse, int Dv)
{
    double dyy = dot(dy, y, Dv);
    memset(dq, 0, (size_t)x->Dk * sizeof *dq);
    for (int s = 0; s < x->n; s++) {
        const fm_real *ks = fm_rows_at(x->k, s) + (size_t)x->hk * x->k->head,
                      *vs = fm_rows_at(x->v, s) + (size_t)x->hk * x->v->head;
        fm_real *dks = fm_rows_at(dk, s) + dk_head, *dvs = fm_rows_at(dv, s) + dv_head;
        double p = exp(score(x, s) - lse), dz = p * (dot(dy, vs, Dv) - dyy) * x->scale;
        for (int j = 0; j < Dv; j++) dvs[j] += (fm_real)(p * dy[j]);
        for (int j = 0; j < x->Dk; j++) {
            dq[j] += (fm_real)(dz * ks[j]);
            dks[j] += (fm_real)(dz * x->q[j]);
        }
    }
}

void fm_ref_attn_bwd(struct fm_ctx *c, fm_real *dq, const struct fm_rows *dk, const struct fm_rows *dv,
                     const fm_real *dy, const fm_real *y, const fm_real *lse, const fm_real *q, const struct fm_rows *k,
                     const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b)
{
    if (c->status) return;
    for (int i = 0; i < b->n_seqs; i++) {
        const struct fm_seq *s = &b->seqs[i];
        clear_rows(&dk[i], s->n, a->Hkv, a->Dk);
        clear_rows(&dv[i], s->n, a->Hkv, a->Dv);
        for (int r = 0; r < s->n; r++)
            for (int h = 0; h < a->H; h++) {
                size_t at = (size_t)(s->row0 + r) * a->H + h, hk = (size_t)((int64_t)h * a->Hkv / a->H);
                struct head x = head_at(q, &k[i], &v[i], a, s->row0 + r, h, r);
                head_bwd(&x, dq + at * a->Dk, &dk[i], &dv[i], hk * dk[i].head, hk * dv[i].head, dy + at * a->Dv,
                         y + at * a->Dv, lse[at], a->Dv);
            }
    }
}
