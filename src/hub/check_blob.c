/* Hashing what the cache holds. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "hub/hash.h"
#include "hub/hub_impl.h"

enum { CHUNK = 1 << 20 };

static enum fm_status hash_file(int fd, const char *path, struct fm_hash *hash, void (*at)(void *, uint64_t), void *arg,
                                const volatile int *stop, struct fm_error *err)
{
    char *chunk = fm_malloc(CHUNK);
    enum fm_status st = chunk ? FM_OK : fm_fail_memory(err, "a buffer", CHUNK);
    while (!st) {
        ssize_t n = *stop ? -1 : read(fd, chunk, CHUNK);
        if (*stop)
            st = FM_ERR_CANCELLED;
        else if (n < 0 && errno != EINTR)
            st = fm_fail(err, FM_ERR_INPUT, "read a file: %s: %s", path, strerror(errno));
        else if (n == 0)
            break;
        else if (n > 0 && !fm_hash_add(hash, chunk, (size_t)n))
            st = fm_fail(err, FM_ERR_FAILED, "compute a hash: %s: libcrypto failed", path);
        if (n > 0) at(arg, (uint64_t)n);
    }
    fm_free(chunk);
    return st;
}

enum fm_status fm_blob_verify(const struct fm_hub *h, const char *repo, const char *blob,
                              void (*at)(void *arg, uint64_t bytes), void *arg, const volatile int *stop,
                              enum fm_blob_state *out, struct fm_error *err)
{
    char folder[FM_HUB_REPO_MAX + 16], text[65];
    struct fm_hash hash = {NULL};
    struct stat s;
    int fd = -1;
    enum fm_status st;
    fm_hub_folder(repo, folder);
    char *path = fm_hub_text("%s/%s/blobs/%s", h->cache, folder, blob);
    if (!path) return fm_fail_memory(err, "a file's name", strlen(blob));
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 || fstat(fd, &s))
        FM_GOTO(fm_fail(err, FM_ERR_INPUT, "read a file: %s: %s", path, strerror(errno)));
    FM_GOTO(fm_hash_init(&hash, blob, (uint64_t)s.st_size, err));
    *out = FM_BLOB_UNKNOWN;
    st = FM_OK;
    if (!hash.ctx) {
        at(arg, (uint64_t)s.st_size);
        goto out;
    }
    FM_GOTO(hash_file(fd, path, &hash, at, arg, stop, err));
    if (!fm_hash_text(&hash, text)) FM_GOTO(fm_fail_memory(err, "a hash", 256));
    *out = strcmp(text, blob) ? FM_BLOB_DAMAGED : FM_BLOB_GOOD;
out:
    fm_hash_release(&hash);
    if (fd >= 0) close(fd);
    fm_free(path);
    return st;
}
