/* The two hashes that name blobs: SHA-256 of a large file, git's SHA-1 of a small one.
 *
 * From libcrypto, which libcurl brings along anyway on most systems, and which uses the processor's SHA instructions:
 * 1.8 GB/s against 0.25 GB/s of portable C.  The kernel's AF_ALG would do as well, but containers often forbid it. */
#ifndef FM_HUB_HASH_H
#define FM_HUB_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct fm_hash {
    void *ctx; /* NULL: the name is no hash, nothing is computed */
};

/* For a blob of this name and size: 64 hex digits SHA-256, 40 git's SHA-1 over "blob SIZE\0" and the bytes, else nothing. */
enum fm_status fm_hash_init(struct fm_hash *h, const char *blob, uint64_t size, struct fm_error *err) FM_MUST_USE;
void fm_hash_release(struct fm_hash *h);
bool fm_hash_add(struct fm_hash *h, const void *data, size_t n);
/* The digest so far in hex; more may be added afterwards.  Empty when nothing is computed; false: no memory. */
bool fm_hash_text(const struct fm_hash *h, char out[65]);

#endif
