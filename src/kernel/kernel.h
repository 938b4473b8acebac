/* The instruction-set border: one table of fast arithmetic on raw rows, filled once, then read-only.
 *
 * A kernel is a pure function of its arguments on one thread: no allocation, no threads, no errors, no globals.
 * The scalar tier fills every slot; a CPU's tier overwrites rows.  FATHOM_CPU=scalar|avx2|avx512|neon|dotprod|i8mm forces a tier.
 *
 * Order of accumulation (per tier; bits never depend on M, on blocking, or on where a row lies):
 *   gemm_f32, gemv       each output is ONE chain over k = 0,1,2…: acc = fma(a[k], b[k], acc), starting from +0
 *                        (from C when accumulating).  So gemv, gemm with any M, and K-blocked gemm agree bit for bit,
 *                        and both tiers agree as well (fma is exact everywhere).
 *   gemm_q8              per block of 32 one exact integer I = Σ c·q, c the weights' own integers (with two scales of 16,
 *                        times these); each output is ONE chain over the blocks: acc = fma(dw·dx, I, acc), where the
 *                        format has minima then acc = fma(m, s, acc) (Q2_K: fma(m·dx, Σ min·q, acc)); all tiers agree
 *                        bit for bit
 *   gemm_q14             per block of 32 one exact integer I = Σ w·q, both of 14 bits; each output is ONE chain over the blocks:
 *                        acc = fma(dw·dx, I, acc), I rounded to float; all tiers agree bit for bit
 *   reductions           eight lanes by index mod 8, folded ((0+4)+(2+6))+((1+5)+(3+7)), tail elements in their lanes;
 *                        the scalar tier emulates the lanes, so both tiers agree bit for bit. */
#ifndef FM_KERNEL_KERNEL_H
#define FM_KERNEL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/format.h"

/* Floats of scratch that gemm_f32, gemm_few, gemm_q8 and gemm_q14 need (per thread, 64-byte aligned); rows of x of gemm_few. */
enum { FM_GEMM_WORK = 1 << 18, FM_GEMM_FEW = 96 };

/* Activations as int8 blocks: the partner of all formats with a gemm_q8.  Per 32 elements: d = max|x|/127 (f32),
 * q = round-to-nearest-even(x/d) clamped to ±127, sum = Σq of either half (for codes that count from an offset), s = d·Σq (for
 * minima).  |x − d·q| <= d/2 (1 + 2^-15).  A NaN or infinity anywhere in the block makes d and s NaN or infinite: nothing is
 * hidden. */
struct fm_q8x {
    float d, s;
    int16_t sum[2];
    int8_t q[32];
};

/* Activations as blocks of 14-bit integers: the partner of F16 and BF16.  Per 32 elements: d = max|x|/8191, q = x·(8191/max|x|) to
 * nearest even.  |x − d·q| <= d·(1/2 + 2^-9).  max|x| < 1e-30: q = 0, d = 1; NaN or infinity: q = 0, d = NaN. */
struct fm_q14x {
    float d;
    int16_t q[32];
};

static inline int fm_min_int(int a, int b) { return a < b ? a : b; }
static inline int fm_max_int(int a, int b) { return a > b ? a : b; }

/* Scales beside weights: element [j,k] counts at[j·ld + k/cols] times, one more rounding; cols a multiple of 32, or
 * k or more. */
struct fm_scaling {
    const float *at;
    ptrdiff_t ld;
    int cols;
};

struct fm_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float bias1, bias2; /* 1 − beta1^t, 1 − beta2^t */
};

struct fm_kernels {
    const char *tier; /* "scalar", "avx2", "avx512", "neon", "dotprod", "i8mm" */

