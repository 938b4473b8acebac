/* Windows of a text through one engine: first the trunk of some windows at once, then the logits of the rows that count,
 * a block at a time, so that [rows, V] never exists.
 *
 *   window   t0 t1 … t(first) … t(ctx−2) t(ctx−1)      first = ctx/2
 *                    └──── scored rows ────┘             row r is asked for the token behind it; the last token is only asked for */
#ifndef FM_RUN_WINDOWS_H
#define FM_RUN_WINDOWS_H

#include "run/run.h"

enum { FM_WINDOW_MIN = 3, FM_WINDOW_LANES = 64 };

static inline int fm_window_first(int ctx) { return ctx / 2; }
static inline int fm_window_scored(int ctx) { return ctx - 1 - ctx / 2; }

struct fm_windows {
    struct fm_engine *e;
    int ctx, lanes; /* tokens of a window; windows at a time, at most */
    int rows;       /* of a step, at most                              */
    int block;      /* rows of logits at a time                        */
    struct fm_arena arena;
    size_t mark; /* behind what stays: the step's scratch begins  */
    struct fm_kv_block **blocks;
    struct fm_kv kv[FM_WINDOW_LANES];
    int32_t *ids, *pos; /* [rows] of a step                      */
    float *scored;      /* [lanes·n_scored, D] hidden states     */
    float *logits;      /* [block, V], filled by fm_windows_logits */
    atomic_bool *cancel;
};

/* Everything is reserved here.  ctx >= FM_WINDOW_MIN; *cancel is polled. */
enum fm_status fm_windows_init(struct fm_windows *w, struct fm_engine *e, int ctx, atomic_bool *cancel,
                               struct fm_error *err) FM_MUST_USE;
void fm_windows_release(struct fm_windows *w);
/* Hidden states of n <= lanes windows ids[n·ctx], every id below V; bos >= 0 replaces the first of each. */
enum fm_status fm_windows_forward(struct fm_windows *w, const int32_t *ids, int n, int32_t bos,
                                  struct fm_error *err) FM_MUST_USE;
/* w->logits of n <= block scored rows from row on, counted through the windows of the last forward. */
enum fm_status fm_windows_logits(struct fm_windows *w, int row, int n, struct fm_error *err) FM_MUST_USE;

#endif
