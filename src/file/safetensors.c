/* safetensors: a JSON header and the data.
 *
 *   u64 n │ n bytes of JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …, "__metadata__": {…}} │ data
 *
 * Offsets count from the end of the header.  The ranges must tile the data exactly, in any order.
 * Source: spec models.md §9.1; huggingface/safetensors.  We list tensors of unknown dtypes instead of refusing them. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "file/container.h"

static enum fm_status bad(const struct fm_part *p, const char *name, const char *why, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "open safetensors: %s, tensor %s: %s", p->path, name, why);
}

bool fm_safetensors_is(const struct fm_map *m) { return m->size > 8 && m->data[8] == '{'; }

/* A non-negative integer. */
static bool get_u64(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static const char *read_shape(const json_t *shape, struct fm_tensor *t)
{
    if (!json_is_array(shape)) return "shape is not an array";
    if (json_array_size(shape) > FM_MAX_DIMS) return "too many dimensions";
    t->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < t->n_dims; i++)
        if (!get_u64(json_array_get(shape, (size_t)i), &t->shape[i])) return "shape is not made of counts";
    return fm_tensor_count(t);
}

/* offset is relative to the data here. */
static const char *read_range(const json_t *range, struct fm_tensor *t)
{
    uint64_t end;
    if (json_array_size(range) != 2 || !get_u64(json_array_get(range, 0), &t->offset) ||
        !get_u64(json_array_get(range, 1), &end) || end < t->offset)
        return "data_offsets is not a range";
    t->n_bytes = end - t->offset;
    if (t->fmt < FM_FMT_COUNT && t->n_bytes != fm_format_bytes(t->fmt, t->n_elements))
        return "data_offsets does not fit the shape";
    return NULL;
}

static enum fm_status read_tensor(struct fm_file *f, const struct fm_part *p, const char *name, const json_t *entry,
                                  struct fm_tensor *t, struct fm_error *err)
{
    if (!fm_name_ok(name, strlen(name)))
        return fm_fail(err, FM_ERR_INPUT,
                       "open safetensors: %s: a tensor's name is not a plain name of at most %d bytes", p->path,
                       FM_MAX_NAME);
    const char *dtype = fm_json_str(entry, "dtype", NULL);
    if (!dtype || !fm_name_ok(dtype, strlen(dtype))) return bad(p, name, "it has no dtype", err);
    *t = (struct fm_tensor){.fmt = fm_format_by_dtype(dtype), .path = p->path};
    const char *why = read_shape(json_object_get(entry, "shape"), t);
    if (!why) why = read_range(json_object_get(entry, "data_offsets"), t);
    if (why) return bad(p, name, why, err);
    t->name = fm_file_text(f, name, strlen(name));
    t->type_name = fm_file_text(f, dtype, strlen(dtype));
    return t->name && t->type_name ? FM_OK : fm_fail_memory(err, "tensor's name", strlen(name));
}

static enum fm_status read_meta(struct fm_file *f, const struct fm_part *p, json_t *meta, struct fm_error *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(meta))
        return fm_fail(err, FM_ERR_INPUT, "open safetensors: %s: __metadata__ is not an object", p->path);
    FM_TRY(fm_file_room_meta(f, json_object_size(meta), p->path, err));
    json_object_foreach(meta, key, v)
    {
        struct fm_meta *m = &f->meta[f->n_meta];
        if (!json_is_string(v) || !fm_name_ok(key, strlen(key)))
            return fm_fail(err, FM_ERR_INPUT, "open safetensors: %s: __metadata__ is not made of strings", p->path);
        *m = (struct fm_meta){.type = FM_META_STRING, .s.len = json_string_length(v)};
        m->key = fm_file_text(f, key, strlen(key));
        m->s.data = fm_file_text(f, json_string_value(v), json_string_length(v));
        if (!m->key || !m->s.data) return fm_fail_memory(err, "metadata", m->s.len);
        f->n_meta++;
    }
    return FM_OK;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct fm_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->n_bytes != y->n_bytes) return x->n_bytes < y->n_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sort the tensors from `first` on as they lie in the file and check that they tile the data. */
static enum fm_status place_tensors(struct fm_file *f, const struct fm_part *p, int first, uint64_t start,
                                    struct fm_error *err)
{
    uint64_t at = 0, size = p->map.size - start;
    int n = f->n_tensors - first;
    if (n) qsort(f->tensors + first, (size_t)n, sizeof *f->tensors, compare_ranges);
    for (int i = first; i < f->n_tensors; i++) {
        struct fm_tensor *t = &f->tensors[i];
        if (t->offset < at) return bad(p, t->name, "its data overlap the tensor before", err);
        if (t->offset > at) return bad(p, t->name, "there is a gap before its data", err);
        if (t->n_bytes > size - at) return bad(p, t->name, "its data are beyond the end of the file", err);
        at += t->n_bytes;
        t->offset += start;
        t->data = p->map.data + t->offset;
    }
    if (at != size)
        return fm_fail(err, FM_ERR_INPUT, "open safetensors: %s, byte %llu: %llu bytes belong to no tensor", p->path,
                       (unsigned long long)(start + at), (unsigned long long)(size - at));
    return FM_OK;
}

/* A model's further files repeat the metadata of the first: kept once. */
static enum fm_status read_header(struct fm_file *f, const struct fm_part *p, json_t *header, uint64_t start,
                                  struct fm_error *err)
{
    const char *name;
    json_t *entry, *meta = json_object_get(header, "__metadata__");
    int first = f->n_tensors;
    FM_TRY(fm_file_room_tensors(f, json_object_size(header), p->path, err));
    json_object_foreach(header, name, entry)
    {
        if (entry == meta) continue;
        FM_TRY(read_tensor(f, p, name, entry, &f->tensors[f->n_tensors], err));
        f->n_tensors++;
    }
    if (meta && f->n_parts == 1) FM_TRY(read_meta(f, p, meta, err));
    return place_tensors(f, p, first, start, err);
}

enum fm_status fm_safetensors_read(struct fm_file *f, const struct fm_part *p, struct fm_error *err)
{
    uint64_t n;
    memcpy(&n, p->map.data, sizeof n);
    if (n > p->map.size - 8 || n > FM_MAX_HEADER)
        return fm_fail(err, FM_ERR_INPUT, "open safetensors: %s, byte 0: a header of %llu bytes does not fit", p->path,
                       (unsigned long long)n);
    json_t *header;
    FM_TRY(fm_json_parse((const char *)p->map.data + 8, (size_t)n, p->path, &header, err));
    enum fm_status st = read_header(f, p, header, 8 + n, err);
    json_decref(header);
    return st;
}
