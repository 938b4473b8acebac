/* Importance matrices from and to files: GGUF, and the older .dat to read.  Layouts: imatrix.h.
 *
 * The key imatrix.text_id is ours: what `resume` compares.  llama.cpp passes over keys and tensors that it does not know.
 * A .dat holds means in units of chunks whose size it does not tell: FM_IMATRIX_CHUNK is taken. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "file/write.h"
#include "model/imatrix.h"

enum { NAME_MAX_BYTES = 255, GGUF_U32 = 4 };

static const char SUMS[] = ".in_sum2", COUNTS[] = ".counts";
static const char KEY_TYPE[] = "general.type", KEY_DATASETS[] = "imatrix.datasets", KEY_COUNT[] = "imatrix.chunk_count",
                  KEY_SIZE[] = "imatrix.chunk_size", KEY_ID[] = "imatrix.text_id";

static bool is_sum(float x) { return x >= 0 && x <= 0x1.fffffep127f; }

/* ---- GGUF ---- */

static enum fm_status bad_tensor(const struct fm_file *f, const char *name, const char *why, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read importance matrix: %s, tensor '%s': %s", fm_file_path(f), name, why);
}

/* The tensor NAME.counts of NAME.in_sum2, or the other way round; NULL when it is missing. */
static const struct fm_tensor *partner(const struct fm_file *f, const struct fm_tensor *t, const char *tail,
                                       const char *other)
{
    char name[NAME_MAX_BYTES + sizeof SUMS];
    const int n = (int)(strlen(t->name) - strlen(tail));
    if (n > NAME_MAX_BYTES) return NULL;
    snprintf(name, sizeof name, "%.*s%s", n, t->name, other);
    return fm_file_find(f, name);
}

static enum fm_status read_counts(const struct fm_file *f, const struct fm_tensor *t, struct fm_imatrix_entry *e,
                                  struct fm_error *err)
{
    for (uint64_t i = 0; i < e->n_counts; i++) {
        float v;
        memcpy(&v, (const char *)t->data + i * sizeof v, sizeof v);
        if (!(v >= 0 && v <= 0x1p40f)) return bad_tensor(f, t->name, "holds a value that is no count", err);
        e->counts[i] = (int64_t)rintf(v);
    }
    return FM_OK;
}

static enum fm_status read_pair(const struct fm_file *f, const struct fm_tensor *sums, const struct fm_tensor *counts,
                                struct fm_imatrix *m, struct fm_error *err)
{
    char name[NAME_MAX_BYTES + 1];
    const size_t n = strlen(sums->name) - strlen(SUMS);
    if (!n) return bad_tensor(f, sums->name, "its name is no tensor's", err);
    if (sums->fmt != FM_F32 || counts->fmt != FM_F32)
        return bad_tensor(f, sums->name, "is not F32 with F32 counts", err);
    if (!sums->n_elements || !counts->n_elements || sums->n_elements % counts->n_elements)
        return bad_tensor(f, sums->name, "its values are no whole number for each count", err);
    memcpy(name, sums->name, n);
    name[n] = 0;
    FM_TRY(fm_imatrix_add(m, name, sums->n_elements, counts->n_elements, fm_file_path(f), err));
    struct fm_imatrix_entry *e = (struct fm_imatrix_entry *)(size_t)fm_imatrix_find(m, name);
    FM_TRY(fm_tensor_decode(sums, e->sums, err));
    for (uint64_t i = 0; i < e->n_values; i++)
        if (!is_sum(e->sums[i])) return bad_tensor(f, sums->name, "holds a value that is no sum of squares", err);
    return read_counts(f, counts, e, err);
}

static enum fm_status read_keys(const struct fm_file *f, struct fm_imatrix *m, struct fm_error *err)
{
    const struct fm_meta *sets = fm_file_meta(f, KEY_DATASETS);
    struct fm_str s;
    const int64_t count = fm_meta_int(f, KEY_COUNT, 0), size = fm_meta_int(f, KEY_SIZE, 0);
    if (fm_meta_str(f, KEY_TYPE, &s) && (s.len != 7 || memcmp(s.data, "imatrix", 7)))
        return fm_fail(err, FM_ERR_INPUT, "read importance matrix: %s: is a GGUF file of type '%.*s'", fm_file_path(f),
                       s.len < 40 ? (int)s.len : 40, s.data);
    if (count < 0 || count > UINT32_MAX || size < 0 || size > INT32_MAX)
        return fm_fail(err, FM_ERR_INPUT, "read importance matrix: %s: chunks: out of range", fm_file_path(f));
    m->chunk_count = count;
    m->chunk_size = size ? (int)size : FM_IMATRIX_CHUNK;
    if (fm_meta_str(f, KEY_ID, &s) && s.len < sizeof m->text_id) memcpy(m->text_id, s.data, s.len);
    if (!sets || sets->type != FM_META_ARRAY || sets->elem != FM_META_STRING) return FM_OK;
    for (uint64_t i = 0; i < sets->n && i < FM_IMATRIX_ENTRIES; i++) {
        s = fm_meta_array_str(sets, i);
        FM_TRY(fm_imatrix_add_dataset(m, s.data, (size_t)s.len, err));
    }
    return FM_OK;
}

