/* fathom run: one prompt, one answer on standard output. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "cli/chat_setup.h"
#include "cli/input.h"
#include "cli/pulling.h"
#include "cli/setup.h"
#include "cli/signals.h"
#include "cli/term.h"

struct job {
    struct fm_setup setup;
    struct fm_answer_setup answer;
    struct fm_chat_setup how;
    bool raw, report, reasoned;      /* reasoned: reasoning was shown, and no answer yet */
    struct fm_buf prompt, text, why; /* text and why, the reasoning: collected for --json */
    struct fm_generation_stats stats;
    bool interrupted;
};

#define AT(field) offsetof(struct job, field)

static const struct fm_opt run_rows[] = {
    {0, "raw", FM_OPT_FLAG, AT(raw), 0, 0, NULL, "continue the text as it is: no chat format, no newline added"},
    {0, "stats", FM_OPT_FLAG, AT(report), 0, 0, NULL, "tokens and speed on standard error"},
    {0},
};

/* ---- prompt ---------------------------------------------------------------------------------------------------- */

/* Standard input, if it is no terminal, a newline, and the words with blanks between. */
static enum fm_status read_prompt(struct job *j, const struct fm_words *w, struct fm_error *err)
{
    struct fm_buf *p = &j->prompt;
    if (!isatty(0)) FM_TRY(fm_stdin_read(p, err));
    if (p->len && p->data[p->len - 1] == '\n') p->data[--p->len] = 0;
    if (p->len && w->n) fm_buf_char(p, '\n');
    for (int i = 0; i < w->n; i++) {
        if (i) fm_buf_char(p, ' ');
        fm_buf_str(p, w->v[i]);
    }
    fm_buf_add(p, "", 0); /* never a NULL text */
    if (p->failed) return fm_fail_memory(err, "the prompt", p->len);
    const char *nul = j->raw ? NULL : memchr(p->data, 0, p->len);
    if (nul) {
        fm_fail(err, FM_ERR_INPUT, "read the prompt: standard input, byte %zu: no message holds a NUL",
                (size_t)(nul - p->data));
        fm_hint(err, "--raw continues any bytes");
        return FM_ERR_INPUT;
    }
    if (p->len || j->raw) return FM_OK;
    fm_fail(err, FM_ERR_USAGE, "read arguments: fathom run: PROMPT is missing");
    fm_hint(err, "give it as an argument or on standard input");
    return FM_ERR_USAGE;
}

/* ---- answer ---------------------------------------------------------------------------------------------------- */

static bool take_text(void *arg, const char *text, size_t n)
{
    struct job *j = arg;
    if (j->reasoned) fputs("\n\n", stderr);
    j->reasoned = false;
    if (j->setup.json)
        fm_buf_add(&j->text, text, n);
    else if (!fm_out(text, n) || !fm_out_flush())
        return false;
    return !fm_signals_pending();
}

static bool take_reasoning(void *arg, const char *text, size_t n)
{
    struct job *j = arg;
    if (j->setup.json)
        fm_buf_add(&j->why, text, n);
    else
        j->reasoned |= fm_show_reasoning(text, n);
    return !fm_signals_pending();
}

static void cancel_session(void *s) { fm_session_cancel(s); }

static void cancel_chat(void *c) { fm_chat_cancel(c); }

static enum fm_status raw_ids(struct job *j, const struct fm_engine *e, int32_t **ids, size_t *n, struct fm_error *err)
{
    const struct fm_tokenizer *t = fm_engine_tokenizer(e);
    if (!t)
        return fm_fail(err, FM_ERR_INPUT, "read the prompt: %s: the model has no tokenizer", fm_engine_info(e)->path);
    unsigned flags = FM_TEXT_SPECIAL | (fm_text_adds_bos(t) ? FM_TEXT_BOS : 0);
    FM_TRY(fm_text_encode(t, j->prompt.data, j->prompt.len, flags, ids, n, err));
    if (*n) return FM_OK;
    return fm_fail(err, FM_ERR_USAGE, "read the prompt: %s: it is empty, and the model begins no text by itself",
                   fm_engine_info(e)->path);
}

static enum fm_status run_raw(struct job *j, struct fm_engine *e, struct fm_error *err)
{
    int32_t *ids = NULL;
    size_t n = 0;
    struct fm_session *s = NULL;
    enum fm_status st;
    FM_GOTO(raw_ids(j, e, &ids, &n, err));
    FM_GOTO(fm_session_new(e, j->setup.engine.ctx, &s, err));
    double start = fm_clock();
    if (n > (size_t)fm_session_ctx(s)) {
        st = fm_fail(err, FM_ERR_USAGE, "read the prompt: %zu tokens: the context holds %d", n, fm_session_ctx(s));
        fm_hint(err, "--ctx N makes it longer");
        goto out;
    }
    if (!fm_signals_busy(cancel_session, s)) goto out;
    st = fm_session_feed(s, ids, (int)n, NULL, err);
    double fed = fm_clock();
    if (!st && !fm_signals_pending()) st = fm_session_generate(s, &j->answer.gen, &j->stats, err);
    j->stats.prompt_tokens = (int)n;
    j->stats.cached_tokens = 0;
    j->stats.prompt_seconds = fed - start;
out:
    j->interrupted = fm_signals_done();
    fm_session_free(s);
    fm_text_free(ids);
    return st;
}

