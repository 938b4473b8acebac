/* The product engine: a list of matrix products, cut into tiles that the pool works off.
 *
 * An element of C is one chain over k (kernel.h), so neither the cut into tiles, nor the panels of decoded weights, nor
 * the choice of gemv or gemm changes a bit; only speed decides here. */
#include <assert.h>

#include "op/cpu/backend.h"

enum {
    TILE_MAX = 512,          /* rows and columns of a tile                                                          */
    TILE_MACS_MIN = 1 << 18, /* below, packing and the hand-over show                                               */
    GEMV_MACS_MIN = 1 << 16, /* … where one row in floats waits for its weights (a router's, say)                   */
    TILES_EACH = 3,          /* tiles per thread: fewer wait for the slowest, more pack more often                  */
    TILES_FEW = 8,           /* … where few rows leave nothing to pack                                              */
    TILES_PACKED = 16,       /* … where all is packed                                                               */
    FEW_ROWS = 4,
    TILE_STEP = 64, /* columns come in multiples of this: whole groups of rows for every kernel            */
    GEMV_STEP = 16, /* … as that for one row in floats needs them                                          */
};

fm_decode_fn fm_cpu_decoder(struct fm_ctx *c, enum fm_fmt fmt)
{
    fm_decode_fn kernel = fm_cpu_kernels(c)->decode[fmt];
    if (kernel) return kernel;
    if (!fm_formats[fmt].decode)
        fm_ctx_fail(c, FM_ERR_INPUT, "weights: stored in a format that cannot be computed with");
    return fm_formats[fmt].decode;
}

static const char *weights_at(const struct fm_cpu_product *p, int row, int col)
{
    return (const char *)p->w.data + (size_t)row * p->w.row_bytes + fm_format_bytes(p->w.fmt, (uint64_t)col);
}

/* C[m0…, n0…] of a tile, the k range [k0, k1), B from b (first element B[k0, n0]). */
static void gemm_part(const struct fm_ctx *c, const struct fm_cpu_product *p, int m0, int m1, int n0, int n1, int k0,
                      int k1, const float *b, ptrdiff_t b_rs, ptrdiff_t b_cs, int thread)
{
    fm_cpu_kernels(c)->gemm_f32(m1 - m0, n1 - n0, k1 - k0, p->a + m0 * p->a_rs + k0 * p->a_cs, p->a_rs, p->a_cs, b,
                                b_rs, b_cs, p->c + m0 * p->ldc + n0, p->ldc, p->accumulate || k0 > 0,
                                fm_cpu_work(c, thread));
}

/* Weights in another format: decode a panel of at most 256 × 256, multiply, go on along k. */
static void tile_decoded(const struct fm_ctx *c, const struct fm_cpu_product *p, int m0, int m1, int n0, int n1,
                         int thread)
{
    enum { SIDE = FM_CPU_PANEL_SIDE };
    fm_decode_fn decode = fm_cpu_decoder((struct fm_ctx *)c, p->w.fmt); /* checked before: does not fail here */
    float *panel = fm_cpu_panel(c, thread);
    for (int n = n0; n < n1; n += SIDE)
        for (int k = 0; k < p->k; k += SIDE) {
            int n_end = fm_min_int(n + SIDE, n1), k_end = fm_min_int(k + SIDE, p->k);
            int row = p->turned ? k : n, row_end = p->turned ? k_end : n_end, col = p->turned ? n : k;
            int cols = p->turned ? n_end - n : k_end - k;
            for (int r = row; r < row_end; r++)
                fm_mat_decode(panel + (size_t)(r - row) * SIDE, &p->w, r, col, cols, decode);
            gemm_part(c, p, m0, m1, n, n_end, k, k_end, panel, p->turned ? SIDE : 1, p->turned ? 1 : SIDE, thread);
        }
}

/* One row: weights are decoded in registers. */
static bool wants_gemv(const struct fm_cpu_product *p, const struct fm_kernels *k)
{
    return !p->xq && !p->xq14 && p->m == 1 && p->w.data && !p->w.scale.at && !p->turned && !p->accumulate &&
           k->gemv[p->w.fmt];
}

/* Up to FM_GEMM_FEW rows, where a kernel decodes in registers as well; with the scales of FP8 where 32 columns share one. */
static bool wants_few(const struct fm_cpu_product *p, const struct fm_kernels *k)
{
    const struct fm_scales *s = &p->w.scale;
    if (p->m > FM_GEMM_FEW || !p->w.data || p->turned || p->accumulate || p->a_cs != 1 || !k->gemm_few[p->w.fmt])
        return false;
    return !s->at || (p->w.fmt == FM_F8_E4M3 && !s->two_levels && (s->block_cols % 32 == 0 || s->block_cols >= p->k));
}

