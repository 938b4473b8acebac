/* See http.h. */
#include "hub/http.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/mem.h"
#include "hub/hub_impl.h"

/* ---- headers --------------------------------------------------------------------------------------------------- */

void fm_http_reply_reset(struct fm_http_reply *r)
{
    struct fm_buf location = r->location, link = r->link, body = r->body;
    *r = (struct fm_http_reply){.length = -1, .linked_size = -1, .range_begin = -1, .range_size = -1};
    r->location = location;
    r->link = link;
    r->body = body;
    fm_buf_clear(&r->location);
    fm_buf_clear(&r->link);
    fm_buf_clear(&r->body);
}

void fm_http_reply_release(struct fm_http_reply *r)
{
    fm_buf_release(&r->location);
    fm_buf_release(&r->link);
    fm_buf_release(&r->body);
}

/* W/"abc" and "abc" are abc; a name that is none stays empty. */
static void read_etag(const char *v, char out[129])
{
    char text[160];
    if (!strncmp(v, "W/", 2)) v += 2;
    if (*v == '"') v++;
    snprintf(text, sizeof text, "%.*s", (int)strcspn(v, "\""), v);
    if (fm_hub_etag_ok(text)) strcpy(out, text);
}

static int64_t read_size(const char *v)
{
    char *end;
    if (!isdigit((unsigned char)*v)) return -1;
    unsigned long long n = strtoull(v, &end, 10);
    return *end || n > FM_HUB_SIZE_MAX ? -1 : (int64_t)n;
}

static void read_range(const char *v, struct fm_http_reply *r)
{
    unsigned long long begin, end, size;
    if (sscanf(v, "bytes %19llu-%19llu/%19llu", &begin, &end, &size) != 3 || size > FM_HUB_SIZE_MAX || end >= size ||
        begin > end)
        return;
    r->range_begin = (int64_t)begin;
    r->range_size = (int64_t)size;
}

static void take_header(struct fm_http_reply *r, const char *name, const char *v)
{
    if (!strcasecmp(name, "X-Repo-Commit") && fm_hub_is_hex(v, 40)) strcpy(r->commit, v);
    if (!strcasecmp(name, "ETag")) read_etag(v, r->etag);
    if (!strcasecmp(name, "X-Linked-Etag")) read_etag(v, r->linked_etag);
    if (!strcasecmp(name, "X-Linked-Size")) r->linked_size = read_size(v);
    if (!strcasecmp(name, "Content-Length")) r->length = read_size(v);
    if (!strcasecmp(name, "Content-Range")) read_range(v, r);
    if (!strcasecmp(name, "Link")) fm_buf_str(&r->link, v);
    if (!strcasecmp(name, "X-Error-Code")) snprintf(r->error_code, sizeof r->error_code, "%s", v);
    if (!strcasecmp(name, "Retry-After") && isdigit((unsigned char)*v)) r->retry_after = strtod(v, NULL);
}

static size_t on_header(char *data, size_t one, size_t n, void *arg)
{
    struct fm_http_reply *r = arg;
    char line[4096];
    size_t k = n * one;
    if (k >= sizeof line) return k; /* none of ours is that long, but for Location, which libcurl keeps */
    memcpy(line, data, k);
    line[k] = 0;
    if (!strncmp(line, "HTTP/", 5)) { /* an interim reply, or a proxy's, came before */
        struct fm_buf body = r->body;
        fm_http_reply_reset(r);
        r->body = body;
    }
    char *v = strchr(line, ':');
    if (!v) return k;
    *v++ = 0;
    v += strspn(v, " \t");
    for (size_t m = strlen(v); m && isspace((unsigned char)v[m - 1]);) v[--m] = 0;
    take_header(r, line, v);
    return k;
}

/* ---- handles --------------------------------------------------------------------------------------------------- */

enum fm_status fm_http_open(struct fm_http *c, const struct fm_hub *hub, const struct fm_hub_progress *progress,
                            struct fm_error *err)
{
    *c = (struct fm_http){.hub = hub, .progress = progress};
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return fm_fail(err, FM_ERR_FAILED, "reach the hub: libcurl: it cannot start");
    c->multi = curl_multi_init();
    bool safe = fm_url_is_https(hub->endpoint) || fm_url_is_local(hub->endpoint);
    if (hub->token && !safe)
        progress->note(progress->arg, "the access token is not sent: HF_ENDPOINT is not encrypted");
    char *line = hub->token && safe ? fm_hub_text("Authorization: Bearer %s", hub->token) : NULL;
    if (line) c->token = curl_slist_append(NULL, line);
    bool ok = c->multi && (!hub->token || !safe || c->token);
    if (line) explicit_bzero(line, strlen(line));
    fm_free(line);
    if (ok) return FM_OK;
    fm_http_close(c);
    return fm_fail_memory(err, "a connection", 1 << 16);
}

