/* C[M,N] (+)= A[M,K]·B[K,N] in float32, near the FMA peak.
 * Source: Goto and van de Geijn 2008, Van Zee and van de Geijn 2015 (BLIS): the loops around one register tile.
 *
 *   for jc: columns, NC at a time          B block  kc × nc, packed: streams from the L3 or L2 cache
 *     for pc: k, KC at a time
 *       for ic: rows, MC at a time         A block  mc × kc, packed: stays in L2
 *         for jr: 16 columns               B panel  kc × 16 (16 KiB): stays in L1
 *           for ir: 6 rows                 A panel  6 × kc: streams from L2
 *             6×16 tile: 12 accumulators, 2 registers of B, 1 of A broadcast
 *
 * Order: an accumulator starts from +0 or from C and is stored to C after kc steps; the next block loads it again, which
 * rounds nothing: each output stays one chain over k.  That also makes the roles of A and B exchangeable:
 *
 * few rows (x·Wᵀ of a decode batch or an expert)   W would be packed for little use.  We compute Cᵀ = W·xᵀ: six rows of W
 *     are broadcast from where they lie, x is packed, the tile is stored transposed;
 * very few rows (M < 6)   eight rows of W are transposed in registers, eight outputs are the lanes (gemv's way). */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum {
    MR = FM_AVX2_MR,
    NR = FM_AVX2_NR,
    KC = 256,               /* 16 KiB of B panel and 6 KiB of A panel in an L1 of 32 KiB */
    A_FLOATS = 144 * KC,    /* 144 KiB of an L2 of 256 KiB or more                      */
    A_ROOM = A_FLOATS + 16, /* an A panel may write two floats past its end             */
    B_FLOATS = FM_GEMM_WORK - A_ROOM,
    ROWS_MAX_N = 256, /* row-major A is packed for more columns only */
    FEW_ROWS = 128,   /* M up to which W is not packed …              */
    FEW_MIN_K = 256   /* … if k pays for transposing the tiles        */
};

#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)

/* acc += a·b.  As an instruction of its own, not an intrinsic: the compilers would now and then choose a form that
 * overwrites a factor instead of acc, and then move and spill accumulators inside the loop (5 % of the speed). */
FM_INLINE void fma231(__m256 *acc, __m256 a, __m256 b)
{
    __asm__("vfmadd231ps %1, %2, %0" : "+x"(*acc) : "x"(a), "x"(b));
}

/* c[mr][16 or 8] (= or +=) the product of mr <= 6 rows of A, element (i,p) at a[i*rs + p*cs], and a packed panel of B.
 * mr and wide (all 16 columns, or the lower 8) are constants wherever this is inlined: the conditions vanish. */
