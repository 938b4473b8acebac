/* A calibration text through a model, over ops that observe (op/observe.h): the sums of an importance matrix.
 *
 *   chunk of the text ── one step ──▶ double sums of this chunk ── rounded once ──▶ float sums = what the file holds
 *
 * Since the file holds all of the state, a run that was resumed ends with the bits of one that was not.
 *
 * Differences from llama.cpp's tool: sums are rounded to float once per chunk, not per token; latent attention runs over
 * attn_kv_b where the file has it (llama.cpp: over attn_k_b and attn_v_b only); a text of one chunk is enough. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/imatrix.h"
#include "op/observe.h"
#include "run/resources.h"
#include "run/run.h"

enum { TEXT_MAX = 1 << 30, SAVE_EVERY = 10 };

struct fm_calibration {
    struct fm_calibration_options o;
    char *text_name, *out;
    struct fm_engine *e;
    struct fm_session *s;
    struct fm_ids ids;
    int32_t bos; /* -1: none goes in front */
    int total;
    float *logits; /* [ctx, V]: only so that the head is computed; NULL without */
    size_t logits_bytes;

    struct fm_imatrix im;
    struct fm_observer observer;
    struct fm_observed *list;
    double *sums; /* of the chunk: those of all entries, in order */
    size_t sums_bytes;
    int64_t *counts;
    int n_observed;
};

void fm_calibration_free(struct fm_calibration *c)
{
    if (!c) return;
    fm_session_free(c->s);
    fm_engine_close(c->e);
    fm_ids_release(&c->ids);
    fm_imatrix_release(&c->im);
    if (c->logits) fm_pages_free(c->logits, c->logits_bytes);
    if (c->sums) fm_pages_free(c->sums, c->sums_bytes);
    fm_free(c->counts);
    fm_free(c->list);
    fm_free(c->text_name);
    fm_free(c->out);
    fm_free(c);
}

/* ---- what is observed ---- */

/* The address that products with this matrix pass, or NULL: it is none, the ops do not see it, or nobody asked for it. */
static const struct fm_mat *observed_mat(const struct fm_calibration *c, const struct fm_binding *b)
{
    const struct fm_weights *w = &c->e->model.w;
    const bool tied = c->e->model.cfg.tied;
    if (b->flags & FM_BIND_VECTOR || !b->mat->data || !*b->gguf || b->layer >= c->e->model.cfg.L) return NULL;
    if (b->mat == &w->embed) return tied && c->o.output ? &w->head : NULL;
    if (b->mat == &w->head) return c->o.output ? &w->head : NULL;
    return b->mat;
}

/* Matrices in a tensor that is one binding: heads of attn_k_b and attn_v_b have a dimension of their own. */
static int mats_in(const struct fm_calibration *c, const struct fm_binding *b)
{
    struct fm_tensor view;
    const struct fm_tensor *t = fm_binding_tensor(c->e->file, b, &view);
    return b->expert < 0 && t && t->n_dims == 3 ? (int)t->shape[0] : 1;
}

static enum fm_status add_entries(struct fm_calibration *c, const struct fm_binding *rows, int n, struct fm_error *err)
{
    for (int i = 0; i < n; i++) {
        const struct fm_binding *b = &rows[i];
        if (!observed_mat(c, b) || b->expert > 0) continue;
        const uint64_t mats = (uint64_t)(b->expert == 0 ? b->n_experts : mats_in(c, b));
        FM_TRY(fm_imatrix_add(&c->im, b->gguf, mats * (uint64_t)b->cols, mats, c->e->info->path, err));
    }
    return FM_OK;
}

/* Where the chunk's numbers of entry e begin. */
static void offsets(const struct fm_imatrix *im, const struct fm_imatrix_entry *e, size_t *value, size_t *count)
{
    *value = *count = 0;
    for (const struct fm_imatrix_entry *x = im->entries; x < e; x++) *value += x->n_values, *count += x->n_counts;
}

static enum fm_status observe_rows(struct fm_calibration *c, const struct fm_binding *rows, int n, struct fm_error *err)
{
    size_t value, count;
    FM_TRY(add_entries(c, rows, n, err));
    offsets(&c->im, c->im.entries + c->im.n, &value, &count);
    c->sums_bytes = value * sizeof *c->sums;
    c->sums = fm_pages_alloc(c->sums_bytes);
    c->counts = fm_calloc(count, sizeof *c->counts);
    c->list = fm_calloc((size_t)n, sizeof *c->list);
    if (!c->sums || !c->counts || !c->list) return fm_fail_memory(err, "importance sums", c->sums_bytes);
    for (int i = 0; i < n; i++) {
        const struct fm_mat *w = observed_mat(c, &rows[i]);
        const struct fm_imatrix_entry *e = w ? fm_imatrix_find(&c->im, rows[i].gguf) : NULL;
        if (!e) continue;
        const size_t expert = rows[i].expert > 0 ? (size_t)rows[i].expert : 0;
        offsets(&c->im, e, &value, &count);
        c->list[c->n_observed++] = (struct fm_observed){.w = w,
                                                        .mats = mats_in(c, &rows[i]),
                                                        .sums = c->sums + value + expert * (size_t)rows[i].cols,
                                                        .counts = c->counts + count + expert};
    }
    fm_observer_init(&c->observer, c->e->ctx.op, c->list, c->n_observed);
    return FM_OK;
}

