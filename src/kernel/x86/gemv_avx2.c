/* Rows of W times one x (or up to five): each output one fma chain over k, eight outputs side by side.
 *
 *     row 0   w00 w01 … w07  …            column 0   w00 w10 … w70   · x0  ┐
 *     row 1   w10 w11 … w17  …     →      column 1   w01 w11 … w71   · x1  ├ fma into the same accumulator, in order
 *       …                                   …                              │
 *     row 7   w70 w71 … w77  …            column 7   w07 w17 … w77   · x7  ┘
 *
 * Two stages per 32 columns: the columns of up to eight groups of eight rows are transposed into a buffer in the L1 cache;
 * then one chain per group advances, all of them together, because a single one would wait for the latency of every fma.
 * (Doing both at once needs as many half-read cache lines as rows, and where rows are a multiple of 4 KiB apart all of
 * these compete for a few sets of the L1 cache.)  A last group that is not full repeats its last row and stores less. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { MAX_GROUPS = 8, MAX_CHAINS = 10, BLOCK = 32, AHEAD = 4 };

/* Scales and minima of eight rows in one block. */
struct scales {
    __m256 d, m;
};

/* t[j] = element k+j of each of eight rows, k a multiple of 8; s: of the block that k lies in. */
typedef void (*cols_fn)(__m256 t[8], const unsigned char *const row[8], int k, const struct scales *s);
/* The scales of block b; NULL for formats without. */
typedef void (*scales_fn)(struct scales *s, const unsigned char *const row[8], int b);

/* ---- one loader per format ---- */

FM_INLINE void cols_f32(__m256 t[8], const unsigned char *const row[8], int k, const struct scales *s)
{
    (void)s;
    FM_UNROLL
    for (int i = 0; i < 4; i++) {
        const float *p = (const float *)(const void *)row[i] + k, *q = (const float *)(const void *)row[i + 4] + k;
        t[i] = fm_join(p, q);
        t[i + 4] = fm_join(p + 4, q + 4);
    }
    fm_transpose_joined(t);
}

FM_INLINE __m256i join_bytes(const unsigned char *lo, const unsigned char *hi)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)lo)),
                                   _mm_loadu_si128((const __m128i *)(const void *)hi), 1);
}

/* v[j]: 16-bit columns 2j and 2j+1, in each half of the register the four rows of column 2j, then of 2j+1. */
FM_INLINE void words_transposed(__m256i v[4], const unsigned char *const row[8], int k)
{
    __m256i ae = join_bytes(row[0] + 2 * k, row[4] + 2 * k), bf = join_bytes(row[1] + 2 * k, row[5] + 2 * k);
    __m256i cg = join_bytes(row[2] + 2 * k, row[6] + 2 * k), dh = join_bytes(row[3] + 2 * k, row[7] + 2 * k);
    __m256i ab0 = _mm256_unpacklo_epi16(ae, bf), ab4 = _mm256_unpackhi_epi16(ae, bf);
    __m256i cd0 = _mm256_unpacklo_epi16(cg, dh), cd4 = _mm256_unpackhi_epi16(cg, dh);
    v[0] = _mm256_unpacklo_epi32(ab0, cd0);
    v[1] = _mm256_unpackhi_epi32(ab0, cd0);
    v[2] = _mm256_unpacklo_epi32(ab4, cd4);
    v[3] = _mm256_unpackhi_epi32(ab4, cd4);
}

/* A bf16 is the upper half of a float: interleave with zeros. */
FM_INLINE void cols_bf16(__m256 t[8], const unsigned char *const row[8], int k, const struct scales *s)
{
    (void)s;
    __m256i v[4], zero = _mm256_setzero_si256();
    words_transposed(v, row, k);
    FM_UNROLL
    for (int j = 0; j < 4; j++) {
        t[2 * j] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, v[j]));
        t[2 * j + 1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, v[j]));
    }
}

