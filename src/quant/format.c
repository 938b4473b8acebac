/* The table of formats.  A new one: its row here, its drawing and two functions in a file of its own.
 * Sizes and numbers: spec models.md §9.5 (ggml), §9.1 (safetensors dtypes). */
#include <strings.h>

#include "quant/blocks.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian and read in place");

const struct fm_format fm_formats[FM_FMT_COUNT] = {
    /*              name       safetens. ggml len  bytes decode             encode            encode_weighted */
    /* clang-format off */
    [FM_F32]     = {"F32",     "F32",     0,  1,   4,   fm_decode_f32,     fm_encode_f32,    NULL},
    [FM_F16]     = {"F16",     "F16",     1,  1,   2,   fm_decode_f16,     fm_encode_f16,    NULL},
    [FM_BF16]    = {"BF16",    "BF16",    30, 1,   2,   fm_decode_bf16,    fm_encode_bf16,   NULL},
    [FM_F64]     = {"F64",     "F64",     28, 1,   8,   fm_decode_f64,     fm_encode_f64,    NULL},
    [FM_Q8_0]    = {"Q8_0",    NULL,      8,  32,  34,  fm_decode_q8_0,    fm_encode_q8_0,   NULL},
    [FM_Q4_0]    = {"Q4_0",    NULL,      2,  32,  18,  fm_decode_q4_0,    fm_encode_q4_0,   fm_encode_w_q4_0},
    [FM_Q4_1]    = {"Q4_1",    NULL,      3,  32,  20,  fm_decode_q4_1,    fm_encode_q4_1,   fm_encode_w_q4_1},
    [FM_Q5_0]    = {"Q5_0",    NULL,      6,  32,  22,  fm_decode_q5_0,    fm_encode_q5_0,   fm_encode_w_q5_0},
    [FM_Q5_1]    = {"Q5_1",    NULL,      7,  32,  24,  fm_decode_q5_1,    fm_encode_q5_1,   fm_encode_w_q5_1},
    [FM_Q2_K]    = {"Q2_K",    NULL,      10, 256, 84,  fm_decode_q2_k,    fm_encode_q2_k,   fm_encode_w_q2_k},
    [FM_Q3_K]    = {"Q3_K",    NULL,      11, 256, 110, fm_decode_q3_k,    fm_encode_q3_k,   fm_encode_w_q3_k},
    [FM_Q4_K]    = {"Q4_K",    NULL,      12, 256, 144, fm_decode_q4_k,    fm_encode_q4_k,   fm_encode_w_q4_k},
    [FM_Q5_K]    = {"Q5_K",    NULL,      13, 256, 176, fm_decode_q5_k,    fm_encode_q5_k,   fm_encode_w_q5_k},
    [FM_Q6_K]    = {"Q6_K",    NULL,      14, 256, 210, fm_decode_q6_k,    fm_encode_q6_k,   fm_encode_w_q6_k},
    [FM_IQ2_XXS] = {"IQ2_XXS", NULL,      16, 256, 66,  fm_decode_iq2_xxs, NULL,             NULL},
    [FM_IQ2_XS]  = {"IQ2_XS",  NULL,      17, 256, 74,  fm_decode_iq2_xs,  NULL,             NULL},
    [FM_IQ3_XXS] = {"IQ3_XXS", NULL,      18, 256, 98,  fm_decode_iq3_xxs, NULL,             NULL},
    [FM_IQ1_S]   = {"IQ1_S",   NULL,      19, 256, 50,  fm_decode_iq1_s,   NULL,             NULL},
    [FM_IQ4_NL]  = {"IQ4_NL",  NULL,      20, 32,  18,  fm_decode_iq4_nl,  fm_encode_iq4_nl, fm_encode_w_iq4_nl},
    [FM_IQ3_S]   = {"IQ3_S",   NULL,      21, 256, 110, fm_decode_iq3_s,   NULL,             NULL},
    [FM_IQ2_S]   = {"IQ2_S",   NULL,      22, 256, 82,  fm_decode_iq2_s,   NULL,             NULL},
    [FM_IQ4_XS]  = {"IQ4_XS",  NULL,      23, 256, 136, fm_decode_iq4_xs,  fm_encode_iq4_xs, fm_encode_w_iq4_xs},
    [FM_IQ1_M]   = {"IQ1_M",   NULL,      29, 256, 56,  fm_decode_iq1_m,   NULL,             NULL},
    [FM_MXFP4]   = {"MXFP4",   NULL,      39, 32,  17,  fm_decode_mxfp4,   fm_encode_mxfp4,  fm_encode_w_mxfp4},
    [FM_NVFP4]   = {"NVFP4",   NULL,      40, 64,  36,  fm_decode_nvfp4,   NULL,             NULL},
    [FM_F8_E4M3] = {"F8_E4M3", "F8_E4M3", -1, 1,   1,   fm_decode_f8_e4m3, NULL,             NULL},
    [FM_F8_E8M0] = {"F8_E8M0", "F8_E8M0", -1, 1,   1,   fm_decode_f8_e8m0, NULL,             NULL},
    [FM_F4_E2M1] = {"F4_E2M1", "F4",      -1, 2,   1,   fm_decode_f4_e2m1, NULL,             NULL},
    [FM_I8]      = {"I8",      "I8",      24, 1,   1,   NULL,              NULL,             NULL},
    [FM_U8]      = {"U8",      "U8",      -1, 1,   1,   NULL,              NULL,             NULL},
    [FM_I16]     = {"I16",     "I16",     25, 1,   2,   NULL,              NULL,             NULL},
    [FM_I32]     = {"I32",     "I32",     26, 1,   4,   NULL,              NULL,             NULL},
    [FM_I64]     = {"I64",     "I64",     27, 1,   8,   NULL,              NULL,             NULL},
    /* clang-format on */
};

enum fm_fmt fm_format_by_name(const char *name)
{
    int i = 0;
    while (i < FM_FMT_COUNT && strcasecmp(fm_formats[i].name, name)) i++;
    return (enum fm_fmt)i;
}

enum fm_fmt fm_format_by_ggml(uint32_t id)
{
    int i = 0;
    while (i < FM_FMT_COUNT && (fm_formats[i].ggml_id < 0 || (uint32_t)fm_formats[i].ggml_id != id)) i++;
    return (enum fm_fmt)i;
}

enum fm_fmt fm_format_by_dtype(const char *st_dtype)
{
    int i = 0;
    while (i < FM_FMT_COUNT && (!fm_formats[i].st_dtype || strcmp(fm_formats[i].st_dtype, st_dtype))) i++;
    return (enum fm_fmt)i;
}
