/* One request: checked and copied when it comes, then a timeline that grows by a token per step. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "run/logprob.h"
#include "run/scheduler.h"

/* ---- life ---- */

static void release(struct fm_request *r)
{
    fm_request_drop(r->leader);
    for (int i = 0; i < r->o.n_stop && r->o.stop; i++) fm_free((char *)r->o.stop[i]);
    fm_free((void *)r->o.stop);
    fm_free((char *)r->o.user);
    fm_free(r->ids);
    fm_free(r->sum);
    fm_free(r->blocks);
    fm_free(r->kv.blocks);
    fm_follow_end(&r->bound);
    fm_stream_release(&r->stream);
    fm_buf_release(&r->before);
    fm_buf_release(&r->with);
    fm_free(r);
}

void fm_request_drop(struct fm_request *r)
{
    if (r && atomic_fetch_sub(&r->holds, 1) == 1) release(r);
}

void fm_request_free(struct fm_request *r) { fm_request_drop(r); }

static enum fm_status check(const struct fm_scheduler *s, const struct fm_request_options *o, struct fm_error *err)
{
    const int V = s->e->model.cfg.V;
    if (o->n_ids < 1) return fm_fail(err, FM_ERR_USAGE, "request: the prompt: it is empty");
    if (o->n_ids > s->ctx || (o->n_ids == s->ctx && o->max_tokens != 0))
        return fm_fail(err, FM_ERR_USAGE, "request: the prompt has %d tokens: the context holds %d with the answer",
                       o->n_ids, s->ctx);
    for (int i = 0; i < o->n_ids; i++)
        if (o->ids[i] < 0 || o->ids[i] >= V)
            return fm_fail(err, FM_ERR_USAGE, "request: token %d at place %d: the vocabulary ends at %d",
                           (int)o->ids[i], i, V - 1);
    if (o->embed && o->max_tokens)
        return fm_fail(err, FM_ERR_USAGE, "request: max_tokens %d: a mean of hidden states has no answer",
                       o->max_tokens);
    if (o->max_tokens < -1) return fm_fail(err, FM_ERR_USAGE, "request: max_tokens %d: negative", o->max_tokens);
    if (o->top < -1 || o->top > FM_TOP_MAX)
        return fm_fail(err, FM_ERR_USAGE, "request: %d probabilities per token: at most %d", o->top, FM_TOP_MAX);
    return FM_OK;
}

static bool copy_stops(struct fm_request *r, const struct fm_request_options *o)
{
    char **stop = fm_calloc((size_t)o->n_stop + 1, sizeof *stop);
    r->o.stop = (const char *const *)stop;
    for (int i = 0; stop && i < o->n_stop; i++)
        if (!(stop[i] = fm_strdup(o->stop[i]))) return false;
    return stop;
}

static bool make_room(struct fm_request *r, const struct fm_request_options *o)
{
    const int ctx = r->s->ctx,
              room = o->max_tokens < 0 || o->max_tokens > ctx - o->n_ids ? ctx - o->n_ids : o->max_tokens;
    const size_t blocks = (size_t)fm_kv_blocks(o->n_ids + room);
    r->cap = o->n_ids + room;
    r->ids = fm_malloc((size_t)r->cap * sizeof *r->ids);
    r->blocks = fm_malloc(blocks * sizeof(struct fm_kv_block *));
    r->kv.blocks = fm_malloc(blocks * sizeof(fm_real *));
    r->o.user = fm_strdup(o->user ? o->user : "");
    if (o->embed) r->sum = fm_calloc((size_t)r->s->e->model.cfg.D, sizeof *r->sum);
    if (!r->ids || !r->blocks || !r->kv.blocks || !r->o.user || (o->embed && !r->sum)) return false;
    memcpy(r->ids, o->ids, (size_t)o->n_ids * sizeof *r->ids);
    return true;
}

static bool on_text(void *arg, const char *text, size_t n)
{
    struct fm_request *r = arg;
    if (r->o.on_text) r->o.on_text(r->o.arg, text, n);
    return true;
}

