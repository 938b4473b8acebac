/* What a cache keeps of this step's rows, and what it gives back: one value after the other. */
#include <math.h>

#include "op/kv_tile.h"
#include "op/ref/ref.h"

/* A group of t->n values, of which x has n: d = max|x|/127 in float, as the cache keeps it. */
static void store_group(const struct fm_kv_tile *t, bool by_value, int s, const fm_real *x, int n)
{
    fm_real y[FM_KV_GROUP] = {0};
    float max = 0;
    for (int i = 0; i < n; i++) y[i] = x[i];
    if (!by_value) fm_kv_spread(y, t->n);
    for (int i = 0; i < t->n; i++)
        if (!isnan(max) && !(fabs((double)y[i]) <= (double)max)) max = (float)fabs((double)y[i]);
    const bool none = !(max >= 1e-30f && max < INFINITY);
    t->d[s] = !none ? max / 127 : max < 1e-30f ? 0 : NAN;
    for (int i = 0; i < t->n; i++)
        t->q[fm_kv_at(by_value, t->n, s, i)] = (int8_t)(none ? 0 : rintf((float)y[i] * (127 / max)));
}

/* Row s of a head of Q8_0 as it was before it was kept. */
static void fetch_head(const struct fm_rows *r, int s, int h, fm_real *dst)
{
    for (int g = 0; g < fm_kv_groups(r->width); g++) {
        const int at = g * FM_KV_GROUP, n = fm_kv_group_width(r->width, g);
        fm_real y[FM_KV_GROUP];
        for (int i = 0; i < n; i++) y[i] = fm_rows_value(r, s, h, at + i);
        if (!r->by_value) fm_kv_spread(y, n);
        for (int i = 0; i < n && at + i < r->width; i++) dst[at + i] = y[i];
    }
}

static void store_row(const struct fm_rows *r, int s, const fm_real *x, int cols)
{
    if (r->flat || r->type == FM_KV_F32) {
        for (int i = 0; i < cols; i++) fm_rows_at(r, s)[i] = x[i];
    } else if (r->type == FM_KV_BF16) {
        for (int i = 0; i < cols; i++) fm_rows_bf16(r, s)[i] = fm_f32_to_bf16((float)x[i]);
    } else {
        for (int h = 0; h < cols / r->width; h++)
            for (int g = 0; g < fm_kv_groups(r->width); g++) {
                const struct fm_kv_tile t = fm_kv_tile_at(r, s / FM_KV_BLOCK, h, g);
                const int at = g * FM_KV_GROUP, left = r->width - at;
                store_group(&t, r->by_value, s % FM_KV_BLOCK, x + h * r->width + at, left < t.n ? left : t.n);
            }
    }
}

void fm_ref_store(struct fm_ctx *c, const struct fm_rows *dst, const fm_real *src, size_t ld, int cols,
                  const struct fm_batch *b)
{
    if (c->status) return;
    for (int i = 0; i < b->n_seqs; i++) {
        const struct fm_seq *s = &b->seqs[i];
        for (int r = 0; r < s->n; r++) store_row(&dst[i], s->pos0 + r, src + (size_t)(s->row0 + r) * ld, cols);
    }
}

void fm_ref_fetch(struct fm_ctx *c, fm_real *dst, const struct fm_rows *src, int n, int cols)
{
    if (c->status) return;
    const bool tiles = src->type == FM_KV_Q8_0 && !src->flat;
    for (int s = 0; s < n; s++, dst += cols) {
        for (int h = 0; tiles && h < cols / src->width; h++) fetch_head(src, s, h, dst + (size_t)h * src->width);
        for (int i = 0; !tiles && i < cols; i++) dst[i] = fm_rows_value(src, s, 0, i);
    }
}
