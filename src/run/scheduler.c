/* See scheduler.h and fathom_serve.h. */
#include "run/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "run/fingerprint.h"

static const uint64_t CACHE_DIR_BYTES = UINT64_C(4) << 30;
enum { SLOTS = 8, QUEUE = 64, QUEUE_MAX = 1 << 16, PICKERS_MAX = 16 };

/* ---- the queue ---- */

static int busy_slots(const struct fm_scheduler *s)
{
    int n = 0;
    for (int i = 0; i < s->n_slots; i++) n += s->slots[i] != NULL;
    return n;
}

/* Its prompt is being computed by another one, and can soon be found in the cache. */
static bool waits_for_leader(const struct fm_request *r)
{
    return r->leader && r->leader->phase != FM_PHASE_ANSWER && r->leader->phase != FM_PHASE_OVER;
}

/* The user with the least work done and under way comes first, then who waits longest.  Called under the lock. */
static struct fm_request *take_next(struct fm_scheduler *s)
{
    struct fm_request **best = NULL, *prev = NULL, *r;
    fm_fair_tally(s);
    for (struct fm_request **at = &s->first; *at; at = &(*at)->next)
        if (!waits_for_leader(*at) && (!best || (*at)->user->pledged < (*best)->user->pledged)) best = at;
    if (!best) return NULL;
    r = *best;
    *best = r->next;
    for (struct fm_request *x = s->first; x; x = x->next) prev = x;
    s->last = prev;
    r->next = NULL;
    s->waiting--;
    return r;
}

static bool is_gone(const struct fm_request *r, double now)
{
    return atomic_load(&r->cancelled) || (r->o.seconds_max > 0 && now - r->t_submit > r->o.seconds_max);
}

/* Waiting requests that nobody wants any more end without a slot.  Returns one of them, or NULL.  Under the lock. */
static struct fm_request *take_gone(struct fm_scheduler *s)
{
    const double now = fm_seconds();
    struct fm_request *before = NULL;
    for (struct fm_request *r = s->first; r; before = r, r = r->next) {
        if (!is_gone(r, now)) continue;
        *(before ? &before->next : &s->first) = r->next;
        if (s->last == r) s->last = before;
        s->waiting--;
        r->next = NULL;
        return r;
    }
    return NULL;
}

static void end_waiting(struct fm_scheduler *s, struct fm_request *r, enum fm_end end)
{
    (void)pthread_mutex_lock(&s->lock);
    s->stats.ends[end]++;
    fm_fair_leave(s, r);
    (void)pthread_mutex_unlock(&s->lock);
    fm_request_finish(r, end, NULL);
    fm_request_drop(r);
}

static void sweep(struct fm_scheduler *s)
{
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        struct fm_request *r = take_gone(s);
        (void)pthread_mutex_unlock(&s->lock);
        if (!r) return;
        end_waiting(s, r, atomic_load(&r->cancelled) ? FM_END_CANCELLED : FM_END_DEADLINE);
    }
}

static void note_start(struct fm_scheduler *s, struct fm_request *r)
{
    (void)pthread_mutex_lock(&s->lock);
    r->t_start = fm_seconds();
    fm_histogram_add(&s->stats.queued, r->t_start - r->t_submit);
    (void)pthread_mutex_unlock(&s->lock);
}

static void admit(struct fm_scheduler *s)
{
    for (int i = 0; i < s->n_slots; i++) {
        if (s->slots[i]) continue;
        (void)pthread_mutex_lock(&s->lock);
        struct fm_request *r = take_next(s);
        if (r) s->slots[i] = r;
        (void)pthread_mutex_unlock(&s->lock);
        if (!r) return;
        note_start(s, r);
        fm_request_adopt(r);
    }
}

/* ---- the thread ---- */

