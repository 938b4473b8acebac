/* See web.h.
 *
 *   MHD's threads   read requests, call the handler, take bytes out of the answer's buffer
 *   any thread      puts bytes into that buffer and wakes the connection
 *   the watcher     epoll for hang-ups, and twice a second: pings, and connections that are too slow
 *
 * Locks: a request's own, for its answer; the server's, for the list.  The server's is taken first. */
#include "server/web.h"

#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

enum {
    CONNECTIONS = 4096,
    BODY_MAX = 48 << 20, /* as DeepSeek's platform */
    IDLE_SECONDS = 75,
    BODY_SECONDS = 30,
    BODY_RATE = 64 << 10, /* bytes that buy a second more        */
    BODIES = 8,           /* of the largest size, held at once  */
    PING_SECONDS = 10,
    POOL_BYTES = 8 << 10,  /* of a connection: its headers must fit; bodies have their own buffer */
    HEADERS_MAX = 8,       /* of an answer */
    BUFFER_MAX = 64 << 20, /* of an answer nobody fetches: then the client counts as gone */
};

struct pair {
    char *name, *value;
};

/* What is owed by a client that has no answer under way: a head within idle_seconds of its connection or last answer, then
 * a body.  However slowly bytes drip, the time is the same. */
struct connection {
    struct connection *next, *prev;
    int fd;
    uint64_t id;
    double deadline;          /* 0: nothing is owed     */
    bool hung_up;             /* its client did         */
    struct fm_web_request *r; /* NULL: between requests */
};

struct fm_web_request {
    struct fm_web *h;
    struct fm_web_request *next, *prev;
    struct MHD_Connection *c; /* NULL: completed */
    atomic_int holds;
    char *method, *path;
    char id[40];
    double started;
    struct connection *connection;
    struct fm_buf body;
    size_t counted; /* of body, in the server's sum */
    int refused;    /* 0, or the status of a body that is not taken */
    bool handled;
    int mark;                                        /* the handler's, for done */
    int prompt_tokens, cached_tokens, answer_tokens; /* for the log             */

    pthread_mutex_t lock;
    struct pair headers[HEADERS_MAX];
    int n_headers;
    int status;       /* 0: not answered */
    bool streaming;   /* begun */
    bool queued;      /* the library has the answer */
    bool suspended;   /* the connection sleeps */
    bool ended, gone; /* the answer is complete; the client is not there any more */
    const char *type, *ping, *late;
    struct fm_buf out; /* bytes to send, from out_at on */
    size_t out_at;
    double last_write;
    void (*on_close)(void *arg);
    void *on_close_arg;
};

struct fm_web {
    struct fm_web_options o;
    struct MHD_Daemon *d;
    int epoll, listening;
    pthread_t watcher;
    bool has_watcher;
    atomic_bool closing;
    pthread_mutex_t lock;
    struct fm_web_request *first; /* with a live connection */
    struct connection *connections;
    size_t body_bytes; /* of all requests */
    int n_active;
    atomic_ullong counter;
    uint64_t salt;
};

/* ---- requests ---- */

void fm_web_hold(struct fm_web_request *r) { atomic_fetch_add(&r->holds, 1); }

void fm_web_drop(struct fm_web_request *r)
{
    if (!r || atomic_fetch_sub(&r->holds, 1) != 1) return;
    for (int i = 0; i < r->n_headers; i++) {
        fm_free(r->headers[i].name);
        fm_free(r->headers[i].value);
    }
    (void)pthread_mutex_destroy(&r->lock);
    fm_buf_release(&r->body);
    fm_buf_release(&r->out);
    fm_free(r->method);
    fm_free(r->path);
    fm_free(r);
}

static struct connection *connection_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void owe(struct fm_web *h, struct fm_web_request *r, double deadline)
{
    (void)pthread_mutex_lock(&h->lock);
    r->connection->deadline = deadline;
    (void)pthread_mutex_unlock(&h->lock);
}

