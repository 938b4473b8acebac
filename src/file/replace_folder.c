/* See replace_folder.h. */
#include "file/replace_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

static const char WHAT[] = "write model folder";

static enum fm_status disk(const char *path, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_DISK, "%s: %s: %s", WHAT, path, strerror(errno));
}

/* Calls fn(arg, name) for every entry but . and .. until it says false. */
static void each_entry(const char *folder, bool (*fn)(void *arg, const char *name), void *arg)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && !fn(arg, e->d_name)) break;
    if (d) closedir(d);
}

struct move {
    const struct fm_replace_folder *r;
    enum fm_status status;
    struct fm_error *err;
    bool weights; /* this round: the safetensors files, or all others */
};

static bool join(struct fm_buf *b, const char *folder, const char *name)
{
    fm_buf_clear(b);
    fm_buf_printf(b, "%s/%s", folder, name);
    return !b->failed;
}

static bool remove_entry(void *arg, const char *name)
{
    struct fm_buf path = {0};
    if (join(&path, ((struct fm_replace_folder *)arg)->tmp, name)) (void)unlink(path.data);
    fm_buf_release(&path);
    return true;
}

static bool is_something(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = true;
    return false;
}

static void release(struct fm_replace_folder *r)
{
    fm_free(r->path);
    fm_free(r->tmp);
    *r = (struct fm_replace_folder){0};
}

void fm_replace_folder_abort(struct fm_replace_folder *r)
{
    if (r->tmp) {
        each_entry(r->tmp, remove_entry, r);
        (void)rmdir(r->tmp);
    }
    release(r);
}

/* What may be replaced. */
static enum fm_status check_old(const char *path, struct fm_error *err)
{
    struct stat s;
    struct fm_buf config = {0};
    bool full = false;
    if (stat(path, &s)) return errno == ENOENT ? FM_OK : disk(path, err);
    if (!S_ISDIR(s.st_mode))
        return fm_fail(err, FM_ERR_USAGE, "%s: %s: is a file and will not be replaced", WHAT, path);
    each_entry(path, is_something, &full);
    const bool model = join(&config, path, "config.json") && !stat(config.data, &s);
    fm_buf_release(&config);
    return !full || model
               ? FM_OK
               : fm_fail(err, FM_ERR_USAGE, "%s: %s: is a folder of something else than a model", WHAT, path);
}

enum fm_status fm_replace_folder_open(struct fm_replace_folder *r, const char *path, struct fm_error *err)
{
    size_t n = strlen(path);
    *r = (struct fm_replace_folder){0};
    FM_TRY(check_old(path, err));
    while (n > 1 && path[n - 1] == '/') n--;
    r->path = fm_malloc(n + 1);
    r->tmp = fm_malloc(n + 32);
    if (!r->path || !r->tmp) {
        release(r);
        return fm_fail_memory(err, "path", n);
    }
    memcpy(r->path, path, n);
    r->path[n] = 0;
    snprintf(r->tmp, n + 32, "%s.tmp-%ld", r->path, (long)getpid());
    each_entry(r->tmp, remove_entry, r); /* a leftover of a dead process with our id */
    (void)rmdir(r->tmp);
    if (!mkdir(r->tmp, 0777)) return FM_OK;
    enum fm_status st = disk(path, err);
    release(r);
    return st;
}

static bool move_entry(void *arg, const char *name)
{
    struct move *m = arg;
    struct fm_buf from = {0}, to = {0};
    if (fm_ends_with(name, ".safetensors") == m->weights) {
        if (!join(&from, m->r->tmp, name) || !join(&to, m->r->path, name))
            m->status = fm_fail_memory(m->err, "path", strlen(name));
        else if (rename(from.data, to.data))
            m->status = disk(to.data, m->err);
    }
    fm_buf_release(&from);
    fm_buf_release(&to);
    return !m->status;
}

/* A weight file or index of the older model that the new one has not. */
static bool drop_stale(void *arg, const char *name)
{
    const struct fm_replace_folder *r = arg;
    struct fm_buf fresh = {0}, old = {0};
    struct stat s;
    const bool weights = !strncmp(name, "model", 5) &&
                         (fm_ends_with(name, ".safetensors") || fm_ends_with(name, ".safetensors.index.json"));
    if (weights && join(&fresh, r->tmp, name) && join(&old, r->path, name) && stat(fresh.data, &s))
        (void)unlink(old.data);
    fm_buf_release(&fresh);
    fm_buf_release(&old);
    return true;
}

static void sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

enum fm_status fm_replace_folder_commit(struct fm_replace_folder *r, struct fm_error *err)
{
    struct move m = {.r = r, .err = err};
    sync_path(r->tmp);
    if (rename(r->tmp, r->path)) {
        if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
            m.status = disk(r->path, err);
        else {
            each_entry(r->path, drop_stale, r);
            each_entry(r->tmp, move_entry, &m);
            m.weights = true;
            if (!m.status) each_entry(r->tmp, move_entry, &m);
        }
    }
    if (!m.status) sync_path(r->path);
    fm_replace_folder_abort(r);
    return m.status;
}
