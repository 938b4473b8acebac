/* The cache on disk, in the layout that huggingface_hub and llama.cpp share:
 *
 *   models--ORG--REPO/refs/main                     "<commit>"
 *   models--ORG--REPO/blobs/<sha256 or git hash>    the bytes
 *   models--ORG--REPO/snapshots/<commit>/PATH       → ../../blobs/<hash>
 *   .locks/models--ORG--REPO/<hash>.lock            held (flock) while that blob is made
 *
 * A name in blobs/ that ends in .incomplete is a download that has not ended. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "hub/hub_impl.h"

enum { DEPTH_MAX = 16 }; /* folders below a snapshot */

enum fm_status fm_hub_disk(struct fm_error *err, const char *what, const char *path)
{
    int e = errno;
    (void)fm_fail(err, FM_ERR_DISK, "%s: %.300s: %s", what, path, strerror(e));
    if (e == ENOSPC || e == EDQUOT || e == EFBIG) fm_hint(err, "what came so far is kept: make room and pull again");
    return FM_ERR_DISK;
}

void fm_hub_folder(const char *repo, char out[FM_HUB_REPO_MAX + 16])
{
    const char *slash = strchr(repo, '/');
    if (slash)
        snprintf(out, FM_HUB_REPO_MAX + 16, "models--%.*s--%s", (int)(slash - repo), repo, slash + 1);
    else
        snprintf(out, FM_HUB_REPO_MAX + 16, "models--%s", repo);
}

bool fm_cache_repo(const char *folder, char out[FM_HUB_REPO_MAX + 1])
{
    if (strncmp(folder, "models--", 8) != 0) return false;
    const char *org = folder + 8, *split = strstr(org, "--");
    size_t n = strlen(org);
    if (!n || n - (split != NULL) > FM_HUB_REPO_MAX || strchr(org, '/')) return false;
    size_t k = split ? (size_t)(split - org) : n; /* without "--": from the time before organisations */
    memcpy(out, org, k);
    out[k] = 0;
    if (split) strcpy(stpcpy(out + k, "/"), split + 2);
    return true;
}

enum fm_status fm_make_folders(char *path, bool last, struct fm_error *err)
{
    for (char *s = path + 1; *s; s++) {
        if (*s != '/') continue;
        *s = 0;
        int rc = mkdir(path, 0777);
        if (rc && errno != EEXIST) {
            enum fm_status st = fm_hub_disk(err, "make a folder", path);
            *s = '/';
            return st;
        }
        *s = '/';
    }
    return last && mkdir(path, 0777) && errno != EEXIST ? fm_hub_disk(err, "make a folder", path) : FM_OK;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

enum fm_status fm_cache_link(const struct fm_hub *h, const char *repo, const char *commit, const char *path,
                             const char *blob, struct fm_error *err)
{
    char folder[FM_HUB_REPO_MAX + 16];
    struct fm_buf up = {0};
    fm_hub_folder(repo, folder);
    char *link = fm_hub_text("%s/%s/snapshots/%s/%s", h->cache, folder, commit, path);
    fm_buf_str(&up, "../../");
    for (const char *s = path; *s; s++)
        if (*s == '/') fm_buf_str(&up, "../");
    fm_buf_printf(&up, "blobs/%s", blob);
    char *tmp = link ? fm_hub_text("%s.%ld.tmp", link, (long)getpid()) : NULL;
    enum fm_status st = !tmp || up.failed ? fm_fail_memory(err, "a link's name", strlen(path)) : FM_OK;
    if (!st) st = fm_make_folders(link, false, err);
    if (!st) {
        (void)unlink(tmp);
        if (symlink(up.data, tmp) || rename(tmp, link)) st = fm_hub_disk(err, "write the cache", link);
        if (st) (void)unlink(tmp);
    }
    fm_buf_release(&up);
    fm_free(tmp);
    fm_free(link);
    return st;
}

static enum fm_status write_small(const char *path, const char *text, struct fm_error *err)
{
    char *tmp = fm_hub_text("%s.%ld.tmp", path, (long)getpid());
    if (!tmp) return fm_fail_memory(err, "a file's name", strlen(path));
    enum fm_status st = FM_OK;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    size_t n = strlen(text);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n || fsync(fd)) st = fm_hub_disk(err, "write the cache", path);
    if (fd >= 0) close(fd);
    if (!st && rename(tmp, path)) st = fm_hub_disk(err, "write the cache", path);
    if (st) (void)unlink(tmp);
    fm_free(tmp);
    return st;
}

