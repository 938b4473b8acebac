/* DeepSeek V3.2 and V4: tool calls in DSML.  The obvious translation of encoding_dsv32.py and encoding_dsv4.py as
 * models.md §12.5 and §12.6 describe them; D = ｜DSML｜, U, A, E as there.
 *
 *   V3.2   U text A <think>why</think>text\n\n<D function_calls>…</D function_calls>E
 *          \n\n<function_results>\n<result>R</result>\n</function_results>\n\n<think>…
 *   V4     U text A <think>why</think>text\n\n<D tool_calls>…</D tool_calls>E U <tool_result>R</tool_result> A <think>…
 *
 * Tools of the whole request belong to the system message, as the servers of both do; without one, to an empty one. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/chat_impl.h"

struct dsml {
    const struct fm_chat_format *f;
    const struct fm_talk *t;
    struct fm_turn *m;   /* our copy: tools put in place, old messages dropped, results merged */
    size_t n, last_user; /* SIZE_MAX: there is none */
    bool drop;
    struct fm_piece *pieces;
    size_t n_pieces;
    struct fm_prompt *out;
    struct fm_error *err;
};

static void release(struct dsml *d)
{
    fm_free(d->m);
    fm_free(d->pieces);
}

static void find_last_user(struct dsml *d)
{
    d->last_user = SIZE_MAX;
    for (size_t i = 0; i < d->n; i++)
        if (d->m[i].role == FM_USER || d->m[i].role == FM_DEVELOPER) d->last_user = i;
}

static bool behind_user(const struct dsml *d, size_t i) { return d->last_user == SIZE_MAX || i > d->last_user; }

/* Copy the turns, with the tools of the request at the system message. */
static enum fm_status copy_turns(struct dsml *d)
{
    const struct fm_talk *t = d->t;
    size_t at = 0;
    d->m = fm_calloc(t->n + 1, sizeof *d->m);
    if (!d->m) return fm_fail_memory(d->err, "messages", (t->n + 1) * sizeof *d->m);
    while (at < t->n && t->turns[at].role != FM_SYSTEM) at++;
    bool insert = t->tools && at == t->n;
    if (insert) d->m[d->n++] = (struct fm_turn){.role = FM_SYSTEM, .tools = t->tools};
    for (size_t i = 0; i < t->n; i++) d->m[d->n++] = t->turns[i];
    if (t->tools && !insert && !d->m[at].tools) d->m[at].tools = t->tools;
    return FM_OK;
}

/* Without the developers' messages before the last user's. */
static void drop_old(struct dsml *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        if (d->m[i].role != FM_DEVELOPER || i >= d->last_user) d->m[n++] = d->m[i];
    d->n = n;
    find_last_user(d);
}

/* ---- pieces of both ---- */

static void put_tools(struct dsml *d, const struct fm_turn *m, enum fm_paragraph_id id)
{
    if (m->tools) {
        fm_put_str(d->out, "\n\n");
        fm_put_paragraph(d->out, id);
        for (const struct fm_py *v = m->tools->first; v; v = v->next) {
            if (v != m->tools->first) fm_put_str(d->out, "\n");
            fm_put_json(d->out, fm_py_get(v, "function"), 0);
        }
        fm_put_paragraph_end(d->out, id);
    }
    if (m->format) {
        fm_put_str(d->out, "\n\n");
        fm_put_paragraph(d->out, FM_PARAGRAPH_FORMAT);
        fm_put_json(d->out, m->format, 0);
    }
}

static void put_call(struct fm_prompt *p, const struct fm_call *c)
{
    fm_prompt_template(p, "<" FM_DSML "invoke name=\"");
    fm_put(p, c->name);
    fm_put_str(p, "\">\n");
    for (const struct fm_py *v = c->arguments->first; v; v = v->next) {
        bool string = v->kind == FM_PY_STRING;
        if (v != c->arguments->first) fm_put_str(p, "\n");
        fm_prompt_template(p, "<" FM_DSML "parameter name=\"");
        fm_put(p, v->key);
        fm_put_str(p, string ? "\" string=\"true\">" : "\" string=\"false\">");
        if (string)
            fm_put(p, v->text);
        else
            fm_put_json(p, v, 0);
        fm_prompt_template(p, "</" FM_DSML "parameter>");
    }
    fm_prompt_template(p, "\n</" FM_DSML "invoke>");
}

