/* One file of a corpus: plain, zstd frames (RFC 8878), a ustar archive (POSIX.1-1988), or an archive in frames. */
#include <stdbool.h>
#include <string.h>
#include <zstd.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "train/corpus.h"

enum { TAR_BLOCK = 512, COUNT_BUFFER = 1 << 17 };

int fm_corpus_is_tar(const char *path) { return fm_ends_with(path, ".tar") || fm_ends_with(path, ".tar.zst"); }

static enum fm_status zstd_fail(const char *path, const char *why, size_t at, struct fm_error *err)
{
    return fm_fail(err, FM_ERR_INPUT, "read corpus: %s: zstd: %s at byte %zu", path, why, at);
}

/* Unpack m into dst[cap], or with dst NULL only count.  *len: bytes produced, at most cap. */
static enum fm_status unpack(const char *path, const struct fm_map *m, char *dst, size_t cap, size_t *len,
                             struct fm_error *err)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    char *scratch = dst ? NULL : fm_malloc(COUNT_BUFFER);
    enum fm_status st = z && (dst || scratch) ? FM_OK : fm_fail_memory(err, path, COUNT_BUFFER);
    ZSTD_inBuffer in = {m->data, m->size, 0};
    size_t made = 0, rc = 0;
    while (!st && in.pos < in.size && made < cap) {
        ZSTD_outBuffer out =
            dst ? (ZSTD_outBuffer){dst + made, cap - made, 0} : (ZSTD_outBuffer){scratch, COUNT_BUFFER, 0};
        rc = ZSTD_decompressStream(z, &out, &in);
        if (ZSTD_isError(rc)) st = zstd_fail(path, ZSTD_getErrorName(rc), in.pos, err);
        made += out.pos;
    }
    if (!st && rc && made < cap) st = zstd_fail(path, "file ends in a frame", m->size, err);
    if (!st) *len = made;
    fm_free(scratch);
    ZSTD_freeDStream(z);
    return st;
}

/* The frame's own word for its size, when there is one frame and it says so; otherwise unpack and count. */
static enum fm_status zstd_bound(const char *path, const struct fm_map *m, uint64_t *bytes, struct fm_error *err)
{
    unsigned long long n = ZSTD_getFrameContentSize(m->data, m->size);
    if (n == ZSTD_CONTENTSIZE_ERROR) return zstd_fail(path, "not a zstd file", 0, err);
    if (n != ZSTD_CONTENTSIZE_UNKNOWN && ZSTD_findFrameCompressedSize(m->data, m->size) == m->size) {
        *bytes = n;
        return FM_OK;
    }
    size_t counted;
    FM_TRY(unpack(path, m, NULL, SIZE_MAX, &counted, err));
    *bytes = counted;
    return FM_OK;
}

enum fm_status fm_corpus_file_bound(const char *path, uint64_t *bytes, struct fm_error *err)
{
    struct fm_map m;
    FM_TRY(fm_map_open(&m, path, err));
    enum fm_status st = FM_OK;
    if (m.size && fm_ends_with(path, ".zst"))
        st = zstd_bound(path, &m, bytes, err);
    else
        *bytes = m.size;
    fm_map_close(&m);
    return st;
}

enum fm_status fm_corpus_file_read(const char *path, char *dst, size_t cap, size_t *len, struct fm_error *err)
{
    struct fm_map m;
    FM_TRY(fm_map_open(&m, path, err));
    enum fm_status st = FM_OK;
    if (m.size && fm_ends_with(path, ".zst"))
        st = unpack(path, &m, dst, cap, len, err);
    else {
        *len = m.size < cap ? m.size : cap;
        if (*len) memcpy(dst, m.data, *len);
    }
    fm_map_close(&m);
    return st;
}

/* ---- tar ---- */

/* A header: name at 0 (100), size at 124 (12), checksum at 148 (8), type at 156, prefix at 345 (155). */
static bool octal(const char *p, size_t width, uint64_t *out)
{
    uint64_t v = 0;
    size_t i = 0;
    while (i < width && p[i] == ' ') i++;
    for (; i < width && p[i] >= '0' && p[i] <= '7'; i++) v = v << 3 | (uint64_t)(p[i] - '0');
    *out = v;
    return i < width ? p[i] == 0 || p[i] == ' ' : true;
}

/* Sizes of 8 GiB and more are base 256, marked by the top bit (GNU and POSIX pax writers). */
static bool member_size(const char *p, uint64_t *out)
{
    if (!((unsigned char)p[0] & 0x80)) return octal(p, 12, out);
    uint64_t v = 0;
    for (int i = 4; i < 12; i++) v = v << 8 | (unsigned char)p[i];
    *out = v;
    return v <= INT64_MAX;
}

static bool checksum_ok(const char *h)
{
    uint64_t want, sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : (unsigned char)h[i];
    return octal(h + 148, 8, &want) && want == sum;
}

static bool all_zero(const char *h)
{
    for (int i = 0; i < TAR_BLOCK; i++)
        if (h[i]) return false;
    return true;
}

/* Types '0' and NUL are files; folders, links and the extension records x, g, L, K carry no text. */
static bool is_file(char type) { return type == '0' || type == 0 || type == '7'; }

enum fm_status fm_corpus_tar_next(const char *where, const char *data, size_t n, size_t *offset, char *name,
                                  const char **member, size_t *size, struct fm_error *err)
{
    for (;;) {
        const char *h = data + *offset;
        if (n - *offset < TAR_BLOCK || all_zero(h)) {
            *size = SIZE_MAX;
            return FM_OK;
        }
        uint64_t bytes;
        if (!checksum_ok(h) || !member_size(h + 124, &bytes))
            return fm_fail(err, FM_ERR_INPUT, "read corpus: %s: tar: bad header at byte %zu", where, *offset);
        const size_t left = n - *offset - TAR_BLOCK;
        if (bytes > left)
            return fm_fail(err, FM_ERR_INPUT, "read corpus: %s: tar: member at byte %zu ends outside the file", where,
                           *offset);
        const size_t padded = (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
        *offset += TAR_BLOCK + (padded < left ? padded : left);
        if (!is_file(h[156])) continue;
        memcpy(name, h, 100);
        name[100] = 0;
        *member = h + TAR_BLOCK;
        *size = bytes;
        return FM_OK;
    }
}
