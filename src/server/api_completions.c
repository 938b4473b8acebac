/* POST completions: a text goes on (api-and-ux.md §1.6).
 *
 *   prompts ─► n choices of each ─► choices[prompt · n + k]
 *
 * echo with logprobs also gives the probabilities of the prompt's own tokens: what evaluation harnesses read. */
#include <string.h>

#include "server/openai.h"

/* ---- probabilities: four lists of one length ---- */

/* A token as a JSON string; bytes that are no text as the text bytes:\xe2\x80, so that two of them stay apart. */
static void put_token(struct fm_buf *b, const struct fm_buf *text)
{
    if (!text->len || fm_utf8_valid(text->data, text->len)) {
        fm_put_buf(b, text);
        return;
    }
    fm_buf_str(b, "\"bytes:");
    for (size_t i = 0; i < text->len; i++) fm_buf_printf(b, "\\\\x%02x", (unsigned char)text->data[i]);
    fm_buf_char(b, '"');
}

static void put_logprob(struct fm_buf *b, double l)
{
    l == l ? fm_buf_printf(b, "%.9g", l) : fm_buf_str(b, "null"); /* the first token of all */
}

static bool same_text(const struct fm_buf *x, const struct fm_buf *y)
{
    return x->len == y->len && (!x->len || !memcmp(x->data, y->data, x->len));
}

/* {token: logprob, …}, likeliest first; the token that was said is always among them.  Of several with the same text the
 * likeliest counts. */
static void put_top(struct fm_reply *p, const struct fm_token_event *ev)
{
    struct fm_buf *b = &p->out, texts[FM_TOP_MAX + 1] = {0};
    int n = 0;
    bool said = false;
    fm_buf_char(b, '{');
    for (int k = 0; k < ev->n_top || !said; k++) {
        const struct fm_token_prob *t = k < ev->n_top ? &ev->top[k] : &ev->token;
        bool known = false;
        said |= t->id == ev->token.id;
        fm_openai_token_text(p, t->id, &texts[n]);
        for (int i = 0; i < n; i++) known |= same_text(&texts[i], &texts[n]);
        if (known) continue;
        if (n) fm_buf_char(b, ',');
        put_token(b, &texts[n++]);
        fm_buf_char(b, ':');
        put_logprob(b, (double)t->logprob);
    }
    for (int i = 0; i <= FM_TOP_MAX; i++) fm_buf_release(&texts[i]);
    fm_buf_char(b, '}');
}

static void put_logprobs(struct fm_reply *p)
{
    struct fm_buf *b = &p->out, text = {0};
    const struct fm_said_token *t = p->tokens;
    const int from = p->n_sent;
    if (p->ask.top < 0) {
        fm_buf_str(b, "\"logprobs\":null");
        return;
    }
    fm_buf_str(b, "\"logprobs\":{\"tokens\":[");
    for (int i = from; i < p->n_tokens; i++) {
        fm_openai_token_text(p, t[i].ev.token.id, &text);
        if (i > from) fm_buf_char(b, ',');
        put_token(b, &text);
    }
    fm_buf_str(b, "],\"token_logprobs\":[");
    for (int i = from; i < p->n_tokens; i++) {
        if (i > from) fm_buf_char(b, ',');
        put_logprob(b, (double)t[i].ev.token.logprob);
    }
    fm_buf_str(b, "],\"text_offset\":[");
    for (int i = from; i < p->n_tokens; i++) fm_buf_printf(b, "%s%zu", i > from ? "," : "", t[i].text_offset);
    fm_buf_str(b, "],\"top_logprobs\":[");
    for (int i = from; i < p->n_tokens; i++) {
        const float l = t[i].ev.token.logprob;
        if (i > from) fm_buf_char(b, ',');
        l == l ? put_top(p, &t[i].ev) : fm_buf_str(b, "null");
    }
    fm_buf_str(b, "]}");
    p->n_sent = p->n_tokens;
    fm_buf_release(&text);
}

