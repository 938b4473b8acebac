/* int8 activations by rows of weights, many rows of x: bits as in q8_avx2.c.
 *
 *   a panel: 64 rows of W × 256 columns, unpacked once and kept in the L1 cache while all rows of x pass:
 *            [group of 8 rows][block of 32]  { codes[8][8 rows × 4 columns], d[8 rows], m[8 rows] }
 *            (signed bytes are widened to int16, and the rows of x with them)
 *   a tile:  two groups (16 rows of W) by four rows of x; four columns of x are broadcast to all lanes, so that a lane of
 *            maddubs holds two products of one row.  As many of these as fit are added in int16 (the ranges: q8_avx2.c), then
 *            madd makes them int32; after 32 columns one conversion and one fma per eight outputs.
 * Between panels y holds the chains. */
#include "kernel/x86/q8_blocks_avx2.h"
#include "kernel/x86/q8_kinds.h"
#include "kernel/x86/x86.h"

enum { BLOCK = 32, LANES = 8, GROUPS = 8, BLOCKS = 8, TILE_M = 4, TILE_G = 2 };

struct panel {
    uint8_t codes[8][32];
    float d[8], m[8];
};

/* For formats with two scales: of either half, twice for each row; of both halves in turn, scales times offset and minima. */
struct panel_two {
    int16_t scale[2][16], off[16], min[16];
};

/* For signed bytes, whose pairs maddubs could saturate: codes as int16, [16 times two columns][8 rows × 2]. */
struct panel_wide {
    int16_t codes[16][16];
};

struct panels {
    struct panel p[GROUPS][BLOCKS];
    struct panel_two two[GROUPS][BLOCKS];
    struct panel_wide wide[GROUPS][BLOCKS];
    int16_t x[TILE_M][BLOCKS][BLOCK]; /* rows of x for these */
};
_Static_assert(sizeof(struct panels) <= FM_GEMM_WORK * sizeof(float), "work holds the panels");

/* ---- unpacking ---- */

FM_INLINE void store(void *dst, __m256i v) { _mm256_storeu_si256(dst, v); }
FM_INLINE __m256i load(const void *src) { return _mm256_loadu_si256(src); }

FM_INLINE void pack_two(struct panel_two *dst, const struct q8_format *f, __m256i s, __m256i min)
{
    __m256i low = _mm256_and_si256(s, _mm256_set1_epi32(0xFFFF)), high = _mm256_srli_epi32(s, 16);
    store(dst->scale[0], _mm256_or_si256(low, _mm256_slli_epi32(s, 16)));
    store(dst->scale[1], _mm256_or_si256(high, _mm256_slli_epi32(high, 16)));
    store(dst->off, _mm256_mullo_epi16(s, _mm256_set1_epi16((short)f->offset)));
    if (f->two_mins) store(dst->min, min);
}

/* {four columns of each of eight rows} as int16, two columns at a time. */
FM_INLINE void widen(int16_t dst[2][16], __m256i v)
{
    const __m256i order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    v = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(v, order), 0xD8);
    store(dst[0], _mm256_cvtepi8_epi16(_mm256_castsi256_si128(v)));
    store(dst[1], _mm256_cvtepi8_epi16(_mm256_extracti128_si256(v, 1)));
}

FM_INLINE void pack_codes(struct panel *dst, struct panel_wide *wide, const struct q8_format *f,
                          const unsigned char *const row[8], int b)
{
    __m256 r[8], t[8];
    FM_UNROLL
    for (int i = 0; i < LANES; i++) r[i] = _mm256_castsi256_ps(f->codes(row[i], b));
    fm_transpose(t, r);
    FM_UNROLL
    for (int i = 0; i < 8; i++)
        if (f->bits == 8)
            widen(&wide->codes[2 * i], _mm256_castps_si256(t[i]));
        else
            store(dst->codes[i], _mm256_castps_si256(t[i]));
}