/* The library reads by edges: where a client's last bytes and its end come together it may never look at the end, and keep
 * the connection until its time is over.  So the watcher looks at every connection, with and without a request, and makes
 * new edges until it is closed. */
static void watch_end(struct fm_web *h, struct connection *k)
{
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = k->id};
    if (epoll_ctl(h->epoll, EPOLL_CTL_MOD, k->fd, &ev)) (void)!epoll_ctl(h->epoll, EPOLL_CTL_ADD, k->fd, &ev);
}

static struct fm_web_request *request_new(struct fm_web *h, struct MHD_Connection *c, const char *path,
                                          const char *method)
{
    struct connection *k = connection_of(c); /* NULL: memory was short when it began */
    struct fm_web_request *r = k ? fm_calloc(1, sizeof *r) : NULL;
    if (!r) return NULL;
    r->h = h;
    r->c = c;
    r->holds = 1;
    r->mark = -1;
    r->method = fm_strdup(method);
    r->path = fm_strdup(path);
    r->started = r->last_write = fm_seconds();
    (void)snprintf(r->id, sizeof r->id, "%016llx%08llx", (unsigned long long)h->salt,
                   (unsigned long long)atomic_fetch_add(&h->counter, 1));
    if (!r->method || !r->path || pthread_mutex_init(&r->lock, NULL)) {
        fm_free(r->method);
        fm_free(r->path);
        fm_free(r);
        return NULL;
    }
    r->connection = k;
    (void)pthread_mutex_lock(&h->lock);
    k->r = r;
    r->next = h->first;
    if (h->first) h->first->prev = r;
    h->first = r;
    h->n_active++;
    (void)pthread_mutex_unlock(&h->lock);
    watch_end(h, k);
    return r;
}

const char *fm_web_method(const struct fm_web_request *r) { return r->method; }
const char *fm_web_path(const struct fm_web_request *r) { return r->path; }
const char *fm_web_id(const struct fm_web_request *r) { return r->id; }
double fm_web_started(const struct fm_web_request *r) { return r->started; }
void fm_web_set_mark(struct fm_web_request *r, int mark) { r->mark = mark; }
int fm_web_mark(const struct fm_web_request *r) { return r->mark; }

const char *fm_web_header(const struct fm_web_request *r, const char *name)
{
    return r->c ? MHD_lookup_connection_value(r->c, MHD_HEADER_KIND, name) : NULL;
}

const char *fm_web_query(const struct fm_web_request *r, const char *name)
{
    return r->c ? MHD_lookup_connection_value(r->c, MHD_GET_ARGUMENT_KIND, name) : NULL;
}

const char *fm_web_body(const struct fm_web_request *r, size_t *n)
{
    *n = r->body.len;
    return r->body.data ? r->body.data : "";
}

/* ---- the end of a client ---- */

static void mark_gone(struct fm_web_request *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->gone = true;
    if (r->on_close && !r->ended) r->on_close(r->on_close_arg);
    r->on_close = NULL;
    if (r->suspended && r->c) {
        r->suspended = false;
        MHD_resume_connection(r->c);
    }
    (void)pthread_mutex_unlock(&r->lock);
}

void fm_web_on_close(struct fm_web_request *r, void (*fn)(void *arg), void *arg)
{
    (void)pthread_mutex_lock(&r->lock);
    r->on_close = r->gone ? NULL : fn;
    r->on_close_arg = arg;
    if (r->gone && !r->ended && fn) fn(arg);
    (void)pthread_mutex_unlock(&r->lock);
}

/* ---- answers ---- */

static void wake(struct fm_web_request *r) /* under its lock */
{
    if (!r->suspended || !r->c) return;
    r->suspended = false;
    MHD_resume_connection(r->c);
}

