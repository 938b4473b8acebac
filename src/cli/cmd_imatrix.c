/* fathom imatrix: which columns of the weights matter.  Collect from a text, add files up, look into one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    struct fm_calibration_options o;
    const char *show;
    bool merge;
    struct fm_bar bar;
};

#define AT(field) offsetof(struct job, field)
#define IN(field) offsetof(struct job, o.field)

static const struct fm_opt imatrix_rows[] = {
    {0, "text", FM_OPT_TEXT, IN(text), 0, 0, "FILE", "the calibration text"},
    {'o', "out", FM_OPT_TEXT, IN(out), 0, 0, "FILE", "the importance matrix (GGUF) to write"},
    {0, "chunks", FM_OPT_INT, IN(chunks), 1, 1 << 30, "N",
     "at most N chunks of --ctx tokens (default: all; --ctx: 512)"},
    {0, "from-chunk", FM_OPT_INT, IN(first), 0, 1 << 30, "N", "leave out the first N chunks"},
    {0, "save-every", FM_OPT_INT, IN(save_every), 1, 1 << 30, "N", "chunks between writes (default: 10)"},
    {0, "resume", FM_OPT_FLAG, IN(resume), 0, 0, NULL, "go on from the file of --out"},
    {0, "special", FM_OPT_FLAG, IN(special), 0, 0, NULL, "control tokens in the text count as such"},
    {0, "output-weight", FM_OPT_FLAG, IN(output), 0, 0, NULL, "the output matrix, too"},
    {0, "merge", FM_OPT_FLAG, AT(merge), 0, 0, NULL, "instead: add up the files named as words"},
    {0, "show", FM_OPT_TEXT, AT(show), 0, 0, "FILE", "instead: statistics of a file, tensor by tensor"},
    {0},
};

/* ---- looking --------------------------------------------------------------------------------------------------- */

static void print_table(const struct fm_importance *m)
{
    int tokens, width = 6;
    struct fm_importance_info i;
    const int64_t chunks = fm_importance_chunks(m, &tokens);
    for (int k = 0; fm_importance_text(m, k); k++) printf("text: %s\n", fm_importance_text(m, k));
    printf("chunks: %" PRId64 " of %d tokens\n", chunks, tokens);
    for (int k = 0; k < fm_importance_count(m); k++) {
        fm_importance_at(m, k, &i);
        if ((int)strlen(i.name) > width) width = (int)strlen(i.name);
    }
    printf("%-*s %9s %7s %19s %10s %10s %10s %10s %7s %7s\n", width, "tensor", "matrices", "columns", "rows", "mean",
           "deviation", "min", "max", "active", "entropy");
    for (int k = 0; k < fm_importance_count(m); k++) {
        char mats[48], rows[48];
        fm_importance_at(m, k, &i);
        snprintf(mats, sizeof mats, i.seen < i.matrices ? "%" PRIu64 "/%" PRIu64 : "%" PRIu64, i.seen, i.matrices);
        snprintf(rows, sizeof rows, i.rows_min < i.rows_max ? "%" PRId64 "..%" PRId64 : "%" PRId64, i.rows_min,
                 i.rows_max);
        printf("%-*s %9s %7" PRIu64 " %19s %10.4g %10.4g %10.4g %10.4g %6.2f%% %7.4f\n", width, i.name, mats, i.cols,
               rows, i.mean, i.dev, i.min, i.max, 100 * i.active, i.entropy);
    }
}

static void json_string(const char *text)
{
    struct fm_buf b = {0};
    fm_json_text(&b, text, strlen(text));
    if (!b.failed) fm_out(b.data, b.len);
    fm_buf_release(&b);
}

static void print_json(const struct fm_importance *m)
{
    int tokens;
    struct fm_importance_info i;
    const int64_t chunks = fm_importance_chunks(m, &tokens);
    printf("{\"texts\":[");
    for (int k = 0; fm_importance_text(m, k); k++) {
        if (k) printf(",");
        json_string(fm_importance_text(m, k));
    }
    printf("],\"chunks\":%" PRId64 ",\"chunk_tokens\":%d,\"tensors\":[", chunks, tokens);
    for (int k = 0; k < fm_importance_count(m); k++) {
        fm_importance_at(m, k, &i);
        printf("%s{\"name\":", k ? "," : "");
        json_string(i.name);
        printf(",\"matrices\":%" PRIu64 ",\"seen\":%" PRIu64 ",\"columns\":%" PRIu64 ",\"rows_min\":%" PRId64
               ",\"rows_max\":%" PRId64 ",\"mean\":%.9g,\"deviation\":%.9g,\"min\":%.9g,\"max\":%.9g,\"active\":%.9g,"
               "\"entropy\":%.9g}",
               i.matrices, i.seen, i.cols, i.rows_min, i.rows_max, i.mean, i.dev, i.min, i.max, i.active, i.entropy);
    }
    printf("]}\n");
}

