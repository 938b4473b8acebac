/* See prefix.h.  Nodes lie in one hash table; the list of use keeps every parent in front of its children, so that its
 * end is always a leaf. */
#include "run/prefix.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

enum { BUCKETS_MIN = 256 };

struct node {
    struct node *chain;  /* in the bucket */
    struct node *parent; /* NULL: a user's root, which has no block */
    struct node *newer, *older;
    uint64_t hash;
    int n_children;
    struct fm_kv_block *block;
    union {
        int32_t ids[FM_KV_BLOCK];
        char *user; /* of a root */
    };
};

struct fm_prefix {
    struct fm_kvpool *pool;
    struct node **buckets;
    size_t n_buckets, n_nodes;
    struct node *newest, *oldest; /* nodes with blocks */
    struct fm_prefix_stats stats;
};

/* FNV-1a over 64-bit words would be weak against chosen tokens; equality is checked on the tokens themselves. */
static uint64_t mix(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static struct node **bucket(const struct fm_prefix *p, uint64_t hash) { return &p->buckets[hash & (p->n_buckets - 1)]; }

/* ---- the list of use ---- */

static void unlink_node(struct fm_prefix *p, struct node *n)
{
    if (n->newer) n->newer->older = n->older;
    if (n->older) n->older->newer = n->newer;
    if (p->newest == n) p->newest = n->older;
    if (p->oldest == n) p->oldest = n->newer;
    n->newer = n->older = NULL;
}

static void link_newest(struct fm_prefix *p, struct node *n)
{
    n->older = p->newest;
    if (p->newest) p->newest->newer = n;
    p->newest = n;
    if (!p->oldest) p->oldest = n;
}

/* The leaf first, the root last: parents end up newer than their children. */
static void touch_path(struct fm_prefix *p, struct node *n)
{
    for (; n && n->parent; n = n->parent) {
        unlink_node(p, n);
        link_newest(p, n);
    }
}

/* ---- the table ---- */

static void grow(struct fm_prefix *p)
{
    const size_t n = p->n_buckets * 2;
    struct node **buckets = fm_calloc(n, sizeof *buckets);
    if (!buckets) return; /* longer chains, nothing worse */
    struct node **old = p->buckets;
    const size_t n_old = p->n_buckets;
    p->buckets = buckets;
    p->n_buckets = n;
    for (size_t i = 0; i < n_old; i++)
        for (struct node *x = old[i], *next; x; x = next) {
            next = x->chain;
            x->chain = *bucket(p, x->hash);
            *bucket(p, x->hash) = x;
        }
    fm_free(old);
}

static void insert(struct fm_prefix *p, struct node *n)
{
    if (p->n_nodes >= p->n_buckets) grow(p);
    n->chain = *bucket(p, n->hash);
    *bucket(p, n->hash) = n;
    p->n_nodes++;
}

/* Takes a node without children out; its root goes with its last child. */
static void remove_node(struct fm_prefix *p, struct node *n)
{
    struct node **at = bucket(p, n->hash), *parent = n->parent;
    assert(!n->n_children);
    while (*at != n) at = &(*at)->chain;
    *at = n->chain;
    p->n_nodes--;
    if (parent) {
        unlink_node(p, n);
        fm_kvpool_drop(p->pool, n->block);
        p->stats.bytes -= p->pool->block_bytes;
    } else {
        fm_free(n->user);
    }
    fm_free(n);
    if (parent && --parent->n_children == 0 && !parent->parent) remove_node(p, parent);
}

static struct node *find_root(const struct fm_prefix *p, const char *user)
{
    const uint64_t hash = mix(0xcbf29ce484222325u, user, strlen(user));
    struct node *n = *bucket(p, hash);
    while (n && (n->parent || n->hash != hash || strcmp(n->user, user) != 0)) n = n->chain;
    return n;
}

static struct node *find_child(const struct fm_prefix *p, struct node *parent, const int32_t *ids)
{
    const uint64_t hash = mix(parent->hash, ids, sizeof parent->ids);
    struct node *n = *bucket(p, hash);
    while (n && (n->parent != parent || n->hash != hash || memcmp(n->ids, ids, sizeof n->ids) != 0)) n = n->chain;
    return n;
}

static struct node *add_root(struct fm_prefix *p, const char *user)
{
    struct node *n = fm_calloc(1, sizeof *n);
    char *name = n ? fm_strdup(user) : NULL;
    if (!name) {
        fm_free(n);
        return NULL;
    }
    n->user = name;
    n->hash = mix(0xcbf29ce484222325u, user, strlen(user));
    insert(p, n);
    return n;
}

static struct node *add_child(struct fm_prefix *p, struct node *parent, const int32_t *ids, struct fm_kv_block *block)
{
    struct node *n = fm_calloc(1, sizeof *n);
    if (!n) return NULL;
    n->parent = parent;
    n->hash = mix(parent->hash, ids, sizeof n->ids);
    memcpy(n->ids, ids, sizeof n->ids);
    n->block = block;
    fm_kvpool_share(p->pool, block);
    p->stats.bytes += p->pool->block_bytes;
    parent->n_children++;
    insert(p, n);
    link_newest(p, n);
    return n;
}

/* ---- the interface ---- */

enum fm_status fm_prefix_new(struct fm_kvpool *pool, uint64_t limit, struct fm_prefix **out, struct fm_error *err)
{
    struct fm_prefix *p = fm_calloc(1, sizeof *p);
    if (p) p->buckets = fm_calloc(BUCKETS_MIN, sizeof(struct node *));
    if (!p || !p->buckets) {
        fm_free(p);
        return fm_fail_memory(err, "the cache of prefixes", BUCKETS_MIN * sizeof(struct node *));
    }
    p->pool = pool;
    p->n_buckets = BUCKETS_MIN;
    p->stats.limit = limit;
    *out = p;
    return FM_OK;
}

bool fm_prefix_evict(struct fm_prefix *p)
{
    if (!p->oldest) return false;
    remove_node(p, p->oldest);
    p->stats.evicted++;
    return true;
}

void fm_prefix_free(struct fm_prefix *p)
{
    if (!p) return;
    while (p->oldest) remove_node(p, p->oldest); /* and the roots with their last children */
    fm_free(p->buckets);
    fm_free(p);
}

int fm_prefix_find(struct fm_prefix *p, const char *user, const int32_t *ids, int n, struct fm_kv_block **blocks)
{
    struct node *at = find_root(p, user), *next;
    int found = 0;
    while (at && (found + 1) * FM_KV_BLOCK <= n && (next = find_child(p, at, ids + found * FM_KV_BLOCK))) {
        at = next;
        fm_kvpool_share(p->pool, at->block);
        blocks[found++] = at->block;
    }
    touch_path(p, at);
    return found;
}

void fm_prefix_add(struct fm_prefix *p, const char *user, const int32_t *ids, int n_blocks,
                   struct fm_kv_block *const *blocks)
{
    if (n_blocks <= 0 || p->stats.limit < p->pool->block_bytes) return;
    struct node *root = find_root(p, user), *at = root ? root : add_root(p, user), *next;
    root = at;
    for (int i = 0; at && i < n_blocks; i++) {
        next = find_child(p, at, ids + i * FM_KV_BLOCK);
        if (!next) next = add_child(p, at, ids + i * FM_KV_BLOCK, blocks[i]);
        if (!next) break;
        at = next;
    }
    if (root && !root->n_children)
        remove_node(p, root);
    else
        touch_path(p, at);
    while (p->stats.bytes > p->stats.limit) (void)fm_prefix_evict(p);
}

struct fm_prefix_stats fm_prefix_stats(const struct fm_prefix *p) { return p->stats; }