void fm_web_set_header(struct fm_web_request *r, const char *name, const char *value)
{
    (void)pthread_mutex_lock(&r->lock);
    if (r->n_headers < HEADERS_MAX && !r->status) {
        struct pair p = {fm_strdup(name), fm_strdup(value)};
        if (p.name && p.value) {
            r->headers[r->n_headers++] = p;
        } else {
            fm_free(p.name);
            fm_free(p.value);
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
}

static void start(struct fm_web_request *r, int status, const char *type, const char *ping, bool streaming)
{
    r->status = status;
    r->type = type;
    r->ping = ping;
    r->streaming = streaming;
    r->last_write = fm_seconds();
}

void fm_web_reply(struct fm_web_request *r, int status, const char *type, const char *body, size_t n)
{
    (void)pthread_mutex_lock(&r->lock);
    if (!r->status) {
        start(r, status, type, "", false);
        fm_buf_add(&r->out, body, n);
        if (r->out.failed) r->status = 500;
        r->ended = true;
        wake(r);
    }
    (void)pthread_mutex_unlock(&r->lock);
}

void fm_web_begin(struct fm_web_request *r, int status, const char *type, const char *ping)
{
    (void)pthread_mutex_lock(&r->lock);
    if (!r->status) {
        start(r, status, type, ping, true);
        wake(r);
    }
    (void)pthread_mutex_unlock(&r->lock);
}

void fm_web_begin_late(struct fm_web_request *r, const char *type)
{
    (void)pthread_mutex_lock(&r->lock);
    r->late = type;
    (void)pthread_mutex_unlock(&r->lock);
}

bool fm_web_has_begun(struct fm_web_request *r)
{
    (void)pthread_mutex_lock(&r->lock);
    const bool begun = r->streaming;
    (void)pthread_mutex_unlock(&r->lock);
    return begun;
}

int fm_web_status(struct fm_web_request *r)
{
    (void)pthread_mutex_lock(&r->lock);
    const int status = r->status;
    (void)pthread_mutex_unlock(&r->lock);
    return status;
}

void fm_web_note_tokens(struct fm_web_request *r, int prompt, int cached, int answer)
{
    (void)pthread_mutex_lock(&r->lock);
    r->prompt_tokens = prompt;
    r->cached_tokens = cached;
    r->answer_tokens = answer;
    (void)pthread_mutex_unlock(&r->lock);
}

static void put(struct fm_web_request *r, const char *bytes, size_t n) /* under its lock */
{
    if (r->out_at == r->out.len) {
        fm_buf_clear(&r->out);
        r->out_at = 0;
    }
    fm_buf_add(&r->out, bytes, n);
    if (r->out.failed || r->out.len - r->out_at > BUFFER_MAX) r->gone = true;
    r->last_write = fm_seconds();
    wake(r);
}

bool fm_web_write(struct fm_web_request *r, const char *bytes, size_t n)
{
    (void)pthread_mutex_lock(&r->lock);
    const bool open = r->streaming && !r->ended && !r->gone;
    if (open && n) put(r, bytes, n);
    const bool still = open && !r->gone;
    (void)pthread_mutex_unlock(&r->lock);
    return still;
}

void fm_web_end(struct fm_web_request *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->ended = true;
    wake(r);
    (void)pthread_mutex_unlock(&r->lock);
}

/* ---- the library's side ---- */

static ssize_t fetch(void *cls, uint64_t pos, char *dst, size_t max)
{
    struct fm_web_request *r = cls;
    (void)pos;
    (void)pthread_mutex_lock(&r->lock);
    size_t n = r->out.len - r->out_at;
    ssize_t result;
    if (r->gone) {
        /* With END_WITH_ERROR the library (0.9.75) forgets the connection until its idle time is over.  What cannot be sent
         * makes it close at once; an answer is not ended as if it were whole. */
        (void)shutdown(r->connection->fd, SHUT_RDWR);
        *dst = 0;
        result = 1;
    } else if (n) {
        n = n < max ? n : max;
        memcpy(dst, r->out.data + r->out_at, n);
        r->out_at += n;
        result = (ssize_t)n;
    } else if (r->ended) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        r->suspended = true;
        MHD_suspend_connection(r->c);
        result = 0;
    }
    (void)pthread_mutex_unlock(&r->lock);
    return result;
}

static void drop_response(void *cls) { fm_web_drop(cls); }

/* Under the request's lock. */
static enum MHD_Result queue_answer(struct fm_web_request *r)
{
    struct MHD_Response *a;
    r->queued = true;
    if (r->streaming) {
        fm_web_hold(r);
        a = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 << 10, fetch, r, drop_response);
        if (!a) fm_web_drop(r);
    } else {
        a = MHD_create_response_from_buffer(r->out.len, r->out.data ? r->out.data : (char *)"", MHD_RESPMEM_MUST_COPY);
    }
    if (!a) return MHD_NO;
    (void)MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, r->type);
    (void)MHD_add_response_header(a, "x-request-id",
                                  r->id); /* OpenAI's clients read the first, Anthropic's the other */
    (void)MHD_add_response_header(a, "request-id", r->id);
    if (r->streaming) {
        (void)MHD_add_response_header(a, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        (void)MHD_add_response_header(a, "X-Accel-Buffering", "no");
    }
    for (int i = 0; i < r->n_headers; i++) (void)MHD_add_response_header(a, r->headers[i].name, r->headers[i].value);
    const enum MHD_Result ok = MHD_queue_response(r->c, (unsigned)r->status, a);
    MHD_destroy_response(a);
    return ok;
}

