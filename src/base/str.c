/* See str.h. */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"

void fm_buf_release(struct fm_buf *b)
{
    fm_free(b->data);
    *b = (struct fm_buf){0};
}

void fm_buf_clear(struct fm_buf *b)
{
    b->len = 0;
    if (b->data) b->data[0] = 0;
}

static bool reserve(struct fm_buf *b, size_t more)
{
    if (b->failed) return false;
    size_t need;
    if (!fm_add_size(b->len, more, &need) || !fm_add_size(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap) return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *p = fm_realloc(b->data, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

void fm_buf_add(struct fm_buf *b, const void *p, size_t n)
{
    if (!reserve(b, n)) return;
    if (n) memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = 0;
}

void fm_buf_str(struct fm_buf *b, const char *s) { fm_buf_add(b, s, strlen(s)); }

void fm_buf_char(struct fm_buf *b, char c) { fm_buf_add(b, &c, 1); }

void fm_buf_printf(struct fm_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(b, (size_t)n)) return;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void fm_buf_utf8(struct fm_buf *b, uint32_t c)
{
    char s[4];
    size_t n;
    if (c < 0x80) {
        s[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        s[0] = (char)(0xC0 | c >> 6);
        s[1] = (char)(0x80 | (c & 63));
        n = 2;
    } else if (c < 0x10000) {
        s[0] = (char)(0xE0 | c >> 12);
        s[1] = (char)(0x80 | (c >> 6 & 63));
        s[2] = (char)(0x80 | (c & 63));
        n = 3;
    } else {
        s[0] = (char)(0xF0 | c >> 18);
        s[1] = (char)(0x80 | (c >> 12 & 63));
        s[2] = (char)(0x80 | (c >> 6 & 63));
        s[3] = (char)(0x80 | (c & 63));
        n = 4;
    }
    fm_buf_add(b, s, n);
}

enum fm_status fm_buf_read_file(struct fm_buf *b, const char *path, size_t limit, struct fm_error *err)
{
    struct fm_map m;
    FM_TRY(fm_map_open(&m, path, err));
    enum fm_status st = FM_OK;
    if (m.size > limit)
        st = fm_fail(err, FM_ERR_INPUT, "read file: %s: %zu bytes, at most %zu are accepted", path, m.size, limit);
    else {
        fm_buf_add(b, m.data, m.size);
        if (b->failed) st = fm_fail_memory(err, path, m.size);
    }
    fm_map_close(&m);
    return st;
}

bool fm_ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

int32_t fm_utf8_decode(const char *str, size_t n, int *used)
{
    const unsigned char *s = (const unsigned char *)str;
    *used = 1;
    if (s[0] < 0x80) return s[0];
    int len = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n < (size_t)len) return -1;
    int32_t c = s[0] & (0x7F >> len);
    for (int i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return -1;
        c = c << 6 | (s[i] & 63);
    }
    if ((len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10FFFF)) || (c >= 0xD800 && c < 0xE000))
        return -1;
    *used = len;
    return c;
}

bool fm_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        int used;
        if (fm_utf8_decode(s + i, n - i, &used) < 0) return false;
        i += (size_t)used;
    }
    return true;
}

void fm_buf_valid(struct fm_buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        int used;
        if (fm_utf8_decode(s + i, n - i, &used) < 0)
            fm_buf_utf8(b, 0xFFFD);
        else
            fm_buf_add(b, s + i, (size_t)used);
        i += (size_t)used;
    }
}

int fm_compare_strings(const void *a, const void *b)
{
    const char *x, *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return strcmp(x, y);
}
