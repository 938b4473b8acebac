/* What the readers share: the open file, its memory, its limits.  Private to this folder. */
#ifndef FM_FILE_CONTAINER_H
#define FM_FILE_CONTAINER_H

#include <stddef.h>

#include "base/map.h"
#include "file/tensors.h"

/* Limits on what a file may ask for; real files stay far below. */
enum {
    FM_MAX_NAME = 1024,         /* bytes of a key, of a tensor's name, of a dtype  */
    FM_MAX_TENSORS = 1 << 20,   /* of a model; DeepSeek-V3 has 92 thousand         */
    FM_MAX_KEYS = 1 << 16,      /* metadata                                        */
    FM_MAX_PARTS = 4096,        /* files of a model; DeepSeek-V3 has 163           */
    FM_MAX_HEADER = 100000000,  /* bytes of a safetensors header: its own limit    */
    FM_MAX_INDEX = 100000000,   /* bytes of a model.safetensors.index.json         */
    FM_MAX_ALIGNMENT = 1 << 20, /* of GGUF                                         */
};
#define FM_MAX_ELEMENTS ((uint64_t)1 << 56) /* of a tensor: its bytes then fit 63 bits */

struct fm_part {
    const char *path;
    struct fm_map map;
    bool borrowed; /* the caller's memory, not ours to unmap */
};

struct fm_file {
    enum fm_container kind;
    const char *path;
    struct fm_part *parts;
    struct fm_tensor *tensors;
    struct fm_meta *meta;
    int n_parts, n_tensors, n_meta;
    int cap_parts, cap_tensors, cap_meta;
    /* Pointers to the first member, the name, of each tensor and key, sorted: unlike a hash table no choice of
     * names makes it slow, and duplicates lie side by side. */
    const char *const **by_name;
    const char *const **by_key;
    struct fm_block *blocks; /* memory that lives as long as the file */
};

/* n bytes, 16-byte aligned, freed by fm_file_close.  NULL when memory is short. */
void *fm_file_alloc(struct fm_file *f, size_t n);
/* A NUL-terminated copy of s[n]. */
const char *fm_file_text(struct fm_file *f, const char *s, size_t n);
/* folder/name */
const char *fm_file_join(struct fm_file *f, const char *folder, const char *name);

/* Room for n more zeroed entries behind n_tensors, n_meta (which the caller raises); the array may move.
 * FM_ERR_INPUT beyond FM_MAX_TENSORS, FM_MAX_KEYS. */
enum fm_status fm_file_room_tensors(struct fm_file *f, uint64_t n, const char *path, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_file_room_meta(struct fm_file *f, uint64_t n, const char *path, struct fm_error *err) FM_MUST_USE;

/* Map path, tell its kind and read it; f->kind becomes that kind. */
enum fm_status fm_file_add(struct fm_file *f, const char *path, struct fm_error *err) FM_MUST_USE;
/* Build by_name and by_key; duplicates give FM_ERR_INPUT. */
enum fm_status fm_file_sort(struct fm_file *f, struct fm_error *err) FM_MUST_USE;

/* A name from outside is fit to be kept and shown: UTF-8, no control characters, not too long. */
bool fm_name_ok(const char *s, uint64_t n);
/* Fill t->n_elements from the shape: NULL, or why it is refused. */
const char *fm_tensor_count(struct fm_tensor *t);

/* One reader per container: adds the tensors and metadata of a part. */
bool fm_gguf_is(const struct fm_map *m);
enum fm_status fm_gguf_read(struct fm_file *f, const struct fm_part *p, struct fm_error *err) FM_MUST_USE;
/* After the first part of a split GGUF: the other parts, found by name beside it. */
enum fm_status fm_gguf_read_split(struct fm_file *f, struct fm_error *err) FM_MUST_USE;
bool fm_safetensors_is(const struct fm_map *m);
enum fm_status fm_safetensors_read(struct fm_file *f, const struct fm_part *p, struct fm_error *err) FM_MUST_USE;
/* The weights of the folder f->path in Hugging Face layout. */
enum fm_status fm_folder_read(struct fm_file *f, struct fm_error *err) FM_MUST_USE;

#endif
