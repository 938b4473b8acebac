/* Rows of weights to float32, the bits of the decoders in quant/.  n is a multiple of the block. */
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/x86.h"

enum { BLOCK = 32, Q8_0_BYTES = 34, Q4_0_BYTES = 18, Q4_1_BYTES = 20 };

FM_INLINE __m128i load16(const unsigned char *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

FM_INLINE __m256 half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm256_cvtph_ps(_mm_set1_epi16((short)h));
}

FM_INLINE __m256 from_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }

static void decode_bf16(float *dst, const void *src, size_t n)
{
    const unsigned char *s = src;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, from_bf16(load16(s + 2 * i)));
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, s + 2 * i, sizeof h);
        uint32_t u = (uint32_t)h << 16;
        memcpy(dst + i, &u, sizeof u);
    }
}

static void decode_f16(float *dst, const void *src, size_t n)
{
    const unsigned char *s = src;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(load16(s + 2 * i)));
    for (; i < n; i++) dst[i] = _mm256_cvtss_f32(half_at(s + 2 * i));
}

static void decode_q8_0(float *dst, const void *src, size_t n)
{
    const unsigned char *s = src;
    for (size_t i = 0; i < n; i += BLOCK, s += Q8_0_BYTES) {
        __m256 d = half_at(s);
        for (int j = 0; j < BLOCK; j += 8) {
            __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(s + 2 + j)));
            _mm256_storeu_ps(dst + i + j, _mm256_mul_ps(d, _mm256_cvtepi32_ps(q)));
        }
    }
}

/* dst[32] = d·(code − offset) [+ m] of sixteen bytes of nibbles. */
FM_INLINE void decode_nibbles(float *dst, __m128i b, __m256 d, int offset, __m256 m, bool minimum)
{
    const __m128i low = _mm_set1_epi8(15), off = _mm_set1_epi8((char)offset);
    __m128i c[2] = {_mm_sub_epi8(_mm_and_si128(b, low), off),
                    _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(b, 4), low), off)};
    FM_UNROLL
    for (int j = 0; j < 4; j++) {
        __m128i q = j % 2 ? _mm_unpackhi_epi64(c[j / 2], c[j / 2]) : c[j / 2];
        __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)));
        _mm256_storeu_ps(dst + 8 * j, minimum ? _mm256_add_ps(v, m) : v);
    }
}

static void decode_q4_0(float *dst, const void *src, size_t n)
{
    const unsigned char *s = src;
    for (size_t i = 0; i < n; i += BLOCK, s += Q4_0_BYTES)
        decode_nibbles(dst + i, load16(s + 2), half_at(s), 8, _mm256_setzero_ps(), false);
}

static void decode_q4_1(float *dst, const void *src, size_t n)
{
    const unsigned char *s = src;
    for (size_t i = 0; i < n; i += BLOCK, s += Q4_1_BYTES)
        decode_nibbles(dst + i, load16(s + 4), half_at(s), 0, half_at(s + 2), true);
}

void fm_avx2_fill_decode(struct fm_kernels *k)
{
    k->decode[FM_F16] = decode_f16;
    k->decode[FM_BF16] = decode_bf16;
    k->decode[FM_Q8_0] = decode_q8_0;
    k->decode[FM_Q4_0] = decode_q4_0;
    k->decode[FM_Q4_1] = decode_q4_1;
}