/* ---- the answer ---- */

static void put_choice(struct fm_reply *p, const char *text, size_t n, const char *finish)
{
    fm_buf_str(&p->out, "{\"text\":");
    fm_put_text(&p->out, text, n);
    fm_buf_printf(&p->out, ",\"index\":%d,", p->index);
    put_logprobs(p);
    fm_buf_str(&p->out, ",\"finish_reason\":");
    finish ? fm_put_str(&p->out, finish) : fm_buf_str(&p->out, "null");
    fm_buf_char(&p->out, '}');
}

static void chunk(struct fm_reply *p, const char *text, size_t n, const char *finish)
{
    fm_buf_str(&p->out, "data: ");
    fm_openai_head(p, "text_completion");
    fm_buf_str(&p->out, ",\"choices\":[");
    put_choice(p, text, n, finish);
    fm_buf_char(&p->out, ']');
    fm_openai_chunk_usage(p, finish);
    fm_buf_str(&p->out, "}\n\n");
}

static void begin(struct fm_reply *p) { (void)p; }

static void piece(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    (void)reasoning;
    chunk(p, text, n, NULL);
}

static void end(struct fm_reply *p)
{
    chunk(p, "", 0, fm_reply_finish(p));
    if (p->last) fm_buf_str(&p->out, "data: [DONE]\n\n");
}

static void whole_choice(struct fm_reply *p)
{
    put_choice(p, p->content.len ? p->content.data : "", p->content.len, fm_reply_finish(p));
}

static void whole(struct fm_reply *p)
{
    fm_openai_head(p, "text_completion");
    fm_openai_choices(p, whole_choice);
    fm_openai_usage(p);
    fm_buf_char(&p->out, '}');
}

static const struct fm_dialect text = {.type = "text/event-stream; charset=utf-8",
                                       .ping = ": keep-alive\n\n",
                                       .begin = begin,
                                       .piece = piece,
                                       .end = end,
                                       .whole = whole,
                                       .fault = fm_openai_fault,
                                       .fault_in_stream = fm_openai_fault_in_stream};

/* ---- the request ---- */

static bool read_prompts(struct fm_ask *a, const struct fm_server *s)
{
    const struct fm_py *prompt = fm_py_get(a->body, "prompt"), *suffix = fm_py_get(a->body, "suffix");
    if (!suffix || suffix->kind == FM_PY_NULL || (suffix->kind == FM_PY_STRING && !suffix->text.n))
        return fm_ask_prompts(a, s, prompt, "prompt", FM_CHOICES_MAX);
    if (suffix->kind != FM_PY_STRING) return fm_fault_set(&a->fault, 400, "suffix", "suffix is not a string");
    if (!prompt || prompt->kind != FM_PY_STRING)
        return fm_fault_set(&a->fault, 400, "prompt", "prompt is not a string: beside suffix it must be one");
    if (a->echo) return fm_fault_set(&a->fault, 400, "echo", "echo: not beside suffix");
    return fm_ask_hole(a, s, prompt->text, suffix->text);
}

static bool read_ask(struct fm_ask *a, const struct fm_server *s)
{
    if (!fm_ask_common(a, s)) return false;
    a->max_tokens = 16; /* OpenAI's default */
    return fm_ask_int(a, "max_tokens", 0, 1 << 30, &a->max_tokens) &&
           fm_ask_int(a, "logprobs", 0, FM_TOP_MAX, &a->top) && fm_ask_bool(a, "echo", &a->echo) &&
           fm_bind_grammar(a) && fm_bind_format(a, fm_py_get(a->body, "response_format"), "response_format") &&
           read_prompts(a, s) && fm_ask_choices(a, true) && fm_bind_make(a, s, NULL, 0);
}

void fm_api_completions(struct fm_server *s, struct fm_web_request *r)
{
    fm_openai_serve(s, r, &text, "cmpl-", read_ask);
}
