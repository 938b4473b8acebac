/* Which request goes where, and who may ask.
 *
 *   /anthropic/v1/messages ─► prefixes off ─► row of the table ─► Host, Origin, key ─► endpoint
 *
 * Prefixes: each of /v1, /beta, /anthropic is a base URL that some client has hard-coded (api-and-ux.md §0). */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/sha256.h"
#include "server/ask.h"

enum { OPEN = 1, ANTHROPIC = 2, OLLAMA = 4, ROOT = 8, TAIL = 16 };

static const struct route {
    const char *method, *path;
    fm_endpoint_fn run;
    unsigned
        flags; /* OPEN: without a key; ANTHROPIC, OLLAMA: faults in that shape; ROOT: without prefixes only; TAIL: more
                       follows path */
} routes[] = {
    {"POST", "/chat/completions", fm_api_chat, 0},
    {"POST", "/completions", fm_api_completions, 0},
    {"POST", "/responses", fm_api_responses, 0},
    {"POST", "/messages", fm_api_messages, ANTHROPIC},
    {"POST", "/messages/count_tokens", fm_api_count_tokens, ANTHROPIC},
    {"POST", "/embeddings", fm_api_embeddings, 0},
    {"POST", "/infill", fm_api_infill, 0},
    {"GET", "/models", fm_api_models, 0},
    {"GET", "/models/", fm_api_model, TAIL},
    {"GET", "/user/balance", fm_api_balance, 0},
    {"POST", "/tokenize", fm_api_tokenize, 0},
    {"POST", "/detokenize", fm_api_detokenize, 0},
    {"POST", "/apply-template", fm_api_template, 0},
    {"GET", "/props", fm_api_props, 0},
    {"GET", "/slots", fm_api_slots, 0},
    {"GET", "/metrics", fm_api_metrics, 0},
    {"GET", "/health", fm_api_health, OPEN},
    {"GET", "/", fm_api_root, OPEN | ROOT},
    {"GET", "/api/version", fm_api_version, OLLAMA | ROOT},
    {"GET", "/api/tags", fm_api_tags, OLLAMA | ROOT},
    {"POST", "/api/show", fm_api_show, OLLAMA | ROOT},
    {"POST", "/api/chat", fm_api_ollama_chat, OLLAMA | ROOT},
    {"POST", "/api/generate", fm_api_generate, OLLAMA | ROOT},
    {"POST", "/api/embed", fm_api_embed, OLLAMA | ROOT},
    {"POST", "/api/embeddings", fm_api_ollama_embeddings, OLLAMA | ROOT},
};
enum { N_ROUTES = sizeof routes / sizeof *routes };

static const char *strip_prefixes(const char *path)
{
    static const char *const prefixes[] = {"/anthropic", "/beta", "/v1"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t n = strlen(prefixes[i]);
        if (!strncmp(path, prefixes[i], n) && path[n] == '/') path += n;
    }
    return path;
}

/* ---- who asks ---- */

/* A name that can only mean this machine: with DNS rebinding a foreign page reaches us under its own name. */
static bool is_own_name(const char *host, const char *bound)
{
    static const char *const own[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *colon = *host == '[' ? strchr(host, ']') : NULL;
    const size_t n = colon ? (size_t)(colon + 1 - host) : strcspn(host, ":");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strlen(own[i]) == n && !strncasecmp(host, own[i], n)) return true;
    return strlen(bound) == n && !strncasecmp(host, bound, n);
}

static bool origin_listed(const struct fm_server *s, const char *origin)
{
    for (int i = 0; i < s->o->n_origins; i++)
        if (!strcmp(s->o->origins[i], "*") || !strcmp(s->o->origins[i], origin)) return true;
    return false;
}

static bool origin_allowed(const struct fm_server *s, const char *origin)
{
    const char *host = strstr(origin, "://");
    return origin_listed(s, origin) || (host && is_own_name(host + 3, s->o->host));
}

static const char *key_of(const struct fm_web_request *r)
{
    const char *bearer = fm_web_header(r, "authorization");
    return bearer && !strncasecmp(bearer, "Bearer ", 7) ? bearer + 7 : fm_web_header(r, "x-api-key");
}

void fm_route_put_who(const struct fm_server *s, const struct fm_web_request *r, const char *user, struct fm_buf *out)
{
    const char *key = s->keys ? key_of(r) : NULL;
    struct fm_sha256 sha;
    uint8_t digest[FM_SHA256_BYTES];
    fm_sha256_init(&sha);
    if (key) fm_sha256_add(&sha, key, strlen(key));
    fm_sha256_end(&sha, digest);
    for (int i = 0; key && i < FM_SHA256_BYTES; i++) fm_buf_printf(out, "%02x", digest[i]);
    fm_buf_char(out, '/');
    fm_buf_str(out, user ? user : "");
}

