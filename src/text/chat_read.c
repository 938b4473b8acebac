/* Messages from JSON: types are checked here once, so that the encoders see spans and flags.  The keys are those of
 * the official encodings; unknown ones are passed over, as those do. */
#include <stdio.h>
#include <string.h>

#include "text/chat_impl.h"

struct context {
    struct fm_py_doc *doc;
    struct fm_error *err;
    size_t message; /* from 1; 0: the object around them */
};

static enum fm_status bad(const struct context *c, const char *key, const char *why)
{
    if (!c->message) return fm_fail(c->err, FM_ERR_INPUT, "read messages: %s: %s", key, why);
    return fm_fail(c->err, FM_ERR_INPUT, "read messages: message %zu, %s: %s", c->message, key, why);
}

/* A zeroed array that lives as long as the document. */
static void *make(const struct context *c, size_t n, size_t bytes)
{
    void *p = fm_py_room(c->doc, n * bytes); /* n is below FM_PY_MAX_VALUES */
    if (!p) (void)fm_fail_memory(c->err, "messages", n * bytes);
    return p;
}

/* Missing or null leaves *out and *there as they are. */
static enum fm_status get_text(const struct context *c, const struct fm_py *v, const char *key, struct fm_span *out,
                               bool *there)
{
    const struct fm_py *p = fm_py_get(v, key);
    if (!p || p->kind == FM_PY_NULL) return FM_OK;
    if (p->kind != FM_PY_STRING) return bad(c, key, "not a string");
    *out = p->text;
    if (there) *there = true;
    return FM_OK;
}

static enum fm_status get_flag(const struct context *c, const struct fm_py *v, const char *key, bool *out)
{
    const struct fm_py *p = fm_py_get(v, key);
    if (!p || p->kind == FM_PY_NULL) return FM_OK;
    if (p->kind != FM_PY_TRUE && p->kind != FM_PY_FALSE) return bad(c, key, "neither true nor false");
    *out = p->kind == FM_PY_TRUE;
    return FM_OK;
}

/* NULL for a missing or empty one. */
static enum fm_status get_list(const struct context *c, const struct fm_py *v, const char *key,
                               const struct fm_py **out)
{
    const struct fm_py *p = fm_py_get(v, key);
    *out = NULL;
    if (!p || p->kind == FM_PY_NULL) return FM_OK;
    if (p->kind != FM_PY_ARRAY) return bad(c, key, "not a list");
    if (p->n) *out = p;
    return FM_OK;
}

static enum fm_status get_tools(const struct context *c, const struct fm_py *v, const struct fm_py **out)
{
    FM_TRY(get_list(c, v, "tools", out));
    for (const struct fm_py *p = *out ? (*out)->first : NULL; p; p = p->next) {
        const struct fm_py *f = fm_py_get(p, "function"), *name = fm_py_get(f, "name");
        if (!name || name->kind != FM_PY_STRING)
            return bad(c, "tools", "each needs {\"type\":\"function\",\"function\":{\"name\":\"…\", …}}");
    }
    return FM_OK;
}

/* A list of text parts becomes one text, joined by blank lines, as the V4 encoding does with tool results. */
static enum fm_status join_parts(const struct context *c, const struct fm_py *list, struct fm_span *out)
{
    struct fm_buf b = {0};
    enum fm_status st = FM_OK;
    for (const struct fm_py *p = list->first; p && !st; p = p->next) {
        const struct fm_py *type = fm_py_get(p, "type"), *text = fm_py_get(p, "text");
        if (p != list->first) fm_buf_str(&b, "\n\n");
        if (!type || type->kind != FM_PY_STRING || !fm_span_is(type->text, "text"))
            st = bad(c, "content", "only parts of type \"text\" are known");
        else if (text && text->kind != FM_PY_STRING)
            st = bad(c, "content", "the text of a part is not a string");
        else if (text)
            fm_buf_add(&b, text->text.s, text->text.n);
    }
    out->n = b.len;
    out->s = st || b.failed ? NULL : fm_py_copy(c->doc, b.data, b.len);
    if (!st && !out->s) st = fm_fail_memory(c->err, "messages", b.len);
    fm_buf_release(&b);
    return st;
}

