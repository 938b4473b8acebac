/* See sampler.h. */
#include "run/sampler.h"

#include <math.h>

#include "base/expd.h"
#include "base/status.h"
#include "op/op.h"

struct fm_sampling fm_sampling_default(void)
{
    return (struct fm_sampling){.temp = 0.7f, .top_k = 40, .top_p = 0.95f, .min_p = 0, .repeat = 1, .repeat_last = 64};
}

static enum fm_status check(const struct fm_sampling *h, struct fm_error *err)
{
    if (!(h->temp >= 0 && h->temp <= 1e6f))
        return fm_fail(err, FM_ERR_USAGE, "sampling: temperature %g: not >= 0", (double)h->temp);
    if (h->top_k < 0) return fm_fail(err, FM_ERR_USAGE, "sampling: top-k %d: negative", h->top_k);
    if (!(h->top_p > 0 && h->top_p <= 1))
        return fm_fail(err, FM_ERR_USAGE, "sampling: top-p %g: not in (0, 1]", (double)h->top_p);
    if (!(h->min_p >= 0 && h->min_p <= 1))
        return fm_fail(err, FM_ERR_USAGE, "sampling: min-p %g: not in [0, 1]", (double)h->min_p);
    if (!(h->repeat > 0 && h->repeat <= 1e6f))
        return fm_fail(err, FM_ERR_USAGE, "sampling: repetition penalty %g: not > 0", (double)h->repeat);
    if (!(h->frequency >= -100 && h->frequency <= 100 && h->presence >= -100 && h->presence <= 100))
        return fm_fail(err, FM_ERR_USAGE, "sampling: penalties %g and %g: not in [-100, 100]", (double)h->frequency,
                       (double)h->presence);
    return FM_OK;
}

enum fm_status fm_sampler_init(struct fm_sampler *s, const struct fm_sampling *how, int vocab,
                               struct fm_candidate *work, uint8_t *seen, struct fm_error *err)
{
    FM_TRY(check(how, err));
    for (int i = 0; i < how->n_bias; i++)
        if (how->bias[i].id < 0 || how->bias[i].id >= vocab || !(how->bias[i].add >= -1e6f && how->bias[i].add <= 1e6f))
            return fm_fail(err, FM_ERR_USAGE, "sampling: bias of token %d: no such token, or no number",
                           (int)how->bias[i].id);
    *s = (struct fm_sampler){.how = *how, .vocab = vocab, .work = work, .seen = seen};
    fm_rng_init(&s->rng, how->seed);
    return FM_OK;
}

/* Positive logits are divided, others multiplied, once per distinct token (arXiv 1909.05858 §4.1, as implemented since). */
static void penalise(struct fm_sampler *s, const int32_t *history, int n)
{
    int from = s->how.repeat_last < 0 || s->how.repeat_last > n ? 0 : n - s->how.repeat_last;
    if (s->how.repeat == 1) return;
    for (int i = from; i < n; i++) {
        int32_t id = history[i];
        if (id < 0 || id >= s->vocab || s->seen[id]) continue;
        float *l = &s->work[id].logit;
        *l = *l > 0 ? *l / s->how.repeat : *l * s->how.repeat;
        s->seen[id] = 1;
    }
    for (int i = from; i < n; i++)
        if (history[i] >= 0 && history[i] < s->vocab) s->seen[history[i]] = 0;
}

static void add_bias(struct fm_sampler *s)
{
    for (int i = 0; i < s->how.n_bias; i++) {
        const struct fm_bias *b = &s->how.bias[i];
        s->work[b->id].logit = b->add <= -100 ? -HUGE_VALF : s->work[b->id].logit + b->add;
    }
}

/* Tokens of the answer lose frequency each time they were said, presence once (OpenAI's definition: logit − n·f − [n > 0]·p). */
static void discourage(struct fm_sampler *s, const int32_t *history, int n)
{
    if (s->how.frequency == 0 && s->how.presence == 0) return;
    for (int i = s->from; i < n; i++) {
        const int32_t id = history[i];
        if (id < 0 || id >= s->vocab) continue;
        s->work[id].logit -= s->how.frequency + (s->seen[id] ? 0 : s->how.presence);
        s->seen[id] = 1;
    }
    for (int i = s->from; i < n; i++)
        if (history[i] >= 0 && history[i] < s->vocab) s->seen[history[i]] = 0;
}

/* Higher logit first, ties: lower id. */
static bool better(struct fm_candidate a, struct fm_candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static int32_t best(const struct fm_candidate *c, int n)
{
    int at = 0;
    for (int i = 1; i < n; i++)
        if (better(c[i], c[at])) at = i;
    return c[at].id;
}

static bool has_bit(const uint64_t *bits, int i) { return bits[i / 64] >> i % 64 & 1; }

/* Candidates in id order without the impossible ones; returns how many. */
static int possible(struct fm_candidate *c, int n, const uint64_t *allowed)
{
    int m = 0;
    for (int i = 0; i < n; i++)
        if (c[i].logit > -HUGE_VALF && (!allowed || has_bit(allowed, i))) c[m++] = c[i]; /* false for NaN */
    return m;
}

static int32_t first_allowed(const uint64_t *allowed, int n)
{
    for (int i = 0; allowed && i < n; i++)
        if (has_bit(allowed, i)) return i;
    return 0;
}

static void sift(struct fm_candidate *c, int at, int n)
{
    for (;;) {
        int child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && better(c[child + 1], c[child])) child++;
        if (!better(c[child], c[at])) return;
        struct fm_candidate t = c[at];
        c[at] = c[child];
        c[child] = t;
        at = child;
    }
}

