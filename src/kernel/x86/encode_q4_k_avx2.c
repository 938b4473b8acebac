/* quant/q4_k.c with AVX2: same lines, same bits. */
#include "kernel/x86/encode_names_avx2.h"
/* last */
#include "quant/q4_k.c"
