/* Downloading a model: the list of files, which of them, room for them, then one after the other.
 *
 *   tree/REV ─▶ pick ─▶ HEAD of the first: the commit ─▶ tree/COMMIT ─▶ pick ─▶ for each file: lock, fetch, link ─▶ refs
 *
 * The list is read a second time by commit, so that a repository that changes meanwhile never gives a mixture. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "hub/fetch.h"
#include "hub/hash.h"
#include "hub/hub_impl.h"
#include "hub/partial.h"

/* Eight hex digits that stand for us in the name of a partial file: always the same, so that it is found again. */
#define PARTIAL "fa7403e0"
enum { PAGES_MAX = 1000, PAGE_BYTES = 32 << 20, INDEX_BYTES = 64 << 20 };

struct pull {
    const struct fm_hub *h;
    const struct fm_hub_ref *ref;
    const struct fm_pull_options *o;
    const struct fm_hub_progress *pr;
    struct fm_http http;
    const char *rev;
    char commit[41];
    char folder[FM_HUB_REPO_MAX + 16];
    struct fm_hub_listing listing;
    struct fm_pick pick;
    uint64_t all, base, old; /* bytes of the plan, of the files before the one at work, of what was there already */
};

/* ---- names on disk --------------------------------------------------------------------------------------------- */

/* Where the bytes of a file end up, on the heap. */
static char *target_path(const struct pull *p, const char *file, const char *blob)
{
    if (p->o->dir) return fm_hub_text("%s/%s", p->o->dir, file);
    return fm_hub_text("%s/%s/blobs/%s", p->h->cache, p->folder, blob);
}

static char *partial_path(const struct pull *p, const char *target)
{
    return fm_hub_text(p->o->dir ? "%s.incomplete" : "%s." PARTIAL ".incomplete", target);
}

/* ---- the list of files ----------------------------------------------------------------------------------------- */

static enum fm_status read_page(struct pull *p, const char *rev, struct fm_buf *url, struct fm_error *err)
{
    struct fm_http_reply r = {0};
    enum fm_status st = fm_http_ask(&p->http, url->data, false, PAGE_BYTES, &r, err);
    if (!st && (r.status < 200 || r.status > 299)) st = fm_http_refused(p->h, p->ref->repo, rev, NULL, &r, err);
    if (!st) st = fm_listing_parse(&p->listing, r.body.data, r.body.len, p->ref->repo, err);
    fm_buf_clear(url);
    if (!st && r.link.data) (void)fm_link_next(r.link.data, url);
    fm_http_reply_release(&r);
    return st;
}

static enum fm_status read_listing(struct pull *p, const char *rev, struct fm_error *err)
{
    struct fm_buf url = {0};
    enum fm_status st = FM_OK;
    fm_listing_release(&p->listing);
    fm_buf_printf(&url, "%s/api/models/%s/tree/", p->h->endpoint, p->ref->repo);
    fm_url_escape(&url, rev, 0);
    fm_buf_str(&url, "?recursive=true");
    for (int i = 0; !st && (url.len || url.failed) && i < PAGES_MAX; i++) {
        if (url.failed)
            st = fm_fail_memory(err, "an address", url.len);
        else if (!fm_url_ok(url.data) || !fm_url_same_origin(url.data, p->h->endpoint))
            st = fm_fail(err, FM_ERR_FAILED, "read the list of files: %s: its next page is on another server",
                         p->ref->repo);
        else
            st = read_page(p, rev, &url, err);
    }
    fm_buf_release(&url);
    fm_listing_sort(&p->listing);
    for (size_t i = 1; !st && i < p->listing.n; i++)
        if (!strcmp(p->listing.files[i - 1].path, p->listing.files[i].path))
            st = fm_fail(err, FM_ERR_INPUT, "read the list of files: %s: %.200s is in it twice", p->ref->repo,
                         p->listing.files[i].path);
    return st;
}

static struct fm_fetch fetch_of(struct pull *p, const struct fm_hub_file *f)
{
    return (struct fm_fetch){.http = &p->http,
                             .repo = p->ref->repo,
                             .rev = p->commit[0] ? p->commit : p->rev,
                             .file = f->path,
                             .connections = p->o->connections,
                             .old = &p->old,
                             .base = p->base,
                             .all = p->all};
}

static enum fm_status choose(struct pull *p, const char *rev, struct fm_error *err)
{
    fm_pick_release(&p->pick);
    FM_TRY(read_listing(p, rev, err));
    return fm_pick_files(&p->listing, p->ref->repo, p->ref->file, &p->pick, err);
}

/* From a branch or tag to the commit it stands for, and the files of that commit. */
static enum fm_status find_files(struct pull *p, struct fm_error *err)
{
    struct fm_file_meta m = {.location = NULL};
    FM_TRY(choose(p, p->rev, err));
    if (fm_hub_is_hex(p->rev, 40)) {
        strcpy(p->commit, p->rev);
        return FM_OK;
    }
    struct fm_fetch f = fetch_of(p, p->pick.files[0]);
    FM_TRY(fm_fetch_meta(&f, p->pick.files[0]->oid, p->pick.files[0]->size, &m, err));
    fm_free(m.location);
    strcpy(p->commit, m.commit);
    if (p->commit[0]) return choose(p, p->commit, err);
    if (p->o->dir) return FM_OK;
    (void)fm_fail(err, FM_ERR_FAILED, "download a model: %s: the server does not say which commit it sends",
                  p->ref->repo);
    fm_hint(err, "--dir FOLDER downloads without the cache, which needs to know");
    return FM_ERR_FAILED;
}

