/* fathom train: texts in, a model out.  The trainer is the library's; here are its options and its progress. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "base/str.h"
#include "cli/plot.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"
#include "fathom_train.h"

struct job {
    struct fm_setup setup;
    struct fm_train_options train;
    const char *schedule, *type;
    struct fm_plan plan;
    double val_bits; /* of the last evaluation, NaN before */
    bool planned;    /* the plan's total has been printed */
};

#define AT(field) offsetof(struct job, field)
#define IN(field) offsetof(struct job, train.field)

static const struct fm_opt train_rows[] = {
    {'o', "out", FM_OPT_TEXT, IN(out), 0, 0, "FOLDER", "checkpoint, log, tokenizer, model, plot (default: fathom-out)"},
    {0, "preset", FM_OPT_TEXT, IN(preset), 0, 0, "NAME", "the model's shape; `help` lists them (default: tiny)"},
    {0, "config", FM_OPT_TEXT, IN(config), 0, 0, "FILE", "a config.json instead of a preset"},
    {0, "tokenizer", FM_OPT_TEXT, IN(tokenizer), 0, 0, "FILE", "a tokenizer.json (default: learned from the texts)"},
    {0, "vocab", FM_OPT_INT, IN(vocab), 257, 1 << 20, "N", "entries of a learned tokenizer (default: the preset's)"},
    {0, "resume", FM_OPT_FLAG, IN(resume), 0, 0, NULL,
     "go on from the checkpoint in the folder; --steps or --tokens may change on WSD's plateau"},
    {0, "steps", FM_OPT_INT64, IN(steps), 1, 1e15, "N", "length of the run in optimiser steps"},
    {0, "minutes", FM_OPT_DOUBLE, IN(minutes), 0.01, 1e7, "X", "or in minutes"},
    {0, "tokens", FM_OPT_INT64, IN(tokens), 1, 1e18, "N", "or in tokens"},
    {0, "seq", FM_OPT_INT, IN(seq), 2, 1 << 20, "N", "tokens per sequence (default: the preset's)"},
    {0, "batch", FM_OPT_INT, IN(batch), 1, 1 << 20, "N", "sequences per step (default: the preset's)"},
    {0, "micro", FM_OPT_INT, IN(micro), 1, 1 << 20, "N", "sequences at a time (default: all that fit)"},
    {0, "lr", FM_OPT_FLOAT, IN(lr), 1e-9, 10, "X", "peak learning rate (default: the preset's)"},
    {0, "schedule", FM_OPT_TEXT, AT(schedule), 0, 0, "S", "wsd or cosine (default: wsd)"},
    {0, "warmup", FM_OPT_FLOAT, IN(warmup), 0, 1, "X", "fraction of the run in which the rate rises"},
    {0, "decay", FM_OPT_FLOAT, IN(decay), 0, 1, "X", "fraction in which it falls, at the end"},
    {0, "lr-min", FM_OPT_FLOAT, IN(lr_min), 0, 1, "X", "where it ends, as a fraction of the peak"},
    {0, "beta1", FM_OPT_FLOAT, IN(beta1), 0, 0.9999, "X", "AdamW: mean of gradients"},
    {0, "beta2", FM_OPT_FLOAT, IN(beta2), 0, 0.99999, "X", "AdamW: mean of squares"},
    {0, "eps", FM_OPT_FLOAT, IN(eps), 1e-20, 1, "X", "AdamW: added to the root"},
    {0, "weight-decay", FM_OPT_FLOAT, IN(weight_decay), 0, 10, "X", "AdamW: on matrices"},
    {0, "clip", FM_OPT_FLOAT, IN(clip), 0, 1e6, "X", "largest gradient norm, 0: no limit"},
    {0, "mtp-weight", FM_OPT_FLOAT, IN(mtp_weight), 0, 10, "X", "of the multi-token-prediction loss"},
    {0, "balance-weight", FM_OPT_FLOAT, IN(balance_weight), 0, 10, "X", "of the sequence-wise balance loss"},
    {0, "bias-rate", FM_OPT_FLOAT, IN(bias_rate), 0, 1, "X", "step of the router bias"},
    {0, "val-fraction", FM_OPT_FLOAT, IN(val_fraction), 0, 0.5, "X", "tail of the texts kept for validation"},
    {0, "eval-every", FM_OPT_INT, IN(eval_every), 1, 1 << 30, "N", "steps between validations"},
    {0, "save-every", FM_OPT_INT, IN(save_every), 1, 1 << 30, "N", "steps between checkpoints"},
    {0, "log-every", FM_OPT_INT, IN(log_every), 1, 1 << 30, "N", "steps between lines of the log"},
    {'s', "seed", FM_OPT_UINT64, IN(seed), 0, 0x1p64, "N", "of weights and order"},
    {'t', "threads", FM_OPT_INT, IN(threads), 1, 1024, "N", "(default: one per core)"},
    {0, "type", FM_OPT_TEXT, AT(type), 0, 0, "T", "format of the model's matrices: F32, BF16, Q8_0, … (default: F32)"},
    {0, "mem", FM_OPT_FLAG, AT(setup.mem), 0, 0, NULL, "print the memory plan first"},
    {0, "plan", FM_OPT_FLAG, IN(plan_only), 0, 0, NULL, "print the memory plan and stop"},
    {0},
};