void fm_http_close(struct fm_http *c)
{
    if (c->token) explicit_bzero(c->token->data, strlen(c->token->data));
    curl_slist_free_all(c->token);
    if (c->multi) curl_multi_cleanup(c->multi);
    curl_global_cleanup();
    *c = (struct fm_http){0};
}

void fm_http_aim(struct fm_http *c, CURL *easy, const char *url)
{
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fm_url_same_origin(url, c->hub->endpoint) ? c->token : NULL);
}

CURL *fm_http_handle(struct fm_http *c, const char *url, struct fm_http_reply *r)
{
    CURL *e = curl_easy_init();
    if (!e) return NULL;
    fm_http_aim(c, e, url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                     (long)CURL_HTTP_VERSION_1_1); /* parallel means connections, not streams */
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "fathom/" FM_VERSION);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)c->hub->download_timeout);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)c->hub->download_timeout);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->why);
    const char *certificates = fm_env("SSL_CERT_FILE"); /* OpenSSL's own variable, which libcurl overrides */
    if (certificates) curl_easy_setopt(e, CURLOPT_CAINFO, certificates);
    return e;
}

/* ---- failures that pass ---------------------------------------------------------------------------------------- */

bool fm_http_is_passing(long status) { return status == 408 || status == 429 || status >= 500; }

double fm_http_backoff(int n, const struct fm_http_reply *r)
{
    double s = 0.1 * (double)(1 << 2 * ((n < 6 ? n : 6) - 1)); /* 0.1, 0.4, 1.6, … */
    return r->retry_after > 0 ? r->retry_after : s > 30 ? 30 : s;
}

enum fm_status fm_http_sleep(struct fm_http *c, double seconds)
{
    for (double end = fm_seconds() + seconds; fm_seconds() < end && !*c->progress->stop;) {
        double rest = end - fm_seconds();
        int none;
        curl_multi_poll(c->multi, NULL, 0, rest > 0.1 ? 100 : (int)(rest * 1000) + 1, &none);
    }
    return *c->progress->stop ? FM_ERR_CANCELLED : FM_OK;
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

struct sink {
    struct fm_buf *body;
    size_t limit;
};

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
    struct sink *s = arg;
    if (s->body->len + n * one > s->limit) return 0;
    fm_buf_add(s->body, data, n * one);
    return s->body->failed ? 0 : n;
}

/* One request, no retries. */
static enum fm_status perform(struct fm_http *c, CURL *e, CURLcode *code, struct fm_http_reply *r)
{
    int running = 1;
    *code = CURLE_OK;
    curl_multi_add_handle(c->multi, e);
    while (running && !*c->progress->stop) {
        if (curl_multi_perform(c->multi, &running) || (running && curl_multi_poll(c->multi, NULL, 0, 100, NULL))) {
            *code = CURLE_FAILED_INIT;
            break;
        }
    }
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &(int){0}));)
        if (m->msg == CURLMSG_DONE) *code = m->data.result;
    curl_multi_remove_handle(c->multi, e);
    curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &r->status);
    const char *to = NULL;
    if (!curl_easy_getinfo(e, CURLINFO_REDIRECT_URL, &to) && to) fm_buf_str(&r->location, to);
    return *c->progress->stop ? FM_ERR_CANCELLED : FM_OK;
}

static enum fm_status unreachable(const char *url, const struct fm_http_reply *r, CURLcode code, struct fm_error *err)
{
    char shown[200];
    fm_url_display(url, shown, sizeof shown);
    (void)fm_fail(err, FM_ERR_FAILED, "reach the hub: %s: %s", shown, r->why[0] ? r->why : curl_easy_strerror(code));
    fm_hint(err, "HF_ENDPOINT names a mirror, https_proxy a proxy, HF_HUB_OFFLINE=1 uses only what is in the cache");
    return FM_ERR_FAILED;
}

static void tell_waiting(struct fm_http *c, double seconds, long status)
{
    char line[96];
    snprintf(line, sizeof line, "the hub replied %ld: waiting %.0f s", status, seconds);
    c->progress->note(c->progress->arg, line);
}

/* A request until it has a reply that is not a passing failure. */
static enum fm_status insist(struct fm_http *c, CURL *e, const char *url, struct sink *sink, struct fm_http_reply *r,
                             struct fm_error *err)
{
    for (int n = 1;; n++) {
        CURLcode code;
        fm_http_reply_reset(r);
        FM_TRY(perform(c, e, &code, r));
        bool too_long = code == CURLE_WRITE_ERROR && !sink->body->failed;
        if (sink->body->failed || r->location.failed || r->link.failed)
            return fm_fail_memory(err, "the hub's answer", sink->limit);
        if (too_long)
            return fm_fail(err, FM_ERR_INPUT, "read the hub's answer: %.200s: more than %zu bytes", url, sink->limit);
        if (!code && !fm_http_is_passing(r->status)) return FM_OK;
        int tries = code ? FM_HTTP_QUESTION_TRIES : FM_HTTP_TRIES; /* who has no network wants to know soon */
        if (n >= tries || r->retry_after > FM_HTTP_WAIT_MAX) return code ? unreachable(url, r, code, err) : FM_OK;
        double wait = fm_http_backoff(n, r);
        if (wait >= 2) tell_waiting(c, wait, r->status);
        FM_TRY(fm_http_sleep(c, wait));
    }
}

