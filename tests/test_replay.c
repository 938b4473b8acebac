/* Recorded streams of the real services, said once more by our own dialects: a scheduler that repeats the recording's pieces
 * stands in for a model, a request in memory for HTTP.  The events must have the recording's members, order and end.
 *
 *   recording ─► pieces ─► fm_api_<dialect>'s callbacks ─► events     compared with the recording by shape and by text */
#include <stdlib.h>

#include "run_testing.h"

#include "server/ask.h"

/* ---- a request in memory ---- */

struct fm_web_request {
    const char *body;
    struct fm_buf out;
    int status;
    bool ended;
};

const char *fm_web_header(const struct fm_web_request *r, const char *name)
{
    (void)r;
    return strcmp(name, "content-type") ? NULL : "application/json";
}
const char *fm_web_body(const struct fm_web_request *r, size_t *n)
{
    *n = strlen(r->body);
    return r->body;
}
const char *fm_web_id(const struct fm_web_request *r) { return r ? "0123456789abcdef01234567" : ""; }
const char *fm_web_path(const struct fm_web_request *r) { return r ? "/v1/x" : ""; }
double fm_web_started(const struct fm_web_request *r) { return r ? 0 : -1; }
int fm_web_mark(const struct fm_web_request *r) { return r ? -1 : 0; }
void fm_web_set_mark(struct fm_web_request *r, int mark) { (void)r, (void)mark; }
void fm_web_hold(struct fm_web_request *r) { (void)r; }
void fm_web_drop(struct fm_web_request *r) { (void)r; }
void fm_web_on_close(struct fm_web_request *r, void (*fn)(void *arg), void *arg) { (void)r, (void)fn, (void)arg; }
void fm_web_set_header(struct fm_web_request *r, const char *name, const char *value)
{
    (void)r, (void)name, (void)value;
}
void fm_web_begin_late(struct fm_web_request *r, const char *type) { (void)r, (void)type; }
void fm_web_note_tokens(struct fm_web_request *r, int p, int c, int a) { (void)r, (void)p, (void)c, (void)a; }
bool fm_web_has_begun(struct fm_web_request *r) { return r->status != 0; }
void fm_web_begin(struct fm_web_request *r, int status, const char *type, const char *ping)
{
    (void)type, (void)ping;
    r->status = status;
}
bool fm_web_write(struct fm_web_request *r, const char *bytes, size_t n)
{
    assert_false(r->ended);
    fm_buf_add(&r->out, bytes, n);
    return true;
}
void fm_web_end(struct fm_web_request *r) { r->ended = true; }
void fm_web_reply(struct fm_web_request *r, int status, const char *type, const char *body, size_t n)
{
    (void)type;
    r->status = status;
    fm_buf_add(&r->out, body, n);
    r->ended = true;
}
void fm_route_put_who(const struct fm_server *s, const struct fm_web_request *r, const char *user, struct fm_buf *out)
{
    (void)s, (void)r, (void)user;
    fm_buf_str(out, "");
}

/* ---- a scheduler that has one request, and says what it is told ---- */

static struct fm_request_options asked;

enum fm_status fm_scheduler_submit_all(struct fm_scheduler *s, const struct fm_request_options *o, int n,
                                       struct fm_request **out, bool *busy, struct fm_error *error)
{
    (void)s, (void)out, (void)busy, (void)error;
    assert_int_equal(n, 1);
    asked = *o;
    asked.on_accept(asked.arg, NULL);
    return FM_OK;
}
void fm_scheduler_stats(struct fm_scheduler *s, struct fm_scheduler_stats *out)
{
    (void)s;
    *out = (struct fm_scheduler_stats){.slots = 1, .ctx = 4096};
}
bool fm_scheduler_has_joules(const struct fm_scheduler *s) { return s; }
void fm_request_cancel(struct fm_request *r) { (void)r; }
void fm_request_free(struct fm_request *r) { (void)r; }

static void say(const char *text, size_t n)
{
    const struct fm_token_event token = {0};
    asked.on_token(asked.arg, &token);
    asked.on_text(asked.arg, text, n);
}

/* ---- shapes: what kinds of members a value has ---- */

