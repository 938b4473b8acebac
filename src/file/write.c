/* See write.h.  The layouts are drawn in gguf.c and safetensors.c. */
#include "file/write.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "file/container.h"
#include "file/gguf_types.h"
#include "file/replace.h"

enum { ALIGN = 32, GGUF_VERSION = 3, GGUF_DIMS = 4, GGUF_NAME = 63, ST_ALIGN = 8 };

struct fm_writer {
    enum fm_container kind;
    struct fm_replace file;
    struct fm_error failure; /* the first; code FM_OK: none */
    struct fm_buf meta;      /* GGUF: the encoded keys; safetensors: members of a JSON object */
    char **keys;
    struct fm_tensor *tensors; /* offset: relative to the data; names are owned */
    size_t n_keys, cap_keys, n_tensors, cap_tensors;
    uint64_t data_bytes; /* of all tensors, with padding */
    size_t next;         /* tensor whose data come next */
    uint64_t part;       /* bytes of it that are written */
    uint64_t file_bytes;
    bool begun, dry;
};

static void fail(struct fm_writer *w, enum fm_status code, const char *fmt, ...) FM_PRINTF(3, 4);
static void fail(struct fm_writer *w, enum fm_status code, const char *fmt, ...)
{
    char why[256];
    va_list ap;
    if (w->failure.code) return;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    (void)fm_fail(&w->failure, code, "%s: %s: %s", w->file.what, w->file.path, why);
}

static enum fm_status open_writer(const char *path, enum fm_container kind, bool dry, struct fm_writer **out,
                                  struct fm_error *err)
{
    const char *what = kind == FM_GGUF ? "write GGUF" : "write safetensors";
    struct fm_writer *w = fm_calloc(1, sizeof *w);
    if (!w) return fm_fail_memory(err, path, sizeof *w);
    w->kind = kind;
    w->dry = dry;
    enum fm_status st = FM_OK;
    if (!dry)
        st = fm_replace_open(&w->file, what, path, err);
    else if ((w->file = (struct fm_replace){.what = what, .path = fm_strdup(path), .fd = -1}).path == NULL)
        st = fm_fail_memory(err, path, strlen(path));
    if (st)
        fm_free(w);
    else
        *out = w;
    return st;
}

enum fm_status fm_writer_open(const char *path, enum fm_container kind, struct fm_writer **out, struct fm_error *err)
{
    return open_writer(path, kind, false, out, err);
}

enum fm_status fm_writer_open_dry(const char *path, enum fm_container kind, struct fm_writer **out,
                                  struct fm_error *err)
{
    return open_writer(path, kind, true, out, err);
}

static void release(struct fm_writer *w)
{
    for (size_t i = 0; i < w->n_keys; i++) fm_free(w->keys[i]);
    for (size_t i = 0; i < w->n_tensors; i++) fm_free((void *)(size_t)w->tensors[i].name);
    fm_free(w->keys);
    fm_free(w->tensors);
    fm_buf_release(&w->meta);
    fm_free(w);
}

void fm_writer_abort(struct fm_writer *w)
{
    if (!w) return;
    fm_replace_abort(&w->file);
    release(w);
}

/* Room for one more item; array is the address of a pointer. */
static bool grow(struct fm_writer *w, void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) return true;
    size_t more = *cap ? *cap * 2 : 32;
    void *p;
    memcpy(&p, array, sizeof p);
    if (!(p = fm_realloc(p, more * size))) {
        fail(w, FM_ERR_MEMORY, "not enough memory for its directory");
        return false;
    }
    memcpy(array, &p, sizeof p);
    *cap = more;
    return true;
}

/* ---- encoding ---- */

static void put_u32(struct fm_buf *b, uint32_t v) { fm_buf_add(b, &v, sizeof v); }

static void put_u64(struct fm_buf *b, uint64_t v) { fm_buf_add(b, &v, sizeof v); }

static void put_str(struct fm_buf *b, const char *s, uint64_t n)
{
    put_u64(b, n);
    fm_buf_add(b, s, (size_t)n);
}

static void put_json(struct fm_buf *b, const char *s, uint64_t n)
{
    fm_buf_char(b, '"');
    for (uint64_t i = 0; i < n; i++) {
        if (s[i] == '"' || s[i] == '\\')
            fm_buf_printf(b, "\\%c", s[i]);
        else if ((unsigned char)s[i] < 0x20)
            fm_buf_printf(b, "\\u%04x", (unsigned)s[i]);
        else
            fm_buf_char(b, s[i]);
    }
    fm_buf_char(b, '"');
}

/* ---- metadata ---- */

