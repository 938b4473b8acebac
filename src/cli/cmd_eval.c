/* fathom eval: a model's answers to a set of questions. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    struct fm_eval_options o;
    struct fm_opt_list stop;
    struct fm_bar bar;
};

#define AT(field) offsetof(struct job, field)

static const struct fm_opt eval_rows[] = {
    {0, "shots", FM_OPT_INT, AT(o.shots), 0, 1000, "N", "examples in front of each question (default: 0)"},
    {0, "shots-from", FM_OPT_TEXT, AT(o.shots_from), 0, 0, "FILE", "the examples' set (default: others of SET)"},
    {0, "limit", FM_OPT_INT, AT(o.limit), 1, 0x7fffffff, "N", "only N items (default: all)"},
    {'s', "seed", FM_OPT_UINT64, AT(o.seed), 0, 0x1p64, "N",
     "which items and examples, and in which order (default: 0, as they stand)"},
    {0, "raw", FM_OPT_FLAG, AT(o.raw), 0, 0, NULL, "questions as plain text even where the model has a chat format"},
    {0, "match", FM_OPT_TEXT, AT(o.match), 0, 0, "HOW",
     "compare answers: exact, text, starts, contains, number or auto (default: auto)"},
    {0, "regex", FM_OPT_TEXT, AT(o.pattern), 0, 0, "PATTERN", "only the last match in an answer counts"},
    {'n', "max-tokens", FM_OPT_INT, AT(o.max_tokens), 1, 0x7fffffff, "N", "of an answer (default: 256)"},
    {0, "stop", FM_OPT_LIST, AT(stop), 0, 0, "TEXT",
     "ends an answer; may be repeated (default: an empty line, where it is plain text)"},
    {'o', "out", FM_OPT_TEXT, AT(o.out), 0, 0, "FILE", "a JSON line per item; what it holds already is not done again"},
    {0},
};

static bool show(void *arg, const struct fm_eval_progress *p)
{
    struct job *j = arg;
    char note[48] = "";
    if (j->bar.start <= 0) {
        j->bar =
            (struct fm_bar){.what = "eval", .unit = "items", .start = fm_clock(), .done0 = (unsigned long long)p->done};
        if (p->done) fm_note("going on: %d of %d items are done", p->done, p->total);
    }
    j->bar.total = (unsigned long long)p->total;
    if (p->done) snprintf(note, sizeof note, "%.2f %% right", 100.0 * p->right / p->done);
    fm_progress_bar(&j->bar, (unsigned long long)p->done, note);
    return !fm_signals_pending();
}

static void cancel(void *eval) { fm_eval_cancel(eval); }

/* ---- result ---------------------------------------------------------------------------------------------------- */

static void print_part(const char *name, int n, struct fm_estimate x)
{
    printf("%-10s %8.4f ± %.4f %%   of %d items\n", name, 100 * x.value, 100 * x.error, n);
}

static void print_text(const struct fm_eval_result *r)
{
    if (r->choice_items) {
        print_part("acc", r->choice_items, r->acc);
        print_part("acc_norm", r->choice_items, r->acc_norm);
        printf("%-10s %8.4f %%\n", "chance", 100 * r->chance.value);
    }
    if (r->answer_items) print_part("right", r->answer_items, r->right);
    if (r->cut) fm_note("%d answers were cut at --max-tokens", r->cut);
}

static void json_estimate(const char *name, struct fm_estimate x)
{
    if (isnan(x.value))
        printf(",\"%s\":null", name);
    else
        printf(",\"%s\":%.12g,\"%s_error\":%.12g", name, x.value, name, x.error);
}

static void print_json(const struct fm_eval_result *r)
{
    printf("{\"items\":%d,\"choice_items\":%d,\"answer_items\":%d,\"cut\":%d", r->items, r->choice_items,
           r->answer_items, r->cut);
    json_estimate("acc", r->acc);
    json_estimate("acc_norm", r->acc_norm);
    json_estimate("chance", r->chance);
    json_estimate("right", r->right);
    printf(",\"seconds\":%.3f}\n", r->seconds);
}

/* ---- the run --------------------------------------------------------------------------------------------------- */

static enum fm_status evaluate(struct job *j, struct fm_engine *e, struct fm_error *err)
{
    struct fm_eval *v = NULL;
    struct fm_eval_result r;
    j->o.stop = j->stop.v;
    j->o.n_stop = j->stop.n;
    j->o.ctx = j->setup.engine.ctx;
    j->o.progress = show;
    j->o.arg = j;
    FM_TRY(fm_eval_new(e, &j->o, &v, err));
    enum fm_status st = FM_ERR_CANCELLED;
    if (fm_signals_busy(cancel, v)) st = fm_eval_run(v, &r, err);
    fm_progress_end();
    if (st == FM_ERR_CANCELLED)
        fm_note("stopped behind item %d of %d; %s", fm_eval_done(v), fm_eval_total(v),
                j->o.out ? "the same command goes on from there" : "with --out FILE it could go on");
    if (!st && j->setup.json)
        print_json(&r);
    else if (!st)
        print_text(&r);
    (void)fm_signals_done();
    fm_eval_free(v);
    return st;
}

enum fm_status fm_cmd_eval(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{fm_model_row, &j.setup}, {eval_rows, &j},         {fm_engine_rows, &j.setup},
                                      {fm_json_row, &j.setup},  {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    struct fm_engine *e = NULL;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(words.n > 1 ? fm_setup_model_word(&j.setup, &words, err) : fm_setup_model(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 1, 1, "SET", err));
    j.o.set = words.v[0];
    j.setup.engine.deterministic = true; /* an item's result must not follow from the items before it */
    fm_signals_init();
    FM_TRY(fm_setup_open(&j.setup, &e, err));
    const enum fm_status st = evaluate(&j, e, err);
    fm_engine_close(e);
    return st;
}
