/* Small random models of every family against PyTorch: activations, logits, gradients, ten optimiser steps.
 *
 * Each folder of tests/golden (and of FATHOM_SHARED/golden, default ../shared/golden, where present) holds a model as it
 * would be published and vectors.safetensors with the answers.  Per case:
 *   exact    hidden states, logits and MTP logits in --exact arithmetic
 *   fast     the same logits by the default path (quick kernels, the MLA form of the segment)
 *   same     one bit pattern for chunks of 1, 7, 64 and all rows, 1 and 2 threads, alone or beside another sequence;
 *            token by token too where the mode promises it
 *   grad     every gradient of one training step;  adamw: the loss before each of ten steps; not of FP8 weights
 * Tolerances: max|diff| <= 1e-4·max|value|, by the default path with weights in F16 or BF16 what fast_tolerance says; gradients |diff|2 <= 1e-4·|grad|2; losses 1e-4 absolute. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/env.h"
#include "base/mem.h"
#include "model/model.h"

static const double TOLERANCE = 1e-4;
static const double MTP_WEIGHT = 0.3; /* as the vectors were made */
enum { STEPS = 10, MAX_SEQS = 4, MAX_CASES = 64 };

static int n_failed, n_cases;
static const char *case_name = "";

static void complain(const char *what, const char *detail)
{
    n_failed++;
    printf("  FAILED %s: %s: %s\n", case_name, what, detail);
}

static void die(const char *what)
{
    printf("  FAILED %s: %s\n", case_name, what);
    exit(1);
}

static void *need(size_t bytes)
{
    void *p = fm_calloc(1, bytes);
    if (!p) die("out of memory");
    return p;
}

static float *floats(size_t n) { return need(n * sizeof(float)); }

/* ---- one case on disk ---- */

struct golden {
    struct fm_file *weights, *vectors;
    struct fm_model model; /* as inference loads it */
    int B, T;
    int32_t *ids, *pos; /* [B,T] */
};

static float *vector_of(const struct golden *g, const char *name, uint64_t n)
{
    const struct fm_tensor *t = fm_file_find(g->vectors, name);
    if (!t) return NULL;
    struct fm_error err = {0};
    if (t->n_elements != n) die(name);
    float *v = floats(n);
    if (fm_tensor_decode(t, v, &err)) die(err.message);
    return v;
}

static void read_tokens(struct golden *g)
{
    const struct fm_tensor *t = fm_file_find(g->vectors, "tokens");
    if (!t || t->n_dims != 2 || t->shape[0] > MAX_SEQS || t->n_bytes != 8 * t->n_elements)
        die("vectors hold no tokens");
    g->B = (int)t->shape[0];
    g->T = (int)t->shape[1];
    g->ids = need(t->n_elements * sizeof *g->ids);
    g->pos = need(t->n_elements * sizeof *g->pos);
    for (uint64_t i = 0; i < t->n_elements; i++) {
        int64_t id;
        memcpy(&id, (const char *)t->data + 8 * i, 8);
        g->ids[i] = (int32_t)id;
        g->pos[i] = (int32_t)(i % (uint64_t)g->T);
    }
}

static void golden_open(struct golden *g, const char *folder)
{
    struct fm_error err = {0};
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/vectors.safetensors", folder);
    if (fm_file_open(folder, &g->weights, &err) || fm_file_open(path, &g->vectors, &err) ||
        fm_model_load(g->weights, true, &g->model, &err))
        die(err.message);
    read_tokens(g);
}

static void golden_close(struct golden *g)
{
    fm_model_release(&g->model);
    fm_file_close(g->weights);
    fm_file_close(g->vectors);
    fm_free(g->ids);
    fm_free(g->pos);
}

/* ---- errors ---- */

/* max|a − b| / max|b|; a NaN counts as infinite */
static double relative_error(const float *a, const float *b, size_t n)
{
    double worst = 0, top = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= worst)) worst = d == d ? d : HUGE_VAL;
        top = fmax(top, fabs((double)b[i]));
    }
    return worst == 0 ? 0 : worst / top;
}

static void expect(const char *what, double error, double limit)
{
    char detail[64];
    if (error <= limit) return;
    (void)snprintf(detail, sizeof detail, "error %.3g > %.3g", error, limit);
    complain(what, detail);
}