static enum fm_status read_gguf(const struct fm_file *f, struct fm_imatrix *m, struct fm_error *err)
{
    FM_TRY(read_keys(f, m, err));
    for (int i = 0; i < fm_file_n_tensors(f); i++) {
        const struct fm_tensor *t = fm_file_tensor(f, i);
        const bool sums = fm_ends_with(t->name, SUMS), counts = fm_ends_with(t->name, COUNTS);
        if (!sums && !counts) continue;
        const struct fm_tensor *other = partner(f, t, sums ? SUMS : COUNTS, sums ? COUNTS : SUMS);
        if (!other) return bad_tensor(f, t->name, sums ? "has no counts" : "has no sums", err);
        if (sums) FM_TRY(read_pair(f, t, other, m, err));
    }
    return FM_OK;
}

/* ---- .dat ---- */

struct cursor {
    const unsigned char *data;
    size_t n, at;
    const char *path;
    struct fm_error *err;
};

static enum fm_status bad_dat(const struct cursor *c, const char *why)
{
    return fm_fail(c->err, FM_ERR_INPUT, "read importance matrix: %s, byte %zu: %s", c->path, c->at, why);
}

static enum fm_status take_i32(struct cursor *c, int32_t min, int32_t *v, const char *what)
{
    if (c->n - c->at < sizeof *v) return bad_dat(c, "the file ends too early");
    memcpy(v, c->data + c->at, sizeof *v);
    if (*v < min) return bad_dat(c, what);
    c->at += sizeof *v;
    return FM_OK;
}

static enum fm_status read_dat_entry(struct cursor *c, struct fm_imatrix *m)
{
    char name[NAME_MAX_BYTES + 1];
    int32_t len, calls, values;
    FM_TRY(take_i32(c, 1, &len, "is no length of a name"));
    if (len > NAME_MAX_BYTES || (size_t)len > c->n - c->at || memchr(c->data + c->at, 0, (size_t)len))
        return bad_dat(c, "is no name of a tensor");
    memcpy(name, c->data + c->at, (size_t)len);
    name[len] = 0;
    c->at += (size_t)len;
    FM_TRY(take_i32(c, 0, &calls, "is no number of chunks"));
    FM_TRY(take_i32(c, 1, &values, "is no number of columns"));
    if ((size_t)values > (c->n - c->at) / sizeof(float)) return bad_dat(c, "the file ends within the values");
    FM_TRY(fm_imatrix_add(m, name, (uint64_t)values, 1, c->path, c->err));
    struct fm_imatrix_entry *e = (struct fm_imatrix_entry *)(size_t)fm_imatrix_find(m, name);
    memcpy(e->sums, c->data + c->at, (size_t)values * sizeof(float));
    for (int32_t i = 0; i < values; i++, c->at += sizeof(float)) {
        e->sums[i] *= FM_IMATRIX_CHUNK; /* means times chunks: now sums over tokens */
        if (!is_sum(e->sums[i])) return bad_dat(c, "is no mean of squares");
    }
    e->counts[0] = (int64_t)(calls ? calls : 1) * FM_IMATRIX_CHUNK;
    return FM_OK;
}

static enum fm_status read_dat(struct cursor *c, struct fm_imatrix *m)
{
    int32_t entries, chunks = 0, len = 0;
    FM_TRY(take_i32(c, 1, &entries, "is no number of tensors, and the file is no GGUF"));
    for (int32_t i = 0; i < entries; i++) FM_TRY(read_dat_entry(c, m));
    m->chunk_size = FM_IMATRIX_CHUNK;
    if (c->at == c->n) return FM_OK; /* the oldest files end here */
    FM_TRY(take_i32(c, 0, &chunks, "is no number of chunks"));
    m->chunk_count = chunks;
    if (c->at == c->n) return FM_OK;
    FM_TRY(take_i32(c, 0, &len, "is no length of a name"));
    if ((size_t)len != c->n - c->at) return bad_dat(c, "is not the name of a text at the end");
    return len ? fm_imatrix_add_dataset(m, (const char *)c->data + c->at, (size_t)len, c->err) : FM_OK;
}

