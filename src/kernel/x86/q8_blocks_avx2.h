/* Blocks of 32 weights of eight rows at a time as bytes and scales, for the int8 products of q8_avx2.c and q8_panel_avx2.c.
 * The layouts are drawn in quant/; kernel/scalar/q8_blocks_scalar.c is the plain form. */
#ifndef FM_KERNEL_Q8_BLOCKS_AVX2_H
#define FM_KERNEL_Q8_BLOCKS_AVX2_H

#include "kernel/kernel.h"
#include "kernel/x86/lanes_avx2.h"

/* What the blocks of a file's block (or of one superblock of 256) share, lane = row.  Formats with one scale per 32 use d
 * and m; those with two scales of 16 use d[0], m[0], and in each lane the int16 pairs {first half, second half}. */
struct q8_heads {
    __m256 d[8], m[8];
    __m256i scale[8], min[8];
};

/* One row per format.  Where inlined with a constant row, all conditions vanish. */
struct q8_format {
    int blocks;    /* of 32 in a file's block            */
    int bytes;     /* of a file's block                  */
    int bits;      /* codes 0 … 2^bits − 1; 8: signed    */
    int offset;    /* a weight is its code − offset      */
    bool minimum;  /* plus m                             */
    bool two;      /* two scales                         */
    bool two_mins; /* two minima                         */
    void (*heads)(struct q8_heads *h, const unsigned char *const row[8]);
    __m256i (*codes)(const unsigned char *p, int b); /* of block b, in order */
    /* NULL or: lo, hi = the first and second sixteen codes of block b of the rows at p and q side by side */
    void (*joined)(__m256i *lo, __m256i *hi, const unsigned char *p, const unsigned char *q, int b);
};

FM_INLINE __m256i q8_load32(const unsigned char *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
FM_INLINE __m128i q8_load16(const unsigned char *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

/* Eight rows from p on, step bytes apart.  Hidden from the optimiser, which would advance eight pointers, in memory. */
FM_INLINE void q8_eight(const unsigned char *row[8], const unsigned char *p, size_t step)
{
    __asm__("" : "+r"(p));
    const unsigned char *q = p + 4 * step;
    const size_t three = 3 * step;
    row[0] = p;
    row[1] = p + step;
    row[2] = p + 2 * step;
    row[3] = p + three;
    row[4] = q;
    row[5] = q + step;
    row[6] = q + 2 * step;
    row[7] = q + three;
}

/* ---- heads ---- */

/* The f16 at byte p of each row. */
FM_INLINE __m256 q8_halves(const unsigned char *const row[8], int p)
{
    uint16_t h[8];
    FM_UNROLL
    for (int i = 0; i < 8; i++) memcpy(&h[i], row[i] + p, 2);
    return _mm256_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3], (short)h[4], (short)h[5],
                                          (short)h[6], (short)h[7]));
}

/* Sixteen bytes of two rows, side by side. */
FM_INLINE __m256i q8_join(const unsigned char *p, const unsigned char *q)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(q8_load16(p)), q8_load16(q), 1);
}

/* The f16 that each row begins with; sixteen bytes are read. */
FM_INLINE __m256 q8_first_halves(const unsigned char *const row[8])
{
    __m256i a = _mm256_unpacklo_epi16(q8_join(row[0], row[4]), q8_join(row[1], row[5]));
    __m256i b = _mm256_unpacklo_epi16(q8_join(row[2], row[6]), q8_join(row[3], row[7]));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_unpacklo_epi32(a, b), 0x08)));
}

/* t[j]: the 32-bit words j of sixteen bytes at p of each row. */
FM_INLINE void q8_words(__m256i t[4], const unsigned char *const row[8], int p)
{
    __m256i v[4];
    FM_UNROLL
    for (int i = 0; i < 4; i++) v[i] = q8_join(row[i] + p, row[i + 4] + p);
    __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]);
    __m256i c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    t[0] = _mm256_unpacklo_epi64(a, c);
    t[1] = _mm256_unpackhi_epi64(a, c);
    t[2] = _mm256_unpacklo_epi64(b, d);
    t[3] = _mm256_unpackhi_epi64(b, d);
}