/* The scales of rows n0 … n1 − 1, one after the other. */
static void read_scales(float *dst, const struct fm_scales *s, int n0, int n1, int per_row)
{
    const struct fm_format *f = &fm_formats[s->fmt];
    for (int r = n0; r < n1; r++, dst += per_row)
        f->decode(dst, (const char *)s->at + (size_t)((s->row0 + r) / s->block_rows) * (size_t)s->ld * f->block_bytes,
                  (size_t)per_row);
}

static void tile_few(const struct fm_ctx *c, const struct fm_cpu_product *p, int m0, int m1, int n0, int n1, int thread)
{
    const struct fm_scales *s = &p->w.scale;
    float *scales = fm_cpu_panel(c, thread);
    const int cols = s->at ? s->block_cols : 1, per_row = (p->k - 1) / cols + 1;
    const struct fm_scaling scaling = {scales, per_row, cols};
    const int step = s->at ? FM_CPU_PANEL_SIDE * FM_CPU_PANEL_SIDE / per_row : n1 - n0;
    for (int n = n0; n < n1; n += step) {
        const int n_end = fm_min_int(n + step, n1);
        if (s->at) read_scales(scales, s, n, n_end, per_row);
        fm_cpu_kernels(c)->gemm_few[p->w.fmt](p->c + m0 * p->ldc + n, p->ldc, p->a + m0 * p->a_rs, p->a_rs, m1 - m0,
                                              weights_at(p, n, 0), p->w.row_bytes, n_end - n, p->k,
                                              s->at ? &scaling : NULL, fm_cpu_work(c, thread));
    }
}

_Static_assert(FM_OP_INPUTS / 32 <= FM_CPU_PANEL_SIDE * FM_CPU_PANEL_SIDE, "scales of one row at least");

/* In integers of 8 or 14 bits; packed in 14, the format does not matter any more. */
static void integer_part(const struct fm_ctx *c, const struct fm_cpu_product *p, bool packed, int m0, int m1, int n0,
                         int n1, int thread)
{
    const struct fm_kernels *k = fm_cpu_kernels(c);
    const enum fm_fmt fmt = p->w.fmt;
    const size_t x = (size_t)m0 * (size_t)(p->k / 32), row_bytes = p->w.row_bytes;
    const char *w = weights_at(p, n0, 0);
    float *y = p->c + m0 * p->ldc + n0, *work = fm_cpu_work(c, thread);
    if (n0 == n1) return;
    if (p->xq)
        (packed ? k->gemm_packed : k->gemm_q8)[fmt](y, p->ldc, p->xq + x, m1 - m0, w, row_bytes, n1 - n0, p->k, work);
    else
        (packed ? k->gemm_packed_q14 : k->gemm_q14[fmt])(y, p->ldc, p->xq14 + x, m1 - m0, w, row_bytes, n1 - n0, p->k,
                                                         work);
}

static void tile_integer(const struct fm_ctx *c, const struct fm_cpu_product *p, int m0, int m1, int n0, int n1,
                         int thread)
{
    const int packed = fm_min_int(fm_max_int(p->packed, n0), n1);
    integer_part(c, p, true, m0, m1, n0, packed, thread);
    integer_part(c, p, false, m0, m1, packed, n1, thread);
}

static void run_tile(const struct fm_ctx *c, const struct fm_cpu_product *p, int m0, int m1, int n0, int n1, int thread)
{
    const struct fm_kernels *k = fm_cpu_kernels(c);
    if (p->xq || p->xq14) {
        tile_integer(c, p, m0, m1, n0, n1, thread);
    } else if (wants_gemv(p, k)) {
        k->gemv[p->w.fmt](p->c + n0, weights_at(p, n0, 0), p->w.row_bytes, p->a, n1 - n0, p->k);
    } else if (wants_few(p, k)) {
        tile_few(c, p, m0, m1, n0, n1, thread);
    } else if (!p->w.data) {
        gemm_part(c, p, m0, m1, n0, n1, 0, p->k, p->b + n0 * p->b_cs, p->b_rs, p->b_cs, thread);
    } else if (p->w.fmt == FM_F32) { /* used where it lies */
        ptrdiff_t ld = (ptrdiff_t)(p->w.row_bytes / sizeof(float));
        const float *w = p->w.data;
        gemm_part(c, p, m0, m1, n0, n1, 0, p->k, p->turned ? w + n0 : w + n0 * ld, p->turned ? ld : 1,
                  p->turned ? 1 : ld, thread);
    } else {
        tile_decoded(c, p, m0, m1, n0, n1, thread);
    }
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }
static int n_pieces(int n, int piece) { return (n + piece - 1) / piece; }

