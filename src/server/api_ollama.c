/* Ollama's API, the part that editors and note-takers ask for (api-and-ux.md §2.4): who is there, chat, generate.
 *
 *   {"model":…,"created_at":…,"message":{"role":"assistant","content":"Hel"},"done":false}      a line per piece of text
 *   {… "message":{…,"tool_calls":[{"function":{"name":…,"arguments":{…}}}]},"done":false}       arguments are an object
 *   {… "done":true,"done_reason":"stop","total_duration":…,"eval_count":…}                      durations in nanoseconds
 *
 * generate has "response" and "thinking" where chat has a message. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/reply.h"

#define SPOKEN_VERSION "0.12.6" /* of the API, not of this program: clients demand a least one */

/* ---- faults ---- */

static void write_fault(struct fm_buf *b, const struct fm_fault *f)
{
    fm_buf_str(b, "{\"error\":");
    fm_put_str(b, f->message);
    fm_buf_char(b, '}');
}

void fm_ollama_fault(struct fm_web_request *r, const struct fm_fault *f)
{
    struct fm_buf b = {0};
    write_fault(&b, f);
    fm_reply_json(r, f->status, &b);
}

void fm_ollama_fault_in_stream(struct fm_reply *p, const struct fm_fault *f)
{
    write_fault(&p->out, f);
    fm_buf_char(&p->out, '\n');
}

/* ---- the answer ---- */

static void put_now(struct fm_buf *b)
{
    struct timespec now;
    struct tm tm;
    char text[40];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    fm_buf_printf(b, "\"%s.%06ldZ\"", text, now.tv_nsec / 1000);
}

static void put_head(const struct fm_server *s, struct fm_buf *b)
{
    fm_buf_str(b, "{\"model\":");
    fm_put_str(b, s->name);
    fm_buf_str(b, ",\"created_at\":");
    put_now(b);
}

static struct fm_span span_of(const struct fm_buf *b) { return (struct fm_span){b->data ? b->data : "", b->len}; }

static const struct fm_span none = {"", 0};

static void put_calls(struct fm_reply *p)
{
    struct fm_buf *b = &p->out;
    int i = 0;
    fm_buf_str(b, ",\"tool_calls\":[");
    for (const struct fm_py *c = p->calls->first; c; c = c->next, i++) {
        const struct fm_py *f = fm_py_get(c, "function"), *name = fm_py_get(f, "name"),
                           *args = fm_py_get(f, "arguments");
        char id[80];
        fm_reply_call_id(p, i, id, sizeof id);
        fm_buf_printf(b, "%s{\"id\":\"%s\",\"function\":{\"index\":%d,\"name\":", i ? "," : "", id, i);
        name ? fm_put_text(b, name->text.s, name->text.n) : fm_buf_str(b, "\"\"");
        fm_buf_str(b, ",\"arguments\":");
        args && args->text.n ? fm_buf_add(b, args->text.s, args->text.n)
                             : fm_buf_str(b, "{}"); /* the parser checked it */
        fm_buf_str(b, "}}");
    }
    fm_buf_char(b, ']');
}

static void chat_body(struct fm_reply *p, struct fm_span content, struct fm_span thinking, bool calls)
{
    put_head(p->s, &p->out);
    fm_buf_str(&p->out, ",\"message\":{\"role\":\"assistant\",\"content\":");
    fm_put_text(&p->out, content.s, content.n);
    if (thinking.n) {
        fm_buf_str(&p->out, ",\"thinking\":");
        fm_put_text(&p->out, thinking.s, thinking.n);
    }
    if (calls && p->calls) put_calls(p);
    fm_buf_char(&p->out, '}');
}

static void generate_body(struct fm_reply *p, struct fm_span content, struct fm_span thinking)
{
    put_head(p->s, &p->out);
    fm_buf_str(&p->out, ",\"response\":");
    fm_put_text(&p->out, content.s, content.n);
    if (!thinking.n) return;
    fm_buf_str(&p->out, ",\"thinking\":");
    fm_put_text(&p->out, thinking.s, thinking.n);
}

static long long nanoseconds(double s) { return s > 0 ? llround(s * 1e9) : 0; }

static void put_end(struct fm_reply *p)
{
    const struct fm_request_result *r = &p->result;
    const char *reason = r->end == FM_END_LENGTH ? "length" : r->end == FM_END_STOP ? "stop" : fm_reply_finish(p);
    fm_buf_printf(&p->out,
                  ",\"done\":true,\"done_reason\":\"%s\",\"total_duration\":%lld,\"load_duration\":0,"
                  "\"prompt_eval_count\":%d,\"prompt_eval_duration\":%lld,\"eval_count\":%d,\"eval_duration\":%lld}\n",
                  reason, nanoseconds(fm_seconds() - fm_web_started(p->r)), r->prompt_tokens,
                  nanoseconds(r->prompt_seconds), r->answer_tokens, nanoseconds(r->answer_seconds));
}

