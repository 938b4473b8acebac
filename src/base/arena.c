/* See arena.h. */
#include "base/arena.h"

#include <string.h>

#include "base/mem.h"

enum { ALIGN = 64 };
static const size_t DRY_BASE = (size_t)1 << 46; /* not NULL, never mapped by us, aligned */

enum fm_status fm_arena_init(struct fm_arena *a, const char *name, size_t cap, struct fm_error *err)
{
    char *base = fm_pages_alloc(cap);
    if (!base) return fm_fail_memory(err, name, cap);
    *a = (struct fm_arena){.name = name, .base = base, .cap = cap};
    return FM_OK;
}

void fm_arena_init_dry(struct fm_arena *a, const char *name)
{
    *a = (struct fm_arena){.name = name, .cap = (size_t)-1 / 4, .dry = true};
}

void fm_arena_release(struct fm_arena *a)
{
    if (a->base) fm_pages_free(a->base, a->cap);
    *a = (struct fm_arena){0};
}

static void count_tag(struct fm_arena *a, size_t bytes, const char *tag)
{
    for (int i = 0; i < a->n_tags; i++)
        if (!strcmp(a->tags[i].tag, tag)) {
            a->tags[i].bytes += bytes;
            return;
        }
    if (a->n_tags < FM_ARENA_TAGS) {
        a->tags[a->n_tags].tag = tag;
        a->tags[a->n_tags++].bytes = bytes;
    }
}

void *fm_arena_alloc(struct fm_arena *a, size_t bytes, const char *tag)
{
    size_t room = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (room < bytes || room > a->cap - a->used) {
        a->overflow = true;
        return NULL;
    }
    size_t at = a->used;
    a->used += room;
    if (a->used > a->peak) a->peak = a->used;
    if (a->dry) {
        count_tag(a, room, tag);
        return (void *)(DRY_BASE + at);
    }
    return a->base + at;
}
