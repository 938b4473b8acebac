/* Tool calls as grammars, in each dialect's own block.  What the parsers of calls.c take apart is what is made here.
 *
 *   the whole answer:  required   block
 *                      free       content? block?        content: text up to the block's first mark, or the bound answer */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_tools.h"

#define D "｜DSML｜"

struct tools {
    const struct fm_tool_use *use;
    struct fm_gjson *g;
    struct fm_gbuild *b;
    struct fm_error *err;
    enum fm_status st;
};

/* ---- arguments ---- */

static const struct fm_py object_type = {.kind = FM_PY_STRING, .key = {"type", 4}, .text = {"object", 6}};
static const struct fm_py any_object = {.kind = FM_PY_OBJECT, .first = &object_type, .n = 1};

static const struct fm_py *function_of(const struct fm_py *tool)
{
    return fm_py_is(fm_py_get(tool, "type"), "function") ? fm_py_get(tool, "function") : NULL;
}

static bool is_strict(const struct fm_py *f)
{
    const struct fm_py *strict = fm_py_get(f, "strict");
    return strict && strict->kind == FM_PY_TRUE;
}

/* The rule of a tool's arguments.  A schema that has no grammar is an error of a strict tool; else any object will do. */
static int arguments(struct tools *t, const struct fm_py *f)
{
    const struct fm_py *schema = fm_py_get(f, "parameters"), *name = fm_py_get(f, "name");
    const bool dsml = t->use->calls == FM_CALLS_V32 || t->use->calls == FM_CALLS_V4;
    char what[128];
    int rule = -1;
    (void)snprintf(what, sizeof what, "tool %.*s: its parameters", (int)(name->text.n < 64 ? name->text.n : 64),
                   name->text.s);
    if (!schema || schema->kind == FM_PY_NULL || (!is_strict(f) && !t->use->required)) schema = &any_object;
    if (!is_strict(f) && schema != &any_object) { /* tried apart, so that a failure leaves nothing behind */
        struct fm_gbuild scratch = {0};
        struct fm_gjson g = fm_gjson_new(&scratch);
        bool *ends = NULL;
        bool good =
            !fm_schema_arguments(&g, schema, dsml, what, &rule, NULL) && (ends = fm_grules_end(&scratch)) && ends[rule];
        fm_free(ends);
        fm_gbuild_release(&scratch);
        if (!good) schema = &any_object;
    }
    t->st = fm_schema_arguments(t->g, schema, dsml, what, &rule, t->err);
    return t->st ? -1 : rule;
}

/* ---- blocks ---- */

static fm_gnode text(struct tools *t, const char *s) { return fm_g_str(t->b, s); }

static fm_gnode raw_name(struct tools *t, const struct fm_py *f)
{
    const struct fm_py *name = fm_py_get(f, "name");
    return fm_g_text(t->b, name->text.s, name->text.n);
}

static fm_gnode dsml(struct tools *t) { return fm_g_mark(t->b, D); }

static fm_gnode fenced_call(struct tools *t, const struct fm_py *f, fm_gnode args)
{
    return FM_G_SEQ(t->b, fm_g_mark(t->b, "<｜tool▁call▁begin｜>"), text(t, "function"),
                    fm_g_mark(t->b, "<｜tool▁sep｜>"), raw_name(t, f), text(t, "\n```json\n"), args, text(t, "\n```"),
                    fm_g_mark(t->b, "<｜tool▁call▁end｜>"));
}

static fm_gnode bare_call(struct tools *t, const struct fm_py *f, fm_gnode args)
{
    return FM_G_SEQ(t->b, fm_g_mark(t->b, "<｜tool▁call▁begin｜>"), raw_name(t, f), fm_g_mark(t->b, "<｜tool▁sep｜>"),
                    args, fm_g_mark(t->b, "<｜tool▁call▁end｜>"));
}

static fm_gnode dsml_call(struct tools *t, const struct fm_py *f, fm_gnode args)
{
    return FM_G_SEQ(t->b, text(t, "<"), dsml(t), text(t, "invoke name=\""), raw_name(t, f), text(t, "\">\n"), args,
                    text(t, "</"), dsml(t), text(t, "invoke>\n"));
}

static fm_gnode json_call(struct tools *t, const struct fm_py *f, const char *key, fm_gnode args)
{
    const fm_gnode name = fm_gjson_literal(t->g, fm_py_get(f, "name"));
    return FM_G_SEQ(t->b, text(t, "{\"name\": "), name, text(t, ", \""), text(t, key), text(t, "\": "), args,
                    text(t, "}"));
}

static fm_gnode hermes_call(struct tools *t, const struct fm_py *f, fm_gnode args)
{
    return FM_G_SEQ(t->b, fm_g_mark(t->b, "<tool_call>"), text(t, "\n"), json_call(t, f, "arguments", args),
                    text(t, "\n"), fm_g_mark(t->b, "</tool_call>"));
}

static fm_gnode object_call(struct tools *t, const struct fm_py *f, fm_gnode args)
{
    return json_call(t, f, "parameters", args);
}

