/* int8 activations by rows of weights, few rows of x: W is read where it lies.  The order is that of kernel.h.
 *
 *   a block of eight rows:  per row 32 codes → maddubs → 16 × int16 (pairs)
 *                           the eight rows' pairs are added up by unpacking, until lane = row: 8 × int32, exact
 *   over blocks             acc = fma(dw·dx, that, acc): the eight outputs are the lanes
 *
 * maddubs multiplies unsigned by signed and saturates at 16 bits; |q| <= 127.  A pair of codes of b bits reaches 2·(2^b − 1)·127:
 *   b = 6: 16002, so two of them fit int16     b = 5: 7874, four (31496)     b <= 4: 3810, eight
 *   b = 8, signed: maddubs gets |w| and sign(w)·q and reaches 2·128·127 = 32512: none may be added in int16
 * Offsets come off as exact integers, offset·Σq. */
#include "kernel/q8_formats.h"
#include "kernel/x86/q8_blocks_avx2.h"
#include "kernel/x86/x86.h"

enum { BLOCK = 32, LANES = 8 };

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
    int sum0 = sum_lanes(_mm256_add_epi32(q[0], q[1])), sum1 = sum_lanes(_mm256_add_epi32(q[2], q[3]));
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256((__m256i *)(void *)dst->q, _mm256_permutevar8x32_epi32(bytes, order));
    dst->d = _mm256_cvtss_f32(d);
    dst->s = dst->d * (float)(sum0 + sum1);
    dst->sum[0] = (int16_t)sum0;
    dst->sum[1] = (int16_t)sum1;
}

static void quantise_q8x(struct fm_q8x *dst, const float *x, int k)
{
    for (int b = 0; b < k / BLOCK; b++) quantise_block(dst + b, x + b * BLOCK);
}

/* ---- eight rows ---- */

/* Of {s0, s1} of four rows, in both halves: s0 in the lower half and s1 in the upper one, each as often as the pairs of its row
 * lie there: rows 2i and 2i+1 by turns, or all four. */
FM_INLINE __m256i scales_of_two(__m256i s, int i)
{
    const char a = (char)(8 * i), b = (char)(8 * i + 1), c = (char)(8 * i + 4), d = (char)(8 * i + 5);
    const char e = (char)(8 * i + 2), f = (char)(8 * i + 3), g = (char)(8 * i + 6), h = (char)(8 * i + 7);
    return _mm256_shuffle_epi8(s, _mm256_setr_epi8(a, b, a, b, c, d, c, d, a, b, a, b, c, d, c, d, e, f, e, f, g, h, g,
                                                   h, e, f, e, f, g, h, g, h));
}

FM_INLINE __m256i scales_of_four(__m256i s)
{
    return _mm256_shuffle_epi8(s, _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 2, 3, 2, 3, 6, 7,
                                                   6, 7, 10, 11, 10, 11, 14, 15, 14, 15));
}

/* The sum of the lanes of four rows: {row 0 … row 3} of the lower halves, then of the upper ones.  s: h->scale[b] with rows 0 … 3
 * (of these four) in both halves, used where the format has two scales. */
FM_INLINE __m256i four_rows(const struct q8_format *f, const unsigned char *const *row, int b, __m256i q, __m256i s)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i p[4], two[2];
    FM_UNROLL
    for (int i = 0; i < 4; i++) {
        __m256i c = f->codes(row[i], b);
        p[i] = f->bits == 8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(c), _mm256_sign_epi8(q, c))
                            : _mm256_maddubs_epi16(c, q);
        if (f->bits == 8) p[i] = _mm256_madd_epi16(p[i], ones);
    }
    FM_UNROLL
    for (int i = 0; i < 2; i++) {
        __m256i lo = _mm256_unpacklo_epi32(p[2 * i], p[2 * i + 1]), hi = _mm256_unpackhi_epi32(p[2 * i], p[2 * i + 1]);
        two[i] = f->bits == 8 ? _mm256_add_epi32(lo, hi) : _mm256_add_epi16(lo, hi);
        if (f->bits == 6) two[i] = _mm256_madd_epi16(two[i], f->two ? scales_of_two(s, i) : ones);
    }
    __m256i lo = _mm256_unpacklo_epi64(two[0], two[1]), hi = _mm256_unpackhi_epi64(two[0], two[1]);
    if (f->bits >= 6) return _mm256_add_epi32(lo, hi);
    return _mm256_madd_epi16(_mm256_add_epi16(lo, hi), f->two ? scales_of_four(s) : ones);
}

