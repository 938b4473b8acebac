/* See stream.h. */
#include "run/stream.h"

#include <string.h>

/* The earliest stop text in s[n]: its place, or n. */
static size_t find_stop(struct fm_stream *s, const char *p, size_t n)
{
    size_t at = n;
    for (int i = 0; i < s->n_stop; i++) {
        size_t len = strlen(s->stop[i]);
        const char *hit = len ? memmem(p, n, s->stop[i], len) : NULL;
        if (!hit || (size_t)(hit - p) >= at) continue;
        at = (size_t)(hit - p);
        s->met = s->stop[i];
    }
    return at;
}

/* Bytes at the end of p[n] that may be the beginning of a stop text. */
static size_t maybe_stop(const struct fm_stream *s, const char *p, size_t n)
{
    size_t longest = 0;
    for (int i = 0; i < s->n_stop; i++) {
        size_t len = strlen(s->stop[i]);
        for (size_t k = len ? len - 1 : 0; k > longest; k--)
            if (k <= n && !memcmp(p + n - k, s->stop[i], k)) longest = k;
    }
    return longest;
}

/* Bytes at the end of p[n] that begin a code point whose rest may still come: 0 … 3. */
static size_t maybe_codepoint(const char *p, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        unsigned char c = (unsigned char)p[n - k];
        if ((c & 0xC0) == 0x80) continue;
        size_t len = c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 1;
        if (len <= k) return 0;
        unsigned char second = k > 1 ? (unsigned char)p[n - k + 1] : 0;
        /* these second bytes can no longer become a code point (RFC 3629 §4) */
        bool dead = k > 1 && ((c == 0xE0 && second < 0xA0) || (c == 0xED && second > 0x9F) ||
                              (c == 0xF0 && second < 0x90) || (c == 0xF4 && second > 0x8F));
        return dead ? 0 : k;
    }
    return 0;
}

/* Hand out p[n] with invalid bytes replaced. */
static bool emit(struct fm_stream *s, const char *p, size_t n)
{
    if (!n || !s->out || s->refused) return true;
    if (fm_utf8_valid(p, n)) {
        s->refused = !s->out(s->arg, p, n);
        return true;
    }
    struct fm_buf b = {0};
    fm_buf_valid(&b, p, n);
    bool ok = !b.failed;
    if (ok) s->refused = !s->out(s->arg, b.data, b.len);
    fm_buf_release(&b);
    return ok;
}

bool fm_stream_push(struct fm_stream *s, const char *bytes, size_t n)
{
    if (s->stopped) return true;
    fm_buf_add(&s->held, bytes, n);
    if (s->held.failed) return false;
    const char *p = s->held.data;
    size_t len = s->held.len, sure = len ? find_stop(s, p, len) : 0;
    s->stopped = sure < len;
    if (!s->stopped) {
        sure -= len ? maybe_stop(s, p, len) : 0;
        sure -= sure ? maybe_codepoint(p, sure) : 0;
    }
    bool ok = emit(s, p, sure);
    if (sure) memmove(s->held.data, p + sure, len - sure);
    s->held.len = s->stopped ? 0 : len - sure;
    return ok;
}

enum fm_status fm_stream_token(struct fm_stream *s, const struct fm_tokenizer *t, int32_t before, int32_t id,
                               struct fm_buf *a, struct fm_buf *b, struct fm_error *err)
{
    const int32_t pair[2] = {before, id};
    const int context = before >= 0 && before < fm_tokenizer_size(t) && !fm_tokenizer_is_special(t, before);
    fm_buf_clear(a);
    fm_buf_clear(b);
    if (context) FM_TRY(fm_tokenizer_decode(t, pair, 1, a, err));
    FM_TRY(fm_tokenizer_decode(t, pair + 1 - context, (size_t)(1 + context), b, err));
    const size_t skip = a->len <= b->len ? a->len : b->len;
    return fm_stream_push(s, b->data ? b->data + skip : "", b->len - skip)
               ? FM_OK
               : fm_fail_memory(err, "generated text", b->len);
}

bool fm_stream_end(struct fm_stream *s)
{
    bool ok = s->stopped || emit(s, s->held.data, s->held.len);
    fm_buf_clear(&s->held);
    return ok;
}

void fm_stream_release(struct fm_stream *s) { fm_buf_release(&s->held); }
