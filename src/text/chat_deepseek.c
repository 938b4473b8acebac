/* DeepSeek V3, R1 and V3.1: tool calls between tokens of their own.  Models.md §12.2 to §12.4.
 *
 *   V3, R1  A <calls begin> <call begin>function<sep>NAME\n```json\n{…}\n```<call end> \n… <calls end> E
 *           <outputs begin> <output begin>R<output end> \n… <outputs end> text E
 *   V3.1    A </think> <calls begin> <call begin>NAME<sep>{…}<call end>… <calls end> E <output begin>R<output end> text E */
#include <string.h>

#include "text/chat_impl.h"

#define CALLS     FM_CONTROL("<｜tool▁calls▁begin｜>")
#define CALLS_END FM_CONTROL("<｜tool▁calls▁end｜>")
#define CALL      FM_CONTROL("<｜tool▁call▁begin｜>")
#define CALL_END  FM_CONTROL("<｜tool▁call▁end｜>")
#define SEP       FM_CONTROL("<｜tool▁sep｜>")
#define OUTS      FM_CONTROL("<｜tool▁outputs▁begin｜>")
#define OUTS_END  FM_CONTROL("<｜tool▁outputs▁end｜>")
#define OUT       FM_CONTROL("<｜tool▁output▁begin｜>")
#define OUT_END   FM_CONTROL("<｜tool▁output▁end｜>")

static void put_fenced(struct fm_prompt *p, const struct fm_call *c)
{
    fm_prompt_template(p, CALL);
    fm_put(p, c->type);
    fm_prompt_template(p, SEP);
    fm_put(p, c->name);
    fm_put_str(p, "\n```json\n");
    fm_put_arguments(p, c);
    fm_prompt_template(p, "\n```" CALL_END);
}

static void put_output(struct fm_prompt *p, const char *before, struct fm_span text)
{
    fm_prompt_template(p, before);
    fm_put(p, text);
    fm_prompt_template(p, OUT_END);
}

/* ---- V3 ---- */

static void put_answer_v3(const struct fm_turn *m, bool behind_outputs, struct fm_prompt *p)
{
    fm_prompt_template(p, behind_outputs ? OUTS_END : FM_DS_ASSISTANT);
    fm_put(p, m->text);
    for (size_t k = 0; k < m->n_calls; k++) {
        fm_prompt_template(p, k ? "\n" : CALLS);
        put_fenced(p, &m->calls[k]);
    }
    if (m->n_calls) fm_prompt_template(p, CALLS_END);
    fm_prompt_template(p, FM_DS_EOS);
}

enum fm_status fm_encode_v3(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                            struct fm_error *err)
{
    bool outputs = false;
    (void)err;
    fm_prompt_template(out, f->bos);
    (void)fm_put_systems(out, t);
    for (size_t i = 0; i < t->n; i++) {
        const struct fm_turn *m = &t->turns[i];
        if (m->role == FM_TOOL) {
            put_output(out, outputs ? "\n" OUT : OUTS OUT, m->text);
            outputs = true;
        } else if (m->role == FM_ASSISTANT) {
            put_answer_v3(m, outputs, out);
            outputs = false;
        } else if (m->role == FM_USER) {
            if (outputs) fm_prompt_template(out, OUTS_END);
            outputs = false;
            fm_prompt_template(out, FM_DS_USER);
            fm_put(out, m->text);
        }
    }
    if (outputs) fm_prompt_template(out, OUTS_END);
    if (t->generate && !outputs) fm_prompt_template(out, f->generate);
    return FM_OK;
}

/* ---- R1 ---- */

/* The published template never forgets that it has written a call or an output: later ones of the whole conversation
 * begin with a newline and without the opening token.  So the model was served, and so it is here. */
struct r1 {
    bool called, put_out, outputs;
};

static void put_answer_r1(const struct fm_turn *m, struct r1 *r, struct fm_prompt *p)
{
    struct fm_span before, text;
    if (m->n_calls) r->outputs = false;
    for (size_t k = 0; k < m->n_calls; k++) {
        fm_prompt_template(p, r->called ? "\n" : FM_DS_ASSISTANT CALLS);
        put_fenced(p, &m->calls[k]);
        r->called = true;
    }
    if (m->n_calls) fm_prompt_template(p, CALLS_END FM_DS_EOS);
    if (!m->has_text) return;
    if (r->outputs) {
        fm_prompt_template(p, OUTS_END);
        text = m->text;
        r->outputs = false;
    } else {
        fm_prompt_template(p, FM_DS_ASSISTANT);
        (void)fm_span_cut(m->text, "</think>", true, &before, &text);
    }
    fm_put(p, text);
    fm_prompt_template(p, FM_DS_EOS);
}

