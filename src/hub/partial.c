/* See partial.h. */
#include "hub/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "hub/hub_impl.h"

/* Pieces of 1 to 32 MiB, so that each connection gets several: small enough to share the end of a file evenly, large
 * enough that asking for the next one costs nothing.  Below 4 MiB a file is one piece. */
enum {
    PIECE_MIN = 1 << 20,
    PIECE_MAX = 32 << 20,
    WHOLE_MAX = 4 << 20,
    CHUNK = 1 << 20,
    STATE_MAX = 32 << 20,
    STATE_ROOM = 512
};

static const char ending[] = ".incomplete";

static uint64_t piece_size(uint64_t size, int connections)
{
    if (size <= WHOLE_MAX || connections <= 1) return size;
    uint64_t piece = size / ((uint64_t)connections * 4);
    piece = (piece + PIECE_MIN - 1) / PIECE_MIN * PIECE_MIN;
    return piece < PIECE_MIN ? PIECE_MIN : piece > PIECE_MAX ? PIECE_MAX : piece;
}

uint64_t fm_partial_begin(const struct fm_partial *p, uint32_t piece) { return piece * p->piece; }

uint64_t fm_partial_length(const struct fm_partial *p, uint32_t piece)
{
    uint64_t begin = fm_partial_begin(p, piece), rest = p->size - begin;
    return rest < p->piece ? rest : p->piece;
}

/* ---- state ----------------------------------------------------------------------------------------------------- */

static char *state_name(const char *path)
{
    size_t n = strlen(path), k = strlen(ending);
    if (n > k && !strcmp(path + n - k, ending)) n -= k;
    return fm_hub_text("%.*s.state%s", (int)n, path, ending);
}

static enum fm_status cut(struct fm_partial *p, uint64_t piece, struct fm_error *err)
{
    uint64_t n = !p->size ? 1 : (p->size + piece - 1) / piece;
    if (n > UINT32_MAX) return fm_fail(err, FM_ERR_INPUT, "download a file: %s: it is too large", p->blob);
    uint64_t *done = fm_calloc((size_t)n, sizeof *done);
    if (!done) return fm_fail_memory(err, "the pieces of a file", n * sizeof *done);
    fm_free(p->done);
    p->done = done;
    p->piece = piece;
    p->n_pieces = (uint32_t)n;
    return FM_OK;
}

/* The state of an earlier attempt, if it is of this blob; NULL otherwise. */
static json_t *read_state(const char *state_path, const char *blob, uint64_t size)
{
    struct fm_buf b = {0};
    struct fm_error none;
    json_t *j = NULL;
    if (fm_buf_read_file(&b, state_path, STATE_MAX, &none) || fm_json_parse(b.data, b.len, state_path, &j, &none))
        j = NULL;
    fm_buf_release(&b);
    if (j && strcmp(fm_json_str(j, "blob", ""), blob) == 0 && fm_json_int(j, "size", -1) == (int64_t)size) return j;
    json_decref(j);
    return NULL;
}

static uint64_t sum_done(const json_t *j, uint64_t size)
{
    const json_t *done = json_object_get(j, "done");
    uint64_t sum = 0;
    for (size_t i = 0; i < json_array_size(done); i++) {
        int64_t n = json_integer_value(json_array_get(done, i));
        if (n > 0 && (uint64_t)n <= size - sum) sum += (uint64_t)n;
    }
    return sum;
}

uint64_t fm_partial_peek(const char *path, const char *blob, uint64_t size)
{
    char *name = state_name(path);
    json_t *j = name ? read_state(name, blob, size) : NULL;
    uint64_t n = j ? sum_done(j, size) : 0;
    struct stat s;
    json_decref(j);
    fm_free(name);
    return stat(path, &s) == 0 ? n : 0;
}

/* Take the pieces over; false: the state makes no sense. */
static bool take_state(struct fm_partial *p, const json_t *j)
{
    struct fm_error none;
    struct stat s;
    int64_t piece = fm_json_int(j, "piece", 0);
    const json_t *done = json_object_get(j, "done");
    if (fstat(p->fd, &s) || piece <= 0 || (p->size && (uint64_t)piece > p->size) || cut(p, (uint64_t)piece, &none) ||
        json_array_size(done) != p->n_pieces)
        return false;
    for (uint32_t i = 0; i < p->n_pieces; i++) {
        int64_t n = json_integer_value(json_array_get(done, i));
        if (n < 0 || (uint64_t)n > fm_partial_length(p, i)) return false;
        if (n && fm_partial_begin(p, i) + (uint64_t)n > (uint64_t)s.st_size) return false;
        p->done[i] = (uint64_t)n;
        p->total += (uint64_t)n;
    }
    return true;
}

