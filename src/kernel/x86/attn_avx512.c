/* Attention over int8 with AVX-512 VNNI: dpbusd multiplies four unsigned bytes by signed ones and adds them to int32, 64
 * products at a time. */
#include <math.h>

#include "kernel/poly.h"
#include "kernel/scalar/attn_rows.h"
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { ROWS = 64, ZMM = 16, EACH = ROWS / ZMM };

/* ---- products ---- */

FM_INLINE __m512i four_of(const uint8_t *a)
{
    int32_t four;
    memcpy(&four, a, sizeof four);
    return _mm512_set1_epi32(four);
}

/* −128·Σ of C times sixteen lanes: what they begin with so that 128 counts as zero. */
FM_INLINE void offsets(int C, __m512i out[4], const int8_t *b, ptrdiff_t ldb, int quads)
{
    const __m512i ones = _mm512_set1_epi8(1);
    FM_UNROLL
    for (int j = 0; j < C; j++) out[j] = _mm512_setzero_si512();
    for (int q = 0; q < quads; q++, b += ldb) {
        FM_UNROLL
        for (int j = 0; j < C; j++) out[j] = _mm512_dpbusd_epi32(out[j], ones, _mm512_loadu_si512(b + 64 * j));
    }
    FM_UNROLL
    for (int j = 0; j < C; j++) out[j] = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(out[j], 7));
}

/* R rows by C times sixteen lanes. */
FM_INLINE void tile(int R, int C, float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, const __m512i first[4],
                    const int8_t *b, ptrdiff_t ldb, const float *by_lane, const float *by_row, int quads)
{
    __m512i acc[4][4], v[4];
    FM_UNROLL
    for (int i = 0; i < R; i++) {
        FM_UNROLL
        for (int j = 0; j < C; j++) acc[i][j] = first[j];
    }
    for (int q = 0; q < quads; q++, b += ldb, a += 4) {
        FM_UNROLL
        for (int j = 0; j < C; j++) v[j] = _mm512_loadu_si512(b + 64 * j);
        FM_UNROLL
        for (int i = 0; i < R; i++) {
            const __m512i x = four_of(a + i * lda);
            FM_UNROLL
            for (int j = 0; j < C; j++) acc[i][j] = _mm512_dpbusd_epi32(acc[i][j], x, v[j]);
        }
    }
    FM_UNROLL
    for (int i = 0; i < R; i++) {
        const __m512 row = _mm512_set1_ps(by_row[i]);
        FM_UNROLL
        for (int j = 0; j < C; j++) {
            float *at = c + i * ldc + ZMM * j;
            const __m512 s = by_lane ? _mm512_mul_ps(row, _mm512_loadu_ps(by_lane + ZMM * j)) : row;
            _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i][j]), s, _mm512_loadu_ps(at)));
        }
    }
}

#define ROWS_OF(R, C)              \
    for (; i + (R) <= m; i += (R)) \
    tile(R, C, c + i * ldc, ldc, a + i * lda, lda, first, b, ldb, by_lane, by_row + i, quads)

/* All rows by C times sixteen lanes. */
FM_INLINE void columns(int C, float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                       ptrdiff_t ldb, const float *by_lane, const float *by_row, int m, int quads)
{
    __m512i first[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    if (zero) offsets(C, first, b, ldb, quads);
    int i = 0;
    ROWS_OF(4, C);
    ROWS_OF(2, C);
    ROWS_OF(1, C);
}

static void gemm_u8(float *c, ptrdiff_t ldc, const uint8_t *a, ptrdiff_t lda, int zero, const int8_t *b,
                    const float *by_lane, const float *by_row, int m, int lanes, int quads)
{
    if (lanes == ROWS && by_lane)
        columns(EACH, c, ldc, a, lda, zero, b, 4 * ROWS, by_lane, by_row, m, quads);
    else if (lanes == ROWS)
        columns(EACH, c, ldc, a, lda, zero, b, 4 * ROWS, NULL, by_row, m, quads);
    else
        for (int l = 0; l < lanes; l += ZMM)
            columns(1, c + l, ldc, a, lda, zero, b + 4 * l, 4 * lanes, by_lane ? by_lane + l : NULL, by_row, m, quads);
}

/* ---- to eight bits ---- */

/* The largest bits of non-negative floats, NaN above all. */
FM_INLINE float largest(__m512i bits)
{
    return _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32((int)_mm512_reduce_max_epu32(bits))));
}