static enum fm_status run_chat(struct job *j, struct fm_engine *e, struct fm_error *err)
{
    struct fm_chat *c = NULL;
    enum fm_status st;
    FM_GOTO(fm_chat_setup_open(&j->how, e, j->setup.engine.ctx, &c, err));
    if (!fm_signals_busy(cancel_chat, c)) goto out;
    st = fm_chat_send(c, j->prompt.data, &j->answer.gen, &j->stats, err);
out:
    j->interrupted = fm_signals_done();
    fm_chat_free(c);
    return st;
}

/* ---- result ---------------------------------------------------------------------------------------------------- */

static enum fm_status print_json(struct job *j, const struct fm_engine *e, struct fm_error *err)
{
    static const char *const finish[] = {"stop", "length", "cancelled"};
    const struct fm_generation_stats *s = &j->stats;
    struct fm_buf b = {0};
    fm_buf_str(&b, "{\"model\":");
    fm_json_text(&b, fm_engine_info(e)->name, strlen(fm_engine_info(e)->name));
    fm_buf_str(&b, ",\"text\":");
    fm_json_text(&b, j->text.data, j->text.len);
    if (j->why.len) fm_buf_str(&b, ",\"reasoning_content\":");
    if (j->why.len) fm_json_text(&b, j->why.data, j->why.len);
    fm_buf_printf(&b, ",\"finish\":\"%s\",\"prompt_tokens\":%d,\"cached_tokens\":%d,\"answer_tokens\":%d",
                  finish[j->interrupted ? FM_FINISH_CANCELLED : s->finish], s->prompt_tokens, s->cached_tokens,
                  s->answer_tokens);
    fm_buf_printf(&b, ",\"prompt_seconds\":%.6f,\"answer_seconds\":%.6f", s->prompt_seconds, s->answer_seconds);
    fm_buf_printf(&b, ",\"steps\":%d,\"drafted\":%d,\"accepted\":%d}\n", s->steps, s->drafted, s->accepted);
    bool failed = b.failed || j->text.failed || j->why.failed;
    if (!failed) fm_out(b.data, b.len);
    size_t n = b.len;
    fm_buf_release(&b);
    return failed ? fm_fail_memory(err, "the answer", n) : FM_OK;
}

static enum fm_status run(struct job *j, struct fm_error *err)
{
    struct fm_engine *e = NULL;
    enum fm_status st;
    fm_answer_ready(&j->answer);
    j->answer.gen.on_text = take_text;
    j->answer.gen.on_reasoning = take_reasoning;
    j->answer.gen.arg = j;
    FM_GOTO(fm_setup_open(&j->setup, &e, err));
    FM_GOTO(fm_answer_bind(&j->answer, e, err));
    if (!j->raw) (void)fm_note_unknown_chat(fm_engine_info(e), j->how.format);
    st = j->raw ? run_raw(j, e, err) : run_chat(j, e, err);
    if (j->reasoned) fputc('\n', stderr); /* it never came to an answer */
    if (st && !j->interrupted) goto out;
    st = FM_OK;
    if (j->setup.json)
        st = print_json(j, e, err);
    else if (!j->raw)
        fm_out("\n", 1);
    fm_out_flush();
    if (j->report) fm_answer_report(&j->stats);
    if (!st && j->interrupted) st = FM_ERR_CANCELLED;
out:
    fm_answer_release(&j->answer);
    fm_engine_close(e);
    return st;
}

enum fm_status fm_cmd_run(struct fm_cli *cli, struct fm_error *err)
{
    struct job j = {0};
    fm_answer_default(&j.answer);
    const struct fm_opt_set sets[] = {{fm_model_row, &j.setup},
                                      {run_rows, &j},
                                      {fm_chat_rows, &j.how},
                                      {fm_sampling_rows, &j.answer},
                                      {fm_stop_row, &j.answer},
                                      {fm_constraint_rows, &j.answer},
                                      {fm_engine_rows, &j.setup},
                                      {fm_draft_rows, &j.setup},
                                      {fm_json_row, &j.setup},
                                      {fm_log_rows, &j.setup},
                                      {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&j.setup, err));
    FM_TRY(fm_setup_draft(&j.setup, &j.answer, err));
    if (j.how.format && !strcmp(j.how.format, "help")) {
        fm_list_chat_formats();
        return FM_OK;
    }
    bool named = words.n && !j.setup.engine.model && (fm_is_model_path(words.v[0]) || fm_is_model_name(words.v[0]));
    enum fm_status st = named ? fm_setup_model_word(&j.setup, &words, err) : fm_setup_model(&j.setup, err);
    fm_signals_init();
    if (!st) st = fm_chat_setup_ready(&j.how, err);
    if (!st) st = read_prompt(&j, &words, err);
    if (!st) st = run(&j, err);
    fm_buf_release(&j.prompt);
    fm_buf_release(&j.text);
    fm_buf_release(&j.why);
    fm_chat_setup_release(&j.how);
    return st;
}