/* Every request with a slot waits for the disk. */
static bool only_loading(const struct fm_scheduler *s)
{
    for (int i = 0; i < s->n_slots; i++) {
        const struct fm_request *r = s->slots[i];
        if (r && (r->phase != FM_PHASE_LOADING || !fm_kvload_busy(s->disk, &r->load))) return false;
    }
    return busy_slots(s) > 0;
}

/* Until something comes from the disk, or for a moment: requests come and end meanwhile. */
static void wait_for_disk(struct fm_scheduler *s)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    if ((until.tv_nsec += s->first ? 1000000 : 20000000) >= 1000000000)
        until = (struct timespec){until.tv_sec + 1, until.tv_nsec - 1000000000};
    (void)pthread_cond_timedwait(&s->wake, &s->lock, &until);
}

static void loaded(void *arg)
{
    struct fm_scheduler *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

static void *serve(void *arg)
{
    struct fm_scheduler *s = arg;
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        while (!s->stopping && !s->first && !busy_slots(s)) (void)pthread_cond_wait(&s->wake, &s->lock);
        if (!s->stopping && only_loading(s)) wait_for_disk(s);
        const bool stopping = s->stopping;
        (void)pthread_mutex_unlock(&s->lock);
        if (stopping) return NULL;
        sweep(s);
        admit(s);
        fm_batch_step(s);
    }
}

static void end_all(struct fm_scheduler *s)
{
    for (int i = 0; i < s->n_slots; i++)
        if (s->slots && s->slots[i]) {
            fm_request_finish(s->slots[i], FM_END_SHUTDOWN, NULL);
            fm_request_drop(s->slots[i]);
        }
    while (s->first) {
        struct fm_request *r = s->first;
        s->first = r->next;
        end_waiting(s, r, FM_END_SHUTDOWN);
    }
}

/* ---- making one ---- */

static uint64_t cache_limit(const struct fm_scheduler *s, const struct fm_scheduler_options *o)
{
    const uint64_t own = (uint64_t)s->n_slots * (uint64_t)fm_kv_blocks(s->ctx) * s->e->kv.block_bytes;
    const uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
    if (o->cache_bytes) return o->cache_bytes;
    return own < memory / 8 ? own : memory / 8;
}

static enum fm_status check(const struct fm_engine *e, const struct fm_scheduler_options *o, struct fm_error *err)
{
    if (o->slots < 0 || o->slots > FM_SLOTS_MAX)
        return fm_fail(err, FM_ERR_USAGE, "new scheduler: %d slots: not within 0 … %d", o->slots, FM_SLOTS_MAX);
    if (o->queue < 0 || o->queue > QUEUE_MAX)
        return fm_fail(err, FM_ERR_USAGE, "new scheduler: a queue of %d: not within 0 … %d", o->queue, QUEUE_MAX);
    if (o->ctx < 0 || o->ctx > e->plan.ctx)
        return fm_fail(err, FM_ERR_USAGE, "new scheduler: context of %d tokens: the engine allows 1 to %d", o->ctx,
                       e->plan.ctx);
    return FM_OK;
}

static void put_word(char *dst, size_t n, const char *word) { (void)snprintf(dst, n, "%s", word ? word : ""); }

/* Everything that the bits of a block depend on, beside its tokens. */
static enum fm_status origin_of(const struct fm_engine *e, struct fm_kvorigin *o, struct fm_error *err)
{
    json_t *j = fm_config_to_json(&e->model.cfg);
    char *text = j ? json_dumps(j, JSON_SORT_KEYS) : NULL;
    json_decref(j);
    if (!text) return fm_fail_memory(err, "the model's configuration", 0);
    *o = (struct fm_kvorigin){.block_bytes = e->kv.block_bytes, .model = fm_fingerprint_weights(e->file)};
    o->model = fm_fingerprint_str(o->model, text);
    o->model = fm_fingerprint(o->model, e->model.rope_freq, (size_t)e->model.cfg.rope_dim / 2 * sizeof(double));
    put_word(o->type, sizeof o->type, fm_kv_type_name(e->plan.kv_type));
    put_word(o->tier, sizeof o->tier, fm_engine_tier(e));
    put_word(o->mode, sizeof o->mode, e->plan.exact ? "exact" : e->plan.deterministic ? "deterministic" : "");
    put_word(o->version, sizeof o->version, FM_VERSION);
    free(text); /* jansson's */
    return FM_OK;
}

