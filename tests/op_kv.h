/* Caches of every type: what they keep, attention over them.  Part of check_op. */
#ifndef TESTS_OP_KV_H
#define TESTS_OP_KV_H

#include "op_attention.h"

/* Blocks for n positions of a layer of `heads` heads, full of NaN. */
static struct fm_rows kv_rows(enum fm_kv_type type, int heads, int width, bool by_value, int n)
{
    const size_t head = fm_kv_head_bytes(type, width), bytes = (size_t)heads * head + 256;
    const int blocks = (n + FM_KV_BLOCK - 1) / FM_KV_BLOCK;
    void **list = keep((size_t)blocks * sizeof *list);
    for (int i = 0; i < blocks; i++) memset(list[i] = keep(bytes), 0xFF, bytes);
    struct fm_rows r = {.blocks = list, .type = type, .width = width, .by_value = by_value};
    r.offset = type == FM_KV_Q8_0 ? 128 : 5;
    r.head = type == FM_KV_Q8_0 ? head : (size_t)width;
    r.stride = (size_t)heads * (size_t)width;
    return r;
}

/* Positions 0 … n−1 of `flat` (of check_attn) into the cache, by any backend. */
static void fill_kv(struct fm_ctx *c, const struct fm_rows *kv, const struct fm_rows *flat, int heads, int width, int n)
{
    struct fm_seq seq = {.n = n};
    struct fm_batch b = {.T = n, .n_seqs = 1, .seqs = &seq};
    float *rows = keep((size_t)n * heads * width * sizeof *rows);
    for (int s = 0; s < n; s++)
        for (int h = 0; h < heads; h++)
            memcpy(rows + ((size_t)s * heads + h) * width, fm_rows_at(flat, s) + (size_t)h * flat->head,
                   (size_t)width * sizeof *rows);
    c->status = FM_OK;
    c->op->store(c, kv, rows, (size_t)heads * width, heads * width, &b);
}

/* What fetch gives back of group g of a row against what was kept: keys are rounded spread, and H keeps lengths, so the whole
 * error is at most that of n values each half a scale off. */
static void check_group(const struct fm_rows *kv, const float *got, const float *was, int s, int h, int group)
{
    const struct fm_kv_tile t = fm_kv_tile_at(kv, s / FM_KV_BLOCK, h, group);
    const int at = group * FM_KV_GROUP, n = kv->width - at < t.n ? kv->width - at : t.n;
    const double d = (double)t.d[s % FM_KV_BLOCK], slack = (0.5 + 0x1p-14) * d;
    double sum = 0, most = 0;
    for (int i = 0; i < n; i++) {
        const double err = fabs((double)got[at + i] - (double)was[at + i]);
        sum += err * err;
        most = fmax(most, err);
    }
    report(kv->by_value ? most <= slack : sqrt(sum) <= sqrt(t.n) * slack, "KV fetch", "farther than the rounding");
}

/* The backends keep the same bytes; fetch gives back what is within the type's rounding. */
static void check_kv_store(enum fm_kv_type type, int heads, int width, bool by_value, int n)
{
    const struct fm_rows flat = flat_rows(n, heads, width);
    struct fm_rows ref = kv_rows(type, heads, width, by_value, n);
    fill_kv(&g.ref, &ref, &flat, heads, width, n);
    for (int t = 0; t < 3; t++) {
        struct fm_rows got = kv_rows(type, heads, width, by_value, n);
        fill_kv(&g.cpu[t], &got, &flat, heads, width, n);
        const size_t bytes = (size_t)heads * fm_kv_head_bytes(type, width) + 256;
        for (int b = 0; b * FM_KV_BLOCK < n; b++)
            report(!memcmp(ref.blocks[b], got.blocks[b], bytes), "KV store", "bytes differ from the reference's");
        float *y = filled((size_t)n * heads * width, NAN), *want = filled((size_t)n * heads * width, NAN);
        g.cpu[t].op->fetch(&g.cpu[t], y, &got, n, heads * width);
        g.ref.op->fetch(&g.ref, want, &ref, n, heads * width);
        same_bits("KV fetch", y, want, (size_t)n * heads * width);
        for (int s = 0; s < n; s++)
            for (int h = 0; h < heads; h++) {
                const float *row = y + ((size_t)s * heads + h) * width, *was = fm_rows_at(&flat, s) + h * flat.head;
                for (int i = 0; type == FM_KV_Q8_0 && i < fm_kv_groups(width); i++)
                    check_group(&got, row, was, s, h, i);
                if (type != FM_KV_Q8_0)
                    close_to("KV fetch", row, was, filled(width, 1), (size_t)width, type == FM_KV_BF16 ? 0x1p-8 : 0);
            }
        if (g.n_keep > 3000) break;
    }
    release_all();
}

