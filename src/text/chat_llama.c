/* Llama 3.1, after the template published with Meta-Llama-3.1-8B-Instruct.  Models.md §12.8.
 *
 *   <|begin_of_text|>{system: [Environment] dates, text}{user: tools, first text}{assistant: {"name": …}}{ipython: …}
 *
 * As there, a result that is a string is written as a JSON string, and a turn holds one call at most. */
#include <string.h>

#include "text/chat_impl.h"

#define HEADER(role) FM_CONTROL("<|start_header_id|>") role FM_CONTROL("<|end_header_id|>") "\n\n"
#define END          FM_CONTROL("<|eot_id|>")

static void put_tools(const struct fm_talk *t, struct fm_prompt *p)
{
    for (const struct fm_py *v = t->tools->first; v; v = v->next) {
        fm_put_json(p, v, 4);
        fm_put_str(p, "\n\n");
    }
}

static void put_system(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *p)
{
    fm_prompt_template(p, f->bos);
    fm_prompt_template(p, HEADER("system"));
    if (t->builtin || t->tools) fm_put_str(p, "Environment: ipython\n");
    if (t->builtin) {
        bool any = false;
        fm_put_str(p, "Tools: ");
        for (const struct fm_py *v = t->builtin->first; v; v = v->next) {
            if (fm_span_is(v->text, "code_interpreter")) continue;
            if (any) fm_put_str(p, ", ");
            fm_put(p, v->text);
            any = true;
        }
        fm_put_str(p, "\n\n");
    }
    fm_put_str(p, "Cutting Knowledge Date: December 2023\nToday Date: ");
    fm_put(p, t->date.s ? t->date : fm_span_of("26 Jul 2024"));
    fm_put_str(p, "\n\n");
    if (t->tools && !t->tools_in_user) {
        fm_put_str(p, "You have access to the following functions. To call a function, please respond with JSON for a "
                      "function call.Respond in the format {\"name\": function name, \"parameters\": dictionary of "
                      "argument name and its value}.Do not use variables.\n\n");
        put_tools(t, p);
    }
    if (t->n && t->turns[0].role == FM_SYSTEM) fm_put(p, fm_span_trim(t->turns[0].text));
    fm_prompt_template(p, END);
}

static bool is_builtin(const struct fm_talk *t, const struct fm_call *c)
{
    for (const struct fm_py *v = t->builtin ? t->builtin->first : NULL; v; v = v->next)
        if (v->text.n == c->name.n && (!v->text.n || !memcmp(v->text.s, c->name.s, c->name.n))) return true;
    return false;
}

static enum fm_status put_call(const struct fm_chat_format *f, const struct fm_talk *t, size_t i, struct fm_prompt *p,
                               struct fm_error *err)
{
    const struct fm_turn *m = &t->turns[i];
    const struct fm_call *c = m->calls;
    if (m->n_calls > 1)
        return fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: one call at a time", f->name, i + 1);
    fm_prompt_template(p, HEADER("assistant"));
    if (is_builtin(t, c)) {
        fm_prompt_template(p, FM_CONTROL("<|python_tag|>"));
        fm_put(p, c->name);
        fm_put_str(p, ".call(");
        for (const struct fm_py *v = c->arguments->first; v; v = v->next) {
            if (v->kind != FM_PY_STRING)
                return fm_fail(err, FM_ERR_USAGE, "chat format %s: message %zu: a built-in tool takes strings only",
                               f->name, i + 1);
            if (v != c->arguments->first) fm_put_str(p, ", ");
            fm_put(p, v->key);
            fm_put_str(p, "=\"");
            fm_put(p, v->text);
            fm_put_str(p, "\"");
        }
        fm_put_str(p, ")");
    } else {
        fm_put_str(p, "{\"name\": \"");
        fm_put(p, c->name);
        fm_put_str(p, "\", \"parameters\": ");
        fm_put_arguments(p, c);
        fm_put_str(p, "}");
    }
    fm_prompt_template(p, t->builtin ? FM_CONTROL("<|eom_id|>") : END);
    return FM_OK;
}

enum fm_status fm_encode_llama31(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                                 struct fm_error *err)
{
    static const char *const headers[FM_ROLE_COUNT] = {
        [FM_SYSTEM] = HEADER("system"), [FM_USER] = HEADER("user"), [FM_ASSISTANT] = HEADER("assistant")};
    size_t i = t->n && t->turns[0].role == FM_SYSTEM;
    put_system(f, t, out);
    if (t->tools && t->tools_in_user) {
        if (i == t->n) return fm_fail(err, FM_ERR_USAGE, "chat format %s: tools need a message of the user", f->name);
        fm_prompt_template(out, HEADER("user"));
        fm_put_paragraph(out, FM_PARAGRAPH_LLAMA_TOOLS);
        put_tools(t, out);
        fm_put(out, fm_span_trim(t->turns[i++].text));
        fm_prompt_template(out, END);
    }
    for (; i < t->n; i++) {
        const struct fm_turn *m = &t->turns[i];
        if (m->n_calls) {
            FM_TRY(put_call(f, t, i, out, err));
            continue;
        }
        fm_prompt_template(out, m->role == FM_TOOL ? HEADER("ipython") : headers[m->role]);
        if (m->role == FM_TOOL) {
            fm_py_write_string(&out->text, m->text);
            out->failed |= out->text.failed;
        } else {
            fm_put(out, fm_span_trim(m->text));
        }
        fm_prompt_template(out, END);
    }
    if (t->generate) fm_prompt_template(out, f->generate);
    return FM_OK;
}
