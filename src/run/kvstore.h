/* KV blocks on disk: what the tree of prefixes (prefix.h) holds, for longer than memory and the process last.
 *
 *   DIR/<key, 64 hex digits>.kv2       one block each (kvfile.h); DIR/tmp-… while it is written
 *
 *   save ─► jobs ──┐
 *                  ├─► one thread: loads first, a block at a time; it alone does I/O
 *   load ─► loads ─┘
 *
 * Names say all that the bits depend on, so servers, models and versions may share a folder: equal names are equal blocks,
 * and a file appears under its name only when it is whole.  Files that are not what their name says are removed and
 * logged.  What was used longest ago goes first, whoever wrote it; the time of use is the file's time of change.
 * Nothing else in the folder is touched. */
#ifndef FM_RUN_KVSTORE_H
#define FM_RUN_KVSTORE_H

#include "fathom_serve.h"
#include "run/kvfile.h"
#include "run/kvpool.h"

struct fm_kvstore;

/* dir is made if it is missing (not its parents), for its owner only; limit: bytes of files.  pool must outlive it.  on_loaded: from
 * the store's thread, when some load is over.  FM_ERR_USAGE: dir cannot be used. */
struct fm_kvstore_options {
    const char *dir;
    uint64_t limit;
    struct fm_kvorigin origin;
    struct fm_kvpool *pool;
    void (*on_loaded)(void *arg);
    void *arg;
};
enum fm_status fm_kvstore_open(const struct fm_kvstore_options *o, struct fm_kvstore **out,
                               struct fm_error *err) FM_MUST_USE;
/* Writes what waits, then frees; every load must be over.  NULL is fine. */
void fm_kvstore_close(struct fm_kvstore *s);

/* Remember n_blocks full blocks of a timeline that begins with ids[64·n_blocks], soon: blocks get references meanwhile.
 * When too much waits already, nothing happens. */
void fm_kvstore_save(struct fm_kvstore *s, const char *user, const int32_t *ids, int n_blocks,
                     struct fm_kv_block *const *blocks);

/* Blocks first … first+n−1 of a timeline, as far as they are there. */
struct fm_kvload {
    struct fm_kvload *next;
    const char *user;
    const int32_t *ids;          /* of the whole timeline: [64·(first + n)] */
    struct fm_kv_block **blocks; /* [n] … */
    int first, n, got;           /* … of which got are there when it is over, a reference each, the caller's */
    bool busy, stop;
};
/* false: there is nothing to load, and l->got is 0. */
bool fm_kvload_start(struct fm_kvstore *s, struct fm_kvload *l);
bool fm_kvload_busy(struct fm_kvstore *s, const struct fm_kvload *l);
/* Afterwards it is over, whatever it has. */
void fm_kvload_stop(struct fm_kvstore *s, struct fm_kvload *l);

void fm_kvstore_stats(struct fm_kvstore *s, struct fm_disk_cache_stats *out);
/* Wait until everything that was saved is written; for tests. */
void fm_kvstore_flush(struct fm_kvstore *s);

#endif
