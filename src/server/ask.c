/* See ask.h. */
#include "server/ask.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/mem.h"

enum { BIAS_MAX = 1024 };

/* ---- faults ---- */

/* What was cut inside a character, or came from outside, as something that can stand in JSON. */
static void make_valid(char *s)
{
    for (size_t n = strlen(s); n;) {
        int used;
        if (fm_utf8_decode(s, n, &used) < 0) *s = '?';
        s += used;
        n -= (size_t)used;
    }
}

bool fm_fault_set(struct fm_fault *f, int status, const char *param, const char *fmt, ...)
{
    if (f->status) return false;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f->message, sizeof f->message, fmt, ap);
    va_end(ap);
    make_valid(f->message);
    f->status = status;
    f->code = status >= 500 ? "server_error" : "invalid_request_error";
    (void)snprintf(f->param, sizeof f->param, "%s", param ? param : "");
    return false;
}

bool fm_fault_of(struct fm_fault *f, const struct fm_error *err)
{
    const int status = err->code == FM_ERR_USAGE || err->code == FM_ERR_INPUT ? 400
                       : err->code == FM_ERR_MEMORY                           ? 503
                                                                              : 500;
    return fm_fault_set(f, status, NULL, "%s", err->message);
}

/* ---- the body ---- */

void fm_ask_release(struct fm_ask *a)
{
    fm_text_free(a->ids);
    fm_free(a->ends);
    fm_constraint_free(a->bound);
    fm_free(a->bias);
    fm_py_release(&a->doc);
    a->ids = NULL;
    a->ends = NULL;
    a->bias = NULL;
    a->bound = NULL;
}

/* A form of another site cannot send JSON's type: the simplest of attacks end here.  Ollama's users send any type, from programs,
 * which name no origin as browsers do. */
static bool may_be_json(const struct fm_web_request *r)
{
    const char *type = fm_web_header(r, "content-type");
    const bool program = !strncmp(fm_web_path(r), "/api/", 5) && !fm_web_header(r, "origin");
    return program || (type && !strncasecmp(type, "application/json", 16));
}

bool fm_ask_parse(struct fm_ask *a, const struct fm_web_request *r)
{
    struct fm_error err;
    size_t n;
    const char *body = fm_web_body(r, &n);
    a->owner = fm_web_mark(r);
    if (!may_be_json(r)) return fm_fault_set(&a->fault, 415, NULL, "the content type must be application/json");
    if (fm_py_parse(&a->doc, body, n, "the request's body", &a->body, &err)) {
        if (err.code == FM_ERR_MEMORY) return fm_fault_of(&a->fault, &err);
        return fm_fault_set(&a->fault, 400, NULL, "%s", err.message);
    }
    if (a->body->kind != FM_PY_OBJECT)
        return fm_fault_set(&a->fault, 400, NULL, "the request's body is not a JSON object");
    return true;
}

static const struct fm_py *member(const struct fm_ask *a, const char *key)
{
    const struct fm_py *v = fm_py_get(a->body, key);
    return v && v->kind != FM_PY_NULL ? v : NULL;
}

bool fm_ask_text(struct fm_ask *a, const char *key, const char **out)
{
    const struct fm_py *v = member(a, key);
    if (!v) return true;
    if (v->kind != FM_PY_STRING) return fm_fault_set(&a->fault, 400, key, "%s is not a string", key);
    if (memchr(v->text.s, 0, v->text.n)) return fm_fault_set(&a->fault, 400, key, "%s holds a NUL", key);
    char *copy = fm_py_copy(&a->doc, v->text.s, v->text.n);
    if (!copy) return fm_fault_set(&a->fault, 503, NULL, "memory is short");
    *out = copy;
    return true;
}

bool fm_ask_bool(struct fm_ask *a, const char *key, bool *out)
{
    const struct fm_py *v = member(a, key);
    if (!v) return true;
    if (v->kind != FM_PY_TRUE && v->kind != FM_PY_FALSE)
        return fm_fault_set(&a->fault, 400, key, "%s is neither true nor false", key);
    *out = v->kind == FM_PY_TRUE;
    return true;
}

static bool number(struct fm_ask *a, const char *key, double min, double max, double *out, bool *there)
{
    const struct fm_py *v = member(a, key);
    *there = v;
    if (!v) return true;
    char text[64];
    if (v->kind != FM_PY_NUMBER || v->text.n >= sizeof text)
        return fm_fault_set(&a->fault, 400, key, "%s is not a number", key);
    (void)snprintf(text, sizeof text, "%.*s", (int)v->text.n, v->text.s);
    *out = strtod(text, NULL);
    if (*out < min || *out > max)
        return fm_fault_set(&a->fault, 422, key, "%s is %s: it must lie within %.15g and %.15g", key, text, min, max);
    return true;
}