/* ---- room ------------------------------------------------------------------------------------------------------ */

static enum fm_status add_file_size(struct pull *p, const struct fm_hub_file *f, uint64_t *have, struct fm_error *err)
{
    struct stat s;
    char *target = target_path(p, f->path, f->oid), *partial = target ? partial_path(p, target) : NULL;
    enum fm_status st = partial ? FM_OK : fm_fail_memory(err, "a file's name", strlen(f->path));
    p->all += f->size;
    if (!st && stat(target, &s) == 0 && S_ISREG(s.st_mode) && (uint64_t)s.st_size == f->size)
        *have += f->size;
    else if (!st)
        *have += fm_partial_peek(partial, f->oid, f->size);
    fm_free(target);
    fm_free(partial);
    return st;
}

static enum fm_status check_room(struct pull *p, struct fm_error *err)
{
    const char *root = p->o->dir ? p->o->dir : p->h->cache;
    struct statvfs v;
    uint64_t have = 0;
    p->all = 0;
    for (size_t i = 0; i < p->pick.n; i++) FM_TRY(add_file_size(p, p->pick.files[i], &have, err));
    if (statvfs(root, &v)) return fm_hub_disk(err, "look for room", root);
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize, need = p->all > have ? p->all - have : 0;
    if (need <= room) return FM_OK;
    (void)fm_fail(err, FM_ERR_DISK, "download a model: %.200s: %.1f MB are needed, %.1f MB are free", root,
                  (double)need * 1e-6, (double)room * 1e-6);
    fm_hint(err, "HF_HUB_CACHE puts the cache on another disk; fathom rm removes a model");
    return FM_ERR_DISK;
}

/* ---- one file -------------------------------------------------------------------------------------------------- */

