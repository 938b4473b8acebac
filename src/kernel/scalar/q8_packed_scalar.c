/* Packed weights: R rows side by side, R and nothing else depending on the tier.
 *
 *   a group of R rows:   R rows' first blocks, R rows' second blocks …            (a block: as in the file, 32 or 256 weights)
 *   blocks of R rows:    heads (factors, scales), a field at a time, each for R rows; then runs of 32 codes
 *   a run of R rows:     cells of four bytes, R rows' first cells, R rows' second cells …
 *
 *   Codes of b bits are cut into planes of 4 (or 2, 8) low and 1 or 2 high bits.  A plane of p bits has p cells per row: byte c
 *   of cell i holds columns 4(i + p·s) + c at bit p·s, s = 0, 1 … 8/p − 1:
 *
 *   p = 4     cell 0: columns 0 … 3 low, 16 … 19 high nibbles     cell 1: 4 … 7 and 20 … 23     …
 *   p = 1     one cell: bit s of byte c is column 4s + c
 *
 * So a vector of R cells, shifted and masked, is R rows by four columns in order: what dpbusd and maddubs take.  All of it moves
 * bits and changes none: a packed matrix has the file's size. */
#include "kernel/scalar/q8_packed.h"

#include <string.h>

#include "kernel/q8_formats.h"
#include "kernel/scalar/scalar.h"

enum { SCALAR_ROWS = 4, RUN = 32, CELL = 4, LARGEST = 256 };

/* Where a plane's bits lie in the file's block: run r, column j. */
enum order {
    BYTES,   /* byte j                                                  */
    HALVES,  /* byte 16r + j%16: low nibble for j < 16, else high       */
    PAIRS,   /* byte 32(r/2) + j: low nibble of even runs, high of odd  */
    QUARTET, /* byte 64(r/4) + 32(r%2) + j: low nibble of runs 0, 1     */
    TWOS,    /* byte 32(r/4) + j, bits 2(r%4) …                         */
    ONES,    /* byte j, bit r                                           */
    WORD     /* byte j/8, bit j%8                                       */
};

struct plane {
    int bits, at;
    enum order order;
};

/* A field of the head: bytes from `at` on, unit bytes of each row at a time. */
struct field {
    int at, bytes, unit;
};

struct layout {
    struct field head[4];
    struct plane plane[2];
};

static const struct layout layouts[FM_FMT_COUNT] = {
    [FM_Q8_0] = {{{0, 2, 2}}, {{8, 2, BYTES}}},
    [FM_Q4_0] = {{{0, 2, 2}}, {{4, 2, HALVES}}},
    [FM_Q4_1] = {{{0, 4, 2}}, {{4, 4, HALVES}}},
    [FM_Q5_0] = {{{0, 2, 2}}, {{4, 6, HALVES}, {1, 2, WORD}}},
    [FM_Q5_1] = {{{0, 4, 2}}, {{4, 8, HALVES}, {1, 4, WORD}}},
    [FM_Q2_K] = {{{80, 4, 2}, {0, 16, 1}}, {{2, 16, TWOS}}},
    [FM_Q3_K] = {{{108, 2, 2}, {96, 12, 1}}, {{2, 32, TWOS}, {1, 0, ONES}}},
    [FM_Q4_K] = {{{0, 4, 2}, {4, 12, 1}}, {{4, 16, PAIRS}}},
    [FM_Q5_K] = {{{0, 4, 2}, {4, 12, 1}}, {{4, 48, PAIRS}, {1, 16, ONES}}},
    [FM_Q6_K] = {{{208, 2, 2}, {192, 16, 1}}, {{4, 0, QUARTET}, {2, 128, TWOS}}},
    [FM_IQ4_NL] = {{{0, 2, 2}}, {{4, 2, HALVES}}},
    [FM_IQ4_XS] = {{{0, 4, 2}, {4, 4, 4}}, {{4, 8, HALVES}}},
    [FM_MXFP4] = {{{0, 1, 1}}, {{4, 1, HALVES}}},
};

struct bit_place {
    int byte, shift;
};

