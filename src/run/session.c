/* One mutable timeline of tokens: feeding it chunk by chunk, rewinding, cancelling.
 *
 *   segment (what one call submits)   |-------------------------------|
 *   chunks (what one step computes)   |-- 512 --|-- 512 --|--- 188 ---|   bits depend on the segment, never on the chunks
 *
 * Everything a session needs is reserved by fm_session_new; a feed that fails leaves length, ids and logits as they were. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "run/run.h"

/* ---- memory ---- */

static void lay_out_drafts(struct fm_session *s, struct fm_arena *a, const struct fm_plan *p,
                           const struct fm_config *cfg)
{
    size_t v = (size_t)cfg->V, d = (size_t)cfg->D, rows = 1 + (size_t)p->draft_max;
    s->ahead = p->draft_max ? fm_arena_alloc(a, rows * v * sizeof *s->ahead, "drafts") : NULL;
    if (!p->mtp) return;
    const struct fm_kv_shape kv = fm_kv_shape(cfg, p->kv_type);
    const size_t row = fm_kv_row_bytes(&kv);
    s->mtp.hidden = fm_arena_alloc(a, FM_MTP_HELD * d * sizeof *s->mtp.hidden, "drafts");
    s->mtp.logits = fm_arena_alloc(a, v * sizeof *s->mtp.logits, "drafts");
    s->mtp.kept = fm_arena_alloc(a, (size_t)cfg->L * row, "drafts");
    s->mtp.ids = s->ids;
    s->mtp.pos = s->pos;
    s->mtp.kv = &s->kv;
}

/* The same lines over a dry arena size it and over a real one fill it. */
static void lay_out(struct fm_session *s, struct fm_arena *a, const struct fm_plan *p, const struct fm_config *cfg,
                    int ctx)
{
    size_t n = (size_t)ctx, v = (size_t)cfg->V, b = (size_t)fm_kv_blocks(ctx);
    s->blocks = fm_arena_alloc(a, b * sizeof *s->blocks, "block list");
    s->kv.blocks = fm_arena_alloc(a, b * sizeof *s->kv.blocks, "block list");
    s->ids = fm_arena_alloc(a, n * sizeof *s->ids, "tokens");
    s->pos = fm_arena_alloc(a, n * sizeof *s->pos, "tokens");
    s->logits = fm_arena_alloc(a, v * sizeof *s->logits, "logits");
    s->work = fm_arena_alloc(a, v * sizeof *s->work, "sampler");
    s->seen = fm_arena_alloc(a, v * sizeof *s->seen, "sampler");
    lay_out_drafts(s, a, p, cfg);
}

size_t fm_session_bytes(const struct fm_plan *p, const struct fm_config *cfg, int ctx)
{
    struct fm_arena dry;
    struct fm_session s;
    fm_arena_init_dry(&dry, "session");
    lay_out(&s, &dry, p, cfg, ctx);
    return dry.peak;
}

static enum fm_status check_ctx(const struct fm_engine *e, int ctx, struct fm_error *err)
{
    if (ctx >= 1 && ctx <= e->plan.ctx) return FM_OK;
    enum fm_status st =
        fm_fail(err, FM_ERR_USAGE, "new session: context of %d tokens: the engine allows 1 to %d", ctx, e->plan.ctx);
    fm_hint(err, "open the model with a larger context (--ctx)");
    return st;
}

enum fm_status fm_session_new(struct fm_engine *e, int ctx, struct fm_session **out, struct fm_error *err)
{
    if (!ctx) ctx = e->plan.ctx;
    FM_TRY(check_ctx(e, ctx, err));
    struct fm_session *s = fm_calloc(1, sizeof *s);
    if (!s) return fm_fail_memory(err, "a session", sizeof *s);
    enum fm_status st;
    s->e = e;
    FM_GOTO(fm_arena_init(&s->arena, "session", fm_session_bytes(&e->plan, &e->model.cfg, ctx), err));
    lay_out(s, &s->arena, &e->plan, &e->model.cfg, ctx); /* anonymous pages: all zero */
    FM_GOTO(fm_kvpool_take(&e->kv, fm_kv_blocks(ctx), s->blocks, err));
    for (int i = 0; i < fm_kv_blocks(ctx); i++) s->kv.blocks[i] = s->blocks[i]->data;
    for (int i = 0; i < ctx; i++) s->pos[i] = i;
    s->kv.shape = fm_kv_shape(&e->model.cfg, e->plan.kv_type);
    s->ctx = ctx;
    *out = s;
    return FM_OK;
out:
    fm_session_free(s);
    return st;
}

