/* See constraint.h. */
#include "run/constraint.h"

#include <string.h>

#include "base/mem.h"
#include "run/run.h"
#include "text/chat_impl.h"
#include "text/grammar_tools.h"

/* ---- the vocabulary, once for an engine ---- */

static bool is_end(const void *arg, int32_t id) { return fm_engine_is_end(arg, id); }

static enum fm_status need_trie(struct fm_engine *e, struct fm_error *err)
{
    static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER; /* not the engine's turn: that lasts a step */
    enum fm_status st = FM_OK;
    (void)pthread_mutex_lock(&making);
    if (!e->trie) {
        const int32_t size = fm_tokenizer_size(e->tok), V = (int32_t)e->model.cfg.V;
        st = fm_token_trie_new(e->tok, size > V ? size : V, is_end, e, &e->trie, err);
    }
    (void)pthread_mutex_unlock(&making);
    return st;
}

/* ---- grammars ---- */

static enum fm_status answer_rule(struct fm_gbuild *b, const struct fm_constraint_options *o, const char *what,
                                  int *rule, struct fm_error *err)
{
    struct fm_gjson g = fm_gjson_new(b);
    struct fm_py_doc doc = {0};
    const struct fm_py *schema;
    enum fm_status st;
    switch (o->kind) {
    case FM_CONSTRAINT_GBNF: return fm_gbnf_parse(b, o->text, o->n, what, rule, err);
    case FM_CONSTRAINT_SCHEMA:
        if (o->n > FM_GRAMMAR_TEXT) return fm_fail(err, FM_ERR_INPUT, "%s: more than %d bytes", what, FM_GRAMMAR_TEXT);
        st = fm_py_parse(&doc, o->text, o->n, what, &schema, err);
        if (!st) st = fm_schema_parse(&g, schema, what, rule, err);
        fm_py_release(&doc);
        return st;
    case FM_CONSTRAINT_NONE: return FM_OK;
    case FM_CONSTRAINT_JSON: break;
    default: return fm_fail(err, FM_ERR_USAGE, "constraint: kind %d: there is none of this number", (int)o->kind);
    }
    *rule = fm_grule_new(b, NULL, 0, 0);
    if (*rule >= 0) fm_grule_define(b, *rule, fm_gjson_object(&g));
    return FM_OK;
}

static int rule_of(struct fm_gbuild *b, fm_gnode body)
{
    const int rule = fm_grule_new(b, NULL, 0, 0);
    if (rule >= 0) fm_grule_define(b, rule, body);
    return rule < 0 ? 0 : rule;
}

/* The beginnings, in the order of enum fm_constraint_start. */
static void add_entries(struct fm_gbuild *b, int answer)
{
    const fm_gnode gap = fm_g_repeat(b, fm_g_str(b, "\n"), 0, 2), before = fm_g_repeat(b, fm_g_str(b, "\n"), 0, 2);
    const int thought = rule_of(b, FM_G_SEQ(b, fm_g_free(b, "</think>", true), gap, fm_g_rule(b, answer)));
    const fm_gnode opened = FM_G_SEQ(b, before, fm_g_mark(b, "<think>"), fm_g_rule(b, thought));
    b->entry[FM_START_ANSWER] = answer;
    b->entry[FM_START_IN_THOUGHT] = thought;
    b->entry[FM_START_MAY_THINK] = rule_of(b, FM_G_ALT(b, opened, fm_g_rule(b, answer)));
    b->n_entries = 3;
}