static enum fm_status observe(struct fm_calibration *c, struct fm_error *err)
{
    struct fm_binding *rows;
    int n;
    FM_TRY(fm_bindings_new(&c->e->model.cfg, &c->e->model.w, &rows, &n, err));
    enum fm_status st = observe_rows(c, rows, n, err);
    fm_free(rows);
    c->e->ctx.op = &c->observer.ops;
    c->e->ctx.observer = &c->observer;
    return st;
}

/* ---- the text ---- */

static uint64_t fnv(uint64_t h, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001B3u; /* FNV-1a, 64 bits */
    return h;
}

/* The text and every option that changes what a chunk is. */
static void identify(struct fm_calibration *c, const struct fm_buf *text)
{
    const int32_t options[] = {c->o.engine.ctx, c->o.first, c->o.special, c->o.output, c->bos};
    uint64_t h = fnv(0xCBF29CE484222325u, text->data, text->len);
    snprintf(c->im.text_id, sizeof c->im.text_id, "fnv1a:%016" PRIx64, fnv(h, options, sizeof options));
}

static enum fm_status read_text(struct fm_calibration *c, struct fm_error *err)
{
    struct fm_buf text = {0};
    const struct fm_tokenizer *t = c->e->tok;
    enum fm_status st;
    FM_GOTO(fm_engine_has_text(c->e, err));
    FM_GOTO(fm_buf_read_file(&text, c->o.text, TEXT_MAX, err));
    c->bos = fm_tokenizer_add_bos(t) ? fm_tokenizer_bos(t) : -1;
    unsigned flags = (c->bos >= 0 ? FM_ENCODE_BOS : 0u) | (c->o.special ? FM_ENCODE_SPECIAL : 0u);
    FM_GOTO(fm_tokenizer_encode(t, text.data ? text.data : "", text.len, flags, &c->ids, err));
    identify(c, &text);
    const size_t chunks = c->ids.n / (size_t)c->o.engine.ctx, first = (size_t)c->o.first;
    if (chunks <= first)
        FM_GOTO(fm_fail(err, FM_ERR_INPUT, "read the text: %s: its %zu tokens are %zu chunks of %d, %zu are needed",
                        c->o.text, c->ids.n, chunks, c->o.engine.ctx, first + 1));
    c->total = (int)(chunks - first < INT32_MAX ? chunks - first : INT32_MAX);
    if (c->o.chunks && c->o.chunks < c->total) c->total = c->o.chunks;
    st = fm_imatrix_add_dataset(&c->im, c->o.text, strlen(c->o.text), err);
out:
    fm_buf_release(&text);
    return st;
}

/* ---- beginning ---- */

static enum fm_status take_up(struct fm_calibration *c, const struct fm_imatrix *old, struct fm_error *err)
{
    const char *out = c->o.out;
    if (strcmp(old->text_id, c->im.text_id))
        return fm_fail(err, FM_ERR_INPUT, "resume: %s: it was made with another text or other options", out);
    for (int i = 0; i < c->im.n; i++) {
        const struct fm_imatrix_entry *e = &c->im.entries[i], *from = fm_imatrix_find(old, e->name);
        if (!from || from->n_values != e->n_values || from->n_counts != e->n_counts || old->n != c->im.n)
            return fm_fail(err, FM_ERR_INPUT, "resume: %s, tensor '%s': it was made with another model", out, e->name);
        memcpy(e->sums, from->sums, e->n_values * sizeof *e->sums);
        memcpy(e->counts, from->counts, e->n_counts * sizeof *e->counts);
    }
    c->im.chunk_count = old->chunk_count;
    return FM_OK;
}

static enum fm_status resume(struct fm_calibration *c, struct fm_error *err)
{
    struct fm_imatrix old;
    if (!c->o.resume) return FM_OK;
    FM_TRY(fm_imatrix_open(&old, c->o.out, err));
    enum fm_status st = take_up(c, &old, err);
    fm_imatrix_release(&old);
    return st;
}

static enum fm_status take_logits(struct fm_calibration *c, struct fm_error *err)
{
    const size_t V = (size_t)c->e->model.cfg.V;
    if (!c->o.output) return FM_OK;
    if (fm_mul_size((size_t)c->o.engine.ctx * sizeof(float), V, &c->logits_bytes))
        c->logits = fm_pages_alloc(c->logits_bytes);
    return c->logits ? FM_OK : fm_fail_memory(err, "logits of a chunk", c->logits_bytes);
}

