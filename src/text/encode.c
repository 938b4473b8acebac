/* Text → ids: added tokens, then pieces, then merges. */
#include <string.h>

#include "text/nfc.h"
#include "text/tokenizer_impl.h"

enum fm_status fm_ids_reserve(struct fm_ids *ids, size_t more, struct fm_error *err);

struct encoder {
    const struct fm_tokenizer *t;
    struct fm_ids *out;
};

static enum fm_status no_byte(const struct fm_tokenizer *t, unsigned char byte, struct fm_ids *out,
                              struct fm_error *err)
{
    if (t->unk >= 0) return fm_ids_push(out, t->unk, err);
    return fm_fail(err, FM_ERR_INPUT, "encode text: byte 0x%02X: the vocabulary has no token for it", byte);
}

/* ---- byte-level BPE ---- */

static enum fm_status bytes_piece(void *arg, const char *piece, size_t n, struct fm_error *err)
{
    const struct encoder *e = arg;
    const struct fm_tokenizer *t = e->t;
    if (t->ignore_merges) {
        int32_t id = fm_vocab_find(&t->vocab, piece, n);
        if (id >= 0) return fm_ids_push(e->out, id, err);
    }
    FM_TRY(fm_ids_reserve(e->out, n, err));
    size_t start = e->out->n;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(unsigned char)piece[i]];
        FM_TRY(id < 0 ? no_byte(t, (unsigned char)piece[i], e->out, err) : fm_ids_push(e->out, id, err));
    }
    size_t count = e->out->n - start;
    FM_TRY(fm_bpe_merge(&t->pairs, e->out->data + start, &count, err));
    e->out->n = start + count;
    return FM_OK;
}

static enum fm_status encode_bytes(struct encoder *e, const char *s, size_t n, struct fm_error *err)
{
    struct fm_buf prefixed = {0};
    if (e->t->pre.prefix_space && n && *s != ' ') {
        fm_buf_char(&prefixed, ' ');
        fm_buf_add(&prefixed, s, n);
        if (prefixed.failed) return fm_fail_memory(err, "text", n);
        s = prefixed.data;
        n = prefixed.len;
    }
    enum fm_status st = fm_pre_split(&e->t->pre, s, n, bytes_piece, e, err);
    fm_buf_release(&prefixed);
    return st;
}

/* ---- SentencePiece ---- */

static enum fm_status chars_piece(struct encoder *e, const char *s, size_t n, struct fm_error *err)
{
    const struct fm_tokenizer *t = e->t;
    FM_TRY(fm_ids_reserve(e->out, n, err));
    size_t start = e->out->n;
    for (size_t i = 0; i < n;) {
        int used;
        bool valid = fm_utf8_decode(s + i, n - i, &used) >= 0;
        int32_t id = valid ? fm_vocab_find(&t->vocab, s + i, (size_t)used) : -1;
        if (id >= 0)
            FM_TRY(fm_ids_push(e->out, id, err));
        else if (t->byte_id[(unsigned char)s[i]] < 0) /* no byte tokens: one <unk> for the character */
            FM_TRY(no_byte(t, (unsigned char)s[i], e->out, err));
        else
            for (int k = 0; k < used; k++) {
                int32_t b = t->byte_id[(unsigned char)s[i + (size_t)k]];
                FM_TRY(b < 0 ? no_byte(t, (unsigned char)s[i + (size_t)k], e->out, err) : fm_ids_push(e->out, b, err));
            }
        i += (size_t)used;
    }
    size_t count = e->out->n - start;
    FM_TRY(fm_bpe_merge(&t->pairs, e->out->data + start, &count, err));
    e->out->n = start + count;
    return FM_OK;
}