/* Tiles of about macs multiply-adds: as many rows as possible first (B is packed or decoded once per tile). */
static void cut(struct fm_cpu_product *p, double macs, int step)
{
    double per_column = (double)p->k * fm_min_int(p->m, TILE_MAX);
    int columns = macs / per_column < TILE_MAX ? (int)(macs / per_column) : TILE_MAX;
    /* formats with blocks along n (turned) are cut at blocks: the panel's side is a multiple of all */
    if (p->turned && p->w.data && fm_formats[p->w.fmt].block > 1) step = FM_CPU_PANEL_SIDE;
    p->tile_n = round_up(columns > 0 ? columns : 1, step);
    p->tile_m = fm_min_int(p->m, TILE_MAX);
    if (per_column * p->tile_n > 2 * macs)
        p->tile_m = fm_min_int(p->tile_m, round_up((int)(macs / ((double)p->k * p->tile_n)) + 1, 48));
}

struct job {
    struct fm_ctx *c;
    const struct fm_cpu_product *p;
    int n;
};

/* The product that tile i belongs to: the last one with first_tile <= i. */
static const struct fm_cpu_product *product_of(const struct job *j, int i)
{
    int lo = 0, hi = j->n;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (j->p[mid].first_tile <= i)
            lo = mid;
        else
            hi = mid;
    }
    return &j->p[lo];
}

static void run_tiles(void *arg, int begin, int end, int thread)
{
    const struct job *j = arg;
    for (int i = begin; i < end; i++) {
        const struct fm_cpu_product *p = product_of(j, i);
        int at = i - p->first_tile, across = n_pieces(p->n, p->tile_n);
        int m = at / across * p->tile_m, n = at % across * p->tile_n;
        run_tile(j->c, p, m, fm_min_int(m + p->tile_m, p->m), n, fm_min_int(n + p->tile_n, p->n), thread);
    }
}

/* Reads the product's weights where they lie packed; the first time, they are packed. */
static void use_packed(struct fm_ctx *c, struct fm_cpu_product *p)
{
    const struct fm_packed *to = p->w.packed;
    p->packed = 0;
    if (!to || !(p->xq || p->xq14)) return;
    if (!to->ready) fm_cpu_pack(c, &p->w);
    const size_t at = (size_t)((const char *)p->w.data - (const char *)to->from);
    p->packed = fm_min_int(p->n, fm_max_int(0, fm_cpu_grouped_rows(c, to) - (int)(at / p->w.row_bytes)));
    p->w.data = (char *)to->to + at;
}

void fm_cpu_products(struct fm_ctx *c, int n)
{
    struct fm_cpu_backend *be = fm_cpu_backend(c);
    double macs = 0;
    int most_rows = 0;
    bool all_packed = true, gemv = true;
    assert(n <= FM_CPU_PRODUCTS);
    for (int i = 0; i < n; i++) {
        struct fm_cpu_product *p = &be->products[i];
        use_packed(c, p);
        all_packed &= p->packed > 0;
        gemv &= wants_gemv(p, be->k);
        macs += (double)p->m * p->n * p->k;
        if (p->m > most_rows) most_rows = p->m;
        if (p->w.data && !fm_cpu_decoder(c, p->w.fmt)) return;
    }
    const int each = most_rows <= FEW_ROWS ? TILES_FEW : all_packed ? TILES_PACKED : TILES_EACH;
    const double least = gemv ? GEMV_MACS_MIN : TILE_MACS_MIN;
    n = fm_cpu_by_node(c->pool, be->products, n);
    double tile = be->n_threads > 1 ? macs / (each * be->n_threads) : macs;
    int tiles = 0;
    for (int i = 0; i < n; i++) {
        struct fm_cpu_product *p = &be->products[i];
        cut(p, tile > least ? tile : least, gemv ? GEMV_STEP : TILE_STEP);
        p->first_tile = tiles;
        tiles += n_pieces(p->m, p->tile_m) * n_pieces(p->n, p->tile_n);
    }
    fm_cpu_for(c, tiles, macs < least ? tiles : 1, run_tiles, &(struct job){c, be->products, n});
}