enum fm_status fm_cache_write_ref(const struct fm_hub *h, const char *repo, const char *rev, const char *commit,
                                  struct fm_error *err)
{
    char folder[FM_HUB_REPO_MAX + 16];
    if (!strcmp(rev, commit)) return FM_OK; /* a commit has no ref */
    fm_hub_folder(repo, folder);
    char *path = fm_hub_text("%s/%s/refs/%s", h->cache, folder, rev);
    if (!path) return fm_fail_memory(err, "a file's name", strlen(rev));
    enum fm_status st = fm_make_folders(path, false, err);
    if (!st) st = write_small(path, commit, err);
    fm_free(path);
    return st;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static enum fm_status walk(const char *root, const char *below, int depth, struct fm_hub_listing *out,
                           struct fm_error *err)
{
    char *folder = fm_hub_text("%s%s%s", root, *below ? "/" : "", below);
    if (!folder) return fm_fail_memory(err, "a folder's name", strlen(below));
    DIR *d = opendir(folder);
    fm_free(folder);
    if (!d || depth > DEPTH_MAX) {
        if (d) closedir(d);
        return FM_OK; /* not there, or not for us */
    }
    enum fm_status st = FM_OK;
    for (struct dirent *e; !st && (e = readdir(d));) {
        struct stat s;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *path = fm_hub_text("%s%s%s", below, *below ? "/" : "", e->d_name);
        if (!path) {
            st = fm_fail_memory(err, "a file's name", strlen(below));
            break;
        }
        bool there = fstatat(dirfd(d), e->d_name, &s, 0) == 0;
        if (there && S_ISDIR(s.st_mode))
            st = walk(root, path, depth + 1, out, err);
        else if (there && S_ISREG(s.st_mode))
            st = fm_listing_add(out, path, (uint64_t)s.st_size, NULL, err);
        fm_free(path);
    }
    closedir(d);
    return st;
}

enum fm_status fm_cache_walk(const char *snapshot, struct fm_hub_listing *out, struct fm_error *err)
{
    enum fm_status st = walk(snapshot, "", 0, out, err);
    fm_listing_sort(out);
    return st;
}

/* The commit that refs/REV holds, or REV itself; empty when there is none. */
static enum fm_status read_ref(const char *repo_folder, const char *rev, char commit[41], struct fm_error *err)
{
    struct fm_buf b = {0};
    struct fm_error why;
    commit[0] = 0;
    if (fm_hub_is_hex(rev, 40)) {
        memcpy(commit, rev, 41);
        return FM_OK;
    }
    char *path = fm_hub_text("%s/refs/%s", repo_folder, rev);
    enum fm_status st = path ? fm_buf_read_file(&b, path, 256, &why) : FM_ERR_MEMORY;
    if (!st && b.data) {
        b.data[strcspn(b.data, " \r\n")] = 0;
        if (fm_hub_is_hex(b.data, 40)) memcpy(commit, b.data, 41);
    }
    fm_buf_release(&b);
    fm_free(path);
    return st == FM_ERR_MEMORY ? fm_fail_memory(err, "a file's name", strlen(repo_folder)) : FM_OK;
}

static enum fm_status not_cached(const struct fm_hub_ref *ref, const char *why, struct fm_error *err)
{
    const char *colon = *ref->file ? ":" : "";
    (void)fm_fail(err, FM_ERR_INPUT, "find a model in the cache: %s%s%.200s: %s", ref->repo, colon, ref->file, why);
    fm_hint(err, "fathom pull %s%s%.150s", ref->repo, colon, ref->file);
    return FM_ERR_INPUT;
}

/* All shards that a snapshot's index names are there. */
static enum fm_status check_shards(const struct fm_hub_listing *l, const char *snapshot, struct fm_pick *pick,
                                   struct fm_error *err)
{
    char *path = fm_hub_text("%s/%s", snapshot, pick->index->path);
    struct fm_buf b = {0};
    if (!path) return fm_fail_memory(err, "a file's name", strlen(snapshot));
    enum fm_status st = fm_buf_read_file(&b, path, 64 << 20, err);
    if (!st) st = fm_pick_shards(l, b.data, b.len, pick, err);
    fm_buf_release(&b);
    fm_free(path);
    return st;
}

static enum fm_status find_in(const char *snapshot, const struct fm_hub_ref *ref, char **path, struct fm_error *err)
{
    struct fm_hub_listing l = {0};
    struct fm_pick pick = {0};
    struct fm_error why = {0};
    enum fm_status st = fm_cache_walk(snapshot, &l, err);
    if (st) goto out;
    st = fm_pick_files(&l, ref->repo, ref->file, &pick, &why);
    if (!st && pick.index) st = check_shards(&l, snapshot, &pick, &why);
    if (st == FM_ERR_USAGE) { /* several of them: which one is the user's choice */
        if (err) *err = why;
        goto out;
    }
    if (st) {
        st = st == FM_ERR_MEMORY ? fm_fail_memory(err, "the choice of files", 0)
                                 : not_cached(ref, "it is not there, or not all of it", err);
        goto out;
    }
    *path =
        pick.kind == FM_PICK_FOLDER ? fm_hub_text("%s", snapshot) : fm_hub_text("%s/%s", snapshot, pick.files[0]->path);
    if (!*path) st = fm_fail_memory(err, "a file's name", strlen(snapshot));
out:
    fm_pick_release(&pick);
    fm_listing_release(&l);
    return st;
}

enum fm_status fm_cache_find(const struct fm_hub *h, const struct fm_hub_ref *ref, const char *rev, char **path,
                             struct fm_error *err)
{
    char folder[FM_HUB_REPO_MAX + 16], commit[41];
    fm_hub_folder(ref->repo, folder);
    char *repo = fm_hub_text("%s/%s", h->cache, folder);
    if (!repo) return fm_fail_memory(err, "a folder's name", strlen(h->cache));
    enum fm_status st = read_ref(repo, rev ? rev : "main", commit, err);
    if (!st && !commit[0]) {
        st = not_cached(ref, "it is not there", err);
    } else if (!st) {
        char *snapshot = fm_hub_text("%s/snapshots/%s", repo, commit);
        st = snapshot ? find_in(snapshot, ref, path, err) : fm_fail_memory(err, "a folder's name", strlen(repo));
        fm_free(snapshot);
    }
    fm_free(repo);
    return st;
}