/* With keys a foreign page has no way in, and proxies bring names of their own: then only a list of names is held to. */
static bool host_allowed(const struct fm_server *s, const char *host)
{
    if (!host || (s->keys && !s->o->n_hosts) || is_own_name(host, s->o->host)) return true;
    for (int i = 0; i < s->o->n_hosts; i++)
        if (!strcasecmp(host, s->o->hosts[i]) || is_own_name(host, s->o->hosts[i])) return true;
    return false;
}

/* A key's limits hold for all that computes; done() in serve.c ends what begins here. */
static bool within_limits(struct fm_server *s, struct fm_web_request *r, int key, struct fm_fault *f)
{
    char seconds[16];
    int retry;
    fm_web_set_mark(r, key);
    if (fm_keys_enter(s->keys, key, s->name, fm_web_started(r), f, &retry)) return true;
    (void)snprintf(seconds, sizeof seconds, "%d", retry);
    if (retry) fm_web_set_header(r, "Retry-After", seconds);
    return false;
}

static bool may_ask(struct fm_server *s, struct fm_web_request *r, const struct route *at, struct fm_fault *f)
{
    const char *origin = fm_web_header(r, "origin"), *text = key_of(r);
    if (!host_allowed(s, fm_web_header(r, "host")))
        return fm_fault_set(f, 403, NULL, "the Host header names another machine (--allowed-host)");
    if (origin && !origin_allowed(s, origin))
        return fm_fault_set(f, 403, NULL, "this origin is not allowed (--cors-origin)");
    if (at->flags & OPEN) return true;
    const int key = s->keys && text ? fm_keys_find(s->keys, text) : -1;
    if (s->keys && key < 0) {
        (void)fm_fault_set(f, 401, NULL, "the API key is missing or not known");
        f->code = "authentication_error";
        return false;
    }
    if (strcmp(at->method, "POST") != 0) return true;
    if (atomic_load(&s->stopping)) {
        fm_web_set_header(r, "Retry-After", "5");
        fm_web_set_header(r, "Connection", "close");
        return fm_fault_set(f, 503, NULL, "the server is shutting down");
    }
    return !s->keys || within_limits(s, r, key, f);
}

/* ---- cross-origin ---- */

static bool allow_origin(const struct fm_server *s, struct fm_web_request *r)
{
    const char *origin = fm_web_header(r, "origin");
    if (!origin || !origin_allowed(s, origin)) return false;
    fm_web_set_header(r, "Access-Control-Allow-Origin", origin);
    fm_web_set_header(r, "Vary", "Origin");
    return true;
}

/* Clients send headers of their own (x-stainless-…): a page that may ask may send any. */
static void preflight(const struct fm_server *s, struct fm_web_request *r)
{
    const char *asked = fm_web_header(r, "access-control-request-headers");
    if (allow_origin(s, r)) {
        fm_web_set_header(r, "Access-Control-Allow-Methods", "GET, POST");
        if (asked && *asked) fm_web_set_header(r, "Access-Control-Allow-Headers", asked);
    }
    fm_web_reply(r, 204, "text/plain", "", 0);
}

/* ---- routing ---- */

static void not_found(struct fm_web_request *r, const char *path, const char *methods)
{
    struct fm_fault f = {0};
    if (*methods) {
        fm_web_set_header(r, "Allow", methods);
        (void)fm_fault_set(&f, 405, NULL, "%.100s takes %s", path, methods);
    } else {
        (void)fm_fault_set(&f, 404, NULL, "there is no %.200s here", path);
    }
    f.code = *methods ? "method_not_allowed" : "not_found";
    fm_openai_fault(r, &f);
}

static void fault_in_shape(struct fm_web_request *r, const struct route *at, const struct fm_fault *f)
{
    (at->flags & ANTHROPIC ? fm_anthropic_fault : at->flags & OLLAMA ? fm_ollama_fault : fm_openai_fault)(r, f);
}

static bool is_at(const struct route *at, const char *path)
{
    const size_t n = strlen(at->path);
    return at->flags & TAIL ? !strncmp(path, at->path, n) && path[n] : !strcmp(path, at->path);
}

void fm_route(void *server, struct fm_web_request *r)
{
    struct fm_server *s = server;
    const char *path = strip_prefixes(fm_web_path(r)), *methods = "", *method = fm_web_method(r);
    struct fm_fault f = {0};
    atomic_fetch_add(&s->requests, 1);
    if (!strcmp(method, "OPTIONS")) {
        preflight(s, r);
        return;
    }
    for (int i = 0; i < N_ROUTES; i++) {
        if (!is_at(&routes[i], routes[i].flags & ROOT ? fm_web_path(r) : path)) continue;
        methods = routes[i].method;
        if (strcmp(method, methods) != 0 && !(!strcmp(method, "HEAD") && !strcmp(methods, "GET"))) continue;
        if (!may_ask(s, r, &routes[i], &f)) {
            fault_in_shape(r, &routes[i], &f);
            return;
        }
        (void)allow_origin(s, r);
        routes[i].run(s, r);
        return;
    }
    not_found(r, path, methods);
}
