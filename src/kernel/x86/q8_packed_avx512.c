/* Packed weights with AVX-512 VNNI: 16 rows of W side by side, a lane each (the layout: scalar/q8_packed_scalar.c).
 *
 *   a run of 32 columns:  a vector of codes is 16 rows × 4 columns, unpacked in registers by shift and mask, multiplied with up to
 *                         eight rows of x, four of whose columns are broadcast (for two groups of W at once, where loads
 *                         hold the tile back): dpbusd, exact
 *   over runs             acc = fma(dw·dx, that, acc): the sixteen outputs are the lanes
 *
 * dpbusd takes unsigned codes; what they count from comes off as the sums' first value, −offset·Σq, put into work before W passes:
 * made in the tile it would take multiplications.  Two scales of 16 multiply the halves as floats: below 2^24
 * (scalar/q8_scalar.c), so the products and their sum are exact. */
#include "kernel/scalar/q8_packed.h"
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { ROWS = 16, RUN = 32, TILE_M = 8, GROUPS = 2, BLOCK_M = 48, CELLS = 4 * ROWS };

/* Of a block: lane = row. */
struct heads {
    __m512 d[8], m[8]; /* two scales: d[0], m[0] */
    __m512 scale[8][2];
    __m512i min[8]; /* int16 pairs */
};

/* One row per format.  Where inlined with a constant row, all conditions vanish. */
struct format {
    int runs, head;       /* of a file's block: runs of 32, bytes before the codes */
    int low, high;        /* bits of the two planes                                */
    int offset;           /* a weight is its code − offset                         */
    const int8_t *levels; /* or the level that its code names, − offset       */
    bool minimum, two, two_mins;
    void (*open)(struct heads *h, const unsigned char *p);
};

/* Plus 128 and 16. */
static const int8_t uneven[16] = {1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15};
static const int8_t twice_e2m1[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

FM_INLINE __m512i load512(const void *p) { return _mm512_loadu_si512(p); }
FM_INLINE __m128i load128(const void *p) { return _mm_loadu_si128(p); }
FM_INLINE __m512 halves(const unsigned char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }

FM_INLINE __m512i broadcast4(const void *p)
{
    int v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

/* ---- heads ---- */

FM_INLINE void open_d(struct heads *h, const unsigned char *p) { h->d[0] = halves(p); }

FM_INLINE void open_d_m(struct heads *h, const unsigned char *p)
{
    h->d[0] = halves(p);
    h->m[0] = halves(p + 2 * ROWS);
}

FM_INLINE __m512 bytes(__m128i v) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v)); }

/* Six-bit scales and minima: four bytes of sixteen rows at a time, as quant/q4_k.c draws them. */
FM_INLINE void open_k(struct heads *h, const unsigned char *p)
{
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), top = _mm512_set1_epi8(0x30);
    const __m512 d = halves(p), m = _mm512_sub_ps(_mm512_setzero_ps(), halves(p + 2 * ROWS));
    const __m512i t0 = load512(p + 4 * ROWS), t1 = load512(p + 8 * ROWS), t2 = load512(p + 12 * ROWS);
    __m512i s[2], n[2];
    s[0] = _mm512_and_si512(t0, six);
    n[0] = _mm512_and_si512(t1, six);
    s[1] = _mm512_or_si512(_mm512_and_si512(t2, four), _mm512_and_si512(_mm512_srli_epi16(t0, 2), top));
    n[1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(t2, 4), four),
                           _mm512_and_si512(_mm512_srli_epi16(t1, 2), top));
    FM_UNROLL
    for (int i = 0; i < 2; i++) {
        h->d[4 * i] = _mm512_mul_ps(d, bytes(_mm512_castsi512_si128(s[i])));
        h->d[4 * i + 1] = _mm512_mul_ps(d, bytes(_mm512_extracti32x4_epi32(s[i], 1)));
        h->d[4 * i + 2] = _mm512_mul_ps(d, bytes(_mm512_extracti32x4_epi32(s[i], 2)));
        h->d[4 * i + 3] = _mm512_mul_ps(d, bytes(_mm512_extracti32x4_epi32(s[i], 3)));
        h->m[4 * i] = _mm512_mul_ps(m, bytes(_mm512_castsi512_si128(n[i])));
        h->m[4 * i + 1] = _mm512_mul_ps(m, bytes(_mm512_extracti32x4_epi32(n[i], 1)));
        h->m[4 * i + 2] = _mm512_mul_ps(m, bytes(_mm512_extracti32x4_epi32(n[i], 2)));
        h->m[4 * i + 3] = _mm512_mul_ps(m, bytes(_mm512_extracti32x4_epi32(n[i], 3)));
    }
}

