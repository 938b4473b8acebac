/* fathom bench: how fast a model is here, and how much of what this machine allows that is. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/status.h"
#include "base/str.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    struct fm_bench_options o;
    const char *depth_list, *thread_list;
    int depths[FM_BENCH_LIST], threads[FM_BENCH_LIST];
    bool csv;
    struct fm_bar bar;
};

static const struct fm_opt bench_rows[] = {
    {'p', "prompt", FM_OPT_INT, offsetof(struct job, o.prompt), -1, 1 << 20, "N",
     "tokens of a prompt, -1: no prompts (default: 512)"},
    {'n', "tokens", FM_OPT_INT, offsetof(struct job, o.tokens), -1, 1 << 20, "N",
     "tokens decoded for a run, -1: none (default: 64)"},
    {'d', "depth", FM_OPT_TEXT, offsetof(struct job, depth_list), 0, 0, "LIST",
     "tokens in front (default: 0,4096,16384, as far as the context goes)"},
    {0, "thread-list", FM_OPT_TEXT, offsetof(struct job, thread_list), 0, 0, "LIST",
     "numbers of threads (default: 1 and those of --threads)"},
    {'r', "runs", FM_OPT_INT, offsetof(struct job, o.runs), 1, 1000, "N", "of each, for the median (default: 5)"},
    {0, "budget", FM_OPT_DOUBLE, offsetof(struct job, o.budget), 1, 1e6, "S",
     "seconds for all: fewer runs, and no depths that take longer (default: 600)"},
    {0, "csv", FM_OPT_FLAG, offsetof(struct job, csv), 0, 0, NULL, "the result as comma-separated values"},
    {0},
};

/* ---- options --------------------------------------------------------------------------------------------------- */

/* Whole numbers separated by commas. */
static enum fm_status read_list(const char *option, const char *text, int *v, int *n, struct fm_error *err)
{
    *n = 0;
    for (const char *p = text;; p++) {
        char *end;
        errno = 0;
        const long x = strtol(p, &end, 10);
        if (end == p || errno || x < 0 || x > INT_MAX || (*end && *end != ','))
            return fm_fail(err, FM_ERR_USAGE, "read options: --%s: '%.60s' is no list of numbers such as 0,4096",
                           option, text);
        if (*n == FM_BENCH_LIST)
            return fm_fail(err, FM_ERR_USAGE, "read options: --%s: more than %d numbers", option, FM_BENCH_LIST);
        v[(*n)++] = (int)x;
        if (!*end) return FM_OK;
        p = end;
    }
}

