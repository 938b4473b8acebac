/* One file over the network. */
#ifndef FM_HUB_FETCH_H
#define FM_HUB_FETCH_H

#include "hub/http.h"

struct fm_fetch {
    struct fm_http *http;
    const char *repo, *rev; /* a commit, once it is known */
    const char *file;       /* path in the repository */
    int connections;
    uint64_t *old;      /* grows by what an earlier attempt had left */
    uint64_t base, all; /* for the progress bar: bytes of files before this one, and of the whole plan */
};

struct fm_file_meta {
    char blob[129]; /* the name of its bytes: a hash, mostly; empty: the server gives none */
    char commit[41];
    uint64_t size;
    char *location; /* where the bytes are, on the heap */
};

/* Ask for a file: size_hint and blob_hint are the listing's, for servers that say less. */
enum fm_status fm_fetch_meta(const struct fm_fetch *f, const char *blob_hint, uint64_t size_hint,
                             struct fm_file_meta *out, struct fm_error *err) FM_MUST_USE;
/* Download to partial (resuming what is there), check, rename to path. */
enum fm_status fm_fetch_file(const struct fm_fetch *f, const struct fm_file_meta *meta, const char *partial,
                             const char *path, struct fm_error *err) FM_MUST_USE;

#endif
