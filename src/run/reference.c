/* See reference.h. */
#include "run/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "run/logprob.h"
#include "run/windows.h"

static const char MAGIC[] = "_logits_";
enum { MAGIC_BYTES = 8, HEAD_BYTES = 20 };

static uint64_t row_bytes(int vocab) { return (uint64_t)fm_coded_words(vocab) * sizeof(uint16_t); }

static uint64_t front_bytes(int ctx, int chunks) { return HEAD_BYTES + (uint64_t)chunks * (uint64_t)ctx * 4; }

static uint64_t chunk_bytes(int ctx, int vocab) { return (uint64_t)fm_window_scored(ctx) * row_bytes(vocab); }

uint64_t fm_reference_bytes(int ctx, int vocab, int chunks)
{
    return front_bytes(ctx, chunks) + (uint64_t)chunks * chunk_bytes(ctx, vocab);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

bool fm_reference_is(const char *path)
{
    char head[MAGIC_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    const ssize_t n = read(fd, head, sizeof head);
    close(fd);
    return n == MAGIC_BYTES && !memcmp(head, MAGIC, MAGIC_BYTES);
}

static enum fm_status read_head(struct fm_reference *r, const char *path, struct fm_error *err)
{
    uint32_t ctx, vocab, chunks;
    if (r->map.size < HEAD_BYTES || memcmp(r->map.data, MAGIC, MAGIC_BYTES) != 0)
        return fm_fail(err, FM_ERR_INPUT, "read log-probabilities: %s: it does not begin as such a file", path);
    memcpy(&ctx, r->map.data + 8, 4);
    memcpy(&vocab, r->map.data + 12, 4);
    memcpy(&chunks, r->map.data + 16, 4);
    if (ctx < FM_WINDOW_MIN || ctx > FM_CTX_MAX)
        return fm_fail(err, FM_ERR_INPUT, "read log-probabilities: %s: windows of %u tokens: not within %d … %d", path,
                       ctx, FM_WINDOW_MIN, FM_CTX_MAX);
    if (vocab < 1 || vocab > FM_CTX_MAX)
        return fm_fail(err, FM_ERR_INPUT, "read log-probabilities: %s: a vocabulary of %u: not within 1 … %d", path,
                       vocab, FM_CTX_MAX);
    if (chunks < 1 || chunks > INT32_MAX)
        return fm_fail(err, FM_ERR_INPUT, "read log-probabilities: %s: %u chunks: not within 1 … %d", path, chunks,
                       INT32_MAX);
    r->ctx = (int)ctx;
    r->vocab = (int)vocab;
    r->chunks = (int)chunks;
    return FM_OK;
}

static enum fm_status check_body(struct fm_reference *r, const char *path, struct fm_error *err)
{
    const uint64_t per = (uint64_t)r->ctx * 4 + chunk_bytes(r->ctx, r->vocab), have = r->map.size - HEAD_BYTES;
    const uint64_t n = (uint64_t)r->chunks * (uint64_t)r->ctx;
    if (have % per || have / per != (uint64_t)r->chunks)
        return fm_fail(err, FM_ERR_INPUT,
                       "read log-probabilities: %s: %zu bytes: they are not %d chunks of %llu bytes behind %d", path,
                       r->map.size, r->chunks, (unsigned long long)per, HEAD_BYTES);
    r->tokens = (const int32_t *)(const void *)(r->map.data + HEAD_BYTES); /* a mapping begins a page */
    r->rows = (const uint16_t *)(const void *)(r->map.data + front_bytes(r->ctx, r->chunks));
    for (uint64_t i = 0; i < n; i++)
        if (r->tokens[i] < 0 || r->tokens[i] >= r->vocab)
            return fm_fail(err, FM_ERR_INPUT, "read log-probabilities: %s: token %llu is %d: the vocabulary ends at %d",
                           path, (unsigned long long)i, (int)r->tokens[i], r->vocab - 1);
    return FM_OK;
}

enum fm_status fm_reference_open(struct fm_reference *r, const char *path, struct fm_error *err)
{
    *r = (struct fm_reference){0};
    FM_TRY(fm_map_open(&r->map, path, err));
    enum fm_status st = read_head(r, path, err);
    if (!st) st = check_body(r, path, err);
    if (st) fm_reference_close(r);
    return st;
}

void fm_reference_close(struct fm_reference *r)
{
    if (r->map.data) fm_map_close(&r->map);
    *r = (struct fm_reference){0};
}

const uint16_t *fm_reference_row(const struct fm_reference *r, uint64_t i)
{
    return r->rows + i * (uint64_t)fm_coded_words(r->vocab);
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static enum fm_status disk(const struct fm_reference_out *o, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_DISK, "write log-probabilities: %s: %s", o->partial, strerror(errno));
}

static enum fm_status make_names(struct fm_reference_out *o, const char *path, struct fm_error *err)
{
    const size_t n = strlen(path) + sizeof ".partial";
    o->path = fm_strdup(path);
    o->partial = fm_malloc(n);
    if (!o->path || !o->partial) return fm_fail_memory(err, "file names", 2 * n);
    (void)snprintf(o->partial, n, "%s.partial", path);
    struct stat s;
    if (!stat(path, &s) && !S_ISREG(s.st_mode))
        return fm_fail(err, FM_ERR_USAGE, "write log-probabilities: %s: it is no plain file", path);
    return FM_OK;
}

enum fm_status fm_reference_out_add(struct fm_reference_out *o, const void *data, uint64_t n, struct fm_error *err)
{
    const char *p = data;
    while (n) {
        const ssize_t k = pwrite(o->fd, p, n > (1u << 30) ? 1u << 30 : (size_t)n, (off_t)o->written);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return disk(o, err);
        p += k;
        n -= (uint64_t)k;
        o->written += (uint64_t)k;
    }
    return FM_OK;
}

/* Room for bytes more than the file has: asked for now rather than missed after an hour. */
static enum fm_status reserve(struct fm_reference_out *o, uint64_t total, struct fm_error *err)
{
    struct stat s;
    struct statvfs v;
    if (fstat(o->fd, &s) || fstatvfs(o->fd, &v)) return disk(o, err);
    const uint64_t have = (uint64_t)s.st_blocks * 512, room = (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
    if (total > have && total - have > room) {
        (void)fm_fail(err, FM_ERR_DISK, "write log-probabilities: %s: %llu bytes are needed: %llu are free", o->partial,
                      (unsigned long long)(total - have), (unsigned long long)room);
        fm_hint(err, "--chunks N takes fewer");
        return FM_ERR_DISK;
    }
    int rc;
    do rc = fallocate(o->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)total);
    while (rc && errno == EINTR);
    return rc && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) ? disk(o, err) : FM_OK;
}

static enum fm_status write_front(struct fm_reference_out *o, const struct fm_reference *r, struct fm_error *err)
{
    const uint32_t head[] = {(uint32_t)r->ctx, (uint32_t)r->vocab, (uint32_t)r->chunks};
    if (ftruncate(o->fd, 0)) return disk(o, err);
    FM_TRY(reserve(o, fm_reference_bytes(r->ctx, r->vocab, r->chunks), err));
    FM_TRY(fm_reference_out_add(o, MAGIC, MAGIC_BYTES, err));
    FM_TRY(fm_reference_out_add(o, head, sizeof head, err));
    return fm_reference_out_add(o, r->tokens, (uint64_t)r->chunks * (uint64_t)r->ctx * 4, err);
}

/* The partial file has this shape and done chunks at least. */
static enum fm_status keep(struct fm_reference_out *o, const struct fm_reference *r, int done, struct fm_error *err)
{
    const uint64_t front = front_bytes(r->ctx, r->chunks);
    struct fm_map m;
    uint32_t head[3];
    FM_TRY(fm_map_open(&m, o->partial, err));
    o->written = front + (uint64_t)done * chunk_bytes(r->ctx, r->vocab);
    bool same = m.size >= o->written && !memcmp(m.data, MAGIC, MAGIC_BYTES);
    if (same) {
        memcpy(head, m.data + MAGIC_BYTES, sizeof head);
        same = head[0] == (uint32_t)r->ctx && head[1] == (uint32_t)r->vocab && head[2] == (uint32_t)r->chunks &&
               !memcmp(m.data + HEAD_BYTES, r->tokens, (size_t)(front - HEAD_BYTES));
    }
    fm_map_close(&m);
    if (!same) {
        (void)fm_fail(err, FM_ERR_INPUT, "go on writing: %s: it does not hold the %d chunks that were written",
                      o->partial, done);
        fm_hint(err, "remove the state file to begin anew");
        return FM_ERR_INPUT;
    }
    if (ftruncate(o->fd, (off_t)o->written)) return disk(o, err);
    return reserve(o, fm_reference_bytes(r->ctx, r->vocab, r->chunks), err);
}

enum fm_status fm_reference_out_open(struct fm_reference_out *o, const char *path, const struct fm_reference *shape,
                                     int done, struct fm_error *err)
{
    *o = (struct fm_reference_out){.fd = -1};
    enum fm_status st = make_names(o, path, err);
    if (!st) o->fd = open(o->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (!st && o->fd < 0) st = disk(o, err);
    if (!st) st = done ? keep(o, shape, done, err) : write_front(o, shape, err);
    if (st && !done && o->fd >= 0) (void)unlink(o->partial);
    if (st) fm_reference_out_release(o);
    return st;
}

enum fm_status fm_reference_out_sync(struct fm_reference_out *o, struct fm_error *err)
{
    return fdatasync(o->fd) ? disk(o, err) : FM_OK;
}

enum fm_status fm_reference_out_commit(struct fm_reference_out *o, struct fm_error *err)
{
    if (ftruncate(o->fd, (off_t)o->written) || fsync(o->fd) || rename(o->partial, o->path)) return disk(o, err);
    return FM_OK;
}

void fm_reference_out_release(struct fm_reference_out *o)
{
    if (o->fd >= 0) close(o->fd);
    fm_free(o->path);
    fm_free(o->partial);
    *o = (struct fm_reference_out){.fd = -1};
}
