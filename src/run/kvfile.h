/* One KV block as a file.
 *
 *   head  512 bytes: what the block is, so that it can be compared as a whole with what is wanted; docs/SERVER.md has the table
 *   body  block_bytes: the block as it lies in memory
 *
 * A block is named by everything that its bits depend on:
 *
 *   whose = SHA-256(user)      root = SHA-256(origin, whose)      key of block i = SHA-256(key of block i−1, its 64 tokens)
 *
 * so equal names mean equal contents, and nobody's blocks can be reached with another user's name. */
#ifndef FM_RUN_KVFILE_H
#define FM_RUN_KVFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "op/op.h"

enum { FM_KVFILE_VERSION = 2, FM_KVFILE_HEAD = 512 };

/* What all blocks of one engine share.  Texts end in zeros. */
struct fm_kvorigin {
    uint64_t block_bytes;
    uint64_t model;   /* fingerprint of weights and config */
    char type[8];     /* of keys and values: "q8_0"        */
    char tier[16];    /* of the kernels                    */
    char mode[16];    /* "exact", "deterministic", ""      */
    char version[16]; /* the program's */
};

/* Which block of which timeline. */
struct fm_kvplace {
    uint8_t whose[FM_SHA256_BYTES], before[FM_SHA256_BYTES], key[FM_SHA256_BYTES];
    uint32_t index;
    int32_t ids[FM_KV_BLOCK];
};

/* In front of block 0 of a user … */
void fm_kvplace_root(struct fm_kvplace *p, const struct fm_kvorigin *o, const char *user);
/* … and on to the block with the next ids[FM_KV_BLOCK]. */
void fm_kvplace_next(struct fm_kvplace *p, const int32_t *ids);

void fm_kvfile_head(const struct fm_kvorigin *o, const struct fm_kvplace *p, const void *body,
                    uint8_t head[FM_KVFILE_HEAD]);
/* NULL when these are the head and body of that place, else why not.  Reads body only when the head is right. */
const char *fm_kvfile_check(const struct fm_kvorigin *o, const struct fm_kvplace *p, const uint8_t head[FM_KVFILE_HEAD],
                            const void *body);

#endif
