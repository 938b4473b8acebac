/* Attention, forward and backward, and the cache's rows.  Part of check_op. */
#ifndef TESTS_OP_ATTENTION_H
#define TESTS_OP_ATTENTION_H

#include "op/kv_tile.h"
#include "op_harness.h"

enum { SEQS = 3 };

/* Up to three sequences with keys and values of their own, flat or in blocks; rows after the last position are NaN. */
struct attn {
    struct fm_attn a;
    struct fm_seq seqs[SEQS];
    int n_seqs, T;
    struct fm_rows k[SEQS], v[SEQS];
    const float *q;
};

static struct fm_batch batch_of(const struct attn *x)
{
    return (struct fm_batch){.T = x->T, .n_seqs = x->n_seqs, .seqs = x->seqs};
}

static void run_attn(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct attn *x = arg;
    struct fm_batch b = batch_of(x);
    c->op->attn(c, out[0], out[1], x->q, x->k, x->v, &x->a, &b);
}

/* Rows of n positions, NaN after them, with a gap between heads and rows and an offset. */
static struct fm_rows flat_rows(int n, int heads, int width)
{
    struct fm_rows r = {.offset = 3, .head = (size_t)width + 1, .stride = (size_t)heads * (width + 1) + 5};
    size_t used = (size_t)n * r.stride, all = (size_t)(n + FM_KV_BLOCK) * r.stride + r.offset;
    r.flat = rnd(all);
    for (size_t i = used; i < all; i++) r.flat[i] = NAN;
    return r;
}

/* The same rows in blocks that lie apart, last rows uninitialised (NaN). */
static struct fm_rows block_rows(const struct fm_rows *flat, int n)
{
    int blocks = (n + FM_KV_BLOCK - 1) / FM_KV_BLOCK;
    size_t floats = FM_KV_BLOCK * flat->stride;
    void **list = keep((size_t)blocks * sizeof *list);
    for (int i = blocks - 1; i >= 0; i--) {
        int rows = n - i * FM_KV_BLOCK < FM_KV_BLOCK ? n - i * FM_KV_BLOCK : FM_KV_BLOCK;
        list[i] = filled(floats, NAN);
        memcpy(list[i], flat->flat + i * floats, (size_t)rows * flat->stride * sizeof(float));
    }
    return (struct fm_rows){.blocks = list, .offset = 0, .stride = flat->stride, .head = flat->head};
}

static struct attn attn_case(int H, int Hkv, int Dk, int Dv, const int *pos0, const int *n, int n_seqs)
{
    struct attn x = {.a = {H, Hkv, Dk, Dv, 1 / sqrtf((float)Dk)}, .n_seqs = n_seqs};
    for (int s = 0; s < n_seqs; s++) {
        x.seqs[s] =
            (struct fm_seq){.row0 = x.T, .n = n[s], .pos0 = pos0[s], .segment_pos0 = pos0[s], .segment_n = n[s]};
        x.T += n[s];
        x.k[s] = flat_rows(pos0[s] + n[s], Hkv, Dk);
        x.v[s] = flat_rows(pos0[s] + n[s], Hkv, Dv);
    }
    x.q = rnd((size_t)x.T * H * Dk);
    return x;
}

/* |z| <= sqrt(Dk) here, its error (Dk + 2)·eps·sqrt(Dk); Σ p|v| <= 1 */
static double attn_bound(const struct attn *x)
{
    double z = sqrt(x->a.Dk), S = 0;
    for (int s = 0; s < x->n_seqs; s++) S = fmax(S, x->seqs[s].pos0 + x->seqs[s].n);
    return (2 * (x->a.Dk + 2) * z + S + 64) * EPS;
}

/* Rows [t, t+n) of sequence s alone. */
static struct attn attn_part(const struct attn *x, int s, int t, int n)
{
    struct attn p = *x;
    p.n_seqs = 1;
    p.T = n;
    p.seqs[0] = x->seqs[s];
    p.seqs[0].row0 = 0;
    p.seqs[0].pos0 += t;
    p.seqs[0].n = n;
    p.k[0] = x->k[s];
    p.v[0] = x->v[s];
    p.q = x->q + (size_t)(x->seqs[s].row0 + t) * x->a.H * x->a.Dk;
    return p;
}

