/* libFuzzer target: any bytes as the body of a request, in each dialect.  Behind the parsers stands a scheduler that says one
 * of a few texts at once, before them a client that keeps what it gets: exactly one answer, JSON or whole lines of a stream,
 * never a fault of our own.
 *
 *   byte 0: the route    byte 1: chat format, text of the answer, how it ends    the body */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/reply.h"
#include "text/tokenizer_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const routes[] = {"/v1/chat/completions",
                                     "/v1/completions",
                                     "/v1/responses",
                                     "/v1/messages",
                                     "/v1/messages/count_tokens",
                                     "/api/chat",
                                     "/api/generate",
                                     "/api/show",
                                     "/tokenize",
                                     "/detokenize",
                                     "/apply-template",
                                     "/v1/embeddings",
                                     "/infill",
                                     "/api/embed",
                                     "/api/embeddings"};
enum { N_ROUTES = sizeof routes / sizeof *routes };

/* ---- the client ---- */

struct fm_web_request {
    const char *path, *body;
    size_t n;
    int status, holds;
    bool streaming, ended;
    struct fm_buf out;
};

static void must(bool ok, const char *what, const struct fm_web_request *r)
{
    if (ok) return;
    fprintf(stderr, "%s: %s: status %d: %.*s\n", r->path, what, r->status, (int)r->out.len, r->out.data);
    abort();
}

const char *fm_web_method(const struct fm_web_request *r) { return r->path ? "POST" : ""; }
const char *fm_web_path(const struct fm_web_request *r) { return r->path; }
const char *fm_web_id(const struct fm_web_request *r) { return r->path ? "0123456789abcdef" : ""; }
double fm_web_started(const struct fm_web_request *r) { return r->path ? 1 : 0; }
int fm_web_mark(const struct fm_web_request *r) { return r->path ? -1 : 0; }
int fm_web_active(struct fm_web *h) { return h != NULL; }

const char *fm_web_header(const struct fm_web_request *r, const char *name)
{
    return r->path && !strcmp(name, "content-type") ? "application/json" : NULL;
}

const char *fm_web_query(const struct fm_web_request *r, const char *name) { return r->path && *name ? NULL : ""; }

const char *fm_web_body(const struct fm_web_request *r, size_t *n)
{
    *n = r->n;
    return r->body;
}

void fm_web_set_mark(struct fm_web_request *r, int mark) { must(mark >= 0, "a mark", r); }
void fm_web_set_header(struct fm_web_request *r, const char *name, const char *value)
{
    must(!r->status && *name && *value, "a header", r);
}
void fm_web_hold(struct fm_web_request *r) { r->holds++; }
void fm_web_drop(struct fm_web_request *r) { must(r->holds-- > 0, "dropped twice", r); }
void fm_web_note_tokens(struct fm_web_request *r, int prompt, int cached, int answer)
{
    must(prompt >= 0 && cached >= 0 && answer >= 0, "tokens", r);
}
void fm_web_begin_late(struct fm_web_request *r, const char *type) { must(*type, "a type", r); }
bool fm_web_has_begun(struct fm_web_request *r) { return r->streaming; }

void fm_web_on_close(struct fm_web_request *r, void (*fn)(void *arg), void *arg)
{
    must(!fn || arg, "whom to tell", r);
}

void fm_web_reply(struct fm_web_request *r, int status, const char *type, const char *body, size_t n)
{
    struct fm_py_doc doc = {0};
    const struct fm_py *json;
    struct fm_error err;
    must(!r->status, "a second answer", r);
    r->status = status;
    r->ended = true;
    fm_buf_add(&r->out, body, n);
    must(status != 500, "a fault of our own", r);
    must(!strcmp(type, "application/json") && !fm_py_parse(&doc, body, n, "the answer", &json, &err), "no JSON", r);
    fm_py_release(&doc);
}

void fm_web_begin(struct fm_web_request *r, int status, const char *type, const char *ping)
{
    must(!r->status && *type && ping, "a second answer", r);
    r->status = status;
    r->streaming = true;
}

bool fm_web_write(struct fm_web_request *r, const char *bytes, size_t n)
{
    must(r->streaming && !r->ended, "written before its beginning or after its end", r);
    fm_buf_add(&r->out, bytes, n);
    return true;
}

void fm_web_end(struct fm_web_request *r)
{
    must(r->streaming && !r->ended, "ended twice", r);
    must(r->out.len && r->out.data[r->out.len - 1] == '\n' && fm_utf8_valid(r->out.data, r->out.len), "the stream", r);
    r->ended = true;
}

/* ---- the scheduler ---- */

static const char *const answers[] = {"", "So it is.", "why\n</think>\n\nBecause \"so\".",
                                      ("<think>\xC3\xA4</think>\xF0\x9F\x98\x80 <tool_call>\n"
                                       "{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>"),
                                      "{\"name\": \"f\", \"parameters\": {\"x\": [1, 2]}}"};
enum { N_ANSWERS = sizeof answers / sizeof *answers };
enum { DIM = 3 };
static const char *answer;
static enum fm_end end;

