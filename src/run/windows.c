/* See windows.h. */
#include "run/windows.h"

#include <string.h>

#include "base/mem.h"

enum { LOGITS_BYTES = 32 << 20 }; /* of a block: it stays in the outer cache's reach, and products have rows enough */

/* What stays, in the order of struct fm_windows; over a dry arena this only counts. */
static void lay_out(struct fm_windows *w)
{
    struct fm_arena *a = &w->arena;
    const struct fm_config *cfg = &w->e->model.cfg;
    const size_t per = (size_t)fm_kv_blocks(w->ctx), n = (size_t)w->lanes;
    void **data = fm_arena_alloc(a, n * per * sizeof *data, "block list");
    w->blocks = fm_arena_alloc(a, n * per * sizeof *w->blocks, "block list");
    w->ids = fm_arena_alloc(a, (size_t)w->rows * sizeof *w->ids, "tokens");
    w->pos = fm_arena_alloc(a, (size_t)w->rows * sizeof *w->pos, "tokens");
    w->scored = fm_arena_alloc(a, n * (size_t)fm_window_scored(w->ctx) * (size_t)cfg->D * sizeof(float), "scored rows");
    w->logits = fm_arena_alloc(a, (size_t)w->block * (size_t)cfg->V * sizeof(float), "logits");
    w->mark = fm_arena_mark(a);
    for (size_t i = 0; i < n; i++)
        w->kv[i] = (struct fm_kv){.blocks = data + i * per, .shape = fm_kv_shape(cfg, w->e->plan.kv_type)};
}

/* Hidden states of the step's rows, behind what stays. */
static fm_real *trunk(struct fm_windows *w, struct fm_ctx *c, const struct fm_batch *b)
{
    const struct fm_model *m = &w->e->model;
    fm_arena_reset(c->arena, w->mark);
    fm_real *hidden = fm_ctx_reals(c, (size_t)b->T * (size_t)m->cfg.D, "hidden");
    fm_model_forward(c, &m->cfg, &m->w, m->rope_freq, b, hidden, NULL);
    return hidden;
}

/* The rows at … at+len−1 of n windows. */
static struct fm_batch batch_of(struct fm_windows *w, struct fm_seq *seqs, int n, int at, int len)
{
    for (int i = 0; i < n; i++)
        seqs[i] = (struct fm_seq){.row0 = i * len, .n = len, .pos0 = at, .segment_n = w->ctx, .kv = &w->kv[i]};
    return (struct fm_batch){.T = n * len, .n_seqs = n, .seqs = seqs, .ids = w->ids, .pos = w->pos};
}

/* Bytes of the whole arena: the largest step stands at the end of the window.  Of the two forms of latent attention a
 * layer may choose either. */
static size_t count_bytes(struct fm_windows *w)
{
    static int32_t nothing[FM_CHUNK_DEFAULT]; /* never read: dry steps only compute addresses of ids */
    struct fm_seq seqs[FM_WINDOW_LANES];
    const int fed = w->ctx - 1, len = fed < w->rows ? fed : w->rows;
    size_t most = 0;
    for (int absorbed = 0; absorbed < 2; absorbed++) {
        struct fm_ctx c = {.op = &fm_ops_dry, .arena = &w->arena, .exact = w->e->ctx.exact};
        c.deterministic = absorbed || w->e->ctx.deterministic;
        fm_arena_init_dry(&w->arena, "judge");
        lay_out(w);
        struct fm_batch b = batch_of(w, seqs, w->lanes, fed - len, len);
        b.ids = b.pos = nothing;
        (void)trunk(w, &c, &b);
        most = w->arena.peak > most ? w->arena.peak : most;
    }
    return most;
}

static void choose_sizes(struct fm_windows *w)
{
    const int fed = w->ctx - 1, scored = fm_window_scored(w->ctx), fit = FM_CHUNK_DEFAULT / fed;
    w->lanes = fit < 1 ? 1 : fit < FM_WINDOW_LANES ? fit : FM_WINDOW_LANES;
    w->rows = w->lanes * fed < FM_CHUNK_DEFAULT ? w->lanes * fed : FM_CHUNK_DEFAULT;
    const size_t block = LOGITS_BYTES / ((size_t)w->e->model.cfg.V * sizeof(float));
    w->block = block < 16 ? 16 : block < (size_t)(w->lanes * scored) ? (int)block : w->lanes * scored;
    if (w->block > w->lanes * scored) w->block = w->lanes * scored;
}