/* Each sequence by itself, in chunks of 1, 7, 64 and 100 rows. */
static void check_attn_chunks(const struct attn *x, const float *y, const float *lse)
{
    static const int steps[] = {1, 7, 64, 100};
    size_t wy = (size_t)x->a.H * x->a.Dv, wl = (size_t)x->a.H;
    for (int i = 0; i < 4; i++)
        for (int s = 0; s < x->n_seqs; s++)
            for (int t = 0; t < x->seqs[s].n; t += steps[i]) {
                if (steps[i] == 1 && g.quick && t % 13) continue;
                int n = x->seqs[s].n - t < steps[i] ? x->seqs[s].n - t : steps[i], row = x->seqs[s].row0 + t;
                struct attn p = attn_part(x, s, t, n);
                struct call k = {run_attn, &p, {n * wy, n * wl}, {NULL}};
                float *out[OUTS];
                run_call(&k, &g.cpu[i % 3], out);
                same_bits("attn chunks", out[0], y + row * wy, n * wy);
                same_bits("attn chunks lse", out[1], lse + row * wl, n * wl);
            }
}

static void check_attn(int H, int Hkv, int Dk, int Dv, const int *pos0, const int *n, int n_seqs)
{
    struct attn x = attn_case(H, Hkv, Dk, Dv, pos0, n, n_seqs), blocks = x;
    size_t ny = (size_t)x.T * H * Dv, nl = (size_t)x.T * H;
    struct call k = {run_attn, &x, {ny, nl}, {NULL}};
    float *got[OUTS], *want[OUTS], *out[OUTS];
    run_all("attn", &k, got, want);
    close_to("attn", got[0], want[0], filled(ny, 1), ny, attn_bound(&x));
    close_to("attn lse", got[1], want[1], filled(nl, 1), nl, attn_bound(&x) + 16 * EPS);
    for (int s = 0; s < n_seqs; s++) {
        x.k[s].flat += x.k[s].offset; /* blocks carry the offset inside, to vary it */
        x.v[s].flat += x.v[s].offset;
        blocks.k[s] = block_rows(&x.k[s], pos0[s] + n[s]);
        blocks.v[s] = block_rows(&x.v[s], pos0[s] + n[s]);
        x.k[s].offset = x.v[s].offset = 0;
    }
    k.arg = &blocks;
    run_call(&k, &g.cpu[1], out);
    same_bits("attn blocks", out[0], got[0], ny);
    check_attn_chunks(&blocks, got[0], got[1]);
    release_all();
}

static void test_attn(void)
{
    check_attn(4, 2, 24, 16, (int[]){0, 70, 5}, (int[]){150, 3, 1}, 3);
    check_attn(6, 1, 40, 33, (int[]){127, 0}, (int[]){2, 65}, 2);
    check_attn(16, 1, 72, 64, (int[]){200}, (int[]){1}, 1);
    check_attn(2, 2, 7, 5, (int[]){0}, (int[]){1}, 1);
    check_attn(5, 1, 16, 24, (int[]){1500, 510, 0}, (int[]){40, 5, 30}, 3);
    check_attn(16, 1, 48, 40, (int[]){1100}, (int[]){1}, 1);
    if (g.quick) return;
    check_attn(16, 1, 576, 512, (int[]){300, 90}, (int[]){1, 40}, 2);
    check_attn(8, 8, 64, 64, (int[]){0, 64, 63}, (int[]){400, 64, 66}, 3);
    check_attn(12, 3, 32, 32, (int[]){1000}, (int[]){1}, 1);
}

/* Large scores and a rising maximum: the rescaling must not lose or overflow anything. */
static void test_attn_extremes(void)
{
    struct attn x = attn_case(2, 1, 8, 8, (int[]){0}, (int[]){200}, 1);
    for (int s = 0; s < 200; s++)
        for (int i = 0; i < 8; i++) fm_rows_at(&x.k[0], s)[i] *= (float)s;
    size_t n = (size_t)x.T * 2 * 8;
    struct call k = {run_attn, &x, {n, (size_t)x.T * 2}, {NULL}};
    float *got[OUTS], *want[OUTS];
    run_all("attn extremes", &k, got, want);
    close_to("attn extremes", got[0], want[0], filled(n, 1), n, attn_bound(&x) * 200);
    release_all();
}

