/* POST chat/completions: OpenAI's shape as DeepSeek's platform uses it (api-and-ux.md §1.2, §1.3, §1.6).
 *
 *   data: {… "delta":{"role":"assistant","content":""}}      one chunk per piece of text
 *   data: {… "delta":{"content":"Hello"}}
 *   data: {… "delta":{"content":""},"finish_reason":"stop","usage":{…}}
 *   data: [DONE]
 */
#include <stdio.h>
#include <string.h>

#include "server/cost.h"
#include "server/openai.h"

/* ---- faults ---- */

void fm_openai_put_fault(struct fm_buf *b, const struct fm_fault *f)
{
    fm_buf_str(b, "\"error\":{\"message\":");
    fm_put_str(b, f->message);
    fm_buf_str(b, ",\"type\":");
    fm_put_str(b, f->status >= 500   ? "server_error"
                  : f->status == 429 ? "rate_limit_error"
                  : f->status == 401 ? "authentication_error"
                                     : "invalid_request_error");
    fm_buf_str(b, ",\"param\":");
    *f->param ? fm_put_str(b, f->param) : fm_buf_str(b, "null");
    fm_buf_str(b, ",\"code\":");
    fm_put_str(b, f->code);
    fm_buf_char(b, '}');
}

void fm_openai_fault(struct fm_web_request *r, const struct fm_fault *f)
{
    struct fm_buf b = {0};
    fm_buf_char(&b, '{');
    fm_openai_put_fault(&b, f);
    fm_buf_char(&b, '}');
    fm_reply_json(r, f->status, &b);
}

void fm_openai_fault_in_stream(struct fm_reply *p, const struct fm_fault *f)
{
    const bool sse = p->ask.stream;
    fm_buf_str(&p->out, sse ? "data: {" : "{");
    fm_openai_put_fault(&p->out, f);
    fm_buf_str(&p->out, sse ? "}\n\ndata: [DONE]\n\n" : "}");
}

void fm_openai_serve(struct fm_server *s, struct fm_web_request *r, const struct fm_dialect *d, const char *prefix,
                     bool (*read)(struct fm_ask *a, const struct fm_server *s))
{
    struct fm_ask a = {0};
    if (fm_ask_parse(&a, r) && read(&a, s)) {
        fm_reply_start(s, r, d, &a, prefix);
        return;
    }
    fm_openai_fault(r, &a.fault);
    fm_ask_release(&a);
}

/* ---- shared members ---- */

void fm_openai_head(struct fm_reply *p, const char *object)
{
    struct fm_buf *b = &p->out;
    fm_buf_str(b, "{\"id\":");
    fm_put_str(b, p->id);
    fm_buf_printf(b, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object, p->created);
    fm_put_str(b, p->s->name);
    fm_buf_printf(b, ",\"system_fingerprint\":\"%s\"", p->s->fingerprint);
}

void fm_openai_usage(struct fm_reply *p)
{
    const struct fm_answer_tokens t = fm_answer_tokens(p->answer);
    fm_buf_printf(&p->out,
                  "\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d,"
                  "\"prompt_cache_hit_tokens\":%d,\"prompt_cache_miss_tokens\":%d,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%d}",
                  t.prompt, t.answer, t.prompt + t.answer, t.cached, t.prompt - t.cached, t.cached);
    if (p->ask.thinking || t.reasoning)
        fm_buf_printf(&p->out, ",\"completion_tokens_details\":{\"reasoning_tokens\":%d}", t.reasoning);
    fm_put_cost(p->s, &p->out, &t);
    fm_buf_char(&p->out, '}');
}

void fm_openai_chunk_usage(struct fm_reply *p, bool finish)
{
    if (finish && p->last) {
        fm_buf_char(&p->out, ',');
        fm_openai_usage(p);
    } else if (p->ask.include_usage) {
        fm_buf_str(&p->out, ",\"usage\":null");
    }
}

void fm_openai_choices(struct fm_reply *p, void (*put)(struct fm_reply *choice))
{
    fm_buf_str(&p->out, ",\"choices\":[");
    for (int i = 0; i < p->answer->n_shown; i++) {
        struct fm_reply *c = p->answer->shown[i];
        if (i) fm_buf_char(&p->out, ',');
        put(c);
        if (c == p) continue;
        fm_buf_add(&p->out, c->out.data, c->out.len);
        p->failed |= c->failed || c->out.failed;
    }
    fm_buf_str(&p->out, "],");
}

