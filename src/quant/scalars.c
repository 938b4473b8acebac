/* Formats without blocks of their own: F32, F16, BF16, F64, and the small floats of FP8 and FP4 files.
 *
 *   F32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm    bias 127
 *   BF16  s eeeeeeee mmmmmmm                    the upper half of F32
 *   F16   s eeeee mmmmmmmmmm                    bias 15; e = 0: m·2^-24; e = 31: inf, NaN
 *   E4M3  s eeee mmm                            bias 7; e = 0: m·2^-9; no infinity, all ones: NaN
 *   E8M0  eeeeeeee                              2^(e − 127); 255: NaN
 *   E2M1  s ee m                                bias 1; e = 0: m/2; in files two a byte, the low half first
 *
 * Source: IEEE 754-2008; OCP 8-bit floats 1.0 and MX 1.0; spec models.md §9.2.  NaN conversions of the 16-bit formats
 * follow the hardware (F16C, NEON): the result is quiet and keeps the upper bits of the payload.  Subnormals are never
 * flushed. */
#include "quant/blocks.h"

static inline uint32_t f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

float fm_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3FF;
    if (e == 31) return f32_from_bits(sign | 0x7F800000 | (m ? 0x400000 | m << 13 : 0));
    if (e) return f32_from_bits(sign | (e + 127 - 15) << 23 | m << 13);
    return f32_from_bits(sign | f32_bits((float)m * 0x1p-24f));
}

uint16_t fm_f32_to_f16(float x)
{
    uint32_t u = f32_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x3FF));
    if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520, half way to 2^16, and all above */
    if (a < 0x38800000) /* below 2^-14: the last bit of numbers in [0.5, 1) weighs 2^-24, as in a subnormal f16 */
        return (uint16_t)(sign | (f32_bits(f32_from_bits(a) + 0.5f) - 0x3F000000));
    a += 0xFFF + (a >> 13 & 1);
    return (uint16_t)(sign | (a - ((127 - 15) << 23)) >> 13);
}

float fm_bf16_to_f32(uint16_t h) { return f32_from_bits((uint32_t)h << 16); }

uint16_t fm_f32_to_bf16(float x)
{
    uint32_t u = f32_bits(x);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

float fm_e4m3_to_f32(uint8_t c)
{
    uint32_t sign = (uint32_t)(c & 0x80) << 24, a = c & 0x7F;
    if (a == 0x7F) return f32_from_bits(sign | 0x7FC00000);
    if (a < 8) return f32_from_bits(sign | f32_bits((float)a * 0x1p-9f));
    return f32_from_bits(sign | ((a << 20) + ((127 - 7) << 23)));
}

uint8_t fm_f32_to_e4m3(float x)
{
    uint32_t u = f32_bits(x), sign = u >> 24 & 0x80, a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint8_t)(sign | 0x7F);
    if (a >= 0x43E00000) return (uint8_t)(sign | 0x7E); /* 448 */
    if (a < 0x3C800000) /* below 2^-6: the last bit of numbers in [2^14, 2^15) weighs 2^-9 */
        return (uint8_t)(sign | (f32_bits(f32_from_bits(a) + 0x1p14f) - 0x46800000));
    a += 0x7FFFF + (a >> 20 & 1);
    return (uint8_t)(sign | (a - ((127 - 7) << 23)) >> 20);
}

float fm_e8m0_to_f32(uint8_t e) { return f32_from_bits(e == 255 ? 0x7FC00000 : e ? (uint32_t)e << 23 : 0x00400000); }

uint8_t fm_f32_to_e2m1(float x)
{
    static const float half[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5}; /* between neighbours */
    float a = x < 0 ? -x : x;
    unsigned c = 0;
    while (c < 7 && (c & 1 ? a >= half[c] : a > half[c])) c++; /* ties to the even code */
    return (uint8_t)(c | (f32_bits(x) >> 28 & 8));
}

void fm_decode_f8_e4m3(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = fm_e4m3_to_f32(((const uint8_t *)src)[i]);
}

void fm_decode_f8_e8m0(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = fm_e8m0_to_f32(((const uint8_t *)src)[i]);
}

void fm_decode_f4_e2m1(float *dst, const void *src, size_t n)
{
    static const float value[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 2, b++) {
        dst[i] = value[*b & 15];
        dst[i + 1] = value[*b >> 4];
    }
}

void fm_decode_f32(float *dst, const void *src, size_t n) { memcpy(dst, src, n * 4); }

void fm_encode_f32(void *dst, const float *src, size_t n) { memcpy(dst, src, n * 4); }

void fm_decode_f16(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = fm_f16_to_f32(fm_load_u16((const char *)src + 2 * i));
}

void fm_encode_f16(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) fm_store_u16((char *)dst + 2 * i, fm_f32_to_f16(src[i]));
}

void fm_decode_bf16(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = fm_bf16_to_f32(fm_load_u16((const char *)src + 2 * i));
}

void fm_encode_bf16(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) fm_store_u16((char *)dst + 2 * i, fm_f32_to_bf16(src[i]));
}

/* The one decoder that rounds: to the nearest float. */
void fm_decode_f64(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double x;
        memcpy(&x, (const char *)src + 8 * i, sizeof x);
        dst[i] = (float)x;
    }
}

void fm_encode_f64(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double x = src[i];
        memcpy((char *)dst + 8 * i, &x, sizeof x);
    }
}
