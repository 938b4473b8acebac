/* Least-squares fits of scales and minima.
 *
 * For fixed codes the best scale is a formula; for a fixed scale the best code is the nearest.  So: try a row of scales
 * around the one that just covers the block, compute codes, solve, keep the best; then alternate a few times (Lloyd).
 * Two-level blocks are fitted run by run, the results rounded to whole multiples of the block's scale, and the
 * neighbouring multiples tried against the true error; last, the block's scale is solved for again.
 *
 * We differ from ggml in weighting: without importance it weights by size of x, we minimise the plain squared error. */
#include "quant/fit.h"

static const float limit = 0x1p40f; /* f16 scales reach 2^16, times 63·31 */

void fm_fit_load(struct fm_fit *f, const float *src, const float *weights, int n)
{
    float top = 0;
    for (int i = 0; i < n; i++) {
        float x = fm_finite(src[i]);
        f->x[i] = x > limit ? limit : x < -limit ? -limit : x;
        f->w[i] = weights && weights[i] > 0 ? fm_finite(weights[i]) : 0;
        if (f->w[i] > top) top = f->w[i];
    }
    for (int i = 0; i < n; i++) f->w[i] = top > 0 ? f->w[i] / top : 1;
}

float fm_fit_max(const float *x, int n)
{
    float amax = 0, max = 0;
    for (int i = 0; i < n; i++) {
        float a = x[i] < 0 ? -x[i] : x[i];
        if (a > amax) amax = a, max = x[i];
    }
    return max;
}

void fm_fit_codes(int8_t *q, const float *x, int n, float d, float m, int lo, int hi)
{
    float inv = d != 0 ? 1 / d : 0;
    for (int i = 0; i < n; i++) q[i] = (int8_t)fm_round_clamp((x[i] - m) * inv, lo, hi);
}

/* ---- one scale ---- */

/* The best scale for the codes that inv gives; returns how much of Σ w·x² it explains. */
static float solve_scale(const float *x, const float *w, int n, float inv, int lo, int hi, float *d)
{
    float xq = 0, qq = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)fm_round_clamp(x[i] * inv, lo, hi);
        xq += w[i] * x[i] * q;
        qq += w[i] * q * q;
    }
    *d = qq > 0 ? xq / qq : 0;
    return *d * xq;
}

float fm_fit_scale(const float *x, const float *w, int n, int lo, int hi)
{
    enum { STEPS = 9, ROUNDS = 2 };
    float max = fm_fit_max(x, n), best = 0, gain = 0, d;
    if (!(max > 0x1p-60f || max < -0x1p-60f)) return 0;
    for (int s = -STEPS; s <= STEPS; s++) {
        float g = solve_scale(x, w, n, ((float)lo - 0.1f * (float)s) / max, lo, hi, &d);
        if (g > gain) gain = g, best = d;
    }
    for (int r = 0; r < ROUNDS && best != 0; r++) {
        float g = solve_scale(x, w, n, 1 / best, lo, hi, &d);
        if (!(g > gain)) break;
        gain = g, best = d;
    }
    return best;
}

/* ---- scale and minimum ---- */

/* Σ w·(x − d·q − m)² with the nearest codes. */
static float error_at(const float *x, const float *w, int n, float d, float m, int lo, int hi)
{
    float inv = d != 0 ? 1 / d : 0, sum = 0;
    for (int i = 0; i < n; i++) {
        float e = x[i] - (d * (float)fm_round_clamp((x[i] - m) * inv, lo, hi) + m);
        sum += w[i] * e * e;
    }
    return sum;
}

