/* Products of F16 and BF16 in integers of 14 bits (scalar/q14_scalar.c), in vectors of LANES rows of W.  Included by q14_avx2.c and
 * q14_avx512.c, which define LANES, TILE_M, the types fm_ints (LANES double words, each also a pair of int16) and fm_floats, and the
 * operations i_… and f_… on them.
 *
 *     row 0   w0 w1 │ w2 w3 │ … w31     (a cache line)         cell 0   w0 w1 of rows 0 1 2 …
 *       …                                                →     cell 1   w2 w3 of rows 0 1 2 …     × the same pair of x in all lanes
 *
 * Up to TILE_M rows of x by two groups of LANES rows; along k in pieces, whose W (of rows as in the file: just packed) stays in
 * the L1 cache while all rows of x pass.  Between pieces the chains wait in y. */
enum {
    BLOCK = 32,
    CELLS = BLOCK / 2,
    PIECE = 64,    /* blocks at a time */
    BLOCK_M = 192, /* rows of x that pass by a W, which comes from the memory */
    LEAST = 13,
    SPECIAL = 255,
};

_Static_assert(PIECE * 2 * LANES * BLOCK * 2 <= FM_GEMM_WORK * 4, "two groups packed");

/* ---- packing ---- */

/* A cell of words, both columns of LANES rows, times inv, the rows' powers of two, as integers.  F16: half of the rows at a time are
 * widened and brought together again, which turns rows in i_order's order into rows in their own. */
FM_INLINE fm_ints integers(bool f16, fm_ints t, fm_floats inv)
{
    if (f16)
        return i_packed(i_rounded(f_mul(f_low_halves(t), f_low_twice(inv))),
                        i_rounded(f_mul(f_high_halves(t), f_high_twice(inv))));
    const fm_floats even = f_of_bits(i_shl32(t, 16)), odd = f_of_bits(i_and(t, i_set((int)0xFFFF0000)));
    return i_pairs(i_rounded(f_mul(even, inv)), i_shl32(i_rounded(f_mul(odd, inv)), 16));
}

/* The byte of each row. */
FM_INLINE fm_ints exponents(bool f16, const fm_ints t[CELLS])
{
    const fm_ints low = i_set(0x7FFF7FFF);
    fm_ints max = i_and(t[0], low);
    FM_UNROLL
    for (int c = 1; c < CELLS; c++) max = i_max_u16(max, i_and(t[c], low));
    max = i_and(i_max_u16(max, i_shr32(max, 16)), i_set(0xFFFF));
    if (!f16) return i_max32(i_shr32(max, 7), i_set(LEAST));
    const fm_ints e = i_shr32(max, 10), special = i_shr32(i_add32(e, i_set(1)), 5); /* 1 or 0 */
    return i_or(i_add32(i_max32(e, i_set(1)), i_set(112)), i_sub32(i_shl32(special, 8), special));
}

/* 32 columns of LANES rows from byte `at` of each on. */
FM_INLINE void pack_block(bool f16, unsigned char *dst, const unsigned char *const row[LANES], size_t at)
{
    fm_ints t[CELLS];
    i_load_turned(t, row, at);
    fm_ints e = exponents(f16, t);
    const fm_ints special = i_shr32(i_add32(e, i_set(1)), 8);
    if (i_any(special)) {
        FM_UNROLL
        for (int c = 0; c < CELLS; c++) t[c] = i_and(t[c], i_sub32(special, i_set(1)));
    }
    const fm_floats inv = f_of_bits(i_shl32(i_sub32(i_set(139 + 127), e), 23)); /* 2^(139 − e) */
    FM_UNROLL
    for (int c = 0; c < CELLS; c++) t[c] = integers(f16, t[c], inv);
    if (f16) e = i_ordered(e);
    t[0] = i_or(i_shl16(t[0], 2), i_or(i_and(e, i_set(3)), i_shl32(i_and(e, i_set(12)), 14)));
    t[1] = i_or(i_shl16(t[1], 2), i_or(i_and(i_shr32(e, 4), i_set(3)), i_shl32(i_and(e, i_set(0xC0)), 10)));
    FM_UNROLL
    for (int c = 0; c < CELLS; c++) i_store(dst + c * 4 * LANES, t[c]);
}

/* nb blocks of LANES rows of which the first n are there; the last stands for the others. */
FM_INLINE void pack_group(bool f16, unsigned char *dst, const unsigned char *src, size_t row_bytes, int n, int nb)
{
    const unsigned char *row[LANES];
    for (int i = 0; i < LANES; i++) row[f16 ? i_order[i] : i] = src + (size_t)fm_min_int(i, n - 1) * row_bytes;
    for (int b = 0; b < nb; b++) pack_block(f16, dst + (size_t)b * LANES * BLOCK * 2, row, (size_t)b * BLOCK * 2);
}