/* Wait for the lock of a blob, or of the folder: the same locks as huggingface_hub's.  *fd stays open while it is held. */
static enum fm_status take_lock(struct pull *p, const char *blob, int *fd, struct fm_error *err)
{
    char *path = p->o->dir ? fm_strdup(p->o->dir) : fm_hub_text("%s/.locks/%s/%s.lock", p->h->cache, p->folder, blob);
    enum fm_status st = path ? FM_OK : fm_fail_memory(err, "a file's name", strlen(blob));
    if (!st && !p->o->dir) st = fm_make_folders(path, false, err);
    if (!st) {
        *fd = open(path, p->o->dir ? O_RDONLY | O_DIRECTORY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0664);
        if (*fd < 0) st = fm_hub_disk(err, "lock a download", path);
    }
    for (bool told = false; !st && flock(*fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK; told = true) {
        if (!told) p->pr->note(p->pr->arg, "another process is downloading this file: waiting");
        st = fm_http_sleep(&p->http, 0.2);
    }
    fm_free(path);
    return st;
}

/* In a plain folder anybody may have written: compare the hash, not only the size. */
static bool same_bytes(const char *path, const char *blob, uint64_t size)
{
    struct fm_error none;
    struct fm_hash hash = {NULL};
    char text[65] = "", chunk[1 << 16];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && !fm_hash_init(&hash, blob, size, &none) && hash.ctx;
    for (ssize_t n = 1; ok && n > 0;) {
        n = read(fd, chunk, sizeof chunk);
        ok = n >= 0 && fm_hash_add(&hash, chunk, (size_t)n);
    }
    ok = ok && fm_hash_text(&hash, text) && !strcmp(text, blob);
    fm_hash_release(&hash);
    if (fd >= 0) close(fd);
    return ok;
}

static bool is_there(const struct pull *p, const char *target, const char *blob, uint64_t size)
{
    struct stat s;
    if (!*blob || stat(target, &s) || !S_ISREG(s.st_mode) || (uint64_t)s.st_size != size) return false;
    return !p->o->dir || same_bytes(target, blob, size);
}

static enum fm_status fetch_missing(struct pull *p, const struct fm_hub_file *f, char blob[129], struct fm_error *err)
{
    struct fm_file_meta m = {.location = NULL};
    struct fm_fetch job = fetch_of(p, f);
    char *target = NULL, *partial = NULL;
    int lock = -1;
    enum fm_status st;
    FM_GOTO(fm_fetch_meta(&job, f->oid, f->size, &m, err));
    if (!m.blob[0] && p->o->dir) strcpy(m.blob, "unnamed");
    if (!m.blob[0])
        FM_GOTO(fm_fail(err, FM_ERR_FAILED, "download a file: %s: the server gives its bytes no name (ETag)", f->path));
    strcpy(blob, m.blob);
    target = target_path(p, f->path, blob);
    partial = target ? partial_path(p, target) : NULL;
    if (!partial) FM_GOTO(fm_fail_memory(err, "a file's name", strlen(f->path)));
    FM_GOTO(take_lock(p, blob, &lock, err));
    if (is_there(p, target, blob, m.size)) goto out; /* whom we waited for has made it */
    FM_GOTO(fm_make_folders(target, false, err));
    st = fm_fetch_file(&job, &m, partial, target, err);
out:
    if (lock >= 0) close(lock);
    fm_free(m.location);
    fm_free(target);
    fm_free(partial);
    return st;
}

static enum fm_status get_file(struct pull *p, const struct fm_hub_file *f, struct fm_error *err)
{
    char blob[129];
    strcpy(blob, f->oid);
    char *target = target_path(p, f->path, blob);
    if (!target) return fm_fail_memory(err, "a file's name", strlen(f->path));
    enum fm_status st = FM_OK;
    if (is_there(p, target, blob, f->size))
        p->old += f->size;
    else
        st = fetch_missing(p, f, blob, err);
    fm_free(target);
    if (!st && !p->o->dir) st = fm_cache_link(p->h, p->ref->repo, p->commit, f->path, blob, err);
    p->base += f->size;
    if (!st) p->pr->at(p->pr->arg, "pull", f->path, p->old, p->base, p->all);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static enum fm_status get_files(struct pull *p, struct fm_error *err)
{
    enum fm_status st = check_room(p, err);
    p->base = p->old = 0;
    for (size_t i = 0; !st && i < p->pick.n; i++)
        st = *p->pr->stop ? FM_ERR_CANCELLED : get_file(p, p->pick.files[i], err);
    return st;
}

static char *local_path(const struct pull *p, const char *file)
{
    const char *slash = file ? "/" : "";
    if (!file) file = "";
    if (p->o->dir) return fm_hub_text("%s%s%s", p->o->dir, slash, file);
    return fm_hub_text("%s/%s/snapshots/%s%s%s", p->h->cache, p->folder, p->commit, slash, file);
}

static enum fm_status add_shards(struct pull *p, struct fm_error *err)
{
    struct fm_buf b = {0};
    char *path = local_path(p, p->pick.index->path);
    if (!path) return fm_fail_memory(err, "a file's name", 64);
    enum fm_status st = fm_buf_read_file(&b, path, INDEX_BYTES, err);
    if (!st) st = fm_pick_shards(&p->listing, b.data, b.len, &p->pick, err);
    fm_buf_release(&b);
    fm_free(path);
    return st;
}

static enum fm_status make_root(const char *path, struct fm_error *err)
{
    char *copy = fm_strdup(path);
    if (!copy) return fm_fail_memory(err, "a folder's name", strlen(path));
    enum fm_status st = fm_make_folders(copy, true, err);
    fm_free(copy);
    return st;
}

static enum fm_status pull(struct pull *p, char **path, struct fm_error *err)
{
    FM_TRY(find_files(p, err));
    FM_TRY(make_root(p->o->dir ? p->o->dir : p->h->cache, err));
    FM_TRY(get_files(p, err));
    if (p->pick.index) {
        FM_TRY(add_shards(p, err));
        FM_TRY(get_files(p, err));
    }
    if (!p->o->dir) FM_TRY(fm_cache_write_ref(p->h, p->ref->repo, p->rev, p->commit, err));
    char *s = local_path(p, p->pick.kind == FM_PICK_FOLDER ? NULL : p->pick.files[0]->path);
    if (!s) return fm_fail_memory(err, "a file's name", 64);
    *path = s;
    return FM_OK;
}

static enum fm_status pull_offline(const struct fm_hub *h, const struct fm_hub_ref *ref,
                                   const struct fm_pull_options *o, char **path, struct fm_error *err)
{
    if (!o->dir && !fm_cache_find(h, ref, o->rev, path, err)) return FM_OK;
    if (!o->dir && err && err->code != FM_ERR_INPUT) return err->code;
    (void)fm_fail(err, FM_ERR_INPUT, "download a model: %s: HF_HUB_OFFLINE is set, and %s", ref->repo,
                  o->dir ? "--dir needs the network" : "it is not in the cache, or not all of it");
    return FM_ERR_INPUT;
}

enum fm_status fm_hub_pull(const struct fm_hub *h, const struct fm_hub_ref *ref, const struct fm_pull_options *o,
                           const struct fm_hub_progress *pr, char **path, struct fm_error *err)
{
    struct pull p = {.h = h, .ref = ref, .o = o, .pr = pr, .rev = o->rev ? o->rev : "main"};
    if (!fm_hub_rev_ok(p.rev))
        return fm_fail(err, FM_ERR_USAGE, "read options: --rev: '%.80s' is no branch, tag or commit", p.rev);
    if (h->offline) return pull_offline(h, ref, o, path, err);
    fm_hub_folder(ref->repo, p.folder);
    FM_TRY(fm_http_open(&p.http, h, pr, err));
    enum fm_status st = pull(&p, path, err);
    fm_pick_release(&p.pick);
    fm_listing_release(&p.listing);
    fm_http_close(&p.http);
    return st;
}
