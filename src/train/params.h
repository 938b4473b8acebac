/* Parameters, gradients and the two moments: one block each, all four laid out alike.
 *
 *   ├ matrices (decayed) ┼ vectors: norms, biases ┼ buffers: router bias ┤
 *   0                n_decay                  n_trained                n_all    floats; tensors start 64-byte aligned,
 *                                                                              gaps stay zero
 * so that clipping, AdamW and checkpoints are loops over arrays that know nothing of layers. */
#ifndef FM_TRAIN_PARAMS_H
#define FM_TRAIN_PARAMS_H

#include "model/model.h"

struct fm_params {
    struct fm_config cfg;     /* copy; its family is static */
    struct fm_weights w, dw;  /* bound into p and g; dw of a buffer is absent */
    struct fm_binding *list;  /* of w, in the family's order */
    struct fm_binding *dlist; /* of dw, same order           */
    int n;
    size_t *at; /* [n] first float of each tensor */
    size_t n_decay, n_trained, n_all;
    float *p, *g, *m, *v; /* [n_all] each after alloc */
};

/* Shapes and layout only: the weights point at addresses that must not be touched (dry runs may be made). */
enum fm_status fm_params_init(struct fm_params *a, const struct fm_config *cfg, struct fm_error *err) FM_MUST_USE;
/* Allocate what a training run needs, zeroed; or the parameters alone. */
enum fm_status fm_params_alloc(struct fm_params *a, bool training, struct fm_error *err) FM_MUST_USE;
void fm_params_release(struct fm_params *a);
static inline size_t fm_params_bytes(const struct fm_params *a) { return a->n_all * sizeof(float); }

/* Start values: matrices normal(0, cfg.init_std), those that write into the residual stream (o_proj, down_proj) smaller
 * by sqrt(2·L) so that it does not grow with depth (GPT-2, Radford et al. 2019 §2.3); norms 1; the rest 0.
 * Every tensor has its own stream of numbers from (seed, its index). */
void fm_params_start(struct fm_params *a, uint64_t seed, struct fm_pool *pool);

#endif
