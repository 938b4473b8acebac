/* fathom: train DeepSeek-class models.  The public training API. */
#ifndef FATHOM_TRAIN_H
#define FATHOM_TRAIN_H

#include "fathom.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* A shape with a name: what --preset picks.  The list is in src/train/presets.c. */
struct fm_preset_info {
    const char *name, *summary;
};
int fm_preset_count(void);
struct fm_preset_info fm_preset(int i);

struct fm_train_log;

enum fm_schedule { FM_SCHEDULE_WSD, FM_SCHEDULE_COSINE };

/* Everything is optional but paths, preset or config, and out; fm_train_options_default fills the rest. */
struct fm_train_options {
    const char *const *paths; /* corpus: text files and folders (searched for text, binary files skipped), .zst too */
    int n_paths;
    const char *preset;    /* a shape from the list …                                                  */
    const char *config;    /* … or a config.json of a known family                                     */
    const char *tokenizer; /* tokenizer.json; NULL: learned from the corpus                            */
    int vocab;             /* of a learned tokenizer; 0: the preset's                                  */
    const char *out;       /* folder: checkpoint, log, tokenizer, exported model                       */
    bool resume;           /* go on from out's checkpoint; other settings must agree with it, but steps
                              * or tokens may change while a WSD schedule is on its plateau            */
    int64_t steps;         /* stop after so many optimiser steps in all; 0: by minutes or tokens       */
    double minutes;        /* the schedule's length in time: steps are estimated from the first ones   */
    int64_t tokens;        /* … or in tokens                                                           */
    int seq, batch;        /* tokens per sequence, sequences per step; 0: the preset's                 */
    int micro;             /* sequences per forward/backward; 0: chosen from the shape                 */
    float lr;              /* peak; 0: the preset's                                                    */
    enum fm_schedule schedule;
    float warmup, decay; /* fractions of the run: rise at the start, fall at the end (WSD)           */
    float lr_min;        /* end of the decay as a fraction of lr                                     */
    float beta1, beta2, eps, weight_decay, clip;
    float mtp_weight;     /* λ of the MTP loss (DeepSeek-V3 report §2.2)                              */
    float balance_weight; /* α of the sequence-wise balance loss (§2.1.2)                             */
    float bias_rate;      /* γ of the aux-loss-free router bias update (§2.1.2)                       */
    float val_fraction;   /* tail of the corpus kept for validation                                   */
    int eval_every, save_every, log_every; /* steps                                                      */
    uint64_t seed;
    int threads;
    bool plan_only;         /* print the memory plan through on_memory and stop                         */
    fm_memory_fn on_memory; /* called for every item before anything is allocated; may be NULL          */
    void (*on_log)(void *arg, const struct fm_train_log *log);
    void *arg;
    const volatile int *stop; /* set non-zero (signal handler): save a checkpoint and return             */
};

/* One line of the log; also written to out/log.jsonl. */
struct fm_train_log {
    int64_t step, steps_total, tokens;
    double loss, mtp_loss, balance_loss; /* means since the last line                                    */
    double val_loss, val_bits_per_byte;  /* NaN unless this step evaluated                               */
    double lr, grad_norm;
    double expert_load_max, expert_load_min; /* relative to the mean, over all MoE layers; NaN without    */
    double seconds, tokens_per_second, flops_per_second, eta_seconds;
    const char *event; /* NULL, "eval", "save", "resume", "export", or "done"                            */
};

struct fm_train_result {
    int64_t steps, tokens;
    double seconds, loss, val_loss, val_bits_per_byte;
    bool stopped; /* by options.stop */
};

void fm_train_options_default(struct fm_train_options *o);
enum fm_status fm_train_run(const struct fm_train_options *o, struct fm_train_result *r,
                            struct fm_error *err) FM_MUST_USE;

/* Write the checkpoint in folder `from` as a model: to a .gguf file, or a folder with config.json, model.safetensors and
 * tokenizer.json under Hugging Face's names.  format: "F32", "F16", "BF16", "Q8_0", … (NULL: F32).
 * without_mtp leaves the multi-token-prediction block out (current llama.cpp reads past it, other readers may not). */
enum fm_status fm_train_export(const char *from, const char *to, const char *format, bool without_mtp,
                               struct fm_error *err) FM_MUST_USE;

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
