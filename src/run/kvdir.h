/* The folder of a KV store: one file read, written, removed; all of them listed. */
#ifndef FM_RUN_KVDIR_H
#define FM_RUN_KVDIR_H

#include <stdbool.h>
#include <time.h>

#include "run/kvfile.h"

/* Made if it is missing, not its parents, for its owner only. */
enum fm_status fm_kvdir_open(const char *path, int *dir, struct fm_error *err) FM_MUST_USE;

/* One of our files. */
struct fm_kvlisted {
    uint8_t key[FM_SHA256_BYTES];
    uint64_t bytes;
    struct timespec used;
};
/* All of them, least recently used first: *list is heap, n items.  Files of other versions of the format and what dead
 * writers left is removed.  false: it cannot be listed. */
bool fm_kvdir_list(int dir, struct fm_kvlisted **list, size_t *n);
struct timespec fm_kvdir_changed(int dir);

enum fm_kvread { FM_KVREAD_OK, FM_KVREAD_MISSING, FM_KVREAD_BAD };
/* Into body[o->block_bytes], whose content counts only after FM_KVREAD_OK.  *why: of FM_KVREAD_BAD. */
enum fm_kvread fm_kvdir_read(int dir, const struct fm_kvorigin *o, const struct fm_kvplace *p, void *body,
                             const char **why);
/* FM_ERR_DISK: it is not there, and nothing is left of it. */
enum fm_status fm_kvdir_write(int dir, const struct fm_kvorigin *o, const struct fm_kvplace *p, const void *body,
                              struct fm_error *err) FM_MUST_USE;
void fm_kvdir_used(int dir, const uint8_t *key, struct timespec when);
void fm_kvdir_remove(int dir, const uint8_t *key);

enum { FM_KVNAME = 2 * FM_SHA256_BYTES + 8 };
void fm_kvdir_name(const uint8_t *key, char name[FM_KVNAME]);

#endif