bool fm_ask_int(struct fm_ask *a, const char *key, long long min, long long max, int *out)
{
    double x;
    bool there;
    if (!number(a, key, (double)min, (double)max, &x, &there)) return false;
    if (there && x != (double)(long long)x) return fm_fault_set(&a->fault, 400, key, "%s is not a whole number", key);
    if (there) *out = (int)x;
    return true;
}

bool fm_ask_float(struct fm_ask *a, const char *key, double min, double max, float *out)
{
    double x;
    bool there;
    if (!number(a, key, min, max, &x, &there)) return false;
    if (there) *out = (float)x;
    return true;
}

/* Any whole number is a seed; none given: another one each time. */
static bool read_seed(struct fm_ask *a)
{
    const struct fm_py *v = member(a, "seed");
    if (!v) return getrandom(&a->sampling.seed, sizeof a->sampling.seed, GRND_NONBLOCK) >= 0 || true;
    char text[64];
    if (v->kind != FM_PY_NUMBER || v->text.n >= sizeof text || memchr(v->text.s, '.', v->text.n))
        return fm_fault_set(&a->fault, 400, "seed", "seed is not a whole number");
    (void)snprintf(text, sizeof text, "%.*s", (int)v->text.n, v->text.s);
    a->sampling.seed = *text == '-' ? (uint64_t)strtoll(text, NULL, 10) : strtoull(text, NULL, 10);
    return true;
}

/* {"id": number from -100 to 100, …} */
static bool read_bias(struct fm_ask *a)
{
    const struct fm_py *v = member(a, "logit_bias");
    if (!v || (v->kind == FM_PY_OBJECT && !v->n)) return true;
    if (v->kind != FM_PY_OBJECT || v->n > BIAS_MAX)
        return fm_fault_set(&a->fault, 400, "logit_bias", "logit_bias is no object of at most %d token ids", BIAS_MAX);
    if (!(a->bias = fm_calloc(v->n, sizeof *a->bias))) return fm_fault_set(&a->fault, 503, NULL, "memory is short");
    a->sampling.bias = a->bias;
    for (const struct fm_py *p = v->first; p; p = p->next) {
        char id[16], add[64], *end;
        if (p->kind != FM_PY_NUMBER || p->text.n >= sizeof add || !p->key.n || p->key.n >= sizeof id)
            return fm_fault_set(&a->fault, 400, "logit_bias", "logit_bias holds something else than id: number");
        (void)snprintf(id, sizeof id, "%.*s", (int)p->key.n, p->key.s);
        (void)snprintf(add, sizeof add, "%.*s", (int)p->text.n, p->text.s);
        const long number = strtol(id, &end, 10);
        const float by = strtof(add, NULL);
        if (*end || number < 0 || number > INT32_MAX)
            return fm_fault_set(&a->fault, 400, "logit_bias", "logit_bias: '%s' is no token id", id);
        if (!(by >= -100 && by <= 100))
            return fm_fault_set(&a->fault, 422, "logit_bias", "logit_bias of %s: it must lie within -100 and 100", id);
        a->bias[a->sampling.n_bias++] = (struct fm_bias){(int32_t)number, by};
    }
    return true;
}

bool fm_ask_stops(struct fm_ask *a, const char *key)
{
    const struct fm_py *v = member(a, key), *p;
    if (!v) return true;
    if (v->kind != FM_PY_STRING && v->kind != FM_PY_ARRAY)
        return fm_fault_set(&a->fault, 400, key, "%s is neither a string nor a list of strings", key);
    const bool list = v->kind == FM_PY_ARRAY;
    for (p = list ? v->first : v; p; p = list ? p->next : NULL) {
        if (p->kind != FM_PY_STRING)
            return fm_fault_set(&a->fault, 400, key, "%s holds something that is no string", key);
        if (!p->text.n) continue;
        if (a->n_stop == FM_STOPS_MAX)
            return fm_fault_set(&a->fault, 422, key, "%s has more than %d entries", key, FM_STOPS_MAX);
        if (!(a->stop[a->n_stop++] = fm_py_copy(&a->doc, p->text.s, p->text.n)))
            return fm_fault_set(&a->fault, 503, NULL, "memory is short");
    }
    return true;
}

