/* Rows of W times one x, or a few, with AVX-512, for weights that are floats: gemv_avx2.c with sixteen rows as lanes.
 *
 *     row 0   w00 w01 … w0.31   (one cache line)         column 0   w00 w10 … w15.0  · x0  ┐
 *       …                                          →       …                               ├ fma, in order
 *     row 15  …                                          column 31  …                      ┘
 *
 * The lines of sixteen rows are transposed in registers, in the format's own width, and each column is widened to float32
 * where it is used: half of the shuffles that widening first would need.  Every line is read once and whole, so it does not
 * matter how few sets of the L1 cache the rows share.  Two groups of rows at a time: the chain of one advances while the other
 * is transposed.
 *
 * Several rows of x share what is staged, up to 24 at a time: then x lies in blocks like those of W, [k/32][m][32] (F32: 16),
 * so that it is read in one run as well. */
#include "kernel/x86/lanes_avx512.h"
#include "kernel/x86/x86.h"

enum {
    LANES = 16,
    AHEAD = 256, /* bytes of a row fetched early: the processor does not follow 32 rows by itself */
};

/* Sixteen rows, where they lie. */
struct group {
    const unsigned char *row[LANES];
};

/* Columns of one block of sixteen rows.  F32: 16 columns of floats.  Others: 32 columns of 16 bits, at the places that
 * column_of says. */
typedef __m512i fm_block[LANES];

enum kind { F32, F16, BF16, F8 };

FM_INLINE int block_columns(enum kind f) { return f == F32 ? 16 : 32; }
FM_INLINE size_t element_bytes(enum kind f) { return f == F32 ? 4 : f == F8 ? 1 : 2; }

/* E4M3 as an f16 that is 2^8 too small; NaN stays one. */
FM_INLINE __m512i halves_of_e4m3(__m256i c)
{
    const __m512i low = _mm512_set1_epi16(0x7F);
    __m512i w = _mm512_cvtepu8_epi16(c), a = _mm512_and_si512(w, low);
    __mmask32 nan = _mm512_cmpeq_epi16_mask(a, low);
    __m512i sign = _mm512_slli_epi16(_mm512_andnot_si512(low, w), 8);
    a = _mm512_mask_mov_epi16(_mm512_slli_epi16(a, 7), nan, _mm512_set1_epi16(0x7F80));
    return _mm512_or_si512(a, sign);
}

/* n columns of a row from p on; the others are 0 and their memory is not touched. */
FM_INLINE __m512i load_row(enum kind f, const unsigned char *p, int n)
{
    if (n == block_columns(f)) {
        if (f == F8) return halves_of_e4m3(_mm256_loadu_si256((const __m256i *)(const void *)p));
        return _mm512_loadu_si512(p);
    }
    uint32_t some = (1u << n) - 1;
    if (f == F32) return _mm512_maskz_loadu_epi32((__mmask16)some, p);
    if (f == F8) return halves_of_e4m3(_mm256_maskz_loadu_epi8(some, p));
    return _mm512_maskz_loadu_epi16(some, p);
}

/* Eight rows: quarter l of t[c] becomes column 8l + c, words of rows 0 … 7. */
FM_INLINE void transpose_eight(__m512i t[8])
{
    __m512i u[8], v[8];
    FM_UNROLL
    for (int i = 0; i < 4; i++) {
        u[i] = _mm512_unpacklo_epi16(t[2 * i], t[2 * i + 1]);
        u[4 + i] = _mm512_unpackhi_epi16(t[2 * i], t[2 * i + 1]);
    }
    FM_UNROLL
    for (int h = 0; h < 8; h += 4) {
        v[h] = _mm512_unpacklo_epi32(u[h], u[h + 1]);
        v[h + 1] = _mm512_unpackhi_epi32(u[h], u[h + 1]);
        v[h + 2] = _mm512_unpacklo_epi32(u[h + 2], u[h + 3]);
        v[h + 3] = _mm512_unpackhi_epi32(u[h + 2], u[h + 3]);
        FM_UNROLL
        for (int i = 0; i < 2; i++) {
            t[h + 2 * i] = _mm512_unpacklo_epi64(v[h + i], v[h + 2 + i]);
            t[h + 2 * i + 1] = _mm512_unpackhi_epi64(v[h + i], v[h + 2 + i]);
        }
    }
}