enum fm_status fm_request_new(struct fm_scheduler *s, const struct fm_request_options *o, struct fm_request **out,
                              struct fm_error *err)
{
    enum fm_status st;
    FM_TRY(check(s, o, err));
    FM_TRY(fm_engine_has_text(s->e, err));
    struct fm_request *r = fm_calloc(1, sizeof *r);
    if (!r) return fm_fail_memory(err, "a request", sizeof *r);
    r->s = s;
    r->o = *o;
    r->o.stop = NULL;
    r->o.user = NULL;
    r->o.ids = NULL;
    r->holds = 1;
    FM_GOTO(fm_sampler_init(&r->sampler, &o->sampling, s->e->model.cfg.V, NULL, NULL, err));
    FM_GOTO(fm_follow_begin(&r->bound, o->constraint, o->constraint_start, err));
    if (!copy_stops(r, o) || !make_room(r, o)) FM_GOTO(fm_fail_memory(err, "a request", (size_t)o->n_ids * 8));
    r->n = r->n_prompt = r->segment_n = r->sampler.from = o->n_ids;
    r->kv.shape = fm_kv_shape(&s->e->model.cfg, s->e->plan.kv_type);
    r->stream = (struct fm_stream){.stop = r->o.stop, .n_stop = o->n_stop, .out = on_text, .arg = r};
    r->t_submit = fm_seconds();
    *out = r;
    return FM_OK;
out:
    fm_request_drop(r);
    return st;
}

/* ---- cache ---- */

enum fm_status fm_request_reserve(struct fm_request *r, int n, struct fm_error *err)
{
    struct fm_kvpool *pool = &r->s->e->kv;
    const int more = fm_kv_blocks(n) - r->n_blocks;
    if (more <= 0) return FM_OK;
    enum fm_status st;
    while ((st = fm_kvpool_take(pool, more, r->blocks + r->n_blocks, err)))
        if (!r->s->prefix || !fm_prefix_evict(r->s->prefix)) return st;
    for (int i = r->n_blocks; i < r->n_blocks + more; i++) r->kv.blocks[i] = r->blocks[i]->data;
    r->n_blocks += more;
    return FM_OK;
}

/* n_blocks of the prompt are here. */
static void begin_behind_cached(struct fm_request *r)
{
    for (int i = 0; i < r->n_blocks; i++) r->kv.blocks[i] = r->blocks[i]->data;
    r->cached = r->fed = r->segment_pos0 = r->n_blocks * FM_KV_BLOCK;
    r->segment_n = r->n_prompt - r->cached;
    r->phase = FM_PHASE_PROMPT;
}

void fm_request_adopt(struct fm_request *r)
{
    struct fm_scheduler *s = r->s;
    if (s->prefix && !r->o.echo && !r->o.embed) /* which need every row */
        r->n_blocks = fm_prefix_find(s->prefix, r->o.user, r->ids, r->n_prompt - 1, r->blocks);
    begin_behind_cached(r);
    if (!s->disk || r->o.echo || r->o.embed) return;
    r->load = (struct fm_kvload){.user = r->o.user,
                                 .ids = r->ids,
                                 .blocks = r->blocks + r->n_blocks,
                                 .first = r->n_blocks,
                                 .n = (r->n_prompt - 1) / FM_KV_BLOCK - r->n_blocks};
    if (fm_kvload_start(s->disk, &r->load)) r->phase = FM_PHASE_LOADING;
}

bool fm_request_loaded(struct fm_request *r)
{
    if (fm_kvload_busy(r->s->disk, &r->load)) return false;
    r->n_blocks += r->load.got;
    begin_behind_cached(r);
    return true;
}

void fm_request_publish(struct fm_request *r)
{
    const int n = r->fed / FM_KV_BLOCK;
    if (n == r->published) return;
    if (r->s->prefix) fm_prefix_add(r->s->prefix, r->o.user, r->ids, n, r->blocks);
    if (r->s->disk) fm_kvstore_save(r->s->disk, r->o.user, r->ids, n, r->blocks);
    r->published = n;
}

/* ---- probabilities ---- */

static float log_prob(float logit, double lse)
{
    const double l = (double)logit - lse;
    return l >= -9999 ? (float)l : -9999.0f; /* NaN, too */
}

/* The n likeliest by insertion: n is at most 20, and few logits get past the worst one kept. */
static int likeliest(const float *logits, int V, int n, struct fm_token_prob *top)
{
    int have = 0;
    for (int i = 0; i < V && n > 0; i++) {
        if (!(logits[i] > -HUGE_VALF) || (have == n && !(logits[i] > top[have - 1].logprob))) continue;
        int at = have < n ? have++ : n - 1;
        for (; at > 0 && logits[i] > top[at - 1].logprob; at--) top[at] = top[at - 1];
        top[at] = (struct fm_token_prob){i, logits[i]};
    }
    return have;
}

static void report(struct fm_request *r, const float *logits, struct fm_token_event ev)
{
    const int V = r->s->e->model.cfg.V;
    if (r->o.top < 0) {
        if (r->o.on_token) r->o.on_token(r->o.arg, &ev);
        return;
    }
    const double lse = fm_row_lse(logits, V);
    ev.token.logprob = log_prob(logits[ev.token.id], lse);
    ev.n_top = likeliest(logits, V, r->o.top, ev.top);
    for (int i = 0; i < ev.n_top; i++) ev.top[i].logprob = log_prob(ev.top[i].logprob, lse);
    if (r->o.on_token) r->o.on_token(r->o.arg, &ev);
}

