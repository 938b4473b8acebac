/* POST responses: OpenAI's newer shape, without anything kept between requests (api-and-ux.md §1.9, §2.2).
 *
 *   response.created · response.in_progress
 *   output_item.added 0 reasoning · content_part.added · reasoning_text.delta … .done · content_part.done · output_item.done
 *   output_item.added 1 message   · content_part.added · output_text.delta … .done    · content_part.done · output_item.done
 *   output_item.added 2 function_call · function_call_arguments.delta .done                               · output_item.done
 *   response.completed | .incomplete | .failed
 *
 * Each event has its sequence_number; the output item's index stands for its place.  No [DONE].  A finished item is kept as
 * text for the last event. */
#include <stdio.h>
#include <string.h>

#include "server/cost.h"
#include "server/openai.h"

enum { NO_ITEM, REASONING, MESSAGE, CALL }; /* fm_reply.state: the open item's kind */

/* ---- the response object ---- */

static const char *status_of(const struct fm_reply *p)
{
    return p->result.end == FM_END_STOP ? "completed" : p->result.end == FM_END_LENGTH ? "incomplete" : "failed";
}

static void put_usage(struct fm_reply *p, struct fm_buf *b)
{
    const struct fm_request_result *r = &p->result;
    const struct fm_answer_tokens t = fm_answer_tokens(p->answer);
    fm_buf_printf(
        b,
        ",\"usage\":{\"input_tokens\":%d,\"input_tokens_details\":{\"cached_tokens\":%d,\"cache_write_tokens\":0},"
        "\"output_tokens\":%d,\"output_tokens_details\":{\"reasoning_tokens\":%d},\"total_tokens\":%d",
        r->prompt_tokens, r->cached_tokens, r->answer_tokens, p->n_reasoning, r->prompt_tokens + r->answer_tokens);
    fm_put_cost(p->s, b, &t);
    fm_buf_char(b, '}');
}

/* "key":the request's own value, or what stands for none */
static void put_asked(struct fm_reply *p, const char *key, const char *none)
{
    const struct fm_py *v = fm_py_get(p->ask.body, key);
    fm_buf_printf(&p->out, ",\"%s\":", key);
    v && v->kind != FM_PY_NULL ? fm_py_write(&p->out, v, 0) : fm_buf_str(&p->out, none);
}

static void put_error(struct fm_buf *b, const struct fm_fault *f)
{
    fm_buf_printf(b, "{\"code\":\"%s\",\"message\":", f->code);
    fm_put_str(b, f->message);
    fm_buf_char(b, '}');
}

/* status NULL: in progress */
static void put_response(struct fm_reply *p, const char *status, const struct fm_fault *f)
{
    struct fm_buf *b = &p->out;
    const bool incomplete = status && !strcmp(status, "incomplete");
    fm_buf_printf(b, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"error\":", p->id,
                  p->created, status ? status : "in_progress");
    f ? put_error(b, f) : fm_buf_str(b, "null");
    fm_buf_printf(b, ",\"incomplete_details\":%s", incomplete ? "{\"reason\":\"max_output_tokens\"}" : "null");
    put_asked(p, "instructions", "null");
    p->ask.max_tokens < 0 ? fm_buf_str(b, ",\"max_output_tokens\":null")
                          : fm_buf_printf(b, ",\"max_output_tokens\":%d", p->ask.max_tokens);
    fm_buf_str(b, ",\"model\":");
    fm_put_str(b, p->s->name);
    fm_buf_str(b, ",\"output\":[");
    fm_buf_add(b, p->items.data ? p->items.data : "", p->items.len);
    fm_buf_str(b, "],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"reasoning\":{\"effort\":");
    p->ask.thinking && p->ask.effort ? fm_put_str(b, p->ask.effort)
                                     : fm_buf_str(b, p->ask.thinking ? "null" : "\"none\"");
    fm_buf_str(b, ",\"summary\":null},\"store\":false");
    const struct fm_py *format = fm_py_get(fm_py_get(p->ask.body, "text"), "format");
    fm_buf_printf(b, ",\"temperature\":%.6g,\"top_p\":%.6g,\"text\":{\"format\":", (double)p->ask.sampling.temp,
                  (double)p->ask.sampling.top_p);
    format && format->kind == FM_PY_OBJECT ? fm_py_write(b, format, 0) : fm_buf_str(b, "{\"type\":\"text\"}");
    fm_buf_char(b, '}');
    put_asked(p, "tool_choice", "\"auto\"");
    put_asked(p, "tools", "[]");
    fm_buf_str(b, ",\"truncation\":\"disabled\",\"metadata\":{}");
    if (status && !f) put_usage(p, b);
    fm_buf_char(b, '}');
}