FM_INLINE __m256i both_halves(const int8_t *q)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)q));
}

/* Where codes come with two rows side by side the halves are rows 0 … 3 and 4 … 7 from the start.  The sum of the two sixteens
 * doubles what a pair reaches: only five bits need madd one step earlier. */
FM_INLINE __m256i eight_rows_joined(const struct q8_format *f, const unsigned char *const row[8], int b,
                                    const int8_t *q)
{
    const __m256i ones = _mm256_set1_epi16(1), q0 = both_halves(q), q1 = both_halves(q + 16);
    __m256i p[4], two[2];
    FM_UNROLL
    for (int i = 0; i < 4; i++) {
        __m256i c0, c1;
        f->joined(&c0, &c1, row[i], row[i + 4], b);
        if (f->bits == 8)
            p[i] = _mm256_add_epi32(
                _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(c0), _mm256_sign_epi8(q0, c0)), ones),
                _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(c1), _mm256_sign_epi8(q1, c1)), ones));
        else
            p[i] = _mm256_add_epi16(_mm256_maddubs_epi16(c0, q0), _mm256_maddubs_epi16(c1, q1));
    }
    FM_UNROLL
    for (int i = 0; i < 2; i++) {
        __m256i lo = _mm256_unpacklo_epi32(p[2 * i], p[2 * i + 1]), hi = _mm256_unpackhi_epi32(p[2 * i], p[2 * i + 1]);
        two[i] = f->bits == 8 ? _mm256_add_epi32(lo, hi) : _mm256_add_epi16(lo, hi);
        if (f->bits == 5) two[i] = _mm256_madd_epi16(two[i], ones);
    }
    __m256i lo = _mm256_unpacklo_epi64(two[0], two[1]), hi = _mm256_unpackhi_epi64(two[0], two[1]);
    return f->bits == 4 ? _mm256_madd_epi16(_mm256_add_epi16(lo, hi), ones) : _mm256_add_epi32(lo, hi);
}

/* Σ code·q (times the scales, where there are two) of block b, lane = row. */
FM_INLINE __m256i eight_rows(const struct q8_format *f, const struct q8_heads *h, const unsigned char *const row[8],
                             int b, __m256i q)
{
    __m256i s = f->two ? h->scale[b] : q;
    __m256i lo = four_rows(f, row, b, q, f->two ? _mm256_permute2x128_si256(s, s, 0x00) : s);
    __m256i hi = four_rows(f, row + 4, b, q, f->two ? _mm256_permute2x128_si256(s, s, 0x11) : s);
    return _mm256_add_epi32(_mm256_permute2x128_si256(lo, hi, 0x20), _mm256_permute2x128_si256(lo, hi, 0x31));
}

