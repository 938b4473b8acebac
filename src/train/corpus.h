/* Texts on disk → one block of memory holding documents.
 *
 *   paths ─ find ─→ files, in order, with an upper bound of their text ─ load ─→ text ┬ doc 0 ┬ doc 1 ┬ …
 *
 * A document is a text file, a member of a tar archive, or the part between two lines "<|endoftext|>".
 * Folders are searched depth first in order of path bytes, so that the same folder is the same corpus everywhere. */
#ifndef FM_TRAIN_CORPUS_H
#define FM_TRAIN_CORPUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* The line that separates documents inside a file, and the token that separates them in the stream. */
#define FM_CORPUS_SEPARATOR "<|endoftext|>"

struct fm_corpus_file {
    char *path;
    int arg;        /* which of the paths asked for led here */
    uint64_t bytes; /* at most so much text                  */
};
struct fm_corpus_doc {
    size_t start, len;
};
struct fm_corpus {
    struct fm_corpus_file *files;
    int n_files;
    uint64_t text_bound; /* sum of bytes: what load allocates */
    /* after load */
    char *text;
    size_t text_cap, text_len;
    struct fm_corpus_doc *docs;
    int n_docs, cap_docs;
    uint64_t text_files; /* files that gave at least one document */
    /* left out: names that start with a dot, binary files, folders met before (links), devices, unreadable entries */
    int hidden, binary, loops, other;
};

/* List files.  A path that is missing, not readable, or a folder without any candidate: FM_ERR_INPUT naming it.
 * *c is filled from nothing; release it in every case. */
enum fm_status fm_corpus_find(struct fm_corpus *c, const char *const *paths, int n_paths,
                              struct fm_error *err) FM_MUST_USE;
/* A number that changes when any byte of any file does, or their order; paths do not count.  Reads the files. */
enum fm_status fm_corpus_identity(const struct fm_corpus *c, uint64_t *identity, struct fm_error *err) FM_MUST_USE;
/* Read and unpack (.zst through libzstd, .tar, .tar.zst).  A path that gave no document, or a damaged archive:
 * FM_ERR_INPUT naming it.  paths as in find. */
enum fm_status fm_corpus_load(struct fm_corpus *c, const char *const *paths, int n_paths,
                              struct fm_error *err) FM_MUST_USE;
void fm_corpus_release(struct fm_corpus *c);

/* Text by our measure: no NUL, and at most one byte in ten that is not valid UTF-8 (a Latin-1 text passes, a JPEG or
 * UTF-16 does not). */
int fm_corpus_is_text(const char *p, size_t n);

/* ---- reading one file, corpus_read.c ---- */

/* Upper bound of the text in a file, without unpacking where the container says it. */
enum fm_status fm_corpus_file_bound(const char *path, uint64_t *bytes, struct fm_error *err) FM_MUST_USE;
/* Unpacked contents of a file into dst[cap]; *len <= cap.  A file that grew since find is cut at cap. */
enum fm_status fm_corpus_file_read(const char *path, char *dst, size_t cap, size_t *len,
                                   struct fm_error *err) FM_MUST_USE;
int fm_corpus_is_tar(const char *path);
/* One member of the tar archive data[n]: *offset moves on; *member, *size: its contents; name[256].
 * *size SIZE_MAX: the end.  FM_ERR_INPUT naming where (path) and the byte. */
enum fm_status fm_corpus_tar_next(const char *where, const char *data, size_t n, size_t *offset, char *name,
                                  const char **member, size_t *size, struct fm_error *err) FM_MUST_USE;

#endif