FM_INLINE void open_q6_k(struct heads *h, const unsigned char *p)
{
    h->d[0] = halves(p);
    FM_UNROLL
    for (int i = 0; i < 16; i++) h->scale[i / 2][i % 2] = bytes(load128(p + (2 + i) * ROWS));
}

FM_INLINE void open_q2_k(struct heads *h, const unsigned char *p)
{
    const __m128i four = _mm_set1_epi8(15);
    h->d[0] = halves(p);
    h->m[0] = _mm512_sub_ps(_mm512_setzero_ps(), halves(p + 2 * ROWS));
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        __m128i s0 = load128(p + (4 + 2 * b) * ROWS), s1 = load128(p + (5 + 2 * b) * ROWS);
        h->scale[b][0] = bytes(_mm_and_si128(s0, four));
        h->scale[b][1] = bytes(_mm_and_si128(s1, four));
        __m512i m0 = _mm512_cvtepi8_epi32(_mm_and_si128(_mm_srli_epi16(s0, 4), four));
        __m512i m1 = _mm512_cvtepi8_epi32(_mm_and_si128(_mm_srli_epi16(s1, 4), four));
        h->min[b] = _mm512_or_si512(m0, _mm512_slli_epi32(m1, 16));
    }
}

FM_INLINE void open_q3_k(struct heads *h, const unsigned char *p)
{
    const __m128i four = _mm_set1_epi8(15), two = _mm_set1_epi8(3);
    h->d[0] = halves(p);
    p += 2 * ROWS;
    FM_UNROLL
    for (int i = 0; i < 16; i++) {
        __m128i low = _mm_and_si128(_mm_srli_epi16(load128(p + i % 8 * ROWS), i / 8 * 4), four);
        __m128i top = _mm_and_si128(_mm_srli_epi16(load128(p + (8 + i % 4) * ROWS), i / 4 * 2), two);
        __m128i s = _mm_or_si128(low, _mm_slli_epi16(top, 4));
        h->scale[i / 2][i % 2] = bytes(_mm_sub_epi8(s, _mm_set1_epi8(32)));
    }
}

FM_INLINE void open_iq4_xs(struct heads *h, const unsigned char *p)
{
    const __m512 d = halves(p);
    const __m512i top = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p + 2 * ROWS)));
    const __m512i low = load512(p + 4 * ROWS);
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        __m512i s = _mm512_and_si512(_mm512_srli_epi32(low, 4 * b), _mm512_set1_epi32(15));
        __m512i t = _mm512_and_si512(_mm512_srli_epi32(top, 2 * b), _mm512_set1_epi32(3));
        s = _mm512_sub_epi32(_mm512_or_si512(s, _mm512_slli_epi32(t, 4)), _mm512_set1_epi32(32));
        h->d[b] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(s));
    }
}

/* 2^(e − 128) of a byte e; below the normal numbers single bits of the fraction. */
FM_INLINE void open_mxfp4(struct heads *h, const unsigned char *p)
{
    __m512i e = _mm512_cvtepu8_epi32(load128(p));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x200000), e);
    __mmask16 low = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
    h->d[0] = _mm512_castsi512_ps(_mm512_mask_blend_epi32(low, normal, small));
}

/* ---- codes ---- */

/* The bits of every byte from bit `from` on moved to bit `to`; the others are left to a mask. */
FM_INLINE __m512i moved(__m512i v, int from, int to)
{
    return from > to   ? _mm512_srli_epi16(v, (unsigned)(from - to))
           : from < to ? _mm512_slli_epi16(v, (unsigned)(to - from))
                       : v;
}

/* Columns 4g … 4g + 3 of the run at p. */
FM_INLINE __m512i codes(const struct format *f, const unsigned char *p, int g)
{
    if (f->low == 8) return _mm512_xor_si512(load512(p + g * CELLS), _mm512_set1_epi8(-128));
    __m512i c = moved(load512(p + g % f->low * CELLS), g / f->low * f->low, 0);
    c = _mm512_and_si512(c, _mm512_set1_epi8((char)((1 << f->low) - 1)));
    if (f->high) {
        const __m512i mask = _mm512_set1_epi8((char)(((1 << f->high) - 1) << f->low));
        __m512i v = load512(p + (f->low + g % f->high) * CELLS);
        c = _mm512_ternarylogic_epi32(c, moved(v, g / f->high * f->high, f->low), mask, 0xF8); /* c | (v & mask) */
    }
    if (f->levels) c = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(f->levels)), c);
    return c;
}