static float quantise_kv(int8_t *q, const float *x, int n)
{
    __m512 v[EACH];
    __mmask16 there[EACH];
    __m512i most = _mm512_setzero_si512();
    const uint64_t all = ~0ull >> (ROWS - n);
    FM_UNROLL
    for (int j = 0; j < EACH; j++) {
        there[j] = (__mmask16)(all >> ZMM * j);
        v[j] = _mm512_maskz_loadu_ps(there[j], x + ZMM * j);
        most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(v[j]), _mm512_set1_epi32(0x7FFFFFFF)));
    }
    const float max = largest(most);
    float d;
    const bool empty = fm_attn_is_empty(max, &d);
    const __m512 inv = _mm512_set1_ps(empty ? 0 : 127 / max);
    FM_UNROLL
    for (int j = 0; j < EACH; j++) {
        const __m512i r = empty ? _mm512_setzero_si512() : _mm512_cvtps_epi32(_mm512_mul_ps(v[j], inv));
        _mm512_mask_cvtepi32_storeu_epi8(q + ZMM * j, there[j], r);
    }
    return empty ? d : max / 127;
}

static void weigh_u8(uint8_t *w, float *f, const float *p, const float *d, int m)
{
    __m512 by[EACH], x[EACH];
    FM_UNROLL
    for (int j = 0; j < EACH; j++) by[j] = _mm512_loadu_ps(d + ZMM * j);
    for (; m > 0; m--, w += ROWS, p += ROWS, f++) {
        __m512i most = _mm512_setzero_si512();
        FM_UNROLL
        for (int j = 0; j < EACH; j++) {
            x[j] = _mm512_mul_ps(_mm512_loadu_ps(p + ZMM * j), by[j]);
            most = _mm512_max_epu32(most, _mm512_castps_si512(x[j])); /* NaN, of either sign, above all */
        }
        const float max = largest(most);
        if (fm_attn_is_empty(max, f)) {
            memset(w, 0, ROWS);
            continue;
        }
        const __m512 inv = _mm512_set1_ps(255 / max);
        FM_UNROLL
        for (int j = 0; j < EACH; j++)
            _mm_storeu_si128((__m128i *)(void *)(w + ZMM * j),
                             _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x[j], inv))));
        *f = max / 255;
    }
}

/* ---- laying out ---- */

/* Sums and differences of the lanes that `other` brings together; `sign` is −1 in the second of each two. */
#define BUTTERFLY(OTHER, SIGN)                                                \
    do {                                                                      \
        FM_UNROLL                                                             \
        for (int j = 0; j < V; j++) {                                         \
            const __m512 o = OTHER;                                           \
            v[j] = _mm512_mask_sub_ps(_mm512_add_ps(o, v[j]), SIGN, o, v[j]); \
        }                                                                     \
    } while (0)

/* V times sixteen values, of a group or each a piece of its own. */
FM_INLINE void spread_by(int V, bool whole, float *x, float scale)
{
    __m512 v[EACH];
    FM_UNROLL
    for (int j = 0; j < V; j++) v[j] = _mm512_loadu_ps(x + ZMM * j);
    BUTTERFLY(_mm512_permute_ps(v[j], 0xB1), 0xAAAA);
    BUTTERFLY(_mm512_permute_ps(v[j], 0x4E), 0xCCCC);
    BUTTERFLY(_mm512_shuffle_f32x4(v[j], v[j], 0xB1), 0xF0F0);
    BUTTERFLY(_mm512_shuffle_f32x4(v[j], v[j], 0x4E), 0xFF00);
    FM_UNROLL
    for (int h = 1; whole && h < V; h *= 2) {
        FM_UNROLL
        for (int j = 0; j < V; j++)
            if (!(j & h)) {
                const __m512 a = v[j], b = v[j + h];
                v[j] = _mm512_add_ps(a, b);
                v[j + h] = _mm512_sub_ps(a, b);
            }
    }
    FM_UNROLL
    for (int j = 0; j < V; j++) _mm512_storeu_ps(x + ZMM * j, _mm512_mul_ps(v[j], _mm512_set1_ps(scale)));
}

static void spread(float *x, int n)
{
    if (n == 64)
        spread_by(4, true, x, 0.125f);
    else if (n == 48)
        spread_by(3, false, x, 0.25f);
    else if (n == 32)
        spread_by(2, true, x, 1 / sqrtf(32));
    else
        spread_by(1, false, x, 0.25f);
}

/* Sixteen bytes of a vector are four rows of four values, which are turned within; then four vectors, four values each, give
 * the four quarters. */