void fm_openai_token_text(struct fm_reply *p, int32_t id, struct fm_buf *text)
{
    char *s = NULL;
    size_t n = 0;
    fm_buf_clear(text);
    if (fm_text_decode(p->s->tok, &id, 1, &s, &n, NULL)) return;
    fm_buf_add(text, s, n);
    fm_text_free(s);
}

/* The bytes of a token as a JSON string; half a character is U+FFFD. */
static void put_token_text(struct fm_buf *b, const struct fm_buf *text)
{
    if (text->len && !fm_utf8_valid(text->data, text->len))
        fm_buf_str(b, "\"\xEF\xBF\xBD\"");
    else
        fm_put_buf(b, text);
}

/* "token":…,"logprob":…,"bytes":[…] */
static void chat_token(struct fm_reply *p, const struct fm_token_prob *t)
{
    struct fm_buf text = {0}, *b = &p->out;
    fm_openai_token_text(p, t->id, &text);
    fm_buf_str(b, "\"token\":");
    put_token_text(b, &text);
    fm_buf_printf(b, ",\"logprob\":%.6g,\"bytes\":[", (double)t->logprob);
    for (size_t i = 0; i < text.len; i++) fm_buf_printf(b, "%s%d", i ? "," : "", (unsigned char)text.data[i]);
    fm_buf_char(b, ']');
    fm_buf_release(&text);
}

static void chat_logprobs(struct fm_reply *p)
{
    struct fm_buf *b = &p->out;
    if (p->ask.top < 0) {
        fm_buf_str(b, "\"logprobs\":null");
        return;
    }
    fm_buf_str(b, "\"logprobs\":{\"content\":[");
    for (int i = p->n_sent; i < p->n_tokens; i++) {
        const struct fm_token_event *ev = &p->tokens[i].ev;
        fm_buf_str(b, i > p->n_sent ? ",{" : "{");
        chat_token(p, &ev->token);
        fm_buf_str(b, ",\"top_logprobs\":[");
        for (int k = 0; k < ev->n_top; k++) {
            fm_buf_str(b, k ? ",{" : "{");
            chat_token(p, &ev->top[k]);
            fm_buf_char(b, '}');
        }
        fm_buf_str(b, "]}");
    }
    p->n_sent = p->n_tokens;
    fm_buf_str(b, "],\"refusal\":null}");
}

/* ---- chat: streamed ---- */

static void chunk_begin(struct fm_reply *p)
{
    fm_buf_str(&p->out, "data: ");
    fm_openai_head(p, "chat.completion.chunk");
    fm_buf_printf(&p->out, ",\"choices\":[{\"index\":%d,\"delta\":{", p->index);
}

static void chunk_end(struct fm_reply *p, const char *finish)
{
    fm_buf_str(&p->out, "},");
    chat_logprobs(p);
    fm_buf_str(&p->out, ",\"finish_reason\":");
    finish ? fm_put_str(&p->out, finish) : fm_buf_str(&p->out, "null");
    fm_buf_str(&p->out, "}]");
    fm_openai_chunk_usage(p, finish);
    fm_buf_str(&p->out, "}\n\n");
}

static void chat_begin(struct fm_reply *p)
{
    chunk_begin(p);
    fm_buf_str(&p->out, p->ask.thinking ? "\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"\""
                                        : "\"role\":\"assistant\",\"content\":\"\"");
    chunk_end(p, NULL);
}

/* With thinking both keys are always there, the unused one null, as the platform does it. */
static void chat_text(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    if (p->ask.thinking)
        fm_buf_str(&p->out, reasoning ? "\"content\":null,\"reasoning_content\":" : "\"content\":");
    else
        fm_buf_str(&p->out, reasoning ? "\"reasoning_content\":" : "\"content\":");
    fm_put_text(&p->out, text, n);
    if (p->ask.thinking && !reasoning) fm_buf_str(&p->out, ",\"reasoning_content\":null");
}

static void chat_piece(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    chunk_begin(p);
    chat_text(p, reasoning, text, n);
    chunk_end(p, NULL);
}