/* The case that a Q8_0 cache sees: queries with each group spread, rounded to int8, and spread back, padding included. */
static struct attn rounded_attn(const struct attn *x)
{
    const int Dk = x->a.Dk, width = x->k[0].width, all = fm_kv_padded(width, Dk), rows = x->T * x->a.H;
    float *out = filled((size_t)rows * all, 0);
    for (int i = 0; i < rows; i++) {
        float *row = out + (size_t)i * all;
        memcpy(row, x->q + (size_t)i * Dk, (size_t)Dk * sizeof *row);
        for (int group = 0; group < fm_kv_groups(Dk); group++) {
            const int n = fm_kv_group_width(width, group);
            float *y = row + group * FM_KV_GROUP, max = 0;
            fm_kv_spread(y, n);
            for (int k = 0; k < n; k++) max = fmaxf(max, fabsf(y[k]));
            for (int k = 0; k < n; k++) y[k] = rintf(y[k] * (127 / max)) * (max / 127);
            fm_kv_spread(y, n);
        }
    }
    struct attn r = *x;
    r.a.Dk = all;
    r.q = out;
    return r;
}

/* Softmax weights of the n keys that row r of a sequence sees. */
static void exact_weights(double *p, const struct attn *x, int seq, int row, int h, int n, double lse)
{
    const struct fm_rows *k = &x->k[seq];
    const int Dk = x->a.Dk, hk = h * x->a.Hkv / x->a.H;
    float q[640];
    memcpy(q, x->q + ((size_t)row * x->a.H + h) * Dk, (size_t)Dk * sizeof *q);
    for (int i = 0; i < fm_kv_groups(Dk); i++) fm_kv_spread(q + i * FM_KV_GROUP, fm_kv_group_width(k->width, i));
    for (int s = 0; s < n; s++) {
        double z = 0;
        for (int i = 0; i < Dk; i++) z += (double)q[i] * (double)fm_rows_value(k, s, hk, i);
        p[s] = exp(z * (double)x->a.scale - lse);
    }
}

/* How far a group may be from the exact sum for its weights' rounding alone.  In a block a weight p·d_v errs by e_s, at most half of
 * f = max p·d_v/255, and counts v/d_v, at most (1 + 4·d_v)/d_v, as |v| <= 1 and rounding adds at most 4·d_v to it.  The e_s being
 * as good as independent, their sum stays within 6.5·sqrt(Σ (f/2)²·(v/d_v)²) but for one time in 10^9 (Hoeffding). */
static double weights_slack(const struct fm_rows *v, const double *p, int hk, int n, int group)
{
    double sum = 0, f = 0, of_block = 0;
    for (int s = 0; s < n; s++) {
        const double d = (double)fm_kv_tile_at(v, s / FM_KV_BLOCK, hk, group).d[s % FM_KV_BLOCK];
        f = fmax(f, p[s] * d / 255);
        of_block += (1 + 4 * d) / d * (1 + 4 * d) / d;
        if (s % FM_KV_BLOCK < FM_KV_BLOCK - 1 && s < n - 1) continue;
        sum += f * f / 4 * of_block;
        f = of_block = 0;
    }
    return 6.5 * sqrt(sum);
}