FM_INLINE void tile(int mr, bool wide, int k, const float *a, ptrdiff_t rs, ptrdiff_t cs, const float *b, float *c,
                    ptrdiff_t ldc, bool load)
{
#define START(i) __m256 l##i = _mm256_setzero_ps(), h##i = l##i;
#define LOAD(i)                                      \
    if (i < mr) l##i = _mm256_loadu_ps(c + i * ldc); \
    if (i < mr && wide) h##i = _mm256_loadu_ps(c + i * ldc + 8);
#define FMA(i)                                                         \
    if (i < mr) {                                                      \
        __m256 x = _mm256_broadcast_ss((i < 3 ? a : a3) + i % 3 * rs); \
        fma231(&l##i, x, bl);                                          \
        if (wide) fma231(&h##i, x, bh);                                \
    }
#define STEP                                                                   \
    do {                                                                       \
        __m256 bl = _mm256_load_ps(b), bh = wide ? _mm256_load_ps(b + 8) : bl; \
        EACH_ROW(FMA) a += cs, a3 += cs, b += NR;                              \
    } while (0)
#define STORE(i)                                     \
    if (i < mr) _mm256_storeu_ps(c + i * ldc, l##i); \
    if (i < mr && wide) _mm256_storeu_ps(c + i * ldc + 8, h##i);

    const float *a3 = a + 3 * rs;
    EACH_ROW(START)
    if (load) {
        EACH_ROW(LOAD)
    }
    for (; k >= 4; k -= 4) {
        STEP;
        STEP;
        STEP;
        STEP;
    }
    for (; k > 0; k--) STEP;
    EACH_ROW(STORE)
}

/* The twelve heights and widths, for a packed panel of A (rs 0 in the argument) and for rows where they lie. */
typedef void (*tile_fn)(int k, const float *a, ptrdiff_t rs, const float *b, float *c, ptrdiff_t ldc, bool load);

#define TILE(mr, wide)                                                                                             \
    static void packed_##mr##_##wide(int k, const float *a, ptrdiff_t rs, const float *b, float *c, ptrdiff_t ldc, \
                                     bool load)                                                                    \
    {                                                                                                              \
        (void)rs;                                                                                                  \
        tile(mr, wide, k, a, 1, MR, b, c, ldc, load);                                                              \
    }                                                                                                              \
    static void rows_##mr##_##wide(int k, const float *a, ptrdiff_t rs, const float *b, float *c, ptrdiff_t ldc,   \
                                   bool load)                                                                      \
    {                                                                                                              \
        tile(mr, wide, k, a, rs, 1, b, c, ldc, load);                                                              \
    }
/* clang-format off */
TILE(1, 0) TILE(2, 0) TILE(3, 0) TILE(4, 0) TILE(5, 0) TILE(6, 0)
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1)
/* clang-format on */

/* [packed][wide][rows − 1] */
static const tile_fn tiles[2][2][MR] = {
    {{rows_1_0, rows_2_0, rows_3_0, rows_4_0, rows_5_0, rows_6_0},
     {rows_1_1, rows_2_1, rows_3_1, rows_4_1, rows_5_1, rows_6_1}},
    {{packed_1_0, packed_2_0, packed_3_0, packed_4_0, packed_5_0, packed_6_0},
     {packed_1_1, packed_2_1, packed_3_1, packed_4_1, packed_5_1, packed_6_1}},
};

static void copy_block(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int m, int n)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) dst[i * ldd + j] = src[i * lds + j];
}

/* Any tile of m <= 6 rows and n <= 16 columns.  8 and 16 columns go straight to C, others through a copy. */
static void tile_any(int m, int n, int k, const float *a, ptrdiff_t rs, const float *b, float *c, ptrdiff_t ldc,
                     bool load)
{
    tile_fn f = tiles[rs == 0][n > 8][m - 1];
    if (n == NR || n == NR / 2) {
        f(k, a, rs, b, c, ldc, load);
        return;
    }
    float t[MR * NR];
    if (load) {
        memset(t, 0, sizeof t);
        copy_block(t, NR, c, ldc, m, n);
    }
    f(k, a, rs, b, t, NR, load);
    copy_block(c, ldc, t, NR, m, n);
}

/* One block of A, packed (rs 0) or as rows rs apart, by one packed block of B. */
static void block(int m, int n, int k, const float *a, ptrdiff_t rs, const float *b, float *c, ptrdiff_t ldc, bool load)
{
    for (int j = 0; j < n; j += NR)
        for (int i = 0; i < m; i += MR)
            tile_any(fm_min_int(MR, m - i), fm_min_int(NR, n - j), k, a + i * (rs ? rs : k), rs, b + (ptrdiff_t)j * k,
                     c + i * ldc + j, ldc, load);
}

/* total in equal pieces of at most limit, each but the last a multiple of unit. */
static int piece(int total, int limit, int unit)
{
    int n = (total + limit - 1) / limit, each = (total + n - 1) / n;
    return (each + unit - 1) / unit * unit;
}

static void gemm_blocked(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *b,
                         ptrdiff_t b_rs, ptrdiff_t b_cs, float *c, ptrdiff_t ldc, bool accumulate, float *work)
{
    float *bw = work, *aw = work + B_FLOATS;
    bool pack = a_cs != 1 || n > ROWS_MAX_N;
    int kc = piece(k, KC, 8);
    int mc = piece(m, A_FLOATS / kc / MR * MR, MR), nc = piece(n, B_FLOATS / kc / NR * NR, NR);
    for (int jc = 0; jc < n; jc += nc) {
        int nb = fm_min_int(nc, n - jc);
        for (int pc = 0; pc < k; pc += kc) {
            int kb = fm_min_int(kc, k - pc);
            fm_avx2_pack_b(bw, kb, nb, b + pc * b_rs + jc * b_cs, b_rs, b_cs);
            for (int ic = 0; ic < m; ic += mc) {
                int mb = fm_min_int(mc, m - ic);
                const float *ap = a + ic * a_rs + pc * a_cs;
                if (pack) fm_avx2_pack_a(aw, mb, kb, ap, a_rs, a_cs);
                block(mb, nb, kb, pack ? aw : ap, pack ? 0 : a_rs, bw, c + ic * ldc + jc, ldc, accumulate || pc);
            }
        }
    }
}

