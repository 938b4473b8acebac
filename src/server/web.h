/* HTTP/1.1 over libmicrohttpd: whole requests in, whole or streamed replies out, from any thread.
 *
 *   connection ─► headers ─► body (bounded) ─► handler(request) ─┬─ fm_web_reply   one answer with its length
 *                                                                ├─ fm_web_begin   then write … write, end: chunked
 *                                                                └─ nothing yet: whoever holds the request does it later
 *
 * The handler runs on a thread of this module and must not wait.  While a stream is open and silent, its ping is sent; a
 * client that leaves is noticed by the system's hang-up event, not by the next write.  Only this folder's web.c sees the
 * library. */
#ifndef FM_SERVER_WEB_H
#define FM_SERVER_WEB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "fathom_serve.h"

struct fm_web;
struct fm_web_request;

struct fm_web_options {
    int socket;       /* of fm_web_listen; closed by the server, also when it does not open       */
    int connections;  /* at once; 0: 4096                                                        */
    int per_address;  /* of them from one address; 0: half                                       */
    size_t body_max;  /* bytes of a request's body; 0: 48 MiB. All that are held: eight times it  */
    int idle_seconds; /* a connection without a whole head of a request is closed after; 0: 75   */
    int body_seconds; /* for a body, and a second more for each 64 KiB of it that came; 0: 30    */
    int ping_seconds; /* of silence in a stream; 0: 10                                           */
    void (*handler)(void *arg, struct fm_web_request *r);
    void (*done)(void *arg, const struct fm_served *r, int mark); /* NULL, or at each request's end */
    void *arg;
};

/* host: address to bind: "127.0.0.1", "::1", "0.0.0.0", "::", or a name.  port 0: any that is free.  Nothing is accepted
 * yet; *bound is the port. */
enum fm_status fm_web_listen(const char *host, int port, int *socket, int *bound, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_web_open(const struct fm_web_options *o, struct fm_web **out, struct fm_error *err) FM_MUST_USE;
/* Stop accepting; open requests go on. */
void fm_web_quiesce(struct fm_web *h);
int fm_web_active(struct fm_web *h); /* requests that are not answered to their end */
/* Cuts what is still open.  Requests held elsewhere stay valid until they are dropped; writing to them does nothing. */
void fm_web_close(struct fm_web *h);

/* ---- a request ---- */

const char *fm_web_method(const struct fm_web_request *r);
const char *fm_web_path(const struct fm_web_request *r); /* without the query, percent escapes decoded */
const char *fm_web_header(const struct fm_web_request *r, const char *name); /* NULL: none; case does not matter */
const char *fm_web_query(const struct fm_web_request *r, const char *name);
const char *fm_web_body(const struct fm_web_request *r, size_t *n); /* n bytes and a NUL */
const char *fm_web_id(const struct fm_web_request *r);              /* of x-request-id: made here, unique */
double fm_web_started(const struct fm_web_request *r);              /* fm_seconds when its headers came */

/* A number for done, −1 from the start. */
void fm_web_set_mark(struct fm_web_request *r, int mark);
int fm_web_mark(const struct fm_web_request *r);

/* Beyond the handler's return: one more hold, and its end. */
void fm_web_hold(struct fm_web_request *r);
void fm_web_drop(struct fm_web_request *r);
/* fn(arg) once, when the client goes away before the answer is complete; at once if it has.  NULL: nobody; afterwards fn is
 * not running any more.  fn must not use the request. */
void fm_web_on_close(struct fm_web_request *r, void (*fn)(void *arg), void *arg);

/* ---- its answer: exactly one of reply, begin; later ones are ignored ---- */

void fm_web_set_header(struct fm_web_request *r, const char *name, const char *value);
void fm_web_reply(struct fm_web_request *r, int status, const char *type, const char *body, size_t n);
/* ping: static text for silent times; "" none */
void fm_web_begin(struct fm_web_request *r, int status, const char *type, const char *ping);
/* Not answered within the ping time: begin(200, type, "\n") by itself, so that the connection is kept alive. */
void fm_web_begin_late(struct fm_web_request *r, const char *type);
bool fm_web_has_begun(struct fm_web_request *r);
bool fm_web_write(struct fm_web_request *r, const char *bytes, size_t n); /* false: nobody reads any more */
void fm_web_end(struct fm_web_request *r);
/* For done: what it took.  Before the answer's end. */
void fm_web_note_tokens(struct fm_web_request *r, int prompt, int cached, int answer);
int fm_web_status(struct fm_web_request *r); /* of the answer; 0: none yet */

#endif
