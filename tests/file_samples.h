/* Small containers with everything in them, for tests/test_file.c and the fuzz seeds. */
#ifndef FM_TESTS_FILE_SAMPLES_H
#define FM_TESTS_FILE_SAMPLES_H

#include "file/gguf_types.h"
#include "file/write.h"

enum { SAMPLE_FLOATS = 96, SAMPLE_TENSORS = 7 };

/* The tensors of a sample; Q8_0 becomes F64 where the container has no blocks. */
static const struct {
    const char *name;
    enum fm_fmt fmt;
    int n_dims;
    uint64_t shape[3];
} sample_tensors[SAMPLE_TENSORS] = {
    {"blk.0.weight", FM_F32, 2, {3, 5}}, {"half", FM_F16, 1, {7}},         {"one", FM_F32, 0, {0}},
    {"none", FM_F32, 2, {0, 4}},         {"brain", FM_BF16, 3, {2, 3, 4}}, {"q.\xC3\xA9", FM_Q8_0, 2, {3, 32}},
    {"i \"quoted\"", FM_I32, 1, {3}},
};

static inline enum fm_fmt sample_format(enum fm_container kind, int i)
{
    return kind == FM_SAFETENSORS && sample_tensors[i].fmt == FM_Q8_0 ? FM_F64 : sample_tensors[i].fmt;
}

static inline uint64_t sample_bytes(enum fm_container kind, int i)
{
    uint64_t n = 1;
    for (int d = 0; d < sample_tensors[i].n_dims; d++) n *= sample_tensors[i].shape[d];
    return fm_format_bytes(sample_format(kind, i), n);
}

/* Byte k of tensor i. */
static inline unsigned char sample_byte(int i, uint64_t k) { return (unsigned char)(k * 7 + (uint64_t)i * 31 + 5); }

static inline void sample_meta(struct fm_writer *w)
{
    static const struct fm_str strs[] = {{"hello", 5}, {"", 0}, {"nul\0inside", 10}};
    static const int32_t ints[] = {-1, 0, INT32_MAX};
    static const float floats[] = {1, -0.5f};
    fm_writer_meta_str(w, "general.architecture", "llama", 5);
    fm_writer_meta_int(w, "u8", FM_GGUF_U8, 255);
    fm_writer_meta_int(w, "i8", FM_GGUF_I8, -128);
    fm_writer_meta_int(w, "u16", FM_GGUF_U16, 65535);
    fm_writer_meta_int(w, "i16", FM_GGUF_I16, -32768);
    fm_writer_meta_int(w, "u32", FM_GGUF_U32, UINT32_MAX);
    fm_writer_meta_int(w, "i32", FM_GGUF_I32, INT32_MIN);
    fm_writer_meta_int(w, "u64", FM_GGUF_U64, INT64_MAX);
    fm_writer_meta_int(w, "i64", FM_GGUF_I64, INT64_MIN);
    fm_writer_meta_float(w, "f32", 1.5f);
    fm_writer_meta_bool(w, "yes", true);
    fm_writer_meta_bool(w, "no", false);
    fm_writer_meta_str(w, "text", "a\"\\\n\xC3\xA9", 6);
    fm_writer_meta_strs(w, "strs", strs, 3);
    fm_writer_meta_i32s(w, "ints", ints, 3);
    fm_writer_meta_f32s(w, "floats", floats, 2);
}

/* Write the sample to path; on failure nothing is left open. */
static inline enum fm_status sample_write(const char *path, enum fm_container kind, struct fm_error *err)
{
    struct fm_writer *w;
    unsigned char data[SAMPLE_FLOATS * 8];
    FM_TRY(fm_writer_open(path, kind, &w, err));
    sample_meta(w);
    for (int i = 0; i < SAMPLE_TENSORS; i++)
        fm_writer_tensor(w, sample_tensors[i].name, sample_format(kind, i), sample_tensors[i].n_dims,
                         sample_tensors[i].shape);
    enum fm_status st = fm_writer_begin(w, err);
    for (int i = 0; !st && i < SAMPLE_TENSORS; i++) {
        uint64_t n = sample_bytes(kind, i);
        for (uint64_t k = 0; k < n; k++) data[k] = sample_byte(i, k);
        st = fm_writer_data(w, data, n, err);
    }
    if (!st) return fm_writer_commit(w, err);
    fm_writer_abort(w);
    return st;
}

/* Read all that an open file hands out: every byte of every tensor, all metadata.  A number, so that nothing is
 * optimised away. */
static inline uint64_t sample_touch(const struct fm_file *f)
{
    uint64_t sum = 0;
    for (int i = 0; i < fm_file_n_tensors(f); i++) {
        const struct fm_tensor *t = fm_file_tensor(f, i);
        const unsigned char *p = t->data;
        for (uint64_t k = 0; k < t->n_bytes; k++) sum += p[k];
        sum += t->n_elements + (unsigned char)t->name[0] + (unsigned char)t->type_name[0];
        sum += fm_file_find(f, t->name) == t;
        float x[256];
        struct fm_error err;
        if (t->n_elements <= 256 && !fm_tensor_decode(t, x, &err)) sum += t->n_elements && x[0] > 0;
    }
    for (int i = 0; i < fm_file_n_meta(f); i++) {
        const struct fm_meta *m = fm_file_meta_at(f, i);
        sum += fm_file_meta(f, m->key) == m;
        for (uint64_t k = 0; k < m->s.len; k++) sum += (unsigned char)m->s.data[k];
        for (uint64_t k = 0; m->type == FM_META_ARRAY && k < m->n; k++) {
            if (m->elem != FM_META_STRING) {
                sum += fm_meta_array_float(m, k) > 0;
                continue;
            }
            struct fm_str s = fm_meta_array_str(m, k);
            for (uint64_t j = 0; j < s.len; j++) sum += (unsigned char)s.data[j];
        }
    }
    return sum;
}

#endif
