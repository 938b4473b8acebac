/* Inside of fathom_serve.h: what the scheduler's files share.
 *
 *   scheduler.c  the queue, whose turn it is, the thread       submit ─► queue ─► slot ─► on_end
 *   batch.c      one step: rows of all slots, the forward pass, logits of the rows that need them
 *   request.c    one request: its settings, tokens to text, probabilities, its end
 *   prefix.c     KV blocks that outlive requests
 *
 * Under the lock: the queue, the slots' pointers, the statistics.  A request's timeline belongs to the thread alone. */
#ifndef FM_RUN_SCHEDULER_H
#define FM_RUN_SCHEDULER_H

#include "fathom_serve.h"
#include "run/prefix.h"
#include "run/run.h"
#include "run/stream.h"

enum fm_phase {
    FM_PHASE_QUEUED,
    FM_PHASE_PROMPT, /* rows of the prompt are still to be computed  */
    FM_PHASE_ANSWER, /* the last token sampled is still to be computed */
    FM_PHASE_OVER,
};

struct fm_request {
    struct fm_scheduler *s;
    struct fm_request *next;     /* in the queue                                         */
    struct fm_request *leader;   /* NULL, or who computes the same prompt first          */
    atomic_int holds;            /* the caller's and the scheduler's                     */
    atomic_bool cancelled;       /* by anybody                                           */
    struct fm_request_options o; /* ids, stop, user: copies                              */
    enum fm_phase phase;

    int32_t *ids;                    /* [cap] prompt, then answer          */
    int n, cap, n_prompt, fed, made; /* fed: rows in the cache             */
    int segment_pos0, segment_n;     /* what is being fed, as fm_seq       */
    int cached;
    int rows;                 /* of the running step                                        */
    struct fm_slot_info info; /* what others may see, and rows_shown: copies under the lock */
    int rows_shown;
    struct fm_kv_block **blocks;
    struct fm_kv kv;
    int n_blocks;

    struct fm_sampler sampler;
    struct fm_stream stream;
    struct fm_buf before, with; /* decoded text, reused */
    double t_submit, t_start, t_first;
};

struct fm_scheduler {
    struct fm_engine *e;
    int n_slots, queue_max, ctx, rows_max, waiting, next_prompt;
    struct fm_request **slots; /* [n_slots] or NULL */
    struct fm_request *first, *last;
    struct fm_prefix *prefix; /* NULL: no cache */
    struct fm_scheduler_stats stats;

    struct fm_arena arena;
    struct fm_ctx ctx_step;
    float *logits;             /* [n_slots, V] */
    struct fm_candidate *work; /* [V] sampler's */
    uint8_t *seen;             /* [V] sampler's */
    struct fm_seq *seqs;       /* [n_slots]     */
    int32_t *ids, *pos;        /* [rows_max]    */
    struct fm_request **of;    /* [n_slots] whose sequence it is */

    double row_seconds, answer_seconds; /* of one prompt row; of a step without any: moving means */

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping, draining;
    atomic_bool abort_step;
};

/* ---- request.c ---- */

enum fm_status fm_request_new(struct fm_scheduler *s, const struct fm_request_options *o, struct fm_request **out,
                              struct fm_error *err) FM_MUST_USE;
void fm_request_drop(struct fm_request *r); /* one hold less */
/* KV blocks for n tokens; evicts from the prefix cache when memory is short. */
enum fm_status fm_request_reserve(struct fm_request *r, int n, struct fm_error *err) FM_MUST_USE;
/* Take over what the prefix cache knows of the prompt; give back what may be of use to others. */
void fm_request_adopt(struct fm_request *r);
void fm_request_publish(struct fm_request *r);
/* Sample behind the last row, hand text out.  Returns FM_END_COUNT while it goes on. */
enum fm_end fm_request_advance(struct fm_request *r, const float *logits, struct fm_error *err);
/* Probabilities of prompt token ids[at], from the logits of the row before. */
void fm_request_echo(struct fm_request *r, const float *logits, int at);
/* Text that was held back, on_end; the request is over. */
void fm_request_finish(struct fm_request *r, enum fm_end end, const struct fm_error *err);

/* ---- batch.c ---- */

/* Bytes of arena that a step of rows_max rows in n_slots sequences takes at most. */
size_t fm_batch_bytes(const struct fm_scheduler *s);
/* One step over the slots.  Ended requests are finished and their slots empty. */
void fm_batch_step(struct fm_scheduler *s);

#endif