void fm_session_free(struct fm_session *s)
{
    if (!s) return;
    for (int i = 0; i < fm_kv_blocks(s->ctx); i++) fm_kvpool_drop(&s->e->kv, s->blocks[i]);
    fm_arena_release(&s->arena);
    fm_free(s);
}

/* ---- the timeline ---- */

int fm_session_length(const struct fm_session *s) { return s->length; }

int fm_session_ctx(const struct fm_session *s) { return s->ctx; }

void fm_session_rewind(struct fm_session *s, int n)
{
    if (n < 0 || n >= s->length) return;
    s->length = n;
    s->logits_at = s->n_ahead = 0;
    fm_mtp_settle(&s->mtp, n);
}

const float *fm_session_logits(const struct fm_session *s)
{
    return s->length && s->logits_at == s->length ? s->logits : NULL;
}

void fm_session_cancel(struct fm_session *s) { atomic_store(&s->cancel, true); }

static enum fm_status check_feed(const struct fm_session *s, const int32_t *ids, int n, struct fm_error *err)
{
    if (n < 0) return fm_fail(err, FM_ERR_USAGE, "feed: %d tokens: negative", n);
    const int V = s->e->model.cfg.V, n_known = s->e->tok ? fm_tokenizer_size(s->e->tok) : 0;
    for (int i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < V) continue;
        if (ids[i] < 0 || ids[i] >= n_known)
            return fm_fail(err, FM_ERR_USAGE, "feed: token %d at place %d: the vocabulary ends at %d", (int)ids[i], i,
                           V - 1);
        return fm_fail(err, FM_ERR_INPUT,
                       "read the text: %s: its tokenizer of %d entries made token %d, its vocabulary has %d",
                       s->e->info->path, n_known, (int)ids[i], V);
    }
    if (n <= s->ctx - s->length) return FM_OK;
    enum fm_status st =
        fm_fail(err, FM_ERR_USAGE, "feed: %d tokens after %d: the context holds %d", n, s->length, s->ctx);
    fm_hint(err, "start over or use a larger context (--ctx)");
    return st;
}

void fm_session_compute(struct fm_ctx *c, const struct fm_config *cfg, const struct fm_weights *w,
                        const double *rope_freq, const struct fm_batch *b, float *logits, float *last,
                        struct fm_mtp_state *m)
{
    size_t D = (size_t)cfg->D, V = (size_t)cfg->V, end = (size_t)b->T - 1;
    fm_arena_reset(c->arena, 0);
    fm_real *hidden = fm_ctx_reals(c, (size_t)b->T * D, "hidden");
    fm_real *head = fm_ctx_reals(c, V, "logits"); /* apart, so that a failure leaves last alone */
    fm_model_forward(c, cfg, w, rope_freq, b, hidden, NULL);
    if (c->status) return;
    if (logits)
        fm_model_logits(c, w, logits, hidden, b->T);
    else if (last)
        fm_model_logits(c, w, head, hidden + end * D, 1);
    fm_mtp_collect(c, cfg, w, rope_freq, m, b, hidden);
    if (!c->status && c->cancel && atomic_load(c->cancel)) fm_ctx_fail(c, FM_ERR_CANCELLED, "cancelled");
    if (!c->status && last) memcpy(last, logits ? logits + end * V : head, V * sizeof *last);
}

void fm_session_turn(struct fm_session *s)
{
    struct fm_engine *e = s->e;
    (void)pthread_mutex_lock(&e->turn);
    e->ctx.status = FM_OK;
    e->ctx.cancel = &s->cancel;
    s->turn_start = fm_thread_seconds();
}

enum fm_status fm_session_turn_done(struct fm_session *s, struct fm_error *err)
{
    struct fm_engine *e = s->e;
    enum fm_status st = e->ctx.status;
    s->step_seconds = fm_thread_seconds() - s->turn_start;
    if (st && err) *err = e->ctx.error;
    e->ctx.cancel = NULL;
    (void)pthread_mutex_unlock(&e->turn);
    return st;
}

/* The n rows of these sequences, which follow one another in this session's cache. */
static enum fm_status step(struct fm_session *s, const struct fm_seq *seqs, int n_seqs, int n, float *logits,
                           float *last, struct fm_error *err)
{
    struct fm_engine *e = s->e;
    const int at = seqs[0].pos0;
    const struct fm_batch b = {.T = n, .n_seqs = n_seqs, .seqs = seqs, .ids = s->ids + at, .pos = s->pos + at};
    fm_session_turn(s);
    fm_session_compute(&e->ctx, &e->model.cfg, &e->model.w, e->model.rope_freq, &b, logits, last, &s->mtp);
    return fm_session_turn_done(s, err);
}

