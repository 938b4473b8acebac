/* What files a KV store has: their sizes, found by key and ordered by use.  One thread at a time. */
#ifndef FM_RUN_KVINDEX_H
#define FM_RUN_KVINDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"

struct fm_kventry {
    struct fm_kventry *chain; /* in the bucket */
    struct fm_kventry *newer, *older;
    uint8_t key[FM_SHA256_BYTES];
    uint64_t bytes;
    unsigned seen; /* by which look at the folder */
};

struct fm_kvindex {
    struct fm_kventry **buckets;
    size_t n_buckets, n;
    struct fm_kventry *newest, *oldest;
    uint64_t bytes;
};

bool fm_kvindex_init(struct fm_kvindex *x); /* false: no memory */
void fm_kvindex_release(struct fm_kvindex *x);
struct fm_kventry *fm_kvindex_find(const struct fm_kvindex *x, const uint8_t *key);
/* As the newest; NULL: no memory. */
struct fm_kventry *fm_kvindex_add(struct fm_kvindex *x, const uint8_t *key, uint64_t bytes);
void fm_kvindex_touch(struct fm_kvindex *x, struct fm_kventry *e); /* it is the newest now */
void fm_kvindex_remove(struct fm_kvindex *x, struct fm_kventry *e);

#endif
