/* See shards.h. */
#include "file/shards.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "file/replace.h"

struct item {
    const char *name;
    enum fm_fmt fmt;
    int n_dims, shard;
    uint64_t shape[FM_MAX_DIMS], bytes;
};

struct fm_shards {
    char *folder;
    uint64_t limit, total; /* bytes of the tensors */
    struct item *items;
    size_t n, cap;
    int n_files;
    bool no_memory;
    struct fm_writer *w; /* of the file being written */
    size_t next;         /* item whose data come next */
    uint64_t part;
};

enum fm_status fm_shards_new(const char *folder, uint64_t limit, struct fm_shards **out, struct fm_error *err)
{
    struct fm_shards *s = fm_calloc(1, sizeof *s);
    if (s) *s = (struct fm_shards){.folder = fm_strdup(folder), .limit = limit};
    if (!s || !s->folder) {
        fm_free(s);
        return fm_fail_memory(err, folder, sizeof *s);
    }
    *out = s;
    return FM_OK;
}

void fm_shards_free(struct fm_shards *s)
{
    if (!s) return;
    fm_writer_abort(s->w);
    fm_free(s->items);
    fm_free(s->folder);
    fm_free(s);
}

void fm_shards_tensor(struct fm_shards *s, const char *name, enum fm_fmt fmt, int n_dims, const uint64_t *shape)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 64;
        struct item *v = fm_realloc(s->items, cap * sizeof *v);
        s->no_memory = s->no_memory || !v;
        if (!v) return;
        s->items = v;
        s->cap = cap;
    }
    struct item *i = &s->items[s->n++];
    *i = (struct item){.name = name, .fmt = fmt, .n_dims = n_dims};
    uint64_t elements = 1;
    for (int d = 0; d < n_dims && d < FM_MAX_DIMS; d++) elements *= i->shape[d] = shape[d];
    i->bytes = fm_format_bytes(fmt, elements);
}

/* In order, as many as fit. */
static void distribute(struct fm_shards *s)
{
    uint64_t used = 0;
    int shard = 0;
    s->total = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (used && s->items[i].bytes > s->limit - (used < s->limit ? used : s->limit)) {
            shard++;
            used = 0;
        }
        s->items[i].shard = shard;
        used += s->items[i].bytes;
        s->total += s->items[i].bytes;
    }
    s->n_files = shard + 1;
}

static void file_name(const struct fm_shards *s, int shard, char name[64])
{
    if (s->n_files == 1)
        snprintf(name, 64, "model.safetensors");
    else
        snprintf(name, 64, "model-%05d-of-%05d.safetensors", shard + 1, s->n_files);
}

/* A writer with the tensors of one file declared; *first: the first of them. */
static enum fm_status open_file(struct fm_shards *s, int shard, bool dry, uint64_t *bytes, struct fm_error *err)
{
    struct fm_buf path = {0};
    char name[64];
    file_name(s, shard, name);
    fm_buf_printf(&path, "%s/%s", s->folder, name);
    enum fm_status st = path.failed ? fm_fail_memory(err, "path", strlen(s->folder))
                        : dry       ? fm_writer_open_dry(path.data, FM_SAFETENSORS, &s->w, err)
                                    : fm_writer_open(path.data, FM_SAFETENSORS, &s->w, err);
    fm_buf_release(&path);
    if (st) return st;
    fm_writer_meta_str(s->w, "format", "pt", 2); /* what transformers looks for */
    for (size_t i = dry ? 0 : s->next; i < s->n && s->items[i].shard <= shard; i++)
        if (s->items[i].shard == shard)
            fm_writer_tensor(s->w, s->items[i].name, s->items[i].fmt, s->items[i].n_dims, s->items[i].shape);
    FM_TRY(fm_writer_begin(s->w, err));
    *bytes = fm_writer_bytes(s->w);
    return FM_OK;
}

enum fm_status fm_shards_begin(struct fm_shards *s, bool dry, uint64_t *bytes, struct fm_error *err)
{
    if (s->no_memory) return fm_fail_memory(err, "list of tensors", s->n * sizeof *s->items);
    distribute(s);
    *bytes = 0;
    for (int f = 0; f < s->n_files; f++) {
        uint64_t n = 0;
        enum fm_status st = open_file(s, f, true, &n, err);
        fm_writer_abort(s->w);
        s->w = NULL;
        if (st) return st;
        *bytes += n;
    }
    return dry ? FM_OK : fm_disk_room("write safetensors", s->folder, *bytes, err);
}

static enum fm_status commit_file(struct fm_shards *s, struct fm_error *err)
{
    struct fm_writer *w = s->w;
    s->w = NULL;
    return w ? fm_writer_commit(w, err) : FM_OK;
}

enum fm_status fm_shards_part(struct fm_shards *s, const void *data, uint64_t n_bytes, struct fm_error *err)
{
    uint64_t bytes;
    if (s->next >= s->n) return fm_fail(err, FM_ERR_FAILED, "write safetensors: %s: more data than tensors", s->folder);
    const struct item *i = &s->items[s->next];
    if (!s->part && (!s->next || s->items[s->next - 1].shard != i->shard)) {
        FM_TRY(commit_file(s, err));
        FM_TRY(open_file(s, i->shard, false, &bytes, err));
    }
    FM_TRY(fm_writer_part(s->w, data, n_bytes, err));
    s->part += n_bytes;
    if (s->part < i->bytes) return FM_OK;
    s->part = 0;
    s->next++;
    return FM_OK;
}

static enum fm_status write_index(const struct fm_shards *s, struct fm_error *err)
{
    char name[64];
    struct fm_buf path = {0};
    json_t *map = json_object(),
           *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->total, "weight_map", map);
    bool ok = root != NULL;
    for (size_t i = 0; ok && i < s->n; i++) {
        file_name(s, s->items[i].shard, name);
        ok = !json_object_set_new(map, s->items[i].name, json_string(name));
    }
    char *text = ok ? json_dumps(root, JSON_INDENT(2)) : NULL;
    fm_buf_printf(&path, "%s/model.safetensors.index.json", s->folder);
    enum fm_status st = !text || path.failed ? fm_fail_memory(err, "index of tensors", s->n * sizeof *s->items)
                                             : fm_write_file(path.data, text, strlen(text), err);
    fm_free(text);
    json_decref(root);
    fm_buf_release(&path);
    return st;
}

enum fm_status fm_shards_commit(struct fm_shards *s, struct fm_error *err)
{
    uint64_t bytes;
    if (s->next < s->n)
        return fm_fail(err, FM_ERR_FAILED, "write safetensors: %s: %zu of %zu tensors were written", s->folder, s->next,
                       s->n);
    if (!s->n) FM_TRY(open_file(s, 0, false, &bytes, err));
    FM_TRY(commit_file(s, err));
    return s->n_files > 1 ? write_index(s, err) : FM_OK;
}
