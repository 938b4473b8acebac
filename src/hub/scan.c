/* What the cache holds, and taking things out of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "hub/hub_impl.h"

/* ---- folders --------------------------------------------------------------------------------------------------- */

/* Calls fn for each entry of a folder but "." and ".."; a folder that cannot be opened has none. */
static enum fm_status each_entry(const char *folder,
                                 enum fm_status (*fn)(void *arg, const char *path, const char *name,
                                                      struct fm_error *err),
                                 void *arg, struct fm_error *err)
{
    DIR *d = opendir(folder);
    enum fm_status st = FM_OK;
    for (struct dirent *e; d && !st && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *path = fm_hub_text("%s/%s", folder, e->d_name);
        st = path ? fn(arg, path, e->d_name, err) : fm_fail_memory(err, "a file's name", strlen(folder));
        fm_free(path);
    }
    if (d) closedir(d);
    return st;
}

static enum fm_status remove_entry(void *arg, const char *path, const char *name, struct fm_error *err)
{
    struct stat s;
    (void)name;
    if (lstat(path, &s)) return FM_OK;
    if (S_ISDIR(s.st_mode)) {
        FM_TRY(each_entry(path, remove_entry, arg, err));
        return rmdir(path) && errno != ENOENT ? fm_hub_disk(err, "remove a folder", path) : FM_OK;
    }
    return unlink(path) && errno != ENOENT ? fm_hub_disk(err, "remove a file", path) : FM_OK;
}

/* ---- scanning -------------------------------------------------------------------------------------------------- */

static time_t last_use(const struct stat *s) { return s->st_atime > s->st_mtime ? s->st_atime : s->st_mtime; }

/* The blob that a link leads to: what stands behind blobs/ in its text, if it is a plain name. */
static enum fm_status blob_of(const char *link, char **blob, struct fm_error *err)
{
    char text[PATH_MAX];
    ssize_t n = readlink(link, text, sizeof text - 1);
    if (n <= 0) return FM_OK;
    text[n] = 0;
    char *slash = strrchr(text, '/');
    if (!slash || slash - text < 5 || strncmp(slash - 5, "blobs", 5) != 0) return FM_OK;
    *blob = fm_strdup(slash + 1);
    return *blob ? FM_OK : fm_fail_memory(err, "a file's name", strlen(slash));
}

struct scan {
    struct fm_cached_repo *repo;
    const char *root; /* the snapshot, paths are relative to it */
    int depth;
};

static enum fm_status add_file(struct fm_cached_repo *r, const struct fm_cached_file *f, struct fm_error *err)
{
    if (!(r->n_files & (r->n_files - 1))) {
        size_t cap = r->n_files ? r->n_files * 2 : 1;
        struct fm_cached_file *v = fm_realloc(r->files, cap * sizeof *v);
        if (!v) return fm_fail_memory(err, "the list of the cache", cap * sizeof *v);
        r->files = v;
    }
    r->files[r->n_files++] = *f;
    return FM_OK;
}

static enum fm_status scan_entry(void *arg, const char *path, const char *name, struct fm_error *err)
{
    struct scan *sc = arg;
    struct stat l, s = {0};
    (void)name;
    if (lstat(path, &l)) return FM_OK;
    if (S_ISDIR(l.st_mode)) {
        if (sc->depth >= 16) return FM_OK;
        sc->depth++;
        enum fm_status st = each_entry(path, scan_entry, sc, err);
        sc->depth--;
        return st;
    }
    struct fm_cached_file f = {.missing = stat(path, &s) != 0};
    f.size = f.missing ? 0 : (uint64_t)s.st_size;
    f.used = f.missing ? 0 : last_use(&s);
    enum fm_status st = S_ISLNK(l.st_mode) ? blob_of(path, &f.blob, err) : FM_OK;
    f.path = fm_strdup(path + strlen(sc->root) + 1);
    if (!st) st = f.path ? add_file(sc->repo, &f, err) : fm_fail_memory(err, "a file's name", strlen(path));
    if (st) {
        fm_free(f.path);
        fm_free(f.blob);
    }
    return st;
}

static enum fm_status scan_snapshot(void *arg, const char *path, const char *name, struct fm_error *err)
{
    struct scan sc = {.repo = arg, .root = path};
    (void)name;
    return each_entry(path, scan_entry, &sc, err);
}

static enum fm_status scan_blob(void *arg, const char *path, const char *name, struct fm_error *err)
{
    struct fm_cached_repo *r = arg;
    struct stat s;
    (void)err;
    if (!fm_ends_with(name, ".incomplete") || stat(path, &s)) return FM_OK;
    r->partial_bytes += (uint64_t)s.st_blocks * 512;
    return FM_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct fm_cached_file *x = a, *y = b;
    int c = strcmp(x->path, y->path);
    if (c) return c;
    return strcmp(x->blob ? x->blob : "", y->blob ? y->blob : "");
}

