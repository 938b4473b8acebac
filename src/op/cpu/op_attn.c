/* Causal attention, flash style (Dao et al. 2022): for every query row the keys are folded in blocks of 64 absolute
 * positions, in order:
 *
 *   z = q·scale·kᵀ;  m' = max(m, max z);  y = y·e^(m−m') + e^(z−m')·v;  l = l·e^(m−m') + Σ e^(z−m')     at the end y/l
 *
 * starting anew every 256 positions, a span; the spans' (m, l, y) are merged in order by the same formula.
 * A tile is some rows × some heads that share a key head: rows of one gemm, row-major by position, then head.
 *
 *            keys 0…63   64…127   128…            one decoded token, latent attention: 16…128 heads are the rows
 *   pos 70 h0 ████████ ██                         one head, a prompt: up to 256 positions are the rows
 *   pos 70 h1 ████████ ██
 *   pos 71 h0 ████████ ███     rows before a block's first key take no part in it; within a block, keys after a row's
 *   pos 71 h1 ████████ ███     position get weight +0, which leaves the sums as they are
 *
 * One thread does a tile, or, when tiles are few (decoding), a span of a tile.  So a row's bits depend on its position
 * and its keys only: not on the tile, the chunk, threads or batch mates.  The arithmetic follows from where the keys lie:
 * attn_q8.c for a Q8_0 cache, attn_float.c for everything else. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernel/math.h"
#include "op/cpu/attn.h"

enum {
    BLOCK = FM_KV_BLOCK,
    SPAN = 4 * BLOCK, /* changes the bits of longer contexts                */
    ROWS_MAX = 256,   /* of a tile: enough to make packing of keys cheap    */
    ROWS_SPLIT = 32,  /* not cut further for the sake of threads            */
    HEADS_SPLIT = 8,  /* not either: gemm slows down with fewer rows        */
    TASKS = 4,        /* for a thread: then they end together               */
    MERGED_ROWS = 4,  /* a task of merging                                  */
};

static struct fm_attn_state state_at(float *at, int m, int ldy)
{
    float *max = at + (size_t)m * ldy;
    return (struct fm_attn_state){at, max, max + m};
}

static size_t state_floats(int m, int ldy) { return (size_t)m * (ldy + 2); }

static int parts_of(const struct fm_attn_job *j) { return (j->group + j->heads - 1) / j->heads; }

/* Where tile i lies; the scratch is the thread's own. */
static struct fm_attn_tile tile_at(const struct fm_attn_job *j, int i, int thread)
{
    const struct fm_attn *a = j->a;
    int parts = parts_of(j), s = 0, blocks;
    for (;; s++) {
        blocks = (j->b->seqs[s].n + j->rows - 1) / j->rows;
        if (i < blocks * a->Hkv * parts) break;
        i -= blocks * a->Hkv * parts;
    }
    const struct fm_seq *seq = &j->b->seqs[s];
    int part = i % parts, hk = i / parts % a->Hkv, r0 = i / parts / a->Hkv * j->rows;
    struct fm_attn_tile t = {.k = &j->k[s],
                             .v = &j->v[s],
                             .hk = hk,
                             .row0 = seq->row0 + r0,
                             .pos0 = seq->pos0 + r0,
                             .n = fm_min_int(seq->n - r0, j->rows),
                             .h0 = hk * j->group + part * j->heads,
                             .heads = fm_min_int(j->group - part * j->heads, j->heads),
                             .thread = thread};
    t.m = t.n * t.heads;
    float *tile = fm_cpu_tile(j->c, thread);
    t.now = state_at(tile, t.m, j->ldy);
    t.all = state_at(tile + state_floats(t.m, j->ldy), t.m, j->ldy);
    t.scratch = tile + (2 * state_floats(t.m, j->ldy) + 15) / 16 * 16;
    return t;
}

static int spans_of(const struct fm_attn_tile *t) { return (t->pos0 + t->n + SPAN - 1) / SPAN; }

/* Fold a span into t->now, from nothing.  Rows before the span keep max = −inf. */
static void fold_span(const struct fm_attn_job *j, const struct fm_attn_tile *t, int span)
{
    int end = fm_min_int((span + 1) * SPAN, t->pos0 + t->n);
    memset(t->now.y, 0, (size_t)t->m * j->ldy * sizeof(float));
    for (int i = 0; i < t->m; i++) {
        t->now.max[i] = -INFINITY;
        t->now.sum[i] = 0;
    }
    for (int s0 = span * SPAN; s0 < end && !fm_cpu_cancelled(j->c); s0 += BLOCK) j->way->fold(j, t, s0);
}

