/* See reply.h.  Once its requests are in the queue an answer belongs to the scheduler's thread; the last on_end frees it. */
#include "server/cost.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

static void answer_free(struct fm_answer *a)
{
    struct fm_web_request *r = a->all[0].r;
    for (int i = 0; i < a->n; i++) {
        struct fm_reply *p = &a->all[i];
        fm_request_free(a->requests[i]);
        fm_chat_parser_free(p->parser);
        fm_py_release(&p->message);
        fm_buf_release(&p->out);
        fm_buf_release(&p->reasoning);
        fm_buf_release(&p->content);
        fm_buf_release(&p->items);
        fm_buf_release(&p->call_name);
        fm_buf_release(&p->call_args);
        fm_free(p->tokens);
    }
    fm_ask_release(&a->ask);
    fm_free(a->requests);
    fm_free(a->shown);
    fm_free(a);
    fm_web_drop(r);
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

static size_t count_chars(const char *s, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xC0) != 0x80;
    return chars;
}

static void piece(void *arg, bool reasoning, const char *text, size_t n)
{
    struct fm_reply *p = arg;
    fm_buf_add(reasoning ? &p->reasoning : &p->content, text, n);
    if (!reasoning) p->chars += count_chars(text, n);
    if (!p->ask.stream || !n || p->answer->faulted) return;
    p->dialect->piece(p, reasoning, text, n);
    fm_reply_flush(p);
}

static void call(void *arg, size_t i, const char *name, size_t n_name, const char *args, size_t n)
{
    struct fm_reply *p = arg;
    p->dialect->call(p, (int)i, name, n_name, args, n);
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

/* Where the parser still sees reasoning, all that came so far was. */
static void count_token(struct fm_reply *p)
{
    if (p->parser && fm_chat_parser_reasons(p->parser)) p->n_reasoning = p->n_made;
    p->n_made++;
}

static void on_token(void *arg, const struct fm_token_event *ev)
{
    struct fm_reply *p = arg;
    if (!ev->prompt) p->logprob += (double)ev->token.logprob;
    if (!ev->prompt && !ev->end) count_token(p);
    if (p->ask.top < 0 || (ev->end && p->dialect->chat)) return;
    note_token(p, ev, ev->prompt ? p->prompt_chars : p->chars);
    char *text = NULL;
    size_t n = 0;
    if (!ev->prompt || fm_text_decode(p->s->tok, &ev->token.id, 1, &text, &n, NULL)) return;
    p->prompt_chars += count_chars(text, n);
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
    struct fm_buf valid = {0}; /* ids may be cut anywhere */
    fm_buf_valid(&valid, text, n);
    p->failed |= valid.failed;
    piece(p, false, valid.len ? valid.data : "", valid.len);
    fm_buf_release(&valid);
    fm_text_free(text);
}

/* As the model wrote them, for when the client sends them back. */
static void keep_calls(const struct fm_reply *p)
{
    int i = 0;
    for (const struct fm_py *c = p->calls ? p->calls->first : NULL; c; c = c->next) {
        char id[64];
        fm_reply_call_id(p, i++, id, sizeof id);
        fm_kept_add(p->s->kept, fm_web_mark(p->r), (struct fm_span){id, strlen(id)}, fm_reply_call_part(c, "name"),
                    fm_reply_call_part(c, "arguments"));
    }
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
        keep_calls(p);
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

struct fm_answer_tokens fm_answer_tokens(const struct fm_answer *a)
{
    struct fm_answer_tokens t = {0};
    for (int i = 0; i < a->n; i++) {
        const struct fm_request_result *r = &a->all[i].result;
        const bool first = !i || a->all[i].prompt != a->all[i - 1].prompt;
        t.prompt += first ? r->prompt_tokens : 0;
        t.cached += first ? r->cached_tokens : 0;
        t.answer += r->answer_tokens;
        t.reasoning += a->all[i].n_reasoning;
        t.joules += r->joules;
    }
    return t;
}

/* OpenAI's best: the highest probability per token. */
static bool is_better(const struct fm_reply *x, const struct fm_reply *y)
{
    const int nx = x->result.answer_tokens, ny = y->result.answer_tokens;
    return nx && ny && x->logprob / nx > y->logprob / ny;
}

/* Of each prompt's choices the best ones, in order; all of them as they are where none is left out. */
static void choose(struct fm_answer *a)
{
    const int made = a->ask.best_of, out = a->ask.n;
    for (int first = 0; first < a->n; first += made) {
        struct fm_reply **shown = a->shown + first / made * out;
        int have = 0;
        for (int i = first; i < first + made; i++) {
            int at = have < out ? have++ : out;
            for (; made > out && at > 0 && is_better(&a->all[i], shown[at - 1]); at--)
                if (at < out) shown[at] = shown[at - 1];
            if (at < out) shown[at] = &a->all[i];
        }
    }
    for (int i = 0; i < a->n_shown; i++) a->shown[i]->index = i;
}

static void on_end(void *arg, const struct fm_request_result *result)
{
    struct fm_reply *p = arg;
    struct fm_answer *a = p->answer;
    struct fm_fault fault = {0};
    p->result = *result;
    if (p->parser && fm_chat_parser_reasons(p->parser)) p->n_reasoning = p->n_made;
    p->last = --a->left == 0;
    if (p->last) {
        const struct fm_answer_tokens t = fm_answer_tokens(a);
        fm_web_note_tokens(p->r, t.prompt, t.cached, t.answer);
        fm_ledger_note(p->s, p->r, &t);
        fm_web_on_close(p->r, NULL, NULL);
    }
    if (result->end == FM_END_FAILED)
        (void)fm_fault_of(&fault, &result->error);
    else if (result->end == FM_END_SHUTDOWN)
        (void)fm_fault_set(&fault, 503, NULL, "the server is shutting down");
    else if (p->dialect->embed && !result->embedding)
        (void)fm_fault_set(&fault, 503, NULL, "the time for a request is over");
    else
        end_message(p);
    if (fault.status && !a->faulted) {
        a->faulted = true;
        write_fault(p, &fault);
    } else if (!a->faulted && p->ask.stream) {
        p->dialect->end(p);
        fm_reply_flush(p);
        if (p->last) fm_web_end(p->r);
    } else if (!a->faulted && p->last) {
        choose(a);
        write_whole(a->shown[0]);
    }
    if (p->last) answer_free(a);
}

/* ---- start ---- */

/* Whether the prompt ends inside an opened think block; one that ends with a tool's result may not, whatever was asked. */
static bool ends_in_thought(const struct fm_server *s, const struct fm_ask *a)
{
    enum { LAST = 8 }; /* ids: the mark may be several */
    const size_t n = a->n_ids < LAST ? a->n_ids : LAST;
    char *text = NULL;
    size_t len = 0;
    if (!n || fm_text_decode(s->tok, a->ids + a->n_ids - n, n, &text, &len, NULL)) return false;
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' ')) len--;
    const bool opened = len >= 7 && !memcmp(text + len - 7, "<think>", 7);
    fm_text_free(text);
    return opened;
}