FM_INLINE __m256 block(const struct q8_format *f, const struct q8_heads *h, const unsigned char *const row[8], int b,
                       const struct fm_q8x *x, __m256 acc)
{
    const __m256i offset = _mm256_set1_epi16((short)f->offset);
    __m256i sum = f->joined ? eight_rows_joined(f, row, b, x->q)
                            : eight_rows(f, h, row, b, _mm256_loadu_si256((const __m256i *)(const void *)x->q));
    if (f->offset)
        sum = _mm256_sub_epi32(
            sum, _mm256_madd_epi16(f->two ? _mm256_mullo_epi16(h->scale[b], offset) : offset, sums_of(x)));
    __m256 dx = _mm256_broadcast_ss(&x->d);
    acc = _mm256_fmadd_ps(_mm256_mul_ps(h->d[f->two ? 0 : b], dx), _mm256_cvtepi32_ps(sum), acc);
    if (f->minimum) acc = _mm256_fmadd_ps(h->m[b], _mm256_broadcast_ss(&x->s), acc);
    if (f->two_mins)
        acc = _mm256_fmadd_ps(_mm256_mul_ps(h->m[0], dx), _mm256_cvtepi32_ps(_mm256_madd_epi16(h->min[b], sums_of(x))),
                              acc);
    return acc;
}

/* Fetches what the eight rows after these have at the same place: the processor follows rows, but not from one to the next. */
FM_INLINE void fetch_next(const struct q8_format *f, const unsigned char *p, size_t step)
{
    const unsigned char *row[LANES];
    q8_eight(row, p + LANES * step, step);
    FM_UNROLL
    for (int i = 0; i < LANES; i++)
        for (int at = 0; at < f->bytes; at += 64) _mm_prefetch((const char *)row[i] + at, _MM_HINT_T1);
}

/* Eight outputs of one x, rows step apart. */
FM_INLINE __m256 rows(const struct q8_format *f, const struct fm_q8x *x, const unsigned char *w, size_t step,
                      int n_blocks)
{
    __m256 acc = _mm256_setzero_ps();
    for (int b = 0; b < n_blocks; b += f->blocks, w += f->bytes) {
        const unsigned char *row[LANES];
        struct q8_heads h;
        q8_eight(row, w, step);
        if (f->bytes > 32 || b % 2 == 0) fetch_next(f, w, step); /* of two small blocks once */
        f->heads(&h, row);
        FM_UNROLL
        for (int i = 0; i < f->blocks; i++) acc = block(f, &h, row, i, x + b + i, acc);
    }
    return acc;
}

/* The last rows are those that end with row n: some twice, with the same bits.  Fewer than eight: one by one, in all lanes. */
FM_INLINE void gemm(const struct q8_format *f, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                    size_t row_bytes, int n, int k)
{
    const int nb = k / BLOCK;
    const unsigned char *p = w;
    for (int j = 0; n >= LANES && j < n; j += LANES) {
        int at = fm_min_int(j, n - LANES);
        for (int i = 0; i < m; i++)
            _mm256_storeu_ps(y + i * ldy + at,
                             rows(f, xq + (ptrdiff_t)i * nb, p + (size_t)at * row_bytes, row_bytes, nb));
    }
    for (int j = 0; n < LANES && j < n; j++)
        for (int i = 0; i < m; i++)
            y[i * ldy + j] = _mm256_cvtss_f32(rows(f, xq + (ptrdiff_t)i * nb, p + (size_t)j * row_bytes, 0, nb));
}

#define GEMM_Q8(fmt, ...)                                                                                            \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        static const struct q8_format f = Q8_ROW(__VA_ARGS__);                                                       \
        if (m >= FM_AVX2_PANEL_M)                                                                                    \
            fm_avx2_gemm_panels(FM_##fmt, y, ldy, xq, m, w, row_bytes, n, k, work);                                  \
        else                                                                                                         \
            gemm(&f, y, ldy, xq, m, w, row_bytes, n, k);                                                             \
    }
Q8_FORMATS(GEMM_Q8)

#define SLOT(fmt) [FM_##fmt] = gemm_##fmt,
const fm_gemm_q8_fn fm_avx2_gemm_q8[FM_FMT_COUNT] = {FM_Q8_FORMATS(SLOT)};

void fm_avx2_fill_q8(struct fm_kernels *k)
{
    k->quantise_q8x = quantise_q8x;
    for (int f = 0; f < FM_FMT_COUNT; f++)
        if (fm_avx2_gemm_q8[f]) k->gemm_q8[f] = fm_avx2_gemm_q8[f];
}