/* Note the key; false when there is nothing to write for it. */
static bool add_key(struct fm_writer *w, const char *key)
{
    if (w->failure.code || !strcmp(key, "general.alignment")) return false;
    if (!*key || !fm_name_ok(key, strlen(key))) {
        fail(w, FM_ERR_USAGE, "a metadata key is not a plain name of at most %d bytes", FM_MAX_NAME);
        return false;
    }
    if (!grow(w, &w->keys, w->n_keys, &w->cap_keys, sizeof *w->keys)) return false;
    if (!(w->keys[w->n_keys] = fm_strdup(key))) {
        fail(w, FM_ERR_MEMORY, "not enough memory for key %s", key);
        return false;
    }
    w->n_keys++;
    return true;
}

static bool add_gguf_key(struct fm_writer *w, const char *key, uint32_t type)
{
    if (w->kind != FM_GGUF || !add_key(w, key)) return false;
    put_str(&w->meta, key, strlen(key));
    put_u32(&w->meta, type);
    return true;
}

static bool add_gguf_array(struct fm_writer *w, const char *key, uint32_t elem, uint64_t n)
{
    if (!add_gguf_key(w, key, FM_GGUF_ARRAY)) return false;
    put_u32(&w->meta, elem);
    put_u64(&w->meta, n);
    return true;
}

void fm_writer_meta_int(struct fm_writer *w, const char *key, uint32_t gguf_type, int64_t v)
{
    if (gguf_type >= FM_GGUF_TYPES || fm_gguf_types[gguf_type].meta != FM_META_INT ||
        fm_gguf_load_int(gguf_type, &v) != v || (gguf_type == FM_GGUF_U64 && v < 0)) {
        fail(w, FM_ERR_USAGE, "%s: %lld does not fit type %u", key, (long long)v, gguf_type);
        return;
    }
    if (add_gguf_key(w, key, gguf_type)) fm_buf_add(&w->meta, &v, fm_gguf_types[gguf_type].bytes);
}

void fm_writer_meta_float(struct fm_writer *w, const char *key, float v)
{
    if (add_gguf_key(w, key, FM_GGUF_F32)) fm_buf_add(&w->meta, &v, sizeof v);
}

void fm_writer_meta_bool(struct fm_writer *w, const char *key, bool v)
{
    if (add_gguf_key(w, key, FM_GGUF_BOOL)) fm_buf_char(&w->meta, v);
}

void fm_writer_meta_str(struct fm_writer *w, const char *key, const char *v, uint64_t len)
{
    if (w->kind == FM_GGUF) {
        if (add_gguf_key(w, key, FM_GGUF_STRING)) put_str(&w->meta, v, len);
        return;
    }
    if (memchr(v, 0, (size_t)len) || !fm_utf8_valid(v, (size_t)len)) {
        fail(w, FM_ERR_USAGE, "%s: its text is not UTF-8 without NUL", key);
        return;
    }
    if (!add_key(w, key)) return;
    if (w->meta.len) fm_buf_char(&w->meta, ',');
    put_json(&w->meta, key, strlen(key));
    fm_buf_char(&w->meta, ':');
    put_json(&w->meta, v, len);
}

void fm_writer_meta_strs(struct fm_writer *w, const char *key, const struct fm_str *v, uint64_t n)
{
    if (!add_gguf_array(w, key, FM_GGUF_STRING, n)) return;
    for (uint64_t i = 0; i < n; i++) put_str(&w->meta, v[i].data, v[i].len);
}

void fm_writer_meta_i32s(struct fm_writer *w, const char *key, const int32_t *v, uint64_t n)
{
    if (add_gguf_array(w, key, FM_GGUF_I32, n)) fm_buf_add(&w->meta, v, (size_t)n * sizeof *v);
}

void fm_writer_meta_f32s(struct fm_writer *w, const char *key, const float *v, uint64_t n)
{
    if (add_gguf_array(w, key, FM_GGUF_F32, n)) fm_buf_add(&w->meta, v, (size_t)n * sizeof *v);
}

static void copy_array(struct fm_writer *w, const struct fm_meta *m)
{
    if (!add_gguf_array(w, m->key, m->gguf_type, m->n)) return;
    if (m->elem != FM_META_STRING) {
        fm_buf_add(&w->meta, m->array, (size_t)m->n * fm_gguf_types[m->gguf_type].bytes);
        return;
    }
    for (uint64_t i = 0; i < m->n; i++) {
        struct fm_str s = fm_meta_array_str(m, i);
        put_str(&w->meta, s.data, s.len);
    }
}