/* ---- products ---- */

/* Firsts of a tile: what the sums of each block of x begin with, −offset·Σq, of a half each where halves have scales. */
FM_INLINE int firsts_each(const struct format *f) { return !f->offset ? 0 : f->two ? 2 : 1; }

FM_INLINE void put_firsts(int32_t *to, const struct format *f, const struct fm_q8x *x, size_t n)
{
    const int minus = -f->offset;
    for (size_t b = 0; b < n && f->offset; b++) {
        if (f->two) {
            to[2 * b] = minus * x[b].sum[0];
            to[2 * b + 1] = minus * x[b].sum[1];
        } else {
            to[b] = minus * (x[b].sum[0] + x[b].sum[1]);
        }
    }
}

/* Four steps from g0 on, added to sum: a broadcast of x serves ng groups, `apart` bytes from each other. */
FM_INLINE void four_steps(__m512i sum[GROUPS][TILE_M], const struct format *f, const struct fm_q8x *const x[TILE_M],
                          int ni, int ng, const unsigned char *p, ptrdiff_t apart, int g0)
{
    FM_UNROLL
    for (int g = g0; g < g0 + 4; g++) {
        __m512i w[GROUPS];
        FM_UNROLL
        for (int j = 0; j < ng; j++) w[j] = codes(f, p + j * apart, g);
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            const __m512i four = broadcast4(x[i]->q + 4 * g);
            FM_UNROLL
            for (int j = 0; j < ng; j++) sum[j][i] = _mm512_dpbusd_epi32(sum[j][i], w[j], four);
        }
    }
}

/* The integers of halves h0, h1 (1 or 0) of the run at p for ni rows of x, as exact floats. */
FM_INLINE void sums(__m512 out[GROUPS][TILE_M], const struct format *f, const struct fm_q8x *const x[TILE_M],
                    const int32_t *const first[TILE_M], int ni, int ng, const unsigned char *p, ptrdiff_t apart, int h0,
                    int h1)
{
    __m512i sum[GROUPS][TILE_M];
    FM_UNROLL
    for (int i = 0; i < ni; i++)
        sum[0][i] = sum[1][i] = f->offset ? _mm512_set1_epi32(first[i][!h0]) : _mm512_setzero_si512();
    if (h0) four_steps(sum, f, x, ni, ng, p, apart, 0);
    if (h1) four_steps(sum, f, x, ni, ng, p, apart, 4);
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int j = 0; j < ng; j++) out[j][i] = _mm512_cvtepi32_ps(sum[j][i]);
    }
}

/* The integers of the run at p; where halves have scales, times these. */
FM_INLINE void run_sums(__m512 out[GROUPS][TILE_M], const struct format *f, const struct heads h[GROUPS], int b,
                        const struct fm_q8x *const x[TILE_M], const int32_t *const first[TILE_M], int ni, int ng,
                        const unsigned char *p, ptrdiff_t apart)
{
    __m512 second[GROUPS][TILE_M];
    sums(out, f, x, first, ni, ng, p, apart, 1, !f->two);
    if (!f->two) return;
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int j = 0; j < ng; j++) out[j][i] = _mm512_mul_ps(out[j][i], h[j].scale[b][0]);
    }
    sums(second, f, x, first, ni, ng, p, apart, 0, 1);
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int j = 0; j < ng; j++) out[j][i] = _mm512_fmadd_ps(second[j][i], h[j].scale[b][1], out[j][i]);
    }
}

/* acc of one group and row of x after the run whose integers are `sum`. */
FM_INLINE __m512 add_run(__m512 acc, const struct format *f, const struct heads *h, int b, const struct fm_q8x *x,
                         __m512 sum)
{
    const int at = f->two ? 0 : b;
    const __m512 dx = _mm512_set1_ps(x->d);
    acc = _mm512_fmadd_ps(_mm512_mul_ps(h->d[at], dx), sum, acc);
    if (f->minimum) acc = _mm512_fmadd_ps(h->m[at], _mm512_set1_ps(x->s), acc);
    if (f->two_mins)
        acc = _mm512_fmadd_ps(_mm512_mul_ps(h->m[0], dx),
                              _mm512_cvtepi32_ps(_mm512_madd_epi16(h->min[b], broadcast4(x->sum))), acc);
    return acc;
}