/* Two f16 per lane as two vectors of floats. */
FM_INLINE void q8_two_halves(__m256 *lo, __m256 *hi, __m256i words)
{
    const __m256i order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    __m256i v = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(words, order), 0xD8);
    *lo = _mm256_cvtph_ps(_mm256_castsi256_si128(v));
    *hi = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
}

/* Byte b of each lane, as floats. */
FM_INLINE __m256 q8_byte(__m256i v, int b)
{
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(v, 8 * b), _mm256_set1_epi32(255)));
}

/* Signed bytes 0 and 1 (b = 0) or 2 and 3 (b = 1) of each lane, as int16. */
FM_INLINE __m256i q8_byte_pair(__m256i v, int b)
{
    const char z = -1, s = (char)(2 * b);
    const __m256i pick = _mm256_broadcastsi128_si256(_mm_setr_epi8(z, s, z, (char)(s + 1), z, (char)(s + 4), z,
                                                                   (char)(s + 5), z, (char)(s + 8), z, (char)(s + 9), z,
                                                                   (char)(s + 12), z, (char)(s + 13)));
    return _mm256_srai_epi16(_mm256_shuffle_epi8(v, pick), 8);
}

FM_INLINE void heads_d(struct q8_heads *h, const unsigned char *const row[8]) { h->d[0] = q8_first_halves(row); }

FM_INLINE void heads_d_m(struct q8_heads *h, const unsigned char *const row[8])
{
    __m256i a = _mm256_unpacklo_epi32(q8_join(row[0], row[4]), q8_join(row[1], row[5]));
    __m256i b = _mm256_unpacklo_epi32(q8_join(row[2], row[6]), q8_join(row[3], row[7]));
    q8_two_halves(&h->d[0], &h->m[0], _mm256_unpacklo_epi64(a, b));
}

/* Q4_K and Q5_K: f16 d, dmin; twelve bytes of six-bit scales and minima. */
FM_INLINE void heads_k(struct q8_heads *h, const unsigned char *const row[8])
{
    const __m256i six = _mm256_set1_epi8(63), four = _mm256_set1_epi8(15), high = _mm256_set1_epi8(0x30);
    __m256i t[4], s[2], n[2];
    __m256 d, m;
    q8_words(t, row, 0);
    q8_two_halves(&d, &m, t[0]);
    m = _mm256_sub_ps(_mm256_setzero_ps(), m);
    s[0] = _mm256_and_si256(t[1], six);
    n[0] = _mm256_and_si256(t[2], six);
    s[1] = _mm256_or_si256(_mm256_and_si256(t[3], four), _mm256_and_si256(_mm256_srli_epi16(t[1], 2), high));
    n[1] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(t[3], 4), four),
                           _mm256_and_si256(_mm256_srli_epi16(t[2], 2), high));
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        h->d[b] = _mm256_mul_ps(d, q8_byte(s[b / 4], b % 4));
        h->m[b] = _mm256_mul_ps(m, q8_byte(n[b / 4], b % 4));
    }
}

FM_INLINE void heads_q6_k(struct q8_heads *h, const unsigned char *const row[8])
{
    __m256i t[4];
    q8_words(t, row, 192);
    FM_UNROLL
    for (int b = 0; b < 8; b++) h->scale[b] = q8_byte_pair(t[b / 2], b % 2);
    h->d[0] = q8_halves(row, 208);
}

FM_INLINE void heads_q2_k(struct q8_heads *h, const unsigned char *const row[8])
{
    const __m256i four = _mm256_set1_epi8(15);
    __m256i t[4];
    q8_words(t, row, 0);
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        h->scale[b] = q8_byte_pair(_mm256_and_si256(t[b / 2], four), b % 2);
        h->min[b] = q8_byte_pair(_mm256_and_si256(_mm256_srli_epi16(t[b / 2], 4), four), b % 2);
    }
    h->d[0] = q8_halves(row, 80);
    h->m[0] = _mm256_sub_ps(_mm256_setzero_ps(), q8_halves(row, 82));
}

