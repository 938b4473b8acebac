/* Value types of GGUF metadata, for its reader, its writer and the getters.  Private to this folder. */
#ifndef FM_FILE_GGUF_TYPES_H
#define FM_FILE_GGUF_TYPES_H

#include "file/tensors.h"

enum fm_gguf_type {
    FM_GGUF_U8,
    FM_GGUF_I8,
    FM_GGUF_U16,
    FM_GGUF_I16,
    FM_GGUF_U32,
    FM_GGUF_I32,
    FM_GGUF_F32,
    FM_GGUF_BOOL,
    FM_GGUF_STRING,
    FM_GGUF_ARRAY,
    FM_GGUF_U64,
    FM_GGUF_I64,
    FM_GGUF_F64,
    FM_GGUF_TYPES
};

struct fm_gguf_type_row {
    const char *name;
    enum fm_meta_type meta;
    uint32_t bytes; /* of a value; string: of its length; array: of its type and count */
};
extern const struct fm_gguf_type_row fm_gguf_types[FM_GGUF_TYPES];

/* The value at p, not necessarily aligned, of an integer or bool type (u64: its bits), of a float type. */
int64_t fm_gguf_load_int(uint32_t type, const void *p);
double fm_gguf_load_float(uint32_t type, const void *p);

#endif
