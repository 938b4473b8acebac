/* Inside of a judge: what runs (judge.c) and what is kept between runs (judge_state.c). */
#ifndef FM_RUN_JUDGE_H
#define FM_RUN_JUDGE_H

#include "run/reference.h"
#include "run/tally.h"
#include "run/windows.h"

/* What a state file must agree with. */
struct fm_judge_key {
    uint64_t model, base, text; /* fingerprints; base 0: not compared */
    uint32_t ctx, chunks;
    char settings[40]; /* arithmetic of both engines, zero-padded */
};

struct fm_judge {
    struct fm_engine *e, *base;
    struct fm_judge_options o;
    int ctx, total, done;
    int32_t bos, bos_base;
    int32_t *ids; /* [total·ctx] */
    double text_bytes;
    struct fm_windows w, w_base;
    struct fm_reference ref; /* map.data NULL: none */
    struct fm_reference_out out;
    bool compares;
    struct fm_score *scores; /* [block]                              */
    uint16_t *coded;         /* [block, fm_coded_words(V)], with save */
    double *kld, *diff;      /* [total·scored], when comparing        */
    struct fm_tally tally;
    struct fm_judge_key key;
    char *state_path; /* NULL: none is kept */
    atomic_bool cancel;
};

static inline uint64_t fm_judge_positions(const struct fm_judge *j, int chunks)
{
    return (uint64_t)chunks * (uint64_t)fm_window_scored(j->ctx);
}

/* Replaces the state file. */
enum fm_status fm_judge_state_save(const struct fm_judge *j, struct fm_error *err) FM_MUST_USE;
/* Sets done, tally and the values of each position; no file: leaves them.  FM_ERR_INPUT when the file is damaged or of another
 * run. */
enum fm_status fm_judge_state_load(struct fm_judge *j, struct fm_error *err) FM_MUST_USE;

#endif
