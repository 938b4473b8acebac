/* See settings.h. */
#include "train/settings.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum type { INT, INT64, FLOAT, DOUBLE };

/* One row per number: key in the checkpoint and in messages, place, limits. */
static const struct setting {
    const char *key;
    size_t at;
    enum type type;
    double min, max;
} settings[] = {
/* clang-format off */
#define ROW(field, type, min, max) {#field, offsetof(struct fm_train_options, field), type, min, max}
    ROW(steps, INT64, 0, 1e12),
    ROW(minutes, DOUBLE, 0, 1e7),
    ROW(tokens, INT64, 0, 1e15),
    ROW(seq, INT, 0, 1 << 17),
    ROW(batch, INT, 0, 1 << 16),
    ROW(micro, INT, 0, 1 << 16),
    ROW(vocab, INT, 0, 1 << 20),
    ROW(lr, FLOAT, 0, 10),
    ROW(schedule, INT, 0, 1),
    ROW(warmup, FLOAT, 0, 1),
    ROW(decay, FLOAT, 0, 1),
    ROW(lr_min, FLOAT, 0, 1),
    ROW(beta1, FLOAT, 0, 0.9999999),
    ROW(beta2, FLOAT, 0, 0.9999999),
    ROW(eps, FLOAT, 0, 1),
    ROW(weight_decay, FLOAT, 0, 10),
    ROW(clip, FLOAT, 0, 1e6),
    ROW(mtp_weight, FLOAT, 0, 100),
    ROW(balance_weight, FLOAT, 0, 100),
    ROW(bias_rate, FLOAT, 0, 10),
    ROW(val_fraction, FLOAT, 0, 0.5),
    ROW(seed, INT64, -1e19, 1e19),
#undef ROW
    /* clang-format on */
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };
_Static_assert(sizeof(enum fm_schedule) == sizeof(int), "schedule is read as an int");

void fm_train_options_default(struct fm_train_options *o)
{
    *o = (struct fm_train_options){
        .schedule = FM_SCHEDULE_WSD,
        .warmup = 0.02f,
        .decay = 0.3f,
        .lr_min = 0.05f,
        .beta1 = 0.9f,
        .beta2 = 0.95f,
        .eps = 1e-8f,
        .weight_decay = 0.1f,
        .clip = 1,
        .mtp_weight = 0.3f,
        .balance_weight = 1e-3f,
        .bias_rate = 0.02f, /* training.md §1.3: the report's 0.001 lets small routers collapse within 30 steps */
        .val_fraction = 0.01f,
        .eval_every = 100,
        .save_every = 200,
        .log_every = 10,
        .seed = 1,
    };
}

static const void *at(const struct fm_train_options *o, const struct setting *s) { return (const char *)o + s->at; }

static double as_double(const struct fm_train_options *o, const struct setting *s)
{
    switch (s->type) {
    case INT: return *(const int *)at(o, s);
    case INT64: return (double)*(const int64_t *)at(o, s);
    case FLOAT: return (double)*(const float *)at(o, s);
    default: return *(const double *)at(o, s);
    }
}

static bool same(const struct fm_train_options *a, const struct fm_train_options *b, const struct setting *s)
{
    static const size_t sizes[] = {sizeof(int), sizeof(int64_t), sizeof(float), sizeof(double)};
    return memcmp(at(a, s), at(b, s), sizes[s->type]) == 0;
}

enum fm_status fm_settings_check(const struct fm_train_options *o, struct fm_error *err)
{
    for (int i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        const double v = as_double(o, s);
        if (!(v >= s->min && v <= s->max))
            return fm_fail(err, FM_ERR_USAGE, "train: %s: %g is not within %g … %g", s->key, v, s->min, s->max);
    }
    if (o->warmup + o->decay > 1)
        return fm_fail(err, FM_ERR_USAGE, "train: warmup, decay: together more than the whole run");
    if (o->eval_every < 0 || o->save_every < 0 || o->log_every < 0)
        return fm_fail(err, FM_ERR_USAGE, "train: eval_every, save_every, log_every: must not be negative");
    return FM_OK;
}

void fm_settings_fill(struct fm_train_options *o, const struct fm_preset_row *p)
{
    static const struct fm_preset_row other = {.V = 4096, .seq = 256, .batch = 16, .lr = 1e-3f, .minutes = 60};
    if (!p) p = &other;
    if (!o->vocab) o->vocab = p->V;
    if (!o->seq) o->seq = p->seq;
    if (!o->batch) o->batch = p->batch;
    if (o->lr <= 0) o->lr = p->lr;
    if (!o->steps && !o->tokens && o->minutes <= 0) o->minutes = p->minutes;
}

json_t *fm_settings_to_json(const struct fm_train_options *o)
{
    json_t *j = json_object();
    for (int i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        json_t *v = s->type == INT     ? json_integer(*(const int *)at(o, s))
                    : s->type == INT64 ? json_integer(*(const int64_t *)at(o, s))
                                       : json_real(as_double(o, s));
        if (json_object_set_new(j, s->key, v)) {
            json_decref(j);
            return NULL;
        }
    }
    return j;
}

/* v (a JSON number) into the field. */
static void assign(struct fm_train_options *o, const struct setting *s, const json_t *v)
{
    void *p = (char *)o + s->at;
    switch (s->type) {
    case INT: *(int *)p = (int)json_integer_value(v); break;
    case INT64: *(int64_t *)p = json_integer_value(v); break;
    case FLOAT: *(float *)p = (float)json_number_value(v); break;
    default: *(double *)p = json_number_value(v);
    }
}

enum fm_status fm_settings_resume(struct fm_train_options *o, const json_t *stored, struct fm_error *err)
{
    struct fm_train_options dflt, kept = *o;
    fm_train_options_default(&dflt);
    for (int i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        const json_t *v = json_object_get(stored, s->key);
        if (!json_is_number(v)) return fm_fail(err, FM_ERR_INPUT, "resume: checkpoint: it has no setting '%s'", s->key);
        assign(&kept, s, v);
        if (!same(o, &dflt, s) && !same(o, &kept, s))
            return fm_fail(err, FM_ERR_USAGE, "resume: %s: the checkpoint was trained with %.*g, not %.*g", s->key,
                           s->type == FLOAT ? 6 : 15, as_double(&kept, s), s->type == FLOAT ? 6 : 15, as_double(o, s));
    }
    FM_TRY(fm_settings_check(&kept, err));
    *o = kept;
    return FM_OK;
}