FM_INLINE void cols_f16(__m256 t[8], const unsigned char *const row[8], int k, const struct scales *s)
{
    (void)s;
    __m256i v[4];
    words_transposed(v, row, k);
    FM_UNROLL
    for (int j = 0; j < 4; j++) {
        __m256i w = _mm256_permute4x64_epi64(v[j], 0xD8); /* quarters 0 2 1 3: a column per half */
        t[2 * j] = _mm256_cvtph_ps(_mm256_castsi256_si128(w));
        t[2 * j + 1] = _mm256_cvtph_ps(_mm256_extracti128_si256(w, 1));
    }
}

FM_INLINE __m128i load8(const unsigned char *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }

/* Bytes p+0 … p+7 of each row; v[j]: columns 4j … 4j+3, in each half four rows per column. */
FM_INLINE void bytes_transposed(__m256i v[2], const unsigned char *const row[8], size_t p)
{
    __m128i ab = _mm_unpacklo_epi8(load8(row[0] + p), load8(row[1] + p));
    __m128i cd = _mm_unpacklo_epi8(load8(row[2] + p), load8(row[3] + p));
    __m128i ef = _mm_unpacklo_epi8(load8(row[4] + p), load8(row[5] + p));
    __m128i gh = _mm_unpacklo_epi8(load8(row[6] + p), load8(row[7] + p));
    __m256i abef = _mm256_inserti128_si256(_mm256_castsi128_si256(ab), ef, 1);
    __m256i cdgh = _mm256_inserti128_si256(_mm256_castsi128_si256(cd), gh, 1);
    v[0] = _mm256_unpacklo_epi16(abef, cdgh);
    v[1] = _mm256_unpackhi_epi16(abef, cdgh);
}

/* Column j of bytes_transposed as the top bytes of eight integers. */
FM_INLINE __m256i top_bytes(const __m256i v[2], int j)
{
    const char z = -1; /* pshufb writes 0 */
    char b = (char)(j % 4 * 4);
    __m256i pick = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(z, z, z, b, z, z, z, (char)(b + 1), z, z, z, (char)(b + 2), z, z, z, (char)(b + 3)));
    return _mm256_shuffle_epi8(v[j / 4], pick);
}

enum { Q8_0_BYTES = 34, Q4_0_BYTES = 18, Q4_1_BYTES = 20 };

FM_INLINE void cols_q8_0(__m256 t[8], const unsigned char *const row[8], int k, const struct scales *s)
{
    __m256i v[2];
    bytes_transposed(v, row, (size_t)(k / BLOCK * Q8_0_BYTES + 2 + k % BLOCK));
    FM_UNROLL
    for (int j = 0; j < 8; j++) t[j] = _mm256_mul_ps(s->d, _mm256_cvtepi32_ps(_mm256_srai_epi32(top_bytes(v, j), 24)));
}

/* Elements 0 … 15 of a block are the low nibbles of its 16 bytes, 16 … 31 the high ones. */
FM_INLINE void nibbles(__m256i c[8], const unsigned char *const row[8], int k, int block_bytes, int header)
{
    __m256i v[2], low = _mm256_set1_epi32(15);
    bytes_transposed(v, row, (size_t)(k / BLOCK * block_bytes + header + k % (BLOCK / 2)));
    int shift = k % BLOCK < BLOCK / 2 ? 24 : 28;
    FM_UNROLL
    for (int j = 0; j < 8; j++) c[j] = _mm256_and_si256(_mm256_srli_epi32(top_bytes(v, j), shift), low);
}

FM_INLINE void cols_q4_0(__m256 t[8], const unsigned char *const row[8], int k, const struct scales *s)
{
    __m256i c[8], eight = _mm256_set1_epi32(8);
    nibbles(c, row, k, Q4_0_BYTES, 2);
    FM_UNROLL
    for (int j = 0; j < 8; j++) t[j] = _mm256_mul_ps(s->d, _mm256_cvtepi32_ps(_mm256_sub_epi32(c[j], eight)));
}

