/* Replacing a file so that a failure leaves the old one intact.
 *
 *   PATH.tmp-<pid> ── write … ── fsync ── rename → PATH ── fsync of the folder */
#ifndef FM_FILE_REPLACE_H
#define FM_FILE_REPLACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct fm_replace {
    const char *what; /* for messages: "write GGUF" */
    char *path, *tmp;
    int fd;
    uint64_t written, started; /* bytes; of these handed to the disk */
};

/* what: static.  One replacement of a path at a time in a process.  On failure nothing needs to be released.
 * FM_ERR_USAGE when path is a folder or a device, FM_ERR_DISK when the temporary file cannot be made. */
enum fm_status fm_replace_open(struct fm_replace *r, const char *what, const char *path,
                               struct fm_error *err) FM_MUST_USE;
/* FM_ERR_DISK, with the numbers, when the file system that path lies or will lie on has less than n bytes left for us. */
enum fm_status fm_disk_room(const char *what, const char *path, uint64_t n, struct fm_error *err) FM_MUST_USE;
/* Reserve disk for the whole file of n bytes, where the file system can: fail now rather than after an hour. */
enum fm_status fm_replace_reserve(struct fm_replace *r, uint64_t n, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_replace_write(struct fm_replace *r, const void *data, uint64_t n, struct fm_error *err) FM_MUST_USE;
/* Both release r. */
enum fm_status fm_replace_commit(struct fm_replace *r, struct fm_error *err) FM_MUST_USE;
void fm_replace_abort(struct fm_replace *r);

#endif
