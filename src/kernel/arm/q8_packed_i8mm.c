/* Packed weights with smmla, from two rows of x on: a vector is 2 rows × 8 columns, an instruction multiplies two rows of W by
 * two of x: their four sums.
 *
 *   of x      pairs of rows are laid out so, a piece of columns at a time
 *   of W      four packed rows at a time are unpacked and laid out so: a panel, which all rows of x meet
 *   the sums  stay [x0·w0, x0·w1, x1·w0, x1·w1]: dw, dx and all else is laid out as they are
 *
 * A single row of x goes by sdot.  The chains are those of the other tiers. */
#include "kernel/arm/q8_packed_dotprod.h"

enum { PAIRS = 4, PAIRS_MAX = 64, PIECE = 32 };

/* A run of two rows of x. */
struct pair {
    int8x16_t q[4]; /* 8 columns each */
    float32x4_t d, s;
    int32x4_t sum[2];
};

/* A run of four rows of W, two and two. */
struct panel {
    int8x16_t c[2][4];
    float32x4_t d[2], m[2];
    int32x4_t scale[2][2], min[2][2]; /* [rows][half of the run] */
};

struct scratch {
    struct panel panel[PIECE];
    struct pair x[PAIRS_MAX][PIECE];
};
_Static_assert(sizeof(struct scratch) <= FM_GEMM_WORK * sizeof(float), "work holds it");
_Static_assert(PIECE % RUNS_MAX == 0, "whole blocks");

/* ---- x ---- */

/* A run of rows a and b; sums: the format has minima of halves. */
FM_INLINE void lay_pair(bool sums, struct pair *p, const struct fm_q8x *a, const struct fm_q8x *b)
{
    FM_UNROLL
    for (int h = 0; h < 2; h++) {
        const int64x2_t x = vreinterpretq_s64_s8(vld1q_s8(a->q + 16 * h));
        const int64x2_t y = vreinterpretq_s64_s8(vld1q_s8(b->q + 16 * h));
        p->q[2 * h] = vreinterpretq_s8_s64(vzip1q_s64(x, y));
        p->q[2 * h + 1] = vreinterpretq_s8_s64(vzip2q_s64(x, y));
        if (sums) p->sum[h] = vcombine_s32(vdup_n_s32(a->sum[h]), vdup_n_s32(b->sum[h]));
    }
    p->d = vcombine_f32(vdup_n_f32(a->d), vdup_n_f32(b->d));
    p->s = vcombine_f32(vdup_n_f32(a->s), vdup_n_f32(b->s));
}

/* n runs of m rows, each `blocks` runs long in memory; an odd last row stands for its neighbour. */
FM_INLINE void lay_x(const struct format *f, struct pair x[][PIECE], const struct fm_q8x *xq, int m, int blocks, int n)
{
    for (int i = 0; i < m; i += 2) {
        const struct fm_q8x *a = xq + (ptrdiff_t)i * blocks, *b = i + 1 < m ? a + blocks : a;
        for (int r = 0; r < n; r++) lay_pair(f->two_mins, &x[i / 2][r], a + r, b + r);
    }
}

/* ---- W ---- */

FM_INLINE void twice_f32(float32x4_t to[2], float32x4_t v)
{
    const float64x2_t d = vreinterpretq_f64_f32(v);
    to[0] = vreinterpretq_f32_f64(vzip1q_f64(d, d));
    to[1] = vreinterpretq_f32_f64(vzip2q_f64(d, d));
}

FM_INLINE void twice_s32(int32x4_t *low, int32x4_t *high, int32x4_t v)
{
    const int64x2_t d = vreinterpretq_s64_s32(v);
    *low = vreinterpretq_s32_s64(vzip1q_s64(d, d));
    *high = vreinterpretq_s32_s64(vzip2q_s64(d, d));
}

/* n runs of four rows from the start of a block on. */
FM_INLINE void lay_panel(const struct format *f, struct panel *p, const unsigned char *w, int n)
{
    const int run = (f->low + f->high) * CELLS;
    for (int b = 0; b < n; b += f->runs, w += f->head * ROWS + f->runs * run) {
        struct heads h;
        f->open(f, &h, w);
        for (int r = 0; r < f->runs; r++, p++) {
            int8x16_t c[GROUPS];
            open_codes(f, c, w + f->head * ROWS + r * run);
            FM_UNROLL
            for (int i = 0; i < 4; i++) {
                const int32x4_t a = vreinterpretq_s32_s8(c[2 * i]), e = vreinterpretq_s32_s8(c[2 * i + 1]);
                p->c[0][i] = vreinterpretq_s8_s32(vzip1q_s32(a, e));
                p->c[1][i] = vreinterpretq_s8_s32(vzip2q_s32(a, e));
            }
            twice_f32(p->d, h.d[f->each ? r : 0]);
            if (f->minimum || f->two_mins) twice_f32(p->m, h.m[f->each ? r : 0]);
            for (int i = 0; i < 2 && f->two; i++) twice_s32(&p->scale[0][i], &p->scale[1][i], h.scale[r][i]);
            for (int i = 0; i < 2 && f->two_mins; i++) twice_s32(&p->min[0][i], &p->min[1][i], h.min[r][i]);
        }
    }
}

/* ---- products ---- */

