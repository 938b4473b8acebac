/* Packed weights with AVX2: 8 rows of W side by side, a lane each (the layout: scalar/q8_packed_scalar.c).
 *
 *   a run of 32 columns:  a vector of codes is 8 rows × 4 columns, unpacked in registers by shift and mask; maddubs with four
 *                         columns of a row of x in all lanes gives pairs in int16, of which as many are added as fit (the
 *                         ranges: q8_avx2.c) before madd makes them int32
 *   over runs             acc = fma(dw·dx, that, acc): the eight outputs are the lanes
 *
 * Two scales of 16 are madd's other factor.  Signed codes of eight bits: maddubs gets |w| and sign(w)·q. */
#include "kernel/scalar/q8_packed.h"
#include "kernel/x86/q8_blocks_avx2.h"
#include "kernel/x86/x86.h"

enum { ROWS = 8, RUN = 32, TILE_M = 4, BLOCK_M = 64, CELLS = 4 * ROWS };

/* Of a block: lane = row. */
struct heads {
    __m256 d[8], m[8];      /* two scales: d[0], m[0]                       */
    __m256i scale[8][2];    /* each in both int16 of its lane               */
    __m256i off[8], min[8]; /* int16 pairs of both halves: scales times offset, minima */
};

/* One row per format.  Where inlined with a constant row, all conditions vanish. */
struct format {
    int runs, head; /* of a file's block: runs of 32, bytes before the codes          */
    int low, high;  /* bits of the two planes                                         */
    int steps;      /* products that int16 holds the sum of, of four columns; 0: signed */
    int offset;     /* a weight is its code − offset                                  */
    bool levels;    /* or the level that its code names: IQ4's, or twice E2M1's       */
    bool minimum, two, two_mins;
    void (*open)(const struct format *f, struct heads *h, const unsigned char *p);
};

FM_INLINE __m256 halves(const unsigned char *p) { return _mm256_cvtph_ps(q8_load16(p)); }
FM_INLINE __m256i bytes(const unsigned char *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)); }

/* ---- heads ---- */

FM_INLINE void open_d(const struct format *f, struct heads *h, const unsigned char *p)
{
    h->d[0] = halves(p);
    if (f->minimum) h->m[0] = halves(p + 2 * ROWS);
}

/* Six-bit scales and minima: four bytes of eight rows at a time, as quant/q4_k.c draws them. */
FM_INLINE void open_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    const __m256i six = _mm256_set1_epi8(63), four = _mm256_set1_epi8(15), top = _mm256_set1_epi8(0x30);
    const __m256 d = halves(p), m = _mm256_sub_ps(_mm256_setzero_ps(), halves(p + 2 * ROWS));
    const __m256i t0 = q8_load32(p + 4 * ROWS), t1 = q8_load32(p + 8 * ROWS), t2 = q8_load32(p + 12 * ROWS);
    unsigned char s[8 * ROWS], n[8 * ROWS];
    _mm256_storeu_si256((void *)s, _mm256_and_si256(t0, six));
    _mm256_storeu_si256((void *)n, _mm256_and_si256(t1, six));
    _mm256_storeu_si256((void *)(s + 4 * ROWS),
                        _mm256_or_si256(_mm256_and_si256(t2, four), _mm256_and_si256(_mm256_srli_epi16(t0, 2), top)));
    _mm256_storeu_si256((void *)(n + 4 * ROWS), _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(t2, 4), four),
                                                                _mm256_and_si256(_mm256_srli_epi16(t1, 2), top)));
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        h->d[b] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(bytes(s + b * ROWS)));
        h->m[b] = _mm256_mul_ps(m, _mm256_cvtepi32_ps(bytes(n + b * ROWS)));
    }
}

/* The pair {a, b} of int16 in every lane; both fit. */
FM_INLINE __m256i pair(__m256i a, __m256i b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA); }

FM_INLINE void set_scales(const struct format *f, struct heads *h, int b, __m256i s0, __m256i s1)
{
    h->scale[b][0] = pair(s0, s0);
    h->scale[b][1] = pair(s1, s1);
    h->off[b] = _mm256_mullo_epi16(pair(s0, s1), _mm256_set1_epi16((short)f->offset));
}

