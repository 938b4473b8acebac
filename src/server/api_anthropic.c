/* POST messages and messages/count_tokens: Anthropic's shape (api-and-ux.md §1.8, §2.3).
 *
 *   message_start
 *   content_block_start 0 thinking · content_block_delta … · content_block_stop      blocks are numbered without gaps
 *   content_block_start 1 text     · content_block_delta … · content_block_stop
 *   content_block_start 2 tool_use · input_json_delta      · content_block_stop
 *   message_delta (stop_reason, usage) · message_stop
 */
#include <stdio.h>
#include <string.h>

#include "server/cost.h"
#include "server/reply.h"

/* ---- faults ---- */

static const char *fault_type(int status)
{
    return status == 401   ? "authentication_error"
           : status == 403 ? "permission_error"
           : status == 404 ? "not_found_error"
           : status == 413 ? "request_too_large"
           : status == 429 ? "rate_limit_error"
           : status == 503 ? "overloaded_error"
           : status >= 500 ? "api_error"
                           : "invalid_request_error";
}

static void write_fault(struct fm_buf *b, const struct fm_fault *f)
{
    fm_buf_printf(b, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", fault_type(f->status));
    fm_put_str(b, f->message);
    fm_buf_str(b, "}}");
}

void fm_anthropic_fault(struct fm_web_request *r, const struct fm_fault *f)
{
    struct fm_buf b = {0};
    write_fault(&b, f);
    fm_reply_json(r, f->status, &b);
}

static void fault_in_stream(struct fm_reply *p, const struct fm_fault *f)
{
    if (p->ask.stream) fm_buf_str(&p->out, "event: error\ndata: ");
    write_fault(&p->out, f);
    if (p->ask.stream) fm_buf_str(&p->out, "\n\n");
}

/* ---- the answer ---- */

static const char *stop_reason(const struct fm_reply *p)
{
    if (p->result.stop) return "stop_sequence";
    if (p->result.end == FM_END_LENGTH) return "max_tokens";
    return p->calls ? "tool_use" : "end_turn";
}

static void stop_members(struct fm_reply *p)
{
    fm_buf_printf(&p->out, "\"stop_reason\":\"%s\",\"stop_sequence\":", stop_reason(p));
    p->result.stop ? fm_put_str(&p->out, p->result.stop) : fm_buf_str(&p->out, "null");
}

static void usage(struct fm_reply *p, int input, int cached, int output)
{
    fm_buf_printf(&p->out,
                  "\"usage\":{\"input_tokens\":%d,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":%d,"
                  "\"output_tokens\":%d",
                  input - cached, cached, output);
    if (output) {
        const struct fm_answer_tokens t = fm_answer_tokens(p->answer);
        fm_put_cost(p->s, &p->out, &t);
    }
    fm_buf_char(&p->out, '}');
}

static void head(struct fm_reply *p)
{
    fm_buf_str(&p->out, "\"id\":");
    fm_put_str(&p->out, p->id);
    fm_buf_str(&p->out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    fm_put_str(&p->out, p->ask.model ? p->ask.model : p->s->name);
}

static void tool_head(struct fm_reply *p, struct fm_span name, int i)
{
    char id[80];
    fm_reply_call_id(p, i, id, sizeof id);
    fm_buf_printf(&p->out, "{\"type\":\"tool_use\",\"id\":\"toolu_%s\",\"name\":", id);
    fm_put_text(&p->out, name.s, name.n);
    fm_buf_str(&p->out, ",\"input\":");
}

/* ---- streamed; state: 2·(index of the open block) + kind + 1, 0: none open yet ---- */

enum { TEXT, THINKING };

static void event(struct fm_reply *p, const char *name)
{
    fm_buf_printf(&p->out, "event: %s\ndata: {\"type\":\"%s\"", name, name);
}

static void event_end(struct fm_reply *p) { fm_buf_str(&p->out, "}\n\n"); }

static void begin(struct fm_reply *p)
{
    event(p, "message_start");
    fm_buf_str(&p->out, ",\"message\":{");
    head(p);
    fm_buf_str(&p->out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,");
    usage(p, (int)p->ask.n_ids, 0, 0);
    fm_buf_char(&p->out, '}');
    event_end(p);
}

static int next_block(const struct fm_reply *p) { return p->state ? (p->state - 1) / 2 + 1 : 0; }

static void close_block(struct fm_reply *p)
{
    if (!p->opened) return;
    const int at = (p->state - 1) / 2;
    if ((p->state - 1) % 2 == THINKING) { /* clients expect one; nobody can check it */
        event(p, "content_block_delta");
        fm_buf_printf(&p->out, ",\"index\":%d,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"fathom\"}", at);
        event_end(p);
    }
    event(p, "content_block_stop");
    fm_buf_printf(&p->out, ",\"index\":%d", at);
    event_end(p);
    p->opened = false;
}

static void open_block(struct fm_reply *p, int kind)
{
    if (p->opened && (p->state - 1) % 2 == kind) return;
    close_block(p);
    const int at = next_block(p);
    event(p, "content_block_start");
    fm_buf_printf(&p->out, ",\"index\":%d,\"content_block\":%s", at,
                  kind == THINKING ? "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"
                                   : "{\"type\":\"text\",\"text\":\"\"}");
    event_end(p);
    p->state = 2 * at + kind + 1;
    p->opened = true;
}

static void piece(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    open_block(p, reasoning ? THINKING : TEXT);
    event(p, "content_block_delta");
    fm_buf_printf(&p->out, ",\"index\":%d,\"delta\":{\"type\":", (p->state - 1) / 2);
    fm_buf_str(&p->out, reasoning ? "\"thinking_delta\",\"thinking\":" : "\"text_delta\",\"text\":");
    fm_put_text(&p->out, text, n);
    fm_buf_char(&p->out, '}');
    event_end(p);
}

static void tool(struct fm_reply *p, int i, const char *name, size_t n_name, const char *args, size_t n)
{
    if (name) {
        close_block(p);
        const int at = next_block(p);
        event(p, "content_block_start");
        fm_buf_printf(&p->out, ",\"index\":%d,\"content_block\":", at);
        tool_head(p, (struct fm_span){name, n_name}, i);
        fm_buf_str(&p->out, "{}}");
        event_end(p);
        p->state = 2 * at + TEXT + 1;
        p->opened = true;
        return;
    }
    event(p, "content_block_delta");
    fm_buf_printf(&p->out,
                  ",\"index\":%d,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":", (p->state - 1) / 2);
    fm_put_text(&p->out, args, n);
    fm_buf_char(&p->out, '}');
    event_end(p);
}

static void end(struct fm_reply *p)
{
    if (!p->state) open_block(p, TEXT); /* an empty answer has a block, too */
    close_block(p);
    event(p, "message_delta");
    fm_buf_str(&p->out, ",\"delta\":{");
    stop_members(p);
    fm_buf_str(&p->out, "},");
    usage(p, p->result.prompt_tokens, p->result.cached_tokens, p->result.answer_tokens);
    event_end(p);
    event(p, "message_stop");
    event_end(p);
}

static void whole(struct fm_reply *p)
{
    struct fm_buf *b = &p->out;
    int i = 0;
    bool first = true;
    fm_buf_char(b, '{');
    head(p);
    fm_buf_str(b, ",\"content\":[");
    if (p->reasoning.len) {
        fm_buf_str(b, "{\"type\":\"thinking\",\"thinking\":");
        fm_put_buf(b, &p->reasoning);
        fm_buf_str(b, ",\"signature\":\"fathom\"}");
        first = false;
    }
    if (p->content.len || (first && !p->calls)) {
        fm_buf_str(b, first ? "{\"type\":\"text\",\"text\":" : ",{\"type\":\"text\",\"text\":");
        fm_put_buf(b, &p->content);
        fm_buf_char(b, '}');
        first = false;
    }
    for (const struct fm_py *c = p->calls ? p->calls->first : NULL; c; c = c->next, first = false) {
        const struct fm_span args = fm_reply_call_part(c, "arguments");
        if (!first) fm_buf_char(b, ',');
        tool_head(p, fm_reply_call_part(c, "name"), i++);
        fm_buf_add(b, args.s, args.n); /* an object: the parser checked it */
        fm_buf_char(b, '}');
    }
    fm_buf_str(b, "],");
    stop_members(p);
    fm_buf_char(b, ',');
    usage(p, p->result.prompt_tokens, p->result.cached_tokens, p->result.answer_tokens);
    fm_buf_char(b, '}');
}

static const struct fm_dialect messages = {.type = "text/event-stream; charset=utf-8",
                                           .ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
                                           .begin = begin,
                                           .piece = piece,
                                           .call = tool,
                                           .end = end,
                                           .whole = whole,
                                           .fault = fm_anthropic_fault,
                                           .fault_in_stream = fault_in_stream,
                                           .chat = true};

/* ---- the request: Anthropic's messages become chat-encode's ---- */

/* Text of a string or of text blocks, appended as one JSON string's inside; blocks are joined by blank lines. */
static bool gather_text(struct fm_ask *a, const struct fm_py *v, struct fm_buf *out)
{
    if (!v || v->kind == FM_PY_NULL) return true;
    if (v->kind == FM_PY_STRING) {
        fm_buf_add(out, v->text.s, v->text.n);
        return true;
    }
    if (v->kind != FM_PY_ARRAY)
        return fm_fault_set(&a->fault, 400, "messages", "content is neither a string nor a list");
    for (const struct fm_py *p = v->first; p; p = p->next) {
        const struct fm_py *text = fm_py_get(p, "text");
        if (!fm_py_is(fm_py_get(p, "type"), "text")) continue;
        if (!text || text->kind != FM_PY_STRING)
            return fm_fault_set(&a->fault, 400, "messages", "a text block without text");
        /* changes with every request and would spoil every cached prefix */
        if (text->text.n > 28 && !memcmp(text->text.s, "x-anthropic-billing-header: ", 28)) continue;
        if (out->len) fm_buf_str(out, "\n\n");
        fm_buf_add(out, text->text.s, text->text.n);
    }
    return true;
}

static bool put_text(struct fm_ask *a, struct fm_buf *b, const char *role, const struct fm_py *content, bool always)
{
    struct fm_buf text = {0};
    const bool ok = gather_text(a, content, &text);
    if (ok && (text.len || always)) {
        fm_buf_printf(b, "%s{\"role\":\"%s\",\"content\":", b->data[b->len - 1] == '[' ? "" : ",", role);
        fm_put_buf(b, &text);
        fm_buf_char(b, '}');
    }
    fm_buf_release(&text);
    return ok;
}

/* tool_result blocks become messages of role tool, in front of what the user says with them. */
static bool put_user(struct fm_ask *a, struct fm_buf *b, const struct fm_py *content)
{
    bool results = false;
    for (const struct fm_py *p = content && content->kind == FM_PY_ARRAY ? content->first : NULL; p; p = p->next) {
        const struct fm_py *type = fm_py_get(p, "type"), *id = fm_py_get(p, "tool_use_id");
        struct fm_buf text = {0};
        if (fm_py_is(type, "image") || fm_py_is(type, "document"))
            return fm_fault_set(&a->fault, 400, "messages", "content of type %.*s is not supported", (int)type->text.n,
                                type->text.s);
        if (!fm_py_is(type, "tool_result")) continue;
        const bool ok = gather_text(a, fm_py_get(p, "content"), &text);
        fm_buf_printf(b, "%s{\"role\":\"tool\",\"content\":", b->data[b->len - 1] == '[' ? "" : ",");
        fm_put_buf(b, &text);
        if (id && id->kind == FM_PY_STRING) {
            fm_buf_str(b, ",\"tool_call_id\":");
            fm_put_text(b, id->text.s, id->text.n);
        }
        fm_buf_char(b, '}');
        fm_buf_release(&text);
        results = true;
        if (!ok) return false;
    }
    return put_text(a, b, "user", content, !results);
}

static bool put_assistant(struct fm_ask *a, struct fm_buf *b, const struct fm_py *content)
{
    struct fm_buf text = {0}, calls = {0}, why = {0};
    bool ok = gather_text(a, content, &text);
    for (const struct fm_py *p = content && content->kind == FM_PY_ARRAY ? content->first : NULL; ok && p;
         p = p->next) {
        const struct fm_py *type = fm_py_get(p, "type"), *thinking = fm_py_get(p, "thinking"), *id = fm_py_get(p, "id"),
                           *name = fm_py_get(p, "name"), *input = fm_py_get(p, "input");
        if (fm_py_is(type, "thinking") && thinking && thinking->kind == FM_PY_STRING)
            fm_buf_add(&why, thinking->text.s, thinking->text.n);
        if (!fm_py_is(type, "tool_use")) continue;
        if (!name || name->kind != FM_PY_STRING || !input || input->kind != FM_PY_OBJECT)
            ok = fm_fault_set(&a->fault, 400, "messages", "a tool_use block without name or input");
        if (!ok) break;
        fm_buf_str(&calls, calls.len ? ",{" : "{");
        if (id && id->kind == FM_PY_STRING) {
            fm_buf_str(&calls, "\"id\":");
            fm_put_text(&calls, id->text.s, id->text.n);
            fm_buf_char(&calls, ',');
        }
        fm_buf_str(&calls, "\"type\":\"function\",\"function\":{\"name\":");
        fm_put_text(&calls, name->text.s, name->text.n);
        fm_buf_str(&calls, ",\"arguments\":");
        fm_py_write(&calls, input, 0);
        fm_buf_str(&calls, "}}");
    }
    fm_buf_printf(b, "%s{\"role\":\"assistant\",\"content\":", b->data[b->len - 1] == '[' ? "" : ",");
    fm_put_buf(b, &text);
    if (why.len) {
        fm_buf_str(b, ",\"reasoning_content\":");
        fm_put_text(b, why.data, why.len);
    }
    if (calls.len) fm_buf_printf(b, ",\"tool_calls\":[%s]", calls.data);
    fm_buf_char(b, '}');
    b->failed |= text.failed || calls.failed || why.failed;
    fm_buf_release(&text);
    fm_buf_release(&calls);
    fm_buf_release(&why);
    return ok;
}

/* Tools with an input_schema; hosted ones (another type) cannot run here and are left out. */
static void put_tools(struct fm_buf *b, const struct fm_py *tools)
{
    bool any = false;
    for (const struct fm_py *t = tools && tools->kind == FM_PY_ARRAY ? tools->first : NULL; t; t = t->next) {
        const struct fm_py *name = fm_py_get(t, "name"), *schema = fm_py_get(t, "input_schema"),
                           *what = fm_py_get(t, "description"), *strict = fm_py_get(t, "strict");
        if (!name || name->kind != FM_PY_STRING || !schema) continue;
        fm_buf_str(b, any ? ",{" : ",\"tools\":[{");
        fm_buf_str(b, "\"type\":\"function\",\"function\":{\"name\":");
        fm_put_text(b, name->text.s, name->text.n);
        if (what && what->kind == FM_PY_STRING) {
            fm_buf_str(b, ",\"description\":");
            fm_put_text(b, what->text.s, what->text.n);
        }
        fm_buf_str(b, ",\"parameters\":");
        fm_py_write(b, schema, 0);
        if (strict && strict->kind == FM_PY_TRUE) fm_buf_str(b, ",\"strict\":true");
        fm_buf_str(b, "}}");
        any = true;
    }
    if (any) fm_buf_char(b, ']');
}

static bool put_messages(struct fm_ask *a, struct fm_buf *b)
{
    const struct fm_py *list = fm_py_get(a->body, "messages");
    if (!list || list->kind != FM_PY_ARRAY || !list->n)
        return fm_fault_set(&a->fault, 400, "messages", "messages is missing, empty, or no list");
    if (!put_text(a, b, "system", fm_py_get(a->body, "system"), false)) return false;
    for (const struct fm_py *m = list->first; m; m = m->next) {
        const struct fm_py *role = fm_py_get(m, "role"), *content = fm_py_get(m, "content");
        bool ok = false;
        if (fm_py_is(role, "user"))
            ok = put_user(a, b, content);
        else if (fm_py_is(role, "assistant"))
            ok = put_assistant(a, b, content);
        else if (fm_py_is(role, "system"))
            ok = put_text(a, b, "system", content, true);
        else
            (void)fm_fault_set(&a->fault, 400, "messages", "a role is neither user nor assistant");
        if (!ok) return false;
    }
    return true;
}

static bool read_thinking(struct fm_ask *a, const struct fm_server *s)
{
    const struct fm_py *v = fm_py_get(a->body, "thinking"), *config = fm_py_get(a->body, "output_config"),
                       *effort = fm_py_get(config, "effort");
    a->thinking = s->thinks && v && v->kind == FM_PY_OBJECT && !fm_py_is(fm_py_get(v, "type"), "disabled");
    if (fm_py_is(effort, "low") || fm_py_is(effort, "high") || fm_py_is(effort, "max"))
        a->effort = fm_py_copy(&a->doc, effort->text.s, effort->text.n);
    return true;
}

static bool encode(struct fm_ask *a, const struct fm_server *s)
{
    struct fm_buf b = {0};
    if (!fm_bind_tools(a)) return false;
    fm_buf_str(&b, "{\"messages\":[");
    bool ok = put_messages(a, &b);
    fm_buf_printf(&b, "],\"thinking\":%s", a->thinking ? "true" : "false");
    fm_ask_put_effort(a, &b);
    if (a->tool_choice != FM_TOOLS_NONE) put_tools(&b, fm_py_get(a->body, "tools"));
    fm_buf_char(&b, '}');
    if (ok && b.failed) ok = fm_fault_set(&a->fault, 503, NULL, "memory is short");
    if (ok) ok = fm_ask_chat(a, s, b.data, b.len);
    fm_buf_release(&b);
    return ok;
}

static void user_of_metadata(struct fm_ask *a)
{
    const struct fm_py *id = fm_py_get(fm_py_get(a->body, "metadata"), "user_id");
    if (id && id->kind == FM_PY_STRING && !memchr(id->text.s, 0, id->text.n))
        a->user = fm_py_copy(&a->doc, id->text.s, id->text.n);
}

void fm_api_messages(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    if (fm_ask_parse(&a, r) && fm_ask_common(&a, s) && fm_ask_stops(&a, "stop_sequences") &&
        fm_ask_int(&a, "max_tokens", 1, 1 << 30, &a.max_tokens)) {
        user_of_metadata(&a);
        if (a.max_tokens < 0)
            (void)fm_fault_set(&a.fault, 400, "max_tokens", "max_tokens is missing");
        else if (read_thinking(&a, s) && encode(&a, s)) {
            fm_reply_start(s, r, &messages, &a, "msg_");
            return;
        }
    }
    fm_anthropic_fault(r, &a.fault);
    fm_ask_release(&a);
}

void fm_api_count_tokens(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    if (fm_ask_parse(&a, r) && fm_ask_common(&a, s) && read_thinking(&a, s) && encode(&a, s)) {
        struct fm_buf b = {0};
        fm_buf_printf(&b, "{\"input_tokens\":%zu}", a.n_ids);
        fm_reply_json(r, 200, &b);
    } else {
        fm_anthropic_fault(r, &a.fault);
    }
    fm_ask_release(&a);
}