/* The rule of answers among which are calls; *rule: that of content, −1 where it is free. */
static enum fm_status add_tools(struct fm_gbuild *b, const struct fm_constraint_options *o, int *rule,
                                struct fm_error *err)
{
    const struct fm_chat_format *f = o->format ? fm_chat_find(o->format) : NULL;
    struct fm_gjson g = fm_gjson_new(b);
    struct fm_py_doc doc = {0};
    const struct fm_py *messages = NULL;
    if (!f) return fm_fail(err, FM_ERR_USAGE, "tools: the model has no chat format that is known");
    enum fm_status st = fm_py_parse(&doc, o->messages, o->n_messages, "messages", &messages, err);
    const struct fm_py *tools = st ? NULL : fm_py_get(messages, "tools");
    const struct fm_tool_use use = {.calls = f->parse.calls,
                                    .tools = tools && tools->kind == FM_PY_ARRAY ? tools : NULL,
                                    .only = o->tool,
                                    .required = o->tool_choice == FM_TOOLS_REQUIRED};
    const bool wanted = use.required || *rule >= 0 ? use.required || use.tools : fm_tools_strict(use.tools);
    if (!st && wanted) st = fm_tools_parse(&g, &use, *rule, rule, err);
    fm_py_release(&doc);
    return st;
}

enum fm_status fm_constraint_new(struct fm_engine *e, const struct fm_constraint_options *o, struct fm_constraint **out,
                                 struct fm_error *err)
{
    const char *what = o->what ? o->what : o->kind == FM_CONSTRAINT_GBNF ? "the grammar" : "the schema";
    FM_TRY(fm_engine_has_text(e, err));
    FM_TRY(need_trie(e, err));
    struct fm_constraint *c = fm_calloc(1, sizeof *c);
    if (!c) return fm_fail_memory(err, "a constraint", sizeof *c);
    struct fm_gbuild b = {0};
    int answer = -1;
    c->trie = e->trie;
    enum fm_status st = answer_rule(&b, o, what, &answer, err);
    if (!st && o->tool_choice != FM_TOOLS_NONE) st = add_tools(&b, o, &answer, err);
    const bool bound = answer >= 0 || b.failed;
    if (!st && b.failed) st = fm_fail_memory(err, "a constraint", sizeof *c);
    if (!st && bound) {
        add_entries(&b, answer);
        st = fm_grammar_compile(&b, answer, fm_token_trie_has_mark, c->trie, what, &c->g, err);
    }
    fm_gbuild_release(&b);
    if (st || !bound) {
        fm_free(c);
        c = NULL;
    }
    if (!st) *out = c;
    return st;
}

void fm_constraint_free(struct fm_constraint *c)
{
    if (!c) return;
    fm_grammar_release(&c->g);
    fm_free(c);
}

/* ---- one generation ---- */

enum fm_status fm_follow_begin(struct fm_follower *f, const struct fm_constraint *c, enum fm_constraint_start start,
                               struct fm_error *err)
{
    *f = (struct fm_follower){.c = c};
    if (!c) return FM_OK;
    FM_TRY(fm_matcher_new(&c->g, &f->m, err));
    if (fm_matcher_enter(f->m, (int)start)) return FM_OK;
    const enum fm_status st = fm_matcher_fault(f->m, err);
    fm_follow_end(f);
    return st;
}

enum fm_status fm_follow_mask(struct fm_follower *f, const uint64_t **allowed, bool *over, struct fm_error *err)
{
    bool any = true;
    *allowed = NULL;
    *over = false;
    if (!f->m) return FM_OK;
    *allowed = fm_matcher_mask(f->m, f->c->trie, &any);
    if (!*allowed) {
        FM_TRY(fm_matcher_fault(f->m, err));
        return fm_fail(err, FM_ERR_FAILED, "follow a grammar: the answer: it has left the grammar");
    }
    *over = !any && fm_matcher_accepts(f->m); /* of a model without end tokens */
    if (any || *over) return FM_OK;
    return fm_fail(err, FM_ERR_INPUT, "follow a grammar: the answer: no token of the model's can go on here");
}

enum fm_status fm_follow_token(struct fm_follower *f, int32_t id, struct fm_error *err)
{
    if (!f->m || fm_matcher_token(f->m, f->c->trie, id)) return FM_OK;
    FM_TRY(fm_matcher_fault(f->m, err));
    return fm_fail(err, FM_ERR_FAILED, "follow a grammar: token %d: it may not come here", (int)id);
}

void fm_follow_end(struct fm_follower *f)
{
    fm_matcher_free(f->m);
    *f = (struct fm_follower){.c = NULL};
}
