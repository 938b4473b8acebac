/* What a checkpoint says about a run: JSON for what has a name, arrays for the rest.
 *
 * There is no state of a random generator in it: every random choice follows from the seed and a counter that is. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "train/trainer.h"

/* 64-bit sums as text: JSON integers end at 2^63. */
static json_t *hex(uint64_t v)
{
    char s[20];
    snprintf(s, sizeof s, "%016" PRIx64, v);
    return json_string(s);
}

static uint64_t from_hex(const json_t *j, const char *key)
{
    uint64_t v = 0;
    (void)sscanf(fm_json_str(j, key, "0"), "%" SCNx64, &v);
    return v;
}

static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *progress_to_json(const struct fm_trainer *t)
{
    const struct fm_train_sums *s = &t->sums;
    json_t *loads = json_array();
    for (int i = 0; i < t->n_load; i++) json_array_append_new(loads, json_integer(t->load_sum[i]));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:f, s:o, s:o, s:o, s:o}", "step",
                     (json_int_t)t->step, "steps_total", (json_int_t)t->plan.steps, "tokens", (json_int_t)t->seen,
                     "epoch", (json_int_t)t->data.cursor.epoch, "index", (json_int_t)t->data.cursor.index, "seconds",
                     t->seconds + fm_seconds() - t->started, "sum_loss", s->loss, "sum_mtp_loss", s->mtp_loss,
                     "sum_balance_loss", s->balance_loss, "sum_steps", (json_int_t)s->steps, "sum_seconds", s->seconds,
                     "last_loss", number(t->last_loss), "val_loss", number(t->val_loss), "val_bpb", number(t->val_bpb),
                     "sum_load", loads);
}

static json_t *head_to_json(const struct fm_trainer *t)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "format", "fathom checkpoint", "preset",
                     t->preset, "config", fm_config_to_json(&t->cfg), "settings", fm_settings_to_json(&t->o),
                     "progress", progress_to_json(t), "tokens_sum", hex(t->tokens.sum), "corpus_sum",
                     hex(t->corpus_sum), "tokenizer_sum", hex(t->tokenizer_sum), "n_values",
                     (json_int_t)t->params.n_all);
}

/* Moments of buffers do not exist, but equal lengths keep the layout simple. */
static void arrays_of(const struct fm_params *p, struct fm_checkpoint_array out[3])
{
    const size_t bytes = fm_params_bytes(p);
    out[0] = (struct fm_checkpoint_array){p->p, bytes};
    out[1] = (struct fm_checkpoint_array){p->m, bytes};
    out[2] = (struct fm_checkpoint_array){p->v, bytes};
}

enum fm_status fm_trainer_save(struct fm_trainer *t, struct fm_error *err)
{
    struct fm_checkpoint_array arrays[3];
    arrays_of(&t->params, arrays);
    json_t *head = head_to_json(t);
    enum fm_status st = fm_checkpoint_save(fm_trainer_path(t, "checkpoint.fmc"), head, arrays, 3, err);
    json_decref(head);
    return st;
}

static enum fm_status malformed(const struct fm_checkpoint *k, const char *what, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read checkpoint: %s: header: %s", k->path, what);
}

static void progress_from_json(struct fm_trainer *t, const json_t *j)
{
    struct fm_train_sums *s = &t->sums;
    t->step = fm_json_int(j, "step", -1);
    t->plan.steps = fm_json_int(j, "steps_total", -1);
    t->seen = fm_json_int(j, "tokens", -1);
    t->data.cursor = (struct fm_cursor){fm_json_int(j, "epoch", -1), fm_json_int(j, "index", -1)};
    t->seconds = fm_json_num(j, "seconds", 0);
    s->loss = fm_json_num(j, "sum_loss", 0);
    s->mtp_loss = fm_json_num(j, "sum_mtp_loss", 0);
    s->balance_loss = fm_json_num(j, "sum_balance_loss", 0);
    s->steps = fm_json_int(j, "sum_steps", 0);
    s->seconds = fm_json_num(j, "sum_seconds", 0);
    t->last_loss = fm_json_num(j, "last_loss", NAN);
    t->val_loss = fm_json_num(j, "val_loss", NAN);
    t->val_bpb = fm_json_num(j, "val_bpb", NAN);
}

