/* fathom perplexity: how well a model foretells a text, and how far its predictions lie from another one's. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

enum { TEXT_MAX = 1 << 30 }; /* bytes */

struct job {
    struct fm_setup setup;
    struct fm_judge_options o;
    const char *text, *kld;
    bool kld_exact;
    int32_t *ids;
    struct fm_bar bar;
};

#define AT(field) offsetof(struct job, field)

static const struct fm_opt perplexity_rows[] = {
    {'f', "text", FM_OPT_TEXT, AT(text), 0, 0, "FILE",
     "the text, - is standard input; read in windows of --ctx tokens (default: 512)"},
    {0, "chunks", FM_OPT_INT, AT(o.chunks), 1, 0x7fffffff, "N", "only the first N windows (default: all)"},
    {0, "kld", FM_OPT_TEXT, AT(kld), 0, 0, "REFERENCE",
     "compare with another model, which then runs beside this one, or with a file of --save-logits"},
    {0, "kld-exact", FM_OPT_FLAG, AT(kld_exact), 0, 0, NULL, "run the model of --kld with --exact"},
    {0, "save-logits", FM_OPT_TEXT, AT(o.save), 0, 0, "FILE",
     "write the log-probabilities, for --kld; llama.cpp's format, 2 bytes per entry of the vocabulary and position"},
    {0, "state", FM_OPT_TEXT, AT(o.state), 0, 0, "FILE",
     "keep what is done there; the same command goes on from it (default: beside --save-logits)"},
    {0},
};

/* ---- progress -------------------------------------------------------------------------------------------------- */

static bool show(void *arg, const struct fm_judge_progress *p)
{
    struct job *j = arg;
    char note[96] = "";
    if (j->bar.start <= 0) {
        j->bar = (struct fm_bar){
            .what = "perplexity", .unit = "chunks", .start = fm_clock(), .done0 = (unsigned long long)p->done};
        if (p->done) fm_note("going on behind chunk %d of %d", p->done, p->total);
    }
    j->bar.total = (unsigned long long)p->total;
    if (p->done && isnan(p->kld))
        snprintf(note, sizeof note, "PPL %.4f ± %.4f", p->ppl, p->ppl_error);
    else if (p->done)
        snprintf(note, sizeof note, "PPL %.4f ± %.4f  KLD %.6f", p->ppl, p->ppl_error, p->kld);
    fm_progress_bar(&j->bar, (unsigned long long)p->done, note);
    return !fm_signals_pending();
}

static void cancel(void *judge) { fm_judge_cancel(judge); }

/* ---- result ---------------------------------------------------------------------------------------------------- */

static const char *const quantile_name[FM_JUDGE_QUANTILES] = {"min", "1%",  "5%",  "10%", "25%",   "median",
                                                              "75%", "90%", "95%", "99%", "99.9%", "max"};

static void print_estimate(const char *name, struct fm_estimate x, double factor, const char *unit)
{
    printf("%-22s %12.6f ± %.6f%s\n", name, factor * x.value, factor * x.error, unit);
}

static void print_quantiles(const char *name, const double *q, double factor, const char *unit)
{
    for (int i = FM_JUDGE_QUANTILES; i-- > 0;)
        printf("%-4s %-17s %12.6f%s\n", name, quantile_name[i], factor * q[i], unit);
}

static void print_text(const struct fm_judge_result *r)
{
    printf("%-22s %d of %d tokens, %" PRIu64 " positions\n", "chunks", r->chunks, r->ctx, r->scored);
    print_estimate("PPL", r->ppl, 1, "");
    print_estimate("-ln p", r->nll, 1, "");
    if (!isnan(r->bits_per_byte)) printf("%-22s %12.6f\n", "bits per byte", r->bits_per_byte);
    if (!r->compared) return;
    print_estimate("PPL(base)", r->ppl_base, 1, "");
    print_estimate("ln(PPL/PPL(base))", r->ln_ratio, 1, "");
    print_estimate("PPL/PPL(base)", r->ratio, 1, "");
    if (!isnan(r->correlation)) printf("%-22s %12.6f %%\n", "correlation of ln p", 100 * r->correlation);
    print_estimate("same top token", r->same_top, 100, " %");
    print_estimate("KLD", r->kld, 1, "");
    print_quantiles("KLD", r->kld_quantiles, 1, "");
    print_estimate("Δp", r->p_diff, 100, " %");
    print_estimate("Δp RMS", r->p_diff_rms, 100, " %");
    print_quantiles("Δp", r->p_diff_quantiles, 100, " %");
}

