/* What the bytes of a tensor mean: one row per format.
 * Source: shared layouts of GGUF (ggml) and safetensors; spec models.md §9.  Decoding is exact in float32. */
#ifndef FM_QUANT_FORMAT_H
#define FM_QUANT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fm_fmt {
    FM_F32,
    FM_F16,
    FM_BF16,
    FM_Q8_0,
    FM_Q4_0,
    FM_Q4_1,
    FM_F64,
    FM_Q5_0,
    FM_Q5_1,
    FM_Q2_K,
    FM_Q3_K,
    FM_Q4_K,
    FM_Q5_K,
    FM_Q6_K,
    FM_IQ2_XXS,
    FM_IQ2_XS,
    FM_IQ3_XXS,
    FM_IQ1_S,
    FM_IQ4_NL,
    FM_IQ3_S,
    FM_IQ2_S,
    FM_IQ4_XS,
    FM_IQ1_M,
    FM_MXFP4,
    FM_NVFP4,
    FM_F8_E4M3,
    FM_F8_E8M0,
    FM_F4_E2M1,
    /* met in files, listed and sized, not computed with (decode == NULL) */
    FM_I8,
    FM_U8,
    FM_I16,
    FM_I32,
    FM_I64,
    FM_FMT_COUNT
};

/* dst[n] = value of src[n elements]; n a multiple of the block. */
typedef void (*fm_decode_fn)(float *dst, const void *src, size_t n);
/* dst = blocks that approximate src[n]; n a multiple of the block.  Round to nearest even throughout. */
typedef void (*fm_encode_fn)(void *dst, const float *src, size_t n);

/* The same, making Σ weights·(error)² small: weights[n] >= 0 say how much each element matters (NULL: all the same). */
typedef void (*fm_encode_weighted_fn)(void *dst, const float *src, const float *weights, size_t n);

struct fm_format {
    const char *name;     /* "Q8_0": what users type and see                              */
    const char *st_dtype; /* safetensors dtype, or NULL when that container cannot hold it */
    int ggml_id;          /* GGUF tensor type, or -1                                      */
    uint32_t block;       /* elements per block                                           */
    uint32_t block_bytes;
    fm_decode_fn decode;                   /* NULL: not computable (yet)                                   */
    fm_encode_fn encode;                   /* NULL: cannot be written                                      */
    fm_encode_weighted_fn encode_weighted; /* NULL: the format has no use for weights     */
};

extern const struct fm_format fm_formats[FM_FMT_COUNT];

/* FM_FMT_COUNT when unknown.  Names compare without regard to case. */
enum fm_fmt fm_format_by_name(const char *name);
enum fm_fmt fm_format_by_ggml(uint32_t id);
enum fm_fmt fm_format_by_dtype(const char *st_dtype);

/* Bytes of n elements; n must be a multiple of the block, else 0. No overflow check: n < 2^56. */
static inline uint64_t fm_format_bytes(enum fm_fmt f, uint64_t n)
{
    return n % fm_formats[f].block ? 0 : n / fm_formats[f].block * fm_formats[f].block_bytes;
}

/* Scalar conversions, exact or rounded to nearest even (NaN stays NaN, f16 overflows to inf from 65520). */
float fm_f16_to_f32(uint16_t h);
uint16_t fm_f32_to_f16(float x);
float fm_bf16_to_f32(uint16_t h);
uint16_t fm_f32_to_bf16(float x);
/* E4M3 without infinities ("fn"): largest number 448, to which larger ones are clamped; 0x7F and 0xFF are NaN. */
float fm_e4m3_to_f32(uint8_t c);
uint8_t fm_f32_to_e4m3(float x);
/* 2^(e−127); 255 is NaN. */
float fm_e8m0_to_f32(uint8_t e);
/* s ee m: ±{0, 1/2, 1, 3/2, 2, 3, 4, 6}, larger ones clamped; NaN gives 0. */
uint8_t fm_f32_to_e2m1(float x);

#endif
