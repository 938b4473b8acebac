/* int8 activations by Q8_0, Q4_0 and Q4_1 rows.  The order is that of q8_scalar.c, so that both tiers agree bit for bit:
 *
 *   block of 32:   maddubs → 16 × int16 (pairs)  → madd with ones → 8 × int32 (fours) → float, exact
 *   over blocks:   acc = fma(dw·dx, that, acc), eight lanes; at the end the fold (and Q4_1's minima)
 *
 * maddubs multiplies unsigned by signed and saturates at 16 bits.  Q8_0 gives it |w| and sign(w)·x: a pair reaches
 * 2·128·127 = 32512 < 32768.  Q4 codes are unsigned already: 2·15·127 = 3810; Q4_0's −8 is 8·Σx, taken off as int32.
 *
 * A tile is four rows of W by two rows of x: a block of W is unpacked once for two, a block of x read once for four.
 * With one row of x the speed is that of the memory: each tile then fetches the next one's rows into the L2 cache. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { BLOCK = 32, TILE_N = 4, TILE_M = 2 };

/* ---- activations ---- */

FM_INLINE __m256i max_lanes(__m256i v)
{
    v = _mm256_max_epi32(v, _mm256_permute2x128_si256(v, v, 1));
    v = _mm256_max_epi32(v, _mm256_shuffle_epi32(v, 0x4E));
    return _mm256_max_epi32(v, _mm256_shuffle_epi32(v, 0xB1));
}

FM_INLINE int sum_lanes(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}

/* The scalar round_q: minps and maxps take their second operand where the first is NaN. */
FM_INLINE __m256i round_q(__m256 x, __m256 d)
{
    __m256 t = _mm256_div_ps(x, d);
    t = _mm256_max_ps(_mm256_min_ps(t, _mm256_set1_ps(127)), _mm256_set1_ps(-127));
    __m256 zero = _mm256_cmp_ps(d, _mm256_setzero_ps(), _CMP_EQ_OQ);
    return _mm256_andnot_si256(_mm256_castps_si256(zero), _mm256_cvtps_epi32(t));
}

FM_INLINE void quantise_block(struct fm_q8x *dst, const float *x)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i most = _mm256_setzero_si256(), q[4];
    FM_UNROLL
    for (int i = 0; i < 4; i++)
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + 8 * i)), magnitude));
    __m256 d = _mm256_div_ps(_mm256_castsi256_ps(max_lanes(most)), _mm256_set1_ps(127));
    FM_UNROLL
    for (int i = 0; i < 4; i++) q[i] = round_q(_mm256_loadu_ps(x + 8 * i), d);
    int sum = sum_lanes(_mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3])));
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256((__m256i *)(void *)dst->q, _mm256_permutevar8x32_epi32(bytes, order));
    dst->d = _mm256_cvtss_f32(d);
    dst->s = dst->d * (float)sum;
}

static void quantise_q8x(struct fm_q8x *dst, const float *x, int k)
{
    for (int b = 0; b < k / BLOCK; b++) quantise_block(dst + b, x + b * BLOCK);
}

/* ---- blocks of W ---- */

struct format {
    size_t block_bytes, codes; /* where the codes begin                       */
    bool nibbles;
    bool minus8;  /* values are d·(code − 8)                                  */
    bool minimum; /* an f16 minimum follows the scale                         */
    bool is_signed;
};

/* 32 codes as bytes: low nibbles are elements 0 … 15, high nibbles 16 … 31. */
FM_INLINE __m256i load_codes(const unsigned char *p, const struct format *f)
{
    if (!f->nibbles) return _mm256_loadu_si256((const __m256i *)(const void *)(p + f->codes));
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(p + f->codes));
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(b), _mm_srli_epi16(b, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* The eight partial sums of codes·q, exact. */
FM_INLINE __m256i block_dot(__m256i codes, __m256i q, bool is_signed)
{
    __m256i pairs = is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(q, codes))
                              : _mm256_maddubs_epi16(codes, q);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* The f16 at byte p of each of nj <= 4 rows, as floats. */
FM_INLINE __m128 halves(int nj, const unsigned char *const row[TILE_N], size_t p)
{
    uint16_t h[TILE_N] = {0};
    FM_UNROLL
    for (int j = 0; j < nj; j++) memcpy(&h[j], row[j] + p, 2);
    return _mm_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3], 0, 0, 0, 0));
}

