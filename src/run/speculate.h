/* Speculation: guess some tokens, let one step of the model compute behind all of them, keep the guesses that come true.
 *
 *   said        … the cat sat │ on              the token just sampled
 *   drafted                       the mat and   by a source that costs little
 *   one step                   ▒▒ ▒▒▒ ▒▒▒ ▒▒▒   four rows, each with the bits it would have had alone
 *   sampled                       the log       as always: row by row, the session's own random numbers
 *   kept                          the           `mat` was not sampled: the cache ends before it
 *
 * So a text never depends on its drafts.  A draft is one token with certainty; sampling from the model and comparing accepts
 * it with the probability p that the model gives it, and what is sampled instead has the distribution p without it: exactly
 * what speculative sampling (Leviathan et al. 2023, arXiv 2211.17192) does for such a draft.  models.md §8.1. */
#ifndef FM_RUN_SPECULATE_H
#define FM_RUN_SPECULATE_H

#include "fathom.h"
#include "model/model.h"

enum {
    FM_DRAFT_MOST = 16,   /* tokens drafted for one step, at most           */
    FM_DRAFT_DEFAULT = 4, /* when nobody asked                              */
    FM_DRAFT_SOURCES = 4, /* rows of the table                              */
    FM_MTP_HELD = 64,     /* hidden rows kept until the MTP block has them  */
};

/* ---- guard: does it pay? (draft_guard.c) ---- */

/* What is known of one source; exponential averages. */
struct fm_guard_source {
    double accept[FM_DRAFT_MOST]; /* draft i comes true, if those before it did */
    int seen[FM_DRAFT_MOST];      /* how often that was asked                   */
    double cost;                  /* seconds per drafted token                  */
    int n_cost;
    int pause, wait; /* steps without it: how many the last time, how many are left */
    int streak;      /* drafts since then                                           */
};
struct fm_guard {
    double step[FM_DRAFT_MOST + 2]; /* seconds of a step of n rows */
    int n_step[FM_DRAFT_MOST + 2];
    int since_plain; /* steps since one of a single row */
    struct fm_guard_source source[FM_DRAFT_SOURCES];
};
/* A step of n rows took this long; a draft of n tokens took this long; of a draft's n tokens the first `accepted` came true,
 * and unless the text ended there the next did not. */
void fm_guard_note_step(struct fm_guard *g, int rows, double seconds);
void fm_guard_note_draft(struct fm_guard_source *s, int n, double seconds);
void fm_guard_note_result(struct fm_guard_source *s, int n, int accepted);
/* How many tokens, 0 … most, source s should draft now, and the tokens per second that this promises. */
int fm_guard_choose(struct fm_guard *g, struct fm_guard_source *s, int most, double *rate);

/* ---- the MTP block's side of a session (draft_mtp.c); models.md §4.3 ---- */

/* The block's cache row of position t wants the hidden state of t and token t+1.  Hidden states are held until there is
 * reason to compute rows:
 *
 *   position    0 …           rows                rows+held
 *               │ in the cache │ hidden state held │
 */
struct fm_mtp_state {
    int rows, held;
    fm_real *hidden;          /* [FM_MTP_HELD, D]; NULL: the session drafts without MTP          */
    fm_real *logits;          /* [V] of the last draft                                           */
    char *kept;               /* [L, kv row] a position's cache while it is computed once more   */
    const int32_t *ids, *pos; /* the session's                                                  */
    struct fm_kv *kv;         /* layer L of it is the block's                                    */
};
/* After a step that computed hidden[b->T, D]: hold it, and compute rows when the hold is full.  Sizes its scratch when c is
 * dry.  No-op without MTP. */
void fm_mtp_collect(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                    struct fm_mtp_state *m, const struct fm_batch *b, const fm_real *hidden);
/* n tokens that may follow ids[0 … length], of which the last is not yet fed.  Chained: the block's output is the hidden
 * state of the next position. */
void fm_mtp_draft(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w, const double *rope_freq,
                  struct fm_mtp_state *m, int length, int n, int32_t *out);
/* Make the state agree with a session of length tokens, which may have been cut. */
void fm_mtp_settle(struct fm_mtp_state *m, int length);

/* ---- one generation (speculate.c) ---- */

struct fm_speculation {
    struct fm_session *s;
    enum fm_draft draft;
    int most;                         /* tokens per draft, 0: none */
    int from, n;                      /* the last draft: its source and length */
    int looked_at, found, found_same; /* the last lookup: for which place, where, how many tokens are the same */
    int drafted, accepted, steps;
};
/* FM_ERR_USAGE when the engine was not opened for this. */
enum fm_status fm_speculation_init(struct fm_speculation *p, struct fm_session *s, const struct fm_generation *g,
                                   struct fm_error *err) FM_MUST_USE;
/* id is the session's next token, at most `room` more may follow: take it from what is computed already, or compute it and
 * what may follow. */
enum fm_status fm_speculation_put(struct fm_speculation *p, int32_t id, int room, struct fm_error *err) FM_MUST_USE;

#endif