/* all = all and then now, for those of rows i0 … i1−1 that saw something of now. */
static void merge(const struct fm_attn_job *j, const struct fm_attn_state *all, const struct fm_attn_state *now, int i0,
                  int i1)
{
    const struct fm_kernels *k = j->kernels;
    const size_t n = (size_t)j->ldy;
    for (int i = i0; i < i1; i++) {
        float *y = all->y + (size_t)i * n, a = all->max[i], b = now->max[i];
        if (b == -INFINITY) continue;
        float fade_all = b > a ? fm_expf(a - b) : 1, fade_now = b < a ? fm_expf(b - a) : 1;
        if (b > a) k->scale(y, fade_all, n);
        k->axpy(y, fade_now, now->y + (size_t)i * n, n);
        all->sum[i] = all->sum[i] * fade_all + now->sum[i] * fade_now;
        all->max[i] = b > a ? b : a;
    }
}

/* y/l and lse of rows i0 … i1−1.  Adding to +0 turns a −0, which a masked key (0·v) may or may not have met, into +0. */
static void finish(const struct fm_attn_job *j, const struct fm_attn_tile *t, const struct fm_attn_state *all, int i0,
                   int i1)
{
    const size_t Dv = (size_t)j->a->Dv;
    for (int i = i0; i < i1; i++) {
        size_t at = (size_t)(t->row0 + i / t->heads) * j->a->H + t->h0 + i % t->heads;
        float *from = all->y + (size_t)i * j->ldy;
        for (int g = 0; j->spread && g < fm_kv_groups((int)Dv); g++)
            j->kernels->spread(from + g * FM_KV_GROUP, fm_kv_group_width(t->v->width, g));
        memset(j->y + at * Dv, 0, Dv * sizeof *j->y);
        j->kernels->axpy(j->y + at * Dv, 1 / all->sum[i], from, Dv);
        if (j->lse) j->lse[at] = all->max[i] + fm_logf(all->sum[i]);
    }
}

/* Whole tiles.  Late rows see most keys: longest first. */
static void run_tiles(void *arg, int begin, int end, int thread)
{
    const struct fm_attn_job *j = arg;
    for (int i = begin; i < end; i++) {
        struct fm_attn_tile t = tile_at(j, j->n_tiles - 1 - i, thread);
        j->way->begin(j, &t);
        fold_span(j, &t, 0);
        struct fm_attn_state first = t.now;
        t.now = t.all;
        for (int span = 1; span < spans_of(&t); span++) {
            fold_span(j, &t, span);
            merge(j, &first, &t.now, 0, t.m);
        }
        finish(j, &t, &first, 0, t.m);
    }
}

/* Scratch of a task: the shared rows. */
static struct fm_attn_state task_state(const struct fm_attn_job *j, int task, int m)
{
    size_t each = state_floats(j->rows * j->heads, j->ldy);
    return state_at((float *)fm_cpu_backend(j->c)->rows + (size_t)task * each, m, j->ldy);
}

static void run_spans(void *arg, int begin, int end, int thread)
{
    const struct fm_attn_job *j = arg;
    struct fm_attn_tile t = {0};
    for (int i = begin, tile = -1; i < end; i++) {
        const int before = tile;
        while (i >= j->first[tile + 1]) tile++;
        if (tile != before) {
            t = tile_at(j, tile, thread);
            j->way->begin(j, &t);
        }
        t.now = task_state(j, i, t.m);
        fold_span(j, &t, i - j->first[tile]);
    }
}

static int merges_of_tile(const struct fm_attn_job *j) { return (j->rows * j->heads + MERGED_ROWS - 1) / MERGED_ROWS; }

static void merge_spans(void *arg, int begin, int end, int thread)
{
    const struct fm_attn_job *j = arg;
    const int each = merges_of_tile(j);
    for (int i = begin; i < end; i++) {
        struct fm_attn_tile t = tile_at(j, i / each, thread);
        const int task = j->first[i / each], i0 = i % each * MERGED_ROWS, i1 = fm_min_int(i0 + MERGED_ROWS, t.m);
        struct fm_attn_state all = task_state(j, task, t.m);
        for (int span = 1; span < spans_of(&t); span++) {
            struct fm_attn_state now = task_state(j, task + span, t.m);
            merge(j, &all, &now, i0, i1);
        }
        finish(j, &t, &all, i0, i1);
    }
}

static int count_tiles(const struct fm_attn_job *j)
{
    int n = 0;
    for (int s = 0; s < j->b->n_seqs; s++) n += (j->b->seqs[s].n + j->rows - 1) / j->rows * j->a->Hkv * parts_of(j);
    return n;
}