/* Answer now, or sleep until somebody has one. */
static enum MHD_Result answer_or_sleep(struct fm_web_request *r)
{
    enum MHD_Result ok = MHD_YES;
    (void)pthread_mutex_lock(&r->lock);
    if (r->gone) {
        ok = MHD_NO;
    } else if (r->status) {
        ok = r->queued ? MHD_YES : queue_answer(r);
    } else {
        r->suspended = true;
        MHD_suspend_connection(r->c);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return ok;
}

/* Room for n bytes more among all bodies. */
static bool count_body(struct fm_web *h, struct fm_web_request *r, size_t n)
{
    (void)pthread_mutex_lock(&h->lock);
    const bool fits = h->body_bytes + n <= BODIES * h->o.body_max;
    if (fits) h->body_bytes += n, r->counted += n;
    (void)pthread_mutex_unlock(&h->lock);
    return fits;
}

static void uncount_body(struct fm_web *h, struct fm_web_request *r)
{
    (void)pthread_mutex_lock(&h->lock);
    h->body_bytes -= r->counted;
    (void)pthread_mutex_unlock(&h->lock);
    r->counted = 0;
}

static void take_body(struct fm_web *h, struct fm_web_request *r, const char *data, size_t n)
{
    if (r->refused) return;
    if (r->body.len + n > h->o.body_max)
        r->refused = 413;
    else if (!count_body(h, r, n))
        r->refused = 503;
    else
        fm_buf_add(&r->body, data, n);
    if (r->body.failed) r->refused = 503;
    if (r->refused) {
        fm_buf_release(&r->body);
        uncount_body(h, r);
    }
    owe(h, r, r->started + h->o.body_seconds + (double)r->body.len / BODY_RATE);
}

/* ---- heads that a proxy in front could understand otherwise ---- */

struct counts {
    int host, length, coding;
};

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct counts *n = cls;
    (void)kind;
    (void)value;
    n->host += !strcasecmp(name, MHD_HTTP_HEADER_HOST);
    n->length += !strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH);
    n->coding += !strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    return MHD_YES;
}

static bool is_ambiguous(struct MHD_Connection *c, const char *version)
{
    struct counts n = {0};
    (void)MHD_get_connection_values(c, MHD_HEADER_KIND, count_header, &n);
    return n.host > 1 || n.length + n.coding > 1 || (!n.host && !strcmp(version, MHD_HTTP_VERSION_1_1));
}