/* Eight rows (past the last: the last once more), n_blocks blocks of 32. */
FM_INLINE void pack(struct panels *to, int group, const struct q8_format *f, const unsigned char *w, size_t row_bytes,
                    int n_rows, int n_blocks)
{
    const unsigned char *row[LANES];
    struct panel *p = to->p[group];
    FM_UNROLL
    for (int i = 0; i < LANES; i++) row[i] = w + (size_t)fm_min_int(i, n_rows - 1) * row_bytes;
    for (int b = 0; b < n_blocks; b += f->blocks) {
        struct q8_heads h;
        f->heads(&h, row);
        FM_UNROLL
        for (int i = 0; i < f->blocks; i++) {
            _mm256_storeu_ps(p[b + i].d, h.d[f->two ? 0 : i]);
            if (f->minimum || f->two_mins) _mm256_storeu_ps(p[b + i].m, h.m[f->two ? 0 : i]);
            if (f->two) pack_two(&to->two[group][b + i], f, h.scale[i], f->two_mins ? h.min[i] : h.scale[i]);
            pack_codes(&p[b + i], &to->wide[group][b + i], f, row, i);
        }
        FM_UNROLL
        for (int i = 0; i < LANES; i++) row[i] += f->bytes;
    }
}

/* ---- multiplying ---- */

/* Four columns of x from 4g on, in all lanes. */
FM_INLINE __m256i four_of(const struct fm_q8x *x, int g)
{
    int v;
    memcpy(&v, x->q + 4 * g, sizeof v);
    return _mm256_set1_epi32(v);
}

/* The compilers would hold such values in registers over a loop that needs all of them for other things. */
#define KEEP_IN_MEMORY(x) __asm__("" : "+m"(x))

/* Additions in this very order: the compilers would make a tree of them, and spill its leaves. */
FM_INLINE __m256i add32(__m256i a, __m256i b)
{
    a = _mm256_add_epi32(a, b);
    __asm__("" : "+x"(a));
    return a;
}

FM_INLINE __m256i add16(__m256i a, __m256i b)
{
    a = _mm256_add_epi16(a, b);
    __asm__("" : "+x"(a));
    return a;
}

typedef __m256i tile_sums[TILE_M][TILE_G];

/* Where a tile reads: ni rows of x, nj groups of W, at one block. */
struct at {
    const struct fm_q8x *x[TILE_M];
    const struct panel *p[TILE_G];
    const struct panel_two *two[TILE_G];
    const struct panel_wide *wide[TILE_G];
    const int16_t *x16; /* rows BLOCKS·BLOCK apart */
};

/* Two columns at a time, |sum of two| <= 2·128·127, in int32 at once. */
FM_INLINE void multiply_signed(tile_sums sum, const struct at *at, int ni, int nj)
{
    FM_UNROLL
    for (int g = 0; g < 16; g++) {
        __m256i w[TILE_G];
        FM_UNROLL
        for (int j = 0; j < nj; j++) w[j] = load(at->wide[j]->codes[g]);
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            int v;
            memcpy(&v, at->x16 + i * BLOCKS * BLOCK + 2 * g, sizeof v);
            __m256i x = _mm256_set1_epi32(v);
            FM_UNROLL
            for (int j = 0; j < nj; j++) {
                __m256i t = _mm256_madd_epi16(w[j], x);
                sum[i][j] = g ? add32(sum[i][j], t) : t;
            }
        }
    }
}

/* Two steps of unsigned codes of six bits per madd. */
FM_INLINE void multiply_six(tile_sums sum, const struct at *at, int ni, int nj)
{
    FM_UNROLL
    for (int g = 0; g < 8; g += 2) {
        __m256i a[TILE_G], b[TILE_G];
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            a[j] = load(at->p[j]->codes[g]);
            b[j] = load(at->p[j]->codes[g + 1]);
        }
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            __m256i xa = four_of(at->x[i], g), xb = four_of(at->x[i], g + 1);
            FM_UNROLL
            for (int j = 0; j < nj; j++) {
                __m256i t = _mm256_add_epi16(_mm256_maddubs_epi16(a[j], xa), _mm256_maddubs_epi16(b[j], xb));
                t = _mm256_madd_epi16(t, load(at->two[j]->scale[g / 4]));
                sum[i][j] = g ? add32(sum[i][j], t) : t;
            }
        }
    }
}

