/* C[M,N] (+)= A[M,K]·B[K,N] in float32.  Source: Goto and van de Geijn 2008: the loops around one register tile.
 *
 *   for jc: columns, NC at a time          B block  kc × nc, packed
 *     for pc: k, KC at a time
 *       for ic: rows, MC at a time         A block  mc × kc, packed
 *         for jr: 8 columns                B panel  kc × 8
 *           for ir: 8 rows                 A panel  8 × kc
 *             8×8 tile: 16 accumulators, 2 registers of B, 2 of A
 *
 * An accumulator starts from +0 or from C and is stored to C after kc steps; the next block loads it again, which rounds
 * nothing: each output stays one chain over k. */
#include "kernel/arm/arm.h"

enum { TILE = 8, KC = 256, MC = 128, NC = 512, A_FLOATS = MC * KC };
_Static_assert(A_FLOATS + NC * KC <= FM_GEMM_WORK, "both blocks fit");

/* dst[p·8 + i] = src[i·rs + p·cs], i < m <= 8 and zeros up to 8: a panel of A, or of B with rows and columns exchanged. */
static void pack_panel(float *dst, int m, int k, const float *src, ptrdiff_t rs, ptrdiff_t cs)
{
    int p = 0;
    if (m == TILE && cs == 1)
        for (; p + 4 <= k; p += 4, dst += 4 * TILE)
            for (int half = 0; half < 2; half++) {
                float32x4_t r[4], t[4];
                FM_UNROLL
                for (int i = 0; i < 4; i++) r[i] = vld1q_f32(src + (4 * half + i) * rs + p);
                fm_transpose4(t, r);
                FM_UNROLL
                for (int i = 0; i < 4; i++) vst1q_f32(dst + i * TILE + 4 * half, t[i]);
            }
    else if (m == TILE && rs == 1)
        for (; p < k; p++, dst += TILE) {
            vst1q_f32(dst, vld1q_f32(src + p * cs));
            vst1q_f32(dst + 4, vld1q_f32(src + p * cs + 4));
        }
    for (; p < k; p++, dst += TILE)
        for (int i = 0; i < TILE; i++) dst[i] = i < m ? src[i * rs + p * cs] : 0;
}

static void pack(float *dst, int m, int k, const float *src, ptrdiff_t rs, ptrdiff_t cs)
{
    for (int i = 0; i < m; i += TILE, dst += (ptrdiff_t)TILE * k)
        pack_panel(dst, fm_min_int(TILE, m - i), k, src + i * rs, rs, cs);
}

#define EACH_ROW(X) X(0, a0, 0) X(1, a0, 1) X(2, a0, 2) X(3, a0, 3) X(4, a1, 0) X(5, a1, 1) X(6, a1, 2) X(7, a1, 3)

/* c[8][8] (= or +=) a panel of A by a panel of B. */
static void tile(int k, const float *a, const float *b, float *c, ptrdiff_t ldc, bool load)
{
#define START(i, a, lane)                                              \
    float32x4_t l##i = load ? vld1q_f32(c + i * ldc) : vdupq_n_f32(0); \
    float32x4_t h##i = load ? vld1q_f32(c + i * ldc + 4) : vdupq_n_f32(0);
#define STEP(i, a, lane)                       \
    l##i = vfmaq_laneq_f32(l##i, bl, a, lane); \
    h##i = vfmaq_laneq_f32(h##i, bh, a, lane);
#define STORE(i, a, lane)         \
    vst1q_f32(c + i * ldc, l##i); \
    vst1q_f32(c + i * ldc + 4, h##i);
    EACH_ROW(START)
    for (; k > 0; k--, a += TILE, b += TILE) {
        const float32x4_t bl = vld1q_f32(b), bh = vld1q_f32(b + 4), a0 = vld1q_f32(a), a1 = vld1q_f32(a + 4);
        EACH_ROW(STEP)
    }
    EACH_ROW(STORE)
}

static void copy_block(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int m, int n)
{
    for (int i = 0; i < m; i++) memcpy(dst + i * ldd, src + i * lds, (size_t)n * sizeof *dst);
}

/* m, n <= 8: smaller ones go through a copy. */
static void tile_any(int m, int n, int k, const float *a, const float *b, float *c, ptrdiff_t ldc, bool load)
{
    float t[TILE * TILE] = {0};
    if (m == TILE && n == TILE) {
        tile(k, a, b, c, ldc, load);
        return;
    }
    if (load) copy_block(t, TILE, c, ldc, m, n);
    tile(k, a, b, t, TILE, load);
    copy_block(c, ldc, t, TILE, m, n);
}

static void block(int m, int n, int k, const float *a, const float *b, float *c, ptrdiff_t ldc, bool load)
{
    for (int j = 0; j < n; j += TILE)
        for (int i = 0; i < m; i += TILE)
            tile_any(fm_min_int(TILE, m - i), fm_min_int(TILE, n - j), k, a + (ptrdiff_t)i * k, b + (ptrdiff_t)j * k,
                     c + i * ldc + j, ldc, load);
}

static void gemm_f32(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *b,
                     ptrdiff_t b_rs, ptrdiff_t b_cs, float *c, ptrdiff_t ldc, bool accumulate, float *work)
{
    float *const packed_a = work, *const packed_b = work + A_FLOATS;
    for (int i = 0; i < m && k == 0 && !accumulate; i++) memset(c + i * ldc, 0, (size_t)n * sizeof *c);
    for (int jc = 0; jc < n; jc += NC)
        for (int pc = 0; pc < k; pc += KC) {
            const int nc = fm_min_int(NC, n - jc), kc = fm_min_int(KC, k - pc);
            pack(packed_b, nc, kc, b + pc * b_rs + jc * b_cs, b_cs, b_rs);
            for (int ic = 0; ic < m; ic += MC) {
                const int mc = fm_min_int(MC, m - ic);
                pack(packed_a, mc, kc, a + ic * a_rs + pc * a_cs, a_rs, a_cs);
                block(mc, nc, kc, packed_a, packed_b, c + ic * ldc + jc, ldc, accumulate || pc);
            }
        }
}

void fm_neon_fill_gemm(struct fm_kernels *k) { k->gemm_f32 = gemm_f32; }
