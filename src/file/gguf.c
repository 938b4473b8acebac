/* GGUF, versions 2 and 3: metadata, tensor list, data, all in one file.
 *
 *   "GGUF" u32 version  u64 n_tensors  u64 n_keys
 *   n_keys    × { string key, u32 type, value }                 string: u64 length, bytes
 *   n_tensors × { string name, u32 n_dims, u64 dims[] (fastest first), u32 type, u64 offset }
 *   padding to general.alignment, then the data: offsets count from here
 *
 * Nothing is aligned before the data.  Source: spec models.md §9.4; ggml's gguf.cpp.  We differ from ggml in
 * accepting any order of the offsets, and in listing tensors of unknown types instead of refusing the file. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "file/container.h"
#include "file/gguf_types.h"

enum { GGUF_DIMS = 4, MIN_KEY_BYTES = 8 + 4 + 1, MIN_TENSOR_BYTES = 8 + 4 + 4 + 8, DEFAULT_ALIGNMENT = 32 };

const struct fm_gguf_type_row fm_gguf_types[FM_GGUF_TYPES] = {
    [FM_GGUF_U8] = {"u8", FM_META_INT, 1},         [FM_GGUF_I8] = {"i8", FM_META_INT, 1},
    [FM_GGUF_U16] = {"u16", FM_META_INT, 2},       [FM_GGUF_I16] = {"i16", FM_META_INT, 2},
    [FM_GGUF_U32] = {"u32", FM_META_INT, 4},       [FM_GGUF_I32] = {"i32", FM_META_INT, 4},
    [FM_GGUF_F32] = {"f32", FM_META_FLOAT, 4},     [FM_GGUF_BOOL] = {"bool", FM_META_BOOL, 1},
    [FM_GGUF_STRING] = {"str", FM_META_STRING, 8}, [FM_GGUF_ARRAY] = {"arr", FM_META_ARRAY, 12},
    [FM_GGUF_U64] = {"u64", FM_META_INT, 8},       [FM_GGUF_I64] = {"i64", FM_META_INT, 8},
    [FM_GGUF_F64] = {"f64", FM_META_FLOAT, 8},
};

int64_t fm_gguf_load_int(uint32_t type, const void *p)
{
    uint64_t u = 0;
    memcpy(&u, p, fm_gguf_types[type].bytes);
    switch (type) {
    case FM_GGUF_I8: return (int8_t)u;
    case FM_GGUF_I16: return (int16_t)u;
    case FM_GGUF_I32: return (int32_t)u;
    case FM_GGUF_BOOL: return u != 0;
    default: return (int64_t)u;
    }
}

double fm_gguf_load_float(uint32_t type, const void *p)
{
    float f;
    double d;
    if (type == FM_GGUF_F64) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    memcpy(&f, p, sizeof f);
    return (double)f;
}

/* ---- bounded reading ---- */

struct cursor {
    struct fm_file *f;
    const struct fm_part *part;
    size_t at; /* <= part->map.size */
    struct fm_error *err;
};

/* A constant, so that the compiler sees that it is a failure. */
#define BAD(c, at, ...) (bad_at(c, (uint64_t)(at), __VA_ARGS__), FM_ERR_INPUT)
static void bad_at(const struct cursor *c, uint64_t at, const char *fmt, ...) FM_PRINTF(3, 4);
static void bad_at(const struct cursor *c, uint64_t at, const char *fmt, ...)
{
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    (void)fm_fail(c->err, FM_ERR_INPUT, "open GGUF: %s, byte %llu: %s", c->part->path, (unsigned long long)at, why);
}

static size_t left(const struct cursor *c) { return c->part->map.size - c->at; }

/* n bytes of `what`: *p points at them, the cursor passes them. */
static enum fm_status take(struct cursor *c, uint64_t n, const char *what, const unsigned char **p)
{
    if (n > left(c)) return BAD(c, c->at, "the file ends within %s", what);
    *p = c->part->map.data + c->at;
    c->at += (size_t)n;
    return FM_OK;
}

static enum fm_status take_u32(struct cursor *c, const char *what, uint32_t *v)
{
    const unsigned char *p;
    FM_TRY(take(c, sizeof *v, what, &p));
    memcpy(v, p, sizeof *v);
    return FM_OK;
}

static enum fm_status take_u64(struct cursor *c, const char *what, uint64_t *v)
{
    const unsigned char *p;
    FM_TRY(take(c, sizeof *v, what, &p));
    memcpy(v, p, sizeof *v);
    return FM_OK;
}

static enum fm_status take_str(struct cursor *c, const char *what, struct fm_str *s)
{
    const unsigned char *p;
    FM_TRY(take_u64(c, what, &s->len));
    FM_TRY(take(c, s->len, what, &p));
    s->data = (const char *)p;
    return FM_OK;
}

