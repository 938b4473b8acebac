/* See kvindex.h.  Keys are digests: their first bytes are as good as a hash of them. */
#include "run/kvindex.h"

#include <string.h>

#include "base/mem.h"

enum { BUCKETS_MIN = 256 };

static struct fm_kventry **bucket(const struct fm_kvindex *x, const uint8_t *key)
{
    uint64_t h;
    memcpy(&h, key, sizeof h);
    return &x->buckets[h & (x->n_buckets - 1)];
}

bool fm_kvindex_init(struct fm_kvindex *x)
{
    *x = (struct fm_kvindex){.buckets = fm_calloc(BUCKETS_MIN, sizeof(struct fm_kventry *)), .n_buckets = BUCKETS_MIN};
    return x->buckets;
}

void fm_kvindex_release(struct fm_kvindex *x)
{
    while (x->oldest) fm_kvindex_remove(x, x->oldest);
    fm_free(x->buckets);
    *x = (struct fm_kvindex){0};
}

struct fm_kventry *fm_kvindex_find(const struct fm_kvindex *x, const uint8_t *key)
{
    struct fm_kventry *e = *bucket(x, key);
    while (e && memcmp(e->key, key, sizeof e->key) != 0) e = e->chain;
    return e;
}

static void unlink_entry(struct fm_kvindex *x, struct fm_kventry *e)
{
    *(e->newer ? &e->newer->older : &x->newest) = e->older;
    *(e->older ? &e->older->newer : &x->oldest) = e->newer;
}

static void link_newest(struct fm_kvindex *x, struct fm_kventry *e)
{
    e->newer = NULL;
    e->older = x->newest;
    *(x->newest ? &x->newest->newer : &x->oldest) = e;
    x->newest = e;
}

static void grow(struct fm_kvindex *x)
{
    struct fm_kvindex wide = *x;
    wide.n_buckets *= 2;
    wide.buckets = fm_calloc(wide.n_buckets, sizeof(struct fm_kventry *));
    if (!wide.buckets) return; /* longer chains, nothing worse */
    for (struct fm_kventry *e = x->newest; e; e = e->older) {
        e->chain = *bucket(&wide, e->key);
        *bucket(&wide, e->key) = e;
    }
    fm_free(x->buckets);
    *x = wide;
}

struct fm_kventry *fm_kvindex_add(struct fm_kvindex *x, const uint8_t *key, uint64_t bytes)
{
    struct fm_kventry *e = fm_calloc(1, sizeof *e);
    if (!e) return NULL;
    if (x->n >= x->n_buckets) grow(x);
    memcpy(e->key, key, sizeof e->key);
    e->bytes = bytes;
    e->chain = *bucket(x, key);
    *bucket(x, key) = e;
    link_newest(x, e);
    x->n++;
    x->bytes += bytes;
    return e;
}

void fm_kvindex_touch(struct fm_kvindex *x, struct fm_kventry *e)
{
    unlink_entry(x, e);
    link_newest(x, e);
}

void fm_kvindex_remove(struct fm_kvindex *x, struct fm_kventry *e)
{
    struct fm_kventry **at = bucket(x, e->key);
    while (*at != e) at = &(*at)->chain;
    *at = e->chain;
    unlink_entry(x, e);
    x->n--;
    x->bytes -= e->bytes;
    fm_free(e);
}
