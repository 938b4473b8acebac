/* int8 activations by rows of weights with AVX-512 VNNI, many rows of x: q8_panel_avx2.c with lanes of 16 rows of W.
 *
 * dpbusd multiplies four unsigned bytes by four signed ones and adds the exact sum to int32: nothing saturates, so that codes of
 * all widths go one way; signed codes get 128 added and an offset of 128.  |Σ| <= 32·255·127 < 2^31.  The float chains are those
 * of kernel.h, hence the bits of the other tiers. */
#include "kernel/q8_formats.h"
#include "kernel/x86/q8_blocks_avx2.h"
#include "kernel/x86/q8_kinds.h"
#include "kernel/x86/x86.h"

enum { BLOCK = 32, LANES = 16, GROUPS = 4, BLOCKS = 8, TILE_M = 4, TILE_G = 2 };

/* codes[8][16 rows × 4 columns] */
struct panel {
    uint8_t codes[8][64];
    float d[16], m[16];
};

/* For formats with two scales, lane = row: of either half; int16 pairs of both halves: scales times offset, minima. */
struct panel_two {
    int32_t scale[2][16];
    int16_t off[32], min[32];
};

struct panels {
    struct panel p[GROUPS][BLOCKS];
    struct panel_two two[GROUPS][BLOCKS];
};
_Static_assert(sizeof(struct panels) <= FM_GEMM_WORK * sizeof(float), "work holds the panels");

/* What dpbusd sees of a format. */
FM_INLINE int offset_of(const struct q8_format *f) { return f->bits == 8 ? 128 : f->offset; }

/* ---- unpacking: eight rows at a time, into half h of the lanes ---- */

FM_INLINE void store256(void *dst, __m256i v) { _mm256_storeu_si256(dst, v); }

FM_INLINE void pack_two(struct panel_two *dst, int h, const struct q8_format *f, __m256i s, __m256i min)
{
    store256(dst->scale[0] + 8 * h, _mm256_srai_epi32(_mm256_slli_epi32(s, 16), 16));
    store256(dst->scale[1] + 8 * h, _mm256_srai_epi32(s, 16));
    store256(dst->off + 16 * h, _mm256_mullo_epi16(s, _mm256_set1_epi16((short)f->offset)));
    if (f->two_mins) store256(dst->min + 16 * h, min);
}

FM_INLINE void pack_codes(struct panel *dst, int h, const struct q8_format *f, const unsigned char *const row[8], int b)
{
    __m256 r[8], t[8];
    FM_UNROLL
    for (int i = 0; i < 8; i++) {
        __m256i c = f->codes(row[i], b);
        r[i] = _mm256_castsi256_ps(f->bits == 8 ? _mm256_xor_si256(c, _mm256_set1_epi8(-128)) : c);
    }
    fm_transpose(t, r);
    FM_UNROLL
    for (int i = 0; i < 8; i++) store256(dst->codes[i] + 32 * h, _mm256_castps_si256(t[i]));
}

/* Eight rows (past the last: the last once more), n_blocks blocks of 32. */
FM_INLINE void pack(struct panels *to, int group, int half, const struct q8_format *f, const unsigned char *w,
                    size_t row_bytes, int n_rows, int n_blocks)
{
    const unsigned char *row[8];
    FM_UNROLL
    for (int i = 0; i < 8; i++) row[i] = w + (size_t)fm_min_int(i, n_rows - 1) * row_bytes;
    for (int b = 0; b < n_blocks; b += f->blocks) {
        struct q8_heads h;
        f->heads(&h, row);
        FM_UNROLL
        for (int i = 0; i < f->blocks; i++) {
            struct panel *p = &to->p[group][b + i];
            _mm256_storeu_ps(p->d + 8 * half, h.d[f->two ? 0 : i]);
            if (f->minimum || f->two_mins) _mm256_storeu_ps(p->m + 8 * half, h.m[f->two ? 0 : i]);
            if (f->two) pack_two(&to->two[group][b + i], half, f, h.scale[i], f->two_mins ? h.min[i] : h.scale[i]);
            pack_codes(p, half, f, row, i);
        }
        FM_UNROLL
        for (int i = 0; i < 8; i++) row[i] += f->bytes;
    }
}

/* ---- multiplying ---- */

FM_INLINE __m512i load512(const void *p) { return _mm512_loadu_si512(p); }