static void expect_same(const char *what, const float *a, const float *b, size_t n)
{
    char detail[96];
    if (!memcmp(a, b, n * sizeof *a)) return;
    size_t i = 0;
    while (!memcmp(a + i, b + i, sizeof *a)) i++;
    (void)snprintf(detail, sizeof detail, "bits differ, first at %zu: %.9g and %.9g", i, (double)a[i], (double)b[i]);
    complain(what, detail);
}

/* ---- a machine to run on ---- */

struct rig {
    struct fm_pool *pool;
    void *backend;
    struct fm_ctx ctx;
    struct fm_arena arena;
};

static void rig_open(struct rig *r, int threads)
{
    struct fm_error err = {0};
    if (fm_pool_new(threads, &r->pool, &err) || fm_cpu_backend_new(r->pool, &r->backend, &err)) die(err.message);
    r->ctx = (struct fm_ctx){
        .op = &fm_ops_cpu, .grad = &fm_ops_grad_cpu, .arena = &r->arena, .pool = r->pool, .backend = r->backend};
}

static void rig_close(struct rig *r)
{
    fm_cpu_backend_free(r->backend);
    fm_pool_free(r->pool);
}

static void dry_open(struct fm_ctx *c, struct fm_arena *a, const struct fm_ctx *like)
{
    fm_arena_init_dry(a, "test");
    *c = *like;
    c->op = &fm_ops_dry;
    c->grad = &fm_ops_grad_dry;
    c->arena = a;
}

/* An arena as large as a dry run said. */
static void rig_arena(struct rig *r, const struct fm_arena *dry)
{
    struct fm_error err = {0};
    if (fm_arena_init(&r->arena, "test", dry->peak, &err)) die(err.message);
}

static void rig_check(const struct rig *r, const char *what)
{
    if (r->ctx.status) complain(what, r->ctx.error.message);
}

/* ---- inference ---- */

struct how {
    bool exact, deterministic;
    int threads;
    int chunk;     /* rows per step                                          */
    bool segments; /* each step is a segment of its own: token-by-token      */
    bool together; /* all sequences in one step, else one after the other    */
};

static void kv_open(struct fm_kv *kv, const struct fm_config *cfg, int T)
{
    int n = (T + FM_KV_BLOCK - 1) / FM_KV_BLOCK;
    *kv = (struct fm_kv){.blocks = need((size_t)n * sizeof *kv->blocks), .shape = fm_kv_shape(cfg, FM_KV_F32)};
    for (int i = 0; i < n; i++) kv->blocks[i] = need((size_t)cfg->L * fm_kv_layer_bytes(&kv->shape));
}

static void kv_close(struct fm_kv *kv, int T)
{
    for (int i = 0; i < (T + FM_KV_BLOCK - 1) / FM_KV_BLOCK; i++) fm_free(kv->blocks[i]);
    fm_free(kv->blocks);
}

/* One step: hidden and taps (may be NULL) receive b->T rows, logits b->T·V. */
static void step(struct rig *r, const struct fm_model *m, const struct fm_batch *b, float *hidden, float *const *taps,
                 float *logits)
{
    struct fm_arena dry;
    struct fm_ctx c;
    dry_open(&c, &dry, &r->ctx);
    fm_model_forward(&c, &m->cfg, &m->w, m->rope_freq, b, hidden, taps);
    fm_model_logits(&c, &m->w, logits, hidden, b->T);
    rig_arena(r, &dry);
    fm_model_forward(&r->ctx, &m->cfg, &m->w, m->rope_freq, b, hidden, taps);
    fm_model_logits(&r->ctx, &m->w, logits, hidden, b->T);
    fm_arena_release(&r->arena);
}

