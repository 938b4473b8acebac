/* Qwen 2.5 and 3, after the templates published with Qwen2.5-7B-Instruct and Qwen3-0.6B.  Models.md §12.8.
 *
 *   <|im_start|>system\nS\n\n# Tools …<|im_end|>\n<|im_start|>user\n…<|im_end|>\n
 *   <|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {…}}\n</tool_call><|im_end|>\n
 *   <|im_start|>user\n<tool_response>\n…\n</tool_response><|im_end|>\n
 *
 * Where we differ: arguments that come as a string are parsed and written anew, so that spacing is Python's. */
#include "text/chat_impl.h"

#define BEGIN FM_CONTROL("<|im_start|>")
#define END   FM_CONTROL("<|im_end|>") "\n"

static void put_turn(struct fm_prompt *p, const char *begin, struct fm_span text)
{
    fm_prompt_template(p, begin);
    fm_put(p, text);
    fm_prompt_template(p, END);
}

/* The system block, with the tools behind its text. */
static void put_system(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *p)
{
    bool begins = t->n && t->turns[0].role == FM_SYSTEM;
    if (!begins && !f->system && !t->tools) return;
    fm_prompt_template(p, BEGIN "system\n");
    if (begins)
        fm_put(p, t->turns[0].text);
    else if (f->system)
        fm_put_str(p, f->system);
    if (t->tools) {
        if (begins || f->system) fm_put_str(p, "\n\n");
        fm_put_paragraph(p, FM_PARAGRAPH_QWEN_TOOLS);
        for (const struct fm_py *v = t->tools->first; v; v = v->next) {
            fm_put_str(p, "\n");
            fm_put_json(p, v, 0);
        }
        fm_put_paragraph_end(p, FM_PARAGRAPH_QWEN_TOOLS);
    }
    fm_prompt_template(p, END);
}

static void put_call(struct fm_prompt *p, const struct fm_call *c)
{
    fm_prompt_template(p, FM_CONTROL("<tool_call>") "\n{\"name\": \"");
    fm_put(p, c->name);
    fm_put_str(p, "\", \"arguments\": ");
    fm_put_arguments(p, c);
    fm_prompt_template(p, "}\n" FM_CONTROL("</tool_call>"));
}

/* Results one behind the other share a user's turn. */
static void put_result(const struct fm_talk *t, size_t i, struct fm_prompt *p)
{
    if (!i || t->turns[i - 1].role != FM_TOOL) fm_prompt_template(p, BEGIN "user");
    fm_prompt_template(p, "\n" FM_CONTROL("<tool_response>") "\n");
    fm_put(p, t->turns[i].text);
    fm_prompt_template(p, "\n" FM_CONTROL("</tool_response>"));
    if (i + 1 == t->n || t->turns[i + 1].role != FM_TOOL) fm_prompt_template(p, END);
}

static void put_answer25(const struct fm_turn *m, struct fm_prompt *p)
{
    fm_prompt_template(p, BEGIN "assistant");
    if (!m->n_calls || m->text.n) fm_put_str(p, "\n");
    fm_put(p, m->text);
    for (size_t k = 0; k < m->n_calls; k++) {
        fm_put_str(p, "\n");
        put_call(p, &m->calls[k]);
    }
    fm_prompt_template(p, END);
}

enum fm_status fm_encode_qwen25(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                                struct fm_error *err)
{
    (void)err;
    put_system(f, t, out);
    for (size_t i = 0; i < t->n; i++) {
        const struct fm_turn *m = &t->turns[i];
        if (m->role == FM_TOOL)
            put_result(t, i, out);
        else if (m->role == FM_ASSISTANT)
            put_answer25(m, out);
        else if (m->role == FM_USER || i)
            put_turn(out, m->role == FM_USER ? BEGIN "user\n" : BEGIN "system\n", m->text);
    }
    if (t->generate) fm_prompt_template(out, BEGIN "assistant\n");
    return FM_OK;
}

/* The last message of a user that is no tool result in disguise; without one, the last message. */
static size_t last_query(const struct fm_talk *t)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    for (size_t i = t->n; i-- > 0;) {
        struct fm_span s = t->turns[i].text, head = {s.s, sizeof open - 1};
        if (t->turns[i].role != FM_USER) continue;
        struct fm_span tail = {s.n >= sizeof close - 1 ? s.s + s.n - (sizeof close - 1) : s.s, sizeof close - 1};
        if (s.n < sizeof close - 1 || !fm_span_is(head, open) || !fm_span_is(tail, close)) return i;
    }
    return t->n ? t->n - 1 : 0;
}

static void put_answer3(const struct fm_talk *t, size_t i, size_t query, struct fm_prompt *p)
{
    const struct fm_turn *m = &t->turns[i];
    struct fm_span why = m->reasoning, text = m->text, rest;
    if (!m->has_reasoning && fm_span_cut(m->text, "</think>", false, &why, &rest)) {
        struct fm_span before;
        while (why.n && why.s[why.n - 1] == '\n') why.n--;
        (void)fm_span_cut(why, "<think>", true, &before, &why);
        why = fm_span_strip(why, '\n', false);
        (void)fm_span_cut(m->text, "</think>", true, &before, &text);
        text = fm_span_strip(text, '\n', false);
    }
    bool shown = i > query && (i + 1 == t->n || why.n);
    fm_prompt_template(p, BEGIN "assistant\n");
    if (shown) {
        fm_prompt_template(p, FM_THINK "\n");
        fm_put(p, fm_span_strip(why, '\n', true));
        fm_prompt_template(p, "\n" FM_THINK_END "\n\n");
    }
    fm_put(p, shown ? fm_span_strip(text, '\n', false) : text);
    for (size_t k = 0; k < m->n_calls; k++) {
        if (k || text.n) fm_put_str(p, "\n");
        put_call(p, &m->calls[k]);
    }
    fm_prompt_template(p, END);
}

enum fm_status fm_encode_qwen3(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                               struct fm_error *err)
{
    size_t query = last_query(t);
    (void)err;
    put_system(f, t, out);
    for (size_t i = 0; i < t->n; i++) {
        const struct fm_turn *m = &t->turns[i];
        if (m->role == FM_TOOL)
            put_result(t, i, out);
        else if (m->role == FM_ASSISTANT)
            put_answer3(t, i, query, out);
        else if (m->role == FM_USER || i)
            put_turn(out, m->role == FM_USER ? BEGIN "user\n" : BEGIN "system\n", m->text);
    }
    if (!t->generate) return FM_OK;
    fm_prompt_template(out, BEGIN "assistant\n");
    if (!t->thinking) fm_prompt_template(out, FM_THINK "\n\n" FM_THINK_END "\n\n");
    return FM_OK;
}