FM_INLINE __m512i broadcast4(const void *p)
{
    int v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

/* Of one panel: which rows of x, how many blocks, where the outputs lie, how many of them; the first panel along k starts the
 * chains. */
struct job {
    const struct fm_q8x *x;
    ptrdiff_t x_row;
    int n_blocks, n_rows;
    float *y;
    ptrdiff_t ldy;
    bool first;
    const struct panels *panels;
};

typedef __m512i tile_sums[TILE_M][TILE_G];

/* Σ code·q over four steps of four columns from step g on, added to sum. */
FM_INLINE void half_block(tile_sums sum, const struct fm_q8x *const x[TILE_M], const struct panel *const p[TILE_G],
                          int ni, int nj, int g0)
{
    FM_UNROLL
    for (int g = g0; g < g0 + 4; g++) {
        __m512i w[TILE_G];
        FM_UNROLL
        for (int j = 0; j < nj; j++) w[j] = load512(p[j]->codes[g]);
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            __m512i q = broadcast4(x[i]->q + 4 * g);
            FM_UNROLL
            for (int j = 0; j < nj; j++) sum[i][j] = _mm512_dpbusd_epi32(sum[i][j], w[j], q);
        }
    }
}

/* The float chain of one row of x and one group. */
FM_INLINE __m512 chain(__m512 acc, __m512i sum, const struct q8_format *f, const struct fm_q8x *x,
                       const struct panel *p, const struct panel_two *two)
{
    __m512 dx = _mm512_set1_ps(x->d), m = _mm512_loadu_ps(p->m);
    acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_loadu_ps(p->d), dx), _mm512_cvtepi32_ps(sum), acc);
    if (f->minimum) acc = _mm512_fmadd_ps(m, _mm512_set1_ps(x->s), acc);
    if (f->two_mins)
        acc = _mm512_fmadd_ps(_mm512_mul_ps(m, dx),
                              _mm512_cvtepi32_ps(_mm512_madd_epi16(load512(two->min), broadcast4(x->sum))), acc);
    return acc;
}

/* The integers of one block: sums start from what the offset takes off; two scales multiply the halves. */
FM_INLINE void multiply(tile_sums sum, const struct q8_format *f, const struct fm_q8x *const x[TILE_M],
                        const struct panel *const p[TILE_G], const struct panel_two *const two[TILE_G], int ni, int nj)
{
    tile_sums second;
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        __m512i off = offset_of(f) && !f->two
                          ? _mm512_madd_epi16(_mm512_set1_epi16((short)-offset_of(f)), broadcast4(x[i]->sum))
                          : _mm512_setzero_si512();
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            sum[i][j] = off;
            if (f->two) second[i][j] = off;
        }
    }
    half_block(sum, x, p, ni, nj, 0);
    if (!f->two) {
        half_block(sum, x, p, ni, nj, 4);
        return;
    }
    half_block(second, x, p, ni, nj, 4);
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            sum[i][j] = _mm512_add_epi32(_mm512_mullo_epi32(sum[i][j], load512(two[j]->scale[0])),
                                         _mm512_mullo_epi32(second[i][j], load512(two[j]->scale[1])));
            if (f->offset)
                sum[i][j] = _mm512_sub_epi32(sum[i][j], _mm512_madd_epi16(load512(two[j]->off), broadcast4(x[i]->sum)));
        }
    }
}

/* The lanes of group g that are rows. */
FM_INLINE __mmask16 lanes_of(const struct job *job, int g)
{
    int left = job->n_rows - g * LANES;
    return (__mmask16)(left >= LANES ? 0xFFFF : (1 << left) - 1);
}

/* ni rows of x from i0 on by nj groups from g0 on.  ni, nj, f are constants where inlined. */
FM_INLINE void tile(const struct q8_format *f, int ni, int nj, const struct job *job, int i0, int g0)
{
    __m512 acc[TILE_M][TILE_G];
    const struct fm_q8x *x[TILE_M] = {0};
    const struct panel *p[TILE_G] = {0};
    const struct panel_two *two[TILE_G] = {0};
    FM_UNROLL
    for (int j = 0; j < nj; j++) {
        p[j] = job->panels->p[g0 + j];
        two[j] = job->panels->two[g0 + j];
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        const float *y = job->y + (i0 + i) * job->ldy + g0 * LANES;
        x[i] = job->x + (i0 + i) * job->x_row;
        FM_UNROLL
        for (int j = 0; j < nj; j++)
            acc[i][j] = job->first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes_of(job, g0 + j), y + j * LANES);
    }
    for (int b = 0; b < job->n_blocks; b++) {
        tile_sums sum;
        multiply(sum, f, x, p, two, ni, nj);
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            FM_UNROLL
            for (int j = 0; j < nj; j++) acc[i][j] = chain(acc[i][j], sum[i][j], f, x[i], p[j], two[j]);
            x[i]++;
        }
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            p[j]++;
            two[j]++;
        }
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        float *y = job->y + (i0 + i) * job->ldy + g0 * LANES;
        FM_UNROLL
        for (int j = 0; j < nj; j++) _mm512_mask_storeu_ps(y + j * LANES, lanes_of(job, g0 + j), acc[i][j]);
    }
}

