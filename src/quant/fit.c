/* Least-squares fits of scales and minima.
 *
 * For fixed codes the best scale is a formula; for a fixed scale the best code is the nearest.  So: try a row of scales
 * around the one that just covers the block, compute codes, solve, keep the best; then try scales close to that one.
 * Eight scales are tried at once, one in each lane (lanes.h).  Two-level blocks are fitted run by run, the results rounded
 * to whole multiples of the block's scale, and the neighbouring multiples tried against the true error; last, the block's
 * scale is solved for again.
 *
 * We differ from ggml in weighting: without importance it weights by size of x, we minimise the plain squared error. */
#include "quant/fit.h"

#include "quant/lanes.h"

static const float limit = 0x1p40f; /* f16 scales reach 2^16, times 63·31 */

static float largest(const float *x, int n)
{
    fm_lanes top = fm_lanes_set(0);
    float max = 0;
    for (int i = 0; i < n; i += FM_LANES) {
        const fm_lanes v = fm_lanes_load(x + i);
        top = fm_lanes_pick(v > top, v, top);
    }
    (void)fm_lanes_above(top, &max);
    return max;
}

void fm_fit_load(struct fm_fit *f, const float *src, const float *weights, int n)
{
    const fm_lanes hi = fm_lanes_set(limit), lo = fm_lanes_set(-limit), none = fm_lanes_set(0), one = fm_lanes_set(1);
    for (int i = 0; i < n; i += FM_LANES) {
        fm_lanes x = fm_lanes_load(src + i);
        x = fm_lanes_pick(x == x, x, none);
        x = fm_lanes_pick(x < hi, x, hi);
        fm_lanes_store(f->x + i, fm_lanes_pick(x > lo, x, lo));
        fm_lanes_store(f->w + i, one);
    }
    if (!weights) return;
    const fm_lanes max = fm_lanes_set(0x1p100f); /* far beyond any importance: its inverse is a number, too */
    for (int i = 0; i < n; i += FM_LANES) {
        fm_lanes w = fm_lanes_load(weights + i);
        w = fm_lanes_pick(w > none, w, none);
        fm_lanes_store(f->w + i, fm_lanes_pick(w < max, w, max));
    }
    const float top = largest(f->w, n);
    for (int i = 0; i < n; i += FM_LANES)
        fm_lanes_store(f->w + i, top > 0x1p-100f ? fm_lanes_load(f->w + i) * fm_lanes_set(1 / top) : one);
}

float fm_fit_finite(float *x, const float *src, int n)
{
    const fm_lanes hi = fm_lanes_set(0x1.fffffep127f), none = fm_lanes_set(0);
    fm_lanes top = none;
    float max = 0;
    for (int i = 0; i < n; i += FM_LANES) {
        fm_lanes v = fm_lanes_load(src + i);
        v = fm_lanes_pick(v == v, v, none);
        v = fm_lanes_pick(v < hi, v, hi);
        v = fm_lanes_pick(v > -hi, v, -hi);
        fm_lanes_store(x + i, v);
        const fm_lanes size = (fm_lanes)((fm_mask)v & 0x7FFFFFFF);
        top = fm_lanes_pick(size > top, size, top);
    }
    (void)fm_lanes_above(top, &max);
    return max;
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
    fm_lanes_codes(q, x, n, m, d != 0 ? 1 / d : 0, lo, hi);
}

/* ---- one scale ---- */

/* For each lane the best scale for the codes that inv gives, and how much of Σ w·x² it explains. */
FM_INLINE fm_lanes solve_scales(const float *x, const float *w, int n, fm_lanes inv, float lo, float hi, fm_lanes *d)
{
    fm_lanes xq = fm_lanes_set(0), qq = xq;
    const fm_lanes none = xq;
    for (int i = 0; i < n; i++) {
        const fm_lanes q = fm_lanes_code(fm_lanes_set(x[i]) * inv, lo, hi), wq = fm_lanes_set(w[i]) * q;
        xq += wq * fm_lanes_set(x[i]);
        qq += wq * q;
    }
    *d = fm_lanes_pick(qq > none, xq / qq, none);
    return *d * xq;
}

