/* See checkpoint.h. */
#include "train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sum.h"
#include "file/replace.h"

enum { VERSION = 1, FIXED = 32, ALIGN = 64, BLOCK = 1 << 20, MAX_JSON = 1 << 24, HEAD_SEED = 3, BLOCK_SEED = 1000 };
static const unsigned char MAGIC[8] = {'F', 'M', 'C', 'K', 'P', 'T', '\r', '\n'};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are stored as they lie in memory");

static uint64_t head_sum(const unsigned char *fixed, const char *json, size_t n)
{
    struct fm_sum s;
    fm_sum_init(&s, HEAD_SEED);
    fm_sum_add(&s, fixed, 24);
    fm_sum_add(&s, json, n);
    return fm_sum_end(&s);
}

/* ---- save ---- */

/* Blocks run on over the borders of the arrays. */
struct blocks {
    struct fm_replace *file;
    struct fm_sum sum;
    uint64_t index;
    size_t filled;
};

static enum fm_status end_block(struct blocks *b, struct fm_error *err)
{
    const uint64_t sum = fm_sum_end(&b->sum);
    FM_TRY(fm_replace_write(b->file, &sum, sizeof sum, err));
    b->filled = 0;
    fm_sum_init(&b->sum, BLOCK_SEED + ++b->index);
    return FM_OK;
}

static enum fm_status write_array(struct blocks *b, const char *p, size_t n, struct fm_error *err)
{
    while (n) {
        const size_t room = BLOCK - b->filled, k = n < room ? n : room;
        FM_TRY(fm_replace_write(b->file, p, k, err));
        fm_sum_add(&b->sum, p, k);
        b->filled += k;
        p += k;
        n -= k;
        if (b->filled == BLOCK) FM_TRY(end_block(b, err));
    }
    return FM_OK;
}

static enum fm_status write_head(struct fm_replace *f, const char *json, size_t n, uint64_t array_bytes,
                                 struct fm_error *err)
{
    unsigned char fixed[FIXED];
    const uint32_t version = VERSION, json_bytes = (uint32_t)n;
    memcpy(fixed, MAGIC, 8);
    memcpy(fixed + 8, &version, 4);
    memcpy(fixed + 12, &json_bytes, 4);
    memcpy(fixed + 16, &array_bytes, 8);
    const uint64_t sum = head_sum(fixed, json, n);
    memcpy(fixed + 24, &sum, 8);
    FM_TRY(fm_replace_write(f, fixed, FIXED, err));
    return fm_replace_write(f, json, n, err);
}

static enum fm_status write_all(struct fm_replace *f, const char *json, size_t len,
                                const struct fm_checkpoint_array *arrays, int n, struct fm_error *err)
{
    uint64_t bytes = 0;
    for (int i = 0; i < n; i++) bytes += arrays[i].bytes;
    const uint64_t blocks = (bytes + BLOCK - 1) / BLOCK;
    FM_TRY(fm_replace_reserve(f, FIXED + len + bytes + blocks * 8, err));
    FM_TRY(write_head(f, json, len, bytes, err));
    struct blocks b = {.file = f};
    fm_sum_init(&b.sum, BLOCK_SEED);
    for (int i = 0; i < n; i++) FM_TRY(write_array(&b, arrays[i].data, arrays[i].bytes, err));
    return b.filled ? end_block(&b, err) : FM_OK;
}

static int add_bytes(const char *p, size_t n, void *arg)
{
    struct fm_buf *b = arg;
    fm_buf_add(b, p, n);
    return b->failed ? -1 : 0;
}

/* The header's text, filled up with blanks so that the arrays start aligned and no byte of the file is without a sum. */
static enum fm_status dump(const json_t *head, struct fm_buf *out, struct fm_error *err)
{
    bool ok = head && !json_dump_callback(head, add_bytes, out, JSON_COMPACT | JSON_REAL_PRECISION(17));
    while (ok && !out->failed && (FIXED + out->len) % ALIGN) fm_buf_char(out, ' ');
    if (ok && !out->failed) return FM_OK;
    fm_buf_release(out);
    return fm_fail_memory(err, "checkpoint header", 0);
}

enum fm_status fm_checkpoint_save(const char *path, const json_t *head, const struct fm_checkpoint_array *arrays, int n,
                                  struct fm_error *err)
{
    struct fm_replace f;
    struct fm_buf json = {0};
    FM_TRY(dump(head, &json, err));
    enum fm_status st = fm_replace_open(&f, "save checkpoint", path, err);
    if (!st) {
        st = write_all(&f, json.data, json.len, arrays, n, err);
        if (st)
            fm_replace_abort(&f);
        else
            st = fm_replace_commit(&f, err);
    }
    fm_buf_release(&json);
    return st;
}

/* ---- load ---- */

static enum fm_status bad(const struct fm_checkpoint *k, const char *why, uint64_t at, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read checkpoint: %s: %s at byte %llu", k->path, why, (unsigned long long)at);
}