/* Mark repeated blobs, add up the rest. */
static void add_up(struct fm_cached_repo *r)
{
    if (r->n_files) qsort(r->files, r->n_files, sizeof *r->files, by_name);
    for (size_t i = 0; i < r->n_files; i++) {
        struct fm_cached_file *f = &r->files[i];
        for (size_t k = 0; k < i && f->blob && !f->shared; k++)
            f->shared = r->files[k].blob && !strcmp(r->files[k].blob, f->blob);
        if (!f->shared) r->bytes += f->size;
        if (f->used > r->used) r->used = f->used;
    }
}

static enum fm_status scan_repo(void *arg, const char *path, const char *name, struct fm_error *err)
{
    struct fm_cache_list *l = arg;
    char repo[FM_HUB_REPO_MAX + 1], inner[PATH_MAX];
    if (!fm_cache_repo(name, repo) || strlen(path) > PATH_MAX - 16) return FM_OK;
    if (!(l->n & (l->n - 1))) {
        size_t cap = l->n ? l->n * 2 : 1;
        struct fm_cached_repo *v = fm_realloc(l->repos, cap * sizeof *v);
        if (!v) return fm_fail_memory(err, "the list of the cache", cap * sizeof *v);
        l->repos = v;
    }
    struct fm_cached_repo *r = &l->repos[l->n++];
    *r = (struct fm_cached_repo){.repo = fm_strdup(repo)};
    if (!r->repo) return fm_fail_memory(err, "a model's name", strlen(repo));
    strcpy(stpcpy(inner, path), "/snapshots");
    FM_TRY(each_entry(inner, scan_snapshot, r, err));
    strcpy(stpcpy(inner, path), "/blobs");
    FM_TRY(each_entry(inner, scan_blob, r, err));
    add_up(r);
    return FM_OK;
}

static int by_repo(const void *a, const void *b)
{
    return strcmp(((const struct fm_cached_repo *)a)->repo, ((const struct fm_cached_repo *)b)->repo);
}

enum fm_status fm_cache_scan(const struct fm_hub *h, struct fm_cache_list *out, struct fm_error *err)
{
    struct fm_cache_list l = {0};
    enum fm_status st = each_entry(h->cache, scan_repo, &l, err);
    if (st)
        fm_cache_list_release(&l);
    else {
        if (l.n) qsort(l.repos, l.n, sizeof *l.repos, by_repo);
        *out = l;
    }
    return st;
}

void fm_cache_list_release(struct fm_cache_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct fm_cached_repo *r = &l->repos[i];
        for (size_t k = 0; k < r->n_files; k++) {
            fm_free(r->files[k].path);
            fm_free(r->files[k].blob);
        }
        fm_free(r->files);
        fm_free(r->repo);
    }
    fm_free(l->repos);
    *l = (struct fm_cache_list){0};
}

/* ---- removing -------------------------------------------------------------------------------------------------- */

static enum fm_status check_lock(void *arg, const char *path, const char *name, struct fm_error *err)
{
    const char *repo = arg;
    (void)name;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return FM_OK;
    bool held = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    close(fd);
    return held ? fm_fail(err, FM_ERR_FAILED, "remove a model: %s: it is being downloaded right now", repo) : FM_OK;
}

struct removal {
    const struct fm_cached_repo *repo;
    bool *gone; /* per file of repo */
    bool dry;
    const char *root;
};

/* Remove the links of a snapshot whose path is marked in rm->gone. */
static enum fm_status remove_links(void *arg, const char *path, const char *name, struct fm_error *err)
{
    struct removal *rm = arg;
    struct stat s;
    (void)name;
    if (lstat(path, &s)) return FM_OK;
    if (S_ISDIR(s.st_mode)) {
        FM_TRY(each_entry(path, remove_links, rm, err));
        (void)rmdir(path); /* stays when something is left */
        return FM_OK;
    }
    const char *file = path + strlen(rm->root) + 1;
    for (size_t i = 0; i < rm->repo->n_files; i++)
        if (rm->gone[i] && !strcmp(rm->repo->files[i].path, file))
            return unlink(path) ? fm_hub_disk(err, "remove a file", path) : FM_OK;
    return FM_OK;
}

static enum fm_status remove_from(void *arg, const char *path, const char *name, struct fm_error *err)
{
    struct removal *rm = arg;
    (void)name;
    rm->root = path;
    FM_TRY(each_entry(path, remove_links, rm, err));
    (void)rmdir(path);
    return FM_OK;
}

/* Nothing but removed files refers to the blob of file i, and no removed file before it has counted it. */
static bool is_last(const struct removal *rm, size_t i)
{
    const struct fm_cached_file *f = rm->repo->files;
    for (size_t k = 0; k < rm->repo->n_files; k++)
        if (k != i && f[k].blob && f[i].blob && !strcmp(f[k].blob, f[i].blob) && (!rm->gone[k] || k < i)) return false;
    return true;
}