/* Every option's default; a chunk is one step, so that no row of a cache is expanded twice. */
static enum fm_status check_options(struct fm_calibration_options *o, struct fm_error *err)
{
    if (!o->text || !o->out)
        return fm_fail(err, FM_ERR_USAGE, "importance matrix: %s: not given", o->text ? "OUT" : "the text");
    if (o->first < 0 || o->chunks < 0 || o->save_every < 0)
        return fm_fail(err, FM_ERR_USAGE, "importance matrix: number of chunks: negative");
    if (!o->engine.ctx) o->engine.ctx = FM_IMATRIX_CHUNK;
    if (o->engine.ctx > FM_CHUNK_MAX)
        return fm_fail(err, FM_ERR_USAGE, "importance matrix: chunks of %d tokens: at most %d", o->engine.ctx,
                       FM_CHUNK_MAX);
    o->engine.chunk = o->engine.ctx;
    if (!o->save_every) o->save_every = SAVE_EVERY;
    return FM_OK;
}

enum fm_status fm_calibration_new(const struct fm_calibration_options *o, struct fm_calibration **out,
                                  struct fm_error *err)
{
    struct fm_calibration *c = fm_calloc(1, sizeof *c);
    enum fm_status st;
    if (!c) return fm_fail_memory(err, "a calibration", sizeof *c);
    c->o = *o;
    FM_GOTO(check_options(&c->o, err));
    c->o.text = c->text_name = fm_strdup(o->text);
    c->o.out = c->out = fm_strdup(o->out);
    if (!c->out || !c->text_name) FM_GOTO(fm_fail_memory(err, "file names", 0));
    FM_GOTO(fm_engine_open_for(&c->o.engine, false, &c->e, err));
    FM_GOTO(fm_session_new(c->e, 0, &c->s, err));
    c->im.chunk_size = c->o.engine.ctx;
    FM_GOTO(read_text(c, err));
    FM_GOTO(observe(c, err));
    FM_GOTO(resume(c, err));
    FM_GOTO(take_logits(c, err));
    *out = c;
    return FM_OK;
out:
    fm_calibration_free(c);
    return st;
}

int fm_calibration_total(const struct fm_calibration *c) { return c->total; }

int fm_calibration_done(const struct fm_calibration *c) { return (int)c->im.chunk_count; }

void fm_calibration_cancel(struct fm_calibration *c) { fm_session_cancel(c->s); }

/* ---- running ---- */

static enum fm_status feed_chunk(struct fm_calibration *c, struct fm_error *err)
{
    const int n = c->o.engine.ctx;
    int32_t *ids = c->ids.data + ((size_t)c->o.first + (size_t)c->im.chunk_count) * (size_t)n, own = *ids;
    fm_session_rewind(c->s, 0);
    if (c->bos >= 0) *ids = c->bos;
    enum fm_status st = fm_session_feed_on(c->s, ids, n, c->logits, err);
    *ids = own;
    return st;
}

/* Sums of the chunk, good or spoilt, are emptied. */
static enum fm_status fold(struct fm_calibration *c, bool keep, struct fm_error *err)
{
    double *sum = c->sums;
    int64_t *count = c->counts;
    enum fm_status st = FM_OK;
    for (int i = 0; i < c->im.n; i++) {
        struct fm_imatrix_entry *e = &c->im.entries[i];
        for (uint64_t k = 0; k < e->n_values; k++, sum++) {
            const float next = (float)((double)e->sums[k] + *sum);
            if (keep && !isfinite(next) && !st)
                st =
                    fm_fail(err, FM_ERR_FAILED, "importance matrix: tensor '%s': an input that is not finite", e->name);
            if (keep && !st) e->sums[k] = next;
            *sum = 0;
        }
        for (uint64_t k = 0; k < e->n_counts; k++, count++) {
            if (keep && !st) e->counts[k] += *count;
            *count = 0;
        }
    }
    c->im.chunk_count += keep && !st;
    return st;
}

enum fm_status fm_calibration_run(struct fm_calibration *c, void (*progress)(void *arg, int done, int total), void *arg,
                                  struct fm_error *err)
{
    enum fm_status st = FM_OK;
    int64_t saved = c->im.chunk_count;
    while (!st && c->im.chunk_count < c->total) {
        st = feed_chunk(c, err);
        enum fm_status folded = fold(c, !st, err);
        if (folded) return folded; /* the file, if there is one, is of before */
        if (!st && progress) progress(arg, (int)c->im.chunk_count, c->total);
        if (!st && c->im.chunk_count % c->o.save_every) continue;
        if (saved == c->im.chunk_count) break;
        enum fm_status written = fm_imatrix_write(&c->im, c->o.out, st ? NULL : err);
        if (written && !st) return written;
        saved = c->im.chunk_count;
    }
    if (!st && saved != c->im.chunk_count) st = fm_imatrix_write(&c->im, c->o.out, err);
    return st;
}