/* ---- progress -------------------------------------------------------------------------------------------------- */

static void show_plan(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    struct job *j = arg;
    if (j->setup.mem || j->train.plan_only) fm_plan_item(&j->plan, item, bytes, file_backed);
}

/* The plan is complete when training begins. */
static void show_total(struct job *j)
{
    if ((j->setup.mem || j->train.plan_only) && !j->planned) fm_plan_total(&j->plan);
    j->planned = true;
}

static const char *step_text(const struct fm_train_log *l, char buf[48])
{
    if (l->steps_total > 0)
        snprintf(buf, 48, "step %" PRId64 "/%" PRId64, l->step, l->steps_total);
    else
        snprintf(buf, 48, "step %" PRId64, l->step);
    return buf;
}

static void show_line(struct job *j, const struct fm_train_log *l)
{
    char step[48], val[32] = "", eta[24];
    if (!isnan(j->val_bits)) snprintf(val, sizeof val, "  val %.3f bits/byte", j->val_bits);
    fm_progress("%s  loss %.4f%s  lr %.2e  grad %.2f  %.0f tokens/s  %.1f GFLOP/s  ETA %s", step_text(l, step), l->loss,
                val, l->lr, l->grad_norm, l->tokens_per_second, l->flops_per_second * 1e-9,
                fm_time_text(l->eta_seconds, eta));
}

static void show_log(void *arg, const struct fm_train_log *l)
{
    struct job *j = arg;
    char step[48];
    show_total(j);
    if (!isnan(l->val_bits_per_byte)) j->val_bits = l->val_bits_per_byte;
    if (!l->event)
        show_line(j, l);
    else if (!strcmp(l->event, "eval"))
        fm_note("%s  validation: loss %.4f, %.4f bits per byte", step_text(l, step), l->val_loss, l->val_bits_per_byte);
    else if (strcmp(l->event, "done") != 0)
        fm_note("%s  %s", step_text(l, step), l->event);
}

/* ---- after the run --------------------------------------------------------------------------------------------- */

/* The picture is a courtesy: a failure is a note. */
static void draw(const struct job *j)
{
    struct fm_buf log = {0}, out = {0};
    struct fm_error err;
    if (!fm_plot_available()) {
        fm_note("no plot: the program gnuplot is not installed");
        return;
    }
    fm_buf_printf(&log, "%s/log.jsonl", j->train.out);
    for (int i = 0; i < 2 && !log.failed; i++) {
        const char *kind = i ? "png" : "svg";
        fm_buf_clear(&out);
        fm_buf_printf(&out, "%s/train.%s", j->train.out, kind);
        if (out.failed) break;
        if (fm_plot(log.data, kind, out.data, &err))
            fm_note("no plot: %s", err.message);
        else
            fm_note("wrote %s", out.data);
    }
    fm_buf_release(&log);
    fm_buf_release(&out);
}

