/* See logprob.h.
 *
 * e^x = 2^k·e^r, k = x/ln 2 rounded, |r| <= 0.3466, e^r by its Taylor series to r^11: what is left out is below
 * 0.3466^12/12! = 7e-15.  Eight partial sums, lane i mod 8, then added pairwise.  The vectors are the compiler's own, two
 * doubles on every machine, so that there is one order only. */
#include "run/logprob.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/expd.h"

typedef double pair __attribute__((vector_size(16)));
typedef uint64_t pair_bits __attribute__((vector_size(16)));

enum { LANES = 8, PAIRS = LANES / 2 };
static const double LOWEST = -700; /* e^x is 1e-304 there and still normal: less counts as that */

/* e^x of x from LOWEST to 0. */
static inline pair exp_pair(pair x)
{
    static const double inv_ln2 = 0x1.71547652b82fep+0, ln2_hi = 0x1.62e42feep-1, ln2_lo = 0x1.a39ef35793c76p-33;
    static const double magic = 0x1.8p52; /* adding it rounds to an integer, which then stands in the low bits */
    static const double c[] = {1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                               1.0 / 24,      1.0 / 6,      1.0 / 2,     1,          1};
    const pair moved = x * inv_ln2 + magic, k = moved - magic;
    const pair r = (x - k * ln2_hi) - k * ln2_lo;
    pair p = r * (1.0 / 39916800) + c[0];
    for (int i = 1; i < 11; i++) p = p * r + c[i];
    return (pair)((pair_bits)p + ((pair_bits)moved << 52));
}

static inline double raise(double x) { return x < LOWEST ? LOWEST : x; }

static inline pair exp_of(double a, double b) { return exp_pair((pair){raise(a), raise(b)}); }

static double add_up(const pair s[PAIRS])
{
    const pair t = (s[0] + s[1]) + (s[2] + s[3]);
    return t[0] + t[1];
}

double fm_log_det(double x)
{
    int e;
    const double m = frexp(x, &e); /* 0.5 <= m < 1 */
    double y = (e - 1) * 0x1.62e42fefa39efp-1 + (2 * m - 1);
    for (int i = 0; i < 4; i++) { /* Halley: an error d becomes d³/12; it starts below 0.31 */
        const double p = fm_exp_det(y);
        y += 2 * (x - p) / (x + p);
    }
    return y;
}

int fm_row_top(const float *z, int n)
{
    int top = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[top]) top = i;
    return top;
}

/* The largest; false when one is not finite. */
static bool row_max(const float *z, int n, double *max)
{
    float m = z[0], zero = 0;
    for (int i = 0; i < n; i++) {
        m = z[i] > m ? z[i] : m;
        zero += z[i] * 0.0f; /* NaN of anything not finite */
    }
    *max = (double)m;
    return zero == 0;
}

double fm_row_lse(const float *z, int n)
{
    double m;
    pair s[PAIRS] = {0};
    if (!row_max(z, n, &m)) return NAN;
    const int even = n / LANES * LANES;
    for (int i = 0; i < even; i += LANES)
        for (int l = 0; l < PAIRS; l++) s[l] += exp_of((double)z[i + 2 * l] - m, (double)z[i + 2 * l + 1] - m);
    for (int i = even; i < n; i++) s[(i - even) / 2][(i - even) % 2] += exp_of((double)z[i] - m, 0)[0];
    return m + fm_log_det(add_up(s));
}

