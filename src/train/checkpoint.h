/* One file that holds everything a run needs to go on: a JSON block and some arrays.
 *
 *   0  "FMCKPT\r\n" │ 8 version u32 │ 12 JSON bytes u32 │ 16 array bytes u64 (sum) │ 24 sum of bytes 0…24 and the JSON
 *  32  JSON, blanks to a multiple of 64
 *   …  arrays, as blocks of 1 MiB (the last may be shorter), each followed by its sum u64
 *
 * The sum of block i is seeded with i, so blocks cannot change places.  "\r\n" shows files that went through a text mode.
 * The file is written beside the old one, synced, and renamed over it: a full disk or a kill leaves the old one. */
#ifndef FM_TRAIN_CHECKPOINT_H
#define FM_TRAIN_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"

struct fm_checkpoint_array {
    void *data; /* little-endian machines only: the bytes as in memory */
    size_t bytes;
};

/* FM_ERR_DISK when it cannot be written; then what was at path still is. */
enum fm_status fm_checkpoint_save(const char *path, const json_t *head, const struct fm_checkpoint_array *arrays, int n,
                                  struct fm_error *err) FM_MUST_USE;

struct fm_checkpoint {
    char *path;
    int fd;
    json_t *head;
    uint64_t offset, array_bytes, file_bytes; /* of the first block; of all arrays; of the file */
};
/* Read and verify the JSON.  Missing, cut, changed, or another kind of file: FM_ERR_INPUT naming path and byte. */
enum fm_status fm_checkpoint_open(struct fm_checkpoint *k, const char *path, struct fm_error *err) FM_MUST_USE;
/* Fill the arrays, in the order and sizes of save (a prefix of them will do), verifying every block touched.
 * On failure their contents are undefined. */
enum fm_status fm_checkpoint_read(struct fm_checkpoint *k, const struct fm_checkpoint_array *arrays, int n,
                                  struct fm_error *err) FM_MUST_USE;
void fm_checkpoint_close(struct fm_checkpoint *k);

#endif
