/* The weights of a folder in Hugging Face layout: model.safetensors, or, above a size limit, files
 * model-00001-of-0000N.safetensors and model.safetensors.index.json.
 * Use: new → declare every tensor → begin → data in the declared order → commit; free in every case. */
#ifndef FM_FILE_SHARDS_H
#define FM_FILE_SHARDS_H

#include "file/write.h"

struct fm_shards;

/* limit: bytes of tensors per file; a tensor above it has a file of its own. */
enum fm_status fm_shards_new(const char *folder, uint64_t limit, struct fm_shards **out,
                             struct fm_error *err) FM_MUST_USE;
void fm_shards_free(struct fm_shards *s); /* removes a file that is half written; NULL is fine */

/* name is not copied; failures stick, as in fm_writer_tensor. */
void fm_shards_tensor(struct fm_shards *s, const char *name, enum fm_fmt fmt, int n_dims, const uint64_t *shape);
/* dry: nothing is written, *bytes only says how much there would be.  Else the disk must have room for all of it. */
enum fm_status fm_shards_begin(struct fm_shards *s, bool dry, uint64_t *bytes, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_shards_part(struct fm_shards *s, const void *data, uint64_t n_bytes,
                              struct fm_error *err) FM_MUST_USE; /* as fm_writer_part */
/* Complete the last file, write the index. */
enum fm_status fm_shards_commit(struct fm_shards *s, struct fm_error *err) FM_MUST_USE;

#endif
