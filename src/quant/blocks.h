/* The scalar decoders and encoders that format.c lists, and what they share.  Private to this folder. */
#ifndef FM_QUANT_BLOCKS_H
#define FM_QUANT_BLOCKS_H

#include <string.h>

#include "quant/format.h"

void fm_decode_f32(float *dst, const void *src, size_t n);
void fm_encode_f32(void *dst, const float *src, size_t n);
void fm_decode_f16(float *dst, const void *src, size_t n);
void fm_encode_f16(void *dst, const float *src, size_t n);
void fm_decode_bf16(float *dst, const void *src, size_t n);
void fm_encode_bf16(void *dst, const float *src, size_t n);
void fm_decode_f64(float *dst, const void *src, size_t n);
void fm_encode_f64(void *dst, const float *src, size_t n);
void fm_decode_q8_0(float *dst, const void *src, size_t n);
void fm_encode_q8_0(void *dst, const float *src, size_t n);
void fm_decode_q4_0(float *dst, const void *src, size_t n);
void fm_encode_q4_0(void *dst, const float *src, size_t n);
void fm_encode_w_q4_0(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q4_1(float *dst, const void *src, size_t n);
void fm_encode_q4_1(void *dst, const float *src, size_t n);
void fm_encode_w_q4_1(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q5_0(float *dst, const void *src, size_t n);
void fm_encode_q5_0(void *dst, const float *src, size_t n);
void fm_encode_w_q5_0(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q5_1(float *dst, const void *src, size_t n);
void fm_encode_q5_1(void *dst, const float *src, size_t n);
void fm_encode_w_q5_1(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q2_k(float *dst, const void *src, size_t n);
void fm_encode_q2_k(void *dst, const float *src, size_t n);
void fm_encode_w_q2_k(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q3_k(float *dst, const void *src, size_t n);
void fm_encode_q3_k(void *dst, const float *src, size_t n);
void fm_encode_w_q3_k(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q4_k(float *dst, const void *src, size_t n);
void fm_encode_q4_k(void *dst, const float *src, size_t n);
void fm_encode_w_q4_k(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q5_k(float *dst, const void *src, size_t n);
void fm_encode_q5_k(void *dst, const float *src, size_t n);
void fm_encode_w_q5_k(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_q6_k(float *dst, const void *src, size_t n);
void fm_encode_q6_k(void *dst, const float *src, size_t n);
void fm_encode_w_q6_k(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_iq4_nl(float *dst, const void *src, size_t n);
void fm_encode_iq4_nl(void *dst, const float *src, size_t n);
void fm_encode_w_iq4_nl(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_iq4_xs(float *dst, const void *src, size_t n);
void fm_encode_iq4_xs(void *dst, const float *src, size_t n);
void fm_encode_w_iq4_xs(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_mxfp4(float *dst, const void *src, size_t n);
void fm_encode_mxfp4(void *dst, const float *src, size_t n);
void fm_encode_w_mxfp4(void *dst, const float *src, const float *weights, size_t n);
void fm_decode_nvfp4(float *dst, const void *src, size_t n);
void fm_decode_iq2_xxs(float *dst, const void *src, size_t n);
void fm_decode_iq2_xs(float *dst, const void *src, size_t n);
void fm_decode_iq2_s(float *dst, const void *src, size_t n);
void fm_decode_iq3_xxs(float *dst, const void *src, size_t n);
void fm_decode_iq3_s(float *dst, const void *src, size_t n);
void fm_decode_iq1_s(float *dst, const void *src, size_t n);
void fm_decode_iq1_m(float *dst, const void *src, size_t n);
void fm_decode_f8_e4m3(float *dst, const void *src, size_t n);
void fm_decode_f4_e2m1(float *dst, const void *src, size_t n);
void fm_decode_f8_e8m0(float *dst, const void *src, size_t n);

#define FM_F16_MAX 65504.0f

/* Tensors in a file need not be aligned. */
static inline uint16_t fm_load_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t fm_load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Code j of the 32 five-bit ones of Q5_0 and Q5_1: b holds the high bits (u32), then the low nibbles (16 bytes). */
static inline int fm_load_5bit(const unsigned char *b, int j)
{
    return (b[4 + j % 16] >> j / 16 * 4 & 15) | (int)(fm_load_u32(b) >> j & 1) << 4;
}

static inline void fm_store_5bit(unsigned char *b, const int8_t *q)
{
    uint32_t high = 0;
    for (int j = 0; j < 32; j++) high |= (uint32_t)(q[j] >> 4) << j;
    memcpy(b, &high, sizeof high);
    for (int j = 0; j < 16; j++) b[4 + j] = (unsigned char)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static inline void fm_store_u16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }

/* Store x as f16 and return what was stored.  An infinite scale would spoil the whole block: saturate. */
static inline float fm_store_f16(void *p, float x)
{
    float c = x > FM_F16_MAX ? FM_F16_MAX : x < -FM_F16_MAX ? -FM_F16_MAX : x;
    uint16_t h = fm_f32_to_f16(c);
    fm_store_u16(p, h);
    return fm_f16_to_f32(h);
}

/* Nearest integer, ties to even, clamped to [lo, hi], which lies within ±2^22; NaN gives lo.
 * Adding 1.5·2^23 leaves no bits for a fraction, so the addition itself does the rounding. */
static inline int fm_round_clamp(float x, int lo, int hi)
{
    if (!(x > (float)lo)) return lo;
    if (x > (float)hi) return hi;
    return (int)((x + 12582912.0f) - 12582912.0f);
}

/* Encoders have no way to refuse: NaN counts as 0, an infinity as the largest finite number. */
static inline float fm_finite(float x)
{
    return x != x ? 0 : x > 0x1.fffffep127f ? 0x1.fffffep127f : x < -0x1.fffffep127f ? -0x1.fffffep127f : x;
}

#endif