void fm_session_drop_ahead(struct fm_session *s)
{
    if (s->n_ahead) fm_mtp_settle(&s->mtp, s->length);
    s->n_ahead = 0;
}

/* A position's cache rows of all layers out to m->kept, or back. */
static void keep(const struct fm_mtp_state *m, int L, int pos, bool back)
{
    for (int l = 0; l < L; l++) fm_kv_keep(m->kv, l, pos, m->kept + (size_t)l * fm_kv_row_bytes(&m->kv->shape), back);
}

/* The cache stays as it was: computed alone, a row may have other bits than it got within its segment. */
enum fm_status fm_session_complete(struct fm_session *s, struct fm_error *err)
{
    struct fm_mtp_state *m = &s->mtp;
    const struct fm_config *cfg = &s->e->model.cfg;
    while (m->hidden && m->rows + m->held < s->length) {
        struct fm_seq seq;
        const int pos = m->rows + m->held, n_seqs = fm_seqs_of_single(cfg, &s->kv, pos, 1, &seq);
        keep(m, cfg->L, pos, false);
        enum fm_status st = step(s, &seq, n_seqs, 1, NULL, NULL, err);
        keep(m, cfg->L, pos, true);
        if (st) return st;
    }
    return FM_OK;
}

/* ids[n] in chunks behind what is there; on failure the caller settles. */
static enum fm_status feed_chunks(struct fm_session *s, int n, float *logits, struct fm_error *err)
{
    const int pos0 = s->length, chunk = s->e->plan.chunk;
    const size_t V = (size_t)s->e->model.cfg.V;
    FM_TRY(fm_session_complete(s, err));
    for (int at = 0; at < n; at += chunk) {
        int rows = n - at < chunk ? n - at : chunk;
        float *out = logits ? logits + (size_t)at * V : NULL, *last = at + rows == n ? s->logits : NULL;
        struct fm_seq seq = {.n = rows, .pos0 = pos0 + at, .segment_pos0 = pos0, .segment_n = n, .kv = &s->kv};
        FM_TRY(step(s, &seq, 1, rows, out, last, err));
    }
    return FM_OK;
}

enum fm_status fm_session_feed_on(struct fm_session *s, const int32_t *ids, int n, float *logits, struct fm_error *err)
{
    FM_TRY(check_feed(s, ids, n, err));
    if (n <= 0) return FM_OK;
    fm_session_drop_ahead(s);
    memmove(s->ids + s->length, ids, (size_t)n * sizeof *ids); /* beyond length nothing counts: no undoing needed */
    enum fm_status st = feed_chunks(s, n, logits, err);
    if (!st) s->logits_at = s->length += n;
    if (st) fm_mtp_settle(&s->mtp, s->length);
    return st;
}

enum fm_status fm_session_feed(struct fm_session *s, const int32_t *ids, int n, float *logits, struct fm_error *err)
{
    atomic_store(&s->cancel, false);
    return fm_session_feed_on(s, ids, n, logits, err);
}

/* ---- ahead of the timeline ---- */

static enum fm_status feed_drafts(struct fm_session *s, int n, struct fm_error *err)
{
    struct fm_seq seqs[1 + FM_DRAFT_MOST];
    FM_TRY(fm_session_complete(s, err));
    return step(s, seqs, fm_seqs_of_single(&s->e->model.cfg, &s->kv, s->length, n, seqs), n, s->ahead, NULL, err);
}

enum fm_status fm_session_feed_ahead(struct fm_session *s, const int32_t *ids, int n, struct fm_error *err)
{
    if (n == 1) return fm_session_feed_on(s, ids, 1, NULL, err);
    FM_TRY(check_feed(s, ids, n, err));
    fm_session_drop_ahead(s);
    memmove(s->ids + s->length, ids, (size_t)n * sizeof *ids);
    enum fm_status st = feed_drafts(s, n, err);
    if (st) {
        fm_mtp_settle(&s->mtp, s->length);
        return st;
    }
    memcpy(s->logits, s->ahead, (size_t)s->e->model.cfg.V * sizeof *s->logits);
    s->ahead_at = s->logits_at = ++s->length;
    s->n_ahead = n - 1;
    return FM_OK;
}

bool fm_session_take(struct fm_session *s, int32_t id)
{
    const size_t V = (size_t)s->e->model.cfg.V;
    if (!s->n_ahead || s->ids[s->length] != id) return false;
    s->n_ahead--;
    s->logits_at = ++s->length;
    memcpy(s->logits, s->ahead + (size_t)(s->length - s->ahead_at) * V, V * sizeof *s->logits);
    return true;
}
