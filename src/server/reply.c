/* See reply.h.  Two holders: the scheduler until on_end, and fm_reply_start until it is done; the later one frees. */
#include "server/reply.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

static void reply_free(struct fm_reply *p)
{
    fm_request_free(p->request);
    fm_chat_parser_free(p->parser);
    fm_ask_release(&p->ask);
    fm_py_release(&p->message);
    fm_buf_release(&p->out);
    fm_buf_release(&p->reasoning);
    fm_buf_release(&p->content);
    fm_buf_release(&p->items);
    fm_free(p->tokens);
    fm_web_drop(p->r);
    fm_free(p);
}

void fm_reply_flush(struct fm_reply *p)
{
    if (p->out.len) (void)fm_web_write(p->r, p->out.data, p->out.len);
    p->failed |= p->out.failed;
    fm_buf_clear(&p->out);
}

const char *fm_reply_finish(const struct fm_reply *p)
{
    if (p->result.end == FM_END_LENGTH) return "length";
    if (p->result.end == FM_END_DEADLINE) return "insufficient_system_resource";
    if (p->result.end == FM_END_CANCELLED || p->result.end == FM_END_SHUTDOWN) return "aborted";
    return p->calls ? "tool_calls" : "stop";
}

int fm_reply_reasoning_tokens(const struct fm_reply *p)
{
    const size_t all = p->reasoning.len + p->content.len;
    return all ? (int)((double)p->reasoning.len / (double)all * p->result.answer_tokens) : 0;
}

struct fm_span fm_reply_call_part(const struct fm_py *call, const char *key)
{
    const struct fm_py *v = fm_py_get(fm_py_get(call, "function"), key);
    return v ? v->text : (struct fm_span){"", 0};
}

void fm_reply_call_id(const struct fm_reply *p, int i, char *dst, size_t n)
{
    (void)snprintf(dst, n, "call_%02d_%s", i, fm_web_id(p->r));
}

/* ---- from the scheduler's thread ---- */

static void piece(void *arg, bool reasoning, const char *text, size_t n)
{
    struct fm_reply *p = arg;
    fm_buf_add(reasoning ? &p->reasoning : &p->content, text, n);
    if (!p->ask.stream || !n) return;
    p->dialect->piece(p, reasoning, text, n);
    fm_reply_flush(p);
}

static void on_text(void *arg, const char *text, size_t n)
{
    struct fm_reply *p = arg;
    if (p->parser)
        fm_chat_parser_push(p->parser, text, n);
    else
        piece(p, false, text, n);
}

static void note_token(struct fm_reply *p, const struct fm_token_event *ev, size_t offset)
{
    if (p->n_tokens == p->cap_tokens) {
        const int cap = p->cap_tokens ? 2 * p->cap_tokens : 64;
        void *more = fm_realloc(p->tokens, (size_t)cap * sizeof *p->tokens);
        if (!more) {
            p->failed = true;
            return;
        }
        p->tokens = more;
        p->cap_tokens = cap;
    }
    p->tokens[p->n_tokens++] = (struct fm_said_token){*ev, offset};
}

static void on_token(void *arg, const struct fm_token_event *ev)
{
    struct fm_reply *p = arg;
    if (p->ask.top < 0) return;
    note_token(p, ev, ev->prompt ? p->prompt_offset : p->content.len);
    char *text = NULL;
    size_t n = 0;
    if (!ev->prompt || fm_text_decode(p->s->tok, &ev->token.id, 1, &text, &n, NULL)) return;
    p->prompt_offset += n;
    fm_text_free(text);
}

/* The prompt in front of the answer; its first token has no probability. */
static void echo_prompt(struct fm_reply *p)
{
    struct fm_token_event first = {.token = {p->ask.ids[0], NAN}, .prompt = true};
    char *text = NULL;
    size_t n = 0;
    if (p->ask.top >= 0) on_token(p, &first);
    if (fm_text_decode(p->s->tok, p->ask.ids, p->ask.n_ids, &text, &n, NULL)) return;
    piece(p, false, text, n);
    fm_text_free(text);
}

/* Text still held back, and the calls. */
static void end_message(struct fm_reply *p)
{
    char *text = NULL;
    size_t n = 0;
    struct fm_error err;
    const struct fm_py *message, *calls;
    if (!p->parser) return;
    if (fm_chat_parser_end(p->parser, &text, &n, NULL, &err) ||
        fm_py_parse(&p->message, text, n, "the answer", &message, &err)) {
        p->failed = true;
    } else {
        calls = fm_py_get(message, "tool_calls");
        p->calls = calls && calls->n ? calls : NULL;
    }
    fm_text_free(text);
}

static void write_fault(struct fm_reply *p, const struct fm_fault *f)
{
    if (!fm_web_has_begun(p->r)) {
        p->dialect->fault(p->r, f);
        return;
    }
    p->dialect->fault_in_stream(p, f);
    fm_reply_flush(p);
    fm_web_end(p->r);
}