/* Unsigned codes of few bits: steps at a time per madd. */
FM_INLINE void multiply_few(tile_sums sum, const struct at *at, int ni, int nj, int steps, bool two)
{
    const __m256i ones = _mm256_set1_epi16(1);
    FM_UNROLL
    for (int g = 0; g < 8; g += steps) {
        tile_sums a;
        FM_UNROLL
        for (int s = 0; s < steps; s++) {
            __m256i w[TILE_G];
            FM_UNROLL
            for (int j = 0; j < nj; j++) w[j] = load(at->p[j]->codes[g + s]);
            FM_UNROLL
            for (int i = 0; i < ni; i++) {
                __m256i x = four_of(at->x[i], g + s);
                FM_UNROLL
                for (int j = 0; j < nj; j++) {
                    __m256i t = _mm256_maddubs_epi16(w[j], x);
                    a[i][j] = s ? add16(a[i][j], t) : t;
                }
            }
        }
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            FM_UNROLL
            for (int j = 0; j < nj; j++) {
                __m256i t = _mm256_madd_epi16(a[i][j], two ? load(at->two[j]->scale[g / 4]) : ones);
                sum[i][j] = g ? add32(sum[i][j], t) : t;
            }
        }
    }
}

FM_INLINE void multiply(tile_sums sum, const struct q8_format *f, const struct at *at, int ni, int nj)
{
    if (f->bits == 8)
        multiply_signed(sum, at, ni, nj);
    else if (f->bits == 6)
        multiply_six(sum, at, ni, nj);
    else
        multiply_few(sum, at, ni, nj, f->bits == 5 || f->two ? 4 : 8, f->two);
}

/* The float chain of one row of x and one group. */
FM_INLINE __m256 chain(__m256 acc, __m256i sum, const struct q8_format *f, const struct fm_q8x *x,
                       const struct panel *p, const struct panel_two *two)
{
    if (f->offset)
        sum = _mm256_sub_epi32(
            sum, _mm256_madd_epi16(f->two ? load(two->off) : _mm256_set1_epi16((short)f->offset), sums_of(x)));
    __m256 dx = _mm256_broadcast_ss(&x->d), m = _mm256_loadu_ps(p->m);
    acc = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_loadu_ps(p->d), dx), _mm256_cvtepi32_ps(sum), acc);
    if (f->minimum) acc = _mm256_fmadd_ps(m, _mm256_broadcast_ss(&x->s), acc);
    if (f->two_mins)
        acc = _mm256_fmadd_ps(_mm256_mul_ps(m, dx), _mm256_cvtepi32_ps(_mm256_madd_epi16(load(two->min), sums_of(x))),
                              acc);
    return acc;
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
    struct panels *panels;
};

/* ni rows of x from i on by nj groups from group g on.  ni, nj, f are constants where inlined. */
FM_INLINE void tile(const struct q8_format *f, int ni, int nj, const struct job *job, int i0, int g0)
{
    __m256 acc[TILE_M][TILE_G];
    struct at at = {.x16 = job->panels->x[0][0]};
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        at.x[i] = job->x + (i0 + i) * job->x_row;
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            int col = (g0 + j) * LANES;
            acc[i][j] = job->first ? _mm256_setzero_ps()
                                   : fm_load_n(job->y + (i0 + i) * job->ldy + col, (size_t)(job->n_rows - col));
        }
    }
    FM_UNROLL
    for (int j = 0; j < nj; j++) {
        at.p[j] = job->panels->p[g0 + j];
        at.two[j] = job->panels->two[g0 + j];
        at.wide[j] = job->panels->wide[g0 + j];
    }
    for (int b = 0; b < job->n_blocks; b++) {
        tile_sums sum;
        KEEP_IN_MEMORY(acc); /* the sixteen registers are for the integers */
        multiply(sum, f, &at, ni, nj);
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            FM_UNROLL
            for (int j = 0; j < nj; j++) acc[i][j] = chain(acc[i][j], sum[i][j], f, at.x[i], at.p[j], at.two[j]);
            at.x[i]++;
        }
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            at.p[j]++;
            at.two[j]++;
            at.wide[j]++;
        }
        at.x16 += BLOCK;
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int j = 0; j < nj; j++) {
            int col = (g0 + j) * LANES;
            fm_store_n(job->y + (i0 + i) * job->ldy + col, acc[i][j], (size_t)(job->n_rows - col));
        }
    }
}