static enum fm_status show(const struct job *j, struct fm_error *err)
{
    struct fm_importance *m;
    FM_TRY(fm_importance_open(j->show, &m, err));
    (j->setup.json ? print_json : print_table)(m);
    fm_importance_close(m);
    return FM_OK;
}

/* ---- collecting ------------------------------------------------------------------------------------------------ */

static void cancel(void *c) { fm_calibration_cancel(c); }

static void progress(void *arg, int done, int total)
{
    struct job *j = arg;
    (void)total;
    fm_progress_bar(&j->bar, (unsigned long long)done, "");
}

static enum fm_status show_plan(const struct job *j, struct fm_error *err)
{
    struct fm_engine_options o = j->o.engine;
    struct fm_plan plan = {.stream = stderr};
    if (!j->setup.mem) return FM_OK;
    if (!o.ctx) o.ctx = 512;
    o.chunk = o.ctx;
    FM_TRY(fm_memory_plan(&o, fm_plan_item, &plan, err));
    fm_plan_total(&plan);
    return FM_OK;
}

static enum fm_status collect(struct job *j, struct fm_error *err)
{
    struct fm_calibration *c = NULL;
    FM_TRY(show_plan(j, err));
    FM_TRY(fm_calibration_new(&j->o, &c, err));
    j->bar = (struct fm_bar){.what = "imatrix",
                             .unit = "chunks",
                             .start = fm_clock(),
                             .done0 = (unsigned long long)fm_calibration_done(c),
                             .total = (unsigned long long)fm_calibration_total(c)};
    enum fm_status st = FM_ERR_CANCELLED;
    if (fm_signals_busy(cancel, c)) st = fm_calibration_run(c, progress, j, err);
    fm_progress_end();
    if (fm_signals_done()) st = FM_ERR_CANCELLED;
    const int done = fm_calibration_done(c), total = fm_calibration_total(c);
    if (!st || (st == FM_ERR_CANCELLED && done > 0)) fm_note("wrote %s: %d of %d chunks", j->o.out, done, total);
    fm_calibration_free(c);
    return st;
}

static enum fm_status check_words(const struct job *j, const struct fm_cli *cli, const struct fm_words *w,
                                  struct fm_error *err)
{
    if (j->show && (j->merge || j->o.text || j->o.out))
        return fm_fail(err, FM_ERR_USAGE, "read options: --show: it goes with no other file");
    if (j->merge && j->o.text) return fm_fail(err, FM_ERR_USAGE, "read options: --merge: it needs no --text");
    if (!j->show && !j->merge && !j->o.text) return fm_fail(err, FM_ERR_USAGE, "read options: --text: it is missing");
    if (!j->show && !j->o.out) return fm_fail(err, FM_ERR_USAGE, "read options: --out: it is missing");
    return j->merge ? fm_words_expect(cli, w, 1, 1 << 20, "FILE", err) : fm_words_expect(cli, w, 0, 0, "", err);
}

enum fm_status fm_cmd_imatrix(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {{fm_model_row, &j.setup}, {imatrix_rows, &j},      {fm_engine_rows, &j.setup},
                                      {fm_json_row, &j.setup},  {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    if (!j.show && !j.merge) FM_TRY(fm_setup_model_word(&j.setup, &words, err));
    FM_TRY(check_words(&j, cli, &words, err));
    if (j.show) return show(&j, err);
    if (j.merge) {
        FM_TRY(fm_importance_merge((const char *const *)words.v, words.n, j.o.out, err));
        fm_note("wrote %s", j.o.out);
        return FM_OK;
    }
    j.o.engine = j.setup.engine;
    fm_signals_init();
    return collect(&j, err);
}