/* kld = Σ e·(z − y)/Σ e + lse_q − lse_p with e = e^(z − max): no logarithm per entry. */
struct fm_row_pair fm_row_compare(const float *z, const float *y, int n)
{
    double m;
    pair s[PAIRS] = {0}, t[PAIRS] = {0};
    const double lse_q = fm_row_lse(y, n);
    if (!row_max(z, n, &m) || isnan(lse_q)) return (struct fm_row_pair){NAN, NAN, NAN};
    const int even = n / LANES * LANES;
    for (int i = 0; i < even; i += LANES)
        for (int l = 0; l < PAIRS; l++) {
            const int a = i + 2 * l, b = a + 1;
            const pair e = exp_of((double)z[a] - m, (double)z[b] - m);
            s[l] += e;
            t[l] += e * (pair){(double)z[a] - (double)y[a], (double)z[b] - (double)y[b]};
        }
    for (int i = even; i < n; i++) {
        const int l = (i - even) / 2, k = (i - even) % 2;
        const double e = exp_of((double)z[i] - m, 0)[0];
        s[l][k] += e;
        t[l][k] += e * ((double)z[i] - (double)y[i]);
    }
    const double sum = add_up(s), lse_p = m + fm_log_det(sum);
    return (struct fm_row_pair){lse_p, lse_q, add_up(t) / sum + (lse_q - lse_p)};
}

/* ---- 16 bits --------------------------------------------------------------------------------------------------- */

enum { CODE_MAX = 65535, RANGE = 16 };

struct head {
    float scale, low;
};

static struct head head_of(const uint16_t *words)
{
    struct head h;
    memcpy(&h, words, sizeof h);
    return h;
}

void fm_row_encode(uint16_t *words, const float *z, int n, double lse)
{
    float max = z[0], min = z[0];
    for (int i = 1; i < n; i++) {
        max = z[i] > max ? z[i] : max;
        min = z[i] < min ? z[i] : min;
    }
    min = min > max - RANGE ? min : max - RANGE;
    const struct head h = {(max - min) / CODE_MAX, (float)((double)min - lse)};
    const float per = h.scale > 0 ? 1 / h.scale : 0;
    memcpy(words, &h, sizeof h);
    words += 4;
    for (int i = 0; i < n; i++) {
        const float code = z[i] > min ? per * (z[i] - min) : 0; /* may round to just above the largest */
        words[i] = (uint16_t)(code < CODE_MAX ? lrintf(code) : CODE_MAX);
    }
    if (n % 2) words[n] = 0;
}

bool fm_row_is_coded(const uint16_t *words)
{
    const struct head h = head_of(words);
    const double most = 1e-3; /* ln of the largest probability, that may be 1 and rounded */
    return isfinite(h.scale) && isfinite(h.low) && h.scale >= 0 && (double)h.low + (double)h.scale * CODE_MAX <= most;
}

static inline double decode(struct head h, uint16_t code) { return (double)h.scale * code + (double)h.low; }

double fm_coded_logprob(const uint16_t *words, int i) { return decode(head_of(words), words[4 + i]); }

int fm_coded_top(const uint16_t *words, int n)
{
    int top = 0;
    for (int i = 1; i < n; i++)
        if (words[4 + i] > words[4 + top]) top = i;
    return top;
}

/* p·(ln p − ln q) of entries a and b, 0 where ln p is at the floor. */
static inline pair coded_terms(struct head h, const uint16_t *code, const float *y, int a, int b, double lse)
{
    const double pa = decode(h, code[a]), pb = decode(h, code[b]);
    const pair p = exp_of(pa < 0 ? pa : 0, pb < 0 ? pb : 0);
    const double ta = pa > -RANGE ? pa - (double)y[a] + lse : 0, tb = pb > -RANGE ? pb - (double)y[b] + lse : 0;
    return p * (pair){ta, tb};
}

double fm_coded_kld(const uint16_t *words, const float *y, int n, double lse)
{
    const struct head h = head_of(words);
    const uint16_t *code = words + 4;
    const int even = n / LANES * LANES;
    pair t[PAIRS] = {0};
    for (int i = 0; i < even; i += LANES)
        for (int l = 0; l < PAIRS; l++) t[l] += coded_terms(h, code, y, i + 2 * l, i + 2 * l + 1, lse);
    for (int i = even; i < n; i++) t[(i - even) / 2][(i - even) % 2] += coded_terms(h, code, y, i, i, lse)[0];
    return add_up(t);
}