/* The best d and m for the codes that inv and min give. */
static void solve_affine(const float *x, const float *w, int n, float inv, float min, int top, bool never_above,
                         float *d, float *m)
{
    float sw = 0, sx = 0, sq = 0, sqq = 0, sxq = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)fm_round_clamp((x[i] - min) * inv, 0, top), wq = w[i] * q;
        sw += w[i];
        sx += w[i] * x[i];
        sq += wq;
        sqq += wq * q;
        sxq += wq * x[i];
    }
    float det = sw * sqq - sq * sq;
    *d = det > 0 ? (sw * sxq - sx * sq) / det : 0;
    *m = det > 0 ? (sqq * sx - sq * sxq) / det : sx / sw;
    if (never_above && *m > 0) {
        *m = 0;
        *d = sqq > 0 ? sxq / sqq : 0;
    }
    if (*d < 0) *d = 0;
}

void fm_fit_affine(const float *x, const float *w, int n, int top, bool never_above, float *d, float *m)
{
    enum { STEPS = 10, ROUNDS = 3 };
    float min = x[0], max = x[0], sum = 0;
    for (int i = 0; i < n; i++) {
        if (x[i] < min) min = x[i];
        if (x[i] > max) max = x[i];
        sum += w[i];
    }
    if (never_above && min > 0) min = 0;
    *d = 0, *m = min;
    if (!(max - min > 0x1p-60f) || !(sum > 0)) return;
    float least = error_at(x, w, n, *d = (max - min) / (float)top, *m, 0, top), d1, m1;
    for (int cut = 0; cut <= (top < 8 ? 2 : 0); cut++) /* few codes: it may pay to give up the lowest values */
        for (int s = -STEPS; s <= STEPS; s++) {        /* scales beside (max − min)/top */
            float inv = ((float)top + 0.1f * (float)s) / (max - min);
            solve_affine(x, w, n, inv, min * (1 - 0.25f * (float)cut), top, never_above, &d1, &m1);
            float e = error_at(x, w, n, d1, m1, 0, top);
            if (e < least && d1 > 0) least = e, *d = d1, *m = m1;
        }
    for (int r = 0; r < ROUNDS; r++) {
        solve_affine(x, w, n, 1 / *d, *m, top, never_above, &d1, &m1);
        float e = error_at(x, w, n, d1, m1, 0, top);
        if (!(e < least && d1 > 0)) break;
        least = e, *d = d1, *m = m1;
    }
}

/* ---- two levels ---- */

uint16_t fm_scale_f16(float x)
{
    float a = x < 0 ? -x : x;
    uint16_t h = fm_f32_to_f16(a > FM_F16_MAX ? FM_F16_MAX : a);
    if (fm_f16_to_f32(h) < a * (127.0f / 128) && h < 0x7BFF) h++;
    return (uint16_t)(h | (x < 0 ? 0x8000 : 0));
}

/* Picks each run's multiple of d, given the scale it wants; returns the error of all. */
static double choose_scales(struct fm_fit *f, const struct fm_fit_shape *s, const float *want)
{
    float d = fm_f16_to_f32(f->d);
    double sum = 0;
    for (int r = 0; r < s->runs; r++) {
        const float *x = f->x + r * s->run, *w = f->w + r * s->run;
        int at = d != 0 ? fm_round_clamp(want[r] / d, -s->scales, s->scales - 1) : 0, best = at;
        float least = error_at(x, w, s->run, d * (float)at, 0, -s->top, s->top - 1);
        for (int t = at - 1; t <= at + 1; t += 2) {
            if (t < -s->scales || t >= s->scales) continue;
            float e = error_at(x, w, s->run, d * (float)t, 0, -s->top, s->top - 1);
            if (e < least) least = e, best = t;
        }
        f->scale[r] = (int8_t)best;
        fm_fit_codes(f->q + r * s->run, x, s->run, d * (float)best, 0, -s->top, s->top - 1);
        sum += (double)least;
    }
    return sum;
}

/* The block's scale that fits best to all codes and multiples as they are. */
static float solve_block(const struct fm_fit *f, const struct fm_fit_shape *s)
{
    double xy = 0, yy = 0;
    for (int i = 0; i < s->runs * s->run; i++) {
        double y = f->scale[i / s->run] * f->q[i];
        xy += (double)f->w[i] * (double)f->x[i] * y;
        yy += (double)f->w[i] * y * y;
    }
    return yy > 0 ? (float)(xy / yy) : 0;
}