/* ni rows of x (nb blocks each) by ng groups of rows of W, one at p, one `apart` bytes behind; the lines of y are asked for
 * before they are written.  ni, ng, f are constants where inlined. */
FM_INLINE void tile(const struct format *f, int ni, int ng, float *y, ptrdiff_t ldy, const struct fm_q8x *xq,
                    const int32_t *firsts, int nb, const unsigned char *p, ptrdiff_t apart, struct fm_ahead *next)
{
    const int run = 4 * (f->low + f->high) * ROWS;
    struct fm_ahead ahead = *next;
    __m512 acc[GROUPS][TILE_M], sum[GROUPS][TILE_M];
    const struct fm_q8x *x[TILE_M] = {0};
    const int32_t *first[TILE_M] = {0};
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int j = 0; j < ng; j++) _mm_prefetch((const char *)(y + i * ldy + j * ROWS), _MM_HINT_T0);
        acc[0][i] = acc[1][i] = _mm512_setzero_ps();
        x[i] = xq + (ptrdiff_t)i * nb;
        first[i] = firsts + (ptrdiff_t)i * nb * firsts_each(f);
    }
    for (int b0 = 0; b0 < nb; b0 += f->runs) {
        struct heads h[GROUPS];
        FM_UNROLL
        for (int j = 0; j < ng; j++) f->open(&h[j], p + j * apart);
        p += f->head * ROWS;
        for (int b = 0; b < f->runs; b++, p += run) {
            if (ni > 1) fm_ask(&ahead);
            run_sums(sum, f, h, b, x, first, ni, ng, p, apart);
            FM_UNROLL
            for (int i = 0; i < ni; i++) {
                FM_UNROLL
                for (int j = 0; j < ng; j++) acc[j][i] = add_run(acc[j][i], f, &h[j], b, x[i], sum[j][i]);
                x[i]++;
                first[i] += firsts_each(f);
            }
        }
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int j = 0; j < ng; j++) _mm512_storeu_ps(y + i * ldy + j * ROWS, acc[j][i]);
    }
    *next = ahead;
}

/* ---- the loops around ---- */

typedef void (*tile_fn)(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, const int32_t *firsts, int nb,
                        const unsigned char *p, ptrdiff_t apart, struct fm_ahead *next);

/* The rows of x in the next tile: the most, or one to four. */
static int tile_rows(int left, int most) { return left > 4 && left <= 8 && left != most ? 4 : fm_min_int(left, most); }

/* Some rows of x at a time, which stay in the L2 cache while W passes; their firsts lie in work. */
FM_INLINE void gemm(const struct format *f, const tile_fn one[TILE_M + 1], const tile_fn two[TILE_M + 1], float *y,
                    ptrdiff_t ldy, const struct fm_q8x *xq, int m, const unsigned char *w, size_t row_bytes, int n,
                    int nb, float *work)
{
    int32_t *const firsts = (int32_t *)(void *)work;
    const ptrdiff_t each = (ptrdiff_t)nb * firsts_each(f); /* of a row */
    const int most_rows = each * BLOCK_M <= FM_GEMM_WORK ? BLOCK_M : (int)(FM_GEMM_WORK / each);
    for (int m0 = 0; m0 < m; m0 += most_rows) {
        const int m1 = fm_min_int(m0 + most_rows, m);
        put_firsts(firsts, f, xq + (ptrdiff_t)m0 * nb, (size_t)(m1 - m0) * nb);
        for (int j = 0, ng; j < n; j += ng * ROWS) {
            ng = two && m > 1 && n - j >= 2 * ROWS
            ? 2 : 1;
            const tile_fn *const tiles = ng == 2 ? two : one;
            const int most = ng == 2 ? 6 : 8;
            const unsigned char *p = w + (size_t)j * row_bytes;
            struct fm_ahead next =
                fm_ahead_of(p, (size_t)(ng * ROWS) * row_bytes, (m1 - m0 - 1) / most + 1, nb, m == 1);
            for (int i = m0, rows; i < m1; i += rows) {
                rows = tile_rows(m1 - i, most);
                tiles[rows](y + i * ldy + j, ldy, xq + (ptrdiff_t)i * nb, firsts + (i - m0) * each, nb, p,
                            (ptrdiff_t)row_bytes * ROWS, &next);
            }
        }
    }
}

