/* Rows of W into packed ones (scalar/q8_packed_scalar.c has the layout), at the speed of memory: eight rows' codes as bytes,
 * transposed in cells of four, then the planes put together.  For the tiers with 8 and 16 rows. */
#include "kernel/scalar/q8_packed.h"
#include "kernel/x86/q8_blocks_avx2.h"
#include "kernel/x86/x86.h"

enum { RUN = 32, CELL = 4 };

/* Bits of both planes; the codes of 32 columns as they are stored: the names of levels, not the levels. */
struct planes {
    int low, high;
    __m256i (*codes)(const unsigned char *p, int b);
};

FM_INLINE __m256i names_iq4_nl(const unsigned char *p, int b) { return (void)b, q8_nibbles(p + 2); }
FM_INLINE __m256i names_iq4_xs(const unsigned char *p, int b) { return q8_nibbles(p + 8 + 16 * b); }
FM_INLINE __m256i names_mxfp4(const unsigned char *p, int b) { return (void)b, q8_nibbles(p + 1); }

/* The bits of every byte from bit `from` on moved to bit `to`, `bits` of them, the rest zero. */
FM_INLINE __m256i moved(__m256i v, int from, int to, int bits)
{
    v = from > to ? _mm256_srli_epi16(v, from - to) : from < to ? _mm256_slli_epi16(v, to - from) : v;
    return _mm256_and_si256(v, _mm256_set1_epi8((char)(((1 << bits) - 1) << to)));
}

/* One plane: `bits` bits of each code from bit `from` on, of eight rows; t[g]: columns 4g … 4g + 3.  Cells are step apart. */
FM_INLINE void store_plane(unsigned char *dst, size_t step, const __m256 t[8], int from, int bits)
{
    FM_UNROLL
    for (int i = 0; i < bits; i++) {
        __m256i v = moved(_mm256_castps_si256(t[i]), from, 0, bits);
        FM_UNROLL
        for (int s = 1; s < 8 / bits; s++)
            v = _mm256_or_si256(v, moved(_mm256_castps_si256(t[i + bits * s]), from, bits * s, bits));
        _mm256_storeu_si256((void *)(dst + (size_t)i * step), v);
    }
}

/* Run b of eight rows, whose cells begin at dst. */
FM_INLINE void pack_run(const struct planes *f, unsigned char *dst, size_t step, const unsigned char *const row[8],
                        int b)
{
    __m256 r[8], t[8];
    FM_UNROLL
    for (int i = 0; i < 8; i++) r[i] = _mm256_castsi256_ps(f->codes(row[i], b));
    fm_transpose(t, r);
    store_plane(dst, step, t, 0, f->low);
    if (f->high) store_plane(dst + (size_t)f->low * step, step, t, f->low, f->high);
}

/* block, block_bytes: of the file's format. */
FM_INLINE void pack(enum fm_fmt fmt, const struct planes *f, int block, int block_bytes, int rows, unsigned char *dst,
                    const unsigned char *src, size_t row_bytes, int n, int k)
{
    const int run = CELL * (f->low + f->high), runs = block / RUN, head = block_bytes - runs * run;
    for (int j = 0; j < n; j += rows) {
        unsigned char *to = dst + (size_t)j * row_bytes;
        const unsigned char *from = src + (size_t)j * row_bytes;
        for (int b = 0; b < k / block; b++, from += block_bytes, to += block_bytes * rows) {
            fm_q8_pack_heads(fmt, rows, to, from, row_bytes);
            for (int h = 0; h < rows; h += 8) {
                const unsigned char *row[8];
                q8_eight(row, from + (size_t)h * row_bytes, row_bytes);
                FM_UNROLL
                for (int r = 0; r < runs; r++)
                    pack_run(f, to + (head + r * run) * rows + h * CELL, (size_t)rows * CELL, row, r);
            }
        }
    }
}

#define PLANES_Q8_0   8, 0, codes_q8_0
#define PLANES_Q4_0   4, 0, codes_q4_0
#define PLANES_Q4_1   4, 0, codes_q4_1
#define PLANES_Q5_0   4, 1, codes_q5_0
#define PLANES_Q5_1   4, 1, codes_q5_1
#define PLANES_Q2_K   2, 0, codes_q2_k
#define PLANES_Q3_K   2, 1, codes_q3_k
#define PLANES_Q4_K   4, 0, codes_q4_k
#define PLANES_Q5_K   4, 1, codes_q5_k
#define PLANES_Q6_K   4, 2, codes_q6_k
#define PLANES_IQ4_NL 4, 0, names_iq4_nl
#define PLANES_IQ4_XS 4, 0, names_iq4_xs
#define PLANES_MXFP4  4, 0, names_mxfp4

#define PACK(fmt, n_blocks, n_bytes, ...)                                                \
    static void pack_##fmt(void *dst, const void *src, size_t row_bytes, int n, int k)   \
    {                                                                                    \
        static const struct planes f = {PLANES_##fmt};                                   \
        pack(FM_##fmt, &f, n_blocks *RUN, n_bytes, 8, dst, src, row_bytes, n, k);        \
    }                                                                                    \
    static void pack16_##fmt(void *dst, const void *src, size_t row_bytes, int n, int k) \
    {                                                                                    \
        static const struct planes f = {PLANES_##fmt};                                   \
        pack(FM_##fmt, &f, n_blocks *RUN, n_bytes, 16, dst, src, row_bytes, n, k);       \
    }
Q8_FORMATS(PACK)

#define SLOT(fmt)   k->pack[FM_##fmt] = pack_##fmt;
#define SLOT16(fmt) k->pack[FM_##fmt] = pack16_##fmt;

void fm_avx2_fill_pack(struct fm_kernels *k)
{
    if (k->pack_rows == 8) {
        FM_Q8_FORMATS(SLOT)
    } else {
        FM_Q8_FORMATS(SLOT16)
    }
}