static enum fm_status finish(const struct job *j, const struct fm_train_result *r, struct fm_error *err)
{
    struct fm_buf model = {0};
    char time[24];
    fm_buf_printf(&model, "%s/model.gguf", j->train.out);
    if (model.failed) return fm_fail_memory(err, "file name", model.len);
    enum fm_status st =
        j->type ? fm_train_export(j->train.out, model.data, j->type, false, err) : FM_OK; /* F32 is there */
    if (!st) {
        draw(j);
        fm_note("%" PRId64 " steps, %" PRId64 " tokens in %s; loss %.4f, validation %.4f (%.4f bits per byte)",
                r->steps, r->tokens, fm_time_text(r->seconds, time), r->loss, r->val_loss, r->val_bits_per_byte);
        fm_note("talk with it: fathom chat -m %s", model.data);
        fm_out(model.data, model.len);
        fm_out("\n", 1);
    }
    fm_buf_release(&model);
    return st;
}

static enum fm_status train(struct job *j, struct fm_error *err)
{
    struct fm_train_result r = {0};
    fm_signals_init();
    j->train.stop = fm_signals_flag();
    j->train.on_log = show_log;
    j->train.on_memory = show_plan;
    j->train.arg = j;
    j->plan.stream = j->train.plan_only ? stdout : stderr;
    enum fm_status st = fm_train_run(&j->train, &r, err);
    fm_progress_end();
    if (st) return st;
    if (j->train.plan_only) {
        show_total(j);
        return FM_OK;
    }
    if (!r.stopped) return finish(j, &r, err);
    fm_note("stopped after step %" PRId64 "; --resume goes on from there", r.steps);
    return FM_ERR_CANCELLED;
}

/* ---- options --------------------------------------------------------------------------------------------------- */

static enum fm_status list_presets(void)
{
    for (int i = 0; i < fm_preset_count(); i++) printf("%-12s %s\n", fm_preset(i).name, fm_preset(i).summary);
    return FM_OK;
}

static enum fm_status pick_schedule(struct job *j, struct fm_error *err)
{
    if (!j->schedule) return FM_OK;
    if (strcmp(j->schedule, "wsd") != 0 && strcmp(j->schedule, "cosine") != 0)
        return fm_fail(err, FM_ERR_USAGE, "read options: --schedule: '%.40s' is neither wsd nor cosine", j->schedule);
    j->train.schedule = j->schedule[0] == 'c' ? FM_SCHEDULE_COSINE : FM_SCHEDULE_WSD;
    return FM_OK;
}

static enum fm_status check_together(const struct fm_train_options *o, struct fm_error *err)
{
    int lengths = (o->steps > 0) + (o->minutes > 0) + (o->tokens > 0);
    if (o->preset && o->config) return fm_fail(err, FM_ERR_USAGE, "read options: --config: it excludes --preset");
    if (lengths > 1)
        return fm_fail(err, FM_ERR_USAGE, "read options: --steps, --minutes, --tokens: only one can be given");
    return FM_OK;
}

enum fm_status fm_cmd_train(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {.val_bits = NAN};
    fm_train_options_default(&j.train);
    j.train.preset = NULL;
    j.train.out = "fathom-out";
    struct fm_train_options unset = j.train;
    j.train.steps = j.train.tokens = 0;
    j.train.minutes = 0;
    const struct fm_opt_set sets[] = {{train_rows, &j}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    if (j.train.preset && !strcmp(j.train.preset, "help")) return list_presets();
    FM_TRY(fm_words_expect(cli, &words, j.train.resume ? 0 : 1, 1 << 30, "PATH", err));
    FM_TRY(pick_schedule(&j, err));
    FM_TRY(check_together(&j.train, err));
    if (!j.train.steps && !j.train.tokens && j.train.minutes <= 0) {
        j.train.steps = unset.steps;
        j.train.tokens = unset.tokens;
        j.train.minutes = unset.minutes;
    }
    if (!j.train.preset && !j.train.config && !j.train.resume) j.train.preset = "tiny";
    j.train.paths = (const char *const *)words.v;
    j.train.n_paths = words.n;
    return train(&j, err);
}