enum fm_status fm_encode_r1(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                            struct fm_error *err)
{
    struct r1 r = {0};
    (void)err;
    fm_prompt_template(out, f->bos);
    for (size_t i = t->n; i-- > 0;) { /* only the last system text counts */
        if (t->turns[i].role != FM_SYSTEM) continue;
        fm_put(out, t->turns[i].text);
        break;
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct fm_turn *m = &t->turns[i];
        if (m->role == FM_TOOL) {
            put_output(out, r.put_out ? "\n" OUT : OUTS OUT, m->text);
            r.outputs = r.put_out = true;
        } else if (m->role == FM_ASSISTANT) {
            put_answer_r1(m, &r, out);
        } else if (m->role == FM_USER) {
            r.outputs = false;
            fm_prompt_template(out, FM_DS_USER);
            fm_put(out, m->text);
        }
    }
    if (r.outputs) fm_prompt_template(out, OUTS_END);
    if (!t->generate || r.outputs) return FM_OK;
    fm_prompt_template(out, FM_DS_ASSISTANT FM_THINK "\n");
    if (!t->thinking) fm_prompt_template(out, FM_THINK_END);
    return FM_OK;
}

/* ---- V3.1 ---- */

static void put_tools_v31(const struct fm_talk *t, struct fm_prompt *p)
{
    static const struct fm_py none = {.kind = FM_PY_OBJECT};
    fm_put_paragraph(p, FM_PARAGRAPH_V31_TOOLS);
    for (const struct fm_py *v = t->tools->first; v; v = v->next) {
        const struct fm_py *f = fm_py_get(v, "function"), *says = fm_py_get(f, "description"),
                           *takes = fm_py_get(f, "parameters");
        fm_put_str(p, "### ");
        fm_put(p, fm_py_get(f, "name")->text);
        fm_put_str(p, "\nDescription: ");
        if (says && says->kind == FM_PY_STRING) fm_put(p, says->text);
        fm_put_str(p, "\n\nParameters: ");
        fm_put_json(p, takes ? takes : &none, 0);
        fm_put_str(p, "\n\n");
    }
    fm_put_paragraph_end(p, FM_PARAGRAPH_V31_TOOLS);
}

static void put_calls_v31(const struct fm_turn *m, struct fm_prompt *p)
{
    fm_put(p, m->text);
    fm_prompt_template(p, CALLS);
    for (size_t k = 0; k < m->n_calls; k++) {
        fm_prompt_template(p, CALL);
        fm_put(p, m->calls[k].name);
        fm_prompt_template(p, SEP);
        fm_put_arguments(p, &m->calls[k]);
        fm_prompt_template(p, CALL_END);
    }
    fm_prompt_template(p, CALLS_END);
}

enum fm_status fm_encode_v31(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                             struct fm_error *err)
{
    bool user = false, outputs = false; /* behind a user's text; behind a result */
    (void)err;
    fm_prompt_template(out, f->bos);
    bool any = fm_put_systems(out, t);
    if (t->tools && any) fm_put_str(out, "\n\n");
    if (t->tools) put_tools_v31(t, out);
    for (size_t i = 0; i < t->n; i++) {
        const struct fm_turn *m = &t->turns[i];
        struct fm_span before, text = m->text;
        if (m->role == FM_USER) {
            fm_prompt_template(out, FM_DS_USER);
            fm_put(out, m->text);
            outputs = false;
        } else if (m->role == FM_TOOL) {
            put_output(out, OUT, m->text);
            outputs = true;
        } else if (m->role == FM_ASSISTANT) {
            if (user) fm_prompt_template(out, FM_DS_ASSISTANT);
            if (user) fm_prompt_template(out, m->prefix && t->thinking && !m->n_calls ? FM_THINK : FM_THINK_END);
            if (m->n_calls)
                put_calls_v31(m, out);
            else if (!outputs)
                (void)fm_span_cut(m->text, "</think>", false, &before, &text);
            if (!m->n_calls) fm_put(out, text);
            fm_prompt_template(out, FM_DS_EOS);
            outputs = false;
        }
        if (m->role != FM_SYSTEM) user = m->role == FM_USER;
    }
    if (t->generate && user) fm_prompt_template(out, FM_DS_ASSISTANT);
    if (t->generate && user) fm_prompt_template(out, t->thinking ? FM_THINK : FM_THINK_END);
    return FM_OK;
}