enum fm_status fm_windows_init(struct fm_windows *w, struct fm_engine *e, int ctx, atomic_bool *cancel,
                               struct fm_error *err)
{
    *w = (struct fm_windows){.e = e, .ctx = ctx, .cancel = cancel};
    choose_sizes(w);
    const int per = fm_kv_blocks(ctx), n = w->lanes * per;
    const size_t bytes = count_bytes(w);
    enum fm_status st = fm_arena_init(&w->arena, "judge", bytes, err);
    if (!st) {
        lay_out(w);
        st = fm_kvpool_take(&e->kv, n, w->blocks, err);
        if (st) fm_arena_release(&w->arena);
    }
    if (st) {
        *w = (struct fm_windows){0};
        return st;
    }
    for (int i = 0; i < n; i++) w->kv[i / per].blocks[i % per] = w->blocks[i]->data;
    return FM_OK;
}

void fm_windows_release(struct fm_windows *w)
{
    if (!w->e) return;
    for (int i = 0; i < w->lanes * fm_kv_blocks(w->ctx); i++) fm_kvpool_drop(&w->e->kv, w->blocks[i]);
    fm_arena_release(&w->arena);
    *w = (struct fm_windows){0};
}

/* Of the step's rows those that are scored: row at+k of window i lies at hidden row i·len + k. */
static void keep_scored(struct fm_windows *w, const float *hidden, int n, int at, int len)
{
    const size_t D = (size_t)w->e->model.cfg.D, per = (size_t)fm_window_scored(w->ctx);
    const int first = fm_window_first(w->ctx), from = at > first ? at : first;
    if (from >= at + len) return;
    for (int i = 0; i < n; i++)
        memcpy(w->scored + ((size_t)i * per + (size_t)(from - first)) * D, hidden + (size_t)(i * len + from - at) * D,
               (size_t)(at + len - from) * D * sizeof *hidden);
}

static void begin(struct fm_windows *w, struct fm_ctx *c)
{
    (void)pthread_mutex_lock(&w->e->turn);
    *c = w->e->ctx;
    c->arena = &w->arena;
    c->cancel = w->cancel;
    c->status = FM_OK;
}

static enum fm_status end(struct fm_windows *w, struct fm_ctx *c, struct fm_error *err)
{
    (void)pthread_mutex_unlock(&w->e->turn);
    if (!c->status && atomic_load(w->cancel)) fm_ctx_fail(c, FM_ERR_CANCELLED, "cancelled");
    if (c->status && err) *err = c->error;
    return c->status;
}

static enum fm_status step(struct fm_windows *w, const int32_t *ids, int n, int32_t bos, int at, int len,
                           struct fm_error *err)
{
    struct fm_seq seqs[FM_WINDOW_LANES];
    struct fm_ctx c;
    const struct fm_batch b = batch_of(w, seqs, n, at, len);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < len; k++) {
            w->ids[i * len + k] = at + k == 0 && bos >= 0 ? bos : ids[(size_t)i * (size_t)w->ctx + (size_t)(at + k)];
            w->pos[i * len + k] = at + k;
        }
    begin(w, &c);
    const fm_real *hidden = trunk(w, &c, &b);
    enum fm_status st = end(w, &c, err);
    if (!st) keep_scored(w, hidden, n, at, len);
    return st;
}

enum fm_status fm_windows_forward(struct fm_windows *w, const int32_t *ids, int n, int32_t bos, struct fm_error *err)
{
    const int fed = w->ctx - 1, most = n > 1 ? fed : w->rows;
    for (int at = 0; at < fed; at += most) {
        const int len = fed - at < most ? fed - at : most;
        FM_TRY(step(w, ids, n, bos, at, len, err));
    }
    return FM_OK;
}

enum fm_status fm_windows_logits(struct fm_windows *w, int row, int n, struct fm_error *err)
{
    struct fm_ctx c;
    begin(w, &c);
    fm_arena_reset(c.arena, w->mark);
    fm_model_logits(&c, &w->e->model.w, w->logits, w->scored + (size_t)row * (size_t)w->e->model.cfg.D, n);
    return end(w, &c, err);
}