FM_INLINE void cols_q4_1(__m256 t[8], const unsigned char *const row[8], int k, const struct scales *s)
{
    __m256i c[8];
    nibbles(c, row, k, Q4_1_BYTES, 4);
    FM_UNROLL
    for (int j = 0; j < 8; j++) t[j] = _mm256_add_ps(_mm256_mul_ps(s->d, _mm256_cvtepi32_ps(c[j])), s->m);
}

/* The f16 at byte p of each row. */
FM_INLINE __m256 halves(const unsigned char *const row[8], size_t p)
{
    uint16_t h[8];
    FM_UNROLL
    for (int i = 0; i < 8; i++) memcpy(&h[i], row[i] + p, 2);
    return _mm256_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3], (short)h[4], (short)h[5],
                                          (short)h[6], (short)h[7]));
}

FM_INLINE void scales_q8_0(struct scales *s, const unsigned char *const row[8], int b)
{
    s->d = halves(row, (size_t)b * Q8_0_BYTES);
}

FM_INLINE void scales_q4_0(struct scales *s, const unsigned char *const row[8], int b)
{
    s->d = halves(row, (size_t)b * Q4_0_BYTES);
}

FM_INLINE void scales_q4_1(struct scales *s, const unsigned char *const row[8], int b)
{
    s->d = halves(row, (size_t)b * Q4_1_BYTES);
    s->m = halves(row, (size_t)b * Q4_1_BYTES + 2);
}

/* ---- the loop ---- */

/* What one format needs: bytes per 32 elements and per element (0: cannot be split), eight columns, scales or NULL. */
struct loader {
    size_t block_bytes, elem;
    cols_fn cols;
    scales_fn scales;
};

/* x: m rows x_rs apart, elements x_cs apart. */
struct vectors {
    const float *x;
    ptrdiff_t rs, cs;
};

FM_INLINE void stage8(float *dst, const unsigned char *const row[8], int k, const struct scales *s, cols_fn cols)
{
    __m256 t[8];
    cols(t, row, k, s);
    FM_UNROLL
    for (int j = 0; j < 8; j++) _mm256_store_ps(dst + 8 * j, t[j]);
}

/* Columns k … k+n−1, n < 8, of a format without blocks: through a copy, so that nothing beyond them is read. */
FM_INLINE void stage_tail(float *dst, const unsigned char *const row[8], int k, int n, const struct loader *l)
{
    unsigned char copy[8][32] = {{0}};
    const unsigned char *r[8];
    struct scales none = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < 8; i++) {
        memcpy(copy[i], row[i] + (size_t)k * l->elem, (size_t)n * l->elem);
        r[i] = copy[i];
    }
    stage8(dst, r, 0, &none, l->cols);
}

/* dst[j][8]: columns k … k+31 of eight rows.  Fetches into the L2 cache what comes four blocks later: the processor does
 * not follow 64 rows by itself.  (Not into L1, for the reason given at the top.) */
FM_INLINE void stage_block(float *dst, const unsigned char *const row[8], int k, const struct loader *l)
{
    struct scales s = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    if (l->scales) l->scales(&s, row, k / BLOCK);
    FM_UNROLL
    for (int i = 0; i < 8; i++)
        for (size_t b = 0; b < l->block_bytes; b += 64)
            _mm_prefetch((const char *)row[i] + (size_t)(k / BLOCK + AHEAD) * l->block_bytes + b, _MM_HINT_T1);
    FM_UNROLL
    for (int j = 0; j < BLOCK; j += 8) stage8(dst + 8 * j, row, k + j, &s, l->cols);
}

