/* See corpus.h: finding files and cutting documents. */
#include "train/corpus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sum.h"

enum { MAX_FILES = 1 << 20, MAX_DEPTH = 64, SNIFF_BYTES = 8192 };
static const uint64_t MAX_TEXT = (uint64_t)1 << 36; /* 64 GiB of text is more than one machine trains on */

int fm_corpus_is_text(const char *p, size_t n)
{
    if (n && memchr(p, 0, n)) return 0;
    size_t bad = 0;
    for (size_t i = 0; i < n;) {
        int used;
        bad += fm_utf8_decode(p + i, n - i, &used) < 0;
        i += (size_t)used;
    }
    return bad <= n / 10;
}

/* ---- find ---- */

struct visited {
    dev_t dev;
    ino_t ino;
};
struct finder {
    struct fm_corpus *c;
    struct visited *seen;
    int n_seen, cap_seen, arg;
    struct fm_error *err;
};

static bool grow(void **p, int n, int *cap, size_t item)
{
    if (n < *cap) return true;
    int more = *cap ? *cap * 2 : 64;
    void *q = fm_realloc(*p, (size_t)more * item);
    if (!q) return false;
    *p = q;
    *cap = more;
    return true;
}

/* Folders reached twice (through links) are read once; this also ends loops. */
static enum fm_status visit(struct finder *f, const struct stat *s, bool *again)
{
    *again = true;
    for (int i = 0; i < f->n_seen; i++)
        if (f->seen[i].dev == s->st_dev && f->seen[i].ino == s->st_ino) return FM_OK;
    *again = false;
    if (!grow((void **)&f->seen, f->n_seen, &f->cap_seen, sizeof *f->seen))
        return fm_fail_memory(f->err, "corpus folders", 0);
    f->seen[f->n_seen++] = (struct visited){s->st_dev, s->st_ino};
    return FM_OK;
}

