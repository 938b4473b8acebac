/* fathom: many requests over one engine, computed together.
 *
 *   request  = the ids of a prompt, how to sample, when to stop; its text comes back through callbacks
 *   scheduler = the thread that computes: in each step one row of every answer and a share of the waiting prompts
 *   prefix cache = KV blocks of earlier requests, found again by their tokens
 *
 * A request's text depends on its own ids, settings and seed only: not on its neighbours, the order of arrival, or chunks.
 * What the prefix cache held may change it as fm_engine_options.deterministic says. */
#ifndef FATHOM_SERVE_H
#define FATHOM_SERVE_H

#include "fathom.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

struct fm_scheduler;
struct fm_request;

struct fm_scheduler_options {
    int slots;            /* requests computed together; 0: 8                                            */
    int queue;            /* requests that may wait for a slot; 0: 64                                    */
    int ctx;              /* longest prompt and answer of one request; 0: the engine's                  */
    uint64_t cache_bytes; /* of KV kept behind finished requests; 0: as much as all slots' own, at most 1/8 of memory */
    bool no_cache;        /* none in memory                                     */
    const char *powercap; /* where the processors' energy is read; NULL: /sys/class/powercap */
    const char *cache_dir;    /* KV blocks stay here for the next start, too; NULL: in memory only */
    uint64_t cache_dir_bytes; /* of files there; 0: 4 GiB                                          */
};

/* The engine stays the caller's, must outlive the scheduler, and may be used by other sessions meanwhile. */
enum fm_status fm_scheduler_new(struct fm_engine *e, const struct fm_scheduler_options *o, struct fm_scheduler **out,
                                struct fm_error *err) FM_MUST_USE;
/* Ends every request with FM_END_SHUTDOWN, then frees. */
void fm_scheduler_free(struct fm_scheduler *s);
/* No new requests from now on (FM_ERR_FAILED); those admitted go on.  true when none is left. */
bool fm_scheduler_drain(struct fm_scheduler *s);

enum { FM_TOP_MAX = 20 };
struct fm_token_prob {
    int32_t id;
    float logprob; /* natural, at temperature 1, before any filter; -9999 stands for anything below it */
};
struct fm_token_event {
    struct fm_token_prob token;
    int n_top;
    struct fm_token_prob top[FM_TOP_MAX]; /* likeliest first */
    int position;                         /* of the token in the request's ids and answer */
    bool prompt;                          /* a token of the prompt (echo)                 */
    bool end;                             /* the end token that the answer stopped at: it has no text */
};

enum fm_end {
    FM_END_STOP,      /* an end token or a stop text          */
    FM_END_LENGTH,    /* max_tokens or the context            */
    FM_END_CANCELLED, /* fm_request_cancel                    */
    FM_END_DEADLINE,  /* seconds_max is over                  */
    FM_END_FAILED,    /* see error                            */
    FM_END_SHUTDOWN,  /* the scheduler was freed              */
    FM_END_COUNT
};
struct fm_request_result {
    enum fm_end end;
    int prompt_tokens, cached_tokens, answer_tokens;
    const char *stop;                                     /* the stop text that was met, or NULL                 */
    double queue_seconds, prompt_seconds, answer_seconds; /* waiting; to the first token; from there to the end */
    double joules;                                        /* its share of the steps', where the machine counts them */
    struct fm_error error;                                /* of FM_END_FAILED                                    */
    const double *embedding; /* NULL, or [dim] as asked for, the request's: valid until fm_request_free */
};

struct fm_request_options {
    const int32_t *ids;                     /* copied */
    int n_ids;                              /* >= 1   */
    struct fm_sampling sampling;            /* its bias must live until on_end */
    const struct fm_constraint *constraint; /* NULL, or what it may say; must live until on_end */
    enum fm_constraint_start constraint_start;
    int max_tokens;          /* -1: until the context is full; 0: nothing but the prompt's probabilities */
    const char *const *stop; /* copied */
    int n_stop;
    bool ignore_end;    /* go on behind end tokens                                      */
    int top;            /* -1: no probabilities, else how many beside the token's own   */
    bool echo;          /* with top >= 0: events for the prompt's tokens 1 … n−1, too    */
    bool embed;         /* the mean over the prompt of the hidden states behind the final norm, with max_tokens 0 */
    const char *user;   /* copied; NULL: "". Whose turn it is, and whose cache          */
    double seconds_max; /* 0: no limit                                                  */
    /* From the scheduler's thread; must return at once and must not call the scheduler.  text: as fm_generation.on_text. */
    void (*on_accept)(void *arg,
                      struct fm_request *r); /* NULL, or within submit, when it is sure to be served: the first */
    void (*on_text)(void *arg, const char *text, size_t n);
    void (*on_token)(void *arg, const struct fm_token_event *t);     /* NULL, or before the text of that token */
    void (*on_progress)(void *arg, int done, int total, int cached); /* NULL, or after each part of the prompt */
    void (*on_end)(void *arg, const struct fm_request_result *r);    /* exactly once, last                     */
    void *arg;
};

/* FM_ERR_USAGE: ids, sampling or lengths that cannot be served, with the reason.  FM_ERR_BUSY-like: *busy (may be NULL) is
 * set and FM_ERR_FAILED returned when the queue is full.  No callback comes after a failure. */
enum fm_status fm_scheduler_submit(struct fm_scheduler *s, const struct fm_request_options *o, struct fm_request **out,
                                   bool *busy, struct fm_error *err) FM_MUST_USE;
/* n of them together: all or none, and one place in the queue for all.  Neighbours in the list with the same prompt compute
 * it once, where there is a prefix cache.  out[n]. */
