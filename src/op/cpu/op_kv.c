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
    int pos0, cols;
};

/* Pairs of a row in a tile of keys, single bytes in one by value. */
static void scatter(const struct fm_kv_tile *t, bool by_value, int s, const int8_t *q)
{
    int8_t *to = t->q + fm_kv_at(by_value, t->n, s, 0);
    if (by_value)
        for (int i = 0; i < t->n; i++) to[2 * i] = q[i];
    else
        for (int i = 0; i < t->n; i += 2) memcpy(to + i * FM_KV_BLOCK, q + i, 2);
}

static void gather(int8_t *q, const struct fm_kv_tile *t, bool by_value, int s)
{
    const int8_t *from = t->q + fm_kv_at(by_value, t->n, s, 0);
    if (by_value)
        for (int i = 0; i < t->n; i++) q[i] = from[2 * i];
    else
        for (int i = 0; i < t->n; i += 2) memcpy(q + i, from + i * FM_KV_BLOCK, 2);
}

static void store_tiles(const struct job *j, int s, const float *x)
{
    const struct fm_rows *r = j->rows;
    for (int h = 0; h < j->cols / r->width; h++, x += r->width)
        for (int g = 0; g < fm_kv_groups(r->width); g++) {
            const struct fm_kv_tile t = fm_kv_tile_at(r, s / FM_KV_BLOCK, h, g);
            const int at = g * FM_KV_GROUP;
            int8_t q[FM_KV_GROUP] = {0};
            t.d[s % FM_KV_BLOCK] = j->k->quantise_kv(q, x + at, fm_min_int(r->width - at, t.n));
            scatter(&t, r->by_value, s % FM_KV_BLOCK, q);
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
            gather(q, &t, r->by_value, s % FM_KV_BLOCK);
            for (int i = 0; i < n; i++) y[at + i] = t.d[s % FM_KV_BLOCK] * (float)q[i];
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
        else if (j->rows->type == FM_KV_BF16)
            fm_formats[FM_BF16].encode(fm_rows_bf16(j->rows, s), x, (size_t)j->cols);
        else
            store_tiles(j, s, x);
    }
}

void fm_cpu_store(struct fm_ctx *c, const struct fm_rows *dst, const float *src, size_t ld, int cols,
                  const struct fm_batch *b)
{
    for (int i = 0; i < b->n_seqs && !c->status; i++) {
        const struct fm_seq *s = &b->seqs[i];
        struct job j = {fm_cpu_kernels(c), &dst[i], src + (size_t)s->row0 * ld, NULL, ld, s->pos0, cols};
        fm_cpu_for(c, s->n, fm_cpu_grain((size_t)cols), store_rows, &j);
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
    struct job j = {fm_cpu_kernels(c), src, NULL, dst, 0, 0, cols};
    fm_cpu_for(c, n, fm_cpu_grain((size_t)cols), fetch_rows, &j);
}
