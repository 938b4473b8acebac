/* The cache of prefixes: KV blocks of earlier requests, found again by their tokens.
 *
 *   user ── [64 tokens] ── [64 tokens] ── …        a node = one full block of one timeline, its parent the block before
 *                     └─── [64 tokens]             what two requests share is there once
 *
 * A block's keys and values depend on all tokens before it, so a node counts only together with its parents: looking up
 * walks from the user's root.  Blocks are shared by reference with running requests.  The least recently used leaf goes
 * first.  One thread at a time. */
#ifndef FM_RUN_PREFIX_H
#define FM_RUN_PREFIX_H

#include "run/kvpool.h"

struct fm_prefix;

struct fm_prefix_stats {
    uint64_t bytes, limit, evicted; /* bytes held; allowed; blocks dropped so far */
};

/* limit: bytes of blocks; pool must outlive it. */
enum fm_status fm_prefix_new(struct fm_kvpool *pool, uint64_t limit, struct fm_prefix **out,
                             struct fm_error *err) FM_MUST_USE;
void fm_prefix_free(struct fm_prefix *p);

/* The longest known beginning of ids[n] in whole blocks: blocks[0 … result−1] get a reference each, the caller's. */
int fm_prefix_find(struct fm_prefix *p, const char *user, const int32_t *ids, int n, struct fm_kv_block **blocks);
/* Remember n_blocks full blocks of a timeline that begins with ids[64·n_blocks].  Those that are known already are not
 * replaced.  When memory is short less is remembered. */
void fm_prefix_add(struct fm_prefix *p, const char *user, const int32_t *ids, int n_blocks,
                   struct fm_kv_block *const *blocks);
/* Drop the block that nobody asked for longest; false when there is none. */
bool fm_prefix_evict(struct fm_prefix *p);
struct fm_prefix_stats fm_prefix_stats(const struct fm_prefix *p);

#endif