typedef void (*pack_fn)(unsigned char *dst, const unsigned char *src, size_t row_bytes, int n, int nb);

static void pack_group_F16(unsigned char *dst, const unsigned char *src, size_t row_bytes, int n, int nb)
{
    pack_group(true, dst, src, row_bytes, n, nb);
}

static void pack_group_BF16(unsigned char *dst, const unsigned char *src, size_t row_bytes, int n, int nb)
{
    pack_group(false, dst, src, row_bytes, n, nb);
}

static void pack(pack_fn group, unsigned char *dst, const unsigned char *src, size_t row_bytes, int n, int k)
{
    for (int j = 0; j < n; j += LANES, dst += LANES * row_bytes, src += LANES * row_bytes)
        group(dst, src, row_bytes, LANES, k / BLOCK);
}

/* ---- products ---- */

FM_INLINE fm_ints cell(const unsigned char *p, int c) { return i_load(p + c * 4 * LANES); }

/* The bytes that the first two cells of a block hide. */
FM_INLINE fm_ints hidden(const unsigned char *p)
{
    const fm_ints a = cell(p, 0), b = cell(p, 1);
    const fm_ints low = i_or(i_and(a, i_set(3)), i_and(i_shr32(a, 14), i_set(12)));
    const fm_ints high = i_or(i_shl32(i_and(b, i_set(3)), 4), i_and(i_shr32(b, 10), i_set(0xC0)));
    return i_or(low, high);
}

/* Factors of W and x whose product, a power of two times a float, is a sum of their exponents: neither too large nor too small. */
enum { W_LEAST = 79, W_MOST = 199, X_LEAST = 64, X_MOST = 190 };

_Static_assert(X_LEAST + W_LEAST - 139 > 0 && X_MOST + W_MOST - 139 < 255, "the product is an ordinary number");

FM_INLINE bool plain_w(fm_ints e)
{
    return !i_any(i_shr32(i_or(i_sub32(e, i_set(W_LEAST)), i_sub32(i_set(W_MOST), e)), 31));
}

static bool plain_x(const struct fm_q14x *x, ptrdiff_t n)
{
    bool plain = true;
    for (ptrdiff_t b = 0; b < n; b++) plain &= x[b].d >= 0x1p-63f && x[b].d <= 0x1p63f;
    return plain;
}

FM_INLINE fm_ints pair(const int16_t *p)
{
    int v;
    memcpy(&v, p, sizeof v);
    return i_set(v);
}

/* What a tile is told: y and x at its first row, x_nb blocks of x in a row, nb blocks at each w; lanes of the last group; whether
 * the chains go on from y; whether x is plain. */
struct part {
    float *y;
    ptrdiff_t ldy;
    const struct fm_q14x *x;
    int x_nb, nb, lanes;
    const unsigned char *w[2];
    bool more, plain;
};

/* The sums of block b go into the chains. */
FM_INLINE void add_block(int ni, int groups, bool plain, const struct part *p, int b, fm_floats acc[TILE_M][2],
                         fm_ints sum[TILE_M][2], const fm_ints e[2])
{
    fm_ints shift[2];
    fm_floats d[2];
    FM_UNROLL
    for (int g = 0; g < groups; g++) {
        shift[g] = i_shl32(i_sub32(e[g], i_set(139)), 23);
        d[g] = f_mul(f_of_bits(i_shl32(e[g], 23)), f_set(0x1p-12f)); /* 255: infinite */
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        const fm_floats dx = f_set(p->x[(ptrdiff_t)i * p->x_nb + b].d);
        FM_UNROLL
        for (int g = 0; g < groups; g++) {
            const fm_floats f = plain ? f_of_bits(i_add32(i_of_bits(dx), shift[g])) : f_mul(d[g], dx);
            acc[i][g] = f_fma(f, f_of_ints(sum[i][g]), acc[i][g]);
        }
    }
}