static void json_number(const char *name, double x)
{
    if (isfinite(x))
        printf(",\"%s\":%.12g", name, x);
    else
        printf(",\"%s\":null", name);
}

static void json_estimate(const char *name, struct fm_estimate x)
{
    char error[64];
    snprintf(error, sizeof error, "%s_error", name);
    json_number(name, x.value);
    json_number(error, x.error);
}

static void json_quantiles(const char *name, const double *q)
{
    printf(",\"%s\":{", name);
    for (int i = 0; i < FM_JUDGE_QUANTILES; i++) printf("%s\"%s\":%.12g", i ? "," : "", quantile_name[i], q[i]);
    printf("}");
}

static void print_json(const struct fm_judge_result *r)
{
    printf("{\"chunks\":%d,\"ctx\":%d,\"positions\":%" PRIu64, r->chunks, r->ctx, r->scored);
    json_estimate("ppl", r->ppl);
    json_estimate("nll", r->nll);
    json_number("bits_per_byte", r->bits_per_byte);
    if (r->compared) {
        json_estimate("ppl_base", r->ppl_base);
        json_estimate("ln_ratio", r->ln_ratio);
        json_estimate("ratio", r->ratio);
        json_number("correlation", r->correlation);
        json_estimate("same_top", r->same_top);
        json_estimate("kld", r->kld);
        json_quantiles("kld_quantiles", r->kld_quantiles);
        json_estimate("p_diff", r->p_diff);
        json_estimate("p_diff_rms", r->p_diff_rms);
        json_quantiles("p_diff_quantiles", r->p_diff_quantiles);
    }
    printf(",\"tokens\":%" PRId64 ",\"seconds\":%.3f}\n", r->tokens, r->seconds);
}

static void print_result(const struct job *j, const struct fm_judge_result *r)
{
    if (j->setup.json)
        print_json(r);
    else
        print_text(r);
    if (r->tokens && r->seconds > 0)
        fm_note("%" PRId64 " tokens in %.1f s, %.0f tokens/s", r->tokens, r->seconds, (double)r->tokens / r->seconds);
}

/* ---- the run --------------------------------------------------------------------------------------------------- */

static enum fm_status read_text(struct job *j, const struct fm_engine *e, struct fm_error *err)
{
    const struct fm_tokenizer *t = fm_engine_tokenizer(e);
    struct fm_buf text = {0};
    size_t n = 0;
    if (!j->text) return FM_OK;
    if (!t) return fm_fail(err, FM_ERR_INPUT, "read the text: %s: the model has no tokenizer", fm_engine_info(e)->path);
    enum fm_status st =
        strcmp(j->text, "-") ? fm_buf_read_file(&text, j->text, TEXT_MAX, err) : fm_stdin_read(&text, err);
    if (!st && text.failed) st = fm_fail_memory(err, "the text", text.len);
    if (!st)
        st = fm_text_encode(t, text.data ? text.data : "", text.len, fm_text_adds_bos(t) ? FM_TEXT_BOS : 0, &j->ids, &n,
                            err);
    fm_buf_release(&text);
    j->o.ids = j->ids;
    j->o.n_ids = n;
    return st;
}

static enum fm_status open_base(struct job *j, struct fm_engine **base, struct fm_error *err)
{
    struct fm_setup s = j->setup;
    if (!j->kld || j->o.reference) return FM_OK;
    s.engine.model = j->kld;
    s.engine.exact |= j->kld_exact;
    FM_TRY(fm_setup_model(&s, err));
    return fm_setup_open(&s, base, err);
}