/* Members that a service has and ours has not, or the other way round: "key"; "?key": where it is null; "{key": an object. */
static bool passed_over(const struct fm_py *v, const char *const *without)
{
    for (; without && *without; without++) {
        const char *key = *without;
        const bool only = *key == '?' || *key == '{';
        const enum fm_py_kind kind = *key == '?' ? FM_PY_NULL : FM_PY_OBJECT;
        if (fm_span_is(v->key, key + only) && (!only || v->kind == kind)) return true;
    }
    return false;
}

static bool is_among(struct fm_span key, const char *const *names)
{
    while (*names && !fm_span_is(key, *names)) names++;
    return *names;
}

static int by_key(const void *a, const void *b)
{
    const struct fm_span x = (*(const struct fm_py *const *)a)->key, y = (*(const struct fm_py *const *)b)->key;
    const int c = memcmp(x.s, y.s, x.n < y.n ? x.n : y.n);
    return c ? c : (x.n > y.n) - (x.n < y.n);
}

/* {key:kind,…} sorted, [a list's kinds, each once where they repeat]; what says what an event is, and where it belongs, stands
 * as it is. */
static void shape(const struct fm_py *v, const char *const *without, struct fm_buf *b)
{
    static const char kinds[] = "0bbns";
    static const char *const names[] = {"type", "object", "finish_reason", "role", "stop_reason", "status", NULL};
    static const char *const places[] = {"index", "output_index", "content_index", NULL};
    if (v->kind < FM_PY_ARRAY) {
        const bool as_it_is = v->kind == FM_PY_STRING   ? is_among(v->key, names)
                              : v->kind == FM_PY_NUMBER ? is_among(v->key, places)
                                                        : false;
        as_it_is ? fm_buf_add(b, v->text.s, v->text.n) : fm_buf_char(b, kinds[v->kind]);
        return;
    }
    const struct fm_py **of = calloc(v->n + 1, sizeof *of);
    size_t n = 0;
    for (const struct fm_py *p = v->first; p; p = p->next)
        if (v->kind == FM_PY_ARRAY || !passed_over(p, without)) of[n++] = p;
    if (v->kind == FM_PY_OBJECT) qsort(of, n, sizeof *of, by_key);
    fm_buf_char(b, v->kind == FM_PY_ARRAY ? '[' : '{');
    for (size_t i = 0, before = 0, size = 0; i < n; i++) {
        const size_t start = b->len;
        fm_buf_add(b, of[i]->key.s, of[i]->key.n);
        fm_buf_char(b, ':');
        shape(of[i], without, b);
        fm_buf_char(b, ',');
        if (size && b->len - start == size && !memcmp(b->data + before, b->data + start, size)) b->len = start;
        before = start, size = b->len - start;
    }
    fm_buf_char(b, v->kind == FM_PY_ARRAY ? ']' : '}');
    free(of);
}

/* Line by line; a line like the one before is left out: how an answer is cut into pieces is the tokenizer's affair. */
static void add_shape(const struct fm_py *v, const char *const *without, struct fm_buf *all)
{
    struct fm_buf one = {0};
    shape(v, without, &one);
    fm_buf_char(&one, '\n');
    const bool same = all->len >= one.len && !memcmp(all->data + all->len - one.len, one.data, one.len) &&
                      (all->len == one.len || all->data[all->len - one.len - 1] == '\n');
    if (!same) fm_buf_add(all, one.data, one.len);
    fm_buf_release(&one);
}

/* ---- recordings ---- */

static char folder[400];

/* The file's lines; NULL: it is not here. */
static char *load(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s.chunks.txt", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        print_message("SKIP  %s is not here\n", path);
        return NULL;
    }
    struct fm_buf b = {0};
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f));) fm_buf_add(&b, part, n);
    fclose(f);
    fm_buf_add(&b, "", 1);
    return b.data;
}

/* The JSON of each line that begins with prefix; ends with NULL. */
static const struct fm_py **lines(struct fm_py_doc *doc, const char *text, const char *prefix)
{
    const struct fm_py **out = calloc(strlen(text) / 2 + 2, sizeof *out);
    size_t n = 0;
    while (*text) {
        const size_t len = strcspn(text, "\n"), skip = strlen(prefix);
        if (len > skip && !strncmp(text, prefix, skip) && text[skip] == '{')
            ok(fm_py_parse(doc, text + skip, len - skip, "a line", &out[n++], &err));
        text += len + (text[len] != 0);
    }
    return out;
}

