/* Least-squares fits that the encoders share: weighted by importance, exact about what the decoder will see.
 * Private to this folder. */
#ifndef FM_QUANT_FIT_H
#define FM_QUANT_FIT_H

#include "quant/blocks.h"

enum { FM_FIT_MAX = 256, FM_FIT_RUNS = 16 };

/* A block in work.  x: finite, at most 2^40 in size.  w: 0 … 1, not all 0. */
struct fm_fit {
    float x[FM_FIT_MAX], w[FM_FIT_MAX];
    int8_t q[FM_FIT_MAX];                        /* results of fm_fit_runs*: codes, */
    int8_t scale[FM_FIT_RUNS], min[FM_FIT_RUNS]; /* whole multiples per run         */
    uint16_t d, dmin;                            /* of these, f16                   */
};

/* runs of run elements; codes −top … top−1 and scales −scales … scales−1, or with a minimum 0 … top and 0 … scales. */
struct fm_fit_shape {
    int runs, run, top, scales;
};

/* weights NULL: all equal.  Hostile numbers are tamed here (fm_finite; weights that are no weights count as 0). */
void fm_fit_load(struct fm_fit *f, const float *src, const float *weights, int n);

/* Copies n values (a multiple of 8) with NaN as 0 and infinities as the largest number; returns the largest size. */
float fm_fit_finite(float *x, const float *src, int n);
/* The element of largest size, with its sign. */
float fm_fit_max(const float *x, int n);
/* d that makes Σ w·(x − d·q)² small for q = lo … hi, lo < 0; its sign is free. */
float fm_fit_scale(const float *x, const float *w, int n, int lo, int hi);
/* d >= 0 and m that make Σ w·(x − d·q − m)² small for q = 0 … top; never_above: m <= 0. */
void fm_fit_affine(const float *x, const float *w, int n, int top, bool never_above, float *d, float *m);
/* q[i] = the code in lo … hi that brings d·q + m nearest to x[i]. */
void fm_fit_codes(int8_t *q, const float *x, int n, float d, float m, int lo, int hi);

/* Blocks of two levels: value = d·scale·q, and value = d·scale·q − dmin·min. */
void fm_fit_runs(struct fm_fit *f, const struct fm_fit_shape *s);
void fm_fit_runs_affine(struct fm_fit *f, const struct fm_fit_shape *s);

/* The f16 nearest to a scale, but never so much smaller that codes would be cut off: below f16's normal numbers the
 * steps are coarse, and too small a scale hurts more than too large a one. */
uint16_t fm_scale_f16(float x);

static inline float fm_store_scale(void *p, float x)
{
    uint16_t h = fm_scale_f16(x);
    fm_store_u16(p, h);
    return fm_f16_to_f32(h);
}

#endif