float fm_fit_scale(const float *x, const float *w, int n, int lo, int hi)
{
    enum { ROWS = 3 }; /* of eight scales each */
    const fm_lanes step = {-0.0f, -0.1f, -0.2f, -0.3f, -0.4f, -0.5f, -0.6f, -0.7f},
                   close = {1, 0.97f, 0.98f, 0.99f, 1.01f, 1.02f, 1.03f, 0.995f};
    const float max = fm_fit_max(x, n), l = (float)lo, h = (float)hi;
    float best = 0, gain = 0;
    fm_lanes d;
    if (!(max > 0x1p-60f || max < -0x1p-60f)) return 0;
    const float per = 1 / max;
    for (int r = 0; r < ROWS; r++) {
        const fm_lanes inv = (step + fm_lanes_set(l + 1.1f - 0.8f * (float)r)) * fm_lanes_set(per);
        const int at = fm_lanes_above(solve_scales(x, w, n, inv, l, h, &d), &gain);
        if (at >= 0) best = d[at];
    }
    if (best == 0) return 0;
    const int at = fm_lanes_above(solve_scales(x, w, n, close * fm_lanes_set(1 / best), l, h, &d), &gain);
    return at >= 0 ? d[at] : best;
}

/* ---- scale and minimum ---- */

/* Σ w·(x − d·q − m)² with the nearest codes, a pair of d and m in each lane. */
FM_INLINE fm_lanes errors_at(const float *x, const float *w, int n, fm_lanes d, fm_lanes m, float lo, float hi)
{
    fm_lanes sum = fm_lanes_set(0);
    const fm_lanes none = sum, inv = fm_lanes_pick(d != none, fm_lanes_set(1) / d, none);
    for (int i = 0; i < n; i++) {
        const fm_lanes v = fm_lanes_set(x[i]) - m, e = v - d * fm_lanes_code(v * inv, lo, hi);
        sum += fm_lanes_set(w[i]) * e * e;
    }
    return sum;
}

/* x of a run above a pivot, and the sums that do not depend on codes. */
struct above {
    float x[FM_FIT_MAX];
    const float *w;
    int n;
    float sw, sx, sxx;
    float m_max; /* minima are not above this */
};

/* For each lane d and m that are best for the codes of inv and m0, and how much less error they leave than d = m = 0. */
FM_INLINE fm_lanes solve_pairs(const struct above *a, fm_lanes inv, fm_lanes m0, float top, fm_lanes *d, fm_lanes *m)
{
    fm_lanes sq = fm_lanes_set(0), sqq = sq, sxq = sq;
    const fm_lanes none = sq, sw = fm_lanes_set(a->sw), sx = fm_lanes_set(a->sx), ceiling = fm_lanes_set(a->m_max);
    for (int i = 0; i < a->n; i++) {
        const fm_lanes x = fm_lanes_set(a->x[i]), q = fm_lanes_code((x - m0) * inv, 0, top);
        const fm_lanes wq = fm_lanes_set(a->w[i]) * q;
        sq += wq;
        sqq += wq * q;
        sxq += wq * x;
    }
    const fm_lanes det = sw * sqq - sq * sq;
    fm_lanes dd = fm_lanes_pick(det > none, (sw * sxq - sx * sq) / det, none);
    fm_lanes mm = fm_lanes_pick(det > none, (sqq * sx - sq * sxq) / det, sx / sw);
    const fm_mask high = mm > ceiling;
    mm = fm_lanes_pick(high, ceiling, mm);
    dd = fm_lanes_pick(high, fm_lanes_pick(sqq > none, (sxq - ceiling * sq) / sqq, none), dd);
    *d = fm_lanes_pick(dd > none, dd, none);
    *m = mm;
    const fm_lanes two = fm_lanes_set(2);
    return *d * (two * (sxq - mm * sq) - *d * sqq) + mm * (two * sx - mm * sw);
}