void fm_writer_meta_copy(struct fm_writer *w, const struct fm_meta *m)
{
    switch (m->type) {
    case FM_META_INT: fm_writer_meta_int(w, m->key, m->gguf_type, m->i); break;
    case FM_META_BOOL: fm_writer_meta_bool(w, m->key, m->i != 0); break;
    case FM_META_STRING: fm_writer_meta_str(w, m->key, m->s.data, m->s.len); break;
    case FM_META_ARRAY: copy_array(w, m); break;
    case FM_META_FLOAT:
        if (m->gguf_type == FM_GGUF_F32)
            fm_writer_meta_float(w, m->key, (float)m->f);
        else if (add_gguf_key(w, m->key, FM_GGUF_F64))
            fm_buf_add(&w->meta, &m->f, sizeof m->f);
        break;
    }
}

/* ---- tensors ---- */

static const char *refuse_tensor(const struct fm_writer *w, struct fm_tensor *t, const char *name)
{
    if (!*name || !fm_name_ok(name, strlen(name))) return "is not a plain name";
    if (w->kind == FM_SAFETENSORS && !strcmp(name, "__metadata__"))
        return "is a name that safetensors keeps for itself";
    if (t->fmt >= FM_FMT_COUNT) return "has no known format";
    if (t->n_dims < 0 || t->n_dims > (w->kind == FM_GGUF ? GGUF_DIMS : FM_MAX_DIMS)) return "has too many dimensions";
    if (w->kind == FM_GGUF && strlen(name) > GGUF_NAME) return "is a longer name than GGUF allows (63 bytes)";
    if (w->kind == FM_GGUF ? fm_formats[t->fmt].ggml_id < 0 : !fm_formats[t->fmt].st_dtype)
        return "is of a format that this container cannot hold";
    return fm_tensor_count(t);
}

/* Place t behind the others; false when the sum overflows. */
static bool place(struct fm_writer *w, struct fm_tensor *t)
{
    t->n_bytes = fm_format_bytes(t->fmt, t->n_elements);
    t->offset = w->data_bytes;
    uint64_t end = t->offset + t->n_bytes; /* both below 2^62 */
    if (w->kind == FM_GGUF) end = (end + ALIGN - 1) / ALIGN * ALIGN;
    w->data_bytes = end;
    return end < (uint64_t)1 << 62;
}

void fm_writer_tensor(struct fm_writer *w, const char *name, enum fm_fmt fmt, int n_dims, const uint64_t *shape)
{
    struct fm_tensor t = {.fmt = fmt, .n_dims = n_dims};
    if (w->failure.code) return;
    if (n_dims > 0 && n_dims <= FM_MAX_DIMS) memcpy(t.shape, shape, (size_t)n_dims * sizeof *shape);
    const char *why = refuse_tensor(w, &t, name);
    if (!why && !place(w, &t)) why = "does not fit: the file would be too large";
    if (why) {
        fail(w, FM_ERR_USAGE, "tensor %s %s", name, why);
        return;
    }
    if (!grow(w, &w->tensors, w->n_tensors, &w->cap_tensors, sizeof *w->tensors)) return;
    if (!(t.name = fm_strdup(name)))
        fail(w, FM_ERR_MEMORY, "not enough memory for tensor %s", name);
    else
        w->tensors[w->n_tensors++] = t;
}

/* ---- the header ---- */

static void check_unique(struct fm_writer *w, const char **names, size_t n, const char *what)
{
    if (n) qsort(names, n, sizeof *names, fm_compare_strings);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(names[i - 1], names[i])) fail(w, FM_ERR_USAGE, "%s %s is given twice", what, names[i]);
}

static void check_names(struct fm_writer *w)
{
    size_t n = w->n_tensors > w->n_keys ? w->n_tensors : w->n_keys;
    const char **names = fm_malloc(n * sizeof *names);
    if (!names) {
        fail(w, FM_ERR_MEMORY, "not enough memory for its directory");
        return;
    }
    for (size_t i = 0; i < w->n_keys; i++) names[i] = w->keys[i];
    check_unique(w, names, w->n_keys, "metadata key");
    for (size_t i = 0; i < w->n_tensors; i++) names[i] = w->tensors[i].name;
    check_unique(w, names, w->n_tensors, "tensor");
    fm_free(names);
}

static void pad(struct fm_buf *b, char with, size_t align)
{
    while (b->len % align && !b->failed) fm_buf_char(b, with);
}

static void gguf_header(const struct fm_writer *w, struct fm_buf *b)
{
    fm_buf_str(b, "GGUF");
    put_u32(b, GGUF_VERSION);
    put_u64(b, w->n_tensors);
    put_u64(b, w->n_keys);
    fm_buf_add(b, w->meta.data, w->meta.len);
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct fm_tensor *t = &w->tensors[i];
        put_str(b, t->name, strlen(t->name));
        put_u32(b, (uint32_t)t->n_dims);
        for (int d = t->n_dims - 1; d >= 0; d--) put_u64(b, t->shape[d]);
        put_u32(b, (uint32_t)fm_formats[t->fmt].ggml_id);
        put_u64(b, t->offset);
    }
    pad(b, 0, ALIGN);
}

