/* From gradients to new parameters: clipping, AdamW, and the router bias. */
#ifndef FM_TRAIN_ADAMW_H
#define FM_TRAIN_ADAMW_H

#include "train/params.h"

struct fm_adamw_rule {
    double lr; /* of this step */
    float beta1, beta2, eps, weight_decay;
    float clip; /* largest norm of the whole gradient; 0: none */
};

/* g = 0, in parallel. */
void fm_adamw_zero(struct fm_ctx *c, struct fm_params *a);
/* Norm of the whole gradient, the same bits for any thread count. */
double fm_adamw_norm(struct fm_ctx *c, const struct fm_params *a);
/* One step, the t-th (from 1), for a gradient of that norm: matrices with decay, vectors without, buffers untouched.
 * Loshchilov & Hutter 2019; clipping as Pascanu et al. 2013: g·min(1, clip/norm). */
void fm_adamw_step(struct fm_ctx *c, struct fm_params *a, const struct fm_adamw_rule *r, int64_t t, double norm);

/* Auxiliary-loss-free balancing, DeepSeek-V3 report §2.1.2: bias_e += rate·sign(mean load − load_e) in every layer with
 * experts.  load[(L + n_mtp)·E]: tokens of this step per layer and expert. */
void fm_router_bias_update(const struct fm_config *cfg, struct fm_weights *w, const int64_t *load, double rate);

#endif
