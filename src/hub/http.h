/* Questions to the hub, over libcurl: short replies, read whole.  Redirects are followed here and not by libcurl, so that
 * each step is checked (fm_url_refuse) and the access token goes to the endpoint's origin only. */
#ifndef FM_HUB_HTTP_H
#define FM_HUB_HTTP_H

#include <curl/curl.h>

#include "base/str.h"
#include "hub/hub.h"

enum { FM_HTTP_HOPS = 10, FM_HTTP_TRIES = 6, FM_HTTP_QUESTION_TRIES = 4, FM_HTTP_WAIT_MAX = 300 };

struct fm_http {
    const struct fm_hub *hub;
    const struct fm_hub_progress *progress;
    CURLM *multi;
    struct curl_slist *token; /* the header, or NULL */
};

/* What is kept of a reply's headers; empty or -1: not there. */
struct fm_http_reply {
    long status; /* 0: none */
    char commit[41], etag[129], linked_etag[129], error_code[40];
    int64_t length, linked_size;
    int64_t range_begin, range_size; /* of Content-Range: bytes BEGIN-END/SIZE */
    double retry_after;              /* seconds */
    struct fm_buf location, link;    /* absolute address; the Link header's value */
    struct fm_buf body;
    char why[CURL_ERROR_SIZE]; /* of a failed transfer */
};
void fm_http_reply_reset(struct fm_http_reply *r); /* for the next reply */
void fm_http_reply_release(struct fm_http_reply *r);

enum fm_status fm_http_open(struct fm_http *c, const struct fm_hub *hub, const struct fm_hub_progress *progress,
                            struct fm_error *err) FM_MUST_USE;
void fm_http_close(struct fm_http *c);

/* A handle with all that every transfer has in common; the headers of its reply go to r.  NULL: no memory. */
CURL *fm_http_handle(struct fm_http *c, const char *url, struct fm_http_reply *r);
void fm_http_aim(struct fm_http *c, CURL *easy, const char *url); /* another address, with or without the token */

/* A reply worth asking again for: 408, 429, 5xx. */
bool fm_http_is_passing(long status);
/* Seconds before attempt n = 1, 2, …; what the server asks for, if it does. */
double fm_http_backoff(int n, const struct fm_http_reply *r);
/* Sleeps; FM_ERR_CANCELLED when the user stops. */
enum fm_status fm_http_sleep(struct fm_http *c, double seconds) FM_MUST_USE;

/* GET (head false; a body of at most limit bytes) or HEAD.  Passing failures are tried again.  HEAD ends at the first
 * reply that tells the commit or the hash, even if it is a redirect: then r->location is where the bytes are.
 * Other replies than 2xx are no failure of this function. */
enum fm_status fm_http_ask(struct fm_http *c, const char *url, bool head, size_t limit, struct fm_http_reply *r,
                           struct fm_error *err) FM_MUST_USE;

/* The failure that a reply with another status than 2xx stands for. file: NULL, or its name. */
enum fm_status fm_http_refused(const struct fm_hub *h, const char *repo, const char *rev, const char *file,
                               const struct fm_http_reply *r, struct fm_error *err);

#endif