static void write_whole(struct fm_reply *p)
{
    static const struct fm_fault short_of_memory = {500, "server_error", "memory is short", ""};
    p->dialect->whole(p);
    if (p->out.failed || p->failed) {
        fm_buf_clear(&p->out);
        p->out.failed = false;
        write_fault(p, &short_of_memory);
    } else if (fm_web_has_begun(p->r)) { /* it took so long that the headers are out */
        fm_reply_flush(p);
        fm_web_end(p->r);
    } else {
        fm_web_reply(p->r, 200, "application/json", p->out.data ? p->out.data : "", p->out.len);
    }
}

static void on_end(void *arg, const struct fm_request_result *result)
{
    struct fm_reply *p = arg;
    struct fm_fault fault = {0};
    p->result = *result;
    fm_web_note_tokens(p->r, result->prompt_tokens, result->cached_tokens, result->answer_tokens);
    fm_web_on_close(p->r, NULL, NULL);
    if (result->end == FM_END_FAILED)
        (void)fm_fault_of(&fault, &result->error);
    else if (result->end == FM_END_SHUTDOWN)
        (void)fm_fault_set(&fault, 503, NULL, "the server is shutting down");
    else
        end_message(p);
    if (fault.status) {
        write_fault(p, &fault);
    } else if (p->ask.stream) {
        p->dialect->end(p);
        fm_reply_flush(p);
        fm_web_end(p->r);
    } else {
        write_whole(p);
    }
    reply_free(p);
}

/* ---- start ---- */

/* Whether the prompt ends inside an opened think block; one that ends with a tool's result may not, whatever was asked. */
static bool ends_in_thought(const struct fm_server *s, const struct fm_ask *a)
{
    enum { LAST = 8 }; /* ids: the mark may be several */
    const size_t n = a->n_ids < LAST ? a->n_ids : LAST;
    char *text = NULL;
    size_t len = 0;
    if (fm_text_decode(s->tok, a->ids + a->n_ids - n, n, &text, &len, NULL)) return false;
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' ')) len--;
    const bool opened = len >= 7 && !memcmp(text + len - 7, "<think>", 7);
    fm_text_free(text);
    return opened;
}

static void client_left(void *arg) { fm_request_cancel(arg); }

static void refuse(struct fm_reply *p, const struct fm_fault *f, bool busy)
{
    if (busy) fm_web_set_header(p->r, "Retry-After", "1");
    p->dialect->fault(p->r, f);
    reply_free(p);
}

static void on_accept(void *arg, struct fm_request *request)
{
    struct fm_reply *p = arg;
    fm_web_note_tokens(p->r, (int)p->ask.n_ids, 0, 0);
    if (p->ask.stream) {
        fm_web_begin(p->r, 200, p->dialect->type, p->dialect->ping);
        p->dialect->begin(p);
        fm_reply_flush(p);
    }
    if (p->ask.echo) echo_prompt(p);
    fm_web_on_close(p->r, client_left, request);
}

static struct fm_request_options request_options(struct fm_reply *p)
{
    const struct fm_ask *a = &p->ask;
    return (struct fm_request_options){.ids = a->ids,
                                       .n_ids = (int)a->n_ids,
                                       .sampling = a->sampling,
                                       .max_tokens = a->max_tokens,
                                       .stop = a->stop,
                                       .n_stop = a->n_stop,
                                       .ignore_end = a->ignore_end,
                                       .top = a->top,
                                       .echo = a->echo && a->top >= 0,
                                       .user = a->user,
                                       .seconds_max = p->s->o->seconds_max,
                                       .on_accept = on_accept,
                                       .on_text = on_text,
                                       .on_token = on_token,
                                       .on_end = on_end,
                                       .arg = p};
}

void fm_reply_start(struct fm_server *s, struct fm_web_request *r, const struct fm_dialect *d, struct fm_ask *ask,
                    const char *id_prefix)
{
    struct fm_error err;
    struct fm_fault fault = {0};
    bool busy = false;
    struct fm_reply *p = fm_calloc(1, sizeof *p);
    if (!p) {
        (void)fm_fault_set(&fault, 503, NULL, "memory is short");
        d->fault(r, &fault);
        fm_ask_release(ask);
        return;
    }
    p->s = s;
    p->r = r;
    p->dialect = d;
    p->ask = *ask;
    p->created = (long long)time(NULL);
    (void)snprintf(p->id, sizeof p->id, "%s%s", id_prefix, fm_web_id(r));
    fm_web_hold(r);
    if (d->chat && fm_chat_parser_new(s->format, ends_in_thought(s, &p->ask), piece, p, &p->parser, &err)) {
        (void)fm_fault_of(&fault, &err);
        refuse(p, &fault, false);
        return;
    }
    const struct fm_request_options o = request_options(p);
    fm_web_begin_late(r, "application/json");
    if (fm_scheduler_submit(s->scheduler, &o, &p->request, &busy, &err)) {
        (void)fm_fault_of(&fault, &err);
        if (busy) fault.status = 429;
        refuse(p, &fault, busy);
    }
}