    /* ---- matrices ---- */
    /* C[M,N] (= or +=) A[M,K]·B[K,N]; element A[i,k] at a[i*a_rs + k*a_cs], B[k,j] at b[k*b_rs + j*b_cs], C[i,j] at
     * c[i*ldc + j].  y = x·Wᵀ is b_rs = 1, b_cs = K.  work: FM_GEMM_WORK floats.  No aliasing.  K = 0: C = 0 or kept. */
    void (*gemm_f32)(int m, int n, int k, const float *a, ptrdiff_t a_rs, ptrdiff_t a_cs, const float *b,
                     ptrdiff_t b_rs, ptrdiff_t b_cs, float *c, ptrdiff_t ldc, bool accumulate, float *work);
    /* y[i] = Σ_k decode(W[i,k])·x[k] for n rows of k elements, row_bytes apart: the M = 1 form of gemm_f32 on the decoded
     * weights, same bits.  Any k that is a multiple of the block. */
    void (*gemv[FM_FMT_COUNT])(float *y, const void *w, size_t row_bytes, const float *x, int n, int k);
    /* y[i·ldy + j] = Σ_k x[i·ldx + k]·decode(W[j,k]) for m rows of x, 1 <= m <= FM_GEMM_FEW: gemm_f32 on the decoded weights,
     * same bits, where decoding in registers is faster than that; NULL elsewhere.  s: scales, of F8_E4M3 only, or NULL.
     * work: FM_GEMM_WORK floats. */
    void (*gemm_few[FM_FMT_COUNT])(float *y, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int m, const void *w,
                                   size_t row_bytes, int n, int k, const struct fm_scaling *s, float *work);
    /* dst[n] = decoded values, same bits as fm_formats[f].decode. */
    void (*decode[FM_FMT_COUNT])(float *dst, const void *src, size_t n);
    /* As fm_formats[f].encode_weighted (weights may be NULL), same bits; NULL where the tier has nothing faster. */
    fm_encode_weighted_fn encode[FM_FMT_COUNT];
    /* x f32 [k] → k/32 blocks. Same bits in both tiers. */
    void (*quantise_q8x)(struct fm_q8x *dst, const float *x, int k);
    /* y[i*ldy + j] = row j of W (n rows of k elements) · xq row i (m rows of k/32 blocks); NULL where the format has no
     * int8 path.  work: FM_GEMM_WORK floats.  Bits do not depend on m, n. */
    void (*gemm_q8[FM_FMT_COUNT])(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                                  size_t row_bytes, int n, int k, float *work);
    /* x f32 [k] → k/32 blocks; and as gemm_q8, for weights that become blocks of 14-bit integers with a power of two each, as
     * scalar/q14_scalar.c says: F16, BF16, NULL elsewhere. */
    void (*quantise_q14x)(struct fm_q14x *dst, const float *x, int k);
    void (*gemm_q14[FM_FMT_COUNT])(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w,
                                   size_t row_bytes, int n, int k, float *work);
    /* Packed weights: rows laid out side by side for this tier's vectors, pack_rows of them (R) at a time, in exactly the
     * bytes that they have in the file: rows r … r + R − 1 (r a multiple of R) are the R·row_bytes bytes at r·row_bytes.  The
     * layout is drawn in scalar/q8_packed_scalar.c and, for gemm_q14's, q14_scalar.c; it differs between tiers by R only.  NULL where
     * both gemm_q8 and gemm_q14 are. */
    int pack_rows;
    /* n rows (a multiple of R) of k elements, row_bytes apart in src; dst has the same size and does not overlap it. */
    void (*pack[FM_FMT_COUNT])(void *dst, const void *src, size_t row_bytes, int n, int k);
    /* The exact inverse for one row of the group at packed, 0 <= row < R: its bytes in the file's layout.  Not fast.
     * NULL for gemm_q14's formats: their packed rows are the rounded integers. */
    void (*unpack_row[FM_FMT_COUNT])(void *dst, const void *packed, size_t row_bytes, int row, int k);
    /* gemm_q8 of packed rows, n a multiple of R: the same arguments, the same bits. */
    void (*gemm_packed[FM_FMT_COUNT])(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                                      size_t row_bytes, int n, int k, float *work);
    /* gemm_q14 of packed rows, n a multiple of R: the same bits.  What format they were does not matter any more. */
    void (*gemm_packed_q14)(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w, size_t row_bytes,
                            int n, int k, float *work);