static const struct fm_py *at(const struct fm_py *v, const char *path)
{
    char key[64];
    for (size_t n; v && *path; path += n + (path[n] != 0)) {
        n = strcspn(path, ".");
        (void)snprintf(key, sizeof key, "%.*s", (int)n, path);
        v = v->kind == FM_PY_ARRAY ? v->first : fm_py_get(v, key); /* the first of a list, whatever its name */
    }
    return v;
}

static void append(struct fm_buf *b, const struct fm_py *v)
{
    if (v && v->kind == FM_PY_STRING) fm_buf_add(b, v->text.s, v->text.n);
}

static int number(const struct fm_py *v)
{
    char text[32];
    if (!v) return 0;
    assert_int_equal(v->kind, FM_PY_NUMBER);
    (void)snprintf(text, sizeof text, "%.*s", (int)v->text.n, v->text.s);
    return atoi(text);
}

/* ---- the server around it ---- */

static struct fm_engine *served;

static void ask(fm_endpoint_fn endpoint, const char *body, struct fm_web_request *r)
{
    static const struct fm_serve_options options = {0};
    static const struct fm_model_info info = {.family = "deepseek_v3", .dim = 8, .format = "Q4_K"};
    static struct fm_server s;
    s = (struct fm_server){.o = &options,
                           .engine = served,
                           .info = &info,
                           .tok = fm_engine_tokenizer(served),
                           .name = "m",
                           .format = "deepseek-v3.2",
                           .thinks = true,
                           .ledger = -1};
    (void)snprintf(s.fingerprint, sizeof s.fingerprint, "fp_0");
    *r = (struct fm_web_request){.body = body};
    endpoint(&s, r);
}

/* What was written, as a stream of it; ends with NULL. */
static const struct fm_py **written(struct fm_web_request *r, struct fm_py_doc *doc)
{
    assert_int_equal(r->status, 200);
    assert_true(r->ended);
    fm_buf_add(&r->out, "", 1);
    return lines(doc, r->out.data, "data: ");
}

/* Leaves out the events that have this at path. */
static void drop(const struct fm_py **events, const char *path, const char *text)
{
    size_t n = 0;
    for (size_t i = 0; events[i]; i++) {
        const struct fm_py *v = at(events[i], path);
        if (!v || !fm_span_is(v->text, text)) events[n++] = events[i];
    }
    events[n] = NULL;
}

/* Takes the last event away. */
static const struct fm_py *pop(const struct fm_py **events)
{
    size_t n = 0;
    while (events[n]) n++;
    assert_true(n > 0);
    const struct fm_py *last = events[n - 1];
    events[n - 1] = NULL;
    return last;
}

static void compare(const struct fm_py *const *got, const struct fm_py *const *want, const char *const *without)
{
    struct fm_buf ours = {0}, theirs = {0};
    for (int i = 0; got[i]; i++) add_shape(got[i], without, &ours);
    for (int i = 0; want[i]; i++) add_shape(want[i], without, &theirs);
    fm_buf_add(&ours, "", 1);
    fm_buf_add(&theirs, "", 1);
    assert_string_equal(ours.data, theirs.data);
    fm_buf_release(&ours);
    fm_buf_release(&theirs);
}

/* All texts that the events have there, one behind the other, must be the same. */
static void compare_texts(const struct fm_py *const *got, const struct fm_py *const *want, const char *path)
{
    struct fm_buf ours = {0}, theirs = {0};
    for (int i = 0; got[i]; i++) append(&ours, at(got[i], path));
    for (int i = 0; want[i]; i++) append(&theirs, at(want[i], path));
    fm_buf_add(&ours, "", 1);
    fm_buf_add(&theirs, "", 1);
    assert_string_equal(ours.data, theirs.data);
    fm_buf_release(&ours);
    fm_buf_release(&theirs);
}

#define SAYS "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stream\":true,"

/* A call as the model says it: its name and parameters. */
#define CALL(name, parameters)                                                      \
    "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"" name "\">\n" parameters \
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>"
#define PARAMETER(name, is_string, text) \
    "<｜DSML｜parameter name=\"" name "\" string=\"" is_string "\">" text "</｜DSML｜parameter>\n"

/* ---- DeepSeek ---- */