static enum fm_status open_disk(struct fm_scheduler *s, const struct fm_scheduler_options *o, struct fm_error *err)
{
    struct fm_kvstore_options d = {.dir = o->cache_dir,
                                   .limit = o->cache_dir_bytes ? o->cache_dir_bytes : CACHE_DIR_BYTES,
                                   .pool = &s->e->kv,
                                   .on_loaded = loaded,
                                   .arg = s};
    FM_TRY(origin_of(s->e, &d.origin, err));
    return fm_kvstore_open(&d, &s->disk, err);
}

static enum fm_status make_rooms(struct fm_scheduler *s, struct fm_error *err)
{
    const size_t n = (size_t)s->n_slots, V = (size_t)s->e->model.cfg.V, rows = (size_t)s->rows_max;
    s->slots = fm_calloc(n, sizeof(struct fm_request *));
    s->of = fm_calloc(n, sizeof(struct fm_request *));
    s->seqs = fm_calloc(n, sizeof *s->seqs);
    s->logits = fm_malloc(n * V * sizeof *s->logits);
    s->order = fm_calloc(n, sizeof(struct fm_request *));
    s->wanted = fm_calloc(n, sizeof(struct fm_request *));
    s->pickers = s->e->pool ? fm_pool_size(s->e->pool) : 1;
    if (s->pickers > s->n_slots) s->pickers = s->n_slots;
    if (s->pickers > PICKERS_MAX) s->pickers = PICKERS_MAX;
    s->work = fm_malloc((size_t)s->pickers * V * sizeof *s->work);
    s->seen = fm_calloc((size_t)s->pickers * V, sizeof *s->seen);
    s->ids = fm_calloc(rows, sizeof *s->ids);
    s->pos = fm_calloc(rows, sizeof *s->pos);
    if (!s->slots || !s->of || !s->order || !s->wanted || !s->seqs || !s->logits || !s->work || !s->seen || !s->ids ||
        !s->pos)
        return fm_fail_memory(err, "a scheduler", (n + 3) * V * sizeof *s->logits);
    FM_TRY(fm_arena_init(&s->arena, "batch", fm_batch_bytes(s), err));
    s->ctx_step = s->e->ctx;
    s->ctx_step.arena = &s->arena;
    return FM_OK;
}

static void release(struct fm_scheduler *s)
{
    fm_kvstore_close(s->disk);
    fm_prefix_free(s->prefix);
    fm_arena_release(&s->arena);
    fm_energy_close(&s->energy);
    fm_free(s->slots);
    fm_fair_free(s);
    fm_free(s->of);
    fm_free(s->order);
    fm_free(s->wanted);
    fm_free(s->seqs);
    fm_free(s->logits);
    fm_free(s->work);
    fm_free(s->seen);
    fm_free(s->ids);
    fm_free(s->pos);
    fm_free(s);
}