static void begin(struct fm_reply *p) { (void)p; }

static void chat_piece(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    const struct fm_span said = {text, n};
    chat_body(p, reasoning ? none : said, reasoning ? said : none, false);
    fm_buf_str(&p->out, ",\"done\":false}\n");
}

static void chat_end(struct fm_reply *p)
{
    if (p->calls) {
        chat_body(p, none, none, true);
        fm_buf_str(&p->out, ",\"done\":false}\n");
    }
    chat_body(p, none, none, false);
    put_end(p);
}

static void chat_whole(struct fm_reply *p)
{
    chat_body(p, span_of(&p->content), span_of(&p->reasoning), true);
    put_end(p);
}

static void generate_piece(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    const struct fm_span said = {text, n};
    generate_body(p, reasoning ? none : said, reasoning ? said : none);
    fm_buf_str(&p->out, ",\"done\":false}\n");
}

static void generate_end(struct fm_reply *p)
{
    generate_body(p, none, none);
    put_end(p);
}

static void generate_whole(struct fm_reply *p)
{
    generate_body(p, span_of(&p->content), span_of(&p->reasoning));
    put_end(p);
}

/* Clients parse each line: a ping is an empty piece. */
#define NDJSON(prefix)                                                                            \
    .type = "application/x-ndjson", .begin = begin, .piece = prefix##_piece, .end = prefix##_end, \
    .whole = prefix##_whole, .fault = fm_ollama_fault, .fault_in_stream = fm_ollama_fault_in_stream
#define CHAT_PING     "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n"
#define GENERATE_PING "{\"response\":\"\",\"done\":false}\n"

static const struct fm_dialect chat = {NDJSON(chat), .ping = CHAT_PING, .chat = true};
static const struct fm_dialect generate = {NDJSON(generate), .ping = GENERATE_PING, .chat = true};
static const struct fm_dialect generate_raw = {NDJSON(generate), .ping = GENERATE_PING, .chat = false};

/* ---- the request ---- */

static bool is_empty(const struct fm_py *v) { return !v || v->kind == FM_PY_NULL || (!v->n && !v->text.n); }

/* options: {temperature, top_k, top_p, min_p, repeat_penalty, seed, stop, num_predict}; others are passed over. */
static bool read_options(struct fm_ask *a)
{
    const struct fm_py *options = fm_py_get(a->body, "options"), *body = a->body;
    if (!options || options->kind == FM_PY_NULL) return fm_ask_sampling(a);
    if (options->kind != FM_PY_OBJECT) return fm_fault_set(&a->fault, 400, "options", "options is not an object");
    a->body = options;
    const bool ok = fm_ask_sampling(a) && fm_ask_float(a, "repeat_penalty", 0.01, 100, &a->sampling.repeat) &&
                    fm_ask_int(a, "num_predict", -2, 1 << 30, &a->max_tokens);
    a->body = body;
    if (a->max_tokens <= 0) a->max_tokens = -1;
    return ok;
}

static bool read_think(struct fm_ask *a, const struct fm_server *s)
{
    const struct fm_py *v = fm_py_get(a->body, "think");
    a->thinking = s->thinks;
    if (!v || v->kind == FM_PY_NULL) return true;
    if (v->kind == FM_PY_FALSE) a->thinking = false;
    if (v->kind == FM_PY_FALSE || v->kind == FM_PY_TRUE) return true;
    if (v->kind != FM_PY_STRING)
        return fm_fault_set(&a->fault, 400, "think", "think is neither true, false nor low, medium, high, max");
    const char *word = fm_py_copy(&a->doc, v->text.s, v->text.n);
    return word ? fm_ask_effort(a, "think", word) : fm_fault_set(&a->fault, 503, NULL, "memory is short");
}

/* What is not there yet is refused, not ignored. */
static bool check_unsupported(struct fm_ask *a)
{
    static const char *const wanting[] = {"images", "template"};
    for (size_t i = 0; i < sizeof wanting / sizeof *wanting; i++)
        if (!is_empty(fm_py_get(a->body, wanting[i])))
            return fm_fault_set(&a->fault, 400, wanting[i], "%s is not supported", wanting[i]);
    return true;
}

static bool read_all(struct fm_ask *a, const struct fm_server *s, const struct fm_web_request *r)
{
    a->stream = true;
    return fm_ask_parse(a, r) && fm_ask_basics(a, s) && read_options(a) && read_think(a, s) && check_unsupported(a) &&
           fm_bind_json(a, fm_py_get(a->body, "format"));
}

static void put_member(struct fm_buf *b, const char *key, const struct fm_py *v)
{
    fm_buf_printf(b, ",\"%s\":", key);
    fm_py_write(b, v, 0);
}

