/* How fast this machine is: its limits, and what the operations reach.  For `fathom doctor` and bench/.
 *
 * A figure is the best of the runs that fit its time, at least one: other programs only ever make a run slower.  Nothing is
 * timed on zeros: memory is filled with random numbers, weights are encoded or random blocks with sane values. */
#ifndef FM_OP_CPU_LIMITS_H
#define FM_OP_CPU_LIMITS_H

#include "op/op.h"

/* Threads with their scratch, and the buffer that is read. */
struct fm_limits {
    int n_threads;
    struct fm_pool *pool[2]; /* [0]: one thread, [1]: n_threads */
    void *backend[2];
    struct fm_arena arena; /* nothing in it: what is measured asks for no scratch */
    double seconds;        /* for each figure */
    double noise;          /* sum over figures of median/best − 1 … */
    int n_figures;         /* … and how many there were */
};

/* threads 0: one per core; seconds: for each figure. */
enum fm_status fm_limits_open(struct fm_limits *l, int threads, double seconds, struct fm_error *err) FM_MUST_USE;
void fm_limits_close(struct fm_limits *l);

/* Best seconds of fn over [0, n) in equal parts per thread.  all: every thread, else one. */
double fm_limits_time(struct fm_limits *l, bool all, int n, fm_pool_fn fn, void *arg);

/* Bytes per second, reading that many bytes in order.  huge: with 2 MiB pages, where the system gives them: *got_huge says
 * whether it did (read from smaps; may be NULL). */
enum fm_status fm_limits_read(struct fm_limits *l, size_t bytes, bool huge, double rate[2], bool *got_huge,
                              struct fm_error *err) FM_MUST_USE;

/* How many int8 multiply-adds take the time of one with weights in that format: 1, or 2 where it is one of int16; 0 where it is one of
 * float32. */
int fm_limits_int8(enum fm_fmt fmt);

/* Multiply-adds per second of the fastest instruction of that kind; 0 and an empty name where there is no probe. */
double fm_limits_peak(struct fm_limits *l, bool int8, bool all, const char **name);

/* Seconds of y[T,N] = x[T,K]·W[N,K]ᵀ, as the engine would compute it (quantising x included).  W is packed where its format
 * is, in huge pages; else in 4 KiB pages, as mapped files are.  N·K elements in whole rows; K a multiple of 256. */
struct fm_limits_product {
    enum fm_fmt fmt;
    int T, N, K;
    bool all;
};
enum fm_status fm_limits_product(struct fm_limits *l, const struct fm_limits_product *p, double *seconds,
                                 struct fm_error *err) FM_MUST_USE;

/* Seconds of attention of T rows that end at position n−1 (T = n: a whole prompt). */
struct fm_limits_attn {
    struct fm_attn a;
    bool shared; /* values are the first Dv of the keys: latent attention */
    int T, n;
    bool all;
};
enum fm_status fm_limits_attn(struct fm_limits *l, const struct fm_limits_attn *p, double *seconds,
                              struct fm_error *err) FM_MUST_USE;

/* Seconds to hand a loop to all threads and wait for them. */
double fm_limits_loop(struct fm_limits *l);

#endif