/* t[2c]: columns c and 8 + c, words of sixteen rows each; t[2c + 1]: columns 16 + c and 24 + c. */
FM_INLINE void transpose_words16(fm_block t)
{
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                  high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i a[8], b[8];
    FM_UNROLL
    for (int i = 0; i < 8; i++) {
        a[i] = t[i];
        b[i] = t[8 + i];
    }
    transpose_eight(a);
    transpose_eight(b);
    FM_UNROLL
    for (int c = 0; c < 8; c++) {
        t[2 * c] = _mm512_permutex2var_epi64(a[c], low, b[c]);
        t[2 * c + 1] = _mm512_permutex2var_epi64(a[c], high, b[c]);
    }
}

FM_INLINE void store_block(fm_block staged, const fm_block t)
{
    FM_UNROLL
    for (int i = 0; i < LANES; i++) _mm512_store_si512(&staged[i], t[i]);
}

/* n columns at byte `at` of each row, transposed. */
FM_INLINE void stage(enum kind f, fm_block staged, const struct group *g, size_t at, int n)
{
    fm_block t;
    FM_UNROLL
    for (int i = 0; i < LANES; i++) {
        _mm_prefetch((const char *)g->row[i] + at + AHEAD, _MM_HINT_T1);
        t[i] = load_row(f, g->row[i] + at, n);
    }
    if (f == F32 || f == BF16)
        fm_transpose16(t);
    else
        transpose_words16(t);
    store_block(staged, t);
}

/* n columns at byte `at` of each row of one or two groups.  Functions of their own: the registers of a transposition are not
 * to compete with those of many chains. */
typedef void (*stage_fn)(fm_block staged[2], const struct group g[2], int groups, size_t at, int n);

#define STAGE(f)                                                                                             \
    static __attribute__((noinline)) void stage_##f(fm_block staged[2], const struct group g[2], int groups, \
                                                    size_t at, int n)                                        \
    {                                                                                                        \
        for (int q = 0; q < groups; q++)                                                                     \
            if (n == block_columns(f))                                                                       \
                stage(f, staged[q], &g[q], at, block_columns(f));                                            \
            else                                                                                             \
                stage(f, staged[q], &g[q], at, n);                                                           \
    }
/* clang-format off */
STAGE(F32) STAGE(F16) STAGE(BF16) STAGE(F8)
/* clang-format on */

static const stage_fn stages[] = {[F32] = stage_F32, [F16] = stage_F16, [BF16] = stage_BF16, [F8] = stage_F8};

/* Column b + c as float32; b a multiple of eight, c < 8 a constant. */
FM_INLINE __m512 column_of(enum kind f, const fm_block staged, int b, int c)
{
    if (f == F32) return _mm512_castsi512_ps(staged[b + c]);
    if (f == BF16) { /* a bf16 is the upper half of a float */
        __m512i v = staged[b / 2 + c / 2];
        return _mm512_castsi512_ps(c % 2 ? _mm512_and_si512(v, _mm512_set1_epi32((int)0xFFFF0000))
                                         : _mm512_slli_epi32(v, 16));
    }
    const __m256i *half = (const __m256i *)(const void *)&staged[2 * c] + b / 8;
    __m512 v = _mm512_cvtph_ps(_mm256_load_si256(half));
    return f == F8 ? _mm512_mul_ps(v, _mm512_set1_ps(256)) : v;
}

/* Rows of x at a time, of 32 registers: with two groups of rows of W up to 12, 24 chains, else 24. */
enum { MOST = 24, MOST_OF_TWO = 12 };

/* One call.  x in blocks, those of one row `columns` floats long, the next columns of all rows x_step floats on. */
struct call {
    float *y;
    ptrdiff_t ldy;
    const float *x;
    ptrdiff_t x_step;
    const void *w;
    size_t row_bytes;
    const struct fm_scaling *s;
    int m, n, k0, k; /* columns k0 … k − 1; from k0 > 0 on the chains go on from y */
};

/* Scales of sixteen rows from row j on, for the columns from p on. */
FM_INLINE __m512 scales_of(const struct call *a, int j, int p)
{
    float s[LANES];
    for (int i = 0; i < LANES; i++) s[i] = a->s->at[fm_min_int(j + i, a->n - 1) * a->s->ld + p / a->s->cols];
    return _mm512_loadu_ps(s);
}