static bool take_best(fm_lanes gains, fm_lanes ds, fm_lanes ms, float *gain, float *d, float *m)
{
    const int at = fm_lanes_above(fm_lanes_pick(ds > fm_lanes_set(0), gains, fm_lanes_set(-1)), gain);
    if (at >= 0) *d = ds[at], *m = ms[at];
    return at >= 0;
}

void fm_fit_affine(const float *x, const float *w, int n, int top, bool never_above, float *d, float *m)
{
    enum { ROWS = 3, ROUNDS = 2 };
    const fm_lanes step = {0, 0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f},
                   close = {1, 0.97f, 0.98f, 0.99f, 1.01f, 1.02f, 1.03f, 0.995f};
    struct above a = {.w = w, .n = n};
    float min = x[0], max = x[0], gain = 0;
    for (int i = 0; i < n; i++) {
        if (x[i] < min) min = x[i];
        if (x[i] > max) max = x[i];
    }
    if (never_above && min > 0) min = 0;
    *d = 0, *m = min;
    if (!(max - min > 0x1p-60f)) return;
    fm_lanes sw = fm_lanes_set(0), sx = sw, ds, ms;
    for (int i = 0; i < n; i += FM_LANES) {
        const fm_lanes v = fm_lanes_load(x + i) - fm_lanes_set(min), wv = fm_lanes_load(w + i);
        fm_lanes_store(a.x + i, v);
        sw += wv;
        sx += wv * v;
    }
    a.sw = fm_lanes_sum(sw), a.sx = fm_lanes_sum(sx);
    a.m_max = never_above ? -min : 0x1p100f;
    if (!(a.sw > 0)) return;
    const float range = max - min, t = (float)top;
    float d1 = range / t, m1 = 0;
    for (int cut = 0; cut <= (top < 8 ? 2 : 0); cut++) /* few codes: it may pay to give up the lowest values */
        for (int r = 0; r < ROWS; r++) {
            const fm_lanes inv = (step + fm_lanes_set(t - 1.1f + 0.8f * (float)r)) * fm_lanes_set(1 / range);
            const fm_lanes gains = solve_pairs(&a, inv, fm_lanes_set(-0.25f * (float)cut * min), t, &ds, &ms);
            (void)take_best(gains, ds, ms, &gain, &d1, &m1);
        }
    for (int r = 0; r < ROUNDS; r++) {
        const fm_lanes gains = solve_pairs(&a, close * fm_lanes_set(1 / d1), fm_lanes_set(m1), t, &ds, &ms);
        if (!take_best(gains, ds, ms, &gain, &d1, &m1)) break;
    }
    *d = d1;
    *m = m1 + min;
}

/* ---- two levels ---- */

uint16_t fm_scale_f16(float x)
{
    float a = x < 0 ? -x : x;
    uint16_t h = fm_f32_to_f16(a > FM_F16_MAX ? FM_F16_MAX : a);
    if (fm_f16_to_f32(h) < a * (127.0f / 128) && h < 0x7BFF) h++;
    return (uint16_t)(h | (x < 0 ? 0x8000 : 0));
}

/* The lane of least error; lanes that repeat an earlier one never win. */
static int least_of(fm_lanes errors, float *least)
{
    int at = 0;
    for (int i = 1; i < FM_LANES; i++)
        if (errors[i] < errors[at]) at = i;
    *least = errors[at];
    return at;
}

static float clamp(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }

/* Picks each run's multiple of d, given the scale it wants; returns the error of all. */
static double choose_scales(struct fm_fit *f, const struct fm_fit_shape *s, const float *want)
{
    static const float near[FM_LANES] = {0, -1, 1, -2, 2, 0, 0, 0};
    const float d = fm_f16_to_f32(f->d), lo = (float)-s->top, hi = (float)(s->top - 1);
    double sum = 0;
    for (int r = 0; r < s->runs; r++) {
        const float *x = f->x + r * s->run, *w = f->w + r * s->run;
        const int at = d != 0 ? fm_round_clamp(want[r] / d, -s->scales, s->scales - 1) : 0;
        fm_lanes multiple;
        float least;
        for (int i = 0; i < FM_LANES; i++)
            multiple[i] = clamp((float)at + near[i], (float)-s->scales, (float)(s->scales - 1));
        const fm_lanes errors = errors_at(x, w, s->run, fm_lanes_set(d) * multiple, fm_lanes_set(0), lo, hi);
        const float best = multiple[least_of(errors, &least)];
        f->scale[r] = (int8_t)best;
        fm_fit_codes(f->q + r * s->run, x, s->run, d * best, 0, -s->top, s->top - 1);
        sum += (double)least;
    }
    return sum;
}