static const float *all_weights_slack(const struct attn *x, const float *lse)
{
    const int H = x->a.H, Dv = x->a.Dv;
    float *out = filled((size_t)x->T * H * Dv, 0);
    for (int s = 0; s < x->n_seqs; s++)
        for (int i = 0; i < x->seqs[s].n * H; i++) {
            const int row = x->seqs[s].row0 + i / H, h = i % H, n = x->seqs[s].pos0 + i / H + 1;
            const size_t at = (size_t)row * H + h;
            double p[2048];
            exact_weights(p, x, s, row, h, n, (double)lse[at]);
            for (int k = 0; k < Dv; k++)
                out[at * Dv + k] = k % FM_KV_GROUP
                                       ? out[at * Dv + k - 1]
                                       : (float)weights_slack(&x->v[s], p, h * x->a.Hkv / H, n, k / FM_KV_GROUP);
        }
    return out;
}

/* attn over a cache of the type against the reference over the same cache, and cut into chunks.  Queries that are spread three
 * times more err by 21·eps of their length. */
static void check_attn_kv(enum fm_kv_type type, int H, int Hkv, int Dk, int Dv, const int *pos0, const int *n,
                          int n_seqs)
{
    struct attn x = attn_case(H, Hkv, Dk, Dv, pos0, n, n_seqs), kv = x;
    size_t ny = (size_t)x.T * H * Dv, nl = (size_t)x.T * H;
    const bool latent = Dk > Dv; /* the values are the first of the keys */
    for (int s = 0; s < n_seqs; s++) {
        const int all = pos0[s] + n[s];
        kv.k[s] = kv_rows(type, Hkv, Dk, false, all);
        kv.v[s] = latent ? kv.k[s] : kv_rows(type, Hkv, Dv, true, all);
        fill_kv(&g.cpu[s], &kv.k[s], &x.k[s], Hkv, Dk, all);
        if (!latent) fill_kv(&g.cpu[s], &kv.v[s], &x.v[s], Hkv, Dv, all);
    }
    struct call k = {run_attn, &kv, {ny, nl}, {NULL}};
    float *got[OUTS], *want[OUTS];
    const double bound = attn_bound(&x) + 42 * EPS * sqrt(Dk);
    run_all("attn KV", &k, got, want);
    float *slack = filled(ny, 0);
    if (type == FM_KV_Q8_0) {
        struct attn rounded = rounded_attn(&kv);
        k.arg = &rounded;
        run_call(&k, &g.ref, want);
        memcpy(slack, all_weights_slack(&rounded, want[1]), ny * sizeof *slack);
    }
    for (size_t i = 0; i < ny; i++) slack[i] += (float)bound;
    close_to("attn KV", got[0], want[0], slack, ny, 1);
    close_to("attn KV lse", got[1], want[1], filled(nl, 1), nl, bound + 16 * EPS);
    check_attn_chunks(&kv, got[0], got[1]);
    release_all();
}

static void test_kv_types(void)
{
    for (int t = 0; t < FM_KV_TYPE_COUNT; t++) {
        const enum fm_kv_type type = (enum fm_kv_type)t;
        check_kv_store(type, 1, 90, false, 70);
        check_kv_store(type, 3, 64, true, 65);
        check_kv_store(type, 2, 24, true, 3);
        check_attn_kv(type, 4, 2, 24, 24, (int[]){0, 70, 5}, (int[]){150, 3, 1}, 3);
        check_attn_kv(type, 6, 1, 40, 33, (int[]){127, 0}, (int[]){2, 65}, 2);
        check_attn_kv(type, 16, 1, 80, 64, (int[]){200}, (int[]){1}, 1);
        check_attn_kv(type, 5, 1, 80, 80, (int[]){700, 510, 0}, (int[]){40, 5, 30}, 3);
        check_attn_kv(type, 16, 1, 48, 40, (int[]){1100}, (int[]){1}, 1);
        if (g.quick) continue;
        check_attn_kv(type, 16, 1, 576, 512, (int[]){300, 90}, (int[]){1, 40}, 2);
        check_attn_kv(type, 8, 4, 128, 128, (int[]){0, 64, 63}, (int[]){100, 64, 66}, 3);
        check_attn_kv(type, 12, 3, 32, 32, (int[]){1000}, (int[]){1}, 1);
    }
}

#endif
