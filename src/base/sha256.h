/* SHA-256 (FIPS 180-4), for names that must not collide even where somebody wants them to: 0.2 GB/s, so not for bulk.  Files are
 * hashed by libcrypto, in hub/ only: a build without it still serves. */
#ifndef FM_BASE_SHA256_H
#define FM_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { FM_SHA256_BYTES = 32 };

struct fm_sha256 {
    uint32_t h[8];
    uint64_t n; /* bytes so far */
    unsigned char rest[64];
};

void fm_sha256_init(struct fm_sha256 *s);
void fm_sha256_add(struct fm_sha256 *s, const void *data, size_t n);
void fm_sha256_end(struct fm_sha256 *s, uint8_t out[FM_SHA256_BYTES]); /* s is used up */

#endif