/* Rows [at, at+n) of sequences [s, s+k) as one step; row numbers of the outputs follow the step. */
static void step_of(struct rig *r, const struct golden *g, const struct how *how, struct fm_kv *kv, int s, int k,
                    int at, int n, float *hidden, float *const *taps, float *logits)
{
    struct fm_seq seqs[MAX_SEQS];
    int32_t *ids = need((size_t)(k * n) * sizeof *ids), *pos = need((size_t)(k * n) * sizeof *pos);
    for (int i = 0; i < k; i++) {
        seqs[i] = (struct fm_seq){.row0 = i * n, .n = n, .pos0 = at, .kv = &kv[s + i]};
        seqs[i].segment_pos0 = how->segments ? at : 0;
        seqs[i].segment_n = how->segments ? n : g->T;
        memcpy(ids + i * n, g->ids + (s + i) * g->T + at, (size_t)n * sizeof *ids);
        memcpy(pos + i * n, g->pos + (s + i) * g->T + at, (size_t)n * sizeof *pos);
    }
    struct fm_batch b = {.T = k * n, .n_seqs = k, .seqs = seqs, .ids = ids, .pos = pos};
    step(r, &g->model, &b, hidden, taps, logits);
    fm_free(ids);
    fm_free(pos);
}

/* The whole batch in the way of how; logits[B,T,V], hidden[B,T,D]; taps[L+1] of [B,T,D] only in one chunk. */
static void forward(const struct golden *g, const struct how *how, float *logits, float *hidden, float *const *taps)
{
    const struct fm_config *cfg = &g->model.cfg;
    size_t V = (size_t)cfg->V, D = (size_t)cfg->D;
    struct rig r = {0};
    struct fm_kv kv[MAX_SEQS];
    int k = how->together ? g->B : 1;
    rig_open(&r, how->threads);
    r.ctx.exact = how->exact;
    r.ctx.deterministic = how->deterministic;
    float *h = floats((size_t)(k * how->chunk) * D), *l = floats((size_t)(k * how->chunk) * V);
    for (int i = 0; i < g->B; i++) kv_open(&kv[i], cfg, g->T);
    for (int s = 0; s < g->B; s += k)
        for (int at = 0; at < g->T; at += how->chunk) {
            int n = g->T - at < how->chunk ? g->T - at : how->chunk;
            step_of(&r, g, how, kv, s, k, at, n, h, taps, l);
            for (int i = 0; i < k; i++) {
                size_t to = (size_t)((s + i) * g->T + at), from = (size_t)(i * n);
                memcpy(logits + to * V, l + from * V, (size_t)n * V * sizeof *l);
                memcpy(hidden + to * D, h + from * D, (size_t)n * D * sizeof *h);
            }
        }
    rig_check(&r, "forward");
    for (int i = 0; i < g->B; i++) kv_close(&kv[i], g->T);
    fm_free(h);
    fm_free(l);
    rig_close(&r);
}

/* Hidden states of every layer and logits against the vectors; hidden and logits are handed on. */
static void check_activations(const struct golden *g, float *logits, float *hidden, double *e_logits, double *e_hidden)
{
    const struct fm_config *cfg = &g->model.cfg;
    size_t rows = (size_t)(g->B * g->T), n = rows * (size_t)cfg->D;
    float **taps = need((size_t)(cfg->L + 1) * sizeof *taps);
    for (int l = 0; l <= cfg->L; l++) taps[l] = floats(n);
    struct how how = {.exact = true, .deterministic = true, .threads = 1, .chunk = g->T, .together = true};
    forward(g, &how, logits, hidden, taps);
    *e_hidden = 0;
    for (int l = 0; l <= cfg->L; l++) {
        char name[32];
        (void)snprintf(name, sizeof name, "hidden.%d", l);
        float *want = vector_of(g, name, n);
        if (!want) die("vectors hold no hidden states");
        double e = relative_error(taps[l], want, n);
        expect(name, e, TOLERANCE);
        *e_hidden = fmax(*e_hidden, e);
        fm_free(want);
        if (l == cfg->L) expect_same("last tap is the hidden state", taps[l], hidden, n);
        fm_free(taps[l]);
    }
    fm_free(taps);
    float *want = vector_of(g, "logits", rows * (size_t)cfg->V);
    if (!want) die("vectors hold no logits");
    *e_logits = relative_error(logits, want, rows * (size_t)cfg->V);
    expect("logits", *e_logits, TOLERANCE);
    fm_free(want);
}

/* By default products of F16 and BF16 weights round both sides to integers of 14 bits, which errs by at most 0.045 % (test_distance.c);
 * in a layer four such products follow each other, at the end the head: the root of the sum of squares. */