/* The tasks when spans are apart; 0: one is not worth more than a tile, or the scratch does not hold them. */
static int count_tasks(struct fm_attn_job *j)
{
    if (j->n_tiles > FM_ATTN_SPLIT) return 0;
    for (int i = 0; i < j->n_tiles; i++) {
        const struct fm_attn_tile t = tile_at(j, i, 0);
        j->first[i + 1] = j->first[i] + spans_of(&t);
    }
    const int tasks = j->first[j->n_tiles];
    const size_t bytes = state_floats(j->rows * j->heads, j->ldy) * (size_t)tasks * sizeof(float);
    return tasks > j->n_tiles && bytes <= FM_CPU_ROWS_BYTES ? tasks : 0;
}

_Static_assert(FM_OP_HEAD_WIDTH + 2 * (FM_KV_STEP + 2) + 2 * BLOCK + 16 + FM_KV_GROUP * BLOCK <= FM_CPU_TILE,
               "one row at least");

/* As many gemm rows as the scratch holds, then smaller tiles until there is work for every thread.  Cutting heads makes
 * several threads read the same keys, so that comes last. */
static void choose_tiles(struct fm_attn_job *j)
{
    int threads = fm_cpu_backend(j->c)->n_threads, rows = 1;
    const size_t left = FM_CPU_TILE - j->way->tile_floats - 16;
    int fit = (int)(left / (j->way->row_floats(j) + 2 * state_floats(1, j->ldy))), most = fm_min_int(fit, ROWS_MAX);
    assert(most > 0);
    for (int s = 0; s < j->b->n_seqs; s++) rows = j->b->seqs[s].n > rows ? j->b->seqs[s].n : rows;
    j->heads = fm_min_int(j->group, most);
    j->rows = fm_min_int(rows, most / j->heads);
    while ((j->n_tiles = count_tiles(j)) < 3 * threads && j->rows * j->heads > ROWS_SPLIT && j->rows > 1)
        j->rows = (j->rows + 1) / 2;
    for (;; j->heads = (j->heads + 1) / 2) {
        j->n_tiles = count_tiles(j);
        const int tasks = threads > 1 && j->n_tiles < TASKS * threads ? count_tasks(j) : 0;
        j->apart = tasks > 0;
        if (j->heads <= HEADS_SPLIT || (tasks ? tasks >= TASKS * threads : j->n_tiles >= threads)) break;
    }
}

/* Element operations of the whole call, for deciding whether to wake threads. */
static double cost(const struct fm_attn_job *j)
{
    double pairs = 0;
    for (int s = 0; s < j->b->n_seqs; s++) {
        const struct fm_seq *q = &j->b->seqs[s];
        pairs += (double)q->n * (q->pos0 + q->n);
    }
    return pairs * j->a->H * (j->a->Dk + j->a->Dv + BLOCK) / FM_CPU_MACS;
}

void fm_cpu_attn(struct fm_ctx *c, float *y, float *lse, const float *q, const struct fm_rows *k,
                 const struct fm_rows *v, const struct fm_attn *a, const struct fm_batch *b)
{
    if (c->status || b->n_seqs <= 0) return;
    const bool tiles = !k->flat && k->type == FM_KV_Q8_0;
    struct fm_attn_job j = {.c = c,
                            .kernels = fm_cpu_kernels(c),
                            .way = tiles ? &fm_attn_q8 : &fm_attn_float,
                            .y = y,
                            .lse = lse,
                            .q = q,
                            .k = k,
                            .v = v,
                            .a = a,
                            .b = b,
                            .group = a->H / a->Hkv,
                            .ldy = a->Dv};
    assert(a->H % a->Hkv == 0);
    if (tiles) {
        j.ldq = fm_kv_padded(k->width, a->Dk);
        j.ldy = fm_kv_padded(v->width, a->Dv);
        j.spread = !v->by_value;
    }
    choose_tiles(&j);
    if (j.apart && cost(&j) >= FM_CPU_GRAIN) {
        const int spans = j.first[j.n_tiles], parts = TASKS * fm_cpu_backend(c)->n_threads;
        fm_cpu_for(c, spans, (spans + parts - 1) / parts, run_spans, &j);
        fm_cpu_for(c, j.n_tiles * merges_of_tile(&j), 1, merge_spans, &j);
    } else {
        fm_cpu_for(c, j.n_tiles, cost(&j) < FM_CPU_GRAIN ? j.n_tiles : 1, run_tiles, &j);
    }
}