FM_INLINE void open_q6_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    h->d[0] = halves(p);
    FM_UNROLL
    for (int b = 0; b < 8; b++) set_scales(f, h, b, bytes(p + (2 + 2 * b) * ROWS), bytes(p + (3 + 2 * b) * ROWS));
}

FM_INLINE void open_q2_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    const __m256i four = _mm256_set1_epi32(15);
    h->d[0] = halves(p);
    h->m[0] = _mm256_sub_ps(_mm256_setzero_ps(), halves(p + 2 * ROWS));
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        __m256i s0 = bytes(p + (4 + 2 * b) * ROWS), s1 = bytes(p + (5 + 2 * b) * ROWS);
        set_scales(f, h, b, _mm256_and_si256(s0, four), _mm256_and_si256(s1, four));
        h->min[b] =
            pair(_mm256_and_si256(_mm256_srli_epi32(s0, 4), four), _mm256_and_si256(_mm256_srli_epi32(s1, 4), four));
    }
}

/* Scale i of Q3_K. */
FM_INLINE __m256i scale_q3_k(const unsigned char *p, int i)
{
    __m256i low = _mm256_and_si256(_mm256_srli_epi32(bytes(p + i % 8 * ROWS), i / 8 * 4), _mm256_set1_epi32(15));
    __m256i top = _mm256_and_si256(_mm256_srli_epi32(bytes(p + (8 + i % 4) * ROWS), i / 4 * 2), _mm256_set1_epi32(3));
    return _mm256_sub_epi32(_mm256_or_si256(low, _mm256_slli_epi32(top, 4)), _mm256_set1_epi32(32));
}

FM_INLINE void open_q3_k(const struct format *f, struct heads *h, const unsigned char *p)
{
    h->d[0] = halves(p);
    p += 2 * ROWS;
    FM_UNROLL
    for (int b = 0; b < 8; b++) set_scales(f, h, b, scale_q3_k(p, 2 * b), scale_q3_k(p, 2 * b + 1));
}

FM_INLINE void open_iq4_xs(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    const __m256 d = halves(p);
    const __m256i top = _mm256_cvtepu16_epi32(q8_load16(p + 2 * ROWS)), low = q8_load32(p + 4 * ROWS);
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        __m256i s = _mm256_and_si256(_mm256_srli_epi32(low, 4 * b), _mm256_set1_epi32(15));
        __m256i t = _mm256_and_si256(_mm256_srli_epi32(top, 2 * b), _mm256_set1_epi32(3));
        s = _mm256_sub_epi32(_mm256_or_si256(s, _mm256_slli_epi32(t, 4)), _mm256_set1_epi32(32));
        h->d[b] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(s));
    }
}

/* 2^(e − 128) of a byte e; below the normal numbers single bits of the fraction. */
FM_INLINE void open_mxfp4(const struct format *f, struct heads *h, const unsigned char *p)
{
    (void)f;
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    h->d[0] = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

/* ---- codes ---- */

/* The bits of every byte from bit `from` on moved to bit `to`, `bits` of them, the rest zero. */
FM_INLINE __m256i moved(__m256i v, int from, int to, int bits)
{
    v = from > to ? _mm256_srli_epi16(v, from - to) : from < to ? _mm256_slli_epi16(v, to - from) : v;
    return _mm256_and_si256(v, _mm256_set1_epi8((char)(((1 << bits) - 1) << to)));
}

/* Columns 4g … 4g + 3 of the run at p. */
FM_INLINE __m256i codes(const struct format *f, const unsigned char *p, int g)
{
    if (f->low == 8) return q8_load32(p + g * CELLS);
    __m256i c = moved(q8_load32(p + g % f->low * CELLS), g / f->low * f->low, 0, f->low);
    if (f->high)
        c = _mm256_or_si256(
            c, moved(q8_load32(p + (f->low + g % f->high) * CELLS), g / f->high * f->high, f->low, f->high));
    if (f->levels) c = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(f->steps ? Q8_TWICE_E2M1 : Q8_UNEVEN), c);
    return c;
}

/* ---- products ---- */