static enum fm_status refuse_redirect(const char *url, const char *to, const char *why, struct fm_error *err)
{
    char a[120], b[120];
    fm_url_display(url, a, sizeof a);
    fm_url_display(to, b, sizeof b);
    return fm_fail(err, FM_ERR_FAILED, "follow a redirect: %s: to '%s': %s", a, b, why);
}

enum fm_status fm_http_ask(struct fm_http *c, const char *url, bool head, size_t limit, struct fm_http_reply *r,
                           struct fm_error *err)
{
    struct sink sink = {&r->body, limit};
    char *at = fm_strdup(url);
    CURL *e = at ? fm_http_handle(c, at, r) : NULL;
    enum fm_status st = e ? FM_OK : fm_fail_memory(err, "a request", 4096);
    if (e) {
        curl_easy_setopt(e, CURLOPT_NOBODY, head ? 1L : 0L);
        curl_easy_setopt(e, CURLOPT_TIMEOUT, head ? (long)c->hub->etag_timeout : 0L);
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(e, CURLOPT_WRITEDATA, &sink);
    }
    for (int hop = 0; !st; hop++) {
        st = insist(c, e, at, &sink, r, err);
        bool redirect = !st && r->status >= 300 && r->status < 400 && r->location.len;
        if (st || !redirect ||
            (head && (r->linked_etag[0] || r->commit[0]) && !fm_url_same_origin(at, r->location.data)))
            break;
        const char *why = hop == FM_HTTP_HOPS ? "too many of them" : fm_url_refuse(at, r->location.data);
        if (why) {
            st = refuse_redirect(at, r->location.data, why, err);
            break;
        }
        fm_free(at);
        at = fm_strdup(r->location.data);
        if (at)
            fm_http_aim(c, e, at);
        else
            st = fm_fail_memory(err, "an address", r->location.len);
    }
    curl_easy_cleanup(e);
    fm_free(at);
    return st;
}

/* ---- refusals -------------------------------------------------------------------------------------------------- */

static enum fm_status no_access(const struct fm_hub *h, const char *repo, bool gated, struct fm_error *err)
{
    if (gated && h->token)
        (void)fm_fail(err, FM_ERR_INPUT, "ask the hub: %s: it is gated, and this token has no access", repo);
    else if (gated)
        (void)fm_fail(err, FM_ERR_INPUT, "ask the hub: %s: it is gated: only known users may have it", repo);
    else
        (void)fm_fail(err, FM_ERR_INPUT, "ask the hub: %s: no such repository, or a private one%s", repo,
                      h->token ? " that this token cannot see" : "");
    if (gated)
        fm_hint(err, "accept the terms at %.120s/%s, then set HF_TOKEN to an access token of yours", h->endpoint, repo);
    else
        fm_hint(err, "check the name; a private repository needs an access token in HF_TOKEN");
    return FM_ERR_INPUT;
}

enum fm_status fm_http_refused(const struct fm_hub *h, const char *repo, const char *rev, const char *file,
                               const struct fm_http_reply *r, struct fm_error *err)
{
    bool gated = !strcmp(r->error_code, "GatedRepo");
    if (!strcmp(r->error_code, "RevisionNotFound"))
        return fm_fail(err, FM_ERR_INPUT, "ask the hub: %s: it has no branch, tag or commit '%.80s'", repo, rev);
    if (gated || r->status == 401 || r->status == 403 || !strcmp(r->error_code, "RepoNotFound") ||
        (r->status == 404 && !file))
        return no_access(h, repo, gated || (r->status == 403 && !r->error_code[0]), err);
    if (r->status == 404) return fm_fail(err, FM_ERR_INPUT, "ask the hub: %s: it has no file %.200s", repo, file);
    if (r->status == 429) {
        (void)fm_fail(err, FM_ERR_FAILED, "ask the hub: %s: too many requests (429); it asks to wait %.0f s", repo,
                      r->retry_after);
        fm_hint(err, "with an access token in HF_TOKEN more are allowed");
        return FM_ERR_FAILED;
    }
    return fm_fail(err, FM_ERR_FAILED, "ask the hub: %s: %s%sthe server replied %ld", repo, file ? file : "",
                   file ? ": " : "", r->status);
}