/* ni, groups are constants where inlined. */
FM_INLINE void tile(int ni, int groups, const struct part *p)
{
    fm_floats acc[TILE_M][2];
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int g = 0; g < groups; g++) {
            const int lanes = g == groups - 1 ? p->lanes : LANES;
            acc[i][g] = p->more ? f_load_n(p->y + i * p->ldy + g * LANES, lanes) : f_set(0);
        }
    }
    for (int b = 0; b < p->nb; b++) {
        const struct fm_q14x *x = p->x + b;
        const size_t at = (size_t)b * BLOCK * 2 * LANES;
        fm_ints sum[TILE_M][2];
        fm_ints e[2];
        bool plain = p->plain;
        FM_UNROLL
        for (int g = 0; g < groups; g++) plain &= plain_w(e[g] = hidden(p->w[g] + at));
        FM_UNROLL
        for (int c = 0; c < CELLS; c++) {
            fm_ints w[2];
            FM_UNROLL
            for (int g = 0; g < groups; g++) w[g] = c < 2 ? i_sar16(cell(p->w[g] + at, c), 2) : cell(p->w[g] + at, c);
            FM_UNROLL
            for (int i = 0; i < ni; i++) {
                const fm_ints q = pair(x[(ptrdiff_t)i * p->x_nb].q + 2 * c);
                FM_UNROLL
                for (int g = 0; g < groups; g++) sum[i][g] = c ? i_dot(sum[i][g], w[g], q) : i_dot(i_set(0), w[g], q);
            }
        }
        if (plain)
            add_block(ni, groups, true, p, b, acc, sum, e);
        else
            add_block(ni, groups, false, p, b, acc, sum, e);
    }
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int g = 0; g < groups; g++)
            f_store_n(p->y + i * p->ldy + g * LANES, acc[i][g], g == groups - 1 ? p->lanes : LANES);
    }
}

typedef void (*tile_fn)(const struct part *p);

#define TILE(ni)                                                        \
    static void tile_##ni##_1(const struct part *p) { tile(ni, 1, p); } \
    static void tile_##ni##_2(const struct part *p) { tile(ni, 2, p); }
#define TILES(ni)                    \
    {                                \
        tile_##ni##_1, tile_##ni##_2 \
    }
TILES_DEFINED

/* Rows m0 … m1 − 1 of x by rows j … of W, `rows` of them, at most two groups; group NULL: w is packed. */
static void panel(pack_fn group, float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m0, int m1,
                  const unsigned char *w, size_t row_bytes, int rows, int nb, bool plain, unsigned char *work)
{
    const int groups = rows > LANES ? 2 : 1, piece = group || m1 - m0 > TILE_M ? PIECE : nb;
    for (int b = 0; b == 0 || b < nb; b += piece) {
        struct part p = {.ldy = ldy,
                         .x_nb = nb,
                         .nb = fm_min_int(piece, nb - b),
                         .lanes = rows - (groups - 1) * LANES,
                         .more = b > 0,
                         .plain = plain};
        for (int g = 0; g < groups; g++) {
            const size_t from = (size_t)g * LANES * row_bytes;
            if (group) {
                unsigned char *to = work + (size_t)g * PIECE * BLOCK * 2 * LANES;
                group(to, w + from + (size_t)b * BLOCK * 2, row_bytes, rows - g * LANES, p.nb);
                p.w[g] = to;
            } else {
                p.w[g] = w + from + (size_t)b * BLOCK * 2 * LANES;
            }
        }
        for (int i = m0, ni; i < m1; i += ni) {
            ni = fm_min_int(TILE_M, m1 - i);
            p.y = y + i * ldy;
            p.x = xq + (ptrdiff_t)i * nb + b;
            tiles[ni][groups - 1](&p);
        }
    }
}

static void gemm(pack_fn group, float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const unsigned char *w,
                 size_t row_bytes, int n, int k, float *work)
{
    const bool plain = plain_x(xq, (ptrdiff_t)m * (k / BLOCK));
    for (int m0 = 0; m0 < m; m0 += BLOCK_M)
        for (int j = 0; j < n; j += 2 * LANES)
            panel(group, y + j, ldy, xq, m0, fm_min_int(m0 + BLOCK_M, m), w + (size_t)j * row_bytes, row_bytes,
                  fm_min_int(2 * LANES, n - j), k / BLOCK, plain, (unsigned char *)work);
}

#define Q14_GEMM(fmt)                                                                                                 \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                 \
    {                                                                                                                 \
        gemm(pack_group_##fmt, y, ldy, xq, m, w, row_bytes, n, k, work);                                              \
    }                                                                                                                 \
    static void pack_##fmt(void *dst, const void *src, size_t row_bytes, int n, int k)                                \
    {                                                                                                                 \
        pack(pack_group_##fmt, dst, src, row_bytes, n, k);                                                            \
    }
Q14_GEMM(F16)
Q14_GEMM(BF16)

static void gemm_packed(float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const void *w, size_t row_bytes,
                        int n, int k, float *work)
{
    gemm(NULL, y, ldy, xq, m, w, row_bytes, n, k, work);
}

static void fill(struct fm_kernels *k)
{
    k->gemm_q14[FM_F16] = gemm_F16;
    k->gemm_q14[FM_BF16] = gemm_BF16;
    k->pack[FM_F16] = pack_F16;
    k->pack[FM_BF16] = pack_BF16;
    k->gemm_packed_q14 = gemm_packed;
}