static enum fm_status get_content(const struct context *c, const struct fm_py *v, struct fm_span *out, bool *there)
{
    const struct fm_py *p = fm_py_get(v, "content");
    if (!p || p->kind != FM_PY_ARRAY) return get_text(c, v, "content", out, there);
    if (there) *there = true;
    return join_parts(c, p, out);
}

static enum fm_status read_arguments(const struct context *c, const struct fm_py *v, struct fm_call *call)
{
    if (!v || v->kind == FM_PY_NULL) return bad(c, "tool_calls", "arguments are missing");
    if (v->kind == FM_PY_STRING) {
        char what[96];
        snprintf(what, sizeof what, "read messages: message %zu, arguments of a call", c->message);
        FM_TRY(fm_py_parse(c->doc, v->text.s, v->text.n, what, &v, c->err));
    }
    if (v->kind != FM_PY_OBJECT) return bad(c, "tool_calls", "the arguments are not an object");
    call->arguments = v;
    return FM_OK;
}

/* verbatim: the arguments, a text, stay as they are, blanks and all. */
static void read_verbatim(const struct fm_py *inner, struct fm_call *call)
{
    const struct fm_py *flag = fm_py_get(inner, "verbatim"), *v = fm_py_get(inner, "arguments");
    if (flag && flag->kind == FM_PY_TRUE && v->kind == FM_PY_STRING) call->written = v->text;
}

static enum fm_status read_calls(const struct context *c, const struct fm_py *v, struct fm_turn *t)
{
    const struct fm_py *list;
    FM_TRY(get_list(c, v, "tool_calls", &list));
    if (!list) return FM_OK;
    if (!(t->calls = make(c, list->n, sizeof *t->calls))) return FM_ERR_MEMORY;
    for (const struct fm_py *p = list->first; p; p = p->next) {
        struct fm_call *call = &t->calls[t->n_calls++];
        const struct fm_py *f = fm_py_get(p, "function"), *inner = f ? f : p;
        bool named = false;
        call->type = fm_span_of("function");
        FM_TRY(get_text(c, p, "type", &call->type, NULL));
        FM_TRY(get_text(c, f, "id", &call->id, NULL));
        FM_TRY(get_text(c, p, "id", &call->id, NULL));
        FM_TRY(get_text(c, inner, "name", &call->name, &named));
        if (!named) return bad(c, "tool_calls", "a function's name is missing");
        FM_TRY(read_arguments(c, fm_py_get(inner, "arguments"), call));
        read_verbatim(inner, call);
    }
    return FM_OK;
}

static enum fm_status read_pieces(const struct context *c, const struct fm_py *v, struct fm_turn *t)
{
    const struct fm_py *list;
    FM_TRY(get_list(c, v, "content_blocks", &list));
    if (!list) return FM_OK;
    if (!(t->pieces = make(c, list->n, sizeof *t->pieces))) return FM_ERR_MEMORY;
    for (const struct fm_py *p = list->first; p; p = p->next) {
        struct fm_piece *piece = &t->pieces[t->n_pieces++];
        struct fm_span type = {0};
        FM_TRY(get_text(c, p, "type", &type, NULL));
        piece->result = fm_span_is(type, "tool_result");
        if (!piece->result && !fm_span_is(type, "text")) return bad(c, "content_blocks", "a type is not known");
        if (piece->result) {
            FM_TRY(get_content(c, p, &piece->text, NULL));
            FM_TRY(get_text(c, p, "tool_use_id", &piece->id, NULL));
        } else {
            FM_TRY(get_text(c, p, "text", &piece->text, NULL));
        }
    }
    return FM_OK;
}