Q8_KIND(signed_bytes, .bits = 8)
Q8_KIND(four_offset, .bits = 4, .offset = 8)
Q8_KIND(five_offset, .bits = 5, .offset = 16)
Q8_KIND(with_minimum, .bits = 5, .minimum = true)
Q8_KIND(two_twice, .bits = 2, .two = true, .two_mins = true)
Q8_KIND(three_twice, .bits = 3, .two = true, .offset = 4)
Q8_KIND(six_twice, .bits = 6, .two = true, .offset = 32)

static void run(const struct kind *k, const struct job *job, int m)
{
    int groups = (job->n_rows + LANES - 1) / LANES;
    for (int i = 0, rows; i < m; i += rows) {
        rows = i + TILE_M <= m ? TILE_M : 1;
        for (int g = 0; g < groups; g += TILE_G) k->tiles[rows == TILE_M][g + 1 < groups](job, i, g);
    }
}

/* ---- the loops around ---- */

typedef void (*pack_fn)(struct panels *to, int group, int half, const unsigned char *w, size_t row_bytes, int n_rows,
                        int n_blocks);

static void gemm(enum fm_fmt f, pack_fn pack_rows, const struct kind *kind, float *y, ptrdiff_t ldy,
                 const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, int n, int k, float *work)
{
    struct panels *panels = (struct panels *)(void *)work;
    const int nb = k / BLOCK;
    for (int n0 = 0; n0 < n; n0 += GROUPS * LANES)
        for (int b0 = 0; b0 < nb; b0 += BLOCKS) {
            int rows = fm_min_int(GROUPS * LANES, n - n0), blocks = fm_min_int(BLOCKS, nb - b0);
            const unsigned char *at =
                (const unsigned char *)w + (size_t)n0 * row_bytes + fm_format_bytes(f, (uint64_t)b0 * BLOCK);
            for (int r = 0; r < (rows + LANES - 1) / LANES * LANES; r += 8) {
                int first = fm_min_int(r, rows - 1); /* a half without rows repeats the last one */
                pack_rows(panels, r / LANES, r / 8 % 2, at + (size_t)first * row_bytes, row_bytes,
                          fm_min_int(8, rows - first), blocks);
            }
            struct job job = {xq + b0, nb, blocks, rows, y + n0, ldy, b0 == 0, panels};
            run(kind, &job, m);
        }
}

#define GEMM_Q8(fmt, ...)                                                                                            \
    static void pack_##fmt(struct panels *to, int group, int half, const unsigned char *w, size_t row_bytes,         \
                           int n_rows, int n_blocks)                                                                 \
    {                                                                                                                \
        static const struct q8_format f = Q8_ROW(__VA_ARGS__);                                                       \
        pack(to, group, half, &f, w, row_bytes, n_rows, n_blocks);                                                   \
    }                                                                                                                \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        if (m >= FM_AVX2_PANEL_M)                                                                                    \
            gemm(FM_##fmt, pack_##fmt, &KIND_##fmt, y, ldy, xq, m, w, row_bytes, n, k, work);                        \
        else                                                                                                         \
            fm_avx2_gemm_q8[FM_##fmt](y, ldy, xq, m, w, row_bytes, n, k, work);                                      \
    }
#define KIND_Q8_0   kind_signed_bytes
#define KIND_IQ4_NL kind_signed_bytes
#define KIND_IQ4_XS kind_signed_bytes
#define KIND_Q4_0   kind_four_offset
#define KIND_Q5_0   kind_five_offset
#define KIND_MXFP4  kind_five_offset
#define KIND_Q4_1   kind_with_minimum
#define KIND_Q5_1   kind_with_minimum
#define KIND_Q4_K   kind_with_minimum
#define KIND_Q5_K   kind_with_minimum
#define KIND_Q2_K   kind_two_twice
#define KIND_Q3_K   kind_three_twice
#define KIND_Q6_K   kind_six_twice
Q8_FORMATS(GEMM_Q8)

#define SLOT(fmt) k->gemm_q8[FM_##fmt] = gemm_##fmt;

void fm_avx512_fill_q8(struct fm_kernels *k) { FM_Q8_FORMATS(SLOT) }