/* '▁' is a space from here on: both are the same token, and it decodes to a space. */
static void normalise(const struct fm_tokenizer *t, const char *s, size_t n, bool first, struct fm_buf *out)
{
    bool leading = n && (*s == ' ' || (n >= 3 && !memcmp(s, "\xE2\x96\x81", 3)));
    bool want = t->prefix == FM_PREFIX_ALWAYS || (t->prefix == FM_PREFIX_ABSENT && !leading) ||
                (t->prefix == FM_PREFIX_FIRST && first && !leading);
    if (want && !(t->collapse_spaces && leading)) fm_buf_char(out, ' ');
    size_t kept = out->len;
    for (size_t i = 0; i < n;) {
        bool mark = n - i >= 3 && !memcmp(s + i, "\xE2\x96\x81", 3);
        char c = mark ? ' ' : s[i];
        if (!t->collapse_spaces || c != ' ' || !out->len || out->data[out->len - 1] != ' ') fm_buf_char(out, c);
        i += mark ? 3 : 1;
    }
    while (t->collapse_spaces && !out->failed && out->len > kept && out->data[out->len - 1] == ' ') out->len--;
}

/* Does a piece begin at s, which is not the first byte?  Where no token joins a non-space to a space, words are
 * independent, and short pieces are fast. */
static bool is_cut(const struct fm_tokenizer *t, const char *s)
{
    return *s == ' ' && (t->split_spaces || (t->word_bound && s[-1] != ' '));
}

static enum fm_status encode_chars(struct encoder *e, const char *s, size_t n, bool first, struct fm_error *err)
{
    struct fm_buf text = {0};
    normalise(e->t, s, n, first, &text);
    enum fm_status st = text.failed ? fm_fail_memory(err, "text", n) : FM_OK;
    for (size_t i = 0; i < text.len && !st;) {
        size_t k = i + 1;
        while (k < text.len && !is_cut(e->t, text.data + k)) k++;
        st = chars_piece(e, text.data + i, k - i, err);
        i = k;
    }
    fm_buf_release(&text);
    return st;
}

/* ---- all ---- */

static enum fm_status encode_normal(struct encoder *e, const char *s, size_t n, bool first, struct fm_error *err)
{
    return e->t->spm ? encode_chars(e, s, n, first, err) : encode_bytes(e, s, n, err);
}

static enum fm_status encode_plain(struct encoder *e, const char *s, size_t n, bool first, struct fm_error *err)
{
    if (!n) return FM_OK;
    if (!e->t->nfc || !fm_nfc_matters(s, n)) return encode_normal(e, s, n, first, err);
    struct fm_buf text = {0};
    enum fm_status st = fm_nfc(s, n, &text, err);
    if (!st && text.len) st = encode_normal(e, text.data, text.len, first, err);
    fm_buf_release(&text);
    return st;
}

static enum fm_status encode_all(struct encoder *e, const char *text, size_t n, unsigned flags, struct fm_error *err)
{
    const struct fm_tokenizer *t = e->t;
    if (flags & FM_ENCODE_BOS && t->bos >= 0) FM_TRY(fm_ids_push(e->out, t->bos, err));
    size_t at = 0, begin, end;
    int32_t id;
    bool outer = !(flags & FM_ENCODE_INNER);
    unsigned need = flags & FM_ENCODE_SPECIAL ? 0 : FM_ADDED_TEXT;
    while (fm_added_next(&t->added, text, n, at, need, &begin, &end, &id)) {
        FM_TRY(encode_plain(e, text + at, begin - at, outer && at == 0, err));
        FM_TRY(fm_ids_push(e->out, id, err));
        at = end;
    }
    FM_TRY(encode_plain(e, text + at, n - at, outer && at == 0, err));
    if (flags & FM_ENCODE_EOS && t->eos >= 0) FM_TRY(fm_ids_push(e->out, t->eos, err));
    return FM_OK;
}

enum fm_status fm_tokenizer_encode(const struct fm_tokenizer *t, const char *text, size_t n, unsigned flags,
                                   struct fm_ids *out, struct fm_error *err)
{
    struct encoder e = {t, out};
    size_t before = out->n;
    enum fm_status st = encode_all(&e, text, n, flags, err);
    if (st) out->n = before;
    return st;
}