static void turn(int8_t *dst, const int8_t *src, int n)
{
    const __m512i within = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    for (int i = 0; i < n; i += 16)
        for (int s = 0; s < ROWS; s += 16) {
            __m512i v[4];
            FM_UNROLL
            for (int j = 0; j < 4; j++)
                v[j] = _mm512_shuffle_epi8(_mm512_loadu_si512(src + ((i / 4 + j) * ROWS + s) * 4), within);
            const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xEE),
                          c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xEE);
            int8_t *to = dst + (s / 4 * n + i) * 4;
            _mm512_storeu_si512(to, _mm512_shuffle_i32x4(a, c, 0x88));
            _mm512_storeu_si512(to + 4 * n, _mm512_shuffle_i32x4(a, c, 0xDD));
            _mm512_storeu_si512(to + 8 * n, _mm512_shuffle_i32x4(b, d, 0x88));
            _mm512_storeu_si512(to + 12 * n, _mm512_shuffle_i32x4(b, d, 0xDD));
        }
}

/* ---- softmax ---- */

/* fm_expf on sixteen lanes of x <= 0 or NaN: the same polynomial in the same order, hence the same bits; scalef multiplies
 * by a power of two, exactly. */
FM_INLINE __m512 exp16(__m512 x)
{
    const __m512 magic = _mm512_set1_ps(FM_EXPF_MAGIC), one = _mm512_set1_ps(1);
    const __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(FM_EXPF_LOG2E), magic), n = _mm512_sub_ps(t, magic);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(FM_EXPF_LN2_HI), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(FM_EXPF_LN2_LO), r);
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(FM_EXPF_Q4), r, _mm512_set1_ps(FM_EXPF_Q3));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(FM_EXPF_Q2));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(FM_EXPF_Q1));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(FM_EXPF_Q0));
    const __m512 p = _mm512_add_ps(one, _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(FM_EXPF_LO), _CMP_NLT_UQ), p, n);
}

static void soften(float *p, float *top, float *sum, int m, int seen)
{
    const uint64_t there = seen < ROWS
    ? (1ull << seen) - 1 : ~0ull;
    for (int i = 0; i < m; i++, p += ROWS) {
        __m512 x[EACH], most = _mm512_set1_ps(-INFINITY);
        FM_UNROLL
        for (int j = 0; j < EACH; j++) {
            x[j] = _mm512_loadu_ps(p + ZMM * j);
            most = _mm512_mask_max_ps(most, (__mmask16)(there >> ZMM * j), x[j], most);
        }
        top[i] = _mm512_reduce_max_ps(most);
        const __m512 shift = _mm512_set1_ps(top[i]);
        __m256 acc = _mm256_setzero_ps(); /* the eight lanes of a sum: adding +0 leaves them as they are */
        FM_UNROLL
        for (int j = 0; j < EACH; j++) {
            const __m512 e = _mm512_maskz_mov_ps((__mmask16)(there >> ZMM * j), exp16(_mm512_sub_ps(x[j], shift)));
            _mm512_storeu_ps(p + ZMM * j, e);
            acc = _mm256_add_ps(acc, _mm512_castps512_ps256(e));
            acc = _mm256_add_ps(acc, _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(e), 1)));
        }
        sum[i] = fm_fold(acc);
    }
}

static void join(float *max, float *sum, float *old, float *fade, const float *top, const float *s, int m)
{
    for (int i = 0; i < m; i += ZMM) {
        const __mmask16 there = (__mmask16)(m - i < ZMM ? (1 << (m - i)) - 1 : 0xFFFF);
        const __m512 a = _mm512_maskz_loadu_ps(there, max + i), b = _mm512_maskz_loadu_ps(there, top + i),
                     most = _mm512_max_ps(b, a), x = exp16(_mm512_sub_ps(a, most)), y = exp16(_mm512_sub_ps(b, most));
        const __m512 l = _mm512_maskz_loadu_ps(there, sum + i), new = _mm512_maskz_loadu_ps(there, s + i);
        _mm512_mask_storeu_ps(old + i, there, x);
        _mm512_mask_storeu_ps(fade + i, there, y);
        _mm512_mask_storeu_ps(max + i, there, most);
        _mm512_mask_storeu_ps(sum + i, there, _mm512_fmadd_ps(l, x, _mm512_mul_ps(new, y)));
    }
}

void fm_avx512_fill_attn(struct fm_kernels *k)
{
    k->quantise_kv = quantise_kv;
    k->spread = spread;
    k->weigh_u8 = weigh_u8;
    k->turn = turn;
    k->soften = soften;
    k->join = join;
    k->gemm_u8 = gemm_u8;
}