/* thinking is reasoning_content elsewhere; a call's arguments are an object. */
static bool put_message(struct fm_ask *a, struct fm_buf *b, const struct fm_py *m)
{
    const struct fm_py *role = fm_py_get(m, "role"), *content = fm_py_get(m, "content"),
                       *why = fm_py_get(m, "thinking"), *calls = fm_py_get(m, "tool_calls"),
                       *id = fm_py_get(m, "tool_call_id");
    if (!role || role->kind != FM_PY_STRING) return fm_fault_set(&a->fault, 400, "messages", "a message without role");
    if (!is_empty(fm_py_get(m, "images"))) return fm_fault_set(&a->fault, 400, "messages", "images are not supported");
    fm_buf_str(b, b->data[b->len - 1] == '[' ? "{\"role\":" : ",{\"role\":");
    fm_py_write(b, role, 0);
    if (content && content->kind != FM_PY_NULL)
        put_member(b, "content", content);
    else
        fm_buf_str(b, ",\"content\":\"\"");
    if (!is_empty(why)) put_member(b, "reasoning_content", why);
    if (!is_empty(calls)) put_member(b, "tool_calls", calls);
    if (!is_empty(id)) put_member(b, "tool_call_id", id);
    fm_buf_char(b, '}');
    return true;
}

static bool put_chat(struct fm_ask *a, struct fm_buf *b)
{
    const struct fm_py *messages = fm_py_get(a->body, "messages"), *tools = fm_py_get(a->body, "tools");
    if (messages->kind != FM_PY_ARRAY) return fm_fault_set(&a->fault, 400, "messages", "messages is no list");
    for (const struct fm_py *m = messages->first; m; m = m->next)
        if (!put_message(a, b, m)) return false;
    fm_buf_char(b, ']');
    if (!is_empty(tools)) put_member(b, "tools", tools);
    return true;
}

static bool put_prompt(struct fm_ask *a, struct fm_buf *b)
{
    const struct fm_py *prompt = fm_py_get(a->body, "prompt"), *system = fm_py_get(a->body, "system");
    if (prompt->kind != FM_PY_STRING) return fm_fault_set(&a->fault, 400, "prompt", "prompt is not a string");
    if (!is_empty(system)) {
        fm_buf_str(b, "{\"role\":\"system\"");
        put_member(b, "content", system);
        fm_buf_str(b, "},");
    }
    fm_buf_str(b, "{\"role\":\"user\"");
    put_member(b, "content", prompt);
    fm_buf_str(b, "}]");
    return true;
}

static bool encode(struct fm_ask *a, const struct fm_server *s, bool (*put)(struct fm_ask *a, struct fm_buf *b))
{
    struct fm_buf b = {0};
    fm_buf_str(&b, "{\"messages\":[");
    bool ok = b.data && put(a, &b);
    fm_buf_printf(&b, ",\"thinking\":%s", a->thinking ? "true" : "false");
    fm_ask_put_effort(a, &b);
    fm_buf_char(&b, '}');
    if (b.failed) ok = fm_fault_set(&a->fault, 503, NULL, "memory is short");
    if (ok) ok = fm_ask_chat(a, s, b.data, b.len);
    fm_buf_release(&b);
    return ok;
}

/* Nothing to answer: clients ask so in order to have the model loaded, which it is. */
static void reply_loaded(struct fm_server *s, struct fm_web_request *r, const char *body)
{
    struct fm_buf b = {0};
    put_head(s, &b);
    fm_buf_printf(&b, ",%s,\"done\":true,\"done_reason\":\"load\"}\n", body);
    fm_reply_json(r, 200, &b);
}

void fm_api_ollama_chat(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    if (read_all(&a, s, r)) {
        if (is_empty(fm_py_get(a.body, "messages"))) {
            reply_loaded(s, r, "\"message\":{\"role\":\"assistant\",\"content\":\"\"}");
            fm_ask_release(&a);
            return;
        }
        if (encode(&a, s, put_chat)) {
            fm_reply_start(s, r, &chat, &a, "chat-");
            return;
        }
    }
    fm_ollama_fault(r, &a.fault);
    fm_ask_release(&a);
}

static bool read_hole(struct fm_ask *a, const struct fm_server *s, const struct fm_py *prompt,
                      const struct fm_py *suffix)
{
    const bool texts = prompt->kind == FM_PY_STRING && suffix->kind == FM_PY_STRING;
    if (!texts) return fm_fault_set(&a->fault, 400, "suffix", "prompt and suffix are not both strings");
    return fm_ask_hole(a, s, prompt->text, suffix->text);
}

