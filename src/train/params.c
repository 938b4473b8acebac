/* See params.h. */
#include "train/params.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

enum { ALIGN_FLOATS = 16 };
enum group { MATRICES, VECTORS, BUFFERS, NOWHERE };

static enum group group_of(const struct fm_binding *b)
{
    if (b->flags & FM_BIND_SPLIT_PART) return NOWHERE; /* other files' spelling of a tensor that is trained whole */
    if (b->flags & FM_BIND_BUFFER) return BUFFERS;
    return b->flags & FM_BIND_VECTOR || b->rows == 1 ? VECTORS : MATRICES;
}

/* Offsets of one group's tensors; false when they cannot be counted. */
static bool lay_out(struct fm_params *a, enum group g, size_t *used)
{
    for (int i = 0; i < a->n; i++) {
        const struct fm_binding *b = &a->list[i];
        size_t n;
        if (group_of(b) != g) continue;
        a->at[i] = *used;
        if (!fm_mul_size((size_t)b->rows, (size_t)b->cols, &n) || !fm_add_size(n, ALIGN_FLOATS - 1, &n) ||
            !fm_add_size(*used, n / ALIGN_FLOATS * ALIGN_FLOATS, used))
            return false;
    }
    return *used <= SIZE_MAX / 64;
}

/* Point every matrix of w at base; before alloc that is an address that is never read. */
static void point(const struct fm_params *a, struct fm_binding *list, struct fm_weights *w, char *base, bool buffers)
{
    for (int i = 0; i < a->n; i++) {
        struct fm_binding *b = &list[i];
        const enum group g = group_of(b);
        if (g == NOWHERE || (g == BUFFERS && !buffers)) continue;
        *b->mat = fm_mat_of(FM_F32, b->rows, b->cols, base + a->at[i] * sizeof(float));
    }
    if (a->cfg.tied) w->head = w->embed;
}

enum fm_status fm_params_init(struct fm_params *a, const struct fm_config *cfg, struct fm_error *err)
{
    *a = (struct fm_params){.cfg = *cfg};
    enum fm_status st;
    int n = 0;
    FM_GOTO(fm_weights_init(&a->w, cfg, err));
    FM_GOTO(fm_weights_init(&a->dw, cfg, err));
    FM_GOTO(fm_bindings_new(cfg, &a->w, &a->list, &a->n, err));
    FM_GOTO(fm_bindings_new(cfg, &a->dw, &a->dlist, &n, err));
    a->at = fm_calloc((size_t)a->n, sizeof *a->at);
    if (!a->at) FM_GOTO(fm_fail_memory(err, "parameter table", (size_t)a->n * sizeof *a->at));
    if (!lay_out(a, MATRICES, &a->n_all)) FM_GOTO(fm_fail_memory(err, "parameters", SIZE_MAX));
    a->n_decay = a->n_trained = a->n_all;
    if (!lay_out(a, VECTORS, &a->n_trained)) FM_GOTO(fm_fail_memory(err, "parameters", SIZE_MAX));
    a->n_all = a->n_trained;
    if (!lay_out(a, BUFFERS, &a->n_all)) FM_GOTO(fm_fail_memory(err, "parameters", SIZE_MAX));
    char *const never_read = (char *)(uintptr_t)64;
    point(a, a->list, &a->w, never_read, true);
    point(a, a->dlist, &a->dw, never_read, false);
    return FM_OK;
out:
    fm_params_release(a);
    return st;
}

static enum fm_status block(float **out, size_t bytes, const char *what, struct fm_error *err)
{
    *out = fm_pages_alloc(bytes);
    return *out ? FM_OK : fm_fail_memory(err, what, bytes);
}

enum fm_status fm_params_alloc(struct fm_params *a, bool training, struct fm_error *err)
{
    const size_t bytes = fm_params_bytes(a);
    FM_TRY(block(&a->p, bytes, "parameters", err));
    point(a, a->list, &a->w, (char *)a->p, true);
    if (!training) return FM_OK;
    FM_TRY(block(&a->g, bytes, "gradients", err));
    FM_TRY(block(&a->m, bytes, "first moments", err));
    FM_TRY(block(&a->v, bytes, "second moments", err));
    point(a, a->dlist, &a->dw, (char *)a->g, false);
    return FM_OK;
}

void fm_params_release(struct fm_params *a)
{
    const size_t bytes = fm_params_bytes(a);
    fm_pages_free(a->p, bytes);
    fm_pages_free(a->g, bytes);
    fm_pages_free(a->m, bytes);
    fm_pages_free(a->v, bytes);
    fm_free(a->at);
    fm_free(a->list);
    fm_free(a->dlist);
    fm_weights_release(&a->w, &a->cfg);
    fm_weights_release(&a->dw, &a->cfg);
    *a = (struct fm_params){0};
}

struct starter {
    struct fm_params *a;
    uint64_t seed;
};

static void start_tensors(void *arg, int begin, int end, int thread)
{
    const struct starter *s = arg;
    (void)thread;
    for (int i = begin; i < end; i++) {
        const struct fm_binding *b = &s->a->list[i];
        if (group_of(b) == NOWHERE) continue;
        float *x = s->a->p + s->a->at[i];
        const size_t n = (size_t)b->rows * (size_t)b->cols;
        const bool out = fm_ends_with(b->hf, "o_proj.weight") || fm_ends_with(b->hf, "down_proj.weight");
        const double std = (double)s->a->cfg.init_std * (out ? 1 / sqrt(2.0 * s->a->cfg.L) : 1);
        struct fm_rng rng;
        fm_rng_init(&rng, s->seed * 0x9E3779B97F4A7C15u + (uint64_t)i + 1);
        for (size_t j = 0; j < n; j++) {
            if (b->flags & FM_BIND_NORM)
                x[j] = 1;
            else if (group_of(b) == MATRICES)
                x[j] = (float)(std * fm_rng_normal(&rng));
            else
                x[j] = 0;
        }
    }
}

void fm_params_start(struct fm_params *a, uint64_t seed, struct fm_pool *pool)
{
    struct starter s = {a, seed};
    fm_parallel_for(pool, a->n, 1, start_tensors, &s);
}
