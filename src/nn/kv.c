/* Caches: how a block is laid out, and row views: where a sequence's keys and values lie, in this step's own rows or in
 * cache blocks. */
#include <string.h>

#include "nn/nn.h"
#include "op/kv_tile.h"

static const char *const names[FM_KV_TYPE_COUNT] = {[FM_KV_F32] = "f32", [FM_KV_BF16] = "bf16", [FM_KV_Q8_0] = "q8_0"};

const char *fm_kv_type_name(enum fm_kv_type t) { return (unsigned)t < FM_KV_TYPE_COUNT ? names[t] : NULL; }

enum fm_kv_type fm_kv_type_named(const char *name)
{
    int t = 0;
    while (t < FM_KV_TYPE_COUNT && strcmp(names[t], name) != 0) t++;
    return (enum fm_kv_type)t;
}

size_t fm_kv_layer_bytes(const struct fm_kv_shape *s) { return (size_t)s->heads * fm_kv_head_bytes(s->type, s->width); }

size_t fm_kv_row_bytes(const struct fm_kv_shape *s) { return fm_kv_layer_bytes(s) / FM_KV_BLOCK; }

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

struct fm_rows fm_rows_of_kv(const struct fm_kv *kv, int layer, int head)
{
    const struct fm_kv_shape *s = &kv->shape;
    const size_t width = (size_t)s->width, row = (size_t)s->heads * width;
    struct fm_rows r = {
        .blocks = kv->blocks, .type = s->type, .width = s->width, .by_value = head >= s->keys, .stride = row};
    if (s->type == FM_KV_Q8_0) {
        r.head = fm_kv_head_bytes(s->type, s->width);
        r.offset = (size_t)layer * fm_kv_layer_bytes(s) + (size_t)head * r.head;
    } else {
        r.head = width;
        r.offset = (size_t)layer * FM_KV_BLOCK * row + (size_t)head * width;
    }
    return r;
}

struct fm_rows *fm_rows_cached(struct fm_ctx *c, int layer, int head, const struct fm_batch *b)
{
    struct fm_rows *v = views(c, b->n_seqs);
    if (unwritable(c)) return v;
    for (int i = 0; i < b->n_seqs; i++) v[i] = fm_rows_of_kv(b->seqs[i].kv, layer, head);
    return v;
}

/* n bytes out of the cache, or back; returns where the next ones go. */
static char *move(char *kept, void *cache, size_t n, bool back)
{
    memcpy(back ? cache : kept, back ? kept : cache, n);
    return kept + n;
}

/* A row's int8 and its scale of every group of a head. */
static char *move_tiles(char *kept, const struct fm_rows *r, int pos, int h, bool back)
{
    const int s = pos % FM_KV_BLOCK;
    for (int g = 0; g < fm_kv_groups(r->width); g++) {
        const struct fm_kv_tile t = fm_kv_tile_at(r, pos / FM_KV_BLOCK, h, g);
        for (int i = 0; i < t.n; i++) kept = move(kept, t.q + fm_kv_at(r->by_value, t.n, s, i), 1, back);
        kept = move(kept, t.d + s, sizeof *t.d, back);
    }
    return kept;
}

void fm_kv_keep(const struct fm_kv *kv, int layer, int pos, void *kept, bool back)
{
    char *at = kept;
    for (int h = 0; h < kv->shape.heads; h++) {
        const struct fm_rows r = fm_rows_of_kv(kv, layer, h);
        const size_t width = (size_t)r.width;
        if (r.type == FM_KV_Q8_0)
            at = move_tiles(at, &r, pos, 0, back);
        else if (r.type == FM_KV_BF16)
            at = move(at, fm_rows_bf16(&r, pos), width * sizeof(uint16_t), back);
        else
            at = move(at, fm_rows_at(&r, pos), width * sizeof(fm_real), back);
    }
}
