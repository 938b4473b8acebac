/* fm_train_run: prepare, loop, finish.  A checkpoint is saved before every evaluation, so that nothing an evaluation
 * does can cost the work before it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "train/trainer.h"

enum {
    EVAL_TOKENS = 1 << 15, /* of an evaluation during the run; the last one takes all windows */
    WARM_STEPS = 2,        /* before timing: page faults, caches, clocks */
    TIMED_STEPS = 10,
};
static const double TIMED_SECONDS = 15; /* enough for slow steps, once three are done */

/* ---- lines ---- */

static double total_seconds(const struct fm_trainer *t) { return t->seconds + fm_seconds() - t->started; }

static enum fm_status emit(struct fm_trainer *t, const char *event, const int64_t *load, struct fm_error *err)
{
    struct fm_train_log *l = &t->line;
    l->event = event;
    l->step = t->step;
    l->steps_total = t->plan.steps;
    l->tokens = t->seen;
    l->seconds = total_seconds(t);
    l->lr = t->lr;
    l->grad_norm = t->grad_norm;
    if (t->o.on_log) t->o.on_log(t->o.arg, l);
    return fm_train_log_write(&t->log, l, &t->cfg, load, err);
}

/* Means since the last line; the loads stay for an evaluation line of the same step. */
static enum fm_status emit_progress(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_train_log *l = &t->line;
    const struct fm_train_sums *s = &t->sums;
    const double n = s->steps ? (double)s->steps : NAN, tokens = n * t->o.batch * t->o.seq;
    l->loss = s->loss / n;
    l->mtp_loss = t->extra > 1 ? s->mtp_loss / n : NAN;
    l->balance_loss = t->n_load ? s->balance_loss / n : NAN;
    l->val_loss = l->val_bits_per_byte = NAN;
    fm_train_log_loads(&t->cfg, t->load_sum, &l->expert_load_max, &l->expert_load_min);
    l->tokens_per_second = s->seconds > 0 ? tokens / s->seconds : NAN;
    l->flops_per_second = l->tokens_per_second * t->flops_per_token;
    l->eta_seconds = s->seconds / n * (double)(t->plan.steps - t->step);
    FM_TRY(emit(t, NULL, NULL, err));
    t->sums = (struct fm_train_sums){0};
    memcpy(t->load_line, t->load_sum, (size_t)t->n_load * sizeof *t->load_sum);
    memset(t->load_sum, 0, (size_t)t->n_load * sizeof *t->load_sum);
    return FM_OK;
}

/* An evaluation and its line; the last one, of all windows, ends the log. */
static enum fm_status evaluate(struct fm_trainer *t, bool last, struct fm_error *err)
{
    const int64_t n = (EVAL_TOKENS + t->o.seq - 1) / t->o.seq;
    if (!t->data.n_val && !last) return FM_OK;
    FM_TRY(fm_trainer_eval(t, last ? 0 : n, err));
    t->line.val_loss = t->val_loss;
    t->line.val_bits_per_byte = t->val_bpb;
    FM_TRY(emit(t, last ? "done" : "eval", t->load_line, err));
    t->line.val_loss = t->line.val_bits_per_byte = NAN;
    return FM_OK;
}

static bool due(int64_t step, int every) { return every > 0 && step % every == 0; }

/* Lines, checkpoint and evaluation after a step, in this order. */
static enum fm_status after_step(struct fm_trainer *t, struct fm_error *err)
{
    const struct fm_train_options *o = &t->o;
    const bool last = t->step >= t->plan.steps, eval = due(t->step, o->eval_every) && !last;
    const bool line = due(t->step, o->log_every) || eval || last;
    if (line) FM_TRY(emit_progress(t, err));
    if (due(t->step, o->save_every) || eval || last) {
        FM_TRY(fm_trainer_save(t, err));
        FM_TRY(emit(t, "save", NULL, err));
    }
    return eval ? evaluate(t, false, err) : FM_OK;
}

/* ---- length ---- */

/* Steps that fit the minutes left, evaluations included.  Decided once, before the first step, and kept in the
 * checkpoint: from then on the clock changes no number. */
static enum fm_status measure_steps(struct fm_trainer *t, struct fm_error *err)
{
    for (int i = 0; i < WARM_STEPS; i++) FM_TRY(fm_trainer_rehearse(t, err));
    const double start = fm_seconds();
    int n = 0;
    for (double spent = 0; n < 3 || (n < TIMED_STEPS && spent < TIMED_SECONDS); spent = fm_seconds() - start, n++)
        FM_TRY(fm_trainer_rehearse(t, err));
    const double step = (fm_seconds() - start) / n, window = step / t->o.batch / 3; /* forward: a third */
    const double whole = t->o.minutes * 60, spent = total_seconds(t) + window * (double)t->data.n_val;
    const double left = whole - spent > whole / 2 ? whole - spent : whole / 2;
    const double eval = t->o.eval_every > 0 ? window * EVAL_TOKENS / t->o.seq / t->o.eval_every : 0;
    const double steps = left / (step + eval);
    t->plan.steps = steps > 1 ? (int64_t)steps : 1;
    return FM_OK;
}