static void put_calls(struct fm_prompt *p, const struct fm_turn *m, const char *block)
{
    if (!m->n_calls) return;
    fm_prompt_template(p, "\n\n<" FM_DSML);
    fm_put_str(p, block);
    for (size_t k = 0; k < m->n_calls; k++) {
        fm_put_str(p, k ? "\n" : ">\n");
        put_call(p, &m->calls[k]);
    }
    fm_prompt_template(p, "\n</" FM_DSML);
    fm_put_str(p, block);
    fm_put_str(p, ">");
}

static enum fm_status need_text(const struct dsml *d, size_t i)
{
    if (d->m[i].text.n) return FM_OK;
    return fm_fail(d->err, FM_ERR_USAGE, "chat format %s: the developer's message %zu is empty", d->f->name, i + 1);
}

/* ---- V3.2 ---- */

/* A result: results follow their calls, in the order of the calls. */
static enum fm_status put_result32(struct dsml *d, size_t i)
{
    size_t from = i;
    while (from > 0 && d->m[from].role == FM_TOOL) from--;
    size_t place = i - from, calls = d->m[from].role == FM_ASSISTANT ? d->m[from].n_calls : 0;
    if (!place || place > calls)
        return fm_fail(d->err, FM_ERR_USAGE, "chat format %s: message %zu: a result without a call", d->f->name, i + 1);
    if (place == 1) fm_put_str(d->out, "\n\n<function_results>");
    fm_put_str(d->out, "\n<result>");
    fm_put(d->out, d->m[i].text);
    fm_put_str(d->out, "</result>");
    if (place != calls) return FM_OK;
    fm_put_str(d->out, "\n</function_results>\n\n");
    fm_prompt_template(d->out, d->t->thinking && behind_user(d, i) ? FM_THINK : FM_THINK_END);
    return FM_OK;
}

static enum fm_status put_turn32(struct dsml *d, size_t i)
{
    const struct fm_turn *m = &d->m[i];
    if (m->role == FM_TOOL) return put_result32(d, i);
    if (m->role == FM_SYSTEM) {
        fm_put(d->out, m->text);
        put_tools(d, m, FM_PARAGRAPH_V32_TOOLS);
        return FM_OK;
    }
    if (m->role == FM_ASSISTANT) {
        if (d->t->thinking && behind_user(d, i)) {
            fm_put(d->out, m->reasoning);
            fm_prompt_template(d->out, FM_THINK_END);
        }
        fm_put(d->out, m->text);
        put_calls(d->out, m, "function_calls");
        fm_prompt_template(d->out, FM_DS_EOS);
        return FM_OK;
    }
    fm_prompt_template(d->out, FM_DS_USER);
    if (m->role == FM_DEVELOPER) {
        FM_TRY(need_text(d, i));
        put_tools(d, m, FM_PARAGRAPH_V32_TOOLS);
        fm_put_str(d->out, "\n\n# The user's message is: ");
    }
    fm_put(d->out, m->text);
    fm_prompt_template(d->out, FM_DS_ASSISTANT);
    fm_prompt_template(d->out, d->t->thinking && i == d->last_user ? FM_THINK : FM_THINK_END);
    return FM_OK;
}

enum fm_status fm_encode_v32(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                             struct fm_error *err)
{
    struct dsml d = {.f = f, .t = t, .out = out, .err = err};
    enum fm_status st;
    FM_GOTO(copy_turns(&d));
    find_last_user(&d);
    if (t->thinking && t->drop_thinking && d.last_user != SIZE_MAX) drop_old(&d);
    fm_prompt_template(out, f->bos);
    for (size_t i = 0; i < d.n; i++) FM_GOTO(put_turn32(&d, i));
out:
    release(&d);
    return st;
}

