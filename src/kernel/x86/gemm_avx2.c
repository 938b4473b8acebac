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
    KC = 256,      /* 16 KiB of B panel and 6 KiB of A panel in an L1 of 32 KiB */
    A_FLOATS = 144 * KC, /* 144 KiB of an L2 of 256 KiB or more                      */
    A_ROOM = A_FLOATS + 16, /* an A panel may write two floats past its end             */
    B_FLOATS = FM_GEMM_WORK - A_ROOM
};

#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)

/* c[6][16] (= or +=) the product of six rows of A, element (i,p) at a[i*rs + p*cs], and a packed panel of B. */
FM_INLINE void tile(int k, const float *a, ptrdiff_t rs, ptrdiff_t cs, const float *b, float *c, ptrdiff_t ldc, bool load)
{
#define START(i) __m256 l##i = _mm256_setzero_ps(), h##i = l##i;
#define LOAD(i) l##i = _mm256_loadu_ps(c + i * ldc), h##i = _mm256_loadu_ps(c + i * ldc + 8);
#define FMA(i)                                                                                                         \
    x = _mm256_broadcast_ss((i < 3 ? a : a3) + i % 3 * rs);                                                            \
    l##i = _mm256_fmadd_ps(x, bl, l##i);                                                                               \
    h##i = _mm256_fmadd_ps(x, bh, h##i);
#define STEP                                                                                                           \
    do {                                                                                                               \
        __m256 x, bl = _mm256_load_ps(b), bh = _mm256_load_ps(b + 8);                                                  \
        EACH_ROW(FMA) a += cs, a3 += cs, b += NR;                                                                      \
    } while (0)
#define STORE(i)                                                                                                       \
    _mm256_storeu_ps(c + i * ldc, l##i);                                                                               \
    _mm256_storeu_ps(c + i * ldc + 8, h##i);

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

static void tile_packed(int k, const float *a, const float *b, float *c, ptrdiff_t ldc, bool load)
{
    tile(k, a, 1, MR, b, c, ldc, load);
}

static void tile_rows(int k, const float *a, ptrdiff_t rs, const float *b, float *c, ptrdiff_t ldc, bool load)
{
    tile(k, a, rs, 1, b, c, ldc, load);
}

static void copy_block(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int m, int n)
{
    for (int i = 0; i < m; i++) memcpy(dst + i * ldd, src + i * lds, (size_t)n * sizeof *dst);
}

/* m <= 6 rows, n <= 16 columns: the tile works on a copy. */
static void tile_edge(int m, int n, int k, const float *a, const float *b, float *c, ptrdiff_t ldc, bool load)
{
    float t[MR * NR] = {0};
    if (load) copy_block(t, NR, c, ldc, m, n);
    tile_packed(k, a, b, t, NR, load);
    copy_block(c, ldc, t, NR, m, n);
}

/* One packed block of A by one of B. */
static void block(int m, int n, int k, const float *a, const float *b, float *c, ptrdiff_t ldc, bool load)
{
    for (int j = 0; j < n; j += NR)
        for (int i = 0; i < m; i += MR) {
            const float *ap = a + (ptrdiff_t)i * k, *bp = b + (ptrdiff_t)j * k;
            float *cp = c + i * ldc + j;
            if (m - i >= MR && n - j >= NR) tile_packed(k, ap, bp, cp, ldc, load);
            else tile_edge(m - i < MR ? m - i : MR, n - j < NR ? n - j : NR, k, ap, bp, cp, ldc, load);
        }
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
    int kc = piece(k, KC, 8);
    int mc = piece(m, A_FLOATS / kc / MR * MR, MR), nc = piece(n, B_FLOATS / kc / NR * NR, NR);
    for (int jc = 0; jc < n; jc += nc) {
        int nb = n - jc < nc ? n - jc : nc;
        for (int pc = 0; pc < k; pc += kc) {
            int kb = k - pc < kc ? k - pc : kc;
            fm_avx2_pack_b(bw, kb, nb, b + pc * b_rs + jc * b_cs, b_rs, b_cs);
            for (int ic = 0; ic < m; ic += mc) {
                int mb = m - ic < mc ? m - ic : mc;
                fm_avx2_pack_a(aw, mb, kb, a + ic * a_rs + pc * a_cs, a_rs, a_cs);
                block(mb, nb, kb, aw, bw, c + ic * ldc + jc, ldc, accumulate || pc);
            }
        }
    }
}

static void clear(int m, int n, float *c, ptrdiff_t ldc)
{
    for (int i = 0; i < m; i++) memset(c + i * ldc, 0, (size_t)n * sizeof *c);
}

static void gemm_f32(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *b, ptrdiff_t b_rs,
                     ptrdiff_t b_cs, float *c, ptrdiff_t ldc, bool accumulate, float *work)
{
    if (m <= 0 || n <= 0) return;
    if (k <= 0) {
        if (!accumulate) clear(m, n, c, ldc);
        return;
    }
    gemm_blocked(m, n, k, a, a_rs, a_cs, b, b_rs, b_cs, c, ldc, accumulate, work);
}

void fm_avx2_fill_gemm(struct fm_kernels *k)
{
    (void)tile_rows;
    k->gemm_f32 = gemm_f32;
}
