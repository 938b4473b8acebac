/* fathom chat: a conversation in the terminal.  The first stop of a token's way: a line from the user goes to
 * fm_chat_send (include/fathom.h), the answer comes back through show_text, piece by piece. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/signals.h"
#include "cli/slash.h"
#include "cli/term.h"

/* ---- answers --------------------------------------------------------------------------------------------------- */

static bool show_reasoning(void *arg, const char *text, size_t n)
{
    struct fm_dialogue *t = arg;
    t->reasoned |= fm_show_reasoning(text, n);
    return !fm_signals_pending();
}

static void end_reasoning(struct fm_dialogue *t, const char *gap)
{
    if (t->reasoned) fputs(gap, stderr);
    t->reasoned = false;
}

static bool show_text(void *arg, const char *text, size_t n)
{
    struct fm_dialogue *t = arg;
    end_reasoning(t, "\n\n");
    if (n) t->ended_line = text[n - 1] == '\n';
    return fm_out(text, n) && fm_out_flush() && !fm_signals_pending();
}

static void cancel_chat(void *chat) { fm_chat_cancel(chat); }

enum fm_status fm_dialogue_answer(struct fm_dialogue *t, const char *text, struct fm_error *err)
{
    struct fm_generation g = t->answer.gen;
    g.sampling.seed += (uint64_t)t->answers++; /* else the same question would draw the same numbers again */
    g.on_text = show_text;
    g.on_reasoning = show_reasoning;
    g.arg = t;
    t->ended_line = false;
    if (!fm_signals_busy(cancel_chat, t->chat)) return FM_OK;
    enum fm_status st =
        text ? fm_chat_send(t->chat, text, &g, &t->stats, err) : fm_chat_regenerate(t->chat, &g, &t->stats, err);
    bool stopped = fm_signals_done();
    end_reasoning(t, "\n");
    if (stopped && fm_line_is_terminal(t->line)) t->ended_line = false; /* the terminal wrote ^C */
    if ((!st || stopped) && !t->ended_line) fm_out("\n", 1);
    fm_out_flush();
    if (!st && !stopped && t->stats.finish == FM_FINISH_LENGTH && fm_chat_length(t->chat) >= fm_chat_ctx(t->chat))
        fm_note("The context of %d tokens is full: %s.", fm_chat_ctx(t->chat),
                fm_chat_format_name(t->chat) ? "/clear starts over, --ctx N makes it longer"
                                             : "the text goes on without its beginning, or /clear starts over");
    return stopped ? FM_OK : st;
}

/* ---- lines ----------------------------------------------------------------------------------------------------- */

/* text begins with three quotes: read on until a line ends with three more.  Both are dropped. */
static enum fm_line_end read_block(struct fm_dialogue *t, struct fm_buf *text)
{
    struct fm_buf line = {0}, all = {0};
    enum fm_line_end end = FM_LINE_READ;
    fm_buf_add(&all, text->data + 3, text->len - 3);
    while (all.len < 3 || memcmp(all.data + all.len - 3, "\"\"\"", 3) != 0) {
        end = fm_line_read(t->line, "... ", &line);
        if (end != FM_LINE_READ) break;
        if (all.len) fm_buf_char(&all, '\n');
        fm_buf_add(&all, line.data, line.len);
    }
    if (end == FM_LINE_READ) all.len -= 3;
    if (all.len && all.data[all.len - 1] == '\n') all.len--;
    fm_buf_clear(text);
    fm_buf_add(text, all.data, all.len);
    text->failed |= all.failed || line.failed;
    fm_buf_release(&all);
    fm_buf_release(&line);
    return end;
}

static bool is_blank(const struct fm_buf *text)
{
    for (size_t i = 0; i < text->len; i++)
        if (!isspace((unsigned char)text->data[i])) return false;
    return true;
}

static enum fm_status handle(struct fm_dialogue *t, struct fm_buf *text, bool block, struct fm_error *err)
{
    if (text->failed) return fm_fail_memory(err, "the line", text->len);
    if (text->len && memchr(text->data, 0, text->len))
        return fm_fail(err, FM_ERR_INPUT, "read a line: standard input: no message holds a NUL");
    if (is_blank(text)) return FM_OK;
    if (!block && text->data[0] == '/') return fm_slash(t, text->data, err);
    return fm_dialogue_answer(t, text->data, err);
}

