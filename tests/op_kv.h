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

/* The backends keep the same bytes; fetch gives back what is within the type's rounding. */
static void check_kv_store(enum fm_kv_type type, int heads, int width, bool by_value, int n)
{
    static const double rounding[FM_KV_TYPE_COUNT] = {[FM_KV_BF16] = 0x1p-8, [FM_KV_Q8_0] = 0.5 / 127 * (1 + 0x1p-15)};
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
            for (int h = 0; h < heads; h++)
                close_to("KV fetch", y + ((size_t)s * heads + h) * width, fm_rows_at(&flat, s) + (size_t)h * flat.head,
                         filled(width, 1), (size_t)width, rounding[type]);
        if (g.n_keep > 3000) break;
    }
    release_all();
}

/* attn over a cache of the type against the reference over the same cache, and cut into chunks.
 *
 * In integers a score errs by at most sqrt(Dk)·2^-16 (queries below 1, rounded at 2^-16 of that), a weight by 2^-16 of its
 * block's largest, 64 of which have values below 1, while the sum of all weights is at least that largest one. */
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
    const double q15 = type == FM_KV_Q8_0 ? 64 * 0x1p-16 + 3 * sqrt(Dk) * 0x1p-16 : 0;
    run_all("attn KV", &k, got, want);
    close_to("attn KV", got[0], want[0], filled(ny, 1), ny, attn_bound(&x) + q15);
    close_to("attn KV lse", got[1], want[1], filled(nl, 1), nl, attn_bound(&x) + 16 * EPS + q15);
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