FM_INLINE __m256i four_of(const struct fm_q8x *x, int g)
{
    int v;
    memcpy(&v, x->q + 4 * g, sizeof v);
    return _mm256_set1_epi32(v);
}

/* In this very order: the compilers would load all of a run first, and spill. */
FM_INLINE __m256i add16(__m256i a, __m256i b)
{
    a = _mm256_add_epi16(a, b);
    __asm__("" : "+x"(a));
    return a;
}

FM_INLINE __m256i add32(__m256i a, __m256i b)
{
    a = _mm256_add_epi32(a, b);
    __asm__("" : "+x"(a));
    return a;
}

/* sum += the integers of `steps` steps of four columns from g0 on (of one, where codes are signed). */
FM_INLINE void multiply(__m256i sum[TILE_M], const struct format *f, const struct heads *h, int b,
                        const struct fm_q8x *const x[TILE_M], int ni, const unsigned char *p, int g0, int steps)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a[TILE_M] = {0};
    FM_UNROLL
    for (int s = 0; s < steps; s++) {
        const int g = g0 + s;
        __m256i w = codes(f, p, g), size = f->steps ? w : _mm256_abs_epi8(w);
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            __m256i q = f->steps ? four_of(x[i], g) : _mm256_sign_epi8(four_of(x[i], g), w);
            __m256i t = _mm256_maddubs_epi16(size, q);
            a[i] = s == 0 ? t : ni == 1 ? _mm256_add_epi16(a[i], t) : add16(a[i], t);
        }
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        __m256i t = _mm256_madd_epi16(a[i], f->two ? h->scale[b][g0 / 4] : ones);
        sum[i] = !g0 ? t : ni == 1 ? _mm256_add_epi32(sum[i], t) : add32(sum[i], t);
    }
}

/* The chain of one row of x over run b. */
FM_INLINE __m256 chain(__m256 acc, __m256i sum, const struct format *f, const struct heads *h, int b,
                       const struct fm_q8x *x)
{
    const int at = f->two ? 0 : b;
    if (f->offset)
        sum = _mm256_sub_epi32(sum,
                               _mm256_madd_epi16(f->two ? h->off[b] : _mm256_set1_epi16((short)f->offset), sums_of(x)));
    __m256 dx = _mm256_broadcast_ss(&x->d);
    acc = _mm256_fmadd_ps(_mm256_mul_ps(h->d[at], dx), _mm256_cvtepi32_ps(sum), acc);
    if (f->minimum) acc = _mm256_fmadd_ps(h->m[at], _mm256_broadcast_ss(&x->s), acc);
    if (f->two_mins)
        acc = _mm256_fmadd_ps(_mm256_mul_ps(h->m[0], dx), _mm256_cvtepi32_ps(_mm256_madd_epi16(h->min[b], sums_of(x))),
                              acc);
    return acc;
}

/* ni rows of x (nb blocks each) by one group of rows of W; the lines of y are asked for before they are written.  ni, f are
 * constants where inlined. */
FM_INLINE void tile(const struct format *f, int ni, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int nb,
                    const unsigned char *p, struct fm_ahead *next)
{
    const int run = 4 * (f->low + f->high) * ROWS
    , step = f->steps ? f->steps : 1;
    struct fm_ahead ahead = *next;
    __m256 acc[TILE_M];
    const struct fm_q8x *x[TILE_M] = {0};
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        _mm_prefetch((const char *)(y + i * ldy), _MM_HINT_T0);
        acc[i] = _mm256_setzero_ps();
        x[i] = xq + (ptrdiff_t)i * nb;
    }
    for (int b0 = 0; b0 < nb; b0 += f->runs) {
        struct heads h;
        f->open(f, &h, p);
        p += f->head * ROWS;
        for (int b = 0; b < f->runs; b++, p += run) {
            __m256i sum[TILE_M] = {0};
            if (ni > 1) fm_ask(&ahead);
            FM_UNROLL
            for (int g = 0; g < 8; g += step) multiply(sum, f, &h, b, x, ni, p, g, step);
            FM_UNROLL
            for (int i = 0; i < ni; i++) {
                acc[i] = chain(acc[i], sum[i], f, &h, b, x[i]);
                x[i]++;
            }
        }
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) _mm256_storeu_ps(y + i * ldy, acc[i]);
    *next = ahead;
}