/* How a block is put together, a row per dialect. */
static const struct block {
    fm_gnode (*call)(struct tools *t, const struct fm_py *f, fm_gnode args);
    const char *mark, *open[3], *close[3], *between; /* open and close: texts, of which [1] is a mark */
    bool many;
} blocks[FM_CALLS_COUNT] = {
    [FM_CALLS_FENCED] = {fenced_call,
                         "<｜tool▁calls▁begin｜>",
                         {"", "<｜tool▁calls▁begin｜>", ""},
                         {"", "<｜tool▁calls▁end｜>", ""},
                         "\n",
                         true},
    [FM_CALLS_BARE] = {bare_call,
                       "<｜tool▁calls▁begin｜>",
                       {"", "<｜tool▁calls▁begin｜>", ""},
                       {"", "<｜tool▁calls▁end｜>", ""},
                       "",
                       true},
    [FM_CALLS_V32] = {dsml_call,
                      "\n\n<" D "function_calls",
                      {"\n\n<", D, "function_calls>\n"},
                      {"</", D, "function_calls>"},
                      "",
                      true},
    [FM_CALLS_V4] =
        {dsml_call, "\n\n<" D "tool_calls", {"\n\n<", D, "tool_calls>\n"}, {"</", D, "tool_calls>"}, "", true},
    [FM_CALLS_HERMES] = {hermes_call, "<tool_call>", {"", NULL, ""}, {"", NULL, ""}, "\n", true},
    [FM_CALLS_OBJECT] = {object_call, "<|python_tag|>", {"", NULL, ""}, {"", NULL, ""}, "", false},
};

static fm_gnode three(struct tools *t, const char *const s[3])
{
    return FM_G_SEQ(t->b, text(t, s[0]), s[1] ? fm_g_mark(t->b, s[1]) : text(t, ""), text(t, s[2]));
}

static enum fm_status no_tool(struct tools *t)
{
    if (t->use->only) return fm_fail(t->err, FM_ERR_USAGE, "tool_choice: there is no tool '%.100s'", t->use->only);
    return fm_fail(t->err, FM_ERR_USAGE, "tool_choice: there are no tools");
}

/* A rule for one call of any of the tools. */
static int any_call(struct tools *t)
{
    struct fm_glist calls = {0};
    const int rule = fm_grule_new(t->b, NULL, 0, 0);
    int n = 0;
    for (const struct fm_py *p = t->use->tools ? t->use->tools->first : NULL; p && !t->st; p = p->next) {
        const struct fm_py *f = function_of(p), *name = fm_py_get(f, "name");
        if (!name || name->kind != FM_PY_STRING || (t->use->only && !fm_span_is(name->text, t->use->only))) continue;
        const int args = arguments(t, f);
        if (!t->st) fm_glist_add(t->b, &calls, blocks[t->use->calls].call(t, f, fm_g_rule(t->b, args)));
        n++;
    }
    if (!n && !t->st) t->st = no_tool(t);
    const fm_gnode all = fm_glist_alt(t->b, &calls);
    if (rule >= 0) fm_grule_define(t->b, rule, all);
    return rule;
}

static fm_gnode block_node(struct tools *t)
{
    const struct block *k = &blocks[t->use->calls];
    const int call = any_call(t);
    const fm_gnode more = FM_G_SEQ(t->b, text(t, k->between), fm_g_rule(t->b, call));
    return FM_G_SEQ(t->b, three(t, k->open), fm_g_rule(t->b, call),
                    k->many && !t->use->only ? fm_g_repeat(t->b, more, 0, FM_NO_MAX) : text(t, ""), three(t, k->close));
}

/* Content in front of a block; where an answer may itself be the call, one that does not begin like it. */
static fm_gnode free_answer(struct tools *t, fm_gnode block)
{
    const char *mark = blocks[t->use->calls].mark;
    if (t->use->calls != FM_CALLS_OBJECT) return FM_G_SEQ(t->b, fm_g_free(t->b, mark, false), fm_g_maybe(t->b, block));
    static const struct fm_grange shut[] = {{'\t', '\r'}, {' ', ' '}, {'<', '<'}, {'{', '{'}};
    const fm_gnode other = FM_G_SEQ(t->b, fm_g_class(t->b, shut, 4, true), fm_g_free(t->b, mark, false));
    return FM_G_ALT(t->b, block, fm_g_maybe(t->b, other));
}

bool fm_tools_strict(const struct fm_py *tools)
{
    for (const struct fm_py *p = tools && tools->kind == FM_PY_ARRAY ? tools->first : NULL; p; p = p->next)
        if (is_strict(function_of(p))) return true;
    return false;
}

enum fm_status fm_tools_parse(struct fm_gjson *g, const struct fm_tool_use *use, int answer, int *root,
                              struct fm_error *err)
{
    struct tools t = {.use = use, .g = g, .b = g->b, .err = err};
    if (!blocks[use->calls].call)
        return fm_fail(err, FM_ERR_USAGE, "%s: the model's chat format has no tool calls",
                       use->required ? "tool_choice" : "tools");
    const fm_gnode block = block_node(&t);
    if (t.st) return t.st;
    const fm_gnode body = use->required ? block
                          : answer >= 0 ? FM_G_ALT(g->b, fm_g_rule(g->b, answer), block)
                                        : free_answer(&t, block);
    *root = fm_grule_new(g->b, NULL, 0, 0);
    if (*root >= 0) fm_grule_define(g->b, *root, body);
    if (g->b->failed) return fm_fail_memory(err, "a grammar of tools", sizeof t);
    return g->b->too_large || *root < 0 ? fm_fail(err, FM_ERR_INPUT, "tools: they are too large") : FM_OK;
}
