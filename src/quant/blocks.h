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
void fm_decode_q4_1(float *dst, const void *src, size_t n);
void fm_encode_q4_1(void *dst, const float *src, size_t n);

#define FM_F16_MAX 65504.0f

/* Tensors in a file need not be aligned. */
static inline uint16_t fm_load_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
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
