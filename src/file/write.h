/* Writers: a container is written to PATH.tmp-<pid>, synced, and renamed over PATH; on any failure PATH is as it was
 * and the temporary file is gone.  A full disk or a failed write is FM_ERR_DISK.  One writer of a path at a time.
 * A program that may run under a file size limit ignores SIGXFSZ, or the signal ends it first.
 * Use: open → meta … → declare every tensor → begin → data in the declared order → commit (or abort). */
#ifndef FM_FILE_WRITE_H
#define FM_FILE_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "file/tensors.h"

struct fm_writer;

enum fm_status fm_writer_open(const char *path, enum fm_container kind /* FM_GGUF or FM_SAFETENSORS */,
                              struct fm_writer **out, struct fm_error *err) FM_MUST_USE;

/* The same without a file: begin only counts.  path is for messages. */
enum fm_status fm_writer_open_dry(const char *path, enum fm_container kind, struct fm_writer **out,
                                  struct fm_error *err) FM_MUST_USE;

/* Metadata; keys unique; copies are taken.  Failures (memory, a duplicate, a number that does not fit its type) are
 * sticky and reported by begin.  general.alignment is the writer's own business: ignored. */
void fm_writer_meta_int(struct fm_writer *w, const char *key, uint32_t gguf_type, int64_t v);
void fm_writer_meta_float(struct fm_writer *w, const char *key, float v); /* f32 */
void fm_writer_meta_bool(struct fm_writer *w, const char *key, bool v);
void fm_writer_meta_str(struct fm_writer *w, const char *key, const char *v, uint64_t len);
void fm_writer_meta_strs(struct fm_writer *w, const char *key, const struct fm_str *v, uint64_t n);
void fm_writer_meta_i32s(struct fm_writer *w, const char *key, const int32_t *v, uint64_t n);
void fm_writer_meta_f32s(struct fm_writer *w, const char *key, const float *v, uint64_t n);
/* Whatever an open file holds under a key, as it is. */
void fm_writer_meta_copy(struct fm_writer *w, const struct fm_meta *m);
/* safetensors keeps only the strings, under __metadata__. */

/* Shape row-major, slowest first, as in struct fm_tensor.  Sticky: a format that the container cannot hold, a
 * duplicate, rows that are no whole blocks, and in GGUF more than 4 dimensions or a name above 63 bytes (ggml's limits). */
void fm_writer_tensor(struct fm_writer *w, const char *name, enum fm_fmt fmt, int n_dims, const uint64_t *shape);
/* Report what was sticky, reserve the disk for the whole file, write the header.  After a failure: abort. */
enum fm_status fm_writer_begin(struct fm_writer *w, struct fm_error *err) FM_MUST_USE;
/* The bytes of the next tensor (whole), already in its format.  A wrong size or order: FM_ERR_FAILED. */
enum fm_status fm_writer_data(struct fm_writer *w, const void *data, uint64_t n_bytes,
                              struct fm_error *err) FM_MUST_USE;
/* The same in pieces: the next n_bytes of the tensor that is being written; an empty tensor needs a call, too. */
enum fm_status fm_writer_part(struct fm_writer *w, const void *data, uint64_t n_bytes,
                              struct fm_error *err) FM_MUST_USE;
uint64_t fm_writer_bytes(const struct fm_writer *w); /* after begin: of the whole file */
/* Sync and rename; frees w in every case.  FM_ERR_FAILED when tensors are missing. */
enum fm_status fm_writer_commit(struct fm_writer *w, struct fm_error *err) FM_MUST_USE;
void fm_writer_abort(struct fm_writer *w); /* removes the temporary file; NULL is fine */

/* The same careful replacement for any whole file (JSON, text). */
enum fm_status fm_write_file(const char *path, const void *data, size_t n, struct fm_error *err) FM_MUST_USE;

#endif