/* A key or a tensor's name, copied. */
static enum fm_status take_name(struct cursor *c, const char *what, const char **name)
{
    size_t at = c->at;
    struct fm_str s;
    FM_TRY(take_str(c, what, &s));
    if (!s.len) return BAD(c, at, "%s is empty", what);
    if (!fm_name_ok(s.data, s.len)) return BAD(c, at, "%s is not a plain name of at most %d bytes", what, FM_MAX_NAME);
    *name = fm_file_text(c->f, s.data, (size_t)s.len);
    return *name ? FM_OK : fm_fail_memory(c->err, what, s.len);
}

/* ---- metadata ---- */

/* n strings: remember where each begins, so that any of them is found at once. */
static enum fm_status read_strings(struct cursor *c, struct fm_meta *m)
{
    if (m->n > left(c) / 8)
        return BAD(c, c->at, "%s: %llu strings do not fit into the file", m->key, (unsigned long long)m->n);
    const unsigned char **v = fm_file_alloc(c->f, (size_t)m->n * sizeof *v);
    if (!v) return fm_fail_memory(c->err, m->key, m->n * sizeof *v);
    m->array = v;
    for (uint64_t i = 0; i < m->n; i++) {
        struct fm_str s;
        v[i] = c->part->map.data + c->at;
        FM_TRY(take_str(c, m->key, &s));
    }
    return FM_OK;
}

static enum fm_status read_array(struct cursor *c, struct fm_meta *m)
{
    size_t at = c->at;
    FM_TRY(take_u32(c, m->key, &m->gguf_type));
    if (m->gguf_type >= FM_GGUF_TYPES || m->gguf_type == FM_GGUF_ARRAY)
        return BAD(c, at, "%s: an array of type %u is not supported", m->key, m->gguf_type);
    FM_TRY(take_u64(c, m->key, &m->n));
    m->elem = fm_gguf_types[m->gguf_type].meta;
    if (m->elem == FM_META_STRING) return read_strings(c, m);
    uint32_t size = fm_gguf_types[m->gguf_type].bytes;
    if (m->n > left(c) / size)
        return BAD(c, c->at, "%s: %llu values do not fit into the file", m->key, (unsigned long long)m->n);
    const unsigned char *p;
    FM_TRY(take(c, m->n * size, m->key, &p));
    m->array = p;
    return FM_OK;
}

static enum fm_status read_value(struct cursor *c, struct fm_meta *m)
{
    size_t at = c->at;
    const unsigned char *p;
    FM_TRY(take_u32(c, m->key, &m->gguf_type));
    if (m->gguf_type >= FM_GGUF_TYPES) return BAD(c, at, "%s: type %u is unknown", m->key, m->gguf_type);
    m->type = fm_gguf_types[m->gguf_type].meta;
    if (m->type == FM_META_ARRAY) return read_array(c, m);
    if (m->type == FM_META_STRING) return take_str(c, m->key, &m->s);
    FM_TRY(take(c, fm_gguf_types[m->gguf_type].bytes, m->key, &p));
    if (m->type == FM_META_FLOAT)
        m->f = fm_gguf_load_float(m->gguf_type, p);
    else
        m->i = fm_gguf_load_int(m->gguf_type, p);
    if (m->gguf_type == FM_GGUF_U64 && m->i < 0) return BAD(c, at + 4, "%s: the number is above 2^63 - 1", m->key);
    return FM_OK;
}

static enum fm_status read_meta(struct cursor *c, uint64_t n)
{
    FM_TRY(fm_file_room_meta(c->f, n, c->part->path, c->err));
    for (uint64_t i = 0; i < n; i++) {
        struct fm_meta *m = &c->f->meta[c->f->n_meta];
        *m = (struct fm_meta){0};
        FM_TRY(take_name(c, "a key", &m->key));
        FM_TRY(read_value(c, m));
        c->f->n_meta++;
    }
    return FM_OK;
}

/* general.alignment among the keys from `first` on. */
static enum fm_status alignment(const struct cursor *c, int first, uint64_t *out)
{
    *out = DEFAULT_ALIGNMENT;
    for (int i = first; i < c->f->n_meta; i++) {
        const struct fm_meta *m = &c->f->meta[i];
        if (strcmp(m->key, "general.alignment")) continue;
        if (m->type != FM_META_INT || m->i <= 0 || m->i > FM_MAX_ALIGNMENT || (m->i & (m->i - 1)))
            return BAD(c, 0, "general.alignment is not a power of two up to %d", FM_MAX_ALIGNMENT);
        *out = (uint64_t)m->i;
    }
    return FM_OK;
}

/* ---- tensors ---- */

/* Formats that ggml has and we only know by name. */
static const struct {
    uint32_t id;
    const char *name;
} other_types[] = {{9, "Q8_1"}, {15, "Q8_K"}, {34, "TQ1_0"}, {35, "TQ2_0"}, {41, "Q1_0"}, {42, "Q2_0"}};

