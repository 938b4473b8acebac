/* Rows of logits as log-probabilities, in double and in one fixed order: the same bits on any machine and thread. */
#ifndef FM_RUN_LOGPROB_H
#define FM_RUN_LOGPROB_H

#include <stdbool.h>
#include <stdint.h>

/* log Σ e^z[i] of n >= 1 logits.  NaN when one of them is not finite. */
double fm_row_lse(const float *z, int n);

/* Index of the largest, of equals the first. */
int fm_row_top(const float *z, int n);

/* p from the logits z, q from the logits y, both [n]: both lse as above, kld = Σ p·(ln p − ln q), exactly 0 where the rows
 * are the same.  All NaN when a logit is not finite. */
struct fm_row_pair {
    double lse_p, lse_q, kld;
};
struct fm_row_pair fm_row_compare(const float *z, const float *y, int n);

/* Log-probabilities in 16 bits, as llama.cpp's perplexity tool keeps them:
 *
 *   scale f32 | low f32 | code u16 [n, rounded up to even]      ln p[i] = scale·code[i] + low
 *
 * 65535 is the largest ln p, 0 the smallest or the largest − 16, whichever is more: what lies lower is raised to it. */
static inline int fm_coded_words(int n) { return 4 + (n + n % 2); } /* uint16_t per row */
/* words[fm_coded_words(n)] from logits z[n] whose fm_row_lse is lse. */
void fm_row_encode(uint16_t *words, const float *z, int n, double lse);
/* False when the row is none: scale and low not finite, or probabilities above 1. */
bool fm_row_is_coded(const uint16_t *words);
double fm_coded_logprob(const uint16_t *words, int i);
int fm_coded_top(const uint16_t *words, int n);
/* Σ p·(ln p − ln q), p from a coded row, q from the logits y whose fm_row_lse is lse.  As llama.cpp: entries with
 * ln p <= −16, which stand for anything smaller, count as nothing, and nothing is scaled to sum 1.  So this may be a
 * little below 0. */
double fm_coded_kld(const uint16_t *words, const float *y, int n, double lse);

/* ln x of a normal x > 0, error below 2e-16·max(1, |ln x|). */
double fm_log_det(double x);

#endif