static void deepseek(const char *name, const char *body)
{
    char *recorded = load(name);
    if (!recorded) skip();
    struct fm_py_doc doc = {0};
    struct fm_web_request r;
    const struct fm_py **want = lines(&doc, recorded, ""), *last = NULL;
    static const char dsml[] = CALL("weather", PARAMETER("location", "true", "San Francisco"));
    bool closed = false, thought = false;
    ask(fm_api_chat, body, &r);
    for (int i = 0; want[i]; i++) {
        const struct fm_py *why = at(want[i], "choices.0.delta.reasoning_content"),
                           *content = at(want[i], "choices.0.delta.content"),
                           *calls = at(want[i], "choices.0.delta.tool_calls");
        const bool thinks = why && why->kind == FM_PY_STRING && why->text.n;
        last = want[i];
        if (thinks) say(why->text.s, why->text.n);
        thought |= thinks;
        if (thinks || (!calls && !(content && content->text.n))) continue;
        if (thought && !closed) say("</think>", 8);
        if (calls && !closed) say(dsml, strlen(dsml));
        if (!calls) say(content->text.s, content->text.n);
        closed = true;
    }
    const struct fm_py *usage = fm_py_get(last, "usage");
    const struct fm_request_result result = {
        .end = fm_py_is(at(last, "choices.0.finish_reason"), "length") ? FM_END_LENGTH : FM_END_STOP,
        .prompt_tokens = number(fm_py_get(usage, "prompt_tokens")),
        .cached_tokens = number(fm_py_get(usage, "prompt_cache_hit_tokens")),
        .answer_tokens = number(fm_py_get(usage, "completion_tokens"))};
    asked.on_end(asked.arg, &result);
    assert_true(r.out.len > 14 && !memcmp(r.out.data + r.out.len - 14, "data: [DONE]\n\n", 14));
    const struct fm_py **got = written(&r, &doc);
    compare(got, want, NULL);
    compare_texts(got, want, "choices.0.delta.reasoning_content");
    compare_texts(got, want, "choices.0.delta.content");
    compare_texts(got, want, "choices.0.delta.tool_calls.0.function.arguments");
    const struct fm_py *own = fm_py_get(pop(got), "usage");
    static const char *const counts[] = {"prompt_tokens",
                                         "completion_tokens",
                                         "total_tokens",
                                         "prompt_cache_hit_tokens",
                                         "prompt_cache_miss_tokens",
                                         "prompt_tokens_details.cached_tokens",
                                         "completion_tokens_details.reasoning_tokens"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        assert_int_equal(number(at(own, counts[i])), number(at(usage, counts[i])));
    fm_buf_release(&r.out);
    fm_py_release(&doc);
    free(got);
    free(want);
    free(recorded);
}

static void deepseek_text(void **state)
{
    (void)state;
    deepseek("deepseek/deepseek-text",
             "{" SAYS "\"model\":\"deepseek-chat\",\"stream_options\":{\"include_usage\":true}}");
}

static void deepseek_thinks_and_calls(void **state)
{
    (void)state;
    deepseek(
        "deepseek/deepseek-tool-call",
        "{" SAYS "\"model\":\"deepseek-reasoner\",\"stream_options\":{\"include_usage\":true},\"tools\":[{\"type\":"
        "\"function\",\"function\":{\"name\":\"weather\",\"description\":\"d\",\"parameters\":{\"type\":\"object\","
        "\"properties\":{\"location\":{\"type\":\"string\"}}}}}]}");
}

/* ---- OpenAI: chat ---- */

/* Ours ends as DeepSeek's does: usage in the last chunk, with an empty content, instead of one more without choices. */
static void openai_text(void **state)
{
    static const char *const without[] = {"service_tier", "obfuscation", "?refusal", NULL};
    (void)state;
    char *recorded = load("openai-chat/openai-text");
    if (!recorded) skip();
    struct fm_py_doc doc = {0};
    struct fm_web_request r;
    const struct fm_py **want = lines(&doc, recorded, "");
    ask(fm_api_chat, "{" SAYS "\"model\":\"deepseek-chat\",\"stream_options\":{\"include_usage\":true}}", &r);
    for (int i = 0; want[i]; i++) {
        const struct fm_py *text = at(want[i], "choices.0.delta.content");
        if (text && text->text.n) say(text->text.s, text->text.n);
    }
    const struct fm_py *usage = fm_py_get(pop(want), "usage"), *end = pop(want);
    const struct fm_request_result result = {.end = FM_END_STOP,
                                             .prompt_tokens = number(fm_py_get(usage, "prompt_tokens")),
                                             .answer_tokens = number(fm_py_get(usage, "completion_tokens"))};
    asked.on_end(asked.arg, &result);
    const struct fm_py **got = written(&r, &doc), *last = pop(got);
    compare(got, want, without);
    compare_texts(got, want, "choices.0.delta.content");
    assert_true(fm_py_is(at(end, "choices.0.finish_reason"), "stop"));
    assert_true(fm_py_is(at(last, "choices.0.finish_reason"), "stop"));
    assert_true(fm_py_is(at(last, "choices.0.delta.content"), ""));
    static const char *const counts[] = {"prompt_tokens", "completion_tokens", "total_tokens",
                                         "prompt_tokens_details.cached_tokens"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        assert_non_null(at(usage, counts[i]));
        assert_int_equal(number(at(fm_py_get(last, "usage"), counts[i])), number(at(usage, counts[i])));
    }
    fm_buf_release(&r.out);
    fm_py_release(&doc);
    free(got);
    free(want);
    free(recorded);
}

/* ---- Anthropic ---- */

/* call: as the model says it, where a tool_use block begins.  what: the path of the texts that must be the same. */
static void anthropic(const char *name, const char *call, const char *what)
{
    static const char *const without[] = {"cache_creation", "service_tier", "inference_geo", NULL};
    char *recorded = load(name);
    if (!recorded) skip();
    struct fm_py_doc doc = {0};
    struct fm_web_request r;
    const struct fm_py **want = lines(&doc, recorded, "");
    ask(fm_api_messages, "{" SAYS "\"max_tokens\":100}", &r);
    for (int i = 0; want[i]; i++) {
        const struct fm_py *text = at(want[i], "delta.text");
        if (text) say(text->text.s, text->text.n);
        if (fm_py_is(at(want[i], "content_block.type"), "tool_use")) say(call, strlen(call));
    }
    const struct fm_request_result result = {.end = FM_END_STOP, .prompt_tokens = 12, .answer_tokens = 30};
    asked.on_end(asked.arg, &result);
    const struct fm_py **got = written(&r, &doc);
    drop(want, "type", "ping");
    compare(got, want, without);
    compare_texts(got, want, what);
    compare_texts(got, want, "content_block.name");
    fm_buf_release(&r.out);
    fm_py_release(&doc);
    free(got);
    free(want);
    free(recorded);
}

static void anthropic_text(void **state)
{
    (void)state;
    anthropic("anthropic/anthropic-text", "", "delta.text");
}

static void anthropic_call(void **state)
{
    (void)state;
    anthropic(
        "anthropic/anthropic-json-tool.1",
        CALL("json", PARAMETER("elements", "false",
                               "[{\"location\": \"San Francisco\", \"temperature\": 58, \"condition\": \"sunny\"}]")),
        "delta.partial_json");
}

/* No arguments are "" there and {} with us: both begin as the block's empty input. */
static void anthropic_call_without_arguments(void **state)
{
    (void)state;
    anthropic("anthropic/anthropic-tool-no-args", CALL("updateIssueList", ""), "delta.text");
}

/* ---- OpenAI: responses ---- */

/* Members of a response that it has not with us; usage is there from the end on, never null. */
#define NOT_OURS                                                                                          \
    "?usage", "?user", "service_tier", "background", "?max_tool_calls", "verbosity", "?prompt_cache_key", \
        "?prompt_cache_retention", "?safety_identifier", "top_logprobs", "cache_write_tokens"

/* Every from becomes to, which is not longer. */
static void rename_all(char *s, const char *from, const char *to)
{
    const size_t n = strlen(from), m = strlen(to);
    assert_true(m <= n);
    while ((s = strstr(s, from))) {
        memcpy(s, to, m);
        memmove(s + m, s + n, strlen(s + n) + 1);
    }
}

#define INPUT "\"input\":\"x\",\"stream\":true,\"reasoning\":{\"effort\":\"none\"}"

struct responses {
    char *recorded;
    struct fm_py_doc doc;
    struct fm_web_request r;
    const struct fm_py **want, **got;
};

static void responses_open(struct responses *x, const char *name, const char *body)
{
    *x = (struct responses){.recorded = load(name)};
    if (!x->recorded) skip();
    rename_all(x->recorded, "custom_tool_call", "function_call");
    x->want = lines(&x->doc, x->recorded, "");
    ask(fm_api_responses, body, &x->r);
}

static void responses_end(struct responses *x, const struct fm_request_result *result)
{
    asked.on_end(asked.arg, result);
    fm_buf_add(&x->r.out, "", 1);
    rename_all(x->r.out.data, "function_call_arguments", "function_call_input");
    rename_all(x->r.out.data, "\"arguments\":", "\"input\":");
    x->r.out.len = strlen(x->r.out.data);
    x->got = written(&x->r, &x->doc);
}

static void responses_close(struct responses *x)
{
    fm_buf_release(&x->r.out);
    fm_py_release(&x->doc);
    free(x->got);
    free(x->want);
    free(x->recorded);
}

/* The recording's answer comes in phases, two messages with a search between them: ours is one message.  The recorder kept
 * few members of the response. */
static void responses_text(void **state)
{
    static const char *const without[] = {NOT_OURS,
                                          "phase",
                                          "logprobs",
                                          "error",
                                          "incomplete_details",
                                          "instructions",
                                          "max_output_tokens",
                                          "metadata",
                                          "parallel_tool_calls",
                                          "previous_response_id",
                                          "reasoning",
                                          "store",
                                          "temperature",
                                          "{text",
                                          "tool_choice",
                                          "tools",
                                          "top_p",
                                          "truncation",
                                          NULL};
    (void)state;
    struct responses x;
    responses_open(&x, "openai-responses/openai-phase.1", "{" INPUT "}");
    drop(x.want, "output_index", "2");
    for (int i = 0; x.want[i]; i++) {
        const struct fm_py *text = at(x.want[i], "delta");
        if (text) say(text->text.s, text->text.n);
    }
    responses_end(&x, &(struct fm_request_result){.end = FM_END_STOP, .prompt_tokens = 12, .answer_tokens = 30});
    compare(x.got, x.want, without);
    compare_texts(x.got, x.want, "delta");
    responses_close(&x);
}

/* A custom tool has one text for input; ours are functions with arguments, which end with an event of their own.  The rest
 * must be the same.  This recording has no sequence numbers, and no status of an item that begins. */
static void responses_call(void **state)
{
    static const char *const without[] = {NOT_OURS, "sequence_number", "status", NULL};
    static const char call[] = CALL("write_sql", PARAMETER("query", "true", "SELECT * FROM users WHERE age > 25"));
    (void)state;
    struct responses x;
    responses_open(&x, "openai-responses/openai-custom-tool.1",
                   "{" INPUT ",\"tools\":[{\"type\":\"custom\",\"name\":\"write_sql\",\"description\":\"d\","
                   "\"format\":{\"type\":\"grammar\",\"syntax\":\"regex\",\"definition\":\"SELECT .+\"}}]}");
    say(call, strlen(call));
    responses_end(&x, &(struct fm_request_result){.end = FM_END_STOP, .prompt_tokens = 50, .answer_tokens = 20});
    drop(x.got, "type", "response.function_call_input.done");
    compare(x.got, x.want, without);
    compare_texts(x.got, x.want, "item.name");
    responses_close(&x);
}

/* The service says an event "error" before response.failed, which tells the same; ours does not. */
static void responses_fault(void **state)
{
    static const char *const without[] = {NOT_OURS, NULL};
    (void)state;
    struct responses x;
    responses_open(&x, "openai-responses/openai-error.1", "{" INPUT "}");
    drop(x.want, "type", "error");
    responses_end(
        &x, &(struct fm_request_result){.end = FM_END_FAILED, .error = {.code = FM_ERR_FAILED, .message = "it broke"}});
    compare(x.got, x.want, without);
    responses_close(&x);
}

int main(void)
{
    const char *shared = getenv("FATHOM_SHARED");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deepseek_text),   cmocka_unit_test(deepseek_thinks_and_calls),
        cmocka_unit_test(openai_text),     cmocka_unit_test(anthropic_text),
        cmocka_unit_test(anthropic_call),  cmocka_unit_test(anthropic_call_without_arguments),
        cmocka_unit_test(responses_text),  cmocka_unit_test(responses_call),
        cmocka_unit_test(responses_fault),
    };
    (void)snprintf(folder, sizeof folder, "%s/data/5-conformance/api-streams", shared ? shared : "../shared");
    served = engine((struct fm_engine_options){.model = "models/default.gguf", .ctx = 64});
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fm_engine_close(served);
    return failed;
}