/* A heap gives the best ones in order without sorting the whole vocabulary. */
static void heapify(struct fm_candidate *c, int n)
{
    for (int i = n / 2 - 1; i >= 0; i--) sift(c, i, n);
}

/* Take the best of the heap c[n] off: it lands at c[n−1]. */
static void pop(struct fm_candidate *c, int n)
{
    struct fm_candidate t = c[0];
    c[0] = c[n - 1];
    c[n - 1] = t;
    sift(c, 0, n - 1);
}

static double weight(float logit, float top) { return fm_exp_det((double)logit - (double)top); }

/* Top-k, then the smallest set of best ones whose probability among those k reaches top-p.
 * The chosen are moved to the front, best first; returns how many. */
static int filter_top(struct fm_candidate *c, int n, int top_k, double top_p)
{
    int k = top_k && top_k < n ? top_k : n, popped = 0;
    if (k == n && top_p >= 1) return n;
    heapify(c, n);
    float top = c[0].logit;
    double total = 0, sum = 0;
    if (k < n)
        for (; popped < k; popped++) pop(c, n - popped);
    for (int i = k < n ? n - k : 0; i < n; i++) total += weight(c[i].logit, top);
    int keep = top_p < 1 ? 0 : k;
    for (; keep < k && (!keep || sum < top_p * total); keep++) {
        if (popped <= keep) pop(c, n - popped++);
        sum += weight(c[n - 1 - keep].logit, top);
    }
    for (int i = 0; i < n - 1 - i; i++) { /* best first: reverse */
        struct fm_candidate t = c[i];
        c[i] = c[n - 1 - i];
        c[n - 1 - i] = t;
    }
    return keep;
}

static float top_logit(const struct fm_candidate *c, int n)
{
    float top = c[0].logit;
    for (int i = 1; i < n; i++) top = c[i].logit > top ? c[i].logit : top;
    return top;
}

/* Keep those at least min_p times as likely as the likeliest. */
static int filter_min(struct fm_candidate *c, int n, double min_p)
{
    if (min_p <= 0) return n;
    float top = top_logit(c, n);
    int m = 0;
    for (int i = 0; i < n; i++)
        if (weight(c[i].logit, top) >= min_p) c[m++] = c[i];
    return m;
}

enum { BLOCK = 256, MARKS = 1024 };

/* Weights of n <= BLOCK candidates, likeliest of all: 1; returns their sum. */
static float weights(float *w, const struct fm_candidate *c, int n, float top, float temp)
{
    for (int i = 0; i < n; i++) w[i] = (c[i].logit - top) / temp;
    return fm_cpu_exp_sum(w, w, (size_t)n);
}

/* The first whose running sum passes a random share of the total.  Sums of blocks are noted on the way, so that the second walk
 * is a short one, over the same sums. */
static int32_t draw(struct fm_sampler *s, const struct fm_candidate *c, int n)
{
    const float top = top_logit(c, n), temp = s->how.temp;
    const int stride = ((n + MARKS - 1) / MARKS + BLOCK - 1) / BLOCK * BLOCK;
    float w[BLOCK];
    double marks[MARKS], total = 0;
    for (int i = 0; i < n; i += BLOCK) {
        if (i % stride == 0) marks[i / stride] = total;
        total += (double)weights(w, c + i, n - i < BLOCK ? n - i : BLOCK, top, temp);
    }
    const double want = fm_rng_uniform(&s->rng) * total;
    int at = (n - 1) / stride, last = -1;
    while (at && want < marks[at]) at--;
    double before = marks[at];
    for (int i = at * stride; i < n; i += BLOCK) {
        const int some = n - i < BLOCK ? n - i : BLOCK;
        const double behind = before + (double)weights(w, c + i, some, top, temp);
        double sum = before;
        for (int j = 0; j < some && want < behind; j++) {
            if (w[j] > 0) last = i + j;
            if (want < (sum += (double)w[j])) return c[i + j].id;
        }
        if (last >= 0)
            return c[last].id; /* rounding may leave the sum just below the block's: then the last that is possible */
        before = behind;
    }
    return best(c, n);
}

/* The likeliest of untouched logits, as best() of the possible ones. */
static int32_t greedy(const float *logits, int n)
{
    float top = -HUGE_VALF;
    int at = 0;
    for (int i = 0; i < n; i++)
        if (logits[i] > top) {
            top = logits[i];
            at = i;
        }
    return at;
}

static bool is_untouched(const struct fm_sampling *h)
{
    return !h->n_bias && h->repeat == 1 && h->frequency == 0 && h->presence == 0;
}

int32_t fm_sampler_pick(struct fm_sampler *s, const float *logits, const int32_t *history, int n)
{
    struct fm_candidate *c = s->work;
    if (s->how.temp <= 0 && !s->allowed && is_untouched(&s->how)) return greedy(logits, s->vocab);
    for (int i = 0; i < s->vocab; i++) c[i] = (struct fm_candidate){logits[i], i};
    add_bias(s);
    penalise(s, history, n);
    discourage(s, history, n);
    int m = possible(c, s->vocab, s->allowed);
    if (!m) return first_allowed(s->allowed, s->vocab);
    /* an infinite logit leaves nothing to draw: exp(inf − inf) is no number */
    if (s->how.temp <= 0 || !(top_logit(c, m) < HUGE_VALF)) return best(c, m);
    m = filter_top(c, m, s->how.top_k, (double)s->how.top_p);
    m = filter_min(c, m, (double)s->how.min_p);
    return draw(s, c, m);
}
