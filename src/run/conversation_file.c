/* Conversations on file: messages with their thinking, as JSON that chat-encode takes.
 *
 *   {"messages": [
 *   {"role": "user", "content": "…"},
 *   {"role": "assistant", "content": "…"}],
 *   "thinking": true, "reasoning_effort": "max"} */
#include <string.h>

#include "base/mem.h"
#include "file/replace.h"
#include "run/conversation.h"
#include "text/chat_impl.h"

/* ---- saving ---- */

static void write_json(const struct fm_chat *c, struct fm_buf *out)
{
    fm_buf_str(out, "{\"messages\": [");
    for (int i = 0; i < c->n; i++) {
        const struct fm_chat_message *m = &c->messages[i];
        fm_buf_printf(out, "%s\n{\"role\": \"%s\", \"content\": ", i ? "," : "", m->role);
        fm_py_write_text(out, m->text, m->n);
        fm_buf_char(out, '}');
    }
    fm_buf_printf(out, "],\n\"thinking\": %s", c->thinking ? "true" : "false");
    if (c->effort) fm_buf_printf(out, ", \"reasoning_effort\": \"%s\"", c->effort);
    fm_buf_str(out, "}\n");
}

enum fm_status fm_chat_save(const struct fm_chat *c, const char *path, struct fm_error *err)
{
    struct fm_buf out = {0};
    struct fm_replace r;
    if (!c->n) return fm_fail(err, FM_ERR_USAGE, "save conversation: %s: there are no messages yet", path);
    write_json(c, &out);
    enum fm_status st = out.failed ? fm_fail_memory(err, "the messages", out.len) : FM_OK;
    if (!st) st = fm_replace_open(&r, "save conversation", path, err);
    if (!st) {
        st = fm_replace_write(&r, out.data, out.len, err);
        if (st)
            fm_replace_abort(&r);
        else
            st = fm_replace_commit(&r, err);
    }
    fm_buf_release(&out);
    return st;
}

/* ---- loading ---- */

static enum fm_status bad(size_t message, const char *why, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read messages: message %zu: %s", message, why);
}

static enum fm_status take_turn(struct fm_chat *c, const struct fm_turn *m, size_t i, struct fm_error *err)
{
    static const char *const roles[FM_ROLE_COUNT] = {
        [FM_SYSTEM] = "system", [FM_USER] = "user", [FM_ASSISTANT] = "assistant"};
    if (!roles[m->role]) return bad(i, "its role is none of system, user, assistant", err);
    if (m->n_calls || m->tools || m->n_pieces || m->format || m->task.s)
        return bad(i, "a chat takes texts only, no tools and no tasks", err);
    if (!m->has_text) return bad(i, "it has no content", err);
    if (m->text.n && memchr(m->text.s, 0, m->text.n)) return bad(i, "no message holds a NUL", err);
    return fm_chat_push(c, roles[m->role], m->text.s, m->text.n, err);
}

/* Thinking as far as the format can: a file may come from a chat with another model. */
static void take_thinking(struct fm_chat *c, const struct fm_talk *t)
{
    char effort[8] = "";
    if (t->effort.s && t->effort.n < sizeof effort) memcpy(effort, t->effort.s, t->effort.n);
    if (fm_chat_can_think(c) != FM_THINKS_ON_DEMAND) return;
    c->effort = NULL;
    c->thinking = t->thinking;
    if (t->thinking && *effort) (void)!fm_chat_set_thinking(c, true, effort, NULL);
}

/* c: empty, with the session and format of the conversation that takes its messages in the end. */
static enum fm_status read_json(struct fm_chat *c, const struct fm_buf *in, struct fm_error *err)
{
    const struct fm_chat_format *f = c->format ? c->format : fm_chat_find("plain");
    struct fm_py_doc doc = {0};
    struct fm_talk t = {0};
    struct fm_ids ids = {0};
    const struct fm_py *v;
    enum fm_status st;
    FM_GOTO(fm_py_parse(&doc, in->data ? in->data : "", in->len, "read messages", &v, err));
    FM_GOTO(fm_talk_read(f, v, &doc, &t, err));
    if (t.tools || t.builtin) {
        st = fm_fail(err, FM_ERR_INPUT, "read messages: tools: a chat has no place for them");
        goto out;
    }
    for (size_t i = 0; i < t.n; i++) FM_GOTO(take_turn(c, &t.turns[i], i + 1, err));
    c->n_system = t.turns[0].role == FM_SYSTEM;
    take_thinking(c, &t);
    FM_GOTO(fm_chat_ids(c, &ids, err));
    if (ids.n >= (size_t)fm_chat_ctx(c)) {
        st = fm_fail(err, FM_ERR_INPUT, "read messages: the conversation: its %zu tokens do not fit a context of %d",
                     ids.n, fm_chat_ctx(c));
        fm_hint(err, "--ctx N makes it longer");
    }
out:
    fm_ids_release(&ids);
    fm_py_release(&doc);
    return st;
}

/* "read messages: WHERE: WHY" becomes "load conversation: PATH, WHERE: WHY". */
static enum fm_status at_path(enum fm_status st, const char *path, struct fm_error *err)
{
    static const char what[] = "read messages: ";
    struct fm_error inner;
    if (st == FM_ERR_USAGE) st = FM_ERR_INPUT; /* what the format cannot express came from the file */
    if (!err || st == FM_ERR_MEMORY) return st;
    inner = *err;
    const bool plain = !strncmp(inner.message, what, sizeof what - 1);
    (void)fm_fail(err, st, "load conversation: %.160s, %s", path, inner.message + (plain ? sizeof what - 1 : 0));
    if (*inner.hint) fm_hint(err, "%s", inner.hint);
    return st;
}

enum fm_status fm_chat_load(struct fm_chat *c, const char *path, struct fm_error *err)
{
    struct fm_buf in = {0};
    struct fm_chat next = {.s = c->s, .format = c->format, .thinking = c->thinking, .effort = c->effort};
    enum fm_status st = fm_engine_has_text(c->s->e, err);
    if (!st) st = fm_buf_read_file(&in, path, FM_PY_MAX_BYTES, err);
    if (!st && (st = read_json(&next, &in, err))) st = at_path(st, path, err);
    fm_buf_release(&in);
    if (!st) { /* the old messages go where the new ones were */
        const struct fm_chat old = *c;
        *c = next;
        next = old;
        fm_chat_settle(c);
    }
    while (next.n) fm_chat_pop(&next);
    fm_free(next.messages);
    return st;
}
