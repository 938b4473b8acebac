/* See replace.h. */
#include "file/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

static void hint_full(struct fm_error *err)
{
    fm_hint(err, "the disk is full; the old file, if there was one, is untouched");
}

static enum fm_status disk(const struct fm_replace *r, struct fm_error *err)
{
    int e = errno;
    (void)fm_fail(err, FM_ERR_DISK, "%s: %s: %s", r->what, r->path, strerror(e));
    if (e == ENOSPC || e == EDQUOT) hint_full(err);
    return FM_ERR_DISK;
}

static void release(struct fm_replace *r)
{
    fm_free(r->path);
    fm_free(r->tmp);
    *r = (struct fm_replace){.fd = -1};
}

static enum fm_status make_names(struct fm_replace *r, const char *path, struct fm_error *err)
{
    size_t n = strlen(path) + 32;
    r->path = fm_strdup(path);
    r->tmp = fm_malloc(n);
    if (!r->path || !r->tmp) return fm_fail_memory(err, "file name", n);
    snprintf(r->tmp, n, "%s.tmp-%ld", path, (long)getpid());
    return FM_OK;
}

/* Exclusive creation never follows a link that somebody planted; a leftover of a dead process with our id goes. */
static enum fm_status make_file(struct fm_replace *r, struct fm_error *err)
{
    struct stat s;
    bool old = stat(r->path, &s) == 0;
    if (old && !S_ISREG(s.st_mode))
        return fm_fail(err, FM_ERR_USAGE, "%s: %s: is not a regular file and will not be replaced", r->what, r->path);
    (void)unlink(r->tmp);
    r->fd = open(r->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (r->fd < 0) return disk(r, err);
    if (old) (void)fchmod(r->fd, s.st_mode & 0777);
    return FM_OK;
}

enum fm_status fm_replace_open(struct fm_replace *r, const char *what, const char *path, struct fm_error *err)
{
    *r = (struct fm_replace){.what = what, .fd = -1};
    enum fm_status st = make_names(r, path, err);
    if (!st) st = make_file(r, err);
    if (st) release(r);
    return st;
}

/* Of the file system of the nearest folder above path that exists. */
static bool free_bytes(const char *path, uint64_t *n)
{
    struct statvfs s;
    char *at = fm_strdup(path);
    int rc = at ? statvfs(at, &s) : 0;
    while (at && rc) {
        char *slash = strrchr(at, '/');
        const bool top = !slash || slash == at;
        if (slash) *slash = 0;
        rc = statvfs(!slash ? "." : slash == at ? "/" : at, &s);
        if (top) break;
    }
    const bool known = at && !rc;
    fm_free(at);
    if (known) *n = (uint64_t)s.f_bavail * s.f_frsize;
    return known;
}

enum fm_status fm_disk_room(const char *what, const char *path, uint64_t n, struct fm_error *err)
{
    uint64_t have;
    if (!free_bytes(path, &have) || have >= n) return FM_OK;
    (void)fm_fail(err, FM_ERR_DISK, "%s: %s: %llu bytes are needed, the disk has %llu left", what, path,
                  (unsigned long long)n, (unsigned long long)have);
    hint_full(err);
    return FM_ERR_DISK;
}

enum fm_status fm_replace_reserve(struct fm_replace *r, uint64_t n, struct fm_error *err)
{
    if (n > INT64_MAX) return fm_fail(err, FM_ERR_DISK, "%s: %s: the file would be too large", r->what, r->path);
    FM_TRY(fm_disk_room(r->what, r->path, n, err));
    int rc;
    do rc = n ? fallocate(r->fd, 0, 0, (off_t)n) : 0;
    while (rc && errno == EINTR);
    return rc && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) ? disk(r, err) : FM_OK;
}

/* Let the disk begin with what has come, so that the sync at the end is short; only a hint. */
static void start_disk(struct fm_replace *r)
{
    enum { STEP = 8 << 20 };
    if (r->written - r->started < STEP) return;
    (void)sync_file_range(r->fd, (off_t)r->started, (off_t)(r->written - r->started), SYNC_FILE_RANGE_WRITE);
    r->started = r->written;
}

enum fm_status fm_replace_write(struct fm_replace *r, const void *data, uint64_t n, struct fm_error *err)
{
    const char *p = data;
    while (n) {
        ssize_t k = write(r->fd, p, n > (1u << 30) ? 1u << 30 : (size_t)n);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return disk(r, err);
        p += k;
        n -= (uint64_t)k;
        r->written += (uint64_t)k;
    }
    start_disk(r);
    return FM_OK;
}

/* The rename is only safe on disk once its folder is.  Folders that cannot be opened for reading and file systems
 * without such a sync (EINVAL) are no failure: the file itself is in place. */
static enum fm_status sync_folder(const struct fm_replace *r, struct fm_error *err)
{
    char *slash = strrchr(r->tmp, '/');
    if (slash) slash[slash == r->tmp] = 0;
    int fd = open(slash ? r->tmp : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return FM_OK;
    enum fm_status st = fsync(fd) && errno != EINVAL ? disk(r, err) : FM_OK;
    close(fd);
    return st;
}

enum fm_status fm_replace_commit(struct fm_replace *r, struct fm_error *err)
{
    enum fm_status st = fsync(r->fd) ? disk(r, err) : FM_OK;
    if (close(r->fd) && !st) st = disk(r, err);
    r->fd = -1;
    if (!st && rename(r->tmp, r->path)) st = disk(r, err);
    if (st)
        fm_replace_abort(r);
    else {
        st = sync_folder(r, err);
        release(r);
    }
    return st;
}

void fm_replace_abort(struct fm_replace *r)
{
    if (r->fd >= 0) close(r->fd);
    if (r->tmp) (void)unlink(r->tmp);
    release(r);
}