/* The twelve bytes are words 1 … 3 of the sixteen from 92 on: low nibbles of scales 0 … 3 and 4 … 7, high ones of 8 … 15. */
FM_INLINE void heads_q3_k(struct q8_heads *h, const unsigned char *const row[8])
{
    const __m256i four = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30), middle = _mm256_set1_epi8(32);
    __m256i t[4], s[4];
    q8_words(t, row, 92);
    s[0] = _mm256_or_si256(_mm256_and_si256(t[1], four), _mm256_and_si256(_mm256_slli_epi16(t[3], 4), two));
    s[1] = _mm256_or_si256(_mm256_and_si256(t[2], four), _mm256_and_si256(_mm256_slli_epi16(t[3], 2), two));
    s[2] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(t[1], 4), four), _mm256_and_si256(t[3], two));
    s[3] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(t[2], 4), four),
                           _mm256_and_si256(_mm256_srli_epi16(t[3], 2), two));
    FM_UNROLL
    for (int b = 0; b < 8; b++) h->scale[b] = q8_byte_pair(_mm256_sub_epi8(s[b / 2], middle), b % 2);
    h->d[0] = q8_halves(row, 108);
}

/* f16 d, u16 of the scales' high bits, four bytes of their low nibbles: words 0 and 1. */
FM_INLINE void heads_iq4_xs(struct q8_heads *h, const unsigned char *const row[8])
{
    __m256i t[4];
    __m256 d, unused;
    q8_words(t, row, 0);
    q8_two_halves(&d, &unused, t[0]);
    FM_UNROLL
    for (int b = 0; b < 8; b++) {
        __m256i low = _mm256_and_si256(_mm256_srli_epi32(t[1], 4 * b), _mm256_set1_epi32(15));
        __m256i high = _mm256_and_si256(_mm256_srli_epi32(t[0], 16 + 2 * b), _mm256_set1_epi32(3));
        __m256i scale = _mm256_sub_epi32(_mm256_or_si256(low, _mm256_slli_epi32(high, 4)), _mm256_set1_epi32(32));
        h->d[b] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(scale));
    }
}

/* 2^(e − 128) of a byte e; below the normal numbers single bits of the fraction. */
FM_INLINE void heads_mxfp4(struct q8_heads *h, const unsigned char *const row[8])
{
    __m256i e =
        _mm256_setr_epi32(row[0][0], row[1][0], row[2][0], row[3][0], row[4][0], row[5][0], row[6][0], row[7][0]);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    h->d[0] = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

/* ---- codes ---- */

FM_INLINE __m256i q8_nibbles(const unsigned char *p)
{
    __m128i b = q8_load16(p);
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(b), _mm_srli_epi16(b, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* The low (h = 0) or high nibbles of 32 bytes. */
FM_INLINE __m256i q8_half_nibbles(const unsigned char *p, int h)
{
    __m256i v = q8_load32(p);
    return _mm256_and_si256(h ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
}

/* Bits from … of each of 32 bytes, moved to bit `to`; mask: where they end up. */
FM_INLINE __m256i q8_bits(const unsigned char *p, int from, int to, int mask)
{
    __m256i v = q8_load32(p);
    v = from > to ? _mm256_srli_epi16(v, from - to) : from < to ? _mm256_slli_epi16(v, to - from) : v;
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

/* The fifth bits (bit j of the word at p is element j's), then nibbles. */
FM_INLINE __m256i q8_five(const unsigned char *p)
{
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    int high;
    memcpy(&high, p, sizeof high);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(high), byte), bit);
    v = _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
    return _mm256_or_si256(q8_nibbles(p + 4), v);
}

FM_INLINE __m256i q8_levels(const unsigned char *p, __m128i levels)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), q8_nibbles(p));
}