static bool declares_too_much(const struct fm_web_request *r)
{
    const char *length = fm_web_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length && strtoull(length, NULL, 10) > r->h->o.body_max;
}

static void refuse(struct fm_web_request *r, int status)
{
    char body[256];
    const char *why = status == 413   ? "the request's body is larger than this server takes"
                      : status == 400 ? "the request's head says not once where it goes and how long it is"
                                      : "too many large requests at once";
    const int n =
        snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                 why, status == 503 ? "server_error" : "invalid_request_error",
                 status == 503 ? "server_error" : "invalid_request_error");
    r->handled = true;
    fm_web_set_header(r, "Connection", "close");
    fm_web_reply(r, status, "application/json", body, (size_t)n);
}

/* A path or argument with a NUL stays as it came: it names nothing here. */
static size_t unescape(void *cls, struct MHD_Connection *c, char *s)
{
    (void)cls;
    (void)c;
    return strstr(s, "%00") ? strlen(s) : MHD_http_unescape(s);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *n, void **con)
{
    struct fm_web *h = cls;
    struct fm_web_request *r = *con;
    if (!r) { /* the headers are there */
        if (atomic_load(&h->closing) || !(r = request_new(h, c, url, method))) return MHD_NO;
        *con = r;
        owe(h, r, r->started + h->o.body_seconds);
        const int status = is_ambiguous(c, version) ? 400 : declares_too_much(r) ? 413 : 0;
        if (!status) return MHD_YES;
        refuse(r, status);
        return answer_or_sleep(r);
    }
    if (*n) {
        take_body(h, r, data, *n);
        *n = 0;
        return MHD_YES;
    }
    if (!r->handled) {
        r->handled = true;
        owe(h, r, 0);
        r->refused ? refuse(r, r->refused) : h->o.handler(h->o.arg, r);
    }
    return answer_or_sleep(r);
}

/* What strangers sent, fit for a log. */
static const char *printable(const char *s, char *dst, size_t n)
{
    size_t i = 0;
    for (; s[i] && i + 1 < n; i++) dst[i] = s[i] > ' ' && s[i] < 127 && s[i] != '"' && s[i] != '\\' ? s[i] : '?';
    dst[i] = 0;
    return dst;
}

static void report(struct fm_web *h, struct fm_web_request *r, bool complete)
{
    char method[24], path[200];
    if (!h->o.done) return;
    (void)pthread_mutex_lock(&r->lock);
    const struct fm_served d = {.method = printable(r->method, method, sizeof method),
                                .path = printable(r->path, path, sizeof path),
                                .id = r->id,
                                .status = r->status,
                                .prompt_tokens = r->prompt_tokens,
                                .cached_tokens = r->cached_tokens,
                                .answer_tokens = r->answer_tokens,
                                .seconds = fm_seconds() - r->started,
                                .left = !complete || !r->ended};
    (void)pthread_mutex_unlock(&r->lock);
    h->o.done(h->o.arg, &d, r->mark);
}

static void on_connection(void *cls, struct MHD_Connection *c, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct fm_web *h = cls;
    struct connection *k = *socket_context;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (code == MHD_CONNECTION_NOTIFY_STARTED && info && (k = fm_calloc(1, sizeof *k))) {
        *k = (struct connection){.fd = info->connect_fd, .deadline = fm_seconds() + h->o.idle_seconds};
        k->id = atomic_fetch_add(&h->counter, 1);
        (void)pthread_mutex_lock(&h->lock);
        k->next = h->connections;
        if (k->next) k->next->prev = k;
        h->connections = k;
        (void)pthread_mutex_unlock(&h->lock);
        watch_end(h, k);
        *socket_context = k;
    } else if (code == MHD_CONNECTION_NOTIFY_CLOSED && k) {
        (void)epoll_ctl(h->epoll, EPOLL_CTL_DEL, k->fd, NULL);
        (void)pthread_mutex_lock(&h->lock);
        *(k->prev ? &k->prev->next : &h->connections) = k->next;
        if (k->next) k->next->prev = k->prev;
        (void)pthread_mutex_unlock(&h->lock);
        *socket_context = NULL;
        fm_free(k);
    }
}

