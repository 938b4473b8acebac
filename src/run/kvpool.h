/* The engine's cache memory: fixed-size, reference-counted blocks.
 *
 *   block = 64 tokens of every layer, in the type and order that nn.h says of struct fm_kv: here block_bytes bytes
 *   slab  = one mapping with the blocks of one request; pages come from the system when first written
 *
 * Sessions hold lists of blocks; several lists may share one. */
#ifndef FM_RUN_KVPOOL_H
#define FM_RUN_KVPOOL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/topology.h"
#include "op/op.h"

struct fm_kv_slab;

struct fm_kv_block {
    void *data;
    int refs; /* 0: free */
    struct fm_kv_slab *slab;
};

struct fm_kvpool {
    size_t block_bytes;
    struct fm_kv_slab *slabs;
    uint64_t reserved_bytes; /* of all slabs */
    struct fm_nodes nodes;   /* slabs lie on all of these in turn */
    pthread_mutex_t lock;
};

/* block_bytes: of one block, a multiple of 64. */
enum fm_status fm_kvpool_init(struct fm_kvpool *p, size_t block_bytes, struct fm_error *err) FM_MUST_USE;
/* Every block must have been dropped. */
void fm_kvpool_release(struct fm_kvpool *p);
/* n blocks of undefined content, one reference each; all of them or, with FM_ERR_MEMORY, none.  Thread-safe. */
enum fm_status fm_kvpool_take(struct fm_kvpool *p, int n, struct fm_kv_block **out, struct fm_error *err) FM_MUST_USE;
void fm_kvpool_share(struct fm_kvpool *p, struct fm_kv_block *b); /* one more reference   */
void fm_kvpool_drop(struct fm_kvpool *p, struct fm_kv_block *b);  /* one less; NULL is fine */
uint64_t fm_kvpool_reserved(struct fm_kvpool *p);                 /* bytes of all slabs; thread-safe */

#endif