static double fast_tolerance(const struct golden *g)
{
    bool rounds = false;
    for (int i = 0; i < fm_file_n_tensors(g->weights); i++) {
        const enum fm_fmt f = fm_file_tensor(g->weights, i)->fmt;
        rounds |= f == FM_F16 || f == FM_BF16;
    }
    return TOLERANCE + (rounds ? 0.00045 * sqrt(4 * g->model.cfg.L + 1) : 0);
}

/* All ways to feed the same tokens in one mode.  base: logits of the whole batch at once, or NULL: made here. */
static double check_ways(const struct golden *g, bool exact, bool deterministic, const float *base)
{
    const struct fm_config *cfg = &g->model.cfg;
    const double tolerance = exact ? TOLERANCE : fast_tolerance(g);
    size_t rows = (size_t)(g->B * g->T), n = rows * (size_t)cfg->V;
    float *first = floats(n), *other = floats(n), *hidden = floats(rows * (size_t)cfg->D);
    struct how how = {.exact = exact, .deterministic = deterministic, .threads = 1, .chunk = g->T};
    forward(g, &how, first, hidden, NULL);
    if (base) expect_same("together or alone", first, base, n);
    static const int chunks[] = {1, 7, 64};
    for (int threads = 1; threads <= 2; threads++)
        for (int i = 0; i < 3; i++) {
            char what[64];
            how = (struct how){.exact = exact,
                               .deterministic = deterministic,
                               .threads = threads,
                               .chunk = chunks[i],
                               .together = threads == 2};
            forward(g, &how, other, hidden, NULL);
            (void)snprintf(what, sizeof what, "%s chunks of %d, %d threads", exact ? "exact" : "fast", chunks[i],
                           threads);
            expect_same(what, other, first, n);
        }
    how = (struct how){.exact = exact, .deterministic = deterministic, .threads = 1, .chunk = 1, .segments = true};
    forward(g, &how, other, hidden, NULL);
    double e = relative_error(other, first, n);
    if (exact || deterministic)
        expect_same("token by token", other, first, n);
    else
        expect("token by token", e, 2 * tolerance); /* each is as far from the exact path */
    float *want = vector_of(g, "logits", n);
    double e_vectors = relative_error(first, want, n);
    expect(exact ? "exact logits" : deterministic ? "fast deterministic logits" : "fast logits", e_vectors, tolerance);
    fm_free(want);
    fm_free(first);
    fm_free(other);
    fm_free(hidden);
    return e_vectors;
}

/* ---- multi-token prediction ---- */

/* Entry t of [B,T−1]: hidden of token t, next token t+1. */
static double check_mtp(const struct golden *g, const float *hidden)
{
    const struct fm_config *cfg = &g->model.cfg;
    int T = g->T - 1, rows = g->B * T;
    size_t D = (size_t)cfg->D, n = (size_t)rows * (size_t)cfg->V;
    float *want = vector_of(g, "mtp.logits", n);
    if (!want) return 0;
    float *h = floats((size_t)rows * D), *out = floats((size_t)rows * D), *logits = floats(n);
    int32_t *ids = need((size_t)rows * 3 * sizeof *ids), *pos = ids + rows, *next = pos + rows;
    struct fm_seq seqs[MAX_SEQS];
    for (int s = 0; s < g->B; s++) {
        seqs[s] = (struct fm_seq){.row0 = s * T, .n = T, .segment_n = T};
        memcpy(h + (size_t)(s * T) * D, hidden + (size_t)(s * g->T) * D, (size_t)T * D * sizeof *h);
        memcpy(ids + s * T, g->ids + s * g->T, (size_t)T * sizeof *ids);
        memcpy(next + s * T, g->ids + s * g->T + 1, (size_t)T * sizeof *ids);
        memcpy(pos + s * T, g->pos + s * g->T, (size_t)T * sizeof *ids);
    }
    struct fm_batch b = {.T = rows, .n_seqs = g->B, .seqs = seqs, .ids = ids, .pos = pos};
    const struct fm_model *m = &g->model;
    struct rig r = {0};
    struct fm_arena dry;
    struct fm_ctx c;
    rig_open(&r, 1);
    r.ctx.exact = r.ctx.deterministic = true;
    dry_open(&c, &dry, &r.ctx);
    fm_mtp_forward(&c, cfg, &m->w, m->rope_freq, 0, &b, next, h, out);
    fm_model_logits(&c, &m->w, logits, out, rows);
    rig_arena(&r, &dry);
    fm_mtp_forward(&r.ctx, cfg, &m->w, m->rope_freq, 0, &b, next, h, out);
    fm_model_logits(&r.ctx, &m->w, logits, out, rows);
    rig_check(&r, "mtp");
    double e = relative_error(logits, want, n);
    expect("mtp.logits", e, TOLERANCE);
    fm_arena_release(&r.arena);
    rig_close(&r);
    fm_free(h);
    fm_free(out);
    fm_free(logits);
    fm_free(ids);
    fm_free(want);
    return e;
}