static void on_completed(void *cls, struct MHD_Connection *c, void **con, enum MHD_RequestTerminationCode code)
{
    struct fm_web *h = cls;
    struct fm_web_request *r = *con;
    (void)c;
    if (!r) return;
    *con = NULL;
    owe(h, r, fm_seconds() + h->o.idle_seconds);
    uncount_body(h, r);
    (void)pthread_mutex_lock(&h->lock);
    r->connection->r = NULL;
    *(r->prev ? &r->prev->next : &h->first) = r->next;
    if (r->next) r->next->prev = r->prev;
    h->n_active--;
    (void)pthread_mutex_unlock(&h->lock);
    (void)pthread_mutex_lock(&r->lock);
    r->c = NULL;
    r->suspended = false;
    (void)pthread_mutex_unlock(&r->lock);
    report(h, r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    mark_gone(r);
    fm_web_drop(r);
}

/* ---- the watcher ---- */

/* The client of this connection hung up, if it still lives.  A hold on its request, if there is one. */
static struct fm_web_request *take_hung_up(struct fm_web *h, uint64_t id)
{
    (void)pthread_mutex_lock(&h->lock);
    struct connection *k = h->connections;
    while (k && k->id != id) k = k->next;
    struct fm_web_request *r = k ? k->r : NULL;
    if (r) fm_web_hold(r);
    if (k) k->hung_up = true;
    (void)pthread_mutex_unlock(&h->lock);
    return r;
}

static void ping(struct fm_web_request *r, double now, int seconds)
{
    (void)pthread_mutex_lock(&r->lock);
    const bool silent = now - r->last_write >= seconds && !r->ended && !r->gone;
    if (silent && !r->status && r->late) {
        start(r, 200, r->late, "\n", true);
        wake(r);
    } else if (silent && r->streaming && *r->ping) {
        put(r, r->ping, strlen(r->ping));
    }
    (void)pthread_mutex_unlock(&r->lock);
}

static void *watch(void *arg)
{
    struct fm_web *h = arg;
    double next = fm_seconds();
    while (!atomic_load(&h->closing)) {
        struct epoll_event ev[64];
        const int n = epoll_wait(h->epoll, ev, 64, 200);
        for (int i = 0; i < n; i++) {
            struct fm_web_request *r = take_hung_up(h, ev[i].data.u64);
            if (r) mark_gone(r);
            fm_web_drop(r);
        }
        const double now = fm_seconds();
        if (now < next) continue;
        next = now + 0.5;
        (void)pthread_mutex_lock(&h->lock);
        for (struct fm_web_request *r = h->first; r; r = r->next) ping(r, now, h->o.ping_seconds);
        for (struct connection *k = h->connections; k; k = k->next)
            if (k->deadline > 0 && now > k->deadline)
                (void)shutdown(k->fd, SHUT_RDWR); /* the library wakes and closes it … */
            else if (k->hung_up)
                (void)shutdown(k->fd, SHUT_RD); /* … once the last bytes are sent */
        (void)pthread_mutex_unlock(&h->lock);
    }
    return NULL;
}

/* ---- the server ---- */

enum fm_status fm_web_listen(const char *host, int port, int *out, int *bound, struct fm_error *err)
{
    char number[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    (void)snprintf(number, sizeof number, "%d", port);
    const int rc = getaddrinfo(host, number, &hints, &found);
    if (rc) return fm_fail(err, FM_ERR_USAGE, "serve: %s: %s", host, gai_strerror(rc));
    const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    enum fm_status st = FM_OK;
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&a, &n)) {
        st = fm_fail(err, FM_ERR_FAILED, "serve: %s port %d: %m", host, port);
        fm_hint(err, "--port N takes another, --port 0 any that is free");
        if (fd >= 0) (void)close(fd);
    } else {
        *out = fd;
        *bound = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                               : ((struct sockaddr_in *)&a)->sin_port);
    }
    freeaddrinfo(found);
    return st;
}