static void call_head(struct fm_reply *p, struct fm_span name, int i)
{
    char id[80];
    fm_reply_call_id(p, i, id, sizeof id);
    fm_buf_printf(&p->out, "{\"index\":%d,\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", i, id);
    fm_put_text(&p->out, name.s, name.n);
    fm_buf_str(&p->out, ",\"arguments\":");
}

static void chat_call(struct fm_reply *p, int i, const char *name, size_t n_name, const char *args, size_t n)
{
    chunk_begin(p);
    fm_buf_str(&p->out, "\"tool_calls\":[");
    if (name)
        call_head(p, (struct fm_span){name, n_name}, i);
    else
        fm_buf_printf(&p->out, "{\"index\":%d,\"function\":{\"arguments\":", i);
    fm_put_text(&p->out, name ? "" : args, name ? 0 : n);
    fm_buf_str(&p->out, "}}]");
    chunk_end(p, NULL);
}

static void chat_end(struct fm_reply *p)
{
    chunk_begin(p);
    chat_text(p, false, "", 0);
    chunk_end(p, fm_reply_finish(p));
    if (p->last) fm_buf_str(&p->out, "data: [DONE]\n\n");
}

/* ---- chat: whole ---- */

static void chat_choice(struct fm_reply *p)
{
    struct fm_buf *b = &p->out;
    int i = 0;
    fm_buf_printf(b, "{\"index\":%d,\"message\":{\"role\":\"assistant\",\"refusal\":null,\"content\":", p->index);
    fm_put_buf(b, &p->content);
    if (p->ask.thinking || p->reasoning.len) {
        fm_buf_str(b, ",\"reasoning_content\":");
        fm_put_buf(b, &p->reasoning);
    }
    if (p->calls) fm_buf_str(b, ",\"tool_calls\":[");
    for (const struct fm_py *c = p->calls ? p->calls->first : NULL; c; c = c->next, i++) {
        const struct fm_span args = fm_reply_call_part(c, "arguments");
        if (i) fm_buf_char(b, ',');
        call_head(p, fm_reply_call_part(c, "name"), i);
        fm_put_text(b, args.s, args.n);
        fm_buf_str(b, "}}");
    }
    fm_buf_str(b, p->calls ? "]}," : "},");
    chat_logprobs(p);
    fm_buf_printf(b, ",\"finish_reason\":\"%s\"}", fm_reply_finish(p));
}

static void chat_whole(struct fm_reply *p)
{
    fm_openai_head(p, "chat.completion");
    fm_openai_choices(p, chat_choice);
    fm_openai_usage(p);
    fm_buf_char(&p->out, '}');
}

static const struct fm_dialect chat = {.type = "text/event-stream; charset=utf-8",
                                       .ping = ": keep-alive\n\n",
                                       .begin = chat_begin,
                                       .piece = chat_piece,
                                       .call = chat_call,
                                       .end = chat_end,
                                       .whole = chat_whole,
                                       .fault = fm_openai_fault,
                                       .fault_in_stream = fm_openai_fault_in_stream,
                                       .chat = true};

/* ---- chat: the request ---- */

/* thinking: {"type": "enabled" | "disabled"}; reasoning_effort none switches it off; the platform's retired names did. */
static bool read_thinking(struct fm_ask *a, const struct fm_server *s)
{
    const struct fm_py *v = fm_py_get(a->body, "thinking"), *type = fm_py_get(v, "type");
    const char *effort = NULL;
    a->thinking = s->thinks && (!a->model || strcmp(a->model, "deepseek-chat") != 0);
    if (v && v->kind != FM_PY_NULL) {
        if (!type || type->kind != FM_PY_STRING)
            return fm_fault_set(&a->fault, 400, "thinking", "thinking is not {\"type\": \"enabled\" or \"disabled\"}");
        a->thinking = !fm_span_is(type->text, "disabled");
    }
    if (!fm_ask_text(a, "reasoning_effort", &effort)) return false;
    if (effort && !fm_ask_effort(a, "reasoning_effort", effort)) return false;
    if (a->thinking && !s->thinks) a->thinking = false; /* a model that cannot is not asked to */
    return true;
}

/* What is not there yet is refused, not ignored: an answer in the wrong shape would be worse. */
static bool check_unsupported(struct fm_ask *a)
{
    return fm_bind_format(a, fm_py_get(a->body, "response_format"), "response_format") && fm_bind_grammar(a) &&
           fm_bind_tools(a);
}