static void client_left(void *arg)
{
    const struct fm_answer *a = arg;
    for (int i = 0; i < a->n; i++) fm_request_cancel(a->requests[i]);
}

/* When the queue will have moved on, as things go now. */
static void set_retry(struct fm_server *s, struct fm_web_request *r)
{
    enum { SECONDS_MAX = 60 };
    struct fm_scheduler_stats st;
    char seconds[16];
    fm_scheduler_stats(s->scheduler, &st);
    const double wait = st.slots ? st.wait_seconds / (st.waiting + 1) : 0; /* until one of those who wait has a slot */
    (void)snprintf(seconds, sizeof seconds, "%d", wait < 1 ? 1 : wait < SECONDS_MAX ? (int)ceil(wait) : SECONDS_MAX);
    fm_web_set_header(r, "Retry-After", seconds);
}

static void refuse(struct fm_answer *a, const struct fm_fault *f, bool busy)
{
    if (busy) set_retry(a->all[0].s, a->all[0].r);
    a->all[0].dialect->fault(a->all[0].r, f);
    answer_free(a);
}

/* For each choice in turn; no other callback comes before the last one's. */
static void on_accept(void *arg, struct fm_request *request)
{
    struct fm_reply *p = arg;
    struct fm_answer *a = p->answer;
    (void)request;
    if (p == a->all) {
        fm_web_note_tokens(p->r, (int)a->ask.n_ids, 0, 0);
        if (p->ask.stream) fm_web_begin(p->r, 200, p->dialect->type, p->dialect->ping);
    }
    if (p->ask.stream) {
        p->dialect->begin(p);
        fm_reply_flush(p);
    }
    if (p->ask.echo) echo_prompt(p);
    if (p == a->all + a->n - 1) fm_web_on_close(p->r, client_left, a);
}

/* What was asked for, within the server's and the key's limits; −1: none of them. */
static int longest(const struct fm_reply *p)
{
    const int asked = p->ask.max_tokens, own = p->s->o->tokens_max;
    return fm_keys_cap(p->s->keys, fm_web_mark(p->r), own && (asked < 0 || asked > own) ? own : asked);
}