/* ---- V4: results become pieces of a user's turn ---- */

/* Texts of the user and results that stand together are one turn. */
static enum fm_status merge_results(struct dsml *d)
{
    size_t n = 0, room = d->n;
    for (size_t i = 0; i < d->n; i++) room += d->m[i].n_pieces;
    d->pieces = fm_calloc(room, sizeof *d->pieces);
    if (!d->pieces) return fm_fail_memory(d->err, "messages", room * sizeof *d->pieces);
    for (size_t i = 0; i < d->n; i++) {
        struct fm_turn m = d->m[i];
        struct fm_turn *last = n ? &d->m[n - 1] : NULL;
        bool user = m.role == FM_USER, result = m.role == FM_TOOL;
        if (!user && !result) {
            d->m[n++] = m;
            continue;
        }
        struct fm_piece *piece = &d->pieces[d->n_pieces];
        size_t count = user && m.n_pieces ? m.n_pieces : 1;
        if (user && m.n_pieces)
            memcpy(piece, m.pieces, count * sizeof *piece);
        else
            *piece = (struct fm_piece){.text = m.text, .id = m.call_id, .result = result};
        d->n_pieces += count;
        if (last && last->role == FM_USER && (result || !last->task.s)) {
            last->n_pieces += count; /* its pieces end where these begin */
            continue;
        }
        d->m[n++] = (struct fm_turn){.role = FM_USER, .pieces = piece, .n_pieces = count, .task = m.task};
    }
    d->n = n;
    return FM_OK;
}

static size_t call_place(const struct fm_turn *calls, struct fm_span id)
{
    for (size_t k = calls->n_calls; k-- > 0;) {
        struct fm_span s = calls->calls[k].id;
        if (s.n && s.n == id.n && !memcmp(s.s, id.s, id.n)) return k;
    }
    return 0;
}

/* Results in the order of the calls, texts where they are: an insertion sort, because it is stable. */
static void sort_results(struct dsml *d)
{
    const struct fm_turn *calls = NULL;
    for (size_t i = 0; i < d->n; i++) {
        struct fm_turn *m = &d->m[i];
        if (m->role == FM_ASSISTANT && m->n_calls) calls = m;
        if (m->role != FM_USER || !calls || m->n_pieces > 4096) continue;
        for (size_t a = 1; a < m->n_pieces; a++) {
            if (!m->pieces[a].result) continue;
            for (size_t b = a, c; b-- > 0;) {
                if (!m->pieces[b].result) continue;
                for (c = b + 1; !m->pieces[c].result; c++) {
                }
                if (call_place(calls, m->pieces[b].id) <= call_place(calls, m->pieces[c].id)) break;
                struct fm_piece p = m->pieces[b];
                m->pieces[b] = m->pieces[c];
                m->pieces[c] = p;
            }
        }
    }
}

static enum fm_status put_effort(struct dsml *d)
{
    struct fm_span e = d->t->effort;
    bool high = e.s && fm_span_is(e, "high"), max = e.s && fm_span_is(e, "max"),
         newer = d->f->rules & FM_CHAT_EFFORT_HIGH;
    if (e.s && !high && !max)
        return fm_fail(d->err, FM_ERR_USAGE, "chat format %s: reasoning_effort is neither high nor max", d->f->name);
    if (!d->t->thinking) return FM_OK;
    if (newer ? high : max) fm_put_paragraph(d->out, FM_PARAGRAPH_EFFORT);
    if (newer && max) fm_put_paragraph(d->out, FM_PARAGRAPH_EFFORT_MORE);
    return FM_OK;
}

static void put_pieces(struct dsml *d, const struct fm_turn *m)
{
    for (size_t k = 0; k < m->n_pieces; k++) {
        if (k) fm_put_str(d->out, "\n\n");
        if (m->pieces[k].result) fm_put_str(d->out, "<tool_result>");
        fm_put(d->out, m->pieces[k].text);
        if (m->pieces[k].result) fm_put_str(d->out, "</tool_result>");
    }
}

