/* Names of the functions of src/quant that are compiled once more with AVX2 (encode_*_avx2.c), so that both lots can be in
 * one program.  Must come before any header of quant/. */
#ifndef FM_KERNEL_ENCODE_NAMES_AVX2_H
#define FM_KERNEL_ENCODE_NAMES_AVX2_H
/* clang-format off */

#define fm_fit_load fm_fit_load_avx2
#define fm_fit_finite fm_fit_finite_avx2
#define fm_fit_max fm_fit_max_avx2
#define fm_fit_scale fm_fit_scale_avx2
#define fm_fit_affine fm_fit_affine_avx2
#define fm_fit_codes fm_fit_codes_avx2
#define fm_fit_runs fm_fit_runs_avx2
#define fm_fit_runs_affine fm_fit_runs_affine_avx2
#define fm_scale_f16 fm_scale_f16_avx2
#define fm_decode_q8_0 fm_decode_q8_0_avx2
#define fm_encode_q8_0 fm_encode_q8_0_avx2
#define fm_decode_q4_0 fm_decode_q4_0_avx2
#define fm_encode_q4_0 fm_encode_q4_0_avx2
#define fm_encode_w_q4_0 fm_encode_w_q4_0_avx2
#define fm_decode_q4_1 fm_decode_q4_1_avx2
#define fm_encode_q4_1 fm_encode_q4_1_avx2
#define fm_encode_w_q4_1 fm_encode_w_q4_1_avx2
#define fm_decode_q5_0 fm_decode_q5_0_avx2
#define fm_encode_q5_0 fm_encode_q5_0_avx2
#define fm_encode_w_q5_0 fm_encode_w_q5_0_avx2
#define fm_decode_q5_1 fm_decode_q5_1_avx2
#define fm_encode_q5_1 fm_encode_q5_1_avx2
#define fm_encode_w_q5_1 fm_encode_w_q5_1_avx2
#define fm_decode_q2_k fm_decode_q2_k_avx2
#define fm_encode_q2_k fm_encode_q2_k_avx2
#define fm_encode_w_q2_k fm_encode_w_q2_k_avx2
#define fm_decode_q3_k fm_decode_q3_k_avx2
#define fm_encode_q3_k fm_encode_q3_k_avx2
#define fm_encode_w_q3_k fm_encode_w_q3_k_avx2
#define fm_decode_q4_k fm_decode_q4_k_avx2
#define fm_decode_q5_k fm_decode_q5_k_avx2
#define fm_encode_q4_k fm_encode_q4_k_avx2
#define fm_encode_q5_k fm_encode_q5_k_avx2
#define fm_encode_w_q4_k fm_encode_w_q4_k_avx2
#define fm_encode_w_q5_k fm_encode_w_q5_k_avx2
#define fm_decode_q6_k fm_decode_q6_k_avx2
#define fm_encode_q6_k fm_encode_q6_k_avx2
#define fm_encode_w_q6_k fm_encode_w_q6_k_avx2
#define fm_decode_iq4_nl fm_decode_iq4_nl_avx2
#define fm_decode_iq4_xs fm_decode_iq4_xs_avx2
#define fm_encode_iq4_nl fm_encode_iq4_nl_avx2
#define fm_encode_iq4_xs fm_encode_iq4_xs_avx2
#define fm_encode_w_iq4_nl fm_encode_w_iq4_nl_avx2
#define fm_encode_w_iq4_xs fm_encode_w_iq4_xs_avx2
#define fm_decode_mxfp4 fm_decode_mxfp4_avx2
#define fm_decode_nvfp4 fm_decode_nvfp4_avx2
#define fm_encode_mxfp4 fm_encode_mxfp4_avx2
#define fm_encode_w_mxfp4 fm_encode_w_mxfp4_avx2

/* clang-format on */
#endif