FM_INLINE __m256i codes_q8_0(const unsigned char *p, int b) { return (void)b, q8_load32(p + 2); }
FM_INLINE __m256i codes_q4_0(const unsigned char *p, int b) { return (void)b, q8_nibbles(p + 2); }
FM_INLINE __m256i codes_q4_1(const unsigned char *p, int b) { return (void)b, q8_nibbles(p + 4); }
FM_INLINE __m256i codes_q5_0(const unsigned char *p, int b) { return (void)b, q8_five(p + 2); }
FM_INLINE __m256i codes_q5_1(const unsigned char *p, int b) { return (void)b, q8_five(p + 4); }
FM_INLINE __m256i codes_q4_k(const unsigned char *p, int b) { return q8_half_nibbles(p + 16 + b / 2 * 32, b % 2); }

FM_INLINE __m256i codes_q5_k(const unsigned char *p, int b)
{
    return _mm256_or_si256(q8_half_nibbles(p + 48 + b / 2 * 32, b % 2), q8_bits(p + 16, b, 4, 16));
}

FM_INLINE __m256i codes_q6_k(const unsigned char *p, int b)
{
    __m256i low = q8_half_nibbles(p + b / 4 * 64 + b % 2 * 32, b % 4 / 2);
    return _mm256_or_si256(low, q8_bits(p + 128 + b / 4 * 32, b % 4 * 2, 4, 0x30));
}

FM_INLINE __m256i codes_q2_k(const unsigned char *p, int b) { return q8_bits(p + 16 + b / 4 * 32, b % 4 * 2, 0, 3); }

FM_INLINE __m256i codes_q3_k(const unsigned char *p, int b)
{
    return _mm256_or_si256(q8_bits(p + 32 + b / 4 * 32, b % 4 * 2, 0, 3), q8_bits(p, b, 2, 4));
}

#define Q8_UNEVEN _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
/* Plus 16: unsigned, below 32. */
#define Q8_TWICE_E2M1 _mm_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4)

FM_INLINE __m256i codes_iq4(const unsigned char *p) { return q8_levels(p, Q8_UNEVEN); }

FM_INLINE __m256i codes_iq4_nl(const unsigned char *p, int b) { return (void)b, codes_iq4(p + 2); }
FM_INLINE __m256i codes_iq4_xs(const unsigned char *p, int b) { return codes_iq4(p + 8 + 16 * b); }

FM_INLINE __m256i codes_mxfp4(const unsigned char *p, int b)
{
    (void)b;
    return q8_levels(p + 1, Q8_TWICE_E2M1);
}

/* Two rows side by side: the sixteen bytes at p and q of four-bit codes … */
FM_INLINE void joined_nibbles(__m256i *lo, __m256i *hi, const unsigned char *p, const unsigned char *q)
{
    const __m256i four = _mm256_set1_epi8(15);
    __m256i v = q8_join(p, q);
    *lo = _mm256_and_si256(v, four);
    *hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), four);
}

/* … with their fifth bits in the word before: bytes 0 and 1 for the first sixteen, 2 and 3 for the others, … */
FM_INLINE __m256i joined_fifth(__m256i high, int first)
{
    const char a = (char)first, b = (char)(first + 1);
    const __m256i byte = _mm256_broadcastsi128_si256(_mm_setr_epi8(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b));
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(high, byte), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
}

FM_INLINE void joined_five(__m256i *lo, __m256i *hi, const unsigned char *p, const unsigned char *q)
{
    __m256i high = q8_join(p, q);
    joined_nibbles(lo, hi, p + 4, q + 4);
    *lo = _mm256_or_si256(*lo, joined_fifth(high, 0));
    *hi = _mm256_or_si256(*hi, joined_fifth(high, 2));
}

