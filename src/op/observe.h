/* Ops that take notice of what goes into matrices: Σ x² per column, for importance matrices (model/imatrix.h).
 *
 *   struct fm_observer o;  fm_observer_init(&o, &fm_ops_cpu, list, n);
 *   ctx.op = &o.ops;  ctx.observer = &o;                    and nn/ and the loop over layers run as ever
 *
 * Each slot with a weight matrix first adds up its input, then calls the slot that it stands for.  A matrix is known by its
 * address, the one that nn/ passes on; others are passed over.  Sums are in double; a column's rows are added in the order
 * of the rows of the step, whatever the number of threads. */
#ifndef FM_OP_OBSERVE_H
#define FM_OP_OBSERVE_H

#include "op/op.h"

struct fm_observed {
    const struct fm_mat *w;
    int mats;        /* in matmul_heads, head h uses matrix h % mats of those that lie in w; elsewhere 1 */
    double *sums;    /* [mats, w->cols] += x²                                                        */
    int64_t *counts; /* [mats] += rows                                                               */
};

struct fm_observer {
    struct fm_ops ops; /* for fm_ctx.op */
    const struct fm_ops *inner;
    const struct fm_observed *list; /* sorted by address */
    int n;
};

/* Sorts list[n], which must outlive o, by address. */
void fm_observer_init(struct fm_observer *o, const struct fm_ops *inner, struct fm_observed *list, int n);

#endif
