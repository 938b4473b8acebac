/* Inside of fathom_serve.h: what the scheduler's files share.
 *
 *   scheduler.c  the queue, whose turn it is, the thread       submit ─► queue ─► slot ─► on_end
 *   fair.c       users, and what was done for them
 *   batch.c      one step: rows of all slots, the forward pass, logits of the rows that need them
 *   request.c    one request: its settings, tokens to text, probabilities, its end
 *   prefix.c     KV blocks that outlive requests; kvstore.c: on disk
 *
 * Under the lock: the queue, the slots' pointers, the statistics.  A request's timeline belongs to the thread alone. */
#ifndef FM_RUN_SCHEDULER_H
#define FM_RUN_SCHEDULER_H

#include "base/energy.h"
#include "fathom_serve.h"
#include "run/constraint.h"
#include "run/kvstore.h"
#include "run/prefix.h"
#include "run/run.h"
#include "run/stream.h"

enum { FM_SLOTS_MAX = 256 };

enum fm_phase {
    FM_PHASE_QUEUED,
    FM_PHASE_LOADING, /* blocks of the prompt come from disk              */
    FM_PHASE_PROMPT,  /* rows of the prompt are still to be computed  */
    FM_PHASE_ANSWER,  /* the last token sampled is still to be computed */
    FM_PHASE_OVER,
};

struct fm_user {
    struct fm_user *next;
    uint64_t served, pledged; /* rows, see fair.c */
    int requests;             /* waiting or in a slot       */
    char name[];
};

struct fm_request {
    struct fm_scheduler *s;
    struct fm_user *user;        /* NULL: not accepted, or over                          */
    struct fm_request *next;     /* in the queue                                         */
    struct fm_request *leader;   /* NULL, or who computes the same prompt first          */
    atomic_int holds;            /* the caller's and the scheduler's                     */
    atomic_bool cancelled;       /* by anybody                                           */
    struct fm_request_options o; /* ids, stop, user: copies                              */
    enum fm_phase phase;

    int32_t *ids;                    /* [cap] prompt, then answer          */
    int n, cap, n_prompt, fed, made; /* fed: rows in the cache             */
    int segment_pos0, segment_n;     /* what is being fed, as fm_seq       */
    int cached, published;           /* tokens from the caches; blocks given to them */
    int echoed;                      /* the last prompt token whose probabilities are out */
    double *sum;                     /* [D] of hidden states, where the mean is asked for; at the end the mean */
    struct fm_kvload load;
    int rows;                 /* of the running step                                        */
    struct fm_slot_info info; /* what others may see, and rows_shown: copies under the lock */
    int rows_shown;
    double joules;
    struct fm_kv_block **blocks;
    struct fm_kv kv;
    int n_blocks;

    struct fm_sampler sampler;
    struct fm_follower bound;    /* by o.constraint */
    struct fm_error bound_fault; /* why nothing can be picked */
    bool complete;               /* nothing is left to be said */
    int32_t picked;
    struct fm_stream stream;
    struct fm_buf before, with;                /* decoded text, reused */
    double t_submit, t_start, t_first, t_last; /* t_last: of the newest token */
};

/* How long steps take, learned as they go; 0 where nothing is known. */
struct fm_pace {
    double answers[FM_SLOTS_MAX + 1]; /* seconds of a step of that many answers and nothing else: moving means */
    double fixed, each;               /* of a step with prompts: seconds, and seconds per row                  */
    double n, x, y, xx, xy, slope;    /* pace.c's */
};

struct fm_scheduler {
    struct fm_engine *e;
    int n_slots, queue_max, ctx, rows_max, waiting;
    struct fm_request **slots; /* [n_slots] or NULL */
    struct fm_request *first, *last;
    struct fm_user *users;
    struct fm_prefix *prefix; /* NULL: no cache */
    struct fm_kvstore *disk;  /* NULL: none     */
    struct fm_scheduler_stats stats;

    struct fm_arena arena;
    struct fm_ctx ctx_step;
    float *logits;              /* [n_slots, V] */
    struct fm_candidate *work;  /* [pickers, V] samplers', one that runs at a time each */
    uint8_t *seen;              /* [pickers, V] samplers' */
    int pickers;                /* threads that sample    */
    struct fm_seq *seqs;        /* [n_slots]     */
    int32_t *ids, *pos;         /* [rows_max]    */
    struct fm_request **of;     /* [n_slots] whose sequence it is */
    struct fm_request **order;  /* [n_slots] prompts, as their turns come */
    struct fm_request **wanted; /* [n_slots] whose logits row i is       */
    int n_wanted;

    struct fm_pace pace;
    struct fm_energy energy; /* the thread's alone, but n */
    double slot_seconds;     /* how long a request holds its slot: moving mean */

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping, draining;
    bool aborted; /* the last step was given up */
    atomic_bool abort_step;
};

void fm_histogram_add(struct fm_histogram *h, double seconds);

/* ---- fair.c: under the lock ---- */

bool fm_fair_join(struct fm_scheduler *s, struct fm_request *r) FM_MUST_USE; /* false: memory is short */
void fm_fair_leave(struct fm_scheduler *s, struct fm_request *r);
int fm_fair_work(int prompt_rows, int answer_rows);
void fm_fair_charge(struct fm_request *r, int work);
/* Everybody's pledged: what he has had, and what prompts in his slots will take yet. */
void fm_fair_tally(struct fm_scheduler *s);
void fm_fair_free(struct fm_scheduler *s);

/* ---- request.c ---- */

enum fm_status fm_request_new(struct fm_scheduler *s, const struct fm_request_options *o, struct fm_request **out,
                              struct fm_error *err) FM_MUST_USE;
void fm_request_drop(struct fm_request *r); /* one hold less */
/* KV blocks for n tokens; evicts from the prefix cache when memory is short. */
enum fm_status fm_request_reserve(struct fm_request *r, int n, struct fm_error *err) FM_MUST_USE;
/* Take over what the prefix cache knows of the prompt: at once from memory; what the disk has comes while LOADING, and
 * `loaded` takes it when it is there (false: not yet).  Give back what may be of use to others. */
void fm_request_adopt(struct fm_request *r);
bool fm_request_loaded(struct fm_request *r);
void fm_request_publish(struct fm_request *r);
/* Sample behind the last row; work and seen as fm_sampler's.  Any thread, one request at a time each. */
void fm_request_pick(struct fm_request *r, const float *logits, struct fm_candidate *work, uint8_t *seen);
/* The picked token is part of the answer: hand its text out.  Returns FM_END_COUNT while it goes on. */
enum fm_end fm_request_advance(struct fm_request *r, const float *logits, struct fm_error *err);
/* Probabilities of prompt token ids[at], from the logits of the row before. */
void fm_request_echo(struct fm_request *r, const float *logits, int at);
/* hidden[n, D]: of the next rows. */
void fm_request_pool(struct fm_request *r, const fm_real *hidden, int n);
/* Text that was held back, on_end; the request is over. */
void fm_request_finish(struct fm_request *r, enum fm_end end, const struct fm_error *err);

/* ---- batch.c ---- */

/* Prompt rows for a step beside so many answers, with so many slots busy; at least 1 where room >= 1. */
int fm_pace_rows(const struct fm_pace *p, int answers, int busy, int room);
void fm_pace_learn(struct fm_pace *p, int answers, int rows, double seconds);
/* Bytes of arena that a step of rows_max rows in n_slots sequences takes at most. */
size_t fm_batch_bytes(const struct fm_scheduler *s);
/* One step over the slots.  Ended requests are finished and their slots empty. */
void fm_batch_step(struct fm_scheduler *s);

#endif
