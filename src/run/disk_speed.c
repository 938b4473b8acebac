/* See disk_speed.h.  The file's pages are dropped from the page cache first (posix_fadvise); mincore says whether they went:
 * pages that somebody has mapped, or that a file system keeps in memory anyway, stay, and then there is no figure. */
#include "run/disk_speed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

enum { CHUNK = 4 << 20 };
static const uint64_t MOST = (uint64_t)4 << 30; /* bytes of a file that are looked at */

/* Fraction of the file's first n bytes that is in memory; 1 when nobody can say. */
static double resident(int fd, size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (n + page - 1) / page;
    unsigned char *map = fm_malloc(pages);
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    double there = 1;
    if (map && p != MAP_FAILED && mincore(p, n, map) == 0) {
        size_t count = 0;
        for (size_t i = 0; i < pages; i++) count += map[i] & 1;
        there = (double)count / (double)pages;
    }
    if (p != MAP_FAILED) (void)munmap(p, n);
    fm_free(map);
    return there;
}

/* Bytes per second of reading [0, n) in order until time is up; 0 when reading fails at once. */
static double read_through(int fd, size_t n, double seconds, char *buffer)
{
    const double start = fm_seconds();
    size_t done = 0;
    while (done < n && (done == 0 || fm_seconds() - start < seconds)) {
        const ssize_t got = pread(fd, buffer, CHUNK, (off_t)done);
        if (got <= 0) break;
        done += (size_t)got;
    }
    const double took = fm_seconds() - start;
    return took > 0 ? (double)done / took : 0;
}

static void measure(int fd, const char *path, double seconds, struct fm_disk_speed *out)
{
    struct stat s;
    char *buffer = fm_pages_alloc(CHUNK);
    if (buffer && fstat(fd, &s) == 0 && s.st_size > 0) {
        const size_t n = (size_t)((uint64_t)s.st_size < MOST ? (uint64_t)s.st_size : MOST);
        const int direct = path ? open(path, O_RDONLY | O_CLOEXEC | O_DIRECT) : -1;
        if (direct >= 0) {
            out->direct = read_through(direct, n & ~(size_t)4095, seconds, buffer);
            (void)close(direct);
        }
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (resident(fd, n) < 0.05) out->cached = read_through(fd, n, seconds, buffer);
    }
    fm_pages_free(buffer, CHUNK);
}

static enum fm_status cannot(const char *what, const char *path, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "%s: %s: %s", what, path, strerror(errno));
}

/* The largest regular file of a folder, into path. */
static enum fm_status largest(const char *folder, char path[PATH_MAX], struct fm_error *err)
{
    DIR *d = opendir(folder);
    off_t most = 0;
    struct stat s;
    char at[PATH_MAX];
    if (!d) return cannot("time a disk", folder, err);
    for (const struct dirent *e; (e = readdir(d));) {
        const int n = snprintf(at, sizeof at, "%s/%s", folder, e->d_name);
        if (n < 0 || (size_t)n >= sizeof at || stat(at, &s) != 0 || !S_ISREG(s.st_mode) || s.st_size <= most) continue;
        most = s.st_size;
        memcpy(path, at, (size_t)n + 1);
    }
    (void)closedir(d);
    return most ? FM_OK : fm_fail(err, FM_ERR_INPUT, "time a disk: %s: holds no file", folder);
}

enum fm_status fm_disk_speed_of(const char *path, double seconds, struct fm_disk_speed *out, struct fm_error *err)
{
    char file[PATH_MAX];
    struct stat s;
    struct fm_disk_speed speed = {0};
    if (stat(path, &s) != 0) return cannot("time a disk", path, err);
    if (S_ISDIR(s.st_mode))
        FM_TRY(largest(path, file, err));
    else
        snprintf(file, sizeof file, "%s", path);
    const int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return cannot("time a disk", file, err);
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        (void)close(fd);
        return fm_fail(err, FM_ERR_INPUT, "time a disk: %s: is not a regular file", file);
    }
    measure(fd, file, seconds, &speed);
    (void)close(fd);
    snprintf(speed.path, sizeof speed.path, "%.255s", file);
    *out = speed;
    return FM_OK;
}

/* Random bytes, so that no file system stores less than it says. */
static bool fill(int fd, size_t bytes, char *buffer)
{
    struct fm_rng r;
    fm_rng_init(&r, bytes);
    for (size_t done = 0; done < bytes;) {
        const size_t n = bytes - done < CHUNK ? bytes - done : CHUNK;
        for (size_t i = 0; i + 8 <= n; i += 8) {
            const uint64_t x = fm_rng_u64(&r);
            memcpy(buffer + i, &x, sizeof x);
        }
        const ssize_t put = write(fd, buffer, n);
        if (put <= 0) return false;
        done += (size_t)put;
    }
    return fsync(fd) == 0;
}

enum fm_status fm_disk_speed_in(const char *folder, size_t bytes, double seconds, struct fm_disk_speed *out,
                                struct fm_error *err)
{
    char path[PATH_MAX];
    struct statvfs v;
    *out = (struct fm_disk_speed){0};
    if (statvfs(folder, &v) != 0 || (double)v.f_bavail * (double)v.f_frsize < 8.0 * (double)bytes) return FM_OK;
    const int n = snprintf(path, sizeof path, "%s/doctor.tmp-%ld", folder, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof path)
        return fm_fail(err, FM_ERR_USAGE, "time a disk: %.200s: name too long", folder);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return FM_OK; /* a folder we may not write to: no figure */
    char *buffer = fm_pages_alloc(CHUNK);
    if (buffer && fill(fd, bytes, buffer)) {
        measure(fd, path, seconds, out);
        snprintf(out->path, sizeof out->path, "%.255s", folder);
    }
    (void)unlink(path);
    (void)close(fd);
    fm_pages_free(buffer, CHUNK);
    return buffer ? FM_OK : fm_fail_memory(err, "timing a disk", CHUNK);
}