/* The last n < 32 columns of a format without blocks. */
FM_INLINE void stage_rest(float *dst, const unsigned char *const row[8], int k, int n, const struct loader *l)
{
    const struct scales none = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    int j = 0;
    for (; j + 8 <= n; j += 8) stage8(dst + 8 * j, row, k + j, &none, l->cols);
    if (j < n) stage_tail(dst + 8 * j, row, k + j, n - j, l);
}

/* Where the rows lie. */
struct matrix {
    const void *w;
    size_t row_bytes;
    int n;
};

/* Eight rows from j on; past the last: the last once more. */
FM_INLINE void point(const unsigned char *row[8], const struct matrix *w, int j)
{
    FM_UNROLL
    for (int i = 0; i < 8; i++)
        row[i] = (const unsigned char *)w->w + (size_t)(j + i < w->n ? j + i : w->n - 1) * w->row_bytes;
}

/* dst[g][c][8]: columns k … k+n−1 of groups of eight rows from j on; n <= 32, k a multiple of 32.  One copy per format. */
typedef void (*stage_fn)(float (*dst)[BLOCK * 8], int groups, const struct matrix *w, int j, int k, int n);

#define STAGE(fmt, bytes, size, scales_of)                                                                   \
    static void stage_##fmt(float(*dst)[BLOCK * 8], int groups, const struct matrix *w, int j, int k, int n) \
    {                                                                                                        \
        static const struct loader l = {bytes, size, cols_##fmt, scales_of};                                 \
        for (int g = 0; g < groups; g++) {                                                                   \
            const unsigned char *row[8];                                                                     \
            point(row, w, j + 8 * g);                                                                        \
            if (n == BLOCK)                                                                                  \
                stage_block(dst[g], row, k, &l);                                                             \
            else if (l.elem)                                                                                 \
                stage_rest(dst[g], row, k, n, &l);                                                           \
        }                                                                                                    \
    }
STAGE(f32, 128, 4, NULL)
STAGE(f16, 64, 2, NULL)
STAGE(bf16, 64, 2, NULL)
STAGE(q8_0, Q8_0_BYTES, 0, scales_q8_0)
STAGE(q4_0, Q4_0_BYTES, 0, scales_q4_0)
STAGE(q4_1, Q4_1_BYTES, 0, scales_q4_1)

/* acc[g*m + i] = fma over n staged columns, in order.  m and groups are constants where this is inlined. */
FM_INLINE void chains(int m, int groups, int n, __m256 *acc, float (*w)[BLOCK * 8], const struct vectors *v, int k)
{
    const float *x = v->x + k * v->cs;
    for (int j = 0; j < n; j++, x += v->cs) {
        FM_UNROLL
        for (int i = 0; i < m; i++) {
            __m256 xi = _mm256_broadcast_ss(x + i * v->rs);
            FM_UNROLL
            for (int g = 0; g < groups; g++)
                acc[g * m + i] = _mm256_fmadd_ps(_mm256_load_ps(w[g] + 8 * j), xi, acc[g * m + i]);
        }
    }
}

/* n may be 0 or less: a group past the last row. */
FM_INLINE __m256 load_upto8(const float *p, int n) { return n > 0 ? fm_load_n(p, (size_t)n) : _mm256_setzero_ps(); }

FM_INLINE void store_upto8(float *p, __m256 v, int n)
{
    if (n > 0) fm_store_n(p, v, (size_t)n);
}

/* Rows j … j+8·groups−1 of W by m rows of x; c[i*ldc + j …] = or +=.  m and groups are constants where inlined. */
FM_INLINE void rows(int m, int groups, int j, int k, const struct vectors *v, const struct matrix *w, stage_fn stage,
                    float *c, ptrdiff_t ldc, bool load)
{
    _Alignas(64) float staged[MAX_GROUPS][BLOCK * 8];
    __m256 acc[MAX_CHAINS];
    FM_UNROLL
    for (int a = 0; a < m * groups; a++) {
        int g = a / m, i = a % m;
        acc[a] = load ? load_upto8(c + i * ldc + j + 8 * g, w->n - j - 8 * g) : _mm256_setzero_ps();
    }
    for (int p = 0; p < k; p += BLOCK) {
        int n = k - p < BLOCK ? k - p : BLOCK;
        stage(staged, groups, w, j, p, n);
        chains(m, groups, n, acc, staged, v, p);
    }
    FM_UNROLL
    for (int a = 0; a < m * groups; a++) {
        int g = a / m, i = a % m;
        store_upto8(c + i * ldc + j + 8 * g, acc[a], w->n - j - 8 * g);
    }
}

typedef void (*rows_fn)(int j, int k, const struct vectors *v, const struct matrix *w, stage_fn stage, float *c,
                        ptrdiff_t ldc, bool load);

#define ROWS(m, groups)                                                                                            \
    static void rows_##m##_##groups(int j, int k, const struct vectors *v, const struct matrix *w, stage_fn stage, \
                                    float *c, ptrdiff_t ldc, bool load)                                            \
    {                                                                                                              \
        rows(m, groups, j, k, v, w, stage, c, ldc, load);                                                          \
    }