void fm_request_echo(struct fm_request *r, const float *logits, int at)
{
    if (at <= r->echoed) return; /* a step that was given up is computed again */
    r->echoed = at;
    report(r, logits, (struct fm_token_event){.token.id = r->ids[at], .position = at, .prompt = true});
}

/* ---- the mean ---- */

/* In order of the rows, in double: the cut into steps changes nothing. */
void fm_request_pool(struct fm_request *r, const fm_real *hidden, int n)
{
    const int D = r->s->e->model.cfg.D;
    for (int i = 0; i < n; i++)
        for (int d = 0; d < D; d++) r->sum[d] += (double)hidden[(size_t)i * (size_t)D + (size_t)d];
}

/* ---- one token more ---- */

void fm_request_pick(struct fm_request *r, const float *logits, struct fm_candidate *work, uint8_t *seen)
{
    if (r->n == r->cap) return; /* max_tokens 0 */
    r->sampler.work = work;
    r->sampler.seen = seen;
    r->bound_fault.code = FM_OK;
    if (fm_follow_mask(&r->bound, &r->sampler.allowed, &r->complete, &r->bound_fault)) return;
    r->picked = r->complete ? 0 : fm_sampler_pick(&r->sampler, logits, r->ids, r->n);
}

static void note_time(struct fm_request *r)
{
    struct fm_scheduler *s = r->s;
    const double now = fm_seconds();
    (void)pthread_mutex_lock(&s->lock);
    if (r->t_first > 0)
        fm_histogram_add(&s->stats.next_token, now - r->t_last);
    else
        fm_histogram_add(&s->stats.first_token, now - r->t_submit);
    if (r->t_first <= 0) r->t_first = now;
    r->t_last = now;
    (void)pthread_mutex_unlock(&s->lock);
}

enum fm_end fm_request_advance(struct fm_request *r, const float *logits, struct fm_error *err)
{
    const struct fm_tokenizer *t = r->s->e->tok;
    note_time(r);
    if (r->n == r->cap) return FM_END_LENGTH; /* max_tokens 0 */
    if (r->bound_fault.code) {
        if (err) *err = r->bound_fault;
        return FM_END_FAILED;
    }
    if (r->complete) return FM_END_STOP;
    const int32_t id = r->picked;
    const bool end = (!r->o.ignore_end || r->o.constraint) && fm_engine_is_end(r->s->e, id);
    report(r, logits, (struct fm_token_event){.token.id = id, .position = r->n, .end = end});
    if (end) {
        r->made++; /* it was computed, and the services that people know count it */
        return FM_END_STOP;
    }
    if (fm_follow_token(&r->bound, id, err)) return FM_END_FAILED;
    if (id < fm_tokenizer_size(t) && fm_stream_token(&r->stream, t, r->ids[r->n - 1], id, &r->before, &r->with, err))
        return FM_END_FAILED;
    r->ids[r->n++] = id;
    r->made++;
    if (r->stream.stopped) return FM_END_STOP;
    return r->n == r->cap ? FM_END_LENGTH : FM_END_COUNT;
}

void fm_request_finish(struct fm_request *r, enum fm_end end, const struct fm_error *err)
{
    struct fm_request_result res = {.end = end,
                                    .prompt_tokens = r->n_prompt,
                                    .cached_tokens = r->cached,
                                    .answer_tokens = r->made,
                                    .stop = r->stream.met,
                                    .joules = r->joules};
    const double now = fm_seconds();
    if (r->phase == FM_PHASE_LOADING) {
        fm_kvload_stop(r->s->disk, &r->load);
        (void)fm_request_loaded(r); /* whose blocks are dropped with the others */
    }
    for (int d = 0; r->sum && d < r->s->e->model.cfg.D; d++) r->sum[d] /= r->n_prompt;
    res.embedding = end == FM_END_LENGTH ? r->sum : NULL;
    if (!fm_stream_end(&r->stream) && end != FM_END_FAILED) {
        res.end = FM_END_FAILED;
        (void)fm_fail_memory(&res.error, "generated text", r->stream.held.len);
    }
    if (end == FM_END_FAILED && err) res.error = *err;
    res.queue_seconds = (r->t_start > 0 ? r->t_start : now) - r->t_submit;
    if (r->t_start > 0) res.prompt_seconds = (r->t_first > 0 ? r->t_first : now) - r->t_start;
    if (r->t_first > 0) res.answer_seconds = now - r->t_first;
    r->phase = FM_PHASE_OVER;
    while (r->n_blocks) fm_kvpool_drop(&r->s->e->kv, r->blocks[--r->n_blocks]);
    if (r->o.on_end) r->o.on_end(r->o.arg, &res);
}