/* What asks for the next answer, or for a task's. */
static enum fm_status put_transition(struct dsml *d, size_t i)
{
    static const struct {
        const char *name, *token;
    } tasks[] = {{"action", FM_CONTROL("<｜action｜>")},       {"query", FM_CONTROL("<｜query｜>")},
                 {"authority", FM_CONTROL("<｜authority｜>")}, {"domain", FM_CONTROL("<｜domain｜>")},
                 {"title", FM_CONTROL("<｜title｜>")},         {"read_url", FM_CONTROL("<｜read_url｜>")}};
    enum { N = sizeof tasks / sizeof *tasks };
    const struct fm_turn *m = &d->m[i];
    bool think = d->t->thinking;
    int k = 0;
    if (i + 1 < d->n && d->m[i + 1].role != FM_ASSISTANT && d->m[i + 1].role != FM_REMINDER) return FM_OK;
    if (!m->task.s) {
        if (m->role != FM_USER && m->role != FM_DEVELOPER) return FM_OK;
        fm_prompt_template(d->out, FM_DS_ASSISTANT);
        fm_prompt_template(d->out, think && (!d->drop || i >= d->last_user) ? FM_THINK : FM_THINK_END);
        return FM_OK;
    }
    while (k < N && !fm_span_is(m->task, tasks[k].name)) k++;
    if (k == N)
        return fm_fail(d->err, FM_ERR_USAGE,
                       "chat format %s: task is none of action, query, authority, domain, title, read_url", d->f->name);
    if (!k) fm_prompt_template(d->out, FM_DS_ASSISTANT);
    if (!k) fm_prompt_template(d->out, think ? FM_THINK : FM_THINK_END);
    fm_prompt_template(d->out, tasks[k].token);
    return FM_OK;
}

static void put_answer4(struct dsml *d, size_t i)
{
    const struct fm_turn *m = &d->m[i];
    bool of_task = i && d->m[i - 1].task.s;
    if (d->t->thinking && !of_task && (!d->drop || behind_user(d, i))) {
        fm_put(d->out, m->reasoning);
        fm_prompt_template(d->out, FM_THINK_END);
    }
    fm_put(d->out, m->text);
    put_calls(d->out, m, "tool_calls");
    if (!m->wo_eos) fm_prompt_template(d->out, FM_DS_EOS);
}

static enum fm_status put_turn4(struct dsml *d, size_t i)
{
    const struct fm_turn *m = &d->m[i];
    if (m->role == FM_ASSISTANT) {
        put_answer4(d, i);
    } else if (m->role == FM_USER) {
        fm_prompt_template(d->out, FM_DS_USER);
        put_pieces(d, m);
    } else {
        if (m->role == FM_DEVELOPER) FM_TRY(need_text(d, i));
        if (m->role == FM_DEVELOPER) fm_prompt_template(d->out, FM_DS_USER);
        if (m->role == FM_REMINDER) fm_prompt_template(d->out, FM_CONTROL("<｜latest_reminder｜>"));
        fm_put(d->out, m->text);
        if (m->role != FM_REMINDER) put_tools(d, m, FM_PARAGRAPH_V4_TOOLS);
    }
    return put_transition(d, i);
}

enum fm_status fm_encode_v4(const struct fm_chat_format *f, const struct fm_talk *t, struct fm_prompt *out,
                            struct fm_error *err)
{
    struct dsml d = {.f = f, .t = t, .drop = t->drop_thinking, .out = out, .err = err};
    enum fm_status st;
    FM_GOTO(copy_turns(&d));
    FM_GOTO(merge_results(&d));
    sort_results(&d);
    for (size_t i = 0; i < d.n; i++)
        if (d.m[i].tools) d.drop = false;
    find_last_user(&d);
    if (t->thinking && d.drop && d.last_user != SIZE_MAX) drop_old(&d);
    fm_prompt_template(out, f->bos);
    FM_GOTO(put_effort(&d));
    for (size_t i = 0; i < d.n; i++) FM_GOTO(put_turn4(&d, i));
out:
    release(&d);
    return st;
}