/* ---- training ---- */

/* Parameters and gradients as a trainer holds them: all f32, ours. */
struct params {
    struct fm_weights w, dw;
    struct fm_binding *rows, *grads;
    int n;
    float **first, **second; /* AdamW's moments per row */
};

static void mat_own(struct fm_binding *b)
{
    size_t n = (size_t)b->rows * (size_t)b->cols;
    *b->mat =
        (struct fm_mat){.fmt = FM_F32, .rows = b->rows, .cols = b->cols, .row_bytes = (size_t)b->cols * sizeof(float)};
    b->mat->data = floats(n);
}

static size_t count_of(const struct fm_binding *b) { return (size_t)b->rows * (size_t)b->cols; }

static void params_open(struct params *p, const struct golden *g)
{
    const struct fm_config *cfg = &g->model.cfg;
    struct fm_error err = {0};
    int n_grads;
    if (fm_weights_init(&p->w, cfg, &err) || fm_weights_init(&p->dw, cfg, &err) ||
        fm_bindings_new(cfg, &p->w, &p->rows, &p->n, &err) || fm_bindings_new(cfg, &p->dw, &p->grads, &n_grads, &err))
        die(err.message);
    p->first = need((size_t)p->n * sizeof *p->first);
    p->second = need((size_t)p->n * sizeof *p->second);
    for (int i = 0; i < p->n; i++) {
        const struct fm_tensor *t = fm_file_find(g->weights, p->rows[i].hf);
        /* rows without a published name are alternatives that only GGUF files know */
        if (!t && !*p->rows[i].hf) continue;
        if (!t) die(p->rows[i].hf);
        mat_own(&p->rows[i]);
        if (t->n_elements != count_of(&p->rows[i]) || fm_tensor_decode(t, p->rows[i].mat->data, &err)) die(t->name);
        if (p->rows[i].flags & FM_BIND_BUFFER) continue;
        mat_own(&p->grads[i]);
        p->first[i] = floats(count_of(&p->rows[i]));
        p->second[i] = floats(count_of(&p->rows[i]));
    }
    if (!cfg->tied) return;
    p->w.head = p->w.embed;
    p->dw.head = p->dw.embed;
}

static void params_close(struct params *p, const struct fm_config *cfg)
{
    for (int i = 0; i < p->n; i++) {
        fm_free(p->rows[i].mat->data);
        fm_free(p->grads[i].mat->data);
        fm_free(p->first[i]);
        fm_free(p->second[i]);
    }
    fm_free(p->first);
    fm_free(p->second);
    fm_free(p->rows);
    fm_free(p->grads);
    fm_weights_release(&p->w, cfg);
    fm_weights_release(&p->dw, cfg);
}

struct targets {
    int32_t *target, *next, *target2; /* [B,T] */
};

static void targets_open(struct targets *t, const struct golden *g)
{
    size_t n = (size_t)(g->B * g->T);
    t->target = need(3 * n * sizeof *t->target);
    t->next = t->target + n;
    t->target2 = t->next + n;
    for (int i = 0; i < g->B * g->T; i++) {
        int left = g->T - 1 - i % g->T; /* tokens of this sequence after i */
        t->target[i] = left >= 1 ? g->ids[i + 1] : -1;
        t->next[i] = left >= 1 ? g->ids[i + 1] : 0;
        t->target2[i] = left >= 2 ? g->ids[i + 2] : -1;
    }
}