/* Sums over a run with its codes. */
struct sums {
    double w, x, q, qq, xq;
};

static struct sums sum_run(const struct fm_fit *f, int r, int run)
{
    fm_lanes w = fm_lanes_set(0), x = w, q = w, qq = w, xq = w;
    for (int i = r * run; i < (r + 1) * run; i += FM_LANES) {
        const int8_t *c = f->q + i;
        const fm_lanes v = {c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]}, wv = fm_lanes_load(f->w + i),
                       wx = wv * fm_lanes_load(f->x + i), wq = wv * v;
        w += wv;
        x += wx;
        q += wq;
        qq += wq * v;
        xq += wx * v;
    }
    return (struct sums){(double)fm_lanes_sum(w), (double)fm_lanes_sum(x), (double)fm_lanes_sum(q),
                         (double)fm_lanes_sum(qq), (double)fm_lanes_sum(xq)};
}

/* The block's scale that fits best to all codes and multiples as they are. */
static float solve_block(const struct fm_fit *f, const struct fm_fit_shape *s)
{
    double xy = 0, yy = 0;
    for (int r = 0; r < s->runs; r++) {
        const struct sums t = sum_run(f, r, s->run);
        const double scale = f->scale[r];
        xy += scale * t.xq;
        yy += scale * scale * t.qq;
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

/* The same with minima: the wanted pair and those beside it; not those where one rises and the other falls, since a larger
 * scale wants a larger minimum. */
static double choose_pairs(struct fm_fit *f, const struct fm_fit_shape *s, const float *want, const float *want_min)
{
    static const float near[FM_LANES] = {0, 0, 0, -1, 1, -1, 1, 2}, near_min[FM_LANES] = {0, -1, 1, 0, 0, -1, 1, 1};
    const float d = fm_f16_to_f32(f->d), dmin = fm_f16_to_f32(f->dmin), top = (float)s->scales;
    double sum = 0;
    for (int r = 0; r < s->runs; r++) {
        const float *x = f->x + r * s->run, *w = f->w + r * s->run;
        const int at = d > 0 ? fm_round_clamp(want[r] / d, 0, s->scales) : 0;
        const int low = dmin > 0 ? fm_round_clamp(-want_min[r] / dmin, 0, s->scales) : 0;
        fm_lanes multiple, minimum;
        float least;
        for (int i = 0; i < FM_LANES; i++) {
            multiple[i] = clamp((float)at + near[i], 0, top);
            minimum[i] = clamp((float)low + near_min[i], 0, top);
        }
        const int best = least_of(
            errors_at(x, w, s->run, fm_lanes_set(d) * multiple, fm_lanes_set(-dmin) * minimum, 0, (float)s->top),
            &least);
        f->scale[r] = (int8_t)multiple[best];
        f->min[r] = (int8_t)minimum[best];
        fm_fit_codes(f->q + r * s->run, x, s->run, d * multiple[best], -dmin * minimum[best], 0, s->top);
        sum += (double)least;
    }
    return sum;
}

static void solve_block_affine(struct fm_fit *f, const struct fm_fit_shape *s)
{
    double xy = 0, yy = 0, xz = 0, zz = 0, yz = 0; /* x ≈ d·y − dmin·z */
    for (int r = 0; r < s->runs; r++) {
        const struct sums t = sum_run(f, r, s->run);
        const double scale = f->scale[r], min = f->min[r];
        xy += scale * t.xq;
        yy += scale * scale * t.qq;
        xz += min * t.x;
        zz += min * min * t.w;
        yz += scale * min * t.q;
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
