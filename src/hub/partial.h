/* A file that is being downloaded: pieces that fill up from their beginnings, in any order, and a hash that follows.
 *
 *   piece 0            piece 1            piece 2            piece 3
 *   ├███████████████████├██████████─────────├███──────────────├─────────────────┤
 *   └──── in order: hashed as soon as it is complete ──┘      one connection works on one piece
 *
 * The bytes lie in PATH, what is known of them in PATH with .state before .incomplete (JSON).  After an interruption, of
 * the program or of the machine, the pieces go on where the state says; the hash of what lay in order is compared first,
 * so that a damaged remainder is found before the rest is fetched. */
#ifndef FM_HUB_PARTIAL_H
#define FM_HUB_PARTIAL_H

#include "hub/hash.h"
#include "hub/hub.h"

struct fm_partial {
    char *path, *state_path;
    int fd;
    char blob[129];       /* the server's name for these bytes */
    uint64_t size, piece; /* bytes; of a piece (the last is shorter) */
    uint32_t n_pieces;
    uint64_t *done;  /* bytes of each piece */
    uint64_t total;  /* sum of done */
    uint64_t hashed; /* bytes from the beginning that are in hash */
    uint32_t front;  /* the first piece that is not full */
    struct fm_hash hash;
    bool resumed; /* something of an earlier attempt is in it */
};

/* Opens what is left of an earlier attempt if it is of the same blob, or begins.  stop: while old bytes are hashed.
 * On failure nothing needs to be released. */
enum fm_status fm_partial_open(struct fm_partial *p, const char *path, const char *blob, uint64_t size, int connections,
                               const struct fm_hub_progress *progress, struct fm_error *err) FM_MUST_USE;
/* Bytes of a whole plan that an earlier attempt left, without opening: for the check of free space. */
uint64_t fm_partial_peek(const char *path, const char *blob, uint64_t size);
uint64_t fm_partial_begin(const struct fm_partial *p, uint32_t piece);  /* offset of a piece */
uint64_t fm_partial_length(const struct fm_partial *p, uint32_t piece); /* its bytes */
/* n <= what is left of the piece.  FM_ERR_DISK. */
enum fm_status fm_partial_write(struct fm_partial *p, uint32_t piece, const void *data, size_t n,
                                struct fm_error *err) FM_MUST_USE;
/* Forget all bytes; whole: from now on one piece. */
enum fm_status fm_partial_restart(struct fm_partial *p, bool whole, struct fm_error *err) FM_MUST_USE;
/* Bring the hash up to what lies in order, 32 MiB at most per call; *more: there is more. */
enum fm_status fm_partial_hash(struct fm_partial *p, bool *more, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_partial_save(struct fm_partial *p,
                               struct fm_error *err) FM_MUST_USE; /* bytes first, then the state */
/* All is there: compare the hash (*good), and if it is right sync and rename to path.  Wrong: the partial is removed. */
enum fm_status fm_partial_finish(struct fm_partial *p, const char *path, bool *good, struct fm_error *err) FM_MUST_USE;
void fm_partial_close(struct fm_partial *p);

#endif