static enum fm_status decide_length(struct fm_trainer *t, struct fm_error *err)
{
    const int64_t per_step = (int64_t)t->o.batch * t->o.seq;
    if (t->o.steps)
        t->plan.steps = t->o.steps;
    else if (t->o.tokens)
        t->plan.steps = (t->o.tokens + per_step - 1) / per_step;
    else
        return measure_steps(t, err);
    return FM_OK;
}

/* ---- run ---- */

static void plan_schedule(struct fm_trainer *t)
{
    t->plan.shape = t->o.schedule;
    t->plan.warmup = (double)t->o.warmup;
    t->plan.decay = (double)t->o.decay;
    t->plan.lr_min = (double)t->o.lr_min;
}

static enum fm_status begin_new(struct fm_trainer *t, struct fm_error *err)
{
    fm_params_start(&t->params, t->o.seed, t->pool);
    FM_TRY(fm_train_log_open(&t->log, fm_trainer_path(t, "log.jsonl"), -1, err));
    FM_TRY(decide_length(t, err));
    return fm_trainer_save(t, err);
}

/* An evaluation that was due at the step of the checkpoint, but cut off by a kill, is made up for. */
static enum fm_status begin_old(struct fm_trainer *t, struct fm_checkpoint *k, struct fm_error *err)
{
    FM_TRY(fm_trainer_restore_arrays(t, k, err));
    const bool missing = due(t->step, t->o.eval_every) && t->step > 0 && t->step < t->plan.steps &&
                         !fm_train_log_has_eval(fm_trainer_path(t, "log.jsonl"), t->step);
    FM_TRY(fm_train_log_open(&t->log, fm_trainer_path(t, "log.jsonl"), t->step, err));
    FM_TRY(emit(t, "resume", NULL, err));
    return missing ? evaluate(t, false, err) : FM_OK;
}

static bool stop_asked(const struct fm_trainer *t) { return t->o.stop && *t->o.stop; }

static enum fm_status loop(struct fm_trainer *t, bool *stopped, struct fm_error *err)
{
    *stopped = false;
    while (t->step < t->plan.steps) {
        if (stop_asked(t)) {
            *stopped = true;
            FM_TRY(fm_trainer_save(t, err));
            return emit(t, "save", NULL, err);
        }
        FM_TRY(fm_trainer_step(t, err));
        FM_TRY(after_step(t, err));
    }
    return FM_OK;
}

static enum fm_status finish(struct fm_trainer *t, struct fm_error *err)
{
    char name[96];
    struct fm_buf tokenizer = {0};
    fm_export_name(name, sizeof name, t->preset);
    fm_buf_str(&tokenizer, fm_trainer_path(t, "tokenizer.json"));
    enum fm_status st = tokenizer.failed ? fm_fail_memory(err, "path", tokenizer.len)
                                         : fm_export_weights(&t->cfg, &t->params.w, tokenizer.data,
                                                             fm_trainer_path(t, "model.gguf"), "F32", name, false, err);
    fm_buf_release(&tokenizer);
    if (st) return st;
    FM_TRY(emit(t, "export", NULL, err));
    return evaluate(t, true, err);
}

static void fill_result(const struct fm_trainer *t, bool stopped, struct fm_train_result *r)
{
    *r = (struct fm_train_result){.steps = t->step,
                                  .tokens = t->seen,
                                  .seconds = total_seconds(t),
                                  .loss = t->last_loss,
                                  .val_loss = t->val_loss,
                                  .val_bits_per_byte = t->val_bpb,
                                  .stopped = stopped};
}

static void init(struct fm_trainer *t, const struct fm_train_options *o)
{
    *t = (struct fm_trainer){.o = *o, .log.fd = -1, .started = fm_seconds()};
    t->val_loss = t->val_bpb = t->last_loss = t->grad_norm = t->lr = NAN;
    t->line = (struct fm_train_log){.loss = NAN,
                                    .mtp_loss = NAN,
                                    .balance_loss = NAN,
                                    .val_loss = NAN,
                                    .val_bits_per_byte = NAN,
                                    .expert_load_max = NAN,
                                    .expert_load_min = NAN,
                                    .tokens_per_second = NAN,
                                    .flops_per_second = NAN,
                                    .eta_seconds = NAN};
}

enum fm_status fm_train_run(const struct fm_train_options *o, struct fm_train_result *r, struct fm_error *err)
{
    struct fm_trainer t;
    struct fm_checkpoint k = {.fd = -1};
    struct fm_train_result result = {0};
    bool stopped = false;
    enum fm_status st;
    init(&t, o);
    FM_GOTO(fm_pool_new(o->threads, &t.pool, err));
    FM_GOTO(fm_trainer_configure(&t, &k, err));
    plan_schedule(&t);
    FM_GOTO(fm_trainer_plan(&t, err));
    if (o->plan_only) goto out;
    FM_GOTO(fm_trainer_prepare_text(&t, err));
    FM_GOTO(fm_trainer_allocate(&t, err));
    FM_GOTO(o->resume ? begin_old(&t, &k, err) : begin_new(&t, err));
    FM_GOTO(loop(&t, &stopped, err));
    if (!stopped) FM_GOTO(finish(&t, err));
    fill_result(&t, stopped, &result);
out:
    fm_checkpoint_close(&k);
    fm_trainer_release(&t);
    if (!st && r) *r = result;
    return st;
}
