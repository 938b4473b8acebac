/* One training run in memory.  Private to this folder; the public face is include/fathom_train.h.
 *
 *   trainer.c        fm_train_run: the order of things, and the loop
 *   train_setup.c    options, shape, tokenizer, tokens, memory plan, allocation
 *   train_step.c     one optimiser step, one evaluation
 *   train_state.c    what a checkpoint holds of it */
#ifndef FM_TRAIN_TRAINER_H
#define FM_TRAIN_TRAINER_H

#include "base/str.h"
#include "train/adamw.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/schedule.h"
#include "train/settings.h"
#include "train/train_log.h"

/* Means since the last line of the log are sums until then. */
struct fm_train_sums {
    double loss, mtp_loss, balance_loss;
    int64_t steps;
    double seconds; /* of those steps, without evaluations and saves */
};

struct fm_trainer {
    struct fm_train_options o; /* every 0 filled in */
    char preset[64];           /* or empty          */
    struct fm_config cfg;
    struct fm_corpus corpus; /* only while tokens are made */
    uint64_t corpus_sum, tokenizer_sum;
    struct fm_params params;
    struct fm_tokens tokens;
    struct fm_data data;
    int extra; /* tokens behind a window: 1, with MTP 2 */
    struct fm_schedule_plan plan;
    double flops_per_token;

    struct fm_pool *pool;
    void *backend;
    struct fm_arena arena;
    size_t arena_bytes;
    struct fm_ctx ctx;
    double *rope_freq; /* [rope_dim/2] */
    /* one micro-batch, rows = micro·seq */
    int32_t *ids, *pos, *target, *target2; /* target is also the next token that MTP embeds */
    struct fm_seq *seqs;                   /* [micro] */
    uint64_t *starts;                      /* [batch] first token of each sequence of the step */
    int32_t *token_bytes;                  /* [V] length of the token's text, 0 for the separator */
    int64_t *load, *load_sum, *load_line;  /* [(L + n_mtp)·E] of this step; since the last line; until that line */
    int n_load;

    /* progress: in the checkpoint */
    int64_t step, seen; /* steps and tokens done */
    double seconds;     /* of earlier sessions; the clock below adds this one's */
    struct fm_train_sums sums;
    double val_loss, val_bpb; /* of the last evaluation, NaN before */
    double grad_norm, lr, last_loss;

    double started;           /* monotonic clock */
    struct fm_train_log line; /* the last line, for events that repeat it */
    struct fm_train_log_file log;
    char *dir, *path; /* OUT; the last fm_trainer_path */
};

/* OUT/name, valid until the next call; name shorter than 60 bytes. */
const char *fm_trainer_path(struct fm_trainer *t, const char *name);

/* ---- train_setup.c ---- */

/* Options → cfg and, on resume, the stored progress (checkpoint stays open for the arrays). */
enum fm_status fm_trainer_configure(struct fm_trainer *t, struct fm_checkpoint *k, struct fm_error *err) FM_MUST_USE;
/* Report every item of the memory plan through o.on_memory. */
enum fm_status fm_trainer_plan(struct fm_trainer *t, struct fm_error *err) FM_MUST_USE;
/* Tokenizer and tokens in OUT. */
enum fm_status fm_trainer_prepare_text(struct fm_trainer *t, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_trainer_allocate(struct fm_trainer *t, struct fm_error *err) FM_MUST_USE;
void fm_trainer_release(struct fm_trainer *t);

/* ---- train_step.c ---- */

/* Forward, backward, update; moves step, seen, cursor and the sums. */
enum fm_status fm_trainer_step(struct fm_trainer *t, struct fm_error *err) FM_MUST_USE;
/* The same work, for its time: in the end nothing has changed. Before the first step only. */
enum fm_status fm_trainer_rehearse(struct fm_trainer *t, struct fm_error *err) FM_MUST_USE;
/* Mean loss of at most n_windows validation windows, evenly spread (0: all) → val_loss, val_bpb. */
enum fm_status fm_trainer_eval(struct fm_trainer *t, int64_t n_windows, struct fm_error *err) FM_MUST_USE;

/* ---- train_state.c ---- */

enum fm_status fm_trainer_save(struct fm_trainer *t, struct fm_error *err) FM_MUST_USE;
/* Config, settings and progress from the head of an open checkpoint. */
enum fm_status fm_trainer_restore_head(struct fm_trainer *t, const struct fm_checkpoint *k,
                                       struct fm_error *err) FM_MUST_USE;
/* Parameters and moments; the run must fit tokens and tokenizer already loaded. */
enum fm_status fm_trainer_restore_arrays(struct fm_trainer *t, struct fm_checkpoint *k,
                                         struct fm_error *err) FM_MUST_USE;

/* ---- export.c ---- */

/* general.name of an exported model. */
void fm_export_name(char *name, size_t cap, const char *preset);
/* Weights in f32 → to (GGUF file or folder), with the tokenizer.json at tokenizer. */
enum fm_status fm_export_weights(const struct fm_config *cfg, struct fm_weights *w, const char *tokenizer,
                                 const char *to, const char *format, const char *name, bool without_mtp,
                                 struct fm_error *err) FM_MUST_USE;

#endif
