/* From logits to a token.  The chain is llama.cpp's default order: bias, penalties, top-k, top-p, min-p, temperature.
 * Probabilities that the filters look at are those at temperature 1.  Same logits, history and seed: same token. */
#ifndef FM_RUN_SAMPLER_H
#define FM_RUN_SAMPLER_H

#include "base/rng.h"
#include "fathom.h"

struct fm_candidate {
    float logit;
    int32_t id;
};

struct fm_sampler {
    struct fm_sampling how;
    struct fm_rng rng;
    int vocab, from;           /* from: where in the history the answer begins */
    struct fm_candidate *work; /* [vocab], the caller's */
    uint8_t *seen;             /* [vocab], the caller's; zero between calls */
    const uint64_t *allowed;   /* NULL, or bits of the tokens that may be picked next */
};

/* work and seen stay the caller's and must outlive s. FM_ERR_USAGE for settings that make no sense, naming them. */
enum fm_status fm_sampler_init(struct fm_sampler *s, const struct fm_sampling *how, int vocab,
                               struct fm_candidate *work, uint8_t *seen, struct fm_error *err) FM_MUST_USE;
/* logits[vocab]; history[n]: the tokens so far, oldest first.  NaN counts as impossible; if nothing is possible: 0, or the
 * first that is allowed. */
int32_t fm_sampler_pick(struct fm_sampler *s, const float *logits, const int32_t *history, int n);

#endif