static void safetensors_entry(const struct fm_tensor *t, struct fm_buf *b)
{
    put_json(b, t->name, strlen(t->name));
    fm_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", fm_formats[t->fmt].st_dtype);
    for (int d = 0; d < t->n_dims; d++) fm_buf_printf(b, "%s%llu", d ? "," : "", (unsigned long long)t->shape[d]);
    fm_buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)t->offset,
                  (unsigned long long)(t->offset + t->n_bytes));
}

/* The length in front has eight bytes, so padding the whole to eight pads the JSON to eight. */
static void safetensors_header(const struct fm_writer *w, struct fm_buf *b)
{
    put_u64(b, 0);
    fm_buf_char(b, '{');
    if (w->meta.len) {
        fm_buf_str(b, "\"__metadata__\":{");
        fm_buf_add(b, w->meta.data, w->meta.len);
        fm_buf_char(b, '}');
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        if (i || w->meta.len) fm_buf_char(b, ',');
        safetensors_entry(&w->tensors[i], b);
    }
    fm_buf_char(b, '}');
    pad(b, ' ', ST_ALIGN);
    if (b->failed) return;
    uint64_t n = b->len - sizeof n;
    memcpy(b->data, &n, sizeof n);
}

enum fm_status fm_writer_begin(struct fm_writer *w, struct fm_error *err)
{
    struct fm_buf header = {0};
    check_names(w);
    if (w->kind == FM_GGUF)
        gguf_header(w, &header);
    else
        safetensors_header(w, &header);
    if (w->meta.failed || header.failed) fail(w, FM_ERR_MEMORY, "not enough memory for its header");
    if (w->kind == FM_SAFETENSORS && header.len > FM_MAX_HEADER)
        fail(w, FM_ERR_USAGE, "its header would be above the %d bytes that readers accept", FM_MAX_HEADER);
    enum fm_status st = w->failure.code;
    if (st && err) *err = w->failure;
    w->file_bytes = header.len + w->data_bytes;
    if (!st && !w->dry) st = fm_replace_reserve(&w->file, w->file_bytes, err);
    if (!st && !w->dry) st = fm_replace_write(&w->file, header.data, header.len, err);
    w->begun = !st && !w->dry;
    fm_buf_release(&header);
    return st;
}

uint64_t fm_writer_bytes(const struct fm_writer *w) { return w->file_bytes; }

static enum fm_status no_room(const struct fm_writer *w, uint64_t n_bytes, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_FAILED, "%s: %s: %llu bytes do not belong to any tensor declared here", w->file.what,
                   w->file.path, (unsigned long long)n_bytes);
}

enum fm_status fm_writer_part(struct fm_writer *w, const void *data, uint64_t n_bytes, struct fm_error *err)
{
    static const char zeros[ALIGN];
    if (!w->begun || w->next >= w->n_tensors || n_bytes > w->tensors[w->next].n_bytes - w->part)
        return no_room(w, n_bytes, err);
    FM_TRY(fm_replace_write(&w->file, data, n_bytes, err));
    w->part += n_bytes;
    if (w->part < w->tensors[w->next].n_bytes) return FM_OK;
    const uint64_t padding = w->kind == FM_GGUF ? -w->part % ALIGN : 0;
    w->next++;
    w->part = 0;
    return padding ? fm_replace_write(&w->file, zeros, padding, err) : FM_OK;
}

enum fm_status fm_writer_data(struct fm_writer *w, const void *data, uint64_t n_bytes, struct fm_error *err)
{
    if (w->begun && w->next < w->n_tensors && (w->part || n_bytes != w->tensors[w->next].n_bytes))
        return no_room(w, n_bytes, err);
    return fm_writer_part(w, data, n_bytes, err);
}

enum fm_status fm_writer_commit(struct fm_writer *w, struct fm_error *err)
{
    enum fm_status st;
    if (!w->begun || w->next != w->n_tensors) {
        st = fm_fail(err, FM_ERR_FAILED, "%s: %s: %zu of %zu tensors were written", w->file.what, w->file.path, w->next,
                     w->n_tensors);
        fm_replace_abort(&w->file);
    } else
        st = fm_replace_commit(&w->file, err);
    release(w);
    return st;
}

enum fm_status fm_write_file(const char *path, const void *data, size_t n, struct fm_error *err)
{
    struct fm_replace r;
    FM_TRY(fm_replace_open(&r, "write file", path, err));
    enum fm_status st = fm_replace_reserve(&r, n, err);
    if (!st) st = fm_replace_write(&r, data, n, err);
    if (!st) return fm_replace_commit(&r, err);
    fm_replace_abort(&r);
    return st;
}
