/* Two models that must compute the same bits: forward of one, and the comparison. */
#ifndef FATHOM_TESTS_TWINS_H
#define FATHOM_TESTS_TWINS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/model.h"

enum { T = 11 };

static struct fm_error err;

static void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

static void *need(size_t bytes)
{
    void *p = fm_calloc(1, bytes);
    assert_non_null(p);
    return p;
}

static void forward(const struct fm_model *m, struct fm_ctx *c, const struct fm_batch *b, float *logits)
{
    float *hidden = need((size_t)(b->T * m->cfg.D) * sizeof *hidden);
    fm_model_forward(c, &m->cfg, &m->w, m->rope_freq, b, hidden, NULL);
    fm_model_logits(c, &m->w, logits, hidden, b->T);
    fm_free(hidden);
}

/* logits[T,V], `chunk` tokens a step. */
static float *run(const struct fm_model *m, bool exact, int chunk)
{
    struct fm_pool *pool;
    struct fm_arena dry, arena;
    void *backend;
    float *logits = need((size_t)(T * m->cfg.V) * sizeof *logits);
    void *block;
    struct fm_kv kv = {.blocks = &block, .shape = fm_kv_shape(&m->cfg, FM_KV_F32)};
    block = need((size_t)m->cfg.L * fm_kv_layer_bytes(&kv.shape));
    ok(fm_pool_new(2, &pool, &err));
    ok(fm_cpu_backend_new(pool, &backend, &err));
    for (int at = 0; at < T; at += chunk) {
        int32_t ids[T], pos[T];
        int n = T - at < chunk ? T - at : chunk;
        for (int i = 0; i < n; i++) ids[i] = (at + i) * 13 % m->cfg.V, pos[i] = at + i;
        struct fm_seq seq = {.n = n, .pos0 = at, .segment_n = T, .kv = &kv};
        struct fm_batch b = {.T = n, .n_seqs = 1, .seqs = &seq, .ids = ids, .pos = pos};
        struct fm_ctx c = {.op = &fm_ops_dry, .arena = &dry, .pool = pool, .backend = backend, .exact = exact};
        fm_arena_init_dry(&dry, "test");
        forward(m, &c, &b, logits + at * m->cfg.V);
        ok(fm_arena_init(&arena, "test", dry.peak, &err));
        c.op = &fm_ops_cpu;
        c.arena = &arena;
        forward(m, &c, &b, logits + at * m->cfg.V);
        if (c.status) fail_msg("%s", c.error.message);
        fm_arena_release(&arena);
    }
    fm_cpu_backend_free(backend);
    fm_pool_free(pool);
    fm_free(block);
    return logits;
}

static void check_same(const struct fm_model *a, const struct fm_model *b, bool exact, const char *what)
{
    size_t n = (size_t)(T * a->cfg.V);
    for (int chunk = 1; chunk <= T; chunk += T - 1) {
        float *x = run(a, exact, chunk), *y = run(b, exact, chunk);
        float size = 0;
        for (size_t i = 0; i < n; i++) size += y[i] * y[i];
        if (!(size > 0)) fail_msg("%s: no logits", what); /* NaN, too */
        if (memcmp(x, y, n * sizeof *x))
            fail_msg("%s, %s, chunks of %d: other bits", what, exact ? "exact" : "fast", chunk);
        fm_free(x);
        fm_free(y);
    }
}

#endif
