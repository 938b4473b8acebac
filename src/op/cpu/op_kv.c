/* The cache's rows: this step's are rounded to the cache's type on their way in, and given back as floats. */
#include <string.h>

#include "op/cpu/backend.h"
#include "op/kv_tile.h"

struct job {
    const struct fm_kernels *k;
    const struct fm_rows *rows;
    const float *src;
    float *dst;
    size_t ld;
    int pos0, n, cols;
};

/* Four values at a time in a tile of keys, single bytes in one by value. */
static void scatter(int8_t *tile, bool by_value, int n, int s, const int8_t *q)
{
    int8_t *to = tile + fm_kv_at(by_value, n, s, 0);
    if (by_value)
        for (int i = 0; i < n; i++) to[4 * i] = q[i];
    else
        for (int i = 0; i < n; i += 4) memcpy(to + i * FM_KV_BLOCK, q + i, 4);
}

static void gather(int8_t *q, const struct fm_kv_tile *t, bool by_value, int s)
{
    const int8_t *from = t->q + fm_kv_at(by_value, t->n, s, 0);
    if (by_value)
        for (int i = 0; i < t->n; i++) q[i] = from[4 * i];
    else
        for (int i = 0; i < t->n; i += 4) memcpy(q + i, from + i * FM_KV_BLOCK, 4);
}

/* A group of `width` values of rows s … s+n−1 of the block, the first at x.  A whole block by value is laid out as keys are
 * and then turned. */
static void store_tile(const struct job *j, const struct fm_kv_tile *t, int s, int n, const float *x, int width)
{
    const bool by_value = j->rows->by_value, whole = by_value && n == FM_KV_BLOCK;
    int8_t whole_tile[FM_KV_GROUP * FM_KV_BLOCK], q[FM_KV_GROUP];
    for (; n > 0; n--, s++, x += j->ld) {
        float y[FM_KV_GROUP] = {0};
        memcpy(y, x, (size_t)width * sizeof *y);
        if (!by_value) j->k->spread(y, t->n);
        t->d[s] = j->k->quantise_kv(q, y, t->n);
        scatter(whole ? whole_tile : t->q, by_value && !whole, t->n, s, q);
    }
    if (whole) j->k->turn(t->q, whole_tile, t->n);
}

/* Tasks are blocks, so that none writes beside another; the first and the last may be parts. */
static void store_tiles(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    const struct fm_rows *r = j->rows;
    (void)thread;
    for (int b = j->pos0 / FM_KV_BLOCK + begin; b < j->pos0 / FM_KV_BLOCK + end; b++) {
        const int from = b * FM_KV_BLOCK > j->pos0 ? b * FM_KV_BLOCK : j->pos0,
                  to = fm_min_int((b + 1) * FM_KV_BLOCK, j->pos0 + j->n);
        const float *x = j->src + (size_t)(from - j->pos0) * j->ld;
        for (int h = 0; h < j->cols / r->width; h++, x += r->width)
            for (int g = 0; g < fm_kv_groups(r->width); g++) {
                const struct fm_kv_tile t = fm_kv_tile_at(r, b, h, g);
                store_tile(j, &t, from % FM_KV_BLOCK, to - from, x + g * FM_KV_GROUP,
                           fm_min_int(r->width - g * FM_KV_GROUP, t.n));
            }
    }
}

static void fetch_tiles(const struct job *j, int s, float *y)
{
    const struct fm_rows *r = j->rows;
    for (int h = 0; h < j->cols / r->width; h++, y += r->width)
        for (int g = 0; g < fm_kv_groups(r->width); g++) {
            const struct fm_kv_tile t = fm_kv_tile_at(r, s / FM_KV_BLOCK, h, g);
            const int at = g * FM_KV_GROUP, n = fm_min_int(r->width - at, t.n);
            int8_t q[FM_KV_GROUP];
            float x[FM_KV_GROUP];
            gather(q, &t, r->by_value, s % FM_KV_BLOCK);
            for (int i = 0; i < t.n; i++) x[i] = t.d[s % FM_KV_BLOCK] * (float)q[i];
            if (!r->by_value) j->k->spread(x, t.n);
            memcpy(y + at, x, (size_t)n * sizeof *y);
        }
}

static void store_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int i = begin; i < end; i++) {
        const float *x = j->src + i * j->ld;
        const int s = j->pos0 + i;
        if (j->rows->flat || j->rows->type == FM_KV_F32)
            memcpy(fm_rows_at(j->rows, s), x, (size_t)j->cols * sizeof *x);
        else
            fm_formats[FM_BF16].encode(fm_rows_bf16(j->rows, s), x, (size_t)j->cols);
    }
}

void fm_cpu_store(struct fm_ctx *c, const struct fm_rows *dst, const float *src, size_t ld, int cols,
                  const struct fm_batch *b)
{
    for (int i = 0; i < b->n_seqs && !c->status; i++) {
        const struct fm_seq *s = &b->seqs[i];
        struct job j = {fm_cpu_kernels(c), &dst[i], src + (size_t)s->row0 * ld, NULL, ld, s->pos0, s->n, cols};
        const int first = s->pos0 / FM_KV_BLOCK, blocks = (s->pos0 + s->n - 1) / FM_KV_BLOCK + 1 - first;
        if (dst[i].flat || dst[i].type != FM_KV_Q8_0)
            fm_cpu_for(c, s->n, fm_cpu_grain((size_t)cols), store_rows, &j);
        else
            fm_cpu_for(c, blocks, fm_cpu_grain((size_t)cols * FM_KV_BLOCK), store_tiles, &j);
    }
}

static void fetch_rows(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    (void)thread;
    for (int s = begin; s < end; s++) {
        float *y = j->dst + (size_t)s * (size_t)j->cols;
        if (j->rows->flat || j->rows->type == FM_KV_F32)
            memcpy(y, fm_rows_at(j->rows, s), (size_t)j->cols * sizeof *y);
        else if (j->rows->type == FM_KV_BF16)
            j->k->decode[FM_BF16](y, fm_rows_bf16(j->rows, s), (size_t)j->cols);
        else
            fetch_tiles(j, s, y);
    }
}

void fm_cpu_fetch(struct fm_ctx *c, float *dst, const struct fm_rows *src, int n, int cols)
{
    if (c->status) return;
    struct job j = {fm_cpu_kernels(c), src, NULL, dst, 0, 0, n, cols};
    fm_cpu_for(c, n, fm_cpu_grain((size_t)cols), fetch_rows, &j);
}
