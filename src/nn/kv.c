/* Row views: where a sequence's keys and values lie, in this step's own rows or in cache blocks. */
#include "nn/nn.h"

static struct fm_rows *views(struct fm_ctx *c, int n)
{
    return fm_ctx_alloc(c, (size_t)n * sizeof(struct fm_rows), "row views");
}

/* A dry arena's memory must not be touched, and after a failure there is none. */
static bool unwritable(const struct fm_ctx *c) { return c->arena->dry || c->status; }

struct fm_rows *fm_rows_flat(struct fm_ctx *c, fm_real *x, size_t stride, size_t head, const struct fm_batch *b)
{
    struct fm_rows *v = views(c, b->n_seqs);
    if (unwritable(c)) return v;
    for (int i = 0; i < b->n_seqs; i++)
        v[i] = (struct fm_rows){.flat = x + (size_t)b->seqs[i].row0 * stride, .stride = stride, .head = head};
    return v;
}

struct fm_rows *fm_rows_cached(struct fm_ctx *c, int layer, size_t offset, size_t head, const struct fm_batch *b)
{
    struct fm_rows *v = views(c, b->n_seqs);
    if (unwritable(c)) return v;
    for (int i = 0; i < b->n_seqs; i++) {
        const struct fm_kv *kv = b->seqs[i].kv;
        v[i] = (struct fm_rows){.blocks = kv->blocks,
                                .offset = (size_t)layer * FM_KV_BLOCK * kv->row + offset,
                                .stride = kv->row,
                                .head = head};
    }
    return v;
}