static enum fm_status remove_blobs(const char *folder, struct removal *rm, uint64_t *bytes, size_t *n,
                                   struct fm_error *err)
{
    for (size_t i = 0; i < rm->repo->n_files; i++) {
        const struct fm_cached_file *f = &rm->repo->files[i];
        if (!rm->gone[i]) continue;
        (*n)++;
        if (!is_last(rm, i)) continue;
        *bytes += f->size;
        if (rm->dry || !f->blob) continue;
        char *path = fm_hub_text("%s/blobs/%s", folder, f->blob);
        if (!path) return fm_fail_memory(err, "a file's name", strlen(folder));
        enum fm_status st = unlink(path) && errno != ENOENT ? fm_hub_disk(err, "remove a file", path) : FM_OK;
        fm_free(path);
        if (st) return st;
    }
    return FM_OK;
}

/* Mark what the wish names: a path, or a quantisation with all its parts. */
static enum fm_status mark(const struct fm_cached_repo *r, const char *want, bool *gone, struct fm_error *err)
{
    struct fm_hub_listing l = {0};
    struct fm_pick pick = {0};
    enum fm_status st = FM_OK;
    for (size_t i = 0; !st && i < r->n_files; i++)
        if (!i || strcmp(r->files[i].path, r->files[i - 1].path) != 0)
            st = fm_listing_add(&l, r->files[i].path, r->files[i].size, NULL, err);
    if (!st) st = fm_pick_files(&l, r->repo, want, &pick, err);
    if (!st && pick.kind == FM_PICK_FOLDER)
        st = fm_fail(err, FM_ERR_USAGE, "remove a model: %s:%s: name one file, or the whole model without :FILE",
                     r->repo, want);
    for (size_t i = 0; st == FM_ERR_INPUT && i < r->n_files; i++)
        if (!strcmp(r->files[i].path, want)) { /* one part of an incomplete set */
            gone[i] = true;
            st = FM_OK;
        }
    for (size_t i = 0; !st && i < r->n_files; i++)
        for (size_t k = 0; k < pick.n; k++)
            if (!strcmp(pick.files[k]->path, r->files[i].path)) gone[i] = true;
    fm_pick_release(&pick);
    fm_listing_release(&l);
    return st;
}

/* *all: that would be every file, and nothing was done. */
static enum fm_status remove_files(const struct fm_cached_repo *r, const char *folder, const char *want, bool dry,
                                   bool *all, uint64_t *bytes, size_t *n, struct fm_error *err)
{
    struct removal rm = {.repo = r, .dry = dry, .gone = fm_calloc(r->n_files, sizeof *rm.gone)};
    char *snapshots = fm_hub_text("%s/snapshots", folder);
    enum fm_status st;
    *all = false;
    if (!rm.gone || !snapshots) FM_GOTO(fm_fail_memory(err, "the list of files", r->n_files));
    FM_GOTO(mark(r, want, rm.gone, err));
    *all = !memchr(rm.gone, false, r->n_files);
    if (*all) goto out;
    if (!dry) FM_GOTO(each_entry(snapshots, remove_from, &rm, err));
    st = remove_blobs(folder, &rm, bytes, n, err);
out:
    fm_free(rm.gone);
    fm_free(snapshots);
    return st;
}

enum fm_status fm_cache_remove(const struct fm_hub *h, const struct fm_hub_ref *ref, bool dry, uint64_t *bytes,
                               size_t *n_files, struct fm_error *err)
{
    struct fm_cache_list l = {0};
    char name[FM_HUB_REPO_MAX + 16];
    const struct fm_cached_repo *r = NULL;
    fm_hub_folder(ref->repo, name);
    char *folder = fm_hub_text("%s/%s", h->cache, name), *locks = fm_hub_text("%s/.locks/%s", h->cache, name);
    enum fm_status st;
    *bytes = 0;
    *n_files = 0;
    if (!folder || !locks) FM_GOTO(fm_fail_memory(err, "a folder's name", strlen(h->cache)));
    FM_GOTO(fm_cache_scan(h, &l, err));
    for (size_t i = 0; i < l.n; i++)
        if (!strcmp(l.repos[i].repo, ref->repo)) r = &l.repos[i];
    if (!r) {
        st = fm_fail(err, FM_ERR_INPUT, "remove a model: %s: it is not in the cache", ref->repo);
        fm_hint(err, "fathom list shows what is");
        goto out;
    }
    if (!dry) FM_GOTO(each_entry(locks, check_lock, (void *)(uintptr_t)ref->repo, err));
    if (*ref->file) {
        bool all;
        FM_GOTO(remove_files(r, folder, ref->file, dry, &all, bytes, n_files, err));
        if (!all) goto out;
    }
    *bytes = r->bytes + r->partial_bytes;
    *n_files = r->n_files;
    if (dry) goto out;
    FM_GOTO(remove_entry(NULL, folder, name, err));
    st = remove_entry(NULL, locks, name, err);
out:
    fm_cache_list_release(&l);
    fm_free(folder);
    fm_free(locks);
    return st;
}