static const char *type_name(struct fm_file *f, enum fm_fmt fmt, uint32_t id)
{
    if (fmt < FM_FMT_COUNT) return fm_formats[fmt].name;
    for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++)
        if (other_types[i].id == id) return other_types[i].name;
    char text[24];
    int n = snprintf(text, sizeof text, "type %u", id);
    return fm_file_text(f, text, (size_t)n);
}

static enum fm_status read_shape(struct cursor *c, struct fm_tensor *t)
{
    size_t at = c->at;
    uint32_t n;
    FM_TRY(take_u32(c, t->name, &n));
    if (n > GGUF_DIMS) return BAD(c, at, "%s: %u dimensions, at most %d are possible", t->name, n, GGUF_DIMS);
    t->n_dims = (int)n;
    for (int i = t->n_dims - 1; i >= 0; i--) FM_TRY(take_u64(c, t->name, &t->shape[i]));
    return FM_OK;
}

static enum fm_status read_tensor(struct cursor *c, struct fm_tensor *t)
{
    uint32_t id;
    size_t at = c->at;
    FM_TRY(take_name(c, "a tensor's name", &t->name));
    FM_TRY(read_shape(c, t));
    FM_TRY(take_u32(c, t->name, &id));
    FM_TRY(take_u64(c, t->name, &t->offset));
    t->fmt = fm_format_by_ggml(id);
    t->path = c->part->path;
    if (!(t->type_name = type_name(c->f, t->fmt, id))) return fm_fail_memory(c->err, t->name, 0);
    const char *why = fm_tensor_count(t);
    if (why) return BAD(c, at, "%s: %s", t->name, why);
    if (t->fmt < FM_FMT_COUNT) t->n_bytes = fm_format_bytes(t->fmt, t->n_elements);
    return FM_OK;
}

/* Offsets become absolute; every tensor must lie within the file. */
static enum fm_status place_tensors(struct cursor *c, int first, uint64_t align)
{
    uint64_t size = c->part->map.size, start = (c->at + align - 1) & ~(align - 1);
    for (int i = first; i < c->f->n_tensors; i++) {
        struct fm_tensor *t = &c->f->tensors[i];
        if (t->offset % align)
            return BAD(c, c->at, "%s: its offset is no multiple of the alignment %llu", t->name,
                       (unsigned long long)align);
        if (start > size || t->offset > size - start || t->n_bytes > size - start - t->offset)
            return BAD(c, start, "%s: its %llu bytes at offset %llu are beyond the end of the file", t->name,
                       (unsigned long long)t->n_bytes, (unsigned long long)t->offset);
        t->offset += start;
        t->data = t->fmt < FM_FMT_COUNT ? c->part->map.data + t->offset : NULL;
    }
    return FM_OK;
}

static enum fm_status read_tensors(struct cursor *c, uint64_t n, uint64_t align)
{
    int first = c->f->n_tensors;
    FM_TRY(fm_file_room_tensors(c->f, n, c->part->path, c->err));
    for (uint64_t i = 0; i < n; i++) {
        struct fm_tensor *t = &c->f->tensors[c->f->n_tensors];
        *t = (struct fm_tensor){0};
        FM_TRY(read_tensor(c, t));
        c->f->n_tensors++;
    }
    return place_tensors(c, first, align);
}

/* ---- the file ---- */

bool fm_gguf_is(const struct fm_map *m) { return m->size >= 4 && !memcmp(m->data, "GGUF", 4); }

static enum fm_status check_version(const struct cursor *c, uint32_t version)
{
    if (version == 2 || version == 3) return FM_OK;
    if (!(version & 0xFFFF)) return BAD(c, 4, "a big-endian file");
    return BAD(c, 4, "version %u, but 2 and 3 are supported", version);
}

/* A count that cannot be true is refused before anything is allocated for it. */
static enum fm_status take_count(struct cursor *c, const char *what, size_t min_bytes, uint64_t *n)
{
    size_t at = c->at;
    FM_TRY(take_u64(c, what, n));
    if (*n > left(c) / min_bytes) return BAD(c, at, "%llu %s do not fit into the file", (unsigned long long)*n, what);
    return FM_OK;
}

enum fm_status fm_gguf_read(struct fm_file *f, const struct fm_part *p, struct fm_error *err)
{
    struct cursor c = {.f = f, .part = p, .at = 4, .err = err};
    uint32_t version;
    uint64_t n_tensors, n_keys, align;
    int first_key = f->n_meta;
    FM_TRY(take_u32(&c, "the version", &version));
    FM_TRY(check_version(&c, version));
    FM_TRY(take_count(&c, "tensors", MIN_TENSOR_BYTES, &n_tensors));
    FM_TRY(take_count(&c, "keys", MIN_KEY_BYTES, &n_keys));
    FM_TRY(read_meta(&c, n_keys));
    FM_TRY(alignment(&c, first_key, &align));
    return read_tensors(&c, n_tensors, align);
}
