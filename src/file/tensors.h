/* Containers to named tensors, zero-copy: GGUF v2/v3, safetensors, and folders in Hugging Face layout.
 *
 * A struct fm_file owns the mappings; every pointer it hands out lives until fm_file_close.
 * Every length is checked before use; a bad file gives FM_ERR_INPUT naming file and byte offset. */
#ifndef FM_FILE_TENSORS_H
#define FM_FILE_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "quant/format.h"

enum { FM_MAX_DIMS = 8 };

struct fm_tensor {
    const char *name;
    enum fm_fmt fmt;             /* FM_FMT_COUNT: a type this build does not know (listed, never used)  */
    const char *type_name;       /* as the container calls it: "Q4_1", "BF16", "type 123"               */
    int n_dims;                  /* 0 … FM_MAX_DIMS                                                     */
    uint64_t shape[FM_MAX_DIMS]; /* row-major, slowest first: a matrix is [rows, cols] in both containers;
                                    whole blocks along the last                                   */
    uint64_t n_elements;
    uint64_t n_bytes;
    const void *data; /* n_bytes, in the mapping; alignment is NOT guaranteed; of an unknown
                              type in a GGUF: NULL, and n_bytes is 0                              */
    uint64_t offset;  /* of data in its file                                                 */
    const char *path; /* the file that holds it                                              */
};

enum fm_container { FM_GGUF, FM_SAFETENSORS, FM_HF_FOLDER };
struct fm_file;

/* path: a .gguf (of a split one, the first part), a .safetensors, or a folder (weights: model.safetensors, or the
 * files that model.safetensors.index.json names, nothing else; a folder without weights is an error unless
 * it holds exactly one .gguf file).  The kind is told by content, not by name. */
enum fm_status fm_file_open(const char *path, struct fm_file **out, struct fm_error *err) FM_MUST_USE;
/* The same for the n bytes of one GGUF or safetensors file in memory; data must live until fm_file_close.
 * name stands for the path in messages. */
enum fm_status fm_file_open_memory(const void *data, size_t n, const char *name, struct fm_file **out,
                                   struct fm_error *err) FM_MUST_USE;
void fm_file_close(struct fm_file *f); /* NULL is fine */

enum fm_container fm_file_container(const struct fm_file *f);
const char *fm_file_path(const struct fm_file *f); /* as given to fm_file_open */
uint64_t fm_file_bytes(const struct fm_file *f);   /* sum over all mapped files */
int fm_file_n_tensors(const struct fm_file *f);
const struct fm_tensor *fm_file_tensor(const struct fm_file *f, int i); /* file order; safetensors: order of the data */
const struct fm_tensor *fm_file_find(const struct fm_file *f, const char *name); /* NULL when absent; O(log n) */

/* Hints about n bytes at p: they will be read soon, or will not again for a long time.  Nothing happens, and nothing is
 * lost, where p is not in a mapping of f. */
enum fm_file_use { FM_FILE_SOON, FM_FILE_DONE };
void fm_file_advise(const struct fm_file *f, const void *p, size_t n, enum fm_file_use use);

/* GGUF metadata (and, as strings, __metadata__ of safetensors).  Of several files the first one's counts. */
enum fm_meta_type { FM_META_INT, FM_META_FLOAT, FM_META_BOOL, FM_META_STRING, FM_META_ARRAY };
struct fm_str {
    const char *data; /* not NUL-terminated, may hold NUL */
    uint64_t len;
};
struct fm_meta {
    const char *key; /* NUL-terminated copy                                     */
    enum fm_meta_type type;
    enum fm_meta_type elem; /* of an array                                      */
    uint32_t gguf_type;     /* the container's own number of the value or element */
    int64_t i;              /* INT and BOOL (u64 above INT64_MAX are refused)    */
    double f;               /* FLOAT                                            */
    struct fm_str s;        /* STRING                                           */
    uint64_t n;             /* ARRAY length                                     */
    const void *array;      /* internal: use the getters below                  */
};
int fm_file_n_meta(const struct fm_file *f);
const struct fm_meta *fm_file_meta_at(const struct fm_file *f, int i);
const struct fm_meta *fm_file_meta(const struct fm_file *f, const char *key); /* NULL when absent */
/* Element i < m->n of an array of the right kind; strings in O(1) (an index is built on open). */
int64_t fm_meta_array_int(const struct fm_meta *m, uint64_t i);  /* also bools; u64 above INT64_MAX: the same bits */
double fm_meta_array_float(const struct fm_meta *m, uint64_t i); /* integers and bools are converted */
struct fm_str fm_meta_array_str(const struct fm_meta *m, uint64_t i);
/* Typed getters with a default for a missing key or another type (ints are accepted where a float is asked). */
int64_t fm_meta_int(const struct fm_file *f, const char *key, int64_t dflt);
double fm_meta_float(const struct fm_file *f, const char *key, double dflt);
bool fm_meta_bool(const struct fm_file *f, const char *key, bool dflt);
bool fm_meta_str(const struct fm_file *f, const char *key, struct fm_str *out);

/* One of the two shapes of a whole read: dst[n_elements] f32, in order.  FM_ERR_INPUT for a format without decoder. */
enum fm_status fm_tensor_decode(const struct fm_tensor *t, float *dst, struct fm_error *err) FM_MUST_USE;

#endif
