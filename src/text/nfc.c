/* See nfc.h.  Only stretches that could change are taken apart:
 *
 *   … plain text  e ◌́ ◌̣ ᄒ ᅡ ᆫ  plain text …
 *                └ stretch: from the last plain character before to the next one behind
 *
 * A plain character stands for itself, never joins the one before it, and no mark can move across it. */
#include "text/nfc.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

/* Ranges whose every character is plain: quick to tell, and most of what is written. */
static const struct {
    int32_t from, to;
} plain[] = {
    {0, 0x2FF},         /* Latin              */
    {0x4E00, 0x9FFF},   /* CJK                */
    {0x400, 0x482},     /* Cyrillic           */
    {0x3041, 0x3096},   /* hiragana           */
    {0x30A0, 0x30FA},   /* katakana           */
    {0xAC00, 0xD7A3},   /* Hangul syllables   */
    {0x620, 0x64A},     /* Arabic letters     */
    {0x2010, 0x2027},   /* dashes and quotes  */
    {0x3001, 0x3029},   /* CJK punctuation    */
    {0xFF01, 0xFF5E},   /* wide ASCII         */
    {0x1F300, 0x1F64F}, /* pictures           */
    {0x11A7, 0x11A7},   /* no final consonant, but what they are counted from: utf8proc 2.8 would swallow it */
};

static bool is_plain(int32_t c)
{
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (c >= plain[i].from && c <= plain[i].to) return true;
    return false;
}

bool fm_nfc_matters(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        int used;
        const int32_t c = fm_utf8_decode(s + i, n - i, &used);
        if (c >= 0 && !is_plain(c)) return true;
        i += (size_t)used;
    }
    return false;
}

static int class_of(int32_t c) { return utf8proc_get_property(c)->combining_class; }

struct mark {
    int32_t c;
    uint32_t order;
};

static int compare_marks(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Marks in the order of their classes, equal ones as they stood: runs are short, and long ones are sorted in n·log n. */
static bool order_marks(int32_t *c, size_t n)
{
    enum { SHORT = 32, INDEX_BITS = 24 };
    if (n <= SHORT || n >= (size_t)1 << INDEX_BITS) {
        for (size_t i = 1; i < n; i++)
            for (size_t k = i; k > 0 && class_of(c[k - 1]) > class_of(c[k]); k--) {
                const int32_t swap = c[k];
                c[k] = c[k - 1];
                c[k - 1] = swap;
            }
        return true;
    }
    struct mark *m = fm_malloc(n * sizeof *m);
    if (!m) return false;
    for (size_t i = 0; i < n; i++) m[i] = (struct mark){c[i], (uint32_t)class_of(c[i]) << INDEX_BITS | (uint32_t)i};
    qsort(m, n, sizeof *m, compare_marks);
    for (size_t i = 0; i < n; i++) c[i] = m[i].c;
    fm_free(m);
    return true;
}

static bool order_all(int32_t *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t end = i;
        while (end < n && class_of(c[end])) end++;
        if (end > i && !order_marks(c + i, end - i)) return false;
        i = end;
    }
    return true;
}

/* Form C of s[n], which is UTF-8. */
static enum fm_status compose(const char *s, size_t n, struct fm_buf *out, struct fm_error *err)
{
    enum { MOST = 18 }; /* characters that one comes apart into, by UAX 15 */
    size_t count = 0, room = 0, bytes;
    int32_t *c = NULL;
    enum fm_status st = FM_OK;
    for (size_t i = 0; i < n && !st;) {
        int used;
        const int32_t one = fm_utf8_decode(s + i, n - i, &used);
        if (room - count < MOST) {
            room = room + room / 2 + 4 * MOST;
            int32_t *more = fm_mul_size(room, sizeof *c, &bytes) ? fm_realloc(c, bytes) : NULL;
            if (!more) st = fm_fail_memory(err, "text in form C", room * sizeof *c);
            if (more) c = more;
        }
        utf8proc_ssize_t got =
            st ? 0 : utf8proc_decompose_char(one, c + count, MOST, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
        if (got > 0) count += (size_t)got;
        i += (size_t)used;
    }
    if (!st && !order_all(c, count)) st = fm_fail_memory(err, "text in form C", count * sizeof(struct mark));
    utf8proc_ssize_t left =
        st ? 0 : utf8proc_normalize_utf32(c, (utf8proc_ssize_t)count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < left; i++) fm_buf_utf8(out, (uint32_t)c[i]);
    fm_free(c);
    return st;
}

enum fm_status fm_nfc(const char *s, size_t n, struct fm_buf *out, struct fm_error *err)
{
    size_t done = 0, before = 0; /* written up to; the plain character in front of i begins here, or i */
    for (size_t i = 0; i < n;) {
        int used;
        int32_t c = fm_utf8_decode(s + i, n - i, &used);
        if (c < 0 || is_plain(c)) {
            before = c < 0 ? i + 1 : i;
            i += (size_t)used;
            continue;
        }
        fm_buf_add(out, s + done, before - done);
        while (i < n && (c = fm_utf8_decode(s + i, n - i, &used)) >= 0 && !is_plain(c)) i += (size_t)used;
        FM_TRY(compose(s + before, i - before, out, err));
        done = before = i;
    }
    fm_buf_add(out, s + done, n - done);
    return out->failed ? fm_fail_memory(err, "text in form C", n) : FM_OK;
}