static enum fm_status choose(struct job *j, struct fm_error *err)
{
    if (j->csv && j->setup.json)
        return fm_fail(err, FM_ERR_USAGE, "read options: --csv: and --json exclude each other");
    if (j->depth_list) {
        FM_TRY(read_list("depth", j->depth_list, j->depths, &j->o.n_depths, err));
        j->o.depths = j->depths;
    }
    if (j->thread_list) {
        if (j->setup.engine.threads)
            return fm_fail(err, FM_ERR_USAGE, "read options: --thread-list: and --threads exclude each other");
        FM_TRY(read_list("thread-list", j->thread_list, j->threads, &j->o.n_threads, err));
        j->o.threads = j->threads;
    }
    return FM_OK;
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

static const char *kind(const struct fm_bench_row *r) { return r->decode ? "decode" : "prefill"; }

static double fraction(const struct fm_bench_row *r) { return r->limit > 0 ? r->rate / r->limit : 0; }

/* Half the range of the runs, as a part of the median. */
static double spread(const struct fm_bench_row *r)
{
    return r->rate > 0 ? (r->fastest - r->slowest) / (2 * r->rate) : 0;
}

static void print_head(const struct fm_bench_result *b)
{
    char file[16], kv[16], resident[16];
    printf("%s, %s, %s; %s, %s, load %.2f\n", b->model->name, b->model->format,
           fm_bytes_text(b->model->file_bytes, file), b->machine.cpu, b->machine.tier, b->machine.load);
    printf("opened in %.2f s; %s resident at most; KV cache %s a token, context %d\n", b->open_seconds,
           fm_bytes_text(b->resident_bytes, resident), fm_bytes_text(b->model->kv_bytes_per_token, kv), b->ctx);
    for (int i = 0; i < b->n_limits; i++) {
        const struct fm_bench_limit *l = &b->limits[i];
        printf("%d thread%s: reading %.1f GB/s, int8 %.0f GMAC/s (%s), float32 %.0f GMAC/s (%s)\n", l->threads,
               l->threads == 1 ? "" : "s", l->read * 1e-9, l->int8_peak * 1e-9, l->int8_instruction, l->f32_peak * 1e-9,
               l->f32_instruction);
    }
}

static void print_row(const struct fm_bench_row *r)
{
    printf("%-8s %7d %7d %7d", kind(r), r->threads, r->depth, r->tokens);
    if (r->left_out) {
        printf(" %10s  %s\n", "-", r->left_out);
        return;
    }
    printf(" %10.2f %5.1f %% %4d %10.1f %7.0f %% %s\n", r->rate, 100 * spread(r), r->runs, r->limit, 100 * fraction(r),
           r->by_memory ? "reading" : "arithmetic");
}

static void print_table(const struct fm_bench_result *b)
{
    print_head(b);
    printf("\n%-8s %7s %7s %7s %10s %7s %4s %10s %9s %s\n", "what", "threads", "depth", "tokens", "tokens/s", "±",
           "runs", "limit", "of it", "limited by");
    for (int i = 0; i < b->n_rows; i++) print_row(&b->rows[i]);
}

/* ---- JSON and CSV ---------------------------------------------------------------------------------------------- */

static void text_member(struct fm_buf *b, const char *key, const char *text)
{
    fm_buf_printf(b, "\"%s\":", key);
    if (text)
        fm_json_text(b, text, strlen(text));
    else
        fm_buf_str(b, "null");
    fm_buf_char(b, ',');
}

static void json_row(struct fm_buf *b, const struct fm_bench_row *r)
{
    fm_buf_printf(b, "{\"what\":\"%s\",\"threads\":%d,\"depth\":%d,\"tokens\":%d,\"runs\":%d,", kind(r), r->threads,
                  r->depth, r->tokens, r->runs);
    text_member(b, "left_out", r->left_out);
    fm_buf_printf(b,
                  "\"tokens_per_second\":%.6g,\"slowest\":%.6g,\"fastest\":%.6g,\"bytes_per_token\":%.9g,"
                  "\"int8_macs_per_token\":%.9g,\"f32_macs_per_token\":%.9g,\"limit\":%.6g,\"fraction\":%.4g,"
                  "\"limited_by\":\"%s\"}",
                  r->rate, r->slowest, r->fastest, r->bytes, r->int8_macs, r->f32_macs, r->limit, fraction(r),
                  r->by_memory ? "reading" : "arithmetic");
}

static void json_limit(struct fm_buf *b, const struct fm_bench_limit *l)
{
    fm_buf_printf(b, "{\"threads\":%d,\"read\":%.6g,\"int8_peak\":%.6g,\"f32_peak\":%.6g,", l->threads, l->read,
                  l->int8_peak, l->f32_peak);
    text_member(b, "int8_instruction", l->int8_instruction);
    text_member(b, "f32_instruction", l->f32_instruction);
    b->len--; /* the comma */
    fm_buf_char(b, '}');
}

static void json(struct fm_buf *b, const struct fm_bench_result *r)
{
    fm_buf_char(b, '{');
    text_member(b, "path", r->model->path);
    text_member(b, "name", r->model->name);
    text_member(b, "format", r->model->format);
    text_member(b, "cpu", r->machine.cpu);
    text_member(b, "tier", r->machine.tier);
    fm_buf_printf(b,
                  "\"when\":%lld,\"load\":%.2f,\"file_bytes\":%" PRIu64 ",\"kv_bytes_per_token\":%" PRIu64
                  ",\"ctx\":%d,\"open_seconds\":%.6g,\"resident_bytes\":%" PRIu64 ",\"seconds\":%.6g,\"limits\":[",
                  (long long)time(NULL), r->machine.load, r->model->file_bytes, r->model->kv_bytes_per_token, r->ctx,
                  r->open_seconds, r->resident_bytes, r->seconds);
    for (int i = 0; i < r->n_limits; i++) {
        if (i) fm_buf_char(b, ',');
        json_limit(b, &r->limits[i]);
    }
    fm_buf_str(b, "],\"rows\":[");
    for (int i = 0; i < r->n_rows; i++) {
        if (i) fm_buf_char(b, ',');
        json_row(b, &r->rows[i]);
    }
    fm_buf_str(b, "]}\n");
}

/* Quoted, quotes doubled (RFC 4180). */
static void csv_text(struct fm_buf *b, const char *text)
{
    fm_buf_char(b, '"');
    for (; *text; text++) {
        if (*text == '"') fm_buf_char(b, '"');
        fm_buf_char(b, *text);
    }
    fm_buf_str(b, "\",");
}

static void csv(struct fm_buf *b, const struct fm_bench_result *r)
{
    fm_buf_str(b, "when,cpu,tier,load,model,format,file_bytes,kv_bytes_per_token,what,threads,depth,tokens,runs,"
                  "tokens_per_second,slowest,fastest,limit,fraction,limited_by\n");
    for (int i = 0; i < r->n_rows; i++) {
        const struct fm_bench_row *row = &r->rows[i];
        if (row->left_out) continue;
        fm_buf_printf(b, "%lld,", (long long)time(NULL));
        csv_text(b, r->machine.cpu);
        fm_buf_printf(b, "%s,%.2f,", r->machine.tier, r->machine.load);
        csv_text(b, r->model->name);
        fm_buf_printf(b, "%s,%" PRIu64 ",%" PRIu64 ",%s,%d,%d,%d,%d,%.6g,%.6g,%.6g,%.6g,%.4g,%s\n", r->model->format,
                      r->model->file_bytes, r->model->kv_bytes_per_token, kind(row), row->threads, row->depth,
                      row->tokens, row->runs, row->rate, row->slowest, row->fastest, row->limit, fraction(row),
                      row->by_memory ? "reading" : "arithmetic");
    }
}

static enum fm_status print_result(const struct job *j, const struct fm_bench_result *r, struct fm_error *err)
{
    struct fm_buf b = {0};
    if (!j->csv && !j->setup.json) {
        print_table(r);
        return FM_OK;
    }
    if (j->csv)
        csv(&b, r);
    else
        json(&b, r);
    const bool failed = b.failed;
    if (!failed) fm_out(b.data, b.len);
    fm_buf_release(&b);
    return failed ? fm_fail_memory(err, "the figures", 4096) : FM_OK;
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static void cancel(void *bench) { fm_bench_cancel(bench); }

static bool show(void *arg, const char *what, int done, int total)
{
    struct job *j = arg;
    j->bar.total = (unsigned long long)total;
    fm_progress_bar(&j->bar, (unsigned long long)done, what);
    return !fm_signals_pending();
}

static enum fm_status measure(struct job *j, struct fm_error *err)
{
    struct fm_bench *b = NULL;
    const struct fm_bench_result *r;
    FM_TRY(fm_bench_new(&j->o, &b, err));
    enum fm_status st = FM_ERR_CANCELLED;
    if (fm_signals_busy(cancel, b)) st = fm_bench_run(b, &r, err);
    if (fm_signals_done()) st = FM_ERR_CANCELLED;
    fm_progress_end();
    if (!st) st = print_result(j, r, err);
    fm_bench_free(b);
    return st;
}

enum fm_status fm_cmd_bench(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {.bar = {.what = "bench", .unit = "figures"}};
    struct fm_setup *s = &j.setup;
    const struct fm_opt_set sets[] = {{fm_model_row, s}, {bench_rows, &j}, {fm_engine_rows, s},
                                      {fm_json_row, s},  {fm_log_rows, s}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(s, err));
    FM_TRY(fm_words_expect(cli, &words, 0, s->engine.model ? 0 : 1, "MODEL", err));
    FM_TRY(choose(&j, err));
    FM_TRY(fm_setup_model_word(s, &words, err));
    FM_TRY(fm_setup_plan(s, err));
    fm_signals_init();
    j.bar.start = fm_clock();
    j.o.engine = s->engine;
    j.o.progress = show;
    j.o.arg = &j;
    return measure(&j, err);
}
