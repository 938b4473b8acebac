/* Planned, aligned, tagged memory with mark and reset.
 *
 *   base ─┬─ item, 64-byte aligned ─┬─ item ─┬─ … ─┬─ used ─────────┬─ cap
 *         └ tag "q"                 └ tag    │     └ next item here │ never exceeded: the plan knew
 *
 * A *dry* arena owns no memory: it hands out addresses that must not be touched and only counts.
 * Running the same code over a dry arena first is how every plan is made. */
#ifndef FM_BASE_ARENA_H
#define FM_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { FM_ARENA_TAGS = 64 };

struct fm_arena {
    const char *name;
    char *base;
    size_t cap, used, peak;
    bool dry;
    bool overflow; /* sticky: an item did not fit (a bug in the plan); alloc then returns NULL */
    int n_tags;
    struct {
        const char *tag;
        size_t bytes; /* sum over all items of this tag ever given out since init, marks not subtracted */
    } tags[FM_ARENA_TAGS];
};

/* name must outlive the arena. */
enum fm_status fm_arena_init(struct fm_arena *a, const char *name, size_t cap, struct fm_error *err) FM_MUST_USE;
void fm_arena_init_dry(struct fm_arena *a, const char *name);
void fm_arena_release(struct fm_arena *a);

/* 64-byte aligned, contents undefined.  tag: a static string naming the item. */
void *fm_arena_alloc(struct fm_arena *a, size_t bytes, const char *tag);

static inline size_t fm_arena_mark(const struct fm_arena *a) { return a->used; }
static inline void fm_arena_reset(struct fm_arena *a, size_t mark) { a->used = mark; }

#endif
