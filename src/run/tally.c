/* See tally.h. */
#include "run/tally.h"

#include <math.h>
#include <stdlib.h>

const double fm_judge_quantiles[FM_JUDGE_QUANTILES] = {0,    0.01, 0.05, 0.10, 0.25,  0.50,
                                                       0.75, 0.90, 0.95, 0.99, 0.999, 1};

void fm_tally_add(struct fm_tally *t, const struct fm_score *s)
{
    const double d2 = s->p_diff * s->p_diff;
    t->n++;
    t->nll += s->nll;
    t->nll2 += s->nll * s->nll;
    t->base += s->nll_base;
    t->base2 += s->nll_base * s->nll_base;
    t->both += s->nll * s->nll_base;
    t->kld += s->kld;
    t->kld2 += s->kld * s->kld;
    t->diff += s->p_diff;
    t->diff2 += d2;
    t->diff4 += d2 * d2;
    t->n_same += s->same_top;
}

struct fm_estimate fm_tally_mean(double sum, double sum2, uint64_t n)
{
    if (!n) return (struct fm_estimate){NAN, NAN};
    const double mean = sum / (double)n, var = sum2 / (double)n - mean * mean;
    return (struct fm_estimate){mean, n > 1 && var > 0 ? sqrt(var / (double)(n - 1)) : 0};
}

struct fm_estimate fm_tally_exp(struct fm_estimate x)
{
    const double e = exp(x.value);
    return (struct fm_estimate){e, e * x.error};
}

static double covariance_of_means(const struct fm_tally *t)
{
    const double n = (double)t->n;
    return t->n > 1 ? (t->both / n - t->nll / n * (t->base / n)) / (n - 1) : 0;
}

static double root(double x) { return x > 0 ? sqrt(x) : 0; }

void fm_tally_report(const struct fm_tally *t, struct fm_judge_result *r)
{
    r->scored = t->n;
    r->nll = fm_tally_mean(t->nll, t->nll2, t->n);
    r->ppl = fm_tally_exp(r->nll);
    if (!r->compared) return;
    const struct fm_estimate base = fm_tally_mean(t->base, t->base2, t->n);
    const double cov = covariance_of_means(t), a = r->nll.error, b = base.error, same = (double)t->n_same;
    r->ppl_base = fm_tally_exp(base);
    r->ln_ratio = (struct fm_estimate){r->nll.value - base.value, root(a * a + b * b - 2 * cov)};
    r->ratio = fm_tally_exp(r->ln_ratio);
    r->correlation = a > 0 && b > 0 ? cov / (a * b) : NAN;
    r->kld = fm_tally_mean(t->kld, t->kld2, t->n);
    r->same_top = fm_tally_mean(same, same, t->n);
    r->p_diff = fm_tally_mean(t->diff, t->diff2, t->n);
    const struct fm_estimate square = fm_tally_mean(t->diff2, t->diff4, t->n);
    r->p_diff_rms.value = root(square.value);
    r->p_diff_rms.error = square.value > 0 ? 0.5 * square.error / r->p_diff_rms.value : 0;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void fm_tally_quantiles(double *x, uint64_t n, double q[FM_JUDGE_QUANTILES])
{
    qsort(x, n, sizeof *x, by_value);
    for (int i = 0; i < FM_JUDGE_QUANTILES; i++) {
        const double at = fm_judge_quantiles[i] * (double)(n - 1);
        const uint64_t k = (uint64_t)at, next = k + 1 < n ? k + 1 : k;
        const double part = at - (double)k;
        q[i] = part > 0 ? (1 - part) * x[k] + part * x[next] : x[k];
    }
}
