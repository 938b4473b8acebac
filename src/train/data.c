/* See data.h. */
#include "train/data.h"

#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

enum fm_status fm_data_init(struct fm_data *d, const struct fm_tokens *tokens, int seq, int extra, double val_fraction,
                            uint64_t seed, struct fm_error *err)
{
    struct fm_data r = {.tokens = tokens, .seq = seq, .extra = extra, .seed = seed, .order_epoch = -1};
    const uint64_t s = (uint64_t)seq, e = (uint64_t)extra, n = tokens->n;
    if (val_fraction > 0 && n >= 3 * s + 2 * e) {
        const double want = (double)n * val_fraction / (double)s, most = (double)((n - 2 * s - 2 * e) / s);
        r.n_val = want < 1 ? 1 : want < most ? (int64_t)want : (int64_t)most;
    }
    r.val_start = r.n_val ? n - e - (uint64_t)r.n_val * s : n;
    r.n_train = r.val_start;
    if (r.n_train < s + e || r.n_train / s > UINT32_MAX)
        return fm_fail(
            err, FM_ERR_INPUT,
            "read corpus: %llu tokens for training: one sequence of %d tokens needs %llu; add text or choose shorter sequences",
            (unsigned long long)r.n_train, seq, (unsigned long long)(s + e));
    r.order = fm_malloc((size_t)(r.n_train / s) * sizeof *r.order);
    if (!r.order) return fm_fail_memory(err, "order of windows", (r.n_train / s) * sizeof *r.order);
    *d = r;
    return FM_OK;
}

void fm_data_release(struct fm_data *d)
{
    fm_free(d->order);
    *d = (struct fm_data){0};
}

/* Fisher–Yates from a stream of its own. */
static void shuffle(struct fm_data *d)
{
    struct fm_rng rng;
    fm_rng_init(&rng, d->seed * 0x9E3779B97F4A7C15u + (uint64_t)d->cursor.epoch);
    const uint64_t room = d->n_train - (uint64_t)d->extra, seq = (uint64_t)d->seq;
    const uint64_t most =
        room % seq + (room >= 2 * seq ? seq : 1); /* a shift may cost one window, but not the only one */
    d->shift = fm_rng_below(&rng, most < seq ? most : seq);
    d->n_order = (int64_t)((room - d->shift) / seq);
    for (int64_t i = 0; i < d->n_order; i++) d->order[i] = (uint32_t)i;
    for (int64_t i = d->n_order - 1; i > 0; i--) {
        const uint64_t j = fm_rng_below(&rng, (uint64_t)i + 1);
        const uint32_t t = d->order[i];
        d->order[i] = d->order[j];
        d->order[j] = t;
    }
    d->order_epoch = d->cursor.epoch;
}

int64_t fm_data_epoch_windows(struct fm_data *d)
{
    if (d->order_epoch != d->cursor.epoch) shuffle(d);
    return d->n_order;
}

uint64_t fm_data_next(struct fm_data *d)
{
    if (d->cursor.index >= fm_data_epoch_windows(d)) {
        d->cursor = (struct fm_cursor){d->cursor.epoch + 1, 0};
        (void)fm_data_epoch_windows(d);
    }
    return d->shift + (uint64_t)d->order[d->cursor.index++] * (uint64_t)d->seq;
}
