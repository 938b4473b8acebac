/* What a client asks for, read once and checked, whatever its dialect.
 *
 *   body (JSON) ─► fm_py tree ─► ask: prompt ids, sampling, limits ─► scheduler
 *
 * A fault is an HTTP status with a message and the parameter's name; each dialect gives it its own shape. */
#ifndef FM_SERVER_ASK_H
#define FM_SERVER_ASK_H

#include "base/pyjson.h"
#include "fathom_serve.h"
#include "server/kept.h"
#include "server/server.h"

struct fm_fault {
    int status;       /* 0: none */
    const char *code; /* "invalid_request_error", … */
    char message[512];
    char param[64]; /* empty: null */
};

/* Fills f unless it is filled; returns false. */
bool fm_fault_set(struct fm_fault *f, int status, const char *param, const char *fmt, ...) FM_PRINTF(4, 5);
/* The status of an engine's failure: 400 for usage and input, 503 for memory, 500 else. */
bool fm_fault_of(struct fm_fault *f, const struct fm_error *err);

enum { FM_STOPS_MAX = 16, FM_CHOICES_MAX = 128 };

struct fm_ask {
    struct fm_py_doc doc; /* owns every text below */
    const struct fm_py *body;
    struct fm_fault fault;
    int owner;         /* its key's index, −1: none */
    const char *model; /* as the client said it */
    bool stream, include_usage;
    bool thinking; /* of a chat: reason first */
    const char *effort;
    int32_t *ids; /* of the prompt: fm_text_free */
    size_t n_ids;
    size_t *ends; /* NULL: one prompt; else ids holds n_prompts of them, each from the end of the one before */
    int n_prompts;
    int n, best_of; /* choices of a prompt that go out, and that are made; 0: 1 */
    struct fm_sampling sampling;
    struct fm_bias *bias; /* sampling's */
    int max_tokens;       /* −1: all that fits */
    const char *stop[FM_STOPS_MAX];
    int n_stop;
    int top; /* as fm_request_options */
    bool echo, ignore_end;
    const char *user;
    enum fm_constraint_kind bind_kind; /* what bind_text[n] is, see bound.c */
    const char *bind_text;             /* NULL: the answer is free         */
    size_t n_bind;
    const char *bind_param;
    enum fm_tool_choice tool_choice;
    const char *tool; /* NULL, or the one that has to be called */
    struct fm_constraint *bound;
};

void fm_ask_release(struct fm_ask *a);
/* Parse the body: an object. */
bool fm_ask_parse(struct fm_ask *a, const struct fm_web_request *r);

/* Typed members; a missing or null one leaves *out.  false: a fault is set. */
bool fm_ask_text(struct fm_ask *a, const char *key, const char **out);
bool fm_ask_bool(struct fm_ask *a, const char *key, bool *out);
bool fm_ask_int(struct fm_ask *a, const char *key, long long min, long long max, int *out);
bool fm_ask_float(struct fm_ask *a, const char *key, double min, double max, float *out);
/* model, stream, stream_options, temperature, top_p, stop, seed, top_k, min_p, max_tokens, user_id: what the OpenAI dialects
 * share. */
bool fm_ask_common(struct fm_ask *a, const struct fm_server *s);
/* Its parts: defaults, model and stream; and how to sample, of a->body as it is at the call. */
bool fm_ask_basics(struct fm_ask *a, const struct fm_server *s);
bool fm_ask_sampling(struct fm_ask *a);
/* How hard to think: sets effort, and thinking to false for "none". */
bool fm_ask_effort(struct fm_ask *a, const char *param, const char *word);
/* The member of chat-encode's object that says it, where there is something to say. */
void fm_ask_put_effort(const struct fm_ask *a, struct fm_buf *b);
/* stop: a string or a list. */
bool fm_ask_stops(struct fm_ask *a, const char *key);

/* ---- bound.c: what the answer is bound to ---- */

/* response_format, or text.format: type text, json_object, json_schema.  param: names it in faults. */
bool fm_bind_format(struct fm_ask *a, const struct fm_py *format, const char *param);
/* Ollama's: "json" or a schema. */
bool fm_bind_json(struct fm_ask *a, const struct fm_py *format);
/* grammar: GBNF. */
bool fm_bind_grammar(struct fm_ask *a);
/* tool_choice: "auto", "none", "required", Anthropic's {"type": "any"}, or one function by name. */
bool fm_bind_tools(struct fm_ask *a);
/* Makes what these said to a constraint.  json[n]: the prompt in chat-encode's shape, for its tools; NULL: none. */
bool fm_bind_make(struct fm_ask *a, const struct fm_server *s, const char *json, size_t n);

/* The prompt of messages[n] in chat-encode's shape; binds the answer. */
bool fm_ask_chat(struct fm_ask *a, const struct fm_server *s, const char *json, size_t n);
bool fm_ask_ids(struct fm_ask *a, const struct fm_server *s, const struct fm_py *prompt, const char *key);
/* The same, or a list of up to max texts or lists of ids: sets n_prompts and ends. */
bool fm_ask_prompts(struct fm_ask *a, const struct fm_server *s, const struct fm_py *prompts, const char *key, int max);
/* More ids behind those of the prompt. */
bool fm_ask_add_text(struct fm_ask *a, const struct fm_server *s, struct fm_span text, unsigned flags);
bool fm_ask_add_id(struct fm_ask *a, int32_t id);
/* The token that begins every text, where there is one and the prompt is empty. */
bool fm_ask_add_first(struct fm_ask *a, const struct fm_server *s);
/* What belongs between prefix and suffix, both texts: their ids with the model's marks, behind what the prompt has.  fim.c */
bool fm_ask_hole(struct fm_ask *a, const struct fm_server *s, struct fm_span prefix, struct fm_span suffix);
/* n, and best_of where the route has it: 1 … FM_CHOICES_MAX for all prompts together. */
bool fm_ask_choices(struct fm_ask *a, bool with_best_of);

#endif