static const struct format format_Q8_0 = {1, 2, 8, 0, 128, NULL, false, false, false, open_d};
static const struct format format_Q4_0 = {1, 2, 4, 0, 8, NULL, false, false, false, open_d};
static const struct format format_Q4_1 = {1, 4, 4, 0, 0, NULL, true, false, false, open_d_m};
static const struct format format_Q5_0 = {1, 2, 4, 1, 16, NULL, false, false, false, open_d};
static const struct format format_Q5_1 = {1, 4, 4, 1, 0, NULL, true, false, false, open_d_m};
static const struct format format_Q2_K = {8, 20, 2, 0, 0, NULL, false, true, true, open_q2_k};
static const struct format format_Q3_K = {8, 14, 2, 1, 4, NULL, false, true, false, open_q3_k};
static const struct format format_Q4_K = {8, 16, 4, 0, 0, NULL, true, false, false, open_k};
static const struct format format_Q5_K = {8, 16, 4, 1, 0, NULL, true, false, false, open_k};
static const struct format format_Q6_K = {8, 18, 4, 2, 32, NULL, false, true, false, open_q6_k};
static const struct format format_IQ4_NL = {1, 2, 4, 0, 128, uneven, false, false, false, open_d};
static const struct format format_IQ4_XS = {8, 8, 4, 0, 128, uneven, false, false, false, open_iq4_xs};
static const struct format format_MXFP4 = {1, 1, 4, 0, 16, twice_e2m1, false, false, false, open_mxfp4};

#define TILE(fmt, ni, ng)                                                                                         \
    static void tile_##fmt##_##ni##_##ng(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, const int32_t *firsts, \
                                         int nb, const unsigned char *p, ptrdiff_t apart, struct fm_ahead *next)  \
    {                                                                                                             \
        tile(&format_##fmt, ni, ng, y, ldy, xq, firsts, nb, p, apart, next);                                      \
    }
#define PACKED(fmt, two)                                                                                             \
    TILE(fmt, 1, 1)                                                                                                  \
    TILE(fmt, 2, 1)                                                                                                  \
    TILE(fmt, 3, 1)                                                                                                  \
    TILE(fmt, 4, 1)                                                                                                  \
    TILE(fmt, 8, 1)                                                                                                  \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        static const tile_fn one[TILE_M + 1] = {                                                                     \
            NULL, tile_##fmt##_1_1, tile_##fmt##_2_1, tile_##fmt##_3_1, tile_##fmt##_4_1, [8] = tile_##fmt##_8_1};   \
        gemm(&format_##fmt, one, two, y, ldy, xq, m, w, row_bytes, n, k / RUN, work);                                \
    }                                                                                                                \
    FM_Q8_UNPACK_ROW(fmt, ROWS)
/* Where a scale of 32 columns is all there is, loads of x hold a tile back, and a second group halves them; with blocks of 256
 * it is multiplications, which more rows of x at a time save. */
#define BY_TWO(fmt)                                                                                            \
    TILE(fmt, 1, 2)                                                                                            \
    TILE(fmt, 2, 2)                                                                                            \
    TILE(fmt, 3, 2)                                                                                            \
    TILE(fmt, 4, 2)                                                                                            \
    TILE(fmt, 6, 2)                                                                                            \
    static const tile_fn two_##fmt[TILE_M + 1] = {                                                             \
        NULL, tile_##fmt##_1_2, tile_##fmt##_2_2, tile_##fmt##_3_2, tile_##fmt##_4_2, [6] = tile_##fmt##_6_2}; \
    PACKED(fmt, two_##fmt)
#define BY_ONE(fmt) PACKED(fmt, NULL)
FM_Q8_BLOCKS_OF_32(BY_TWO)
FM_Q8_BLOCKS_OF_256(BY_ONE)

#define SLOTS(fmt)                          \
    k->unpack_row[FM_##fmt] = unpack_##fmt; \
    k->gemm_packed[FM_##fmt] = gemm_##fmt;

void fm_avx512_fill_packed(struct fm_kernels *k)
{
    k->pack_rows = ROWS;
    fm_avx2_fill_pack(k);
    FM_Q8_FORMATS(SLOTS)
}