/* Everything of a message but what our encoders would not understand. */
static void write_message(struct fm_buf *b, const struct fm_py *m)
{
    const struct fm_py *role = fm_py_get(m, "role");
    if (m->kind != FM_PY_OBJECT) {
        fm_py_write(b, m, 0);
        return;
    }
    fm_buf_char(b, '{');
    for (const struct fm_py *v = m->first; v; v = v->next) {
        if (v != m->first) fm_buf_char(b, ',');
        fm_py_write_string(b, v->key);
        fm_buf_char(b, ':');
        if (v == role && fm_py_is(v, "developer"))
            fm_buf_str(b, "\"system\"");
        else
            fm_py_write(b, v, 0);
    }
    fm_buf_char(b, '}');
}

/* The last message, where it is the beginning of the answer: an assistant's with prefix: true.  NULL: none. */
static bool find_prefix(struct fm_ask *a, const struct fm_py *messages, const struct fm_py **prefix)
{
    *prefix = NULL;
    for (const struct fm_py *m = messages->first; m; m = m->next) {
        const struct fm_py *flag = fm_py_get(m, "prefix"), *content = fm_py_get(m, "content");
        if (!flag || flag->kind != FM_PY_TRUE) continue;
        if (m->next || !fm_py_is(fm_py_get(m, "role"), "assistant") || m == messages->first)
            return fm_fault_set(&a->fault, 400, "messages",
                                "prefix: only the last message, an assistant's, can have it");
        if (!content || content->kind != FM_PY_STRING)
            return fm_fault_set(&a->fault, 400, "messages", "prefix: the content of that message is not a string");
        *prefix = m;
        a->thinking = false; /* what is to be continued is behind any thought */
    }
    return true;
}

/* The body in the shape of chat-encode. */
static bool encode(struct fm_ask *a, const struct fm_server *s)
{
    struct fm_buf b = {0};
    const struct fm_py *messages = fm_py_get(a->body, "messages"), *tools = fm_py_get(a->body, "tools"), *prefix;
    if (!messages || messages->kind != FM_PY_ARRAY || !messages->n)
        return fm_fault_set(&a->fault, 400, "messages", "messages is missing, empty, or no list");
    if (!find_prefix(a, messages, &prefix)) return false;
    fm_buf_str(&b, "{\"messages\":[");
    for (const struct fm_py *m = messages->first; m != prefix; m = m->next) {
        if (m != messages->first) fm_buf_char(&b, ',');
        write_message(&b, m);
    }
    fm_buf_printf(&b, "],\"thinking\":%s", a->thinking ? "true" : "false");
    fm_ask_put_effort(a, &b);
    if (tools && tools->kind == FM_PY_ARRAY && tools->n && !fm_py_is(fm_py_get(a->body, "tool_choice"), "none")) {
        fm_buf_str(&b, ",\"tools\":");
        fm_py_write(&b, tools, 0);
    }
    fm_buf_char(&b, '}');
    const bool ok = b.failed ? fm_fault_set(&a->fault, 503, NULL, "memory is short") : fm_ask_chat(a, s, b.data, b.len);
    fm_buf_release(&b);
    return ok && (!prefix || fm_ask_add_text(a, s, fm_py_get(prefix, "content")->text, 0));
}

static bool read_logprobs(struct fm_ask *a)
{
    bool wanted = false;
    int top = 0;
    if (!fm_ask_bool(a, "logprobs", &wanted) || !fm_ask_int(a, "top_logprobs", 0, FM_TOP_MAX, &top)) return false;
    if (top && !wanted) return fm_fault_set(&a->fault, 400, "top_logprobs", "top_logprobs needs logprobs: true");
    a->top = wanted ? top : -1;
    return true;
}

static bool read_ask(struct fm_ask *a, const struct fm_server *s)
{
    return fm_ask_common(a, s) && fm_ask_int(a, "max_tokens", 1, 1 << 30, &a->max_tokens) &&
           fm_ask_int(a, "max_completion_tokens", 1, 1 << 30, &a->max_tokens) && check_unsupported(a) &&
           fm_ask_choices(a, false) && read_logprobs(a) && read_thinking(a, s) && encode(a, s);
}

void fm_api_chat(struct fm_server *s, struct fm_web_request *r) { fm_openai_serve(s, r, &chat, "chatcmpl-", read_ask); }