/* Two rows of W by two of x, as the head of this file says. */
FM_INLINE float32x4_t add_pair(const struct format *f, float32x4_t acc, const struct panel *w, int h,
                               const struct pair *x)
{
    const int32x4_t zero = vdupq_n_s32(0);
    int32x4_t s = vmmlaq_s32(vmmlaq_s32(zero, x->q[0], w->c[h][0]), x->q[1], w->c[h][1]);
    const int32x4_t t = vmmlaq_s32(vmmlaq_s32(f->two ? zero : s, x->q[2], w->c[h][2]), x->q[3], w->c[h][3]);
    s = f->two ? vmlaq_s32(vmulq_s32(s, w->scale[h][0]), t, w->scale[h][1]) : t;
    acc = vfmaq_f32(acc, vmulq_f32(w->d[h], x->d), vcvtq_f32_s32(s));
    if (f->minimum) acc = vfmaq_f32(acc, w->m[h], x->s);
    if (f->two_mins) {
        s = vmlaq_s32(vmulq_s32(w->min[h][0], x->sum[0]), w->min[h][1], x->sum[1]);
        acc = vfmaq_f32(acc, vmulq_f32(w->m[h], x->d), vcvtq_f32_s32(s));
    }
    return acc;
}

/* Four rows of W by pairs <= 4 pairs of rows of x, of which m rows count; more: the chains go on from y. */
FM_INLINE void tile(const struct format *f, int pairs, float *y, ptrdiff_t ldy, int m, struct pair x[][PIECE],
                    const struct panel *w, int n, bool more)
{
    float32x4_t acc[PAIRS][2];
    FM_UNROLL
    for (int i = 0; i < pairs; i++) {
        acc[i][0] = acc[i][1] = vdupq_n_f32(0);
        if (!more) continue;
        const float64x2_t a = vreinterpretq_f64_f32(vld1q_f32(y + 2 * i * ldy));
        const float64x2_t b = vreinterpretq_f64_f32(vld1q_f32(y + fm_min_int(2 * i + 1, m - 1) * ldy));
        acc[i][0] = vreinterpretq_f32_f64(vzip1q_f64(a, b));
        acc[i][1] = vreinterpretq_f32_f64(vzip2q_f64(a, b));
    }
    for (int r = 0; r < n; r++, w++) {
        FM_UNROLL
        for (int i = 0; i < pairs; i++) {
            acc[i][0] = add_pair(f, acc[i][0], w, 0, &x[i][r]);
            acc[i][1] = add_pair(f, acc[i][1], w, 1, &x[i][r]);
        }
    }
    FM_UNROLL
    for (int i = 0; i < pairs; i++) {
        const float64x2_t a = vreinterpretq_f64_f32(acc[i][0]), b = vreinterpretq_f64_f32(acc[i][1]);
        vst1q_f32(y + 2 * i * ldy, vreinterpretq_f32_f64(vzip1q_f64(a, b)));
        if (2 * i + 1 < m) vst1q_f32(y + (2 * i + 1) * ldy, vreinterpretq_f32_f64(vzip2q_f64(a, b)));
    }
}

/* n runs of all columns by m rows of x that are laid out. */
FM_INLINE void by_group(const struct format *f, float *y, ptrdiff_t ldy, int m, struct scratch *s, int n, bool more)
{
    int i = 0;
    for (; i + 2 * PAIRS <= m; i += 2 * PAIRS)
        tile(f, PAIRS, y + i * ldy, ldy, 2 * PAIRS, s->x + i / 2, s->panel, n, more);
    for (; i < m; i += 2) tile(f, 1, y + i * ldy, ldy, m - i, s->x + i / 2, s->panel, n, more);
}

FM_INLINE void gemm(const struct format *f, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m,
                    const unsigned char *w, size_t row_bytes, int n, int k, struct scratch *s)
{
    const int blocks = k / RUN, run = (f->low + f->high) * CELLS, block = f->head * ROWS
    +f->runs *run;
    for (int j = 0; j < n && m == 1; j += ROWS) dot_tile(f, 1, y + j, ldy, xq, w + (size_t)j * row_bytes, k);
    for (int i = 0; i < m && m > 1; i += 2 * PAIRS_MAX)
        for (int b = 0; b < blocks; b += PIECE) {
            const int rows = fm_min_int(2 * PAIRS_MAX, m - i), piece = fm_min_int(PIECE, blocks - b);
            lay_x(f, s->x, xq + (ptrdiff_t)i * blocks + b, rows, blocks, piece);
            for (int j = 0; j < n; j += ROWS) {
                lay_panel(f, s->panel, w + (size_t)j * row_bytes + (size_t)(b / f->runs * block), piece);
                by_group(f, y + i * ldy + j, ldy, rows, s, piece, b > 0);
            }
        }
}

#define GEMM(fmt)                                                                                                    \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        static const struct format f = ROW_##fmt;                                                                    \
        gemm(&f, y, ldy, xq, m, w, row_bytes, n, k, (struct scratch *)(void *)work);                                 \
    }
FM_Q8_FORMATS(GEMM)

#define SLOT(fmt) k->gemm_packed[FM_##fmt] = gemm_##fmt;

void fm_i8mm_fill_packed(struct fm_kernels *k)
{
    _Static_assert(ROWS == 4, "as the scalar tier packs");
    FM_Q8_FORMATS(SLOT)
}