static void serve(const struct fm_request_options *o)
{
    static const double mean[DIM] = {0.5, -1e300, 0};
    struct fm_request_result result = {.end = end,
                                       .prompt_tokens = o->n_ids,
                                       .answer_tokens = o->max_tokens ? 1 : 0,
                                       .embedding = o->embed ? mean : NULL};
    const size_t n = strlen(answer);
    struct fm_token_event token = {.token = {65, -0.5f}, .n_top = o->top < 0 ? 0 : o->top, .position = o->n_ids};
    for (int i = 0; i < token.n_top; i++) token.top[i] = (struct fm_token_prob){i, -1.0f - (float)i};
    if (o->on_token && o->max_tokens) o->on_token(o->arg, &token);
    if (n && o->max_tokens) o->on_text(o->arg, answer, n);
    if (end == FM_END_FAILED) (void)fm_fail(&result.error, FM_ERR_INPUT, "the scheduler: it says no");
    o->on_end(o->arg, &result);
}

enum fm_status fm_scheduler_submit_all(struct fm_scheduler *s, const struct fm_request_options *o, int n,
                                       struct fm_request **out, bool *busy, struct fm_error *err)
{
    (void)s;
    *busy = end == FM_END_COUNT;
    if (*busy) return fm_fail(err, FM_ERR_FAILED, "the scheduler: the queue is full");
    for (int i = 0; i < n; i++) {
        if (o[i].n_ids < 1) return fm_fail(err, FM_ERR_USAGE, "the scheduler: an empty prompt");
        out[i] = NULL;
    }
    for (int i = 0; i < n; i++) o[i].on_accept(o[i].arg, NULL);
    for (int i = 0; i < n; i++) serve(&o[i]);
    return FM_OK;
}

/* Every second thing that could bind an answer cannot be had; fuzz_schema.c reads them. */
enum fm_status fm_constraint_new(struct fm_engine *e, const struct fm_constraint_options *o, struct fm_constraint **out,
                                 struct fm_error *err)
{
    (void)e;
    if (o->n % 2) return fm_fail(err, FM_ERR_INPUT, "%s: it cannot be had", o->what);
    *out = NULL;
    return FM_OK;
}

void fm_constraint_free(struct fm_constraint *c) { (void)c; }
bool fm_scheduler_has_joules(const struct fm_scheduler *s) { return s != NULL; }
const double fm_histogram_bounds[FM_HISTOGRAM_BOUNDS] = {1};

void fm_request_cancel(struct fm_request *r) { (void)r; }
void fm_request_free(struct fm_request *r) { (void)r; }
void fm_scheduler_stats(struct fm_scheduler *s, struct fm_scheduler_stats *out)
{
    (void)s, *out = (struct fm_scheduler_stats){0};
}
void fm_scheduler_slot(struct fm_scheduler *s, int i, struct fm_slot_info *out)
{
    (void)s, (void)i, *out = (struct fm_slot_info){0};
}
struct fm_sampling fm_sampling_default(void) { return (struct fm_sampling){.temp = 1, .top_p = 1}; }

/* ---- the server ---- */

/* A token per byte, in the alphabet of byte-level vocabularies. */
static struct fm_tokenizer *bytes(void)
{
    struct fm_buf b = {0};
    struct fm_error err;
    struct fm_tokenizer *t;
    uint32_t other = 256;
    fm_buf_str(&b, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
                   "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (uint32_t c = 0; c < 256; c++) {
        const bool itself = (c > 32 && c < 127) || (c > 160 && c != 173);
        fm_buf_str(&b, c ? ",\"" : "\"");
        if (c == '"' || c == '\\') fm_buf_char(&b, '\\');
        fm_buf_utf8(&b, itself ? c : other++);
        fm_buf_printf(&b, "\":%u", c);
    }
    fm_buf_str(&b, "}}}");
    if (fm_tokenizer_load_json(b.data, b.len, "bytes", &t, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    fm_buf_release(&b);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct fm_tokenizer *tok;
    static const struct fm_serve_options o = {.host = "127.0.0.1"};
    static const struct fm_model_info info = {.family = "llama", .format = "Q8_0", .path = "m.gguf", .dim = DIM};
    int formats = 0;
    if (n < 2) return 0;
    if (!tok) tok = bytes();
    while (fm_chat_format_at(formats)) formats++;
    const char *format = fm_chat_format_at(data[1] % formats);
    struct fm_server s = {.o = &o,
                          .info = &info,
                          .ledger = -1,
                          .fim = {1, 2, 3, data[1] & 1 ? 4 : -1},
                          .tok = tok,
                          .name = "m",
                          .format = format,
                          .thinks = fm_chat_format_thinks(format)};
    struct fm_web_request r = {.path = routes[data[0] % N_ROUTES], .body = (const char *)data + 2, .n = n - 2};
    answer = answers[data[0] / N_ROUTES % N_ANSWERS];
    end = (enum fm_end)(data[1] / formats % (FM_END_COUNT + 1));
    fm_route(&s, &r);
    must(r.status && r.ended && !r.holds, "no answer", &r);
    fm_buf_release(&r.out);
    return 0;
}