/* ---- hash ------------------------------------------------------------------------------------------------------ */

/* Bytes from the beginning without a gap. */
static uint64_t in_order(struct fm_partial *p)
{
    while (p->front < p->n_pieces && p->done[p->front] == fm_partial_length(p, p->front)) p->front++;
    if (p->front == p->n_pieces) return p->size;
    return fm_partial_begin(p, p->front) + p->done[p->front];
}

static enum fm_status hash_to(struct fm_partial *p, uint64_t end, struct fm_error *err)
{
    char *chunk = p->hashed < end ? fm_malloc(CHUNK) : NULL;
    enum fm_status st = FM_OK;
    if (p->hashed < end && !chunk) return fm_fail_memory(err, "a buffer", CHUNK);
    while (!st && p->hashed < end) {
        size_t n = end - p->hashed < CHUNK ? (size_t)(end - p->hashed) : CHUNK;
        ssize_t k = pread(p->fd, chunk, n, (off_t)p->hashed);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = EIO;
        if (k <= 0)
            st = fm_hub_disk(err, "read a download back", p->path);
        else if (!fm_hash_add(&p->hash, chunk, (size_t)k))
            st = fm_fail(err, FM_ERR_FAILED, "compute a hash: %s: libcrypto failed", p->path);
        else
            p->hashed += (uint64_t)k;
    }
    fm_free(chunk);
    return st;
}

enum fm_status fm_partial_hash(struct fm_partial *p, bool *more, struct fm_error *err)
{
    uint64_t end = in_order(p), step = (uint64_t)32 << 20;
    *more = end - p->hashed > step;
    return hash_to(p, *more ? p->hashed + step : end, err);
}

static enum fm_status begin_hash(struct fm_partial *p, struct fm_error *err)
{
    fm_hash_release(&p->hash);
    p->hashed = 0;
    return fm_hash_init(&p->hash, p->blob, p->size, err);
}

/* Hash the old bytes that lie in order; *same: they are what the state says. */
static enum fm_status check_old(struct fm_partial *p, const json_t *j, const struct fm_hub_progress *progress,
                                bool *same, struct fm_error *err)
{
    int64_t hashed = fm_json_int(j, "hashed", 0);
    const char *digest = fm_json_str(j, "digest", "");
    char text[65];
    *same = false;
    if (hashed < 0 || (uint64_t)hashed > in_order(p)) return FM_OK;
    while (p->hashed < (uint64_t)hashed) {
        uint64_t end = p->hashed + ((uint64_t)32 << 20);
        if (*progress->stop) return FM_ERR_CANCELLED;
        FM_TRY(hash_to(p, end < (uint64_t)hashed ? end : (uint64_t)hashed, err));
        progress->at(progress->arg, "check", p->path, 0, p->hashed, (uint64_t)hashed);
    }
    if (!fm_hash_text(&p->hash, text)) return fm_fail_memory(err, "a hash", 256);
    *same = !strcmp(text, digest);
    return FM_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static enum fm_status make(struct fm_partial *p, const char *path, struct fm_error *err)
{
    p->path = fm_strdup(path);
    p->state_path = state_name(path);
    if (!p->path || !p->state_path) return fm_fail_memory(err, "a file's name", strlen(path));
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p->fd < 0) return fm_hub_disk(err, "write a download", path);
    return FM_OK;
}

static enum fm_status resume(struct fm_partial *p, const struct fm_hub_progress *progress, bool *resumed,
                             struct fm_error *err)
{
    json_t *j = read_state(p->state_path, p->blob, p->size);
    enum fm_status st = FM_OK;
    *resumed = j && take_state(p, j);
    if (*resumed) st = check_old(p, j, progress, resumed, err);
    json_decref(j);
    return st;
}

enum fm_status fm_partial_open(struct fm_partial *p, const char *path, const char *blob, uint64_t size, int connections,
                               const struct fm_hub_progress *progress, struct fm_error *err)
{
    *p = (struct fm_partial){.fd = -1, .size = size};
    snprintf(p->blob, sizeof p->blob, "%s", blob);
    enum fm_status st = make(p, path, err);
    if (!st) st = begin_hash(p, err);
    if (!st) st = resume(p, progress, &p->resumed, err);
    if (!st && !p->resumed) {
        st = cut(p, piece_size(size, connections), err);
        if (!st) st = fm_partial_restart(p, false, err);
    }
    p->resumed = !st && p->total;
    if (st) fm_partial_close(p);
    return st;
}