/* A longer run shares the plateau of a WSD schedule (schedule.h): where both plans ask for the peak rate, N may change. */
static enum fm_status change_length(struct fm_trainer *t, int64_t steps, int64_t tokens, struct fm_error *err)
{
    const int64_t per_step = (int64_t)t->o.seq * t->o.batch, n = steps ? steps : (tokens + per_step - 1) / per_step;
    const double longer = (double)(n > t->plan.steps ? n : t->plan.steps),
                 shorter = (double)(n < t->plan.steps ? n : t->plan.steps);
    const double from = (double)t->o.warmup * longer, to = (1 - (double)t->o.decay) * shorter, now = (double)t->step;
    if (t->o.schedule != FM_SCHEDULE_WSD || now < from || now > to)
        return fm_fail(err, FM_ERR_USAGE,
                       "resume: length: it may change on the plateau of a WSD schedule only, steps %.0f to %.0f here; "
                       "this is step %.0f",
                       from, to, now);
    t->plan.steps = n;
    t->o.steps = steps;
    t->o.tokens = steps ? 0 : tokens;
    t->o.minutes = 0;
    return FM_OK;
}

enum fm_status fm_trainer_restore_head(struct fm_trainer *t, const struct fm_checkpoint *k, struct fm_error *err)
{
    const json_t *head = k->head, *progress = json_object_get(head, "progress");
    if (strcmp(fm_json_str(head, "format", ""), "fathom checkpoint")) return malformed(k, "not of a training run", err);
    FM_TRY(fm_config_from_json(json_object_get(head, "config"), k->path, &t->cfg, err));
    const char *preset = fm_json_str(head, "preset", "");
    if (t->o.preset && strcmp(t->o.preset, preset))
        return fm_fail(err, FM_ERR_USAGE, "resume: preset: the checkpoint is of '%s', not '%s'", preset, t->o.preset);
    const int64_t steps = t->o.steps, tokens = t->o.tokens;
    t->o.steps = t->o.tokens = 0;
    FM_TRY(fm_settings_resume(&t->o, json_object_get(head, "settings"), err));
    snprintf(t->preset, sizeof t->preset, "%s", preset);
    progress_from_json(t, progress);
    if (t->step < 0 || t->plan.steps < 1 || t->seen < 0 || t->data.cursor.epoch < 0 || t->data.cursor.index < 0)
        return malformed(k, "progress is missing", err);
    if ((steps && steps != t->o.steps) || (!steps && tokens && tokens != t->o.tokens))
        FM_TRY(change_length(t, steps, tokens, err));
    t->corpus_sum = from_hex(head, "corpus_sum");
    t->tokenizer_sum = from_hex(head, "tokenizer_sum");
    return FM_OK;
}

enum fm_status fm_trainer_restore_arrays(struct fm_trainer *t, struct fm_checkpoint *k, struct fm_error *err)
{
    struct fm_checkpoint_array arrays[3];
    const json_t *loads = json_object_get(json_object_get(k->head, "progress"), "sum_load");
    if (fm_json_int(k->head, "n_values", -1) != (int64_t)t->params.n_all || json_array_size(loads) != (size_t)t->n_load)
        return malformed(k, "its sizes do not fit its config", err);
    if (from_hex(k->head, "tokens_sum") != t->tokens.sum)
        return fm_fail(err, FM_ERR_USAGE, "resume: %s: the checkpoint was trained on another corpus", k->path);
    for (int i = 0; i < t->n_load; i++) t->load_sum[i] = json_integer_value(json_array_get(loads, (size_t)i));
    arrays_of(&t->params, arrays);
    return fm_checkpoint_read(k, arrays, 3, err);
}
