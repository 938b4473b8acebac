/* Inside of a bench: what a token costs, and what the machine allows. */
#ifndef FM_RUN_BENCH_H
#define FM_RUN_BENCH_H

#include "fathom.h"

/* The limits of one number of threads; seconds: for each figure; bytes: that a token reads. */
enum fm_status fm_bench_measure_limit(int threads, double seconds, double bytes, struct fm_bench_limit *out,
                                      struct fm_error *err) FM_MUST_USE;
/* Bytes of weights that one token reads on average. */
double fm_bench_active_bytes(const struct fm_forecast *f);
/* Fills in row's work per token from its depth and tokens.  exact: all of it in float32. */
void fm_bench_work(const struct fm_forecast *f, bool exact, struct fm_bench_row *row);
/* Fills in row's limit from its work. */
void fm_bench_bound(const struct fm_bench_limit *l, struct fm_bench_row *row);

#endif