/* Mean loss (with the weighted MTP loss) of the batch; dw += gradients unless NULL. */
static double train_step(struct rig *r, const struct golden *g, const struct params *p, struct fm_weights *dw,
                         const struct targets *t, double *main_loss, double *mtp_loss)
{
    const struct fm_config *cfg = &g->model.cfg;
    struct fm_seq seqs[MAX_SEQS];
    for (int s = 0; s < g->B; s++) seqs[s] = (struct fm_seq){.row0 = s * g->T, .n = g->T, .segment_n = g->T};
    struct fm_batch b = {.T = g->B * g->T, .n_seqs = g->B, .seqs = seqs, .ids = g->ids, .pos = g->pos};
    double n1 = g->B * (g->T - 1), n2 = g->B * (g->T - 2);
    bool mtp = cfg->n_mtp > 0;
    struct fm_step s = {.target = t->target,
                        .next = mtp ? t->next : NULL,
                        .target2 = mtp ? t->target2 : NULL,
                        .scale = 1 / n1,
                        .scale_mtp = mtp ? MTP_WEIGHT / n2 : 0};
    struct fm_step sized = s;
    struct fm_arena dry;
    struct fm_ctx c;
    dry_open(&c, &dry, &r->ctx);
    fm_model_step(&c, cfg, &p->w, dw, g->model.rope_freq, &b, &sized);
    rig_arena(r, &dry);
    fm_model_step(&r->ctx, cfg, &p->w, dw, g->model.rope_freq, &b, &s);
    fm_arena_release(&r->arena);
    rig_check(r, "training step");
    *main_loss = s.loss_sum / n1;
    *mtp_loss = mtp ? s.mtp_loss_sum / n2 : 0;
    return *main_loss + MTP_WEIGHT * *mtp_loss;
}

static double gradient_error(const float *a, const float *b, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    if (diff == 0) return 0;
    return diff == diff ? sqrt(diff / norm) : HUGE_VAL;
}

static double check_gradients(const struct golden *g, const struct params *p)
{
    double worst = 0;
    int met = 0, given = 0;
    for (int i = 0; i < p->n; i++) {
        char name[160];
        (void)snprintf(name, sizeof name, "grad.%s", p->rows[i].hf);
        if (!p->grads[i].mat->data) continue;
        float *want = vector_of(g, name, count_of(&p->rows[i]));
        if (!want) {
            complain(name, "no gradient among the vectors");
            continue;
        }
        double e = gradient_error(p->grads[i].mat->data, want, count_of(&p->rows[i]));
        expect(name, e, TOLERANCE);
        worst = fmax(worst, e);
        met++;
        fm_free(want);
    }
    for (int i = 0; i < fm_file_n_tensors(g->vectors); i++)
        given += !strncmp(fm_file_tensor(g->vectors, i)->name, "grad.", 5);
    if (given != met) complain("grad", "the vectors name a parameter that the model does not have");
    return worst;
}

/* PyTorch's AdamW; step counts from 1.  Gradients are cleared for the next step. */
static void adamw(struct params *p, int count)
{
    const double lr = 1e-3, b1 = 0.9, b2 = 0.95, eps = 1e-8, decay = 0.1;
    double c1 = 1 - pow(b1, count), c2 = 1 - pow(b2, count);
    for (int i = 0; i < p->n; i++) {
        float *x = p->rows[i].mat->data, *d = p->grads[i].mat->data, *m = p->first[i], *v = p->second[i];
        if (!d) continue;
        double shrink = p->rows[i].flags & FM_BIND_VECTOR ? 1 : 1 - lr * decay;
        for (size_t j = 0; j < count_of(&p->rows[i]); j++) {
            m[j] = (float)(b1 * m[j] + (1 - b1) * d[j]);
            v[j] = (float)(b2 * v[j] + (1 - b2) * d[j] * d[j]);
            x[j] = (float)(x[j] * shrink - lr * (m[j] / c1) / (sqrt(v[j] / c2) + eps));
            d[j] = 0;
        }
    }
}

static void check_scalar(const struct golden *g, const char *name, double got)
{
    float *want = vector_of(g, name, 1);
    if (want) expect(name, fabs(got - (double)want[0]), TOLERANCE);
    fm_free(want);
}