enum fm_status fm_scheduler_new(struct fm_engine *e, const struct fm_scheduler_options *o, struct fm_scheduler **out,
                                struct fm_error *err)
{
    FM_TRY(check(e, o, err));
    struct fm_scheduler *s = fm_calloc(1, sizeof *s);
    if (!s) return fm_fail_memory(err, "a scheduler", sizeof *s);
    enum fm_status st;
    s->e = e;
    s->n_slots = o->slots ? o->slots : SLOTS;
    s->queue_max = o->queue ? o->queue : QUEUE;
    s->ctx = o->ctx ? o->ctx : e->plan.ctx;
    s->rows_max = e->plan.chunk > s->n_slots ? e->plan.chunk : s->n_slots;
    FM_GOTO(make_rooms(s, err));
    if (!o->no_cache) FM_GOTO(fm_prefix_new(&e->kv, cache_limit(s, o), &s->prefix, err));
    if (o->cache_dir) FM_GOTO(open_disk(s, o, err));
    fm_energy_open(&s->energy, o->powercap);
    if (pthread_mutex_init(&s->lock, NULL)) FM_GOTO(fm_fail_memory(err, "a lock", sizeof s->lock));
    if (pthread_cond_init(&s->wake, NULL) || pthread_create(&s->thread, NULL, serve, s)) {
        (void)pthread_mutex_destroy(&s->lock);
        FM_GOTO(fm_fail(err, FM_ERR_MEMORY, "new scheduler: its thread: the system gives none"));
    }
    *out = s;
    return FM_OK;
out:
    release(s);
    return st;
}

void fm_scheduler_free(struct fm_scheduler *s)
{
    if (!s) return;
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    atomic_store(&s->abort_step, true);
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    end_all(s);
    fm_kvstore_close(s->disk); /* its thread uses the lock */
    s->disk = NULL;
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_mutex_destroy(&s->lock);
    release(s);
}

/* ---- for the callers ---- */

/* Places in the queue, or why there are none. */
static enum fm_status take_place(struct fm_scheduler *s, struct fm_request *const *r, int n, bool *busy,
                                 struct fm_error *err)
{
    enum fm_status st = FM_OK;
    (void)pthread_mutex_lock(&s->lock);
    const bool full = s->waiting >= s->queue_max, leaving = s->stopping || s->draining;
    if (leaving)
        st = fm_fail(err, FM_ERR_FAILED, "request: the scheduler: it is shutting down");
    else if (full)
        st = fm_fail(err, FM_ERR_FAILED, "request: the queue: %d requests wait already", s->waiting);
    for (int i = 0; i < n && !st; i++)
        if (!fm_fair_join(s, r[i])) st = fm_fail_memory(err, "a user", sizeof *r[i]->user);
    for (int i = 0; i < n && st; i++) fm_fair_leave(s, r[i]);
    if (st)
        s->stats.refused += (uint64_t)n;
    else
        s->waiting += n; /* their places are sure */
    (void)pthread_mutex_unlock(&s->lock);
    if (st && busy) *busy = full && !leaving;
    return st;
}