void fm_api_generate(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    bool raw = false;
    if (read_all(&a, s, r) && fm_ask_bool(&a, "raw", &raw)) {
        const struct fm_py *prompt = fm_py_get(a.body, "prompt");
        if (is_empty(prompt)) {
            reply_loaded(s, r, "\"response\":\"\"");
            fm_ask_release(&a);
            return;
        }
        const struct fm_py *suffix = fm_py_get(a.body, "suffix");
        const bool hole = !is_empty(suffix), plain = raw || hole;
        if (plain) a.thinking = false;
        if (hole  ? read_hole(&a, s, prompt, suffix) && fm_bind_make(&a, s, NULL, 0)
            : raw ? fm_ask_ids(&a, s, prompt, "prompt") && fm_bind_make(&a, s, NULL, 0)
                  : encode(&a, s, put_prompt)) {
            fm_reply_start(s, r, plain ? &generate_raw : &generate, &a, "gen-");
            return;
        }
    }
    fm_ollama_fault(r, &a.fault);
    fm_ask_release(&a);
}

/* ---- who is there ---- */

void fm_api_version(struct fm_server *s, struct fm_web_request *r)
{
    static const char body[] = "{\"version\":\"" SPOKEN_VERSION "\"}";
    (void)s;
    fm_web_reply(r, 200, "application/json", body, sizeof body - 1);
}

/* "671.0B" */
static void put_count(struct fm_buf *b, int64_t n)
{
    const double x = (double)n;
    if (n >= 1000 * 1000 * 1000)
        fm_buf_printf(b, "\"%.1fB\"", x / 1e9);
    else
        fm_buf_printf(b, "\"%.2fM\"", x / 1e6);
}

static void put_details(const struct fm_server *s, struct fm_buf *b)
{
    fm_buf_str(b, "\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":");
    fm_put_str(b, s->info->family);
    fm_buf_str(b, ",\"families\":[");
    fm_put_str(b, s->info->family);
    fm_buf_str(b, "],\"parameter_size\":");
    put_count(b, s->info->params_total);
    fm_buf_str(b, ",\"quantization_level\":");
    fm_put_str(b, s->info->format);
    fm_buf_char(b, '}');
}

static void put_started(const struct fm_server *s, struct fm_buf *b)
{
    const time_t at = (time_t)s->started;
    struct tm tm;
    char text[40];
    (void)gmtime_r(&at, &tm);
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    fm_buf_printf(b, "\"modified_at\":\"%s\"", text);
}

void fm_api_tags(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_buf b = {0};
    fm_buf_str(&b, "{\"models\":[{\"name\":");
    fm_put_str(&b, s->name);
    fm_buf_str(&b, ",\"model\":");
    fm_put_str(&b, s->name);
    fm_buf_char(&b, ',');
    put_started(s, &b);
    fm_buf_printf(&b, ",\"size\":%llu,\"digest\":\"\",", (unsigned long long)s->info->file_bytes);
    put_details(s, &b);
    fm_buf_str(&b, "}]}");
    fm_reply_json(r, 200, &b);
}

/* Whether the chat format has words for tools: one is handed to it. */
static bool takes_tools(const struct fm_server *s)
{
    static const char probe[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\",\"function\":"
        "{\"name\":\"probe_of_tools\",\"description\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]}";
    struct fm_error err;
    char *text = NULL;
    size_t n = 0;
    const bool ok = !fm_chat_format_encode(s->format, probe, sizeof probe - 1, false, &text, &n, &err) &&
                    strstr(text, "probe_of_tools");
    fm_text_free(text);
    return ok;
}

void fm_api_show(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    struct fm_scheduler_stats st;
    struct fm_buf b = {0};
    if (!fm_ask_parse(&a, r) || !fm_ask_basics(&a, s)) {
        fm_ollama_fault(r, &a.fault);
        fm_ask_release(&a);
        return;
    }
    fm_scheduler_stats(s->scheduler, &st);
    fm_buf_str(&b, "{\"modelfile\":\"\",\"parameters\":\"\",\"template\":\"\",");
    put_started(s, &b);
    fm_buf_char(&b, ',');
    put_details(s, &b);
    fm_buf_str(&b, ",\"model_info\":{\"general.architecture\":");
    fm_put_str(&b, s->info->family);
    fm_buf_printf(&b, ",\"general.parameter_count\":%lld,\"%s.context_length\":%d,\"%s.embedding_length\":%d,",
                  (long long)s->info->params_total, s->info->family, st.ctx, s->info->family, s->info->dim);
    fm_buf_printf(&b, "\"%s.block_count\":%d},\"capabilities\":[\"completion\"%s%s]}", s->info->family,
                  s->info->n_layers, takes_tools(s) ? ",\"tools\"" : "", s->thinks ? ",\"thinking\"" : "");
    fm_reply_json(r, 200, &b);
    fm_ask_release(&a);
}