/* n bytes at the given place or an error naming it. */
static enum fm_status read_at(const struct fm_checkpoint *k, void *dst, size_t n, uint64_t at, struct fm_error *err)
{
    if (at > k->file_bytes || n > k->file_bytes - at) return bad(k, "the file ends early", k->file_bytes, err);
    char *p = dst;
    while (n) {
        const ssize_t got = pread(k->fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return bad(k, got < 0 ? strerror(errno) : "the file ends early", at, err);
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return FM_OK;
}

static enum fm_status read_head(struct fm_checkpoint *k, struct fm_error *err)
{
    unsigned char fixed[FIXED];
    uint32_t version, json_bytes;
    uint64_t sum;
    FM_TRY(read_at(k, fixed, FIXED, 0, err));
    memcpy(&version, fixed + 8, 4);
    memcpy(&json_bytes, fixed + 12, 4);
    memcpy(&k->array_bytes, fixed + 16, 8);
    memcpy(&sum, fixed + 24, 8);
    if (memcmp(fixed, MAGIC, 8)) return bad(k, "not a checkpoint of fathom", 0, err);
    if (version != VERSION) return bad(k, "a version this program does not know", 8, err);
    if (json_bytes > MAX_JSON) return bad(k, "header too long", 12, err);
    char *json = fm_malloc(json_bytes);
    if (!json) return fm_fail_memory(err, "checkpoint header", json_bytes);
    enum fm_status st = read_at(k, json, json_bytes, FIXED, err);
    if (!st && head_sum(fixed, json, json_bytes) != sum) st = bad(k, "wrong checksum of the header", 24, err);
    if (!st) st = fm_json_parse(json, json_bytes, k->path, &k->head, err);
    fm_free(json);
    k->offset = FIXED + json_bytes;
    return st;
}

static enum fm_status check_length(const struct fm_checkpoint *k, struct fm_error *err)
{
    if (k->offset > k->file_bytes || k->array_bytes > k->file_bytes)
        return bad(k, "the file ends early", k->file_bytes, err);
    const uint64_t want = k->offset + k->array_bytes + (k->array_bytes + BLOCK - 1) / BLOCK * 8;
    if (want > k->file_bytes) return bad(k, "the file ends early", k->file_bytes, err);
    return want < k->file_bytes ? bad(k, "bytes behind the end", want, err) : FM_OK;
}

enum fm_status fm_checkpoint_open(struct fm_checkpoint *k, const char *path, struct fm_error *err)
{
    struct stat s;
    *k = (struct fm_checkpoint){.path = fm_strdup(path), .fd = -1};
    enum fm_status st = k->path ? FM_OK : fm_fail_memory(err, "checkpoint", strlen(path));
    if (st) goto out;
    k->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (k->fd < 0 || fstat(k->fd, &s))
        FM_GOTO(fm_fail(err, FM_ERR_INPUT, "read checkpoint: %s: %s", path, strerror(errno)));
    if (!S_ISREG(s.st_mode)) FM_GOTO(fm_fail(err, FM_ERR_INPUT, "read checkpoint: %s: is not a regular file", path));
    k->file_bytes = (uint64_t)s.st_size;
    FM_GOTO(read_head(k, err));
    FM_GOTO(check_length(k, err));
out:
    if (st) fm_checkpoint_close(k);
    return st;
}

/* One block into buf, verified. */
static enum fm_status read_block(const struct fm_checkpoint *k, uint64_t index, char *buf, size_t *len,
                                 struct fm_error *err)
{
    const uint64_t start = index * BLOCK, at = k->offset + index * (BLOCK + 8), left = k->array_bytes - start;
    uint64_t sum;
    *len = left < BLOCK ? (size_t)left : BLOCK;
    FM_TRY(read_at(k, buf, *len, at, err));
    FM_TRY(read_at(k, &sum, sizeof sum, at + *len, err));
    return fm_sum_of(BLOCK_SEED + index, buf, *len) == sum ? FM_OK : bad(k, "wrong checksum of the block", at, err);
}

enum fm_status fm_checkpoint_read(struct fm_checkpoint *k, const struct fm_checkpoint_array *arrays, int n,
                                  struct fm_error *err)
{
    char *buf = fm_malloc(BLOCK);
    if (!buf) return fm_fail_memory(err, "checkpoint block", BLOCK);
    enum fm_status st = FM_OK;
    uint64_t index = 0, done = 0;
    size_t len = 0, used = 0;
    for (int i = 0; !st && i < n; i++)
        for (size_t at = 0; !st && at < arrays[i].bytes;) {
            if (used == len) {
                if (done >= k->array_bytes)
                    st = bad(k, "fewer values than the model needs", k->file_bytes, err);
                else
                    st = read_block(k, index++, buf, &len, err);
                if (st) break;
                done += len;
                used = 0;
            }
            const size_t want = arrays[i].bytes - at, have = len - used, take = want < have ? want : have;
            memcpy((char *)arrays[i].data + at, buf + used, take);
            at += take;
            used += take;
        }
    fm_free(buf);
    return st;
}

void fm_checkpoint_close(struct fm_checkpoint *k)
{
    if (k->fd >= 0 && k->path) close(k->fd);
    json_decref(k->head);
    fm_free(k->path);
    *k = (struct fm_checkpoint){.fd = -1};
}
