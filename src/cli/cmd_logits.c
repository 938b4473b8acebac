/* fathom logits: token ids in, the model's logits out.  No tokenizer, no sampling: what a test compares. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "cli/input.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    const char *tokens, *format;
    bool all;
    int32_t *ids;
    size_t n;
};

#define AT(field) offsetof(struct job, field)

static const struct fm_opt logits_rows[] = {
    {0, "tokens", FM_OPT_TEXT, AT(tokens), 0, 0, "IDS", "1,2,3 or - for standard input; nothing is added to them"},
    {0, "all", FM_OPT_FLAG, AT(all), 0, 0, NULL, "every position, not only the last"},
    {0, "format", FM_OPT_TEXT, AT(format), 0, 0, "F", "json, or f32: raw, little-endian, [positions,vocabulary]"},
    {0},
};

static enum fm_status read_ids(struct job *j, struct fm_error *err)
{
    bool from_stdin = strcmp(j->tokens, "-") == 0;
    struct fm_buf text = {0};
    enum fm_status st = FM_OK;
    if (from_stdin)
        st = fm_stdin_read(&text, err);
    else
        fm_buf_str(&text, j->tokens);
    if (!st && text.failed) st = fm_fail_memory(err, "token ids", text.len);
    enum fm_status bad = from_stdin ? FM_ERR_INPUT : FM_ERR_USAGE;
    const char *where = from_stdin ? "standard input" : "--tokens";
    if (!st) st = fm_ids_parse(text.data, text.len, where, bad, &j->ids, &j->n, err);
    if (!st && !j->n) st = fm_fail(err, bad, "read token ids: %s: there are none", where);
    if (!st && j->n > INT_MAX) st = fm_fail(err, bad, "read token ids: %s: %zu are too many", where, j->n);
    fm_buf_release(&text);
    return st;
}

/* ---- output ---------------------------------------------------------------------------------------------------- */

static void print_row(const float *row, int vocab)
{
    char number[40];
    for (int v = 0; v < vocab; v++) {
        const char *comma = v ? "," : "";
        int n = isfinite(row[v]) ? snprintf(number, sizeof number, "%s%.9g", comma, (double)row[v])
                                 : snprintf(number, sizeof number, "%snull", comma); /* JSON has no NaN */
        fm_out(number, (size_t)n);
    }
}

static void print_json(const float *logits, size_t first, size_t n, int vocab)
{
    printf("{\"vocab\":%d,\"positions\":[", vocab);
    for (size_t i = 0; i < n; i++) printf("%s%zu", i ? "," : "", first + i);
    printf("],\"logits\":[");
    for (size_t i = 0; i < n; i++) {
        printf(i ? ",[" : "[");
        print_row(logits + i * (size_t)vocab, vocab);
        printf("]");
    }
    printf("]}\n");
}

/* ---- computing ------------------------------------------------------------------------------------------------- */

static void cancel_session(void *s) { fm_session_cancel(s); }

static enum fm_status check_ids(const struct job *j, int vocab, struct fm_error *err)
{
    for (size_t i = 0; i < j->n; i++)
        if (j->ids[i] >= vocab)
            return fm_fail(err, strcmp(j->tokens, "-") ? FM_ERR_USAGE : FM_ERR_INPUT,
                           "read token ids: entry %zu: %" PRId32 " is not below the vocabulary's %d", i + 1, j->ids[i],
                           vocab);
    return FM_OK;
}

static enum fm_status compute(struct job *j, struct fm_engine *e, struct fm_error *err)
{
    int vocab = fm_engine_info(e)->vocab;
    size_t bytes = 0;
    float *all = NULL;
    struct fm_session *s = NULL;
    enum fm_status st;
    FM_GOTO(check_ids(j, vocab, err));
    FM_GOTO(fm_session_new(e, j->setup.engine.ctx, &s, err));
    if (j->all) {
        if (fm_mul_size(j->n * sizeof(float), (size_t)vocab, &bytes)) all = fm_pages_alloc(bytes);
        if (!all) FM_GOTO(fm_fail_memory(err, "logits of all positions", bytes));
    }
    fm_signals_busy(cancel_session, s);
    st = fm_session_feed(s, j->ids, (int)j->n, all, err);
    if (fm_signals_done()) st = FM_ERR_CANCELLED;
    if (st) goto out;
    const float *logits = all ? all : fm_session_logits(s);
    size_t n = all ? j->n : 1;
    if (j->format && !strcmp(j->format, "f32"))
        fm_out(logits, n * (size_t)vocab * sizeof *logits);
    else
        print_json(logits, j->n - n, n, vocab);
out:
    if (all) fm_pages_free(all, bytes);
    fm_session_free(s);
    return st;
}

enum fm_status fm_cmd_logits(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    const struct fm_opt_set sets[] = {
        {fm_model_row, &j.setup}, {logits_rows, &j}, {fm_engine_rows, &j.setup}, {fm_log_rows, &j.setup}, {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_words_expect(cli, &words, 0, 0, "", err));
    if (!j.tokens) return fm_fail(err, FM_ERR_USAGE, "read options: --tokens: it is missing");
    if (j.format && strcmp(j.format, "f32") != 0 && strcmp(j.format, "json") != 0)
        return fm_fail(err, FM_ERR_USAGE, "read options: --format: '%.40s' is neither json nor f32", j.format);
    FM_TRY(fm_setup_model(&j.setup, err));
    struct fm_engine *e = NULL;
    fm_signals_init();
    enum fm_status st = read_ids(&j, err);
    if (!st && !j.setup.engine.ctx) j.setup.engine.ctx = (int)j.n; /* no more than it needs */
    if (j.all) j.setup.positions = j.n;
    if (!st) st = fm_setup_open(&j.setup, &e, err);
    if (!st) st = compute(&j, e, err);
    fm_engine_close(e);
    fm_free(j.ids);
    return st;
}