enum fm_status fm_partial_restart(struct fm_partial *p, bool whole, struct fm_error *err)
{
    if (whole) {
        p->piece = p->size;
        p->n_pieces = 1; /* the array only has more than it needs */
    }
    memset(p->done, 0, p->n_pieces * sizeof *p->done);
    p->total = 0;
    p->front = 0;
    p->resumed = false;
    (void)unlink(p->state_path);
    if (ftruncate(p->fd, 0)) return fm_hub_disk(err, "write a download", p->path);
    return begin_hash(p, err);
}

enum fm_status fm_partial_write(struct fm_partial *p, uint32_t piece, const void *data, size_t n, struct fm_error *err)
{
    const char *s = data;
    while (n) {
        ssize_t k = pwrite(p->fd, s, n, (off_t)(fm_partial_begin(p, piece) + p->done[piece]));
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return fm_hub_disk(err, "write a download", p->path);
        s += k;
        n -= (size_t)k;
        p->done[piece] += (uint64_t)k;
        p->total += (uint64_t)k;
    }
    return FM_OK;
}

/* A new file in place of the old one; on a full disk over the old one, which has the room. */
static bool replace_state(struct fm_partial *p, const struct fm_buf *b, const char *tmp)
{
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    bool ok = fd >= 0 && write(fd, b->data, b->len) == (ssize_t)b->len && !rename(tmp, p->state_path);
    int e = errno;
    if (fd >= 0) close(fd);
    if (ok) return true;
    (void)unlink(tmp);
    fd = open(p->state_path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    ok = fd >= 0 && pwrite(fd, b->data, b->len, 0) == (ssize_t)b->len;
    if (fd >= 0) close(fd);
    errno = e;
    return ok;
}

static enum fm_status write_state(struct fm_partial *p, const struct fm_buf *b, struct fm_error *err)
{
    char *tmp = fm_hub_text("%s.tmp", p->state_path);
    if (!tmp) return fm_fail_memory(err, "a file's name", strlen(p->state_path));
    enum fm_status st = replace_state(p, b, tmp) ? FM_OK : fm_hub_disk(err, "write a download", p->state_path);
    fm_free(tmp);
    return st;
}

enum fm_status fm_partial_save(struct fm_partial *p, struct fm_error *err)
{
    struct fm_buf b = {0};
    char digest[65];
    if (fdatasync(p->fd)) return fm_hub_disk(err, "write a download", p->path);
    if (!fm_hash_text(&p->hash, digest)) return fm_fail_memory(err, "a hash", 256);
    fm_buf_printf(&b, "{\"blob\":\"%s\",\"size\":%" PRIu64 ",\"piece\":%" PRIu64 ",", p->blob, p->size, p->piece);
    fm_buf_printf(&b, "\"hashed\":%" PRIu64 ",\"digest\":\"%s\",\"done\":[", p->hashed, digest);
    for (uint32_t i = 0; i < p->n_pieces; i++) fm_buf_printf(&b, "%s%" PRIu64, i ? "," : "", p->done[i]);
    fm_buf_str(&b, "]}");
    while (b.len < STATE_ROOM + (size_t)p->n_pieces * 10 && !b.failed)
        fm_buf_char(&b, ' '); /* one size for all states */
    enum fm_status st = b.failed ? fm_fail_memory(err, "the state of a download", b.len) : write_state(p, &b, err);
    fm_buf_release(&b);
    return st;
}

static void sync_folder(const char *path)
{
    char *folder = fm_strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash) *slash = 0;
    int fd = slash ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    fm_free(folder);
}

enum fm_status fm_partial_finish(struct fm_partial *p, const char *path, bool *good, struct fm_error *err)
{
    char digest[65];
    FM_TRY(hash_to(p, p->size, err));
    if (!fm_hash_text(&p->hash, digest)) return fm_fail_memory(err, "a hash", 256);
    *good = !digest[0] || !strcmp(digest, p->blob);
    if (*good) {
        if (fsync(p->fd) || rename(p->path, path)) return fm_hub_disk(err, "write a download", path);
        sync_folder(path);
    } else
        (void)unlink(p->path);
    (void)unlink(p->state_path);
    return FM_OK;
}

void fm_partial_close(struct fm_partial *p)
{
    if (p->fd >= 0) close(p->fd);
    fm_hash_release(&p->hash);
    fm_free(p->path);
    fm_free(p->state_path);
    fm_free(p->done);
    *p = (struct fm_partial){.fd = -1};
}
