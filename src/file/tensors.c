/* Opening, looking up, closing; see tensors.h.  The containers themselves: gguf.c, safetensors.c, folder.c. */
#include "file/tensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "file/container.h"

/* ---- memory that lives as long as the file: a list of blocks, the newest first ---- */

enum {
    BLOCK_BYTES = 32768,
    WINDOW = 1 << 21, /* bytes that one fault maps at most: a huge page, where the cache holds such */
};

struct fm_block {
    struct fm_block *next;
    size_t used, cap;
    _Alignas(16) char data[];
};

void *fm_file_alloc(struct fm_file *f, size_t n)
{
    struct fm_block *b = f->blocks;
    size_t need, room;
    if (!fm_add_size(n, 15, &need)) return NULL;
    need &= ~(size_t)15;
    if (!b || need > b->cap - b->used) {
        size_t cap = need > BLOCK_BYTES ? need : BLOCK_BYTES;
        if (!fm_add_size(sizeof *b, cap, &room) || !(b = fm_malloc(room))) return NULL;
        *b = (struct fm_block){.next = f->blocks, .cap = cap};
        f->blocks = b;
    }
    void *p = b->data + b->used;
    b->used += need;
    return p;
}

const char *fm_file_text(struct fm_file *f, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? fm_file_alloc(f, n + 1) : NULL;
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

const char *fm_file_join(struct fm_file *f, const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    while (a > 1 && folder[a - 1] == '/') a--;
    char *p = fm_file_alloc(f, a + b + 2);
    if (!p) return NULL;
    memcpy(p, folder, a);
    p[a] = '/';
    memcpy(p + a + 1, name, b + 1);
    return p;
}

/* Room for n more items of `size` bytes in *array, which holds `used` of *cap; new room is zeroed. */
static enum fm_status room(void *array, int used, int *cap, uint64_t n, int limit, size_t size, const char *what,
                           const char *path, struct fm_error *err)
{
    if (n > (uint64_t)(limit - used))
        return fm_fail(err, FM_ERR_INPUT, "open model: %s: more than %d %s", path, limit, what);
    int need = used + (int)n;
    if (need <= *cap) return FM_OK;
    if (need < *cap + *cap / 2) need = *cap + *cap / 2;
    if (need > limit) need = limit;
    void *p;
    memcpy(&p, array, sizeof p);
    char *q = fm_realloc(p, (size_t)need * size);
    if (!q) return fm_fail_memory(err, what, (unsigned long long)need * size);
    memset(q + (size_t)*cap * size, 0, (size_t)(need - *cap) * size);
    memcpy(array, &q, sizeof q);
    *cap = need;
    return FM_OK;
}

enum fm_status fm_file_room_tensors(struct fm_file *f, uint64_t n, const char *path, struct fm_error *err)
{
    return room(&f->tensors, f->n_tensors, &f->cap_tensors, n, FM_MAX_TENSORS, sizeof *f->tensors, "tensors", path,
                err);
}

enum fm_status fm_file_room_meta(struct fm_file *f, uint64_t n, const char *path, struct fm_error *err)
{
    return room(&f->meta, f->n_meta, &f->cap_meta, n, FM_MAX_KEYS, sizeof *f->meta, "metadata keys", path, err);
}

/* ---- checks shared by the containers ---- */

bool fm_name_ok(const char *s, uint64_t n)
{
    if (n > FM_MAX_NAME || !fm_utf8_valid(s, (size_t)n)) return false;
    for (uint64_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7F) return false;
    return true;
}

const char *fm_tensor_count(struct fm_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        if (t->shape[i] > FM_MAX_ELEMENTS || __builtin_mul_overflow(n, t->shape[i], &n) || n > FM_MAX_ELEMENTS)
            return "the shape is too large";
    if (t->fmt < FM_FMT_COUNT && (t->n_dims ? t->shape[t->n_dims - 1] : 1) % fm_formats[t->fmt].block)
        return "the rows are not whole blocks";
    t->n_elements = n;
    return NULL;
}

/* ---- opening ---- */

/* The size rule for a file with nothing in it comes first: no container is empty. */
static enum fm_status not_a_container(const struct fm_part *p, struct fm_error *err)
{
    static const char lfs[] = "version https://git-lfs";
    if (!p->map.size) return fm_fail(err, FM_ERR_INPUT, "open model: %s: the file is empty", p->path);
    (void)fm_fail(err, FM_ERR_INPUT, "open model: %s: is neither GGUF nor safetensors", p->path);
    if (p->map.size >= sizeof lfs - 1 && !memcmp(p->map.data, lfs, sizeof lfs - 1))
        fm_hint(err, "this is a Git LFS pointer: fetch the real file with `git lfs pull`");
    return FM_ERR_INPUT;
}

static enum fm_status read_part(struct fm_file *f, const struct fm_part *p, struct fm_error *err)
{
    if (fm_gguf_is(&p->map)) {
        f->kind = FM_GGUF;
        return fm_gguf_read(f, p, err);
    }
    if (fm_safetensors_is(&p->map)) {
        f->kind = FM_SAFETENSORS;
        return fm_safetensors_read(f, p, err);
    }
    return not_a_container(p, err);
}

static enum fm_status add_part(struct fm_file *f, struct fm_part part, struct fm_error *err)
{
    enum fm_status st = FM_OK;
    if (!part.path) st = fm_fail_memory(err, "file name", 0);
    if (!st) st = room(&f->parts, f->n_parts, &f->cap_parts, 1, FM_MAX_PARTS, sizeof part, "files", part.path, err);
    if (st) return st;
    if (!part.borrowed) FM_TRY(fm_map_open(&part.map, part.path, err));
    f->parts[f->n_parts++] = part;
    return read_part(f, &part, err);
}

enum fm_status fm_file_add(struct fm_file *f, const char *path, struct fm_error *err)
{
    return add_part(f, (struct fm_part){.path = path}, err);
}

static enum fm_status read_path(struct fm_file *f, struct fm_error *err)
{
    struct stat s;
    if (stat(f->path, &s)) return fm_fail(err, FM_ERR_INPUT, "open model: %s: %s", f->path, strerror(errno));
    if (S_ISDIR(s.st_mode)) return fm_folder_read(f, err);
    FM_TRY(fm_file_add(f, f->path, err));
    return f->kind == FM_GGUF ? fm_gguf_read_split(f, err) : FM_OK;
}

static enum fm_status open_any(const char *name, const struct fm_map *memory, struct fm_file **out,
                               struct fm_error *err)
{
    struct fm_file *f = fm_calloc(1, sizeof *f);
    if (!f) return fm_fail_memory(err, name, sizeof *f);
    enum fm_status st = FM_OK;
    f->path = fm_file_text(f, name, strlen(name));
    if (!f->path)
        st = fm_fail_memory(err, name, strlen(name));
    else if (memory)
        st = add_part(f, (struct fm_part){.path = f->path, .map = *memory, .borrowed = true}, err);
    else
        st = read_path(f, err);
    if (!st) st = fm_file_sort(f, err);
    if (st)
        fm_file_close(f);
    else
        *out = f;
    return st;
}

enum fm_status fm_file_open(const char *path, struct fm_file **out, struct fm_error *err)
{
    return open_any(path, NULL, out, err);
}

enum fm_status fm_file_open_memory(const void *data, size_t n, const char *name, struct fm_file **out,
                                   struct fm_error *err)
{
    return open_any(name, &(struct fm_map){.data = n ? data : NULL, .size = n}, out, err);
}

void fm_file_close(struct fm_file *f)
{
    if (!f) return;
    for (int i = 0; i < f->n_parts; i++)
        if (!f->parts[i].borrowed) fm_map_close(&f->parts[i].map);
    while (f->blocks) {
        struct fm_block *next = f->blocks->next;
        fm_free(f->blocks);
        f->blocks = next;
    }
    fm_free(f->parts);
    fm_free(f->tensors);
    fm_free(f->meta);
    fm_free(f->by_name);
    fm_free(f->by_key);
    fm_free(f);
}

/* ---- looking up ---- */

static int compare_names(const void *a, const void *b)
{
    const char *const *x, *const *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return strcmp(*x, *y);
}

/* Pointers to the n structs of `size` bytes at base, sorted by their first member, a string. */
static enum fm_status sort_names(const void *base, int n, size_t size, const char *const ***out, struct fm_error *err)
{
    const char *const **v = fm_malloc((size_t)n * sizeof *v);
    if (!v) return fm_fail_memory(err, "index of names", (size_t)n * sizeof *v);
    for (int i = 0; i < n; i++) v[i] = (const void *)((const char *)base + (size_t)i * size);
    if (n) qsort(v, (size_t)n, sizeof *v, compare_names);
    fm_free(*out);
    *out = v;
    return FM_OK;
}

static const char *duplicate(const char *const **v, int n)
{
    for (int i = 1; i < n; i++)
        if (!strcmp(*v[i - 1], *v[i])) return *v[i];
    return NULL;
}

enum fm_status fm_file_sort(struct fm_file *f, struct fm_error *err)
{
    FM_TRY(sort_names(f->tensors, f->n_tensors, sizeof *f->tensors, &f->by_name, err));
    FM_TRY(sort_names(f->meta, f->n_meta, sizeof *f->meta, &f->by_key, err));
    const char *name = duplicate(f->by_name, f->n_tensors), *key = duplicate(f->by_key, f->n_meta);
    if (name) return fm_fail(err, FM_ERR_INPUT, "open model: %s: two tensors are called %s", f->path, name);
    if (key) return fm_fail(err, FM_ERR_INPUT, "open model: %s: metadata key %s occurs twice", f->path, key);
    return FM_OK;
}

static const void *find(const char *const **v, int n, const char *name)
{
    int lo = 0, hi = n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = strcmp(*v[mid], name);
        if (!c) return v[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const struct fm_tensor *fm_file_find(const struct fm_file *f, const char *name)
{
    return find(f->by_name, f->n_tensors, name);
}

const struct fm_meta *fm_file_meta(const struct fm_file *f, const char *key) { return find(f->by_key, f->n_meta, key); }

/* Whole pages: all that the range touches before reading, only those within it after. */
void fm_file_advise(const struct fm_file *f, const void *p, size_t n, enum fm_file_use use)
{
    /* Pages come into memory a window at a time: those around the bytes leave with them, they are clean and come back. */
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), window = use == FM_FILE_DONE ? WINDOW : page;
    for (int i = 0; i < f->n_parts && n; i++) {
        const struct fm_part *m = &f->parts[i];
        const uintptr_t base = (uintptr_t)m->map.data, stop = (base + m->map.size + page - 1) & ~(page - 1);
        if (m->borrowed || (uintptr_t)p < base || (uintptr_t)p - base >= m->map.size) continue;
        uintptr_t from = (uintptr_t)p & ~(window - 1), end = ((uintptr_t)p + n + window - 1) & ~(window - 1);
        if (from < base) from = base;
        if (end > stop) end = stop;
        (void)madvise((void *)from, end - from, use == FM_FILE_SOON ? MADV_WILLNEED : MADV_DONTNEED);
    }
}

enum fm_container fm_file_container(const struct fm_file *f) { return f->kind; }

const char *fm_file_path(const struct fm_file *f) { return f->path; }

uint64_t fm_file_bytes(const struct fm_file *f)
{
    uint64_t sum = 0;
    for (int i = 0; i < f->n_parts; i++) sum += f->parts[i].map.size;
    return sum;
}

int fm_file_n_tensors(const struct fm_file *f) { return f->n_tensors; }

const struct fm_tensor *fm_file_tensor(const struct fm_file *f, int i) { return &f->tensors[i]; }

enum fm_status fm_tensor_decode(const struct fm_tensor *t, float *dst, struct fm_error *err)
{
    fm_decode_fn decode = t->fmt < FM_FMT_COUNT ? fm_formats[t->fmt].decode : NULL;
    if (!decode)
        return fm_fail(err, FM_ERR_INPUT, "decode tensor: %s: format %s cannot be computed with", t->name,
                       t->type_name);
    decode(dst, t->data, (size_t)t->n_elements);
    return FM_OK;
}
