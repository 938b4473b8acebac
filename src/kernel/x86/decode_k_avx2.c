/* Rows of the newer formats to float32, the bits of the decoders in quant/, where the layouts are drawn.  n is a multiple of
 * the block.  Every product of scales and code is exact, so its order is free; a minimum is subtracted last. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

FM_INLINE __m256i load32(const unsigned char *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
FM_INLINE __m128i load16(const unsigned char *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

FM_INLINE float half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

/* dst[16] = scale·q − min of sixteen signed bytes. */
FM_INLINE void put16(float *dst, __m128i q, __m256 scale, __m256 min)
{
    FM_UNROLL
    for (int j = 0; j < 2; j++) {
        __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(j ? _mm_unpackhi_epi64(q, q) : q));
        _mm256_storeu_ps(dst + 8 * j, _mm256_sub_ps(_mm256_mul_ps(scale, v), min));
    }
}

/* dst[32], one scale. */
FM_INLINE void put32(float *dst, __m256i q, __m256 scale, __m256 min)
{
    put16(dst, _mm256_castsi256_si128(q), scale, min);
    put16(dst + 16, _mm256_extracti128_si256(q, 1), scale, min);
}

/* The sixteen bytes of a block of nibbles as 32 codes in order. */
FM_INLINE __m256i nibbles(__m128i b)
{
    const __m128i low = _mm_set1_epi8(15);
    return _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(b, 4), low), _mm_and_si128(b, low));
}

/* All ones in byte j where bit j of u is set. */
FM_INLINE __m256i bits_to_bytes(uint32_t u)
{
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)u), byte), bit);
    return _mm256_cmpeq_epi8(v, bit);
}

FM_INLINE __m256i five_bits(const unsigned char *b)
{
    uint32_t high;
    memcpy(&high, b, sizeof high);
    return _mm256_or_si256(nibbles(load16(b + 4)), _mm256_and_si256(bits_to_bytes(high), _mm256_set1_epi8(16)));
}

static void decode_q5_0(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += 32, b += 22)
        put32(dst + i, _mm256_sub_epi8(five_bits(b + 2), _mm256_set1_epi8(16)), _mm256_set1_ps(half_at(b)),
              _mm256_setzero_ps());
}

static void decode_q5_1(float *dst, const void *src, size_t n)
{
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += 32, b += 24)
        put32(dst + i, five_bits(b + 4), _mm256_set1_ps(half_at(b)), _mm256_set1_ps(-half_at(b + 2)));
}

/* Six-bit scale and minimum of run r; quant/q4_k.c. */
FM_INLINE void pair_of(const unsigned char *sc, int r, float d, float dmin, __m256 *scale, __m256 *min)
{
    int s = r < 4 ? sc[r] & 63 : (sc[r + 4] & 15) | sc[r - 4] >> 6 << 4;
    int m = r < 4 ? sc[r + 4] & 63 : sc[r + 4] >> 4 | sc[r] >> 6 << 4;
    *scale = _mm256_set1_ps(d * (float)s);
    *min = _mm256_set1_ps(dmin * (float)m);
}

/* high: 0, or where the fifth bits lie. */
FM_INLINE void decode_4_5(float *dst, const unsigned char *b, size_t n, int bytes, int high)
{
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1);
    for (size_t i = 0; i < n; i += 256, b += bytes)
        for (int r = 0; r < 8; r++) {
            __m256 scale, min;
            __m256i q = load32(b + bytes - 128 + 32 * (r / 2));
            q = _mm256_and_si256(r % 2 ? _mm256_srli_epi16(q, 4) : q, low);
            if (high) {
                __m256i h = _mm256_and_si256(_mm256_srl_epi16(load32(b + high), _mm_cvtsi32_si128(r)), one);
                q = _mm256_or_si256(q, _mm256_slli_epi16(h, 4));
            }
            pair_of(b + 4, r, half_at(b), half_at(b + 2), &scale, &min);
            put32(dst + i + 32 * (size_t)r, q, scale, min);
        }
}

static void decode_q4_k(float *dst, const void *src, size_t n) { decode_4_5(dst, src, n, 144, 0); }
static void decode_q5_k(float *dst, const void *src, size_t n) { decode_4_5(dst, src, n, 176, 16); }

static void decode_q6_k(float *dst, const void *src, size_t n)
{
    const __m256i low = _mm256_set1_epi8(15), two = _mm256_set1_epi8(3), offset = _mm256_set1_epi8(32);
    const unsigned char *b = src;
    for (size_t i = 0; i < n; i += 256, b += 210)
        for (int r = 0; r < 8; r++) { /* half r / 4, quarter r % 4 */
            int half = r / 4, p = r % 4;
            __m256i q = load32(b + 64 * half + 32 * (p % 2));
            __m256i h = _mm256_srl_epi16(load32(b + 128 + 32 * half), _mm_cvtsi32_si128(2 * p));
            q = _mm256_and_si256(p < 2 ? q : _mm256_srli_epi16(q, 4), low);
            q = _mm256_sub_epi8(_mm256_or_si256(q, _mm256_slli_epi16(_mm256_and_si256(h, two), 4)), offset);
            float d = half_at(b + 208), s[2];
            for (int k = 0; k < 2; k++) s[k] = d * (float)(int8_t)b[192 + 2 * r + k];
            put16(dst + i + 32 * (size_t)r, _mm256_castsi256_si128(q), _mm256_set1_ps(s[0]), _mm256_setzero_ps());
            put16(dst + i + 32 * (size_t)r + 16, _mm256_extracti128_si256(q, 1), _mm256_set1_ps(s[1]),
                  _mm256_setzero_ps());
        }
}

/* E4M3 is f16 with fewer bits and another bias: as f16 it is 2^8 too small.  Only NaN has no such twin. */
FM_INLINE __m256 from_e4m3(__m128i c)
{
    __m128i w = _mm_cvtepu8_epi16(c), a = _mm_and_si128(w, _mm_set1_epi16(0x7F));
    __m128i nan = _mm_cmpeq_epi16(a, _mm_set1_epi16(0x7F)),
            sign = _mm_slli_epi16(_mm_and_si128(w, _mm_set1_epi16(0x80)), 8);
    __m128i h = _mm_or_si128(_mm_or_si128(_mm_slli_epi16(a, 7), sign), _mm_and_si128(nan, _mm_set1_epi16(0x7E00)));
    return _mm256_mul_ps(_mm256_cvtph_ps(h), _mm256_set1_ps(256));
}

static void decode_f8_e4m3(float *dst, const void *src, size_t n)
{
    const unsigned char *s = src;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, from_e4m3(_mm_loadl_epi64((const __m128i *)(const void *)(s + i))));
    for (; i < n; i++) dst[i] = _mm256_cvtss_f32(from_e4m3(_mm_cvtsi32_si128(s[i])));
}

fm_decode_fn fm_avx2_decoder(enum fm_fmt f)
{
    static const fm_decode_fn own[FM_FMT_COUNT] = {
        [FM_Q5_0] = decode_q5_0, [FM_Q5_1] = decode_q5_1, [FM_Q4_K] = decode_q4_k,
        [FM_Q5_K] = decode_q5_k, [FM_Q6_K] = decode_q6_k, [FM_F8_E4M3] = decode_f8_e4m3,
    };
    return own[f] ? own[f] : fm_formats[f].decode;
}
