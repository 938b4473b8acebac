/* See slash.h.  One row per command. */
#include "cli/slash.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "cli/term.h"

static enum fm_status do_help(struct fm_dialogue *d, char *arg, struct fm_error *err);

/* ---- the conversation ------------------------------------------------------------------------------------------ */

static int count_messages(const struct fm_dialogue *d)
{
    const char *role, *text;
    int n = 0;
    while (fm_chat_message(d->chat, n, &role, &text)) n++;
    return n;
}

static enum fm_status do_clear(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    (void)arg, (void)err;
    fm_chat_clear(d->chat);
    fm_note("The conversation is empty.");
    return FM_OK;
}

static enum fm_status do_regen(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    (void)arg;
    return fm_dialogue_answer(d, NULL, err);
}

static enum fm_status do_undo(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    (void)arg;
    if (!fm_chat_undo(d->chat))
        return fm_fail(err, FM_ERR_USAGE, "take back: the conversation: there is no question in it");
    fm_note("The last question and its answer are gone; %d messages are left.", count_messages(d));
    return FM_OK;
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

static enum fm_status need_file(const char *command, const char *arg, struct fm_error *err)
{
    if (*arg) return FM_OK;
    return fm_fail(err, FM_ERR_USAGE, "read a command: %s: FILE is missing", command);
}

static enum fm_status remember_file(struct fm_dialogue *d, const char *path, struct fm_error *err)
{
    fm_buf_clear(&d->file);
    fm_buf_str(&d->file, path);
    return d->file.failed ? fm_fail_memory(err, "a file name", strlen(path)) : FM_OK;
}

/* A file that this chat knows nothing of is replaced only when asked for twice. */
static enum fm_status do_save(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    FM_TRY(need_file("/save", arg, err));
    bool there = access(arg, F_OK) == 0, known = d->file.len && !strcmp(d->file.data, arg);
    if (there && !known) {
        FM_TRY(remember_file(d, arg, err));
        fm_fail(err, FM_ERR_USAGE, "save conversation: %s: there is such a file", arg);
        fm_hint(err, "the same command once more replaces it");
        return FM_ERR_USAGE;
    }
    FM_TRY(fm_chat_save(d->chat, arg, err));
    fm_note("%s %d messages %s.", there ? "Replaced" : "Saved", count_messages(d), arg);
    return remember_file(d, arg, err);
}

static enum fm_status do_load(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    const char *role = "", *text;
    FM_TRY(need_file("/load", arg, err));
    FM_TRY(fm_chat_load(d->chat, arg, err));
    fm_note("%d messages, thinking %s.", count_messages(d), fm_chat_thinking_text(d->chat));
    (void)fm_chat_message(d->chat, count_messages(d) - 1, &role, &text);
    if (!strcmp(role, "user")) fm_note("The last one is a question: /regen answers it.");
    return remember_file(d, arg, err);
}

static enum fm_status do_read(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    struct fm_buf text = {0};
    FM_TRY(need_file("/read", arg, err));
    enum fm_status st = fm_message_read(arg, &text, err);
    if (!st && strspn(text.data, " \t\r\n\v\f") == text.len)
        st = fm_fail(err, FM_ERR_INPUT, "read file: %s: there is no text in it", arg);
    if (!st) st = fm_dialogue_answer(d, text.data, err);
    fm_buf_release(&text);
    return st;
}

/* ---- settings -------------------------------------------------------------------------------------------------- */

static enum fm_status do_think(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    if (*arg && strcmp(arg, "low") != 0 && strcmp(arg, "high") != 0 && strcmp(arg, "max") != 0)
        return fm_fail(err, FM_ERR_USAGE, "read a command: /think: '%.40s' is none of low, high, max", arg);
    fm_chat_think(d->chat, true, *arg ? arg : NULL);
    fm_note("thinking: %s", fm_chat_thinking_text(d->chat));
    return FM_OK;
}

static enum fm_status do_nothink(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    (void)arg, (void)err;
    fm_chat_think(d->chat, false, NULL);
    fm_note("thinking: %s", fm_chat_thinking_text(d->chat));
    return FM_OK;
}

static void print_sampling(const struct fm_dialogue *d)
{
    const struct fm_sampling *s = &d->answer.gen.sampling;
    fprintf(stderr, "temp %g  top_k %d  top_p %g  min_p %g  repeat %g  seed %llu  max_tokens %d\n", (double)s->temp,
            s->top_k, (double)s->top_p, (double)s->min_p, (double)s->repeat, (unsigned long long)s->seed,
            d->answer.gen.max_tokens);
}

static enum fm_status do_set(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    const struct fm_opt_set sets[] = {{fm_sampling_rows, &d->answer}, {0}};
    char *value = arg + strcspn(arg, " \t");
    if (*value) *value++ = 0;
    value += strspn(value, " \t");
    if (*arg && *value) {
        FM_TRY(fm_opt_assign(sets, arg, value, err));
        fm_note("%s = %s", arg, value);
        return FM_OK;
    }
    print_sampling(d);
    return FM_OK;
}

static void print_room(const struct fm_dialogue *d)
{
    fprintf(stderr, "context: %d of %d tokens\n", fm_chat_length(d->chat), fm_chat_ctx(d->chat));
}

static enum fm_status do_show(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    const struct fm_model_info *i = fm_engine_info(d->engine);
    const char *format = fm_chat_format_name(d->chat);
    (void)arg, (void)err;
    fprintf(stderr, "model: %s, %.3g million parameters, %s\nfile: %s\nchat format: %s\nthinking: %s\nmessages: %d\n",
            i->name, (double)i->params_total * 1e-6, i->format, i->path, format ? format : "none, the text goes on",
            fm_chat_thinking_text(d->chat), count_messages(d));
    print_sampling(d);
    print_room(d);
    return FM_OK;
}

static enum fm_status do_stats(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    (void)arg, (void)err;
    if (d->answers) fm_answer_report(&d->stats);
    print_room(d);
    return FM_OK;
}

static enum fm_status do_exit(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    (void)arg, (void)err;
    d->leave = true;
    return FM_OK;
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

static const struct slash {
    const char *name, *alias, *help;
    enum fm_status (*run)(struct fm_dialogue *d, char *arg, struct fm_error *err);
} slashes[] = {
    {"/help", "/?", "print this", do_help},
    {"/clear", NULL, "forget the conversation", do_clear},
    {"/regen", NULL, "the last answer once more", do_regen},
    {"/undo", NULL, "drop the last question and its answer", do_undo},
    {"/think", NULL, "[low|high|max]  reason before answers from now on", do_think},
    {"/nothink", NULL, "no longer", do_nothink},
    {"/read", NULL, "FILE  send its text as your message", do_read},
    {"/save", NULL, "FILE  write the conversation as JSON", do_save},
    {"/load", NULL, "FILE  go on with a saved one instead", do_load},
    {"/set", NULL, "[KEY VALUE]  temp, top_k, top_p, min_p, repeat, seed, max_tokens", do_set},
    {"/show", NULL, "model, chat format, settings, tokens used", do_show},
    {"/stats", NULL, "tokens and speed of the last answer, room left", do_stats},
    {"/exit", "/bye", "leave; also /quit, Ctrl-D", do_exit},
    {"/quit", NULL, NULL, do_exit},
};
enum { N_SLASHES = sizeof slashes / sizeof *slashes };

static enum fm_status do_help(struct fm_dialogue *d, char *arg, struct fm_error *err)
{
    (void)d, (void)arg, (void)err;
    for (int i = 0; i < N_SLASHES; i++)
        if (slashes[i].help)
            fprintf(stderr, "%-8s %-4s %s\n", slashes[i].name, slashes[i].alias ? slashes[i].alias : "",
                    slashes[i].help);
    fprintf(stderr, "\"\"\"           begins and ends a text of several lines\n"
                    "Ctrl-C        stops the answer and keeps it; twice, or at an empty prompt, it leaves\n");
    return FM_OK;
}

enum fm_status fm_slash(struct fm_dialogue *d, char *line, struct fm_error *err)
{
    size_t n = strlen(line);
    while (n && isspace((unsigned char)line[n - 1])) line[--n] = 0;
    char *arg = line + strcspn(line, " \t");
    if (*arg) *arg++ = 0;
    arg += strspn(arg, " \t");
    for (int i = 0; i < N_SLASHES; i++)
        if (!strcmp(line, slashes[i].name) || (slashes[i].alias && !strcmp(line, slashes[i].alias)))
            return slashes[i].run(d, arg, err);
    fm_fail(err, FM_ERR_USAGE, "read a command: %.40s: no such command", line);
    fm_hint(err, "/help lists the commands; a text that begins with / goes between \"\"\" lines");
    return FM_ERR_USAGE;
}