/* ---- both ---- */

enum fm_status fm_imatrix_read(struct fm_imatrix *m, const void *data, size_t n, const char *name, struct fm_error *err)
{
    struct fm_imatrix r = {0};
    enum fm_status st;
    if (n >= 4 && !memcmp(data, "GGUF", 4)) {
        struct fm_file *f;
        FM_TRY(fm_file_open_memory(data, n, name, &f, err));
        st = read_gguf(f, &r, err);
        fm_file_close(f);
    } else {
        st = read_dat(&(struct cursor){.data = data, .n = n, .path = name, .err = err}, &r);
    }
    if (!st && !r.n) st = fm_fail(err, FM_ERR_INPUT, "read importance matrix: %s: there is none in it", name);
    if (st)
        fm_imatrix_release(&r);
    else
        *m = r;
    return st;
}

enum fm_status fm_imatrix_open(struct fm_imatrix *m, const char *path, struct fm_error *err)
{
    struct fm_map map;
    FM_TRY(fm_map_open(&map, path, err));
    enum fm_status st = fm_imatrix_read(m, map.data, map.size, path, err);
    fm_map_close(&map);
    return st;
}

static void declare(struct fm_writer *w, const struct fm_imatrix_entry *e, struct fm_buf *name, const char *tail,
                    uint64_t cols)
{
    fm_buf_clear(name);
    fm_buf_printf(name, "%s%s", e->name, tail);
    if (!name->failed) fm_writer_tensor(w, name->data, FM_F32, 2, (uint64_t[]){e->n_counts, cols});
}

static enum fm_status write_header(struct fm_writer *w, const struct fm_imatrix *m, struct fm_error *err)
{
    struct fm_buf name = {0};
    struct fm_str *sets = fm_malloc((size_t)m->n_datasets * sizeof *sets);
    if (!sets) return fm_fail_memory(err, "names of texts", 0);
    for (int i = 0; i < m->n_datasets; i++) sets[i] = (struct fm_str){m->datasets[i], strlen(m->datasets[i])};
    fm_writer_meta_str(w, KEY_TYPE, "imatrix", 7);
    fm_writer_meta_strs(w, KEY_DATASETS, sets, (uint64_t)m->n_datasets);
    fm_writer_meta_int(w, KEY_COUNT, GGUF_U32, m->chunk_count < UINT32_MAX ? m->chunk_count : UINT32_MAX);
    fm_writer_meta_int(w, KEY_SIZE, GGUF_U32, m->chunk_size);
    if (*m->text_id) fm_writer_meta_str(w, KEY_ID, m->text_id, strlen(m->text_id));
    for (int i = 0; i < m->n; i++) {
        declare(w, &m->entries[i], &name, SUMS, m->entries[i].n_values / m->entries[i].n_counts);
        declare(w, &m->entries[i], &name, COUNTS, 1);
    }
    const bool failed = name.failed;
    fm_buf_release(&name);
    fm_free(sets);
    return failed ? fm_fail_memory(err, "names of tensors", 0) : fm_writer_begin(w, err);
}

static enum fm_status write_entry(struct fm_writer *w, const struct fm_imatrix_entry *e, struct fm_error *err)
{
    float *counts = fm_malloc((size_t)e->n_counts * sizeof *counts);
    if (!counts) return fm_fail_memory(err, "counts", e->n_counts * sizeof *counts);
    for (uint64_t i = 0; i < e->n_counts; i++) counts[i] = (float)e->counts[i];
    enum fm_status st = fm_writer_data(w, e->sums, e->n_values * sizeof *e->sums, err);
    if (!st) st = fm_writer_data(w, counts, e->n_counts * sizeof *counts, err);
    fm_free(counts);
    return st;
}

enum fm_status fm_imatrix_write(const struct fm_imatrix *m, const char *path, struct fm_error *err)
{
    struct fm_writer *w;
    FM_TRY(fm_writer_open(path, FM_GGUF, &w, err));
    enum fm_status st = write_header(w, m, err);
    for (int i = 0; i < m->n && !st; i++) st = write_entry(w, &m->entries[i], err);
    if (st) {
        fm_writer_abort(w);
        return st;
    }
    return fm_writer_commit(w, err);
}