static void enqueue(struct fm_scheduler *s, struct fm_request *const *r, int n)
{
    (void)pthread_mutex_lock(&s->lock);
    for (int i = 0; i < n; i++) {
        atomic_fetch_add(&r[i]->holds, 1);
        *(s->last ? &s->last->next : &s->first) = r[i];
        s->last = r[i];
        s->stats.requests++;
    }
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

/* Neighbours with one prompt: the first computes it. */
static void follow(const struct fm_scheduler *s, struct fm_request *before, struct fm_request *r)
{
    const bool same = r->n_prompt == before->n_prompt && !strcmp(r->o.user, before->o.user) &&
                      !memcmp(r->ids, before->ids, (size_t)r->n_prompt * sizeof *r->ids);
    if (!s->prefix || !same || r->o.echo || r->o.embed || r->n_prompt <= FM_KV_BLOCK) return;
    r->leader = before->leader ? before->leader : before;
    atomic_fetch_add(&r->leader->holds, 1);
}

/* r[n]: room for all of them. */
static enum fm_status submit(struct fm_scheduler *s, const struct fm_request_options *o, int n, struct fm_request **r,
                             struct fm_request **out, bool *busy, struct fm_error *err)
{
    enum fm_status st = FM_OK;
    int made = 0;
    while (made < n && !(st = fm_request_new(s, &o[made], &r[made], err))) {
        if (made) follow(s, r[made - 1], r[made]);
        made++;
    }
    if (!st) st = take_place(s, r, n, busy, err);
    if (st) {
        while (made) fm_request_drop(r[--made]);
        return st;
    }
    memcpy(out, r, (size_t)n * sizeof(struct fm_request *)); /* what out is in may be gone once they are in the queue */
    for (int i = 0; i < n; i++)
        if (o[i].on_accept) o[i].on_accept(o[i].arg, r[i]);
    enqueue(s, r, n);
    return FM_OK;
}

enum fm_status fm_scheduler_submit_all(struct fm_scheduler *s, const struct fm_request_options *o, int n,
                                       struct fm_request **out, bool *busy, struct fm_error *err)
{
    struct fm_request *one[1], **r = n == 1 ? one : fm_malloc((size_t)n * sizeof(struct fm_request *));
    if (busy) *busy = false;
    if (!r) return fm_fail_memory(err, "requests", (size_t)n * sizeof(struct fm_request *));
    const enum fm_status st = submit(s, o, n, r, out, busy, err);
    if (r != one) fm_free(r);
    return st;
}

enum fm_status fm_scheduler_submit(struct fm_scheduler *s, const struct fm_request_options *o, struct fm_request **out,
                                   bool *busy, struct fm_error *err)
{
    return fm_scheduler_submit_all(s, o, 1, out, busy, err);
}

/* Half of the step or more is for those who left: then the others lose less by doing theirs again than by waiting.  Not twice
 * in a row: who comes and leaves again and again holds up nobody. */
static bool may_abort(const struct fm_scheduler *s)
{
    int gone = 0, others = 0;
    for (int i = 0; i < s->n_slots; i++) {
        const struct fm_request *r = s->slots[i];
        if (r) *(atomic_load(&r->cancelled) ? &gone : &others) += r->rows_shown;
    }
    return gone >= others && !(others && s->aborted);
}

void fm_request_cancel(struct fm_request *r)
{
    struct fm_scheduler *s = r->s;
    (void)pthread_mutex_lock(&s->lock);
    atomic_store(&r->cancelled, true);
    for (int i = 0; i < s->n_slots; i++)
        if (s->slots[i] == r && may_abort(s)) atomic_store(&s->abort_step, true);
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

bool fm_scheduler_has_joules(const struct fm_scheduler *s) { return s->energy.n > 0; }

bool fm_scheduler_drain(struct fm_scheduler *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->draining = true;
    const bool idle = !s->first && !busy_slots(s);
    (void)pthread_mutex_unlock(&s->lock);
    return idle;
}

void fm_scheduler_stats(struct fm_scheduler *s, struct fm_scheduler_stats *out)
{
    (void)pthread_mutex_lock(&s->lock);
    *out = s->stats;
    out->slots = s->n_slots;
    out->ctx = s->ctx;
    out->busy = busy_slots(s);
    out->waiting = s->waiting;
    const int before = out->waiting + 1 - (out->slots - out->busy); /* requests that must end first */
    out->wait_seconds = before > 0 ? s->slot_seconds * before / out->slots : 0;
    (void)pthread_mutex_unlock(&s->lock);
    if (s->disk) fm_kvstore_stats(s->disk, &out->disk);
}

void fm_scheduler_slot(struct fm_scheduler *s, int i, struct fm_slot_info *out)
{
    *out = (struct fm_slot_info){0};
    if (i < 0 || i >= s->n_slots) return;
    (void)pthread_mutex_lock(&s->lock);
    const struct fm_request *r = s->slots[i];
    if (r) {
        *out = r->info;
        out->busy = true;
        out->prompt_tokens = r->n_prompt;
        out->seconds = fm_seconds() - r->t_submit;
        out->answer_seconds = r->t_first > 0 ? fm_seconds() - r->t_first : 0;
    }
    (void)pthread_mutex_unlock(&s->lock);
}