/* y[i*ldy + j] for ni rows of x (n_blocks blocks each) and nj rows of W.  ni, nj, f are constants where inlined. */
FM_INLINE void tile(int ni, int nj, const struct format *f, float *y, ptrdiff_t ldy, const struct fm_q8x *x,
                    int n_blocks, const unsigned char *w, size_t row_bytes)
{
    const unsigned char *row[TILE_N] = {0};
    __m256 acc[TILE_M][TILE_N];
    __m128 min[TILE_M];
    FM_UNROLL
    for (int j = 0; j < nj; j++) row[j] = w + (size_t)j * row_bytes;
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        min[i] = _mm_setzero_ps();
        FM_UNROLL
        for (int j = 0; j < nj; j++) acc[i][j] = _mm256_setzero_ps();
    }
    for (int b = 0; b < n_blocks; b++) {
        size_t p = (size_t)b * f->block_bytes;
        __m128 d = halves(nj, row, p), m = f->minimum ? halves(nj, row, p + 2) : d;
        float scale[TILE_M][TILE_N];
        __m256i q[TILE_M], eight[TILE_M];
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            const struct fm_q8x *xb = x + (ptrdiff_t)i * n_blocks + b;
            q[i] = _mm256_loadu_si256((const __m256i *)(const void *)xb->q);
            eight[i] = f->minus8 ? block_dot(_mm256_set1_epi8(8), q[i], false) : q[i];
            if (f->minimum) min[i] = _mm_fmadd_ps(m, _mm_broadcast_ss(&xb->s), min[i]);
            _mm_storeu_ps(scale[i], _mm_mul_ps(d, _mm_broadcast_ss(&xb->d)));
        }
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            __m256i codes = load_codes(row[j] + p, f);
            if (ni == 1) _mm_prefetch((const char *)row[j] + p + TILE_N * row_bytes, _MM_HINT_T1);
            FM_UNROLL
            for (int i = 0; i < ni; i++) {
                __m256i sum = block_dot(codes, q[i], f->is_signed);
                if (f->minus8) sum = _mm256_sub_epi32(sum, eight[i]);
                acc[i][j] = _mm256_fmadd_ps(_mm256_broadcast_ss(&scale[i][j]), _mm256_cvtepi32_ps(sum), acc[i][j]);
            }
        }
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        float low[TILE_N];
        _mm_storeu_ps(low, min[i]);
        FM_UNROLL
        for (int j = 0; j < nj; j++) y[i * ldy + j] = f->minimum ? fm_fold(acc[i][j]) + low[j] : fm_fold(acc[i][j]);
    }
}

/* Rows of W outermost: four of them stay in the L1 cache while all rows of x pass. */
FM_INLINE void gemm(const struct format *f, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                    size_t row_bytes, int n, int k)
{
    int nb = k / BLOCK, j = 0;
    const unsigned char *p = w;
    for (; j + TILE_N <= n; j += TILE_N, p += TILE_N * row_bytes) {
        int i = 0;
        for (; i + TILE_M <= m; i += TILE_M)
            tile(TILE_M, TILE_N, f, y + i * ldy + j, ldy, xq + (ptrdiff_t)i * nb, nb, p, row_bytes);
        if (i < m) tile(1, TILE_N, f, y + i * ldy + j, ldy, xq + (ptrdiff_t)i * nb, nb, p, row_bytes);
    }
    for (; j < n; j++, p += row_bytes)
        for (int i = 0; i < m; i++) tile(1, 1, f, y + i * ldy + j, ldy, xq + (ptrdiff_t)i * nb, nb, p, row_bytes);
}

#define GEMM_Q8(name, ...)                                                                                            \
    static void name(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, int n, \
                     int k)                                                                                           \
    {                                                                                                                 \
        static const struct format f = {__VA_ARGS__};                                                                 \
        gemm(&f, y, ldy, xq, m, w, row_bytes, n, k);                                                                  \
    }
GEMM_Q8(gemm_q8_0, .block_bytes = 34, .codes = 2, .is_signed = true)
GEMM_Q8(gemm_q4_0, .block_bytes = 18, .codes = 2, .nibbles = true, .minus8 = true)
GEMM_Q8(gemm_q4_1, .block_bytes = 20, .codes = 4, .nibbles = true, .minimum = true)

void fm_avx2_fill_q8(struct fm_kernels *k)
{
    k->quantise_q8x = quantise_q8x;
    k->gemm_q8[FM_Q8_0] = gemm_q8_0;
    k->gemm_q8[FM_Q4_0] = gemm_q4_0;
    k->gemm_q8[FM_Q4_1] = gemm_q4_1;
}