/* ---- events ---- */

static void event(struct fm_reply *p, const char *name)
{
    fm_buf_printf(&p->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d", name, name, p->n_events++);
}

static void event_end(struct fm_reply *p) { fm_buf_str(&p->out, "}\n\n"); }

static void response_event(struct fm_reply *p, const char *status, const struct fm_fault *f)
{
    char name[40];
    (void)snprintf(name, sizeof name, "response.%s", status);
    event(p, name);
    fm_buf_str(&p->out, ",\"response\":");
    put_response(p, !strcmp(status, "created") || !strcmp(status, "in_progress") ? NULL : status, f);
    event_end(p);
}

static void begin(struct fm_reply *p)
{
    response_event(p, "created", NULL);
    response_event(p, "in_progress", NULL);
}

/* ---- items: the same whether streamed or not ---- */

static void item_id(const struct fm_reply *p, const char *prefix, char dst[64])
{
    (void)snprintf(dst, 64, "%s_%s_%d", prefix, fm_web_id(p->r), p->n_items);
}

/* A part of an item: its text so far, or none. */
static void put_part(struct fm_buf *b, int kind, const char *text, size_t n)
{
    fm_buf_str(b, kind == REASONING ? "{\"type\":\"reasoning_text\",\"text\":"
                                    : "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    fm_put_text(b, text, n);
    fm_buf_char(b, '}');
}

/* text NULL: just begun */
static void put_item(struct fm_reply *p, struct fm_buf *b, int kind, const char *status, const char *text, size_t n)
{
    char id[64];
    item_id(p, kind == REASONING ? "rs" : "msg", id);
    fm_buf_printf(b, "{\"id\":\"%s\",\"type\":\"%s\",\"status\":\"%s\",%s\"content\":[", id,
                  kind == REASONING ? "reasoning" : "message", status,
                  kind == REASONING ? "\"summary\":[]," : "\"role\":\"assistant\",");
    if (text) put_part(b, kind, text, n);
    fm_buf_str(b, "]}");
}

/* The latest finished item goes to the list and, streamed, out. */
static void item_done(struct fm_reply *p, struct fm_buf *item)
{
    if (p->items.len) fm_buf_char(&p->items, ',');
    fm_buf_add(&p->items, item->data ? item->data : "", item->len);
    p->items.failed |= item->failed;
    p->out.failed |= p->items.failed;
    if (p->ask.stream) {
        event(p, "response.output_item.done");
        fm_buf_printf(&p->out, ",\"output_index\":%d,\"item\":", p->n_items);
        fm_buf_add(&p->out, item->data ? item->data : "", item->len);
        event_end(p);
    }
    fm_buf_release(item);
    p->n_items++;
}

/* An event about the open item's one part. */
static void part_event(struct fm_reply *p, const char *name, int kind)
{
    char id[64];
    item_id(p, kind == REASONING ? "rs" : "msg", id);
    event(p, name);
    fm_buf_printf(&p->out, ",\"item_id\":\"%s\",\"output_index\":%d,\"content_index\":0", id, p->n_items);
}

static void open_item(struct fm_reply *p, int kind, size_t at)
{
    p->state = kind;
    p->item_at = at;
    if (!p->ask.stream) return;
    event(p, "response.output_item.added");
    fm_buf_printf(&p->out, ",\"output_index\":%d,\"item\":", p->n_items);
    put_item(p, &p->out, kind, "in_progress", NULL, 0);
    event_end(p);
    part_event(p, "response.content_part.added", kind);
    fm_buf_str(&p->out, ",\"part\":");
    put_part(&p->out, kind, "", 0);
    event_end(p);
}

static void put_call(struct fm_reply *p, struct fm_buf *b, int i, const char *status, struct fm_span name,
                     struct fm_span args)
{
    char id[64], call_id[80];
    item_id(p, "fc", id);
    fm_reply_call_id(p, i, call_id, sizeof call_id);
    fm_buf_printf(b, "{\"id\":\"%s\",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":\"%s\",\"name\":", id,
                  status, call_id);
    fm_put_text(b, name.s, name.n);
    fm_buf_str(b, ",\"arguments\":");
    fm_put_text(b, args.s, args.n);
    fm_buf_char(b, '}');
}

static void arguments_event(struct fm_reply *p, const char *name)
{
    char id[64];
    item_id(p, "fc", id);
    event(p, name);
    fm_buf_printf(&p->out, ",\"item_id\":\"%s\",\"output_index\":%d", id, p->n_items);
}

/* The streamed call that is open. */
static void close_call(struct fm_reply *p, const char *status)
{
    const struct fm_span name = {p->call_name.data, p->call_name.len}, args = {p->call_args.data, p->call_args.len};
    struct fm_buf item = {0};
    p->out.failed |= p->call_name.failed || p->call_args.failed;
    arguments_event(p, "response.function_call_arguments.done");
    fm_buf_str(&p->out, ",\"name\":");
    fm_put_text(&p->out, name.s, name.n);
    fm_buf_str(&p->out, ",\"arguments\":");
    fm_put_text(&p->out, args.s, args.n);
    event_end(p);
    put_call(p, &item, p->call, status, name, args);
    item_done(p, &item);
    p->state = NO_ITEM;
}

static void close_item(struct fm_reply *p, const char *status)
{
    const int kind = p->state;
    const struct fm_buf *all = kind == REASONING ? &p->reasoning : &p->content;
    struct fm_buf item = {0};
    if (kind == NO_ITEM) return;
    if (kind == CALL) {
        close_call(p, status);
        return;
    }
    const char *text = all->data ? all->data + p->item_at : "";
    const size_t n = all->len - p->item_at;
    if (p->ask.stream) {
        part_event(p, kind == REASONING ? "response.reasoning_text.done" : "response.output_text.done", kind);
        fm_buf_str(&p->out, kind == REASONING ? ",\"text\":" : ",\"logprobs\":[],\"text\":");
        fm_put_text(&p->out, text, n);
        event_end(p);
        part_event(p, "response.content_part.done", kind);
        fm_buf_str(&p->out, ",\"part\":");
        put_part(&p->out, kind, text, n);
        event_end(p);
    }
    put_item(p, &item, kind, status, text, n);
    item_done(p, &item);
    p->state = NO_ITEM;
}

static void piece(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    const int kind = reasoning ? REASONING : MESSAGE;
    if (p->state != kind) {
        close_item(p, "completed");
        open_item(p, kind, (reasoning ? p->reasoning.len : p->content.len) - n);
    }
    part_event(p, reasoning ? "response.reasoning_text.delta" : "response.output_text.delta", kind);
    fm_buf_str(&p->out, reasoning ? ",\"delta\":" : ",\"logprobs\":[],\"delta\":");
    fm_put_text(&p->out, text, n);
    event_end(p);
}

static void call(struct fm_reply *p, int i, const char *name, size_t n_name, const char *args, size_t n)
{
    if (name) {
        close_item(p, "completed");
        p->state = CALL;
        p->call = i;
        fm_buf_clear(&p->call_name);
        fm_buf_clear(&p->call_args);
        fm_buf_add(&p->call_name, name, n_name);
        fm_buf_add(&p->call_args, "", 0);
        event(p, "response.output_item.added");
        fm_buf_printf(&p->out, ",\"output_index\":%d,\"item\":", p->n_items);
        put_call(p, &p->out, i, "in_progress", (struct fm_span){name, n_name}, (struct fm_span){"", 0});
        event_end(p);
        return;
    }
    fm_buf_add(&p->call_args, args, n);
    arguments_event(p, "response.function_call_arguments.delta");
    fm_buf_str(&p->out, ",\"delta\":");
    fm_put_text(&p->out, args, n);
    event_end(p);
}

/* The open item's end, an empty message for an empty answer, and the calls. */
static void finish_items(struct fm_reply *p)
{
    int i = 0;
    if (p->state == NO_ITEM && !p->n_items && !p->calls) open_item(p, MESSAGE, p->content.len);
    close_item(p, p->result.end == FM_END_STOP ? "completed" : "incomplete");
    for (const struct fm_py *c = p->calls && !p->ask.stream ? p->calls->first : NULL; c; c = c->next, i++) {
        struct fm_buf item = {0};
        put_call(p, &item, i, "completed", fm_reply_call_part(c, "name"), fm_reply_call_part(c, "arguments"));
        item_done(p, &item);
    }
}

/* What a "failed" response says; NULL for the others. */
static const struct fm_fault *why_failed(const struct fm_reply *p)
{
    static const struct fm_fault late = {503, "server_error", "the time for one request is over", ""};
    static const struct fm_fault gone = {503, "server_error", "the request was cancelled", ""};
    if (p->result.end == FM_END_STOP || p->result.end == FM_END_LENGTH) return NULL;
    return p->result.end == FM_END_DEADLINE ? &late : &gone;
}

static void end(struct fm_reply *p)
{
    finish_items(p);
    response_event(p, status_of(p), why_failed(p));
}

static void whole(struct fm_reply *p)
{
    if (p->reasoning.len) {
        open_item(p, REASONING, 0);
        close_item(p, p->content.len || p->calls || p->result.end == FM_END_STOP ? "completed" : "incomplete");
    }
    if (p->content.len) open_item(p, MESSAGE, 0);
    finish_items(p);
    put_response(p, status_of(p), why_failed(p));
}

static void fault_in_stream(struct fm_reply *p, const struct fm_fault *f)
{
    if (!p->ask.stream) { /* the status went out long ago: the shape alone can say it */
        fm_buf_char(&p->out, '{');
        fm_openai_put_fault(&p->out, f);
        fm_buf_char(&p->out, '}');
        return;
    }
    close_item(p, "incomplete");
    response_event(p, "failed", f);
}

static const struct fm_dialect responses = {.type = "text/event-stream; charset=utf-8",
                                            .ping = ": keep-alive\n\n",
                                            .begin = begin,
                                            .piece = piece,
                                            .call = call,
                                            .end = end,
                                            .whole = whole,
                                            .fault = fm_openai_fault,
                                            .fault_in_stream = fault_in_stream,
                                            .chat = true};

/* ---- the request: items become chat-encode's messages ---- */

/* An assistant's turn comes in pieces: reasoning, message, calls. */
struct turn {
    struct fm_ask *a;
    struct fm_buf *out;
    struct fm_buf why, text, calls;
    bool open;
};

static void put_key_text(struct fm_buf *b, const char *key, const struct fm_buf *text)
{
    fm_buf_printf(b, "\"%s\":", key);
    fm_put_buf(b, text);
    b->failed |= text->failed;
}

static void message_begin(struct turn *t, const char *role)
{
    fm_buf_printf(t->out, "%s{\"role\":\"%s\",", t->out->data[t->out->len - 1] == '[' ? "" : ",", role);
}

static void turn_end(struct turn *t)
{
    if (!t->open) return;
    message_begin(t, "assistant");
    put_key_text(t->out, "content", &t->text);
    if (t->why.len) {
        fm_buf_char(t->out, ',');
        put_key_text(t->out, "reasoning_content", &t->why);
    }
    if (t->calls.len) {
        fm_buf_str(t->out, ",\"tool_calls\":[");
        fm_buf_add(t->out, t->calls.data, t->calls.len);
        fm_buf_char(t->out, ']');
    }
    t->out->failed |= t->calls.failed;
    fm_buf_char(t->out, '}');
    fm_buf_clear(&t->why);
    fm_buf_clear(&t->text);
    fm_buf_clear(&t->calls);
    t->open = false;
}

/* A string, or parts with text; others cannot be read here. */
static bool gather(struct fm_ask *a, const struct fm_py *v, struct fm_buf *out)
{
    if (!v || v->kind == FM_PY_NULL) return true;
    if (v->kind == FM_PY_STRING) {
        fm_buf_add(out, v->text.s, v->text.n);
        return true;
    }
    if (v->kind != FM_PY_ARRAY)
        return fm_fault_set(&a->fault, 400, "input", "an item's content is neither a string nor a list");
    for (const struct fm_py *p = v->first; p; p = p->next) {
        const struct fm_py *type = fm_py_get(p, "type"), *text = fm_py_get(p, "text");
        if (fm_py_is(type, "refusal")) text = fm_py_get(p, "refusal");
        if (!text || text->kind != FM_PY_STRING)
            return fm_fault_set(&a->fault, 400, "input", "a part of an item's content is no text");
        fm_buf_add(out, text->text.s, text->text.n);
    }
    return true;
}

/* key's text, as one message */
static bool put_message(struct turn *t, const char *role, const struct fm_py *content, const struct fm_py *call_id)
{
    struct fm_buf text = {0};
    turn_end(t);
    const bool ok = gather(t->a, content, &text);
    message_begin(t, role);
    put_key_text(t->out, "content", &text);
    if (call_id && call_id->kind == FM_PY_STRING) {
        fm_buf_str(t->out, ",\"tool_call_id\":");
        fm_put_text(t->out, call_id->text.s, call_id->text.n);
    }
    fm_buf_char(t->out, '}');
    fm_buf_release(&text);
    return ok;
}

static bool read_message(struct turn *t, const struct fm_py *item)
{
    const struct fm_py *role = fm_py_get(item, "role"), *content = fm_py_get(item, "content");
    if (fm_py_is(role, "user") || fm_py_is(role, "developer")) return put_message(t, "user", content, NULL);
    if (fm_py_is(role, "system")) return put_message(t, "system", content, NULL);
    if (!fm_py_is(role, "assistant"))
        return fm_fault_set(&t->a->fault, 400, "input",
                            "a message's role is none of user, assistant, system, developer");
    if (t->calls.len) turn_end(t);
    if (t->text.len) fm_buf_str(&t->text, "\n\n");
    t->open = true;
    return gather(t->a, content, &t->text);
}

static bool read_reasoning(struct turn *t, const struct fm_py *item)
{
    const struct fm_py *content = fm_py_get(item, "content");
    if (t->text.len || t->calls.len) turn_end(t);
    if (!content || content->kind != FM_PY_ARRAY || !content->n) content = fm_py_get(item, "summary");
    t->open = true;
    return gather(t->a, content, &t->why);
}

/* The arguments stay the text that they came as. */
static bool read_call(struct turn *t, const struct fm_py *item)
{
    const struct fm_py *name = fm_py_get(item, "name"), *args = fm_py_get(item, "arguments"),
                       *id = fm_py_get(item, "call_id");
    struct fm_buf *b = &t->calls;
    if (!name || name->kind != FM_PY_STRING || !args || args->kind != FM_PY_STRING)
        return fm_fault_set(&t->a->fault, 400, "input", "a function_call without name or arguments");
    fm_buf_str(b, b->len ? ",{" : "{");
    if (id && id->kind == FM_PY_STRING) {
        fm_buf_str(b, "\"id\":");
        fm_put_text(b, id->text.s, id->text.n);
        fm_buf_char(b, ',');
    }
    fm_buf_str(b, "\"type\":\"function\",\"function\":{\"name\":");
    fm_put_text(b, name->text.s, name->text.n);
    fm_buf_str(b, ",\"arguments\":");
    fm_put_text(b, args->text.s, args->text.n);
    fm_buf_str(b, "}}");
    t->open = true;
    return true;
}

/* Items of kinds that only other servers know are left out. */
static bool read_item(struct turn *t, const struct fm_py *item)
{
    const struct fm_py *type = fm_py_get(item, "type");
    if (item->kind != FM_PY_OBJECT) return fm_fault_set(&t->a->fault, 400, "input", "an item of input is no object");
    if (!type || fm_py_is(type, "message")) return read_message(t, item);
    if (fm_py_is(type, "reasoning")) return read_reasoning(t, item);
    if (fm_py_is(type, "function_call")) return read_call(t, item);
    if (fm_py_is(type, "function_call_output"))
        return put_message(t, "tool", fm_py_get(item, "output"), fm_py_get(item, "call_id"));
    if (fm_py_is(type, "item_reference"))
        return fm_fault_set(&t->a->fault, 400, "input", "an item_reference: this server keeps no items");
    return true;
}

static bool put_input(struct turn *t, const struct fm_py *input)
{
    const struct fm_py *instructions = fm_py_get(t->a->body, "instructions");
    if (instructions && instructions->kind != FM_PY_NULL && !put_message(t, "system", instructions, NULL)) return false;
    if (input && input->kind == FM_PY_STRING) return put_message(t, "user", input, NULL);
    if (!input || input->kind != FM_PY_ARRAY || !input->n)
        return fm_fault_set(&t->a->fault, 400, "input", "input is missing, empty, or neither a string nor a list");
    for (const struct fm_py *item = input->first; item; item = item->next)
        if (!read_item(t, item)) return false;
    turn_end(t);
    return true;
}

/* {"type":"function","name":…,"parameters":…}: Chat Completions has the same one level deeper. */
static void put_tools(struct fm_buf *b, const struct fm_py *tools)
{
    bool any = false;
    for (const struct fm_py *t = tools && tools->kind == FM_PY_ARRAY ? tools->first : NULL; t; t = t->next) {
        if (!fm_py_is(fm_py_get(t, "type"), "function") || !fm_py_get(t, "name")) continue;
        fm_buf_str(b, any ? ",{" : ",\"tools\":[{");
        fm_buf_str(b, "\"type\":\"function\",\"function\":{");
        bool first = true;
        for (const struct fm_py *v = t->first; v; v = v->next) {
            if (fm_span_is(v->key, "type") || v->kind == FM_PY_NULL) continue;
            if (!first) fm_buf_char(b, ',');
            fm_py_write_string(b, v->key);
            fm_buf_char(b, ':');
            fm_py_write(b, v, 0);
            first = false;
        }
        fm_buf_str(b, "}}");
        any = true;
    }
    if (any) fm_buf_char(b, ']');
}

static bool encode(struct fm_ask *a, const struct fm_server *s)
{
    struct fm_buf b = {0};
    struct turn t = {.a = a, .out = &b};
    fm_buf_str(&b, "{\"messages\":[");
    bool ok = b.data && put_input(&t, fm_py_get(a->body, "input"));
    fm_buf_printf(&b, "],\"thinking\":%s", a->thinking ? "true" : "false");
    fm_ask_put_effort(a, &b);
    if (!fm_py_is(fm_py_get(a->body, "tool_choice"), "none")) put_tools(&b, fm_py_get(a->body, "tools"));
    fm_buf_char(&b, '}');
    if (b.failed) ok = fm_fault_set(&a->fault, 503, NULL, "memory is short");
    if (ok) ok = fm_ask_chat(a, s, b.data, b.len);
    fm_buf_release(&b);
    fm_buf_release(&t.why);
    fm_buf_release(&t.text);
    fm_buf_release(&t.calls);
    return ok;
}

/* What is not there yet is refused, not ignored. */
static bool check_unsupported(struct fm_ask *a)
{
    const struct fm_py *tools = fm_py_get(a->body, "tools");
    if (!fm_bind_format(a, fm_py_get(fm_py_get(a->body, "text"), "format"), "text.format") || !fm_bind_grammar(a) ||
        !fm_bind_tools(a))
        return false;
    return !tools || tools->kind == FM_PY_NULL || tools->kind == FM_PY_ARRAY ||
           fm_fault_set(&a->fault, 400, "tools", "tools is no list");
}

static bool read_effort(struct fm_ask *a, const struct fm_server *s)
{
    const struct fm_py *effort = fm_py_get(fm_py_get(a->body, "reasoning"), "effort");
    a->thinking = s->thinks;
    if (!effort || effort->kind == FM_PY_NULL) return true;
    const char *word = effort->kind == FM_PY_STRING ? fm_py_copy(&a->doc, effort->text.s, effort->text.n) : "?";
    if (!word) return fm_fault_set(&a->fault, 503, NULL, "memory is short");
    return fm_ask_effort(a, "reasoning.effort", word);
}

static bool read_ask(struct fm_ask *a, const struct fm_server *s)
{
    return fm_ask_common(a, s) && fm_ask_int(a, "max_output_tokens", 1, 1 << 30, &a->max_tokens) &&
           check_unsupported(a) && read_effort(a, s) && encode(a, s);
}

void fm_api_responses(struct fm_server *s, struct fm_web_request *r)
{
    fm_openai_serve(s, r, &responses, "resp_", read_ask);
}