/* clang-format off */
ROWS(1, 8) ROWS(1, 2) ROWS(1, 1)
ROWS(2, 4) ROWS(2, 1)
ROWS(3, 3) ROWS(3, 1)
ROWS(4, 2) ROWS(4, 1)
ROWS(5, 2) ROWS(5, 1)
/* clang-format on */

/* Per number of rows of x, groups falling: enough chains to hide the latency of fma, few enough for sixteen registers. */
static const struct {
    int groups;
    rows_fn run;
} variants[FM_AVX2_ROWS][3] = {
    {{8, rows_1_8}, {2, rows_1_2}, {1, rows_1_1}},
    {{4, rows_2_4}, {1, rows_2_1}},
    {{3, rows_3_3}, {1, rows_3_1}},
    {{2, rows_4_2}, {1, rows_4_1}},
    {{2, rows_5_2}, {1, rows_5_1}},
};

/* The most groups of which none would be empty, until all rows are done. */
static void all_rows(int m, int k, const struct vectors *v, const struct matrix *w, stage_fn stage, float *c,
                     ptrdiff_t ldc, bool load)
{
    for (int j = 0; j < w->n;) {
        int i = 0;
        while (w->n - j <= 8 * variants[m - 1][i].groups - 8) i++;
        variants[m - 1][i].run(j, k, v, w, stage, c, ldc, load);
        j += 8 * variants[m - 1][i].groups;
    }
}

#define GEMV(fmt)                                                                                                \
    static void gemv_##fmt(float *y, const void *w, size_t row_bytes, const float *x, int n, int k)              \
    {                                                                                                            \
        all_rows(1, k, &(struct vectors){x, 0, 1}, &(struct matrix){w, row_bytes, n}, stage_##fmt, y, 0, false); \
    }
/* clang-format off */
GEMV(f32) GEMV(f16) GEMV(bf16) GEMV(q8_0) GEMV(q4_0) GEMV(q4_1)
/* clang-format on */

void fm_avx2_gemm_rows(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *w,
                       ptrdiff_t w_rs, float *c, ptrdiff_t ldc, bool accumulate)
{
    all_rows(m, k, &(struct vectors){a, a_rs, a_cs}, &(struct matrix){w, (size_t)w_rs * sizeof *w, n}, stage_f32, c,
             ldc, accumulate);
}

void fm_avx2_fill_gemv(struct fm_kernels *k)
{
    k->gemv[FM_F32] = gemv_f32;
    k->gemv[FM_F16] = gemv_f16;
    k->gemv[FM_BF16] = gemv_bf16;
    k->gemv[FM_Q8_0] = gemv_q8_0;
    k->gemv[FM_Q4_0] = gemv_q4_0;
    k->gemv[FM_Q4_1] = gemv_q4_1;
}