static bool read_stream(struct fm_ask *a)
{
    const struct fm_py *options = member(a, "stream_options");
    if (!fm_ask_bool(a, "stream", &a->stream)) return false;
    if (!options) return true;
    if (!a->stream) return fm_fault_set(&a->fault, 400, "stream_options", "stream_options needs stream: true");
    const struct fm_py *usage = fm_py_get(options, "include_usage");
    a->include_usage = usage && usage->kind == FM_PY_TRUE;
    return true;
}

/* Clients of all kinds have names hard-coded: only --strict-model insists. */
static bool check_model(struct fm_ask *a, const struct fm_server *s)
{
    if (!fm_ask_text(a, "model", &a->model)) return false;
    if (!s->o->strict_model || (a->model && !strcmp(a->model, s->name))) return true;
    (void)fm_fault_set(&a->fault, 404, "model", "the model '%.100s' does not exist here: this is %s",
                       a->model ? a->model : "", s->name);
    a->fault.code = "model_not_found";
    return false;
}

bool fm_ask_effort(struct fm_ask *a, const char *param, const char *word)
{
    static const struct {
        const char *said, *meant; /* api-and-ux.md §1.2 */
    } efforts[] = {{"none", NULL},   {"minimal", "low"}, {"low", "low"}, {"medium", "high"},
                   {"high", "high"}, {"xhigh", "high"},  {"max", "max"}, {"ultra", "max"}};
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++) {
        if (strcmp(word, efforts[i].said) != 0) continue;
        a->effort = efforts[i].meant;
        if (!a->effort) a->thinking = false;
        return true;
    }
    return fm_fault_set(&a->fault, 400, param, "%s '%.40s' is not known", param, word);
}

void fm_ask_put_effort(const struct fm_ask *a, struct fm_buf *b)
{
    /* no encoding has words for a low one: it thinks, and is told nothing */
    if (!a->effort || !a->thinking || !strcmp(a->effort, "low")) return;
    fm_buf_printf(b, ",\"reasoning_effort\":\"%s\"", a->effort);
}

bool fm_ask_basics(struct fm_ask *a, const struct fm_server *s)
{
    a->sampling = fm_sampling_default();
    a->sampling.temp = 1;
    a->sampling.top_p = 1;
    a->sampling.top_k = 0;
    a->max_tokens = -1;
    a->top = -1;
    return check_model(a, s) && read_stream(a);
}

bool fm_ask_sampling(struct fm_ask *a)
{
    return fm_ask_float(a, "temperature", 0, 2, &a->sampling.temp) &&
           fm_ask_float(a, "top_p", 1e-9, 1, &a->sampling.top_p) &&
           fm_ask_int(a, "top_k", 0, 1 << 30, &a->sampling.top_k) &&
           fm_ask_float(a, "min_p", 0, 1, &a->sampling.min_p) &&
           fm_ask_float(a, "repetition_penalty", 0.01, 100, &a->sampling.repeat) &&
           fm_ask_float(a, "frequency_penalty", -2, 2, &a->sampling.frequency) &&
           fm_ask_float(a, "presence_penalty", -2, 2, &a->sampling.presence) && read_bias(a) &&
           fm_ask_bool(a, "ignore_eos", &a->ignore_end) && read_seed(a) && fm_ask_stops(a, "stop");
}

bool fm_ask_common(struct fm_ask *a, const struct fm_server *s)
{
    return fm_ask_basics(a, s) && fm_ask_sampling(a) && fm_ask_text(a, "user", &a->user) &&
           fm_ask_text(a, "user_id", &a->user);
}

/* ---- the prompt ---- */

bool fm_ask_chat(struct fm_ask *a, const struct fm_server *s, const char *json, size_t n)
{
    struct fm_error err;
    struct fm_buf said = {0};
    if (fm_kept_restore(s->kept, a->owner, json, n, &said)) {
        json = said.data;
        n = said.len;
    }
    const bool ok = !fm_chat_format_encode_ids(s->format, s->tok, json, n, a->thinking, &a->ids, &a->n_ids, &err)
                        ? fm_bind_make(a, s, json, n)
                        : fm_fault_of(&a->fault, &err);
    fm_buf_release(&said);
    return ok;
}

static bool short_of_memory(struct fm_ask *a) { return fm_fault_set(&a->fault, 503, NULL, "memory is short"); }

/* Room for n ids more. */
static bool more_ids(struct fm_ask *a, size_t n)
{
    int32_t *more = fm_realloc(a->ids, (a->n_ids + n + 1) * sizeof *a->ids);
    if (more) a->ids = more;
    return more || short_of_memory(a);
}

