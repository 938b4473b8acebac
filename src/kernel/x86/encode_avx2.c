/* The encoders' fits (quant/fit.c, written in vectors of eight) with AVX2, and the slots of all encoders that use them. */
#include "kernel/x86/encode_names_avx2.h"
/* then */
#include "kernel/x86/x86.h"
#include "quant/fit.c"

static void encode_q8_0(void *dst, const float *src, const float *weights, size_t n)
{
    (void)weights; /* the format has no use for them */
    fm_encode_q8_0(dst, src, n);
}

void fm_avx2_fill_encode(struct fm_kernels *k)
{
    k->encode[FM_Q8_0] = encode_q8_0;
    k->encode[FM_Q4_0] = fm_encode_w_q4_0;
    k->encode[FM_Q4_1] = fm_encode_w_q4_1;
    k->encode[FM_Q5_0] = fm_encode_w_q5_0;
    k->encode[FM_Q5_1] = fm_encode_w_q5_1;
    k->encode[FM_Q2_K] = fm_encode_w_q2_k;
    k->encode[FM_Q3_K] = fm_encode_w_q3_k;
    k->encode[FM_Q4_K] = fm_encode_w_q4_k;
    k->encode[FM_Q5_K] = fm_encode_w_q5_k;
    k->encode[FM_Q6_K] = fm_encode_w_q6_k;
    k->encode[FM_IQ4_NL] = fm_encode_w_iq4_nl;
    k->encode[FM_IQ4_XS] = fm_encode_w_iq4_xs;
    k->encode[FM_MXFP4] = fm_encode_w_mxfp4;
}
