/* What the server's files share.
 *
 *   web.c ─► router.c ─► api_<dialect>.c ─► ask.c ─► scheduler ─► reply.c ─► api_<dialect>.c ─► web.c
 */
#ifndef FM_SERVER_SERVER_H
#define FM_SERVER_SERVER_H

#include <stdatomic.h>

#include "base/str.h"
#include "fathom_serve.h"
#include "server/keys.h"
#include "server/web.h"

enum { FM_STATUSES = 600 };

/* Ids of the marks around a text with a hole: begin, prefix, hole, suffix, end, and then the model writes what is missing. */
struct fm_fim {
    int32_t begin, hole, end; /* −1: the vocabulary has none that we know   */
    int32_t file;             /* in front of a file's name; −1: there is none */
};

struct fm_server {
    const struct fm_serve_options *o;
    struct fm_engine *engine;
    const struct fm_model_info *info;
    const struct fm_tokenizer *tok;
    struct fm_scheduler *scheduler;
    struct fm_keys *keys; /* NULL: everybody */
    struct fm_kept *kept; /* NULL: none */
    struct fm_web *http;
    int ledger;         /* -1: none */
    const char *name;   /* of the model, as clients see it */
    const char *format; /* chat format, "plain" where the model has none */
    bool thinks;        /* the format knows reasoning                    */
    struct fm_fim fim;  /* how it is asked to fill a hole; none: ids are −1 */
    char fingerprint[24];
    long long started;                             /* Unix time */
    atomic_ullong requests, statuses[FM_STATUSES]; /* answers by status          */
    atomic_bool stopping;                          /* no new work                */
    bool no_files, few_calls;                      /* what the sandbox has taken */
};

/* ---- router.c ---- */

void fm_route(void *server, struct fm_web_request *r);
/* Whose turn it is and whose cache: a digest of r's key, and the user (NULL: none) that the client names. */
void fm_route_put_who(const struct fm_server *s, const struct fm_web_request *r, const char *user, struct fm_buf *out);

/* ---- fim.c ---- */

struct fm_fim fm_fim_find(const struct fm_tokenizer *t);

/* ---- pieces of JSON ---- */

void fm_put_text(struct fm_buf *b, const char *s, size_t n); /* with quotes; n bytes of UTF-8 */
static inline void fm_put_str(struct fm_buf *b, const char *s) { fm_put_text(b, s, __builtin_strlen(s)); }
static inline void fm_put_buf(struct fm_buf *b, const struct fm_buf *text)
{
    fm_put_text(b, text->len ? text->data : "", text->len);
}
/* Reply with b, or 500 when memory was short; releases b. */
void fm_reply_json(struct fm_web_request *r, int status, struct fm_buf *b);

/* ---- endpoints: api_*.c ---- */

struct fm_fault;
typedef void (*fm_endpoint_fn)(struct fm_server *s, struct fm_web_request *r);
void fm_openai_put_fault(struct fm_buf *b, const struct fm_fault *f); /* "error":{…} */
void fm_openai_fault(struct fm_web_request *r, const struct fm_fault *f);
void fm_ollama_fault(struct fm_web_request *r, const struct fm_fault *f);
void fm_anthropic_fault(struct fm_web_request *r, const struct fm_fault *f);

void fm_api_chat(struct fm_server *s, struct fm_web_request *r);
void fm_api_completions(struct fm_server *s, struct fm_web_request *r);
void fm_api_responses(struct fm_server *s, struct fm_web_request *r);
void fm_api_messages(struct fm_server *s, struct fm_web_request *r);
void fm_api_count_tokens(struct fm_server *s, struct fm_web_request *r);
void fm_api_version(struct fm_server *s, struct fm_web_request *r);
void fm_api_tags(struct fm_server *s, struct fm_web_request *r);
void fm_api_show(struct fm_server *s, struct fm_web_request *r);
void fm_api_ollama_chat(struct fm_server *s, struct fm_web_request *r);
void fm_api_generate(struct fm_server *s, struct fm_web_request *r);
void fm_api_root(struct fm_server *s, struct fm_web_request *r);
void fm_api_infill(struct fm_server *s, struct fm_web_request *r);
void fm_api_embed(struct fm_server *s, struct fm_web_request *r);
void fm_api_ollama_embeddings(struct fm_server *s, struct fm_web_request *r);
void fm_api_embeddings(struct fm_server *s, struct fm_web_request *r);
void fm_api_model(struct fm_server *s, struct fm_web_request *r);
void fm_api_models(struct fm_server *s, struct fm_web_request *r);
void fm_api_balance(struct fm_server *s, struct fm_web_request *r);
void fm_api_health(struct fm_server *s, struct fm_web_request *r);
void fm_api_tokenize(struct fm_server *s, struct fm_web_request *r);
void fm_api_detokenize(struct fm_server *s, struct fm_web_request *r);
void fm_api_template(struct fm_server *s, struct fm_web_request *r);
void fm_api_props(struct fm_server *s, struct fm_web_request *r);
void fm_api_slots(struct fm_server *s, struct fm_web_request *r);
void fm_api_metrics(struct fm_server *s, struct fm_web_request *r);

#endif