Q8_KIND(signed_bytes, .bits = 8)
Q8_KIND(four_offset, .bits = 4, .offset = 8)
Q8_KIND(four_minimum, .bits = 4, .minimum = true)
Q8_KIND(five_offset, .bits = 5, .offset = 16)
Q8_KIND(five_minimum, .bits = 5, .minimum = true)
Q8_KIND(two_twice, .bits = 2, .two = true, .two_mins = true)
Q8_KIND(three_twice, .bits = 3, .two = true, .offset = 4)
Q8_KIND(six_twice, .bits = 6, .two = true, .offset = 32)

/* m <= TILE_M rows of x as int16, for a wide panel. */
static void widen_x(const struct job *job, int i0, int m)
{
    for (int i = 0; i < m; i++)
        for (int b = 0; b < job->n_blocks; b++) FM_UNROLL
    for (int h = 0; h < 2; h++) {
        const int8_t *q = job->x[(i0 + i) * job->x_row + b].q + 16 * h;
        store(job->panels->x[i][b] + 16 * h, _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)q)));
    }
}

static void run(const struct kind *k, const struct job *job, int m)
{
    int groups = (job->n_rows + LANES - 1) / LANES;
    for (int i = 0, rows; i < m; i += rows) {
        rows = i + TILE_M <= m ? TILE_M : 1;
        if (k->format->bits == 8) widen_x(job, i, rows);
        for (int g = 0; g < groups; g += TILE_G) k->tiles[rows == TILE_M][g + 1 < groups](job, i, g);
    }
}

/* ---- the loops around ---- */

typedef void (*pack_fn)(struct panels *to, int group, const unsigned char *w, size_t row_bytes, int n_rows,
                        int n_blocks);

#define PACK(fmt, ...)                                                                                         \
    static void pack_##fmt(struct panels *to, int group, const unsigned char *w, size_t row_bytes, int n_rows, \
                           int n_blocks)                                                                       \
    {                                                                                                          \
        static const struct q8_format f = Q8_ROW(__VA_ARGS__);                                                 \
        pack(to, group, &f, w, row_bytes, n_rows, n_blocks);                                                   \
    }
Q8_FORMATS(PACK)

static const struct {
    pack_fn pack;
    const struct kind *kind;
} formats[FM_FMT_COUNT] = {
    [FM_Q8_0] = {pack_Q8_0, &kind_signed_bytes},     [FM_Q4_0] = {pack_Q4_0, &kind_four_offset},
    [FM_Q4_1] = {pack_Q4_1, &kind_four_minimum},     [FM_Q5_0] = {pack_Q5_0, &kind_five_offset},
    [FM_Q5_1] = {pack_Q5_1, &kind_five_minimum},     [FM_Q2_K] = {pack_Q2_K, &kind_two_twice},
    [FM_Q3_K] = {pack_Q3_K, &kind_three_twice},      [FM_Q4_K] = {pack_Q4_K, &kind_four_minimum},
    [FM_Q5_K] = {pack_Q5_K, &kind_five_minimum},     [FM_Q6_K] = {pack_Q6_K, &kind_six_twice},
    [FM_IQ4_NL] = {pack_IQ4_NL, &kind_signed_bytes}, [FM_IQ4_XS] = {pack_IQ4_XS, &kind_signed_bytes},
    [FM_MXFP4] = {pack_MXFP4, &kind_five_offset},
};

void fm_avx2_gemm_panels(enum fm_fmt f, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                         size_t row_bytes, int n, int k, float *work)
{
    struct panels *panels = (struct panels *)(void *)work;
    const int nb = k / BLOCK;
    for (int n0 = 0; n0 < n; n0 += GROUPS * LANES)
        for (int b0 = 0; b0 < nb; b0 += BLOCKS) {
            int rows = fm_min_int(GROUPS * LANES, n - n0), blocks = fm_min_int(BLOCKS, nb - b0);
            const unsigned char *at =
                (const unsigned char *)w + (size_t)n0 * row_bytes + fm_format_bytes(f, (uint64_t)b0 * BLOCK);
            for (int g = 0; g * LANES < rows; g++)
                formats[f].pack(panels, g, at + (size_t)g * LANES * row_bytes, row_bytes,
                                fm_min_int(LANES, rows - g * LANES), blocks);
            struct job job = {xq + b0, nb, blocks, rows, y + n0, ldy, b0 == 0, panels};
            run(formats[f].kind, &job, m);
        }
}