/* Attention in double, written down here: loss = Σ dy·y, for finite differences. */
static double attn_loss(const double *q, const double *k, const double *v, const float *dy, int T, int Dk, int Dv,
                        double scale)
{
    double loss = 0;
    for (int t = 0; t < T; t++) {
        double z[64], m = -1e300, l = 0;
        for (int s = 0; s <= t; s++) {
            z[s] = 0;
            for (int i = 0; i < Dk; i++) z[s] += q[t * Dk + i] * k[s * Dk + i] * scale;
            m = fmax(m, z[s]);
        }
        for (int s = 0; s <= t; s++) l += exp(z[s] - m);
        for (int s = 0; s <= t; s++)
            for (int j = 0; j < Dv; j++) loss += exp(z[s] - m) / l * v[s * Dv + j] * dy[t * Dv + j];
    }
    return loss;
}

/* d loss / d x[i] by central differences. */
static void differences(float *dx, double *x, int n, const double *q, const double *k, const double *v, const float *dy,
                        int T, int Dk, int Dv, double scale)
{
    const double h = 1e-5;
    for (int i = 0; i < n; i++) {
        double x0 = x[i];
        x[i] = x0 + h;
        double up = attn_loss(q, k, v, dy, T, Dk, Dv, scale);
        x[i] = x0 - h;
        double down = attn_loss(q, k, v, dy, T, Dk, Dv, scale);
        x[i] = x0;
        dx[i] = (float)((up - down) / (2 * h));
    }
}

static double *widened(const float *x, int n)
{
    double *d = keep((size_t)n * sizeof *d);
    for (int i = 0; i < n; i++) d[i] = x[i];
    return d;
}

struct attn_grad {
    struct attn x;
    const float *dy, *y, *lse;
    size_t k_ld, v_ld; /* dk, dv rows: [T, Hkv, …] with gaps */
    size_t k_head, v_head;
};

static void run_attn_bwd(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct attn_grad *a = arg;
    struct fm_batch b = batch_of(&a->x);
    struct fm_rows dk[SEQS], dv[SEQS];
    for (int s = 0; s < a->x.n_seqs; s++) {
        size_t row = (size_t)a->x.seqs[s].row0;
        dk[s] = (struct fm_rows){.flat = out[1] + row * a->k_ld, .stride = a->k_ld, .head = a->k_head};
        dv[s] = (struct fm_rows){.flat = out[2] + row * a->v_ld, .stride = a->v_ld, .head = a->v_head};
    }
    c->grad->attn(c, out[0], dk, dv, a->dy, a->y, a->lse, a->x.q, a->x.k, a->x.v, &a->x.a, &b);
}

static void test_attn_grad_double(void)
{
    enum { T = 20, DK = 6, DV = 4 };
    struct attn_grad a = {.x = attn_case(1, 1, DK, DV, (int[]){0}, (int[]){T}, 1), .k_ld = DK, .v_ld = DV};
    a.x.k[0] = (struct fm_rows){.flat = rnd(T * DK), .stride = DK};
    a.x.v[0] = (struct fm_rows){.flat = rnd(T * DV), .stride = DV};
    a.dy = rnd(T * DV);
    struct call f = {run_attn, &a.x, {T * DV, T}, {NULL}}, k = {run_attn_bwd, &a, {T * DK, T * DK, T * DV}, {NULL}};
    float *y[OUTS], *got[OUTS], *want[OUTS] = {rnd(T * DK), rnd(T * DK), rnd(T * DV)};
    double *q = widened(a.x.q, T * DK), *kd = widened(a.x.k[0].flat, T * DK), *v = widened(a.x.v[0].flat, T * DV);
    double scale = (double)a.x.a.scale;
    differences(want[0], q, T * DK, q, kd, v, a.dy, T, DK, DV, scale);
    differences(want[1], kd, T * DK, q, kd, v, a.dy, T, DK, DV, scale);
    differences(want[2], v, T * DV, q, kd, v, a.dy, T, DK, DV, scale);
    for (int i = 0; i < 2; i++) {
        struct fm_ctx *c = i ? &g.cpu[0] : &g.ref;
        run_call(&f, c, y);
        a.y = y[0];
        a.lse = y[1];
        run_call(&k, c, got);
        for (int o = 0; o < OUTS; o++)
            close_to("attn gradient against differences", got[o], want[o], filled(k.n[o], T), k.n[o], 200 * EPS);
    }
    release_all();
}