/* At a terminal a failed answer is reported and the conversation goes on; else it ends the program. */
static enum fm_status converse(struct fm_dialogue *t, struct fm_error *err)
{
    struct fm_buf text = {0};
    enum fm_status st = FM_OK;
    enum fm_line_end end = FM_LINE_READ;
    while (!st && !t->leave && !fm_signals_leaving() && !fm_out_closed()) {
        end = fm_line_read(t->line, ">>> ", &text);
        bool block = end == FM_LINE_READ && text.len >= 3 && !memcmp(text.data, "\"\"\"", 3);
        if (block) end = read_block(t, &text);
        if (end == FM_LINE_INTERRUPT || (end == FM_LINE_EOF && !block)) break;
        st = handle(t, &text, block, err);
        if (st && fm_line_is_terminal(t->line)) {
            fm_print_failure(err);
            st = FM_OK;
        }
    }
    if (end == FM_LINE_EOF && fm_line_is_terminal(t->line)) fputc('\n', stderr);
    fm_buf_release(&text);
    return st || (end != FM_LINE_INTERRUPT && !fm_signals_leaving()) ? st : FM_ERR_CANCELLED;
}

static void greet(const struct fm_dialogue *t)
{
    const struct fm_model_info *i = fm_engine_info(t->engine);
    if (!fm_chat_format_name(t->chat) && !fm_note_unknown_chat(i, t->how.format))
        fm_note("%s has no chat format: it continues your text.", i->name);
    if (fm_line_is_terminal(t->line))
        fm_note("%s, %.3g million parameters, %s, %d threads. /help lists the commands.", i->name,
                (double)i->params_total * 1e-6, i->format, fm_engine_threads(t->engine));
}

static enum fm_status talk(struct fm_dialogue *t, struct fm_error *err)
{
    enum fm_status st;
    fm_signals_init();
    FM_GOTO(fm_setup_open(&t->setup, &t->engine, err));
    FM_GOTO(fm_answer_bind(&t->answer, t->engine, err));
    FM_GOTO(fm_chat_setup_open(&t->how, t->engine, t->setup.engine.ctx, &t->chat, err));
    FM_GOTO(fm_line_new(&t->line, err));
    greet(t);
    st = converse(t, err);
out:
    fm_line_free(t->line);
    fm_chat_free(t->chat);
    fm_answer_release(&t->answer);
    fm_engine_close(t->engine);
    return st;
}

enum fm_status fm_cmd_chat(struct fm_cli *cli, struct fm_error *err)
{
    struct fm_dialogue t = {0};
    fm_answer_default(&t.answer);
    const struct fm_opt_set sets[] = {{fm_model_row, &t.setup},      {fm_chat_rows, &t.how},
                                      {fm_sampling_rows, &t.answer}, {fm_constraint_rows, &t.answer},
                                      {fm_engine_rows, &t.setup},    {fm_draft_rows, &t.setup},
                                      {fm_log_rows, &t.setup},       {0}};
    struct fm_words words;
    FM_TRY(fm_opt_parse(cli, sets, &words, err));
    if (cli->done) return FM_OK;
    FM_TRY(fm_setup_streams(&t.setup, err));
    FM_TRY(fm_setup_draft(&t.setup, &t.answer, err));
    if (t.how.format && !strcmp(t.how.format, "help")) {
        fm_list_chat_formats();
        return FM_OK;
    }
    FM_TRY(fm_words_expect(cli, &words, 0, 1, "MODEL", err));
    FM_TRY(fm_setup_model_word(&t.setup, &words, err));
    if (words.n) return fm_words_expect(cli, &words, 0, 0, "MODEL", err);
    enum fm_status st = fm_chat_setup_ready(&t.how, err);
    if (!st) st = talk(&t, err);
    fm_chat_setup_release(&t.how);
    fm_buf_release(&t.file);
    return st;
}