static bool add_numbers(struct fm_ask *a, const struct fm_py *list, const char *key)
{
    if (!more_ids(a, list->n)) return false;
    for (const struct fm_py *p = list->first; p; p = p->next) {
        char text[16], *end;
        if (p->kind != FM_PY_NUMBER || p->text.n >= sizeof text)
            return fm_fault_set(&a->fault, 400, key, "%s holds something that is no token id", key);
        (void)snprintf(text, sizeof text, "%.*s", (int)p->text.n, p->text.s);
        const long id = strtol(text, &end, 10);
        if (*end || id < 0 || id > INT32_MAX)
            return fm_fault_set(&a->fault, 400, key, "%s: %s is no token id", key, text);
        a->ids[a->n_ids++] = (int32_t)id;
    }
    return true;
}

bool fm_ask_add_text(struct fm_ask *a, const struct fm_server *s, struct fm_span text, unsigned flags)
{
    struct fm_error err;
    int32_t *ids = NULL;
    size_t n = 0;
    if (fm_text_encode(s->tok, text.s, text.n, flags, &ids, &n, &err)) return fm_fault_of(&a->fault, &err);
    const bool ok = more_ids(a, n);
    if (ok && n) memcpy(a->ids + a->n_ids, ids, n * sizeof *ids);
    if (ok) a->n_ids += n;
    fm_text_free(ids);
    return ok;
}

bool fm_ask_add_id(struct fm_ask *a, int32_t id)
{
    if (!more_ids(a, 1)) return false;
    a->ids[a->n_ids++] = id;
    return true;
}

static bool is_ids(const struct fm_py *v) { return v->kind == FM_PY_ARRAY && v->n && v->first->kind == FM_PY_NUMBER; }

static bool add_prompt(struct fm_ask *a, const struct fm_server *s, const struct fm_py *v, const char *key)
{
    const unsigned flags = FM_TEXT_SPECIAL | (fm_text_adds_bos(s->tok) ? FM_TEXT_BOS : 0);
    if (v->kind == FM_PY_STRING) return fm_ask_add_text(a, s, v->text, flags);
    if (is_ids(v)) return add_numbers(a, v, key);
    return fm_fault_set(&a->fault, 400, key, "%s holds something that is neither a text nor a list of token ids", key);
}

bool fm_ask_prompts(struct fm_ask *a, const struct fm_server *s, const struct fm_py *v, const char *key, int max)
{
    const bool many = v && v->kind == FM_PY_ARRAY && v->n && !is_ids(v);
    if (!v || (v->kind != FM_PY_STRING && v->kind != FM_PY_ARRAY) || (v->kind == FM_PY_ARRAY && !v->n))
        return fm_fault_set(&a->fault, 400, key, "%s is neither a text, nor a list of token ids, nor a list of those",
                            key);
    a->n_prompts = many ? (int)v->n : 1;
    if (many && v->n > (size_t)max)
        return fm_fault_set(&a->fault, 400, key, "%s has %zu entries: at most %d", key, (size_t)v->n, max);
    if (!(a->ends = fm_calloc((size_t)a->n_prompts, sizeof *a->ends))) return short_of_memory(a);
    int i = 0;
    for (const struct fm_py *p = many ? v->first : v; p; p = many ? p->next : NULL) {
        if (!add_prompt(a, s, p, key)) return false;
        a->ends[i++] = a->n_ids;
        if (a->ends[i - 1] == (i > 1 ? a->ends[i - 2] : 0))
            return fm_fault_set(&a->fault, 400, key, "%s: entry %d has no tokens", key, i - 1);
    }
    return true;
}

bool fm_ask_ids(struct fm_ask *a, const struct fm_server *s, const struct fm_py *v, const char *key)
{
    return fm_ask_prompts(a, s, v, key, 1);
}

bool fm_ask_choices(struct fm_ask *a, bool with_best_of)
{
    const int prompts = a->n_prompts ? a->n_prompts : 1, most = FM_CHOICES_MAX / prompts;
    a->n = 1;
    if (!fm_ask_int(a, "n", 1, FM_CHOICES_MAX, &a->n)) return false;
    a->best_of = a->n;
    if (with_best_of && !fm_ask_int(a, "best_of", 1, FM_CHOICES_MAX, &a->best_of)) return false;
    if (a->best_of < a->n) return fm_fault_set(&a->fault, 400, "best_of", "best_of is less than n");
    if (a->best_of > a->n && a->stream)
        return fm_fault_set(&a->fault, 400, "best_of",
                            "best_of above n cannot be streamed: which is best shows at the end");
    if (a->best_of <= most) return true;
    return fm_fault_set(&a->fault, 400, a->best_of > a->n ? "best_of" : "n",
                        "%d choices for each of %d prompts: at most %d in all", a->best_of, prompts, FM_CHOICES_MAX);
}