static enum fm_status judge(struct job *j, struct fm_engine *e, struct fm_error *err)
{
    struct fm_judge *g = NULL;
    struct fm_judge_result r;
    char size[16];
    j->o.progress = show;
    j->o.arg = j;
    FM_TRY(fm_judge_new(e, &j->o, &g, err));
    if (j->o.save) fm_note("%s will take %s", j->o.save, fm_bytes_text(fm_judge_save_bytes(g), size));
    enum fm_status st = FM_ERR_CANCELLED;
    if (fm_signals_busy(cancel, g)) st = fm_judge_run(g, &r, err);
    fm_progress_end();
    if (!st) print_result(j, &r);
    if (st == FM_ERR_CANCELLED && (j->o.state || j->o.save))
        fm_note("stopped behind chunk %d of %d; the same command goes on from there", fm_judge_done(g),
                fm_judge_total(g));
    else if (st == FM_ERR_CANCELLED)
        fm_note("stopped behind chunk %d of %d; with --state FILE it could go on", fm_judge_done(g), fm_judge_total(g));
    (void)fm_signals_done();
    fm_judge_free(g);
    return st;
}

static enum fm_status run(struct job *j, struct fm_error *err)
{
    struct fm_engine *e = NULL, *base = NULL;
    enum fm_status st;
    FM_GOTO(fm_setup_open(&j->setup, &e, err));
    FM_GOTO(read_text(j, e, err));
    FM_GOTO(open_base(j, &base, err));
    j->o.base = base;
    st = judge(j, e, err);
out:
    fm_engine_close(base);
    fm_engine_close(e);
    fm_text_free(j->ids);
    return st;
}

/* Windows of 512 tokens, or what the model was trained with if that is less. */
static enum fm_status default_ctx(const struct job *j, int *ctx, struct fm_error *err)
{
    struct fm_model_info *info;
    FM_TRY(fm_model_inspect(j->setup.engine.model, &info, err));
    *ctx = info->ctx_train >= 3 && info->ctx_train < 512 ? info->ctx_train : 512;
    fm_model_info_free(info);
    return FM_OK;
}

/* Which kind of reference, and how long the windows are. */
static enum fm_status choose(struct job *j, struct fm_error *err)
{
    int *ctx = &j->setup.engine.ctx, chunks;
    if (j->kld && !*j->kld) return fm_fail(err, FM_ERR_USAGE, "read options: --kld: the name is empty");
    if (j->kld && fm_judge_is_reference(j->kld)) j->o.reference = j->kld;
    if (j->kld_exact && (!j->kld || j->o.reference))
        return fm_fail(err, FM_ERR_USAGE, "read options: --kld-exact: --kld names no model");
    if (!j->text && !j->o.reference) {
        (void)fm_fail(err, FM_ERR_USAGE, "read options: --text: it is missing");
        fm_hint(err, "fathom perplexity MODEL --text FILE");
        return FM_ERR_USAGE;
    }
    if (*ctx > 0 && *ctx < 3)
        return fm_fail(err, FM_ERR_USAGE, "read options: --ctx: %d tokens are too few for a window", *ctx);
    j->o.ctx = *ctx;
    if (*ctx) return FM_OK;
    if (j->o.reference) return fm_judge_reference(j->o.reference, ctx, &chunks, err);
    FM_TRY(default_ctx(j, ctx, err));
    j->o.ctx = *ctx;
    return FM_OK;
}

enum fm_status fm_cmd_perplexity(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{fm_model_row, &j.setup}, {perplexity_rows, &j},   {fm_engine_rows, &j.setup},
                                      {fm_json_row, &j.setup},  {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_setup_model_word(&j.setup, &words, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 0, "", err));
    FM_TRY(choose(&j, err));
    fm_signals_init();
    return run(&j, err);
}