/* The first bytes tell most binary files without reading (or planning memory for) the rest. */
static bool looks_binary(const char *path)
{
    char head[SNIFF_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    ssize_t n = read(fd, head, sizeof head);
    close(fd);
    return n > 0 && memchr(head, 0, (size_t)n);
}

static bool is_packed(const char *path) { return fm_ends_with(path, ".zst") || fm_corpus_is_tar(path); }

/* named: the user asked for exactly this file, so what is wrong with it is an error, not something to skip. */
static enum fm_status add_file(struct finder *f, const char *path, bool named)
{
    struct fm_corpus *c = f->c;
    if (!is_packed(path) && looks_binary(path)) {
        c->binary++;
        return FM_OK;
    }
    uint64_t bytes;
    enum fm_status st = fm_corpus_file_bound(path, &bytes, f->err);
    if (st == FM_ERR_INPUT && !named) {
        c->other++;
        return FM_OK;
    }
    if (st) return st;
    if (c->n_files == MAX_FILES || bytes > MAX_TEXT - c->text_bound)
        return fm_fail(f->err, FM_ERR_INPUT, "read corpus: %s: more than %d files or %llu bytes of text", path,
                       MAX_FILES, (unsigned long long)MAX_TEXT);
    if ((c->n_files & (c->n_files - 1)) == 0) { /* room doubles at powers of two */
        void *p = fm_realloc(c->files, (size_t)(c->n_files ? c->n_files * 2 : 1) * sizeof *c->files);
        if (!p) return fm_fail_memory(f->err, "corpus files", (size_t)c->n_files * 2 * sizeof *c->files);
        c->files = p;
    }
    char *copy = fm_strdup(path);
    if (!copy) return fm_fail_memory(f->err, "corpus files", strlen(path));
    c->files[c->n_files++] = (struct fm_corpus_file){copy, f->arg, bytes};
    c->text_bound += bytes;
    return FM_OK;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

struct names {
    char **v;
    int n, cap;
};

static void free_names(struct names *l)
{
    for (int i = 0; i < l->n; i++) fm_free(l->v[i]);
    fm_free(l->v);
}

static enum fm_status list_folder(struct finder *f, const char *path, struct names *l)
{
    DIR *d = opendir(path);
    if (!d) return fm_fail(f->err, FM_ERR_INPUT, "read corpus: %s: %s", path, strerror(errno));
    enum fm_status st = FM_OK;
    for (struct dirent *e; !st && (e = readdir(d));) {
        if (e->d_name[0] == '.') {
            f->c->hidden += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
            continue;
        }
        char *s = grow((void **)&l->v, l->n, &l->cap, sizeof *l->v) ? fm_strdup(e->d_name) : NULL;
        if (s)
            l->v[l->n++] = s;
        else
            st = fm_fail_memory(f->err, path, 0);
    }
    closedir(d);
    if (!st && l->n) qsort(l->v, (size_t)l->n, sizeof *l->v, by_bytes);
    return st;
}

static enum fm_status add_path(struct finder *f, const char *path, int depth);

static enum fm_status add_folder(struct finder *f, const char *path, const struct stat *s, int depth)
{
    bool again;
    FM_TRY(visit(f, s, &again));
    if (again || depth == MAX_DEPTH) {
        f->c->loops++;
        return FM_OK;
    }
    struct names l = {0};
    enum fm_status st = list_folder(f, path, &l);
    if (st == FM_ERR_INPUT && depth > 0) {
        f->c->other++;
        st = FM_OK;
    }
    for (int i = 0; !st && i < l.n; i++) {
        struct fm_buf b = {0};
        fm_buf_printf(&b, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", l.v[i]);
        st = b.failed ? fm_fail_memory(f->err, path, 0) : add_path(f, b.data, depth + 1);
        fm_buf_release(&b);
    }
    free_names(&l);
    return st;
}

static enum fm_status add_path(struct finder *f, const char *path, int depth)
{
    struct stat s;
    if (!path[0] || stat(path, &s)) {
        if (depth == 0)
            return fm_fail(f->err, FM_ERR_INPUT, "read corpus: %s: %s", path, strerror(path[0] ? errno : ENOENT));
        f->c->other++;
        return FM_OK;
    }
    if (S_ISDIR(s.st_mode)) return add_folder(f, path, &s, depth);
    if (S_ISREG(s.st_mode)) return add_file(f, path, depth == 0);
    if (depth == 0) return fm_fail(f->err, FM_ERR_INPUT, "read corpus: %s: is neither a file nor a folder", path);
    f->c->other++;
    return FM_OK;
}

enum fm_status fm_corpus_find(struct fm_corpus *c, const char *const *paths, int n_paths, struct fm_error *err)
{
    *c = (struct fm_corpus){0};
    if (n_paths <= 0) return fm_fail(err, FM_ERR_USAGE, "read corpus: no file or folder was given");
    struct finder f = {.c = c, .err = err};
    enum fm_status st = FM_OK;
    for (f.arg = 0; !st && f.arg < n_paths; f.arg++) st = add_path(&f, paths[f.arg], 0);
    fm_free(f.seen);
    return st;
}

enum fm_status fm_corpus_identity(const struct fm_corpus *c, uint64_t *identity, struct fm_error *err)
{
    struct fm_sum all;
    fm_sum_init(&all, 1);
    for (int i = 0; i < c->n_files; i++) {
        struct fm_map m;
        FM_TRY(fm_map_open(&m, c->files[i].path, err));
        const uint64_t one = fm_sum_of((uint64_t)m.size, m.data, m.size);
        fm_map_close(&m);
        fm_sum_add(&all, &one, sizeof one);
    }
    *identity = fm_sum_end(&all);
    return FM_OK;
}

/* ---- load ---- */

/* Keep p[len], which lies in the text or behind it, as a document; blank ones vanish. */
static enum fm_status add_doc(struct fm_corpus *c, const char *p, size_t len, struct fm_error *err)
{
    size_t i = 0;
    while (i < len && (p[i] == '\n' || p[i] == '\r' || p[i] == ' ' || p[i] == '\t')) i++;
    if (i == len) return FM_OK;
    if (!grow((void **)&c->docs, c->n_docs, &c->cap_docs, sizeof *c->docs))
        return fm_fail_memory(err, "corpus documents", 0);
    memmove(c->text + c->text_len, p, len);
    c->docs[c->n_docs++] = (struct fm_corpus_doc){c->text_len, len};
    c->text_len += len;
    return FM_OK;
}

/* Where the next separator line starts in p[n], and where the text after it; n, n when there is none. */
static size_t find_separator(const char *p, size_t n, size_t *after)
{
    static const size_t len = sizeof FM_CORPUS_SEPARATOR - 1;
    for (const char *q = p; (q = memmem(q, n - (size_t)(q - p), FM_CORPUS_SEPARATOR, len)); q += len) {
        size_t at = (size_t)(q - p), end = at + len;
        if (end < n && p[end] == '\r') end++;
        if ((at > 0 && p[at - 1] != '\n') || (end < n && p[end] != '\n')) continue;
        *after = end < n ? end + 1 : n;
        return at;
    }
    *after = n;
    return n;
}

static enum fm_status add_text(struct fm_corpus *c, const char *p, size_t n, struct fm_error *err)
{
    if (!fm_corpus_is_text(p, n)) {
        c->binary++;
        return FM_OK;
    }
    const int before = c->n_docs;
    for (size_t at, after; n; p += after, n -= after) {
        at = find_separator(p, n, &after);
        FM_TRY(add_doc(c, p, at, err));
    }
    c->text_files += c->n_docs > before;
    return FM_OK;
}

/* The archive lies at p, behind what was kept so far; its members move down over its headers. */
static enum fm_status add_tar(struct fm_corpus *c, const char *where, const char *p, size_t n, struct fm_error *err)
{
    char name[256];
    const char *member;
    size_t offset = 0, size;
    for (;;) {
        FM_TRY(fm_corpus_tar_next(where, p, n, &offset, name, &member, &size, err));
        if (size == SIZE_MAX) return FM_OK;
        const char *slash = strrchr(name, '/');
        if ((slash ? slash[1] : name[0]) == '.')
            c->hidden++;
        else
            FM_TRY(add_text(c, member, size, err));
    }
}

static enum fm_status load_file(struct fm_corpus *c, const struct fm_corpus_file *f, struct fm_error *err)
{
    char *p = c->text + c->text_len;
    size_t n = 0, room = c->text_cap - c->text_len;
    FM_TRY(fm_corpus_file_read(f->path, p, f->bytes < room ? (size_t)f->bytes : room, &n, err));
    return fm_corpus_is_tar(f->path) ? add_tar(c, f->path, p, n, err) : add_text(c, p, n, err);
}

/* Why one of the paths asked for gave nothing. */
static enum fm_status no_text(const struct fm_corpus *c, const char *path, struct fm_error *err)
{
    struct stat s;
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode))
        return fm_fail(err, FM_ERR_INPUT,
                       "read corpus: %s: no text in this folder (%d binary, %d hidden, %d other entries skipped)", path,
                       c->binary, c->hidden, c->other + c->loops);
    if (stat(path, &s) == 0 && s.st_size == 0)
        return fm_fail(err, FM_ERR_INPUT, "read corpus: %s: the file is empty", path);
    return fm_fail(err, FM_ERR_INPUT, "read corpus: %s: holds no text (%s)", path,
                   c->binary ? "it is binary" : "only blanks");
}

enum fm_status fm_corpus_load(struct fm_corpus *c, const char *const *paths, int n_paths, struct fm_error *err)
{
    c->text_cap = (size_t)c->text_bound;
    c->text = fm_pages_alloc(c->text_cap);
    if (!c->text) return fm_fail_memory(err, "corpus text", c->text_cap);
    int i = 0;
    for (int arg = 0; arg < n_paths; arg++) {
        const int before = c->n_docs;
        for (; i < c->n_files && c->files[i].arg == arg; i++) FM_TRY(load_file(c, &c->files[i], err));
        if (c->n_docs == before) return no_text(c, paths[arg], err);
    }
    return FM_OK;
}

void fm_corpus_release(struct fm_corpus *c)
{
    for (int i = 0; i < c->n_files; i++) fm_free(c->files[i].path);
    fm_free(c->files);
    fm_free(c->docs);
    fm_pages_free(c->text, c->text_cap);
    *c = (struct fm_corpus){0};
}
