/* Sums over scored positions and what follows from them.  Added position by position, in the text's order, so that the same
 * positions give the same bits however the work was cut. */
#ifndef FM_RUN_TALLY_H
#define FM_RUN_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom.h"

/* One position: −ln of the next token's probability, by the model and by the one it is compared with. */
struct fm_score {
    double nll, nll_base, kld, p_diff; /* p_diff: e^−nll − e^−nll_base */
    bool same_top;
};

struct fm_tally {
    uint64_t n, n_same;
    double nll, nll2; /* Σ, Σ of squares */
    double base, base2, both;
    double kld, kld2;
    double diff, diff2, diff4;
};
void fm_tally_add(struct fm_tally *t, const struct fm_score *s);

/* Mean and its standard error, sqrt((Σx²/n − mean²)/(n − 1)), as llama.cpp; the error of fewer than two is 0. */
struct fm_estimate fm_tally_mean(double sum, double sum2, uint64_t n);
/* e^x of an estimate, error by the first derivative. */
struct fm_estimate fm_tally_exp(struct fm_estimate x);
/* Everything in r that comes from the tally alone. */
void fm_tally_report(const struct fm_tally *t, struct fm_judge_result *r);

/* Sorts x[n], n >= 1, and fills q: minimum, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9 % and maximum, linear between ranks. */
void fm_tally_quantiles(double *x, uint64_t n, double q[FM_JUDGE_QUANTILES]);
extern const double fm_judge_quantiles[FM_JUDGE_QUANTILES];

#endif