static struct bit_place in_file(const struct plane *p, int r, int j)
{
    switch (p->order) {
    case BYTES: return (struct bit_place){p->at + j, 0};
    case HALVES: return (struct bit_place){p->at + 16 * r + j % 16, j / 16 * 4};
    case PAIRS: return (struct bit_place){p->at + 32 * (r / 2) + j, r % 2 * 4};
    case QUARTET: return (struct bit_place){p->at + 64 * (r / 4) + 32 * (r % 2) + j, r / 2 % 2 * 4};
    case TWOS: return (struct bit_place){p->at + 32 * (r / 4) + j, r % 4 * 2};
    case ONES: return (struct bit_place){p->at + j, r};
    case WORD: break;
    }
    return (struct bit_place){p->at + j / 8, j % 8};
}

/* From the first cell of the plane, of R rows. */
static struct bit_place in_cells(const struct plane *p, int rows, int row, int j)
{
    int group = j / CELL;
    return (struct bit_place){(group % p->bits * rows + row) * CELL + j % CELL, group / p->bits * p->bits};
}

/* One row's block moves between the file's layout and R packed blocks: to the packed ones, or back.  What it moves to is zero
 * in this row's places. */
static void move_codes(const struct layout *l, int rows, int row, int run, unsigned char *cells, unsigned char *file,
                       bool back)
{
    for (int i = 0; i < 2 && l->plane[i].bits; i++) {
        const struct plane *p = &l->plane[i];
        const int mask = (1 << p->bits) - 1;
        for (int j = 0; j < RUN; j++) {
            struct bit_place a = in_file(p, run, j), b = in_cells(p, rows, row, j);
            if (back)
                file[a.byte] |= (unsigned char)((cells[b.byte] >> b.shift & mask) << a.shift);
            else
                cells[b.byte] |= (unsigned char)((file[a.byte] >> a.shift & mask) << b.shift);
        }
        cells += p->bits * CELL * rows;
    }
}

static int head_bytes(const struct layout *l)
{
    int n = 0;
    for (int i = 0; i < 4; i++) n += l->head[i].bytes;
    return n;
}

static void unpack_head(const struct layout *l, int rows, int row, unsigned char *file, const unsigned char *packed)
{
    for (const struct field *h = l->head; h < l->head + 4 && h->bytes; h++)
        for (int at = 0; at < h->bytes; at += h->unit, packed += rows * h->unit)
            memcpy(file + h->at + at, packed + row * h->unit, (size_t)h->unit);
}

/* Block of row `row` out of the R blocks at packed. */
static void unpack_block(enum fm_fmt f, int rows, unsigned char *file, const unsigned char *packed, int row)
{
    const struct layout *l = &layouts[f];
    const int runs = (int)fm_formats[f].block / RUN, head = head_bytes(l);
    const int run_bytes = ((int)fm_formats[f].block_bytes - head) / runs;
    unsigned char *p = (unsigned char *)(uintptr_t)packed; /* read only: the move goes back */
    memset(file, 0, fm_formats[f].block_bytes);
    unpack_head(l, rows, row, file, packed);
    for (int r = 0; r < runs; r++) move_codes(l, rows, row, r, p + (head + r * run_bytes) * rows, file, true);
}

void fm_q8_unpack_row(enum fm_fmt f, int rows, void *dst, const void *packed, int row, int k)
{
    const size_t bytes = fm_formats[f].block_bytes;
    for (size_t b = 0; b < (size_t)k / fm_formats[f].block; b++)
        unpack_block(f, rows, (unsigned char *)dst + b * bytes,
                     (const unsigned char *)packed + b * bytes * (size_t)rows, row);
}

/* unit bytes of each row side by side; a constant after inlining. */
static inline void move_unit(unsigned char *dst, const unsigned char *src, size_t row_bytes, int rows, size_t unit)
{
    for (int i = 0; i < rows; i++) memcpy(dst + (size_t)i * unit, src + (size_t)i * row_bytes, unit);
}