enum fm_status fm_scheduler_submit_all(struct fm_scheduler *s, const struct fm_request_options *o, int n,
                                       struct fm_request **out, bool *busy, struct fm_error *err) FM_MUST_USE;
/* Ends it soon, within a tile of the running step. on_end still comes.  Any thread. */
void fm_request_cancel(struct fm_request *r);
/* The caller's hold; on_end may still come later. NULL is fine. */
void fm_request_free(struct fm_request *r);

/* Of cache_dir.  A block is 64 tokens' keys and values: a file. */
struct fm_disk_cache_stats {
    uint64_t bytes, limit, files;    /* now                                                                  */
    uint64_t read, written, evicted; /* blocks since the start; evicted: for lack of room, …                 */
    uint64_t dropped;                /* … because they were not what their name says, …                      */
    uint64_t failed, skipped;        /* … not written: the disk refused; too much was waiting to be written   */
};

/* Counts of times: bins[i] within fm_histogram_bounds[i - 1] … [i] seconds, the last one above all bounds. */
enum { FM_HISTOGRAM_BOUNDS = 18 };
extern const double fm_histogram_bounds[FM_HISTOGRAM_BOUNDS];
struct fm_histogram {
    uint64_t bins[FM_HISTOGRAM_BOUNDS + 1], n;
    double sum;
};

struct fm_scheduler_stats {
    int slots, busy, waiting, ctx;
    double joules;                                       /* of all steps, where the machine counts them */
    double wait_seconds;                                 /* about how long a new request will wait for a slot */
    struct fm_histogram queued, first_token, next_token; /* to a slot; from submit to it; between two of an answer */
    uint64_t requests, prompt_tokens, cached_tokens, answer_tokens, steps, rows; /* since the start */
    uint64_t ends[FM_END_COUNT], refused;
    double prompt_seconds, answer_seconds;                      /* of computing */
    uint64_t kv_bytes, cache_bytes, cache_limit, cache_evicted; /* bytes; the last: blocks dropped */
    uint64_t disk_tokens;                                       /* of cached_tokens: came from disk */
    struct fm_disk_cache_stats disk;
};
bool fm_scheduler_has_joules(const struct fm_scheduler *s); /* the machine counts them, and lets us read */
void fm_scheduler_stats(struct fm_scheduler *s, struct fm_scheduler_stats *out);

struct fm_slot_info {
    bool busy;
    int prompt_tokens, done_tokens, cached_tokens, answer_tokens; /* done: of the prompt, cached ones included */
    double seconds, answer_seconds; /* since it was submitted; since its first token, 0: none yet */
};
void fm_scheduler_slot(struct fm_scheduler *s, int i, struct fm_slot_info *out);

/* ---- the server ---- */

/* One request at its end. */
struct fm_served {
    const char *method, *path, *id; /* printable ASCII without \" and \\, anything else as ?; id: as in x-request-id */
    int status;                     /* 0: the client left before there was one                               */
    int prompt_tokens, cached_tokens, answer_tokens; /* all 0 where nothing was generated                    */
    double seconds;                                  /* since its headers came                               */
    bool left;                                       /* the client did, before the answer's end              */
    const char *key; /* the name of the key it came with; NULL: without limits, or none                    */
};

/* Of a million tokens: of the prompt, of the prompt and found in the cache, of the answer. */
struct fm_prices {
    bool set;
    double in, hit, out;
};

struct fm_serve_options {
    const char *host;        /* NULL: 127.0.0.1                                           */
    int port;                /* 0: any that is free                                       */
    const char *name;        /* the model's name for clients; NULL: from the file         */
    const char *format;      /* chat format; NULL: the model's                            */
    const char *const *keys; /* accepted as bearer token or x-api-key, each "KEY limit=value …" (docs/SERVER.md); none:
                                no key needed */
    int n_keys;
    const char *const *hosts; /* names of this server beside localhost; with keys and none here: any */
    int n_hosts;
    const char *const *origins; /* allowed beside this machine's own, "https://example.org"; "*" any */
    int n_origins;
    bool strict_model;  /* an unknown model name is an error                      */
    int connections;    /* at once; 0: 4096                                       */
    int per_address;    /* of them from one address; 0: half                      */
    int idle_seconds;   /* for the head of a request; 0: 75                       */
    int body_seconds;   /* for its body, and 1 s more for each 64 KiB; 0: 30      */
    double seconds_max; /* of one request; 0: no limit                            */
    int tokens_max;     /* of one answer; 0: no limit                             */
    int drain_seconds;  /* after a stop, for answers under way; 0: 30             */
    struct fm_prices prices;
    const char *ledger; /* NULL, or a file that gets a line for each generation */
    struct fm_scheduler_options scheduler;
    /* When it listens the process gives up for good what it will not need: opening files, starting programs, connecting, …
     * (docs/SERVER.md); with cache_dir only HTTP's threads give up files.  A kernel that cannot is warned of. */
    bool sandbox;
    const volatile int *stop; /* raised by a signal handler: 1 drain, 2 at once   */
    void (*on_ready)(void *arg, const char *host, int port);
    void (*on_request)(void *arg, const struct fm_served *r); /* NULL, or from the HTTP thread                    */
    void (*on_stopping)(void *arg);                           /* NULL, or once, when stop was seen                */
    void *arg;
};
/* Serve e until stopped.  An address other than this machine's own needs keys: FM_ERR_USAGE. */
enum fm_status fm_serve(struct fm_engine *e, const struct fm_serve_options *o, struct fm_error *err) FM_MUST_USE;

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