void fm_fit_runs(struct fm_fit *f, const struct fm_fit_shape *s)
{
    float want[FM_FIT_RUNS];
    for (int r = 0; r < s->runs; r++)
        want[r] = fm_fit_scale(f->x + r * s->run, f->w + r * s->run, s->run, -s->top, s->top - 1);
    f->d = fm_scale_f16(fm_fit_max(want, s->runs) / (float)-s->scales);
    double sum = choose_scales(f, s, want);
    struct fm_fit again = *f;
    again.d = fm_scale_f16(solve_block(f, s));
    if (again.d != f->d && choose_scales(&again, s, want) < sum) *f = again;
}

/* The same with minima: nine pairs around the wanted one. */
static double choose_pairs(struct fm_fit *f, const struct fm_fit_shape *s, const float *want, const float *want_min)
{
    float d = fm_f16_to_f32(f->d), dmin = fm_f16_to_f32(f->dmin);
    double sum = 0;
    for (int r = 0; r < s->runs; r++) {
        const float *x = f->x + r * s->run, *w = f->w + r * s->run;
        int at = d > 0 ? fm_round_clamp(want[r] / d, 0, s->scales) : 0;
        int low = dmin > 0 ? fm_round_clamp(-want_min[r] / dmin, 0, s->scales) : 0, best = at, best_min = low;
        float least = error_at(x, w, s->run, d * (float)at, -dmin * (float)low, 0, s->top);
        for (int p = 0; p < 9; p++) {
            int t = at + p / 3 - 1, m = low + p % 3 - 1;
            if (p == 4 || t < 0 || m < 0 || t > s->scales || m > s->scales) continue;
            float e = error_at(x, w, s->run, d * (float)t, -dmin * (float)m, 0, s->top);
            if (e < least) least = e, best = t, best_min = m;
        }
        f->scale[r] = (int8_t)best;
        f->min[r] = (int8_t)best_min;
        fm_fit_codes(f->q + r * s->run, x, s->run, d * (float)best, -dmin * (float)best_min, 0, s->top);
        sum += (double)least;
    }
    return sum;
}

static void solve_block_affine(struct fm_fit *f, const struct fm_fit_shape *s)
{
    double xy = 0, yy = 0, xz = 0, zz = 0, yz = 0; /* x ≈ d·y − dmin·z */
    for (int i = 0; i < s->runs * s->run; i++) {
        double w = (double)f->w[i], x = (double)f->x[i], y = f->scale[i / s->run] * f->q[i], z = f->min[i / s->run];
        xy += w * x * y;
        yy += w * y * y;
        xz += w * x * z;
        zz += w * z * z;
        yz += w * y * z;
    }
    double det = yy * zz - yz * yz;
    if (!(det > 0)) return;
    double d = (xy * zz - xz * yz) / det, dmin = (xy * yz - xz * yy) / det;
    if (!(d > 0 && dmin >= 0)) return;
    f->d = fm_scale_f16((float)d);
    f->dmin = fm_scale_f16((float)dmin);
}

void fm_fit_runs_affine(struct fm_fit *f, const struct fm_fit_shape *s)
{
    float want[FM_FIT_RUNS], min[FM_FIT_RUNS];
    for (int r = 0; r < s->runs; r++)
        fm_fit_affine(f->x + r * s->run, f->w + r * s->run, s->run, s->top, true, &want[r], &min[r]);
    f->d = fm_scale_f16(fm_fit_max(want, s->runs) / (float)s->scales);
    f->dmin = fm_scale_f16(-fm_fit_max(min, s->runs) / (float)s->scales);
    double sum = choose_pairs(f, s, want, min);
    struct fm_fit again = *f;
    solve_block_affine(&again, s);
    if ((again.d != f->d || again.dmin != f->dmin) && choose_pairs(&again, s, want, min) < sum) *f = again;
}
