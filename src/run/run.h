/* Inside of the opaque handles of fathom.h, for the files of this folder. */
#ifndef FM_RUN_RUN_H
#define FM_RUN_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "fathom.h"
#include "file/tensors.h"
#include "model/model.h"
#include "run/kvpool.h"
#include "run/sampler.h"
#include "run/speculate.h"
#include "text/tokenizer.h"

enum {
    FM_CTX_DEFAULT = 4096,  /* at most, when nobody asked                                  */
    FM_CTX_MAX = 1 << 24,   /* tokens; more is a typing error, not a wish                  */
    FM_CHUNK_DEFAULT = 512, /* enough rows that a step is bound by arithmetic, not memory  */
    FM_CHUNK_MAX = 1 << 16,
    FM_THREADS_MAX = 1024,
};

/* Options with every default filled in; limits checked. */
struct fm_plan {
    int ctx, chunk;
    bool exact, deterministic;
    enum fm_draft draft; /* what sessions may draft with …            */
    int draft_max;       /* … and how many tokens for a step, 0: none */
    bool mtp;            /* sessions keep a cache for the MTP block   */
    enum fm_kv_type kv_type;
    size_t packed_bytes;  /* of weights packed when loading, 0: all stay mapped */
    size_t block_bytes;   /* of one KV block                          */
    size_t step_bytes;    /* arena of the largest step                */
    size_t session_bytes; /* arena of one session of ctx tokens       */
};
enum fm_status fm_options_check(const struct fm_engine_options *o, struct fm_error *err) FM_MUST_USE;
/* w: real or shape-only weights.  Whether to pack them, where nobody says, is asked of the machine's free memory now. */
enum fm_status fm_plan_make(const struct fm_engine_options *o, const struct fm_config *cfg, const struct fm_weights *w,
                            struct fm_plan *p, struct fm_error *err) FM_MUST_USE;
/* The items of a memory plan, in bytes. */
struct fm_plan_items {
    int ctx, chunk;
    bool deterministic;
    enum fm_kv_type kv_type;
    uint64_t weights, packed, derived, kv, step, threads, session, tokenizer;
};
/* f NULL: of a model that is not here. */
struct fm_inventory;
enum fm_status fm_plan_items(const struct fm_engine_options *o, const struct fm_file *f, const struct fm_inventory *inv,
                             struct fm_plan_items *out, struct fm_error *err);
void fm_plan_tell(const struct fm_plan_items *i, fm_memory_fn fn, void *arg);
/* Arena bytes of a session of ctx tokens, of which plan p knows the drafts; kv_blocks: of ctx tokens. */
size_t fm_session_bytes(const struct fm_plan *p, const struct fm_config *cfg, int ctx);
static inline int fm_kv_blocks(int ctx) { return (ctx + FM_KV_BLOCK - 1) / FM_KV_BLOCK; }

struct fm_engine {
    struct fm_file *file;
    struct fm_model model;
    bool loaded;
    struct fm_tokenizer *tok;  /* NULL: the model carries none, or one we cannot read … */
    struct fm_error tok_error; /* … for this reason                                     */
    const char *chat;          /* name of the chat format; NULL: continues text         */
    struct fm_model_info *info;
    struct fm_plan plan;
    enum fm_pin pin; /* as asked for */
    struct fm_pool *pool;
    void *backend;
    struct fm_arena step;
    struct fm_ctx ctx;
    struct fm_kvpool kv;
    struct fm_token_trie *trie; /* of the tokens, for constraints; NULL until the first one */
    pthread_mutex_t turn;       /* a step of one session at a time */
    bool turn_made;
};

/* As fm_engine_open; for_inference as in fm_model_load: false leaves out the matrices derived for decoding, so that latent
 * attention runs over those of the file. */
enum fm_status fm_engine_open_for(const struct fm_engine_options *o, bool for_inference, struct fm_engine **out,
                                  struct fm_error *err) FM_MUST_USE;
/* From now on that many threads compute, 0: one per core; on failure as many as before.  Between steps of its sessions. */
enum fm_status fm_engine_set_threads(struct fm_engine *e, int threads, struct fm_error *err) FM_MUST_USE;

/* An end token; or BOS, which begins something else and so ends this: models trained on packed texts close a text that way. */
bool fm_engine_is_end(const struct fm_engine *e, int32_t id);
/* Fails with the reason why there is no tokenizer. */
enum fm_status fm_engine_has_text(const struct fm_engine *e, struct fm_error *err) FM_MUST_USE;

struct fm_session {
    struct fm_engine *e;
    int ctx, length;
    struct fm_arena arena;
    struct fm_kv_block **blocks; /* fm_kv_blocks(ctx) of them            */
    struct fm_kv kv;
    int32_t *ids, *pos;        /* [ctx] tokens so far; 0, 1, 2, …      */
    float *logits;             /* [vocab] of token logits_at − 1       */
    int logits_at;             /* equal to length when they count; 0: none */
    struct fm_candidate *work; /* [vocab] sampler's                    */
    uint8_t *seen;             /* [vocab] sampler's                    */
    /* drafting: ids[length … length+n_ahead) are computed already, but not yet part of the timeline */
    int n_ahead;
    float *ahead; /* [1 + draft_max, vocab] logits of the last step that had drafts */
    int ahead_at; /* length that its row 0 belongs to                               */
    struct fm_mtp_state mtp;
    struct fm_guard guard;
    bool unguarded;                  /* draft always: for tests and measurements */
    double turn_start, step_seconds; /* of processor time: other programs do not mislead the guard */
    atomic_bool cancel;
};

/* Hidden states and logits of rows b over c's arena, which is emptied first.  logits: NULL, or [b->T, V]; last: NULL, or
 * where the last row's logits go once all is well; m: the MTP block's part.  Failures stick in c. */
void fm_session_compute(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w,
                        const double *rope_freq, const struct fm_batch *b, float *logits, float *last,
                        struct fm_mtp_state *m);
/* The engine's context is this session's until the turn is done, which returns what stuck in it. */
void fm_session_turn(struct fm_session *s);
enum fm_status fm_session_turn_done(struct fm_session *s, struct fm_error *err) FM_MUST_USE;
/* Compute hidden states that the MTP block lacks after a rewind. */
enum fm_status fm_session_complete(struct fm_session *s, struct fm_error *err) FM_MUST_USE;
/* Feed ids[0] and compute ids[1 … n−1] behind it, n <= 1 + draft_max, each with the bits of a token fed alone. */
enum fm_status fm_session_feed_ahead(struct fm_session *s, const int32_t *ids, int n, struct fm_error *err) FM_MUST_USE;
/* If id is the next token computed ahead: it is fed.  Else nothing changes. */
bool fm_session_take(struct fm_session *s, int32_t id);
void fm_session_drop_ahead(struct fm_session *s); /* what was computed ahead is not wanted any more */
/* As the public functions, but a cancel that came before is not forgotten. */
enum fm_status fm_session_feed_on(struct fm_session *s, const int32_t *ids, int n, float *logits,
                                  struct fm_error *err) FM_MUST_USE;
enum fm_status fm_session_generate_on(struct fm_session *s, const struct fm_generation *g,
                                      struct fm_generation_stats *stats, struct fm_error *err) FM_MUST_USE;

/* Of an open file: strings and numbers in one heap block. */
enum fm_status fm_info_new(const struct fm_file *f, const struct fm_config *cfg, const char *chat_format,
                           bool chat_unknown, struct fm_model_info **out, struct fm_error *err) FM_MUST_USE;

struct fm_session *fm_chat_session(struct fm_chat *c); /* to look at in tests */

#endif