static void check_training(const struct golden *g, double *e_grad, double *e_adamw)
{
    float *want = vector_of(g, "adamw.loss", STEPS);
    *e_grad = *e_adamw = 0;
    if (!want) die("vectors hold no adamw.loss");
    struct params p = {0};
    struct targets t;
    struct rig r = {0};
    params_open(&p, g);
    targets_open(&t, g);
    rig_open(&r, 2);
    for (int i = 0; i < STEPS; i++) {
        double loss, mtp, total = train_step(&r, g, &p, &p.dw, &t, &loss, &mtp);
        if (!i) {
            *e_grad = check_gradients(g, &p);
            check_scalar(g, "loss", loss);
            check_scalar(g, "mtp.loss", mtp);
            double again = train_step(&r, g, &p, NULL, &t, &loss, &mtp);
            if (again != total) complain("loss", "differs without gradients");
        }
        double e = fabs(total - (double)want[i]);
        *e_adamw = e <= *e_adamw ? *e_adamw : e == e ? e : HUGE_VAL;
        adamw(&p, i + 1);
    }
    expect("adamw.loss", *e_adamw, TOLERANCE);
    rig_close(&r);
    fm_free(t.target);
    params_close(&p, &g->model.cfg);
    fm_free(want);
}

/* ---- all cases ---- */

/* FP8 weights are not trained, and their vectors hold no training. */
static bool is_trained(const struct golden *g)
{
    for (int i = 0; i < fm_file_n_tensors(g->weights); i++)
        if (fm_file_tensor(g->weights, i)->fmt == FM_F8_E4M3) return false;
    return true;
}

static void run_case(const char *folder, const char *name)
{
    struct golden g = {0};
    double e_logits, e_hidden, e_grad = 0, e_adamw = 0;
    case_name = name;
    golden_open(&g, folder);
    size_t rows = (size_t)(g.B * g.T);
    float *logits = floats(rows * (size_t)g.model.cfg.V), *hidden = floats(rows * (size_t)g.model.cfg.D);
    int before = n_failed;
    check_activations(&g, logits, hidden, &e_logits, &e_hidden);
    double e_mtp = check_mtp(&g, hidden);
    (void)check_ways(&g, true, true, logits);
    double e_det = check_ways(&g, false, true, NULL), e_fast = check_ways(&g, false, false, NULL);
    if (is_trained(&g)) check_training(&g, &e_grad, &e_adamw);
    printf("%-20s logits %.1e  hidden %.1e  fast %.1e %.1e  mtp %.1e  grad %.1e  adamw %.1e  %s\n", name, e_logits,
           e_hidden, e_fast, e_det, e_mtp, e_grad, e_adamw, n_failed == before ? "ok" : "FAILED");
    (void)fflush(stdout);
    fm_free(logits);
    fm_free(hidden);
    golden_close(&g);
    n_cases++;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Every folder below root that holds vectors; returns how many there are. */
static int run_all(const char *root, const char *only)
{
    DIR *d = opendir(root);
    char *names[MAX_CASES], path[2048];
    int n = 0;
    if (!d) return 0;
    for (const struct dirent *e; (e = readdir(d)) && n < MAX_CASES;) {
        struct stat st;
        (void)snprintf(path, sizeof path, "%s/%s/vectors.safetensors", root, e->d_name);
        if (!stat(path, &st)) names[n++] = fm_strdup(e->d_name);
    }
    (void)closedir(d);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", root, names[i]);
        if (only && strcmp(only, names[i]))
            ;
        else
            run_case(path, names[i]);
        fm_free(names[i]);
    }
    return n;
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL, *shared = fm_env("FATHOM_SHARED");
    char path[1024];
    if (!run_all("tests/golden", only)) {
        printf("FAILED: no case in tests/golden (run from the top of the source tree)\n");
        return 1;
    }
    (void)snprintf(path, sizeof path, "%s/golden", shared ? shared : "../shared");
    if (!run_all(path, only)) printf("SKIP: no further cases in %s\n", path);
    printf("%d cases, %d failures\n", n_cases, n_failed);
    return n_failed || !n_cases;
}