static void fill_defaults(struct fm_web_options *o)
{
    if (!o->connections) o->connections = CONNECTIONS;
    if (!o->per_address) o->per_address = (o->connections + 1) / 2;
    if (!o->body_max) o->body_max = BODY_MAX;
    if (!o->body_seconds) o->body_seconds = BODY_SECONDS;
    if (!o->idle_seconds) o->idle_seconds = IDLE_SECONDS;
    if (!o->ping_seconds) o->ping_seconds = PING_SECONDS;
}

enum fm_status fm_web_open(const struct fm_web_options *o, struct fm_web **out, struct fm_error *err)
{
    struct fm_web *h = fm_calloc(1, sizeof *h);
    if (!h) {
        (void)close(o->socket);
        return fm_fail_memory(err, "a server", sizeof *h);
    }
    enum fm_status st;
    h->o = *o;
    h->listening = o->socket;
    h->epoll = -1;
    fill_defaults(&h->o);
    if (getrandom(&h->salt, sizeof h->salt, 0) < 0) h->salt = (uint64_t)(fm_seconds() * 1e9);
    (void)pthread_mutex_init(&h->lock, NULL);
    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (h->epoll < 0 || pthread_create(&h->watcher, NULL, watch, h))
        FM_GOTO(fm_fail(err, FM_ERR_FAILED, "serve: a thread for connections: %m"));
    h->has_watcher = true;
    h->d = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, NULL, NULL,
                            on_request, h, MHD_OPTION_LISTEN_SOCKET, h->listening, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)h->o.connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)h->o.per_address,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)POOL_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)h->o.idle_seconds,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_UNESCAPE_CALLBACK, unescape, h,
                            MHD_OPTION_END);
    if (!h->d) FM_GOTO(fm_fail(err, FM_ERR_FAILED, "serve: the HTTP library does not start"));
    h->listening = -1; /* the library closes it */
    *out = h;
    return FM_OK;
out:
    fm_web_close(h);
    return st;
}

void fm_web_quiesce(struct fm_web *h)
{
    if (h->d) h->listening = MHD_quiesce_daemon(h->d); /* ours again */
}

int fm_web_active(struct fm_web *h)
{
    (void)pthread_mutex_lock(&h->lock);
    const int n = h->n_active;
    (void)pthread_mutex_unlock(&h->lock);
    return n;
}

static bool is_gone(struct fm_web_request *r)
{
    (void)pthread_mutex_lock(&r->lock);
    const bool gone = r->gone;
    (void)pthread_mutex_unlock(&r->lock);
    return gone;
}

/* The library wants no connection asleep when it stops. */
static void wake_all(struct fm_web *h)
{
    for (;;) {
        struct fm_web_request *r;
        (void)pthread_mutex_lock(&h->lock);
        for (r = h->first; r && is_gone(r); r = r->next) {
        }
        if (r) fm_web_hold(r);
        (void)pthread_mutex_unlock(&h->lock);
        if (!r) return;
        mark_gone(r);
        fm_web_drop(r);
    }
}

void fm_web_close(struct fm_web *h)
{
    if (!h) return;
    atomic_store(&h->closing, true);
    if (h->has_watcher) (void)pthread_join(h->watcher, NULL);
    wake_all(h);
    if (h->d) MHD_stop_daemon(h->d);
    if (h->listening >= 0) (void)close(h->listening);
    if (h->epoll >= 0) (void)close(h->epoll);
    (void)pthread_mutex_destroy(&h->lock);
    fm_free(h);
}