static struct fm_request_options request_options(struct fm_reply *p, const char *who)
{
    const struct fm_ask *a = &p->ask;
    const bool ranked = a->best_of > a->n;
    return (struct fm_request_options){.ids = a->ids,
                                       .n_ids = (int)a->n_ids,
                                       .sampling = a->sampling,
                                       .constraint = a->bound,
                                       .constraint_start = p->start,
                                       .max_tokens = longest(p),
                                       .stop = a->stop,
                                       .n_stop = a->n_stop,
                                       .ignore_end = a->ignore_end,
                                       .top = a->top < 0 && ranked ? 0 : a->top,
                                       .echo = a->echo && a->top >= 0,
                                       .embed = p->dialect->embed,
                                       .user = who,
                                       .seconds_max = p->s->o->seconds_max,
                                       .on_accept = on_accept,
                                       .on_text = on_text,
                                       .on_token = on_token,
                                       .on_end = on_end,
                                       .arg = p};
}

/* Choice k of a prompt is what seed + k alone would say. */
static void choice_init(struct fm_answer *a, int i, struct fm_server *s, struct fm_web_request *r,
                        const struct fm_dialect *d, const char *id_prefix)
{
    struct fm_reply *p = &a->all[i];
    *p = (struct fm_reply){
        .answer = a, .s = s, .r = r, .dialect = d, .ask = a->ask, .index = i, .prompt = i / a->ask.best_of};
    const size_t from = p->prompt && a->ask.ends ? a->ask.ends[p->prompt - 1] : 0;
    p->ask.n_ids = (a->ask.ends ? a->ask.ends[p->prompt] : a->ask.n_ids) - from;
    if (from) p->ask.ids += from; /* there may be none */
    p->ask.ends = NULL;
    p->ask.sampling.seed += (uint64_t)(i % a->ask.best_of);
    p->created = (long long)time(NULL);
    (void)snprintf(p->id, sizeof p->id, "%s%s", id_prefix, fm_web_id(r));
}

/* Room for the choices, or NULL. */
static struct fm_answer *answer_new(const struct fm_ask *ask)
{
    const int prompts = ask->n_prompts ? ask->n_prompts : 1, best_of = ask->best_of ? ask->best_of : 1;
    const size_t n = (size_t)(prompts * best_of);
    struct fm_answer *a = fm_calloc(1, sizeof *a + n * sizeof *a->all);
    if (!a) return NULL;
    a->ask = *ask;
    a->ask.n = ask->n ? ask->n : 1;
    a->ask.best_of = best_of;
    a->n = a->left = (int)n;
    a->n_shown = prompts * a->ask.n;
    a->requests = fm_calloc(n, sizeof(struct fm_request *));
    a->shown = fm_calloc(n, sizeof(struct fm_reply *));
    if (a->requests && a->shown) return a;
    fm_free(a->requests);
    fm_free(a->shown);
    fm_free(a);
    return NULL;
}

/* All the choices' requests, or none. */
static bool submit(struct fm_answer *a, struct fm_server *s, const struct fm_web_request *r, struct fm_fault *fault,
                   bool *busy)
{
    struct fm_error err;
    struct fm_buf who = {0};
    struct fm_request_options one[1], *o = a->n == 1 ? one : fm_calloc((size_t)a->n, sizeof *o);
    fm_route_put_who(s, r, a->ask.user, &who);
    bool ok = o && !who.failed;
    if (ok) {
        for (int i = 0; i < a->n; i++) o[i] = request_options(&a->all[i], who.data);
        ok = !fm_scheduler_submit_all(s->scheduler, o, a->n, a->requests, busy, &err) || fm_fault_of(fault, &err);
    } else {
        (void)fm_fault_set(fault, 503, NULL, "memory is short");
    }
    if (o != one) fm_free(o);
    fm_buf_release(&who);
    return ok;
}

void fm_reply_start(struct fm_server *s, struct fm_web_request *r, const struct fm_dialect *d, struct fm_ask *ask,
                    const char *id_prefix)
{
    struct fm_error err;
    struct fm_fault fault = {0};
    bool busy = false;
    struct fm_answer *a = answer_new(ask);
    if (!a) {
        (void)fm_fault_set(&fault, 503, NULL, "memory is short");
        d->fault(r, &fault);
        fm_ask_release(ask);
        return;
    }
    for (int i = 0; i < a->n; i++) choice_init(a, i, s, r, d, id_prefix);
    fm_web_hold(r);
    for (int i = 0; d->chat && i < a->n; i++) {
        struct fm_reply *p = &a->all[i];
        const bool in_thought = ends_in_thought(s, &p->ask);
        p->start = in_thought                     ? FM_START_IN_THOUGHT
                   : s->thinks && p->ask.thinking ? FM_START_MAY_THINK
                                                  : FM_START_ANSWER;
        if (!fm_chat_parser_new(s->format, in_thought, piece, p, &p->parser, &err)) {
            if (d->call && p->ask.stream) fm_chat_parser_tell_calls(p->parser, call);
            continue;
        }
        (void)fm_fault_of(&fault, &err);
        refuse(a, &fault, false);
        return;
    }
    fm_web_begin_late(r, "application/json");
    if (!submit(a, s, r, &fault, &busy)) {
        if (busy) fault.status = 429;
        refuse(a, &fault, busy);
    }
}
