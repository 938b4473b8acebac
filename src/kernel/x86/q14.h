/* Products of F16 and BF16 in integers of 14 bits (scalar/q14_scalar.c), in vectors of LANES rows of W.  Included by q14_avx2.c and
 * q14_avx512.c, which define LANES, TILE_M, the types fm_ints (LANES double words, each also a pair of int16) and fm_floats, and the
 * operations i_… and f_… on them.
 *
 *     row 0   w0 w1 │ w2 w3 │ … w31     (a cache line)         cell 0   w0 w1 of rows 0 1 2 …
 *       …                                                →     cell 1   w2 w3 of rows 0 1 2 …     × the same pair of x in all lanes
 *
 * Up to TILE_M rows of x by two groups of LANES rows; along k in pieces, whose W (of rows as in the file: just packed) stays in
 * the second cache while all rows of x pass, and whose x while all rows of W do.  Between pieces the chains wait in y. */
enum {
    BLOCK = 32,
    CELLS = BLOCK / 2,
    PIECE = 64,    /* blocks at a time */
    BLOCK_M = 258, /* rows of x that pass by a W, which comes from the memory: whole tiles */
    LEAST = 13,
    SPECIAL = 255,
};

_Static_assert(PIECE * 2 * LANES * (BLOCK * 2 + 4) <= FM_GEMM_WORK * 4, "two groups packed and opened");

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

FM_INLINE bool plain_x(float d) { return d >= 0x1p-63f && d <= 0x1p63f; }

FM_INLINE fm_ints pair(const int16_t *p)
{
    int v;
    memcpy(&v, p, sizeof v);
    return i_set(v);
}

/* What a tile is told: y and x at its first row, x_nb blocks of x in a row, nb blocks at each w; lanes of the last group; whether
 * the chains go on from y; where the groups are opened, their blocks' shifts. */
struct part {
    float *y;
    ptrdiff_t ldy;
    const struct fm_q14x *x;
    int x_nb, nb, lanes;
    const unsigned char *w[2], *shift[2];
    bool more;
};

FM_INLINE void load_chains(int ni, int groups, const struct part *p, fm_floats acc[TILE_M][2])
{
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int g = 0; g < groups; g++) {
            const int lanes = g == groups - 1 ? p->lanes : LANES;
            acc[i][g] = p->more ? f_load_n(p->y + i * p->ldy + g * LANES, lanes) : f_set(0);
        }
    }
}

FM_INLINE void store_chains(int ni, int groups, const struct part *p, const fm_floats acc[TILE_M][2])
{
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        FM_UNROLL
        for (int g = 0; g < groups; g++)
            f_store_n(p->y + i * p->ldy + g * LANES, acc[i][g], g == groups - 1 ? p->lanes : LANES);
    }
}

/* The integer sums of block b. */
FM_INLINE void multiply_block(int ni, int groups, const struct part *p, int b, fm_ints sum[TILE_M][2])
{
    const size_t at = (size_t)b * BLOCK * 2 * LANES;
    FM_UNROLL
    for (int c = 0; c < CELLS; c++) {
        fm_ints w[2];
        FM_UNROLL
        for (int g = 0; g < groups; g++) w[g] = c < 2 ? i_sar16(cell(p->w[g] + at, c), 2) : cell(p->w[g] + at, c);
        FM_UNROLL
        for (int i = 0; i < ni; i++) {
            const fm_ints q = pair(p->x[(ptrdiff_t)i * p->x_nb + b].q + 2 * c);
            FM_UNROLL
            for (int g = 0; g < groups; g++) sum[i][g] = c ? i_dot(sum[i][g], w[g], q) : i_dot(i_set(0), w[g], q);
        }
    }
}

/* What is added to the exponent of a plain x. */
FM_INLINE fm_ints shift_of(fm_ints e) { return i_shl32(i_sub32(e, i_set(139)), 23); }

/* The sums of a block of plain factors go into the chains. */
FM_INLINE void add_plain(int ni, int groups, const struct part *p, int b, fm_floats acc[TILE_M][2],
                         fm_ints sum[TILE_M][2], const fm_ints shift[2])
{
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        const fm_ints dx = i_of_bits(f_set(p->x[(ptrdiff_t)i * p->x_nb + b].d));
        FM_UNROLL
        for (int g = 0; g < groups; g++)
            acc[i][g] = f_fma(f_of_bits(i_add32(dx, shift[g])), f_of_ints(sum[i][g]), acc[i][g]);
    }
}

/* … of any. */
FM_INLINE void add_any(int ni, int groups, const struct part *p, int b, fm_floats acc[TILE_M][2],
                       fm_ints sum[TILE_M][2], const fm_ints e[2])
{
    fm_floats d[2];
    FM_UNROLL
    for (int g = 0; g < groups; g++) d[g] = f_mul(f_of_bits(i_shl32(e[g], 23)), f_set(0x1p-12f)); /* 255: infinite */
    FM_UNROLL
    for (int i = 0; i < ni; i++) {
        const fm_floats dx = f_set(p->x[(ptrdiff_t)i * p->x_nb + b].d);
        FM_UNROLL
        for (int g = 0; g < groups; g++) acc[i][g] = f_fma(f_mul(d[g], dx), f_of_ints(sum[i][g]), acc[i][g]);
    }
}