/* … and as the names of levels. */
FM_INLINE void joined_levels(__m256i *lo, __m256i *hi, const unsigned char *p, const unsigned char *q, __m128i levels)
{
    const __m256i table = _mm256_broadcastsi128_si256(levels);
    joined_nibbles(lo, hi, p, q);
    *lo = _mm256_shuffle_epi8(table, *lo);
    *hi = _mm256_shuffle_epi8(table, *hi);
}

#define Q8_JOINED(name, ...)                                                                             \
    FM_INLINE void name(__m256i *lo, __m256i *hi, const unsigned char *p, const unsigned char *q, int b) \
    {                                                                                                    \
        (void)b;                                                                                         \
        __VA_ARGS__;                                                                                     \
    }
Q8_JOINED(joined_q4_0, joined_nibbles(lo, hi, p + 2, q + 2))
Q8_JOINED(joined_q4_1, joined_nibbles(lo, hi, p + 4, q + 4))
Q8_JOINED(joined_q5_0, joined_five(lo, hi, p + 2, q + 2))
Q8_JOINED(joined_q5_1, joined_five(lo, hi, p + 4, q + 4))
Q8_JOINED(joined_iq4_nl, joined_levels(lo, hi, p + 2, q + 2, Q8_UNEVEN))
Q8_JOINED(joined_iq4_xs, joined_levels(lo, hi, p + 8 + 16 * b, q + 8 + 16 * b, Q8_UNEVEN))
Q8_JOINED(joined_mxfp4, joined_levels(lo, hi, p + 1, q + 1, Q8_TWICE_E2M1))

/* The sums of both halves of a block of x, a pair of int16 in every lane. */
FM_INLINE __m256i sums_of(const struct fm_q8x *x)
{
    int pair;
    memcpy(&pair, x->sum, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* X(format, blocks, bytes, bits, offset, minimum, two scales, two minima, heads, codes, joined) */
/* clang-format off */
#define Q8_FORMATS(X)                                                                                                 \
    X(Q8_0,   1, 34,  8, 0,  false, false, false, heads_d,      codes_q8_0, NULL)\
    X(Q4_0,   1, 18,  4, 8,  false, false, false, heads_d,      codes_q4_0, joined_q4_0)\
    X(Q4_1,   1, 20,  4, 0,  true,  false, false, heads_d_m,    codes_q4_1, joined_q4_1)\
    X(Q5_0,   1, 22,  5, 16, false, false, false, heads_d,      codes_q5_0, joined_q5_0)\
    X(Q5_1,   1, 24,  5, 0,  true,  false, false, heads_d_m,    codes_q5_1, joined_q5_1)\
    X(Q2_K,   8, 84,  2, 0,  false, true,  true,  heads_q2_k,   codes_q2_k, NULL)\
    X(Q3_K,   8, 110, 3, 4,  false, true,  false, heads_q3_k,   codes_q3_k, NULL)\
    X(Q4_K,   8, 144, 4, 0,  true,  false, false, heads_k,      codes_q4_k, NULL)\
    X(Q5_K,   8, 176, 5, 0,  true,  false, false, heads_k,      codes_q5_k, NULL)\
    X(Q6_K,   8, 210, 6, 32, false, true,  false, heads_q6_k,   codes_q6_k, NULL)\
    X(IQ4_NL, 1, 18,  8, 0,  false, false, false, heads_d,      codes_iq4_nl, joined_iq4_nl)\
    X(IQ4_XS, 8, 136, 8, 0,  false, false, false, heads_iq4_xs, codes_iq4_xs, joined_iq4_xs)\
    X(MXFP4,  1, 17,  5, 16, false, false, false, heads_mxfp4,  codes_mxfp4, joined_mxfp4)
/* clang-format on */

#define Q8_ROW(n_blocks, n_bytes, n_bits, from, has_m, has_two, has_mins, h, c, j)                              \
    {                                                                                                           \
        .blocks = n_blocks, .bytes = n_bytes, .bits = n_bits, .offset = from, .minimum = has_m, .two = has_two, \
        .two_mins = has_mins, .heads = h, .codes = c, .joined = j                                               \
    }

#endif
