/* See kvdir.h.
 *
 *   tmp-<16 hex digits> ── locked ── head, body ── rename → <key>.kv2
 *
 * There is no fsync: a file that a crash of the machine left half written has wrong checksums, and is dropped.  A writer
 * holds a lock on its file, so whoever gets the lock of a tmp- file knows that its writer is dead. */
#include "run/kvdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum { LISTED_MAX = 1 << 22, DIGITS = 2 * FM_SHA256_BYTES };

enum fm_status fm_kvdir_open(const char *path, int *dir, struct fm_error *err)
{
    if (mkdir(path, 0700) && errno != EEXIST)
        return fm_fail(err, FM_ERR_USAGE, "open the cache: %s: %s", path, strerror(errno));
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || faccessat(fd, ".", W_OK | X_OK, 0)) {
        (void)fm_fail(err, FM_ERR_USAGE, "open the cache: %s: %s", path, strerror(errno));
        if (fd >= 0) close(fd);
        return FM_ERR_USAGE;
    }
    *dir = fd;
    return FM_OK;
}

/* ---- names ---- */

void fm_kvdir_name(const uint8_t *key, char name[FM_KVNAME])
{
    for (int i = 0; i < FM_SHA256_BYTES; i++) (void)snprintf(name + 2 * i, 3, "%02x", key[i]);
    (void)snprintf(name + DIGITS, 8, ".kv%d", FM_KVFILE_VERSION);
}

static int digit(char c)
{
    const char *at = c ? strchr("0123456789abcdef", c) : NULL;
    return at ? (int)(at - "0123456789abcdef") : -1;
}

/* The version of a file with a name of ours, else 0. */
static long named_version(const char *name, uint8_t *key)
{
    for (int i = 0; i < FM_SHA256_BYTES; i++) {
        const int a = digit(name[2 * i]), b = a < 0 ? -1 : digit(name[2 * i + 1]);
        if (b < 0) return 0;
        key[i] = (uint8_t)(a << 4 | b);
    }
    char *end;
    const char *tail = name + DIGITS;
    if (strncmp(tail, ".kv", 3) != 0 || tail[3] < '1' || tail[3] > '9') return 0;
    const long version = strtol(tail + 3, &end, 10);
    return *end ? 0 : version;
}

/* ---- listing ---- */

static void sweep_tmp(int dir, const char *name)
{
    const int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    if (!flock(fd, LOCK_EX | LOCK_NB) && !unlinkat(dir, name, 0))
        fm_log(FM_LOG_INFO, "cache: %s: its writer died: removed", name);
    close(fd);
}

static bool is_tmp(const char *name)
{
    return !strncmp(name, "tmp-", 4) && strspn(name + 4, "0123456789abcdef") == 16 && !name[20];
}

static bool look(int dir, const char *name, struct fm_kvlisted *out)
{
    struct stat st;
    if (is_tmp(name)) sweep_tmp(dir, name);
    const long version = named_version(name, out->key);
    if (!version || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) return false;
    if (version != FM_KVFILE_VERSION) {
        if (!unlinkat(dir, name, 0)) fm_log(FM_LOG_WARN, "cache: %s: another version of the format: removed", name);
        return false;
    }
    out->bytes = (uint64_t)st.st_size;
    out->used = st.st_mtim;
    return true;
}

static int by_use(const void *a, const void *b)
{
    const struct timespec *x = &((const struct fm_kvlisted *)a)->used, *y = &((const struct fm_kvlisted *)b)->used;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? -1 : 1;
    return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

bool fm_kvdir_list(int dir, struct fm_kvlisted **list, size_t *n)
{
    const int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct fm_kvlisted *all = NULL;
    size_t have = 0, cap = 0;
    if (!d) {
        if (fd >= 0) close(fd);
        return false;
    }
    for (struct dirent *e; have < LISTED_MAX && (e = readdir(d));) {
        if (have == cap) {
            void *more = fm_realloc(all, (cap ? cap * 2 : 256) * sizeof *all);
            if (!more) break; /* the others are found next time */
            all = more;
            cap = cap ? cap * 2 : 256;
        }
        have += look(dir, e->d_name, &all[have]);
    }
    (void)closedir(d);
    if (have) qsort(all, have, sizeof *all, by_use);
    *list = all;
    *n = have;
    return true;
}

struct timespec fm_kvdir_changed(int dir)
{
    struct stat st;
    return fstat(dir, &st) ? (struct timespec){0} : st.st_mtim;
}

/* ---- one file ---- */

static bool read_all(int fd, void *to, size_t n)
{
    for (char *at = to; n;) {
        const ssize_t k = read(fd, at, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        at += k;
        n -= (size_t)k;
    }
    return true;
}

static const char *read_open(int fd, const struct fm_kvorigin *o, const struct fm_kvplace *p, void *body)
{
    uint8_t head[FM_KVFILE_HEAD];
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return "not a regular file";
    if ((uint64_t)st.st_size != FM_KVFILE_HEAD + o->block_bytes) return "wrong length";
    if (!read_all(fd, head, sizeof head) || !read_all(fd, body, o->block_bytes)) return "cannot be read";
    return fm_kvfile_check(o, p, head, body);
}

enum fm_kvread fm_kvdir_read(int dir, const struct fm_kvorigin *o, const struct fm_kvplace *p, void *body,
                             const char **why)
{
    char name[FM_KVNAME];
    fm_kvdir_name(p->key, name);
    const int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        *why = strerror(errno);
        return errno == ENOENT ? FM_KVREAD_MISSING : FM_KVREAD_BAD;
    }
    *why = read_open(fd, o, p, body);
    close(fd);
    return *why ? FM_KVREAD_BAD : FM_KVREAD_OK;
}

static bool write_all(int fd, struct iovec *v, int n)
{
    while (n) {
        ssize_t k = writev(fd, v, n);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return false;
        for (; n && (size_t)k >= v->iov_len; v++, n--) k -= (ssize_t)v->iov_len;
        if (n) *v = (struct iovec){(char *)v->iov_base + k, v->iov_len - (size_t)k};
    }
    return true;
}

enum fm_status fm_kvdir_write(int dir, const struct fm_kvorigin *o, const struct fm_kvplace *p, const void *body,
                              struct fm_error *err)
{
    uint8_t head[FM_KVFILE_HEAD];
    char name[FM_KVNAME], tmp[32];
    uint64_t random = 0;
    (void)getrandom(&random, sizeof random, GRND_NONBLOCK);
    fm_kvdir_name(p->key, name);
    (void)snprintf(tmp, sizeof tmp, "tmp-%016llx", (unsigned long long)random);
    const int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return fm_fail(err, FM_ERR_DISK, "write the cache: %s: %s", tmp, strerror(errno));
    fm_kvfile_head(o, p, body, head);
    struct iovec v[2] = {{head, sizeof head}, {(void *)body, o->block_bytes}};
    enum fm_status st = FM_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) || !write_all(fd, v, 2) || renameat(dir, tmp, dir, name)) {
        st = fm_fail(err, FM_ERR_DISK, "write the cache: %s: %s", name, strerror(errno));
        (void)unlinkat(dir, tmp, 0);
    }
    close(fd);
    return st;
}

void fm_kvdir_used(int dir, const uint8_t *key, struct timespec when)
{
    char name[FM_KVNAME];
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, when};
    fm_kvdir_name(key, name);
    (void)utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
}

void fm_kvdir_remove(int dir, const uint8_t *key)
{
    char name[FM_KVNAME];
    fm_kvdir_name(key, name);
    (void)unlinkat(dir, name, 0);
}