/* ni, groups are constants where inlined. */
FM_INLINE void tile(int ni, int groups, const struct part *p)
{
    fm_floats acc[TILE_M][2];
    load_chains(ni, groups, p, acc);
    for (int b = 0; b < p->nb; b++) {
        fm_ints sum[TILE_M][2], e[2];
        bool plain = true;
        FM_UNROLL
        for (int g = 0; g < groups; g++) plain &= plain_w(e[g] = hidden(p->w[g] + (size_t)b * BLOCK * 2 * LANES));
        FM_UNROLL
        for (int i = 0; i < ni; i++) plain &= plain_x(p->x[(ptrdiff_t)i * p->x_nb + b].d);
        multiply_block(ni, groups, p, b, sum);
        if (plain)
            add_plain(ni, groups, p, b, acc, sum, (const fm_ints[2]){shift_of(e[0]), shift_of(e[groups - 1])});
        else
            add_any(ni, groups, p, b, acc, sum, e);
    }
    store_chains(ni, groups, p, acc);
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

/* ---- many rows of x: what W hides is read once for all ---- */

/* The shifts of nb blocks of a group; false: not all are plain. */
static bool open_group(unsigned char *shift, const unsigned char *w, int nb)
{
    bool plain = true;
    for (int b = 0; b < nb; b++, w += BLOCK * 2 * LANES, shift += 4 * LANES) {
        const fm_ints e = hidden(w);
        plain &= plain_w(e);
        i_store(shift, shift_of(e));
    }
    return plain;
}

/* TILE_M rows by two opened groups; false, and nothing was done, where an x is not plain. */
static bool tile_opened(const struct part *p)
{
    fm_floats acc[TILE_M][2];
    bool plain = true;
    load_chains(TILE_M, 2, p, acc);
    for (int b = 0; b < p->nb; b++) {
        fm_ints sum[TILE_M][2];
        multiply_block(TILE_M, 2, p, b, sum);
        const size_t at = (size_t)b * 4 * LANES;
        add_plain(TILE_M, 2, p, b, acc, sum, (const fm_ints[2]){i_load(p->shift[0] + at), i_load(p->shift[1] + at)});
        FM_UNROLL
        for (int i = 0; i < TILE_M; i++) plain &= plain_x(p->x[(ptrdiff_t)i * p->x_nb + b].d);
    }
    if (plain) store_chains(TILE_M, 2, p, acc);
    return plain;
}

/* ---- panels ---- */

/* nb blocks of rows m0 … m1 − 1 of x by those of `rows` rows of W, at most two groups, from block b on. */
static void panel(pack_fn group, float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int x_nb, int m0, int m1,
                  const unsigned char *w, size_t row_bytes, int rows, int b, int nb, unsigned char *work)
{
    const int groups = rows > LANES ? 2 : 1;
    struct part p = {.ldy = ldy, .x_nb = x_nb, .nb = nb, .lanes = rows - (groups - 1) * LANES, .more = b > 0};
    bool opened = groups == 2 && m1 - m0 >= 2 * TILE_M;
    for (int g = 0; g < groups; g++) {
        const size_t from = (size_t)g * LANES * row_bytes;
        if (group) {
            unsigned char *to = work + (size_t)g * PIECE * BLOCK * 2 * LANES;
            group(to, w + from + (size_t)b * BLOCK * 2, row_bytes, rows - g * LANES, nb);
            p.w[g] = to;
        } else {
            p.w[g] = w + from + (size_t)b * BLOCK * 2 * LANES;
        }
        unsigned char *shift = work + (size_t)PIECE * LANES * (2 * BLOCK * 2 + 4 * g);
        p.shift[g] = shift;
        opened = opened && open_group(shift, p.w[g], nb);
    }
    for (int i = m0, ni; i < m1; i += ni) {
        ni = fm_min_int(TILE_M, m1 - i);
        p.y = y + i * ldy;
        p.x = xq + (ptrdiff_t)i * x_nb + b;
        if (!opened || ni < TILE_M || !tile_opened(&p)) tiles[ni][groups - 1](&p);
    }
}

static void gemm(pack_fn group, float *y, ptrdiff_t ldy, const struct fm_q14x *xq, int m, const unsigned char *w,
                 size_t row_bytes, int n, int k, float *work)
{
    const int nb = k / BLOCK, piece = group || m > TILE_M ? PIECE : nb;
    for (int m0 = 0; m0 < m; m0 += BLOCK_M)
        for (int b = 0; b == 0 || b < nb; b += piece)
            for (int j = 0; j < n; j += 2 * LANES)
                panel(group, y + j, ldy, xq, nb, m0, fm_min_int(m0 + BLOCK_M, m), w + (size_t)j * row_bytes, row_bytes,
                      fm_min_int(2 * LANES, n - j), b, fm_min_int(piece, nb - b), (unsigned char *)work);
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
