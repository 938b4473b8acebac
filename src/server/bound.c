/* What an answer is bound to: the words of each dialect for JSON, schemas and grammars, and the constraint they make. */
#include <stdio.h>
#include <string.h>

#include "server/ask.h"

static bool bind(struct fm_ask *a, enum fm_constraint_kind kind, const char *param, const char *text, size_t n)
{
    if (a->bind_text)
        return fm_fault_set(&a->fault, 400, param, "%s and %s: only one of them binds an answer", a->bind_param, param);
    if (!text) return fm_fault_set(&a->fault, 503, NULL, "memory is short");
    a->bind_kind = kind;
    a->bind_param = param;
    a->bind_text = text;
    a->n_bind = n;
    return true;
}

static bool bind_schema(struct fm_ask *a, const struct fm_py *schema, const char *param)
{
    struct fm_buf text = {0};
    if (!schema || (schema->kind != FM_PY_OBJECT && schema->kind != FM_PY_TRUE && schema->kind != FM_PY_FALSE))
        return fm_fault_set(&a->fault, 400, param, "%s: the schema is missing, or no object", param);
    fm_py_write(&text, schema, 0);
    const char *copy = text.failed ? NULL : fm_py_copy(&a->doc, text.data, text.len);
    const bool ok = bind(a, FM_CONSTRAINT_SCHEMA, param, copy, text.len);
    fm_buf_release(&text);
    return ok;
}

bool fm_bind_format(struct fm_ask *a, const struct fm_py *format, const char *param)
{
    const struct fm_py *type = fm_py_get(format, "type"), *nested = fm_py_get(format, "json_schema");
    if (!format || format->kind == FM_PY_NULL || fm_py_is(type, "text")) return true;
    if (fm_py_is(type, "json_object")) return bind(a, FM_CONSTRAINT_JSON, param, "", 0);
    if (!fm_py_is(type, "json_schema"))
        return fm_fault_set(&a->fault, 400, param, "%s: its type is none of text, json_object, json_schema", param);
    return bind_schema(a, fm_py_get(nested ? nested : format, "schema"), param);
}

bool fm_bind_json(struct fm_ask *a, const struct fm_py *format)
{
    if (!format || format->kind == FM_PY_NULL || fm_py_is(format, "")) return true;
    if (fm_py_is(format, "json")) return bind(a, FM_CONSTRAINT_JSON, "format", "", 0);
    if (format->kind == FM_PY_OBJECT) return bind_schema(a, format, "format");
    return fm_fault_set(&a->fault, 400, "format", "format is neither \"json\" nor a schema");
}

bool fm_bind_grammar(struct fm_ask *a)
{
    const struct fm_py *v = fm_py_get(a->body, "grammar");
    if (!v || v->kind == FM_PY_NULL || fm_py_is(v, "")) return true;
    if (v->kind != FM_PY_STRING) return fm_fault_set(&a->fault, 400, "grammar", "grammar is not a string");
    return bind(a, FM_CONSTRAINT_GBNF, "grammar", v->text.s, v->text.n);
}

bool fm_bind_tools(struct fm_ask *a)
{
    const struct fm_py *choice = fm_py_get(a->body, "tool_choice"), *type = fm_py_get(choice, "type"),
                       *name = fm_py_get(choice, "name");
    a->tool_choice = FM_TOOLS_AUTO;
    if (!choice || choice->kind == FM_PY_NULL || fm_py_is(choice, "auto") || fm_py_is(type, "auto")) return true;
    a->tool_choice = FM_TOOLS_NONE;
    if (fm_py_is(choice, "none") || fm_py_is(type, "none")) return true;
    a->tool_choice = FM_TOOLS_REQUIRED;
    if (fm_py_is(choice, "required") || fm_py_is(type, "any")) return true;
    if (!name) name = fm_py_get(fm_py_get(choice, "function"), "name");
    if ((!fm_py_is(type, "function") && !fm_py_is(type, "tool")) || !name || name->kind != FM_PY_STRING ||
        memchr(name->text.s, 0, name->text.n))
        return fm_fault_set(&a->fault, 400, "tool_choice",
                            "tool_choice is none of auto, none, required, and no function");
    a->tool = fm_py_copy(&a->doc, name->text.s, name->text.n);
    return a->tool || fm_fault_set(&a->fault, 503, NULL, "memory is short");
}

/* Where nobody spoke of tools, or there are none, only the answer is bound. */
static enum fm_tool_choice tools_of(const struct fm_ask *a, const char *json)
{
    const struct fm_py *tools = fm_py_get(a->body, "tools");
    const bool any = json && tools && tools->kind == FM_PY_ARRAY && tools->n;
    return any || a->tool_choice == FM_TOOLS_REQUIRED ? a->tool_choice : FM_TOOLS_NONE;
}

bool fm_bind_make(struct fm_ask *a, const struct fm_server *s, const char *json, size_t n)
{
    struct fm_error err = {0};
    const enum fm_tool_choice choice = tools_of(a, json);
    const char *param = a->bind_param ? a->bind_param : "tools";
    if (!a->bind_text && choice == FM_TOOLS_NONE) return true;
    const struct fm_constraint_options o = {.kind = a->bind_text ? a->bind_kind : FM_CONSTRAINT_NONE,
                                            .text = a->bind_text,
                                            .n = a->n_bind,
                                            .what = a->bind_param,
                                            .tool_choice = choice,
                                            .format = s->format,
                                            .messages = json,
                                            .n_messages = n,
                                            .tool = a->tool};
    if (!fm_constraint_new(s->engine, &o, &a->bound, &err)) return true;
    (void)fm_fault_of(&a->fault, &err);
    if (!strncmp(err.message, "tool_choice", 11)) param = "tool_choice";
    if (!strncmp(err.message, "tool", 4) && *param != 't') param = "tools";
    (void)snprintf(a->fault.param, sizeof a->fault.param, "%s", param);
    return false;
}