/* Which of sixteen rows from row j on there are. */
FM_INLINE __mmask16 lanes_of(const struct call *a, int j)
{
    int left = a->n - j;
    return (__mmask16)(left >= LANES ? 0xFFFFu : left > 0 ? (1u << left) - 1 : 0);
}

/* Column b + c of the groups into the chains of m rows of x. */
FM_INLINE void fold(enum kind f, int m, bool scaled, int groups, __m512 (*acc)[MOST], const fm_block staged[2],
                    const __m512 scale[2], const float *x, int b, int c)
{
    __m512 w[2];
    FM_UNROLL
    for (int q = 0; q < groups; q++) {
        w[q] = column_of(f, staged[q], b, c);
        if (scaled) w[q] = _mm512_mul_ps(w[q], scale[q]);
    }
    FM_UNROLL
    for (int i = 0; i < m; i++) {
        __m512 xc = _mm512_set1_ps(x[i * block_columns(f) + b + c]);
        FM_UNROLL
        for (int q = 0; q < groups; q++) acc[q][i] = _mm512_fmadd_ps(w[q], xc, acc[q][i]);
    }
}

/* m rows of x (a->m <= m of them count) by `groups` times sixteen rows of W from row j on (past the last: the last once more).
 * All but a and j are constants where inlined. */