void fm_q8_pack_heads(enum fm_fmt f, int rows, unsigned char *dst, const unsigned char *src, size_t row_bytes)
{
    for (const struct field *h = layouts[f].head; h < layouts[f].head + 4 && h->bytes; h++)
        for (int at = 0; at < h->bytes; at += h->unit, dst += rows * h->unit)
            if (h->unit == 1)
                move_unit(dst, src + h->at + at, row_bytes, rows, 1);
            else if (h->unit == 2)
                move_unit(dst, src + h->at + at, row_bytes, rows, 2);
            else
                move_unit(dst, src + h->at + at, row_bytes, rows, 4);
}

static void pack_blocks(enum fm_fmt f, int rows, unsigned char *dst, const unsigned char *src, size_t row_bytes)
{
    const struct layout *l = &layouts[f];
    const int runs = (int)fm_formats[f].block / RUN, head = head_bytes(l);
    const int run_bytes = ((int)fm_formats[f].block_bytes - head) / runs;
    memset(dst, 0, fm_formats[f].block_bytes * (size_t)rows);
    fm_q8_pack_heads(f, rows, dst, src, row_bytes);
    for (int i = 0; i < rows; i++)
        for (int r = 0; r < runs; r++)
            move_codes(l, rows, i, r, dst + (head + r * run_bytes) * rows,
                       (unsigned char *)(uintptr_t)src + (size_t)i * row_bytes, false);
}

void fm_q8_pack(enum fm_fmt f, int rows, void *dst, const void *src, size_t row_bytes, int n, int k)
{
    const size_t bytes = fm_formats[f].block_bytes;
    for (int i = 0; i < n; i += rows) {
        unsigned char *to = (unsigned char *)dst + (size_t)i * row_bytes;
        const unsigned char *from = (const unsigned char *)src + (size_t)i * row_bytes;
        for (size_t b = 0; b < (size_t)k / fm_formats[f].block; b++)
            pack_blocks(f, rows, to + b * bytes * (size_t)rows, from + b * bytes, row_bytes);
    }
}

/* ---- products ---- */

static float row_dot(enum fm_fmt f, int rows, int row, const struct fm_q8x *xq, const unsigned char *group, int k)
{
    unsigned char block[LARGEST];
    const int each = (int)fm_formats[f].block / RUN;
    float acc = 0;
    for (int b = 0; b < k / RUN; b += each, group += (size_t)rows * fm_formats[f].block_bytes) {
        unpack_block(f, rows, block, group, row);
        acc = fm_scalar_q8_chain(acc, xq + b, block, f, each);
    }
    return acc;
}

void fm_q8_gemm_packed(enum fm_fmt f, int rows, float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w,
                       size_t row_bytes, int n, int k)
{
    for (int i = 0; i < m; i++, xq += k / RUN)
        for (int j = 0; j < n; j++)
            y[i * ldy + j] =
                row_dot(f, rows, j % rows, xq, (const unsigned char *)w + (size_t)(j - j % rows) * row_bytes, k);
}

#define PACKED(fmt)                                                                                                  \
    FM_Q8_UNPACK_ROW(fmt, SCALAR_ROWS)                                                                               \
    static void pack_##fmt(void *dst, const void *src, size_t row_bytes, int n, int k)                               \
    {                                                                                                                \
        fm_q8_pack(FM_##fmt, SCALAR_ROWS, dst, src, row_bytes, n, k);                                                \
    }                                                                                                                \
    static void gemm_##fmt(float *y, ptrdiff_t ldy, const struct fm_q8x *xq, int m, const void *w, size_t row_bytes, \
                           int n, int k, float *work)                                                                \
    {                                                                                                                \
        (void)work;                                                                                                  \
        fm_q8_gemm_packed(FM_##fmt, SCALAR_ROWS, y, ldy, xq, m, w, row_bytes, n, k);                                 \
    }
FM_Q8_FORMATS(PACKED)

#define SLOTS(fmt)                          \
    k->pack[FM_##fmt] = pack_##fmt;         \
    k->unpack_row[FM_##fmt] = unpack_##fmt; \
    k->gemm_packed[FM_##fmt] = gemm_##fmt;

void fm_scalar_fill_packed(struct fm_kernels *k)
{
    k->pack_rows = SCALAR_ROWS;
    FM_Q8_FORMATS(SLOTS)
}
