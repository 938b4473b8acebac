/* What every backend shares: the step's scratch and its sticky failure. */
#include "op/op.h"

void fm_ctx_fail(struct fm_ctx *c, enum fm_status st, const char *what)
{
    if (c->status) return;
    c->status = fm_fail(&c->error, st, "%s", what);
}

void *fm_ctx_alloc(struct fm_ctx *c, size_t bytes, const char *tag)
{
    void *p = fm_arena_alloc(c->arena, bytes, tag);
    if (!p && !c->status)
        c->status = fm_fail(&c->error, FM_ERR_MEMORY, "%s: %s: %zu bytes do not fit the plan of %zu (%zu in use)",
                            c->arena->name, tag, bytes, c->arena->cap, c->arena->used);
    return p;
}

void fm_mat_decode(float *dst, const struct fm_mat *w, int row, int col, int n, fm_decode_fn decode)
{
    const struct fm_scales *s = &w->scale;
    decode(dst, (const char *)w->data + (size_t)row * w->row_bytes + fm_format_bytes(w->fmt, (uint64_t)col), (size_t)n);
    if (!s->at) return;
    const struct fm_format *f = &fm_formats[s->fmt];
    const char *at = (const char *)s->at + (size_t)((s->row0 + row) / s->block_rows) * (size_t)s->ld * f->block_bytes;
    for (int k = 0; k < n;) {
        float scale;
        int block = (col + k) / s->block_cols, left = s->block_cols - (col + k) % s->block_cols;
        int end = left < n - k ? k + left : n;
        f->decode(&scale, at + (size_t)block * f->block_bytes, 1);
        for (; k < end; k++) dst[k] *= scale;
    }
    for (int k = 0; s->two_levels && k < n; k++) dst[k] *= s->whole;
}