/* Cᵀ = W·xᵀ for few rows m of x: W (n rows, b_cs apart) is read where it lies, six rows at a time. */

/* t[6][16] ↔ the columns of C: t[i][j] = c[j*ldc + i] for mr rows of W and m rows of x. */
static void load_transposed(float *t, int mr, int m, const float *c, ptrdiff_t ldc)
{
    for (int j = 0; j < m; j++)
        for (int i = 0; i < mr; i++) t[i * NR + j] = c[j * ldc + i];
}

static void store_transposed(const float *t, int m, float *c, ptrdiff_t ldc)
{
    for (int j = 0; j < m; j += 8) {
        __m256 r[8], v[8];
        FM_UNROLL
        for (int i = 0; i < MR; i++) r[i] = _mm256_load_ps(t + i * NR + j);
        r[6] = r[7] = _mm256_setzero_ps();
        fm_transpose(v, r);
        FM_UNROLL
        for (int i = 0; i < 8; i++) {
            if (j + i >= m) break;
            float *p = c + (j + i) * ldc;
            _mm_storeu_ps(p, _mm256_castps256_ps128(v[i]));
            _mm_storel_pi((__m64 *)(p + 4), _mm256_extractf128_ps(v[i], 1));
        }
    }
}

static void tile_transposed(int mr, int m, int k, const float *w, ptrdiff_t rs, const float *xp, float *c,
                            ptrdiff_t ldc, bool load)
{
    _Alignas(32) float t[MR * NR];
    if (load) {
        memset(t, 0, sizeof t);
        load_transposed(t, mr, m, c, ldc);
    }
    tiles[0][m > 8][mr - 1](k, w, rs, xp, t, NR, load);
    if (mr == MR) {
        store_transposed(t, m, c, ldc);
        return;
    }
    for (int j = 0; j < m; j++)
        for (int i = 0; i < mr; i++) c[j * ldc + i] = t[i * NR + j];
}

static void gemm_few_rows(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *w,
                          ptrdiff_t w_rs, float *c, ptrdiff_t ldc, bool accumulate, float *work)
{
    int kc = piece(k, FM_GEMM_WORK / ((m + NR - 1) / NR * NR) / 8 * 8, 8);
    for (int pc = 0; pc < k; pc += kc) {
        int kb = fm_min_int(kc, k - pc);
        fm_avx2_pack_b(work, kb, m, a + pc * a_cs, a_cs, a_rs);
        for (int j = 0; j < n; j += MR)
            for (int i = 0; i < m; i += NR)
                tile_transposed(fm_min_int(MR, n - j), fm_min_int(NR, m - i), kb, w + j * w_rs + pc, w_rs,
                                work + (ptrdiff_t)i * kb, c + i * ldc + j, ldc, accumulate || pc);
    }
}

static void clear(int m, int n, float *c, ptrdiff_t ldc)
{
    for (int i = 0; i < m; i++) memset(c + i * ldc, 0, (size_t)n * sizeof *c);
}

static void gemm_f32(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *b,
                     ptrdiff_t b_rs, ptrdiff_t b_cs, float *c, ptrdiff_t ldc, bool accumulate, float *work)
{
    if (m <= 0 || n <= 0) return;
    if (k <= 0) {
        if (!accumulate) clear(m, n, c, ldc);
        return;
    }
    if (b_rs == 1 && m <= FM_AVX2_ROWS) {
        fm_avx2_gemm_rows(m, n, k, a, a_rs, a_cs, b, b_cs, c, ldc, accumulate);
        return;
    }
    if (b_rs == 1 && m <= FEW_ROWS && (k >= FEW_MIN_K || m <= NR)) {
        gemm_few_rows(m, n, k, a, a_rs, a_cs, b, b_cs, c, ldc, accumulate, work);
        return;
    }
    gemm_blocked(m, n, k, a, a_rs, a_cs, b, b_rs, b_cs, c, ldc, accumulate, work);
}

void fm_avx2_fill_gemm(struct fm_kernels *k) { k->gemm_f32 = gemm_f32; }