    /* ---- attention over int8: 64 rows of a cache at a time, in the tiles of op/kv_tile.h ---- */
    /* A group of keys, values or of a query.  With M = max|x|: returns d = M/127; q[i] = x[i]·(127/M) to nearest even.
     * M < 1e-30: q = 0, d = 0; NaN or infinity in x: q = 0, d = NaN.  |x − d·q| <= d/2·(1 + 2^-14).  n: 1 … 64. */
    float (*quantise_kv)(int8_t *q, const float *x, int n);
    /* x = H·x, H the Hadamard matrix of the largest power of two that divides n, by its root, along the diagonal.  The
     * butterflies (a + b, a − b) of distance 1, 2, 4 … in order.  n: 16, 32, 48 or 64. */
    void (*spread)(float *x, int n);
    /* m rows of weights: of x = p[64]⊙d[64] with M = max x: f = M/255; w = x·(255/M) to nearest even; M < 1e-30, NaN, infinity
     * as above.  |x − f·w| <= f/2·(1 + 2^-13).  p, d >= 0 or NaN. */
    void (*weigh_u8)(uint8_t *w, float *f, const float *p, const float *d, int m);
    /* m rows of 64 scores into weights: of the first `seen`, top[i] = max p (NaN is passed over, a zero has either sign),
     * p = exp(p − top[i]), sum[i] = Σp (lanes); behind them p = 0. */
    void (*soften)(float *p, float *top, float *sum, int m, int seen);
    /* m rows' state (max, sum) and a block's (top, s) become one: with M = top if that is greater, else max: old = exp(max − M),
     * fade = exp(top − M), max = M, sum = fma(sum, old, s·fade). */
    void (*join)(float *max, float *sum, float *old, float *fade, const float *top, const float *s, int m);
    /* A tile of keys, [n/4][64][4], to one by value, [16][n][4]; n a multiple of 16, at most 64. */
    void (*turn)(int8_t *dst, const int8_t *src, int n);
    /* c[i·ldc + l] = fma(I, s, c), I = Σ_q Σ_{t<4} (a[i·lda + 4q + t] − zero)·b[q][l][t] exact in int32; s = by_row[i]·by_lane[l],
     * or by_row[i] where by_lane is NULL; zero: 0 or 128.  lanes: a multiple of 16, at most 64; quads: of 4, at most 16. */
    void (*gemm_u8)(float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                    const float *by_lane, const float *by_row, int m, int lanes, int quads);

    /* ---- rows ---- */
    float (*dot)(const float *a, const float *b, size_t n); /* lanes                                             */
    double (*sumsq)(const float *x, size_t n);              /* Σ x² in double, four lanes mod 4, (0+2)+(1+3)      */
    float (*max)(const float *x, size_t n);                 /* n >= 1; −inf allowed, NaN is passed over          */
    /* y = exp(x − shift); returns Σy (lanes); y may be x */
    float (*exp_sum)(float *y, const float *x, size_t n, float shift);
    void (*axpy)(float *y, float a, const float *x, size_t n);       /* y = fma(a, x, y)                         */
    void (*scale)(float *y, float a, size_t n);                      /* y *= a                                   */
    void (*add)(float *y, const float *a, const float *b, size_t n); /* y may be a or b                          */
    void (*mul)(float *y, const float *a, const float *b, size_t n);
    void (*sigmoid)(float *y, const float *x, size_t n); /* 1/(1+exp(−x)); y may be x                */
    /* y = w ⊙ x · r, r = 1/sqrt(Σx²/n + eps) (dot lanes, IEEE sqrt and division); w may be NULL (all ones); y may be x */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* dx = r·(w⊙dy) − x·r³/n·Σ(w⊙dy⊙x), dw += dy⊙x·r; dw or w may be NULL; accumulate: dx += ; dx may be dy or x */
    void (*rms_norm_bwd)(float *dx, float *dw, const float *dy, const float *x, const float *w, size_t n, float eps,
                         bool accumulate);
    void (*silu_mul)(float *y, const float *g, const float *u, size_t n); /* y = g·sigmoid(g)·u; y may be g or u   */
    /* from dy: dg = dy·u·σ(1+g(1−σ)), du = dy·g·σ; outputs may alias g, u, dy element by element */
    void (*silu_mul_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u, size_t n);
    /* rotate half = width/2 pairs by cs[half][2] = {cos, sin}; interleaved: (2i, 2i+1), else (i, i+half); inverse: sin → −sin */
    void (*rope)(float *x, const float *cs, int half, bool interleaved, bool inverse);
    /* one decoupled AdamW step on n elements (Loshchilov & Hutter 2019), moments f32, g read only:
     * m = b1 m + (1−b1) g;  v = b2 v + (1−b2) g²;  p = p·(1 − lr·wd) − lr·(m/bias1)/(sqrt(v/bias2) + eps) */
    void (*adamw)(float *p, float *m, float *v, const float *g, size_t n, const struct fm_adamw *o, float grad_scale);
};

/* The table of this machine (or of FATHOM_CPU). Thread-safe; never fails: an unknown or impossible FATHOM_CPU is reported
 * through *warning (static string, may be NULL) and the best tier is used. */
const struct fm_kernels *fm_kernels_get(const char **warning);
/* By name, NULL when this CPU cannot run it: for tests and benchmarks. */
const struct fm_kernels *fm_kernels_tier(const char *name);
/* All tier names this build knows, best last. */
extern const char *const fm_kernel_tiers[];
extern const int fm_n_kernel_tiers;

void fm_kernels_init_scalar(struct fm_kernels *k);
#if defined(__x86_64__) || defined(__i386__)
void fm_kernels_init_x86(struct fm_kernels *k, const char *tier);
#elif defined(__aarch64__)
void fm_kernels_init_arm(struct fm_kernels *k, const char *tier);
#endif

#endif