/* ---- the loops around ---- */

typedef void (*tile_fn)(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int nb, const unsigned char *p,
                        struct fm_ahead *next);

/* Some rows of x at a time, which stay in the L2 cache while W passes. */
static void gemm(const tile_fn tiles[TILE_M + 1], float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m,
                 const unsigned char *w, size_t row_bytes, int n, int nb)
{
    for (int m0 = 0; m0 < m; m0 += BLOCK_M) {
        const int m1 = fm_min_int(m0 + BLOCK_M, m);
        for (int j = 0; j < n; j += ROWS) {
            const unsigned char *p = w + (size_t)j * row_bytes;
            struct fm_ahead next = fm_ahead_of(p, ROWS * row_bytes, (m1 - m0 - 1) / TILE_M + 1, nb, m == 1);
            for (int i = m0, rows; i < m1; i += rows) {
                rows = fm_min_int(TILE_M, m1 - i);
                tiles[rows](y + i * ldy + j, ldy, xq + (ptrdiff_t)i * nb, nb, p, &next);
            }
        }
    }
}

static const struct format format_Q8_0 = {1, 2, 8, 0, 0, 0, false, false, false, false, open_d};
static const struct format format_Q4_0 = {1, 2, 4, 0, 8, 8, false, false, false, false, open_d};
static const struct format format_Q4_1 = {1, 4, 4, 0, 8, 0, false, true, false, false, open_d};
static const struct format format_Q5_0 = {1, 2, 4, 1, 4, 16, false, false, false, false, open_d};
static const struct format format_Q5_1 = {1, 4, 4, 1, 4, 0, false, true, false, false, open_d};
static const struct format format_Q2_K = {8, 20, 2, 0, 4, 0, false, false, true, true, open_q2_k};
static const struct format format_Q3_K = {8, 14, 2, 1, 4, 4, false, false, true, false, open_q3_k};
static const struct format format_Q4_K = {8, 16, 4, 0, 8, 0, false, true, false, false, open_k};
static const struct format format_Q5_K = {8, 16, 4, 1, 4, 0, false, true, false, false, open_k};
static const struct format format_Q6_K = {8, 18, 4, 2, 2, 32, false, false, true, false, open_q6_k};
static const struct format format_IQ4_NL = {1, 2, 4, 0, 0, 0, true, false, false, false, open_d};
static const struct format format_IQ4_XS = {8, 8, 4, 0, 0, 0, true, false, false, false, open_iq4_xs};
static const struct format format_MXFP4 = {1, 1, 4, 0, 4, 16, true, false, false, false, open_mxfp4};

#define TILE(fmt, ni)                                                                                               \
    static void tile_##fmt##_##ni(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int nb, const unsigned char *p, \
                                  struct fm_ahead *next)                                                            \
    {                                                                                                               \
        tile(&format_##fmt, ni, y, ldy, xq, nb, p, next);                                                           \
    }
#define PACKED(fmt)                                                                                                  \
    TILE(fmt, 1)                                                                                                     \
    TILE(fmt, 2)                                                                                                     \
    TILE(fmt, 3)                                                                                                     \
    TILE(fmt, 4)                                                                                                     \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        static const tile_fn tiles[TILE_M + 1] = {NULL, tile_##fmt##_1, tile_##fmt##_2, tile_##fmt##_3,              \
                                                  tile_##fmt##_4};                                                   \
        (void)work;                                                                                                  \
        gemm(tiles, y, ldy, xq, m, w, row_bytes, n, k / RUN);                                                        \
    }                                                                                                                \
    FM_Q8_UNPACK_ROW(fmt, ROWS)
FM_Q8_FORMATS(PACKED)

#define SLOTS(fmt)                          \
    k->unpack_row[FM_##fmt] = unpack_##fmt; \
    k->gemm_packed[FM_##fmt] = gemm_##fmt;

void fm_avx2_fill_packed(struct fm_kernels *k)
{
    k->pack_rows = ROWS;
    fm_avx2_fill_pack(k);
    FM_Q8_FORMATS(SLOTS)
}
