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
