/* See chat_setup.h. */
#include "cli/chat_setup.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "cli/term.h"

#define AT(field) offsetof(struct fm_chat_setup, field)

const struct fm_opt fm_chat_rows[] = {
    {0, "system", FM_OPT_TEXT, AT(system), 0, 0, "TEXT", "system message (default: the chat format's)"},
    {0, "system-file", FM_OPT_TEXT, AT(system_file), 0, 0, "FILE", "the same from a file"},
    {0, "chat-format", FM_OPT_TEXT, AT(format), 0, 0, "NAME", "instead of the model's own; help lists them"},
    {0, "think", FM_OPT_FLAG, AT(think), 0, 0, NULL, "let the model reason before it answers, if its format can"},
    {0, "no-think", FM_OPT_FLAG, AT(no_think), 0, 0, NULL, "the opposite, and the default where there is a choice"},
    {0, "effort", FM_OPT_TEXT, AT(effort), 0, 0, "E", "think with effort low, high or max, if its format can"},
    {0},
};

/* ---- options --------------------------------------------------------------------------------------------------- */

enum fm_status fm_message_read(const char *path, struct fm_buf *out, struct fm_error *err)
{
    FM_TRY(fm_buf_read_file(out, path, FM_MESSAGE_MAX, err));
    if (out->len && out->data[out->len - 1] == '\n') out->data[--out->len] = 0;
    fm_buf_add(out, "", 0); /* never a NULL text */
    if (out->failed) return fm_fail_memory(err, path, out->len);
    const char *nul = memchr(out->data, 0, out->len);
    if (!nul) return FM_OK;
    return fm_fail(err, FM_ERR_INPUT, "read file: %s, byte %zu: no message holds a NUL", path,
                   (size_t)(nul - out->data));
}

enum fm_status fm_chat_setup_ready(struct fm_chat_setup *s, struct fm_error *err)
{
    const char *e = s->effort;
    if (e && strcmp(e, "low") != 0 && strcmp(e, "high") != 0 && strcmp(e, "max") != 0)
        return fm_fail(err, FM_ERR_USAGE, "read options: --effort: '%.40s' is none of low, high, max", e);
    if (s->no_think && (s->think || e))
        return fm_fail(err, FM_ERR_USAGE, "read options: --no-think: it contradicts %s",
                       s->think ? "--think" : "--effort");
    if (s->system && s->system_file)
        return fm_fail(err, FM_ERR_USAGE, "read options: --system-file: --system gave the text already");
    if (!s->system_file) return FM_OK;
    FM_TRY(fm_message_read(s->system_file, &s->system_text, err));
    s->system = s->system_text.data;
    return FM_OK;
}

void fm_chat_setup_release(struct fm_chat_setup *s) { fm_buf_release(&s->system_text); }

enum fm_status fm_chat_setup_open(const struct fm_chat_setup *s, struct fm_engine *e, int ctx, struct fm_chat **out,
                                  struct fm_error *err)
{
    FM_TRY(fm_chat_new(e, ctx, s->system, s->format, out, err));
    if (s->think || s->effort || s->no_think) fm_chat_think(*out, !s->no_think, s->effort);
    return FM_OK;
}

/* ---- thinking -------------------------------------------------------------------------------------------------- */

void fm_chat_think(struct fm_chat *c, bool thinking, const char *effort)
{
    const char *name = fm_chat_format_name(c) ? fm_chat_format_name(c) : "a text without chat format";
    const enum fm_thinking can = fm_chat_can_think(c);
    struct fm_error why;
    if (thinking && can == FM_THINKS_NEVER) {
        fm_note("%s has no reasoning: there is none to switch on.", name);
        return;
    }
    if (!thinking && can == FM_THINKS_ALWAYS) {
        fm_note("%s always begins with reasoning: it cannot be switched off.", name);
        return;
    }
    if (!fm_chat_set_thinking(c, thinking, effort, &why)) return;
    if (effort) fm_note("%s does not tell the model of effort %s: it thinks as it does without.", name, effort);
    if (fm_chat_set_thinking(c, thinking, NULL, &why)) fm_note("%s", why.message);
}

const char *fm_chat_thinking_text(const struct fm_chat *c)
{
    static char text[32];
    const char *effort;
    const enum fm_thinking can = fm_chat_can_think(c);
    const bool on = fm_chat_thinking(c, &effort);
    if (can == FM_THINKS_NEVER) return "never";
    if (can == FM_THINKS_ALWAYS) return "always";
    snprintf(text, sizeof text, "%s%s%s", on ? "on" : "off", effort ? ", effort " : "", effort ? effort : "");
    return text;
}