FM_INLINE void rows(enum kind f, int m, bool scaled, int groups, const struct call *a, int j)
{
    fm_block staged[2];
    struct group g[2];
    __m512 acc[2][MOST], scale[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    const int columns = block_columns(f);
    const float *x = a->x;
    for (int i = 0; i < groups * LANES; i++)
        g[i / LANES].row[i % LANES] = (const unsigned char *)a->w + (size_t)fm_min_int(j + i, a->n - 1) * a->row_bytes;
    FM_UNROLL
    for (int q = 0; q < groups; q++) {
        FM_UNROLL
        for (int i = 0; i < m; i++) {
            __mmask16 some = a->k0 > 0 && i < a->m ? lanes_of(a, j + LANES * q) : 0;
            acc[q][i] = _mm512_maskz_loadu_ps(some, a->y + i * a->ldy + j + LANES * q);
        }
    }
    int p = a->k0;
    for (; p < a->k; p += columns, x += a->x_step) {
        const int n = fm_min_int(columns, a->k - p);
        if (scaled && (p == a->k0 || p % a->s->cols == 0)) {
            FM_UNROLL
            for (int q = 0; q < groups; q++) scale[q] = scales_of(a, j + LANES * q, p);
        }
        if (m > 1 || n < columns) {
            stages[f](staged, g, groups, (size_t)p * element_bytes(f), n);
            if (n < columns) break;
        } else { /* a call would cost 10 % here */
            FM_UNROLL
            for (int q = 0; q < groups; q++) stage(f, staged[q], &g[q], (size_t)p * element_bytes(f), columns);
        }
        for (int b = 0; b < columns; b += 8) {
            FM_UNROLL
            for (int c = 0; c < 8; c++) fold(f, m, scaled, groups, acc, staged, scale, x, b, c);
        }
    }
    if (p < a->k)
        for (int c = 0; c < a->k - p; c++) fold(f, m, scaled, groups, acc, staged, scale, x, c & ~7, c & 7);
    FM_UNROLL
    for (int q = 0; q < groups; q++) {
        FM_UNROLL
        for (int i = 0; i < m; i++)
            if (i < a->m)
                _mm512_mask_storeu_ps(a->y + i * a->ldy + j + LANES * q, lanes_of(a, j + LANES * q), acc[q][i]);
    }
}

typedef void (*rows_fn)(const struct call *a, int j);

#define ROWS(f, m, scaled)                                                        \
    static void rows_##f##_##m##_##scaled(const struct call *a, int j)            \
    {                                                                             \
        const int groups = m <= MOST_OF_TWO ? 2 : 1;                              \
        rows(f, m, scaled, groups, a, j);                                         \
        if (groups == 1 && j + LANES < a->n) rows(f, m, scaled, 1, a, j + LANES); \
    }
#define NAMED(f, m, scaled) [m] = rows_##f##_##m##_##scaled,
/* clang-format off */
#define EACH_M(X, f, s) X(f, 1, s) X(f, 2, s) X(f, 3, s) X(f, 4, s) X(f, 6, s) X(f, 8, s) X(f, 12, s) X(f, 16, s) X(f, 24, s)
ROWS(F32, 1, 0) EACH_M(ROWS, F16, 0) EACH_M(ROWS, BF16, 0) EACH_M(ROWS, F8, 0) EACH_M(ROWS, F8, 1)
    /* clang-format on */

    /* Other numbers of rows of x are rounded up. */
    static const
    int rounded[MOST + 1] = {0, 1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16, 16, 16, 16, 24, 24, 24, 24, 24, 24, 24, 24};

static const rows_fn run[][2][MOST + 1] = {
    [F32] = {{NAMED(F32, 1, 0)}},
    [F16] = {{EACH_M(NAMED, F16, 0)}},
    [BF16] = {{EACH_M(NAMED, BF16, 0)}},
    [F8] = {{EACH_M(NAMED, F8, 0)}, {EACH_M(NAMED, F8, 1)}},
};

/* x[m,k] in blocks, and zeros for the rows that are read beyond the last. */
static void lay_out(float *dst, const float *x, ptrdiff_t ldx, int m, int k, int columns)
{
    for (int p = 0; p < k; p += columns)
        for (int i = 0; i < m; i++, dst += columns)
            memcpy(dst, x + i * ldx + p, (size_t)fm_min_int(columns, k - p) * sizeof *dst);
    memset(dst, 0, MOST * (size_t)columns * sizeof *dst);
}

static void gemm_few(enum kind f, float *y, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int m, const void *w,
                     size_t row_bytes, int n, int k, const struct fm_scaling *s, float *work)
{
    const int columns = block_columns(f),
              room = m == 1 ? fm_max_int(k, 1) : (FM_GEMM_WORK / columns - MOST) / m * columns;
    struct call a = {.ldy = ldy, .x_step = m * columns, .w = w, .row_bytes = row_bytes, .s = s, .n = n};
    for (a.k0 = 0; a.k0 == 0 || a.k0 < k; a.k0 += room) {
        a.k = fm_min_int(k, a.k0 + room);
        if (m > 1) lay_out(work, x + a.k0, ldx, m, a.k - a.k0, columns);
        for (int j = 0; j < n; j += 2 * LANES)
            for (int i = 0; i < m; i += MOST) { /* these rows of W stay in the L2 cache */
                a.m = fm_min_int(MOST, m - i);
                a.x = m > 1 ? work + i * columns : x;
                a.y = y + i * ldy;
                run[f][s != NULL][rounded[a.m]](&a, j);
            }
    }
}

#define GEMV(name, f)                                                                                \
    static void gemv_##name(float *y, const void *w, size_t row_bytes, const float *x, int n, int k) \
    {                                                                                                \
        gemm_few(f, y, n, x, k, 1, w, row_bytes, n, k, NULL, NULL);                                  \
    }
#define FEW(name, f)                                                                                     \
    static void few_##name(float *y, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int m, const void *w, \
                           size_t row_bytes, int n, int k, const struct fm_scaling *s, float *work)      \
    {                                                                                                    \
        gemm_few(f, y, ldy, x, ldx, m, w, row_bytes, n, k, s, work);                                     \
    }
/* clang-format off */
GEMV(f32, F32) GEMV(f16, F16) GEMV(bf16, BF16) GEMV(f8_e4m3, F8)
FEW(f16, F16) FEW(bf16, BF16) FEW(f8_e4m3, F8)
    /* clang-format on */

    void fm_avx512_fill_gemv(struct fm_kernels *k)
{
    k->gemv[FM_F32] = gemv_f32; /* many rows of floats: gemm_f32 is as fast */
    k->gemv[FM_F16] = gemv_f16;
    k->gemv[FM_BF16] = gemv_bf16;
    k->gemv[FM_F8_E4M3] = gemv_f8_e4m3;
    k->gemm_few[FM_F16] = few_f16;
    k->gemm_few[FM_BF16] = few_bf16;
    k->gemm_few[FM_F8_E4M3] = few_f8_e4m3;
}