static void check_attn_grad(int H, int Hkv, int Dk, int Dv, const int *n, int n_seqs)
{
    struct attn_grad a = {.x = attn_case(H, Hkv, Dk, Dv, (int[]){0, 0, 0}, n, n_seqs)};
    size_t nq = (size_t)a.x.T * H * Dk, ny = (size_t)a.x.T * H * Dv;
    a.k_head = (size_t)Dk + 2;
    a.v_head = (size_t)Dv + 1;
    a.k_ld = Hkv * a.k_head;
    a.v_ld = Hkv * a.v_head;
    a.dy = rnd(ny);
    struct call f = {run_attn, &a.x, {ny, (size_t)a.x.T * H}, {NULL}};
    struct call k = {run_attn_bwd, &a, {nq, a.x.T * a.k_ld, a.x.T * a.v_ld}, {NULL}};
    float *y[OUTS], *got[OUTS], *want[OUTS];
    for (int o = 0; o < OUTS; o++) k.init[o] = filled(k.n[o], 7); /* also the gaps, which stay */
    run_call(&f, &g.cpu[0], y);
    a.y = y[0];
    a.lse = y[1];
    run_all("attn gradient", &k, got, want);
    /* |dy·v|, |dy·y| <= Dv; Σ_t p <= T/… : every output is a sum of at most T·H/Hkv terms below 2·Dv */
    double rel = attn_bound(&a.x) + (Dv + n[0]) * EPS;
    for (int o = 0; o < OUTS; o++)
        close_to("attn gradient", got[o], want[o], filled(k.n[o], (float)(2 * Dv * H / Hkv)), k.n[o], rel);
    release_all();
}

static void test_attn_grad(void)
{
    test_attn_grad_double();
    check_attn_grad(4, 2, 24, 16, (int[]){150, 3, 70}, 3);
    check_attn_grad(2, 2, 7, 5, (int[]){1}, 1);
    check_attn_grad(3, 1, 32, 48, (int[]){65, 64}, 2);
    if (!g.quick) check_attn_grad(8, 4, 96, 64, (int[]){512, 257}, 2);
}

struct cache {
    struct fm_rows *rows;
    const float *src;
    struct fm_batch *b;
    int n, cols;
    size_t ld;
};

static void run_store_fetch(struct fm_ctx *c, float *const *out, const void *arg)
{
    const struct cache *a = arg;
    c->op->store(c, a->rows, a->src, a->ld, a->cols, a->b);
    c->op->fetch(c, out[0], &a->rows[1], a->n, a->cols);
}

static void test_cache(void)
{
    enum { COLS = 90, N = 200, LD = COLS + 3 };
    struct fm_rows rows[2] = {flat_rows(40, 1, COLS), flat_rows(N, 1, COLS)};
    struct fm_seq seqs[2] = {{.row0 = 0, .n = 2, .pos0 = 30}, {.row0 = 2, .n = N, .pos0 = 0}};
    struct fm_batch b = {.T = N + 2, .n_seqs = 2, .seqs = seqs};
    float *src = rnd((N + 2) * LD), *got[OUTS], *want[OUTS], *packed = filled(N * COLS, 0);
    for (int i = 0; i < N; i++) memcpy(packed + i * COLS, src + (i + 2) * LD, COLS * sizeof(float));
    rows[1] = block_rows(&rows[1], N);
    struct cache a = {rows, src, &b, N, COLS, LD};
    struct call k = {run_store_fetch, &a, {N * COLS}, {NULL}};
    run_all("store, fetch", &k, got, want);
    same_bits("store, fetch", got[0], packed, N * COLS);
    same_bits("store, fetch ref", want[0], packed, N * COLS);
    same_bits("store at a position", fm_rows_at(&rows[0], 31), src + LD, COLS);
    release_all();
}

#endif