static enum fm_status read_role(const struct context *c, const struct fm_py *v, struct fm_turn *t)
{
    static const struct {
        const char *name;
        enum fm_role role;
    } rows[] = {{"system", FM_SYSTEM},           {"developer", FM_DEVELOPER}, {"user", FM_USER},
                {"assistant", FM_ASSISTANT},     {"tool", FM_TOOL},           {"ipython", FM_TOOL},
                {"latest_reminder", FM_REMINDER}};
    struct fm_span name = {0};
    bool there = false;
    if (v->kind != FM_PY_OBJECT) return bad(c, "role", "the message is not an object");
    FM_TRY(get_text(c, v, "role", &name, &there));
    if (!there) return bad(c, "role", "it is missing");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!fm_span_is(name, rows[i].name)) continue;
        t->role = rows[i].role;
        return FM_OK;
    }
    return bad(c, "role", "not one of system, developer, user, assistant, tool, latest_reminder");
}

static enum fm_status read_turn(const struct context *c, const struct fm_py *v, struct fm_turn *t)
{
    FM_TRY(read_role(c, v, t));
    FM_TRY(get_content(c, v, &t->text, &t->has_text));
    FM_TRY(get_text(c, v, "reasoning", &t->reasoning, &t->has_reasoning));
    FM_TRY(get_text(c, v, "reasoning_content", &t->reasoning, &t->has_reasoning));
    FM_TRY(get_text(c, v, "tool_call_id", &t->call_id, NULL));
    FM_TRY(get_text(c, v, "task", &t->task, NULL));
    FM_TRY(get_flag(c, v, "wo_eos", &t->wo_eos));
    FM_TRY(get_flag(c, v, "prefix", &t->prefix));
    FM_TRY(get_tools(c, v, &t->tools));
    const struct fm_py *format = fm_py_get(v, "response_format");
    if (format && (format->kind == FM_PY_ARRAY || format->kind == FM_PY_OBJECT))
        t->format = format->n ? format : NULL;
    else if (format && format->kind != FM_PY_NULL)
        return bad(c, "response_format", "not an object");
    FM_TRY(read_calls(c, v, t));
    return read_pieces(c, v, t);
}

static enum fm_status read_options(const struct context *c, const struct fm_py *v, struct fm_talk *t)
{
    const struct fm_py *builtin;
    FM_TRY(get_tools(c, v, &t->tools));
    FM_TRY(get_flag(c, v, "enable_thinking", &t->thinking));
    FM_TRY(get_flag(c, v, "thinking", &t->thinking));
    FM_TRY(get_flag(c, v, "drop_thinking", &t->drop_thinking));
    FM_TRY(get_flag(c, v, "tools_in_user_message", &t->tools_in_user));
    FM_TRY(get_text(c, v, "reasoning_effort", &t->effort, NULL));
    FM_TRY(get_text(c, v, "date_string", &t->date, NULL));
    FM_TRY(get_text(c, v, "date", &t->date, NULL));
    FM_TRY(get_list(c, v, "builtin_tools", &builtin));
    for (const struct fm_py *p = builtin ? builtin->first : NULL; p; p = p->next)
        if (p->kind != FM_PY_STRING) return bad(c, "builtin_tools", "not a list of names");
    t->builtin = builtin;
    return FM_OK;
}

enum fm_status fm_talk_read(const struct fm_chat_format *f, const struct fm_py *v, struct fm_py_doc *doc,
                            struct fm_talk *out, struct fm_error *err)
{
    struct context c = {.doc = doc, .err = err};
    struct fm_talk t = {.thinking = f->rules & FM_CHAT_THINKS, .drop_thinking = true, .tools_in_user = true};
    const struct fm_py *list = v->kind == FM_PY_ARRAY ? v : fm_py_get(v, "messages");
    if (v->kind != FM_PY_ARRAY && v->kind != FM_PY_OBJECT) return bad(&c, "messages", "neither an object nor a list");
    if (!list || list->kind != FM_PY_ARRAY) return bad(&c, "messages", "the list is missing");
    if (!list->n) return bad(&c, "messages", "the list is empty");
    FM_TRY(read_options(&c, v, &t));
    if (!(t.turns = make(&c, list->n, sizeof *t.turns))) return FM_ERR_MEMORY;
    for (const struct fm_py *p = list->first; p; p = p->next) {
        c.message++;
        FM_TRY(read_turn(&c, p, &t.turns[t.n++]));
    }
    t.generate = t.turns[t.n - 1].role != FM_ASSISTANT;
    *out = t;
    return FM_OK;
}
