/* Which tokens the model sees, in which order: windows of the stream, shuffled anew every epoch.
 *
 *   stream ├─ shift ─┼─ window ─┼─ window ─┼ … ┤ validation windows ┤extra┤
 *                     seq tokens, of which the last predicts the first of the next; extra = 1 (+1 for MTP)
 *
 * shift and the order of windows follow from (seed, epoch) alone, so that a cursor of two numbers resumes exactly.
 * Windows ignore document borders, as in the DeepSeek-V3 report §4.1 (packing without masks between samples). */
#ifndef FM_TRAIN_DATA_H
#define FM_TRAIN_DATA_H

#include "train/tokens.h"

struct fm_cursor {
    int64_t epoch, index; /* windows of this epoch already given */
};

struct fm_data {
    const struct fm_tokens *tokens;
    int seq, extra;
    uint64_t seed;
    uint64_t n_train; /* tokens before val_start     */
    uint64_t val_start;
    int64_t n_val; /* whole windows of validation */
    struct fm_cursor cursor;
    /* of the epoch that order was made for */
    int64_t order_epoch, n_order;
    uint64_t shift;
    uint32_t *order;
};

/* tokens must outlive d.  FM_ERR_INPUT when there is not one window to train on. */
enum fm_status fm_data_init(struct fm_data *d, const struct fm_tokens *tokens, int seq, int extra, double val_fraction,
                            uint64_t seed, struct fm_error *err) FM_MUST_USE;
void fm_data_release(struct fm_data *d);
/* First token of the next training window; moves the cursor. */
uint64_t fm_data_next(struct fm_data *d);
/* First token of validation window i < n_val. */
static inline uint64_t fm_data_val(const struct fm_data *d, int64_t i)
{
    return d->val_start + (uint64_t)i * (uint64_t)d->seq;
}
/* Windows of the current epoch. */
int64_t fm_data_epoch_windows(struct fm_data *d);

#endif
