/* See pyjson.h. */
#include "base/pyjson.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- memory ---- */

enum { CHUNK_BYTES = 1 << 16 };

struct fm_py_chunk {
    struct fm_py_chunk *next;
    size_t used, cap;
    max_align_t data[];
};

void fm_py_release(struct fm_py_doc *d)
{
    while (d->chunks) {
        struct fm_py_chunk *c = d->chunks;
        d->chunks = c->next;
        fm_free(c);
    }
    d->n_values = 0;
}

static void *take(struct fm_py_doc *d, size_t bytes)
{
    struct fm_py_chunk *c = d->chunks;
    bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (!c || c->cap - c->used < bytes) {
        size_t cap = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        if (!(c = fm_malloc(sizeof *c + cap))) return NULL;
        *c = (struct fm_py_chunk){.next = d->chunks, .cap = cap};
        d->chunks = c;
    }
    void *p = (char *)c->data + c->used;
    c->used += bytes;
    return p;
}

char *fm_py_copy(struct fm_py_doc *d, const char *s, size_t n)
{
    char *p = take(d, n + 1);
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

void *fm_py_room(struct fm_py_doc *d, size_t bytes)
{
    void *p = take(d, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

/* ---- reading ---- */

struct reader {
    struct fm_py_doc *d;
    const char *text, *p, *end, *what;
    struct fm_error *err;
    int depth;
};

static enum fm_status bad(const struct reader *r, const char *at, const char *why)
{
    return fm_fail(r->err, FM_ERR_INPUT, "%s: byte %zu: %s", r->what, (size_t)(at - r->text), why);
}

static void skip_blank(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r')) r->p++;
}

static bool at(const struct reader *r, char c) { return r->p < r->end && *r->p == c; }

static bool digits(struct reader *r)
{
    const char *from = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9') r->p++;
    return r->p > from;
}

static enum fm_status read_number(struct reader *r, struct fm_py *v)
{
    const char *from = r->p;
    if (at(r, '-')) r->p++;
    if (at(r, '0'))
        r->p++;
    else if (!digits(r))
        return bad(r, from, "no JSON value");
    if (at(r, '.')) {
        r->p++;
        if (!digits(r)) return bad(r, r->p, "a digit is missing");
    }
    if (at(r, 'e') || at(r, 'E')) {
        r->p++;
        if (at(r, '+') || at(r, '-')) r->p++;
        if (!digits(r)) return bad(r, r->p, "a digit is missing");
    }
    v->kind = FM_PY_NUMBER;
    v->text.n = (size_t)(r->p - from);
    v->text.s = fm_py_copy(r->d, from, v->text.n);
    return v->text.s ? FM_OK : fm_fail_memory(r->err, "JSON", v->text.n);
}

static bool hex4(struct reader *r, uint32_t *c)
{
    *c = 0;
    if (r->end - r->p < 4) return false;
    for (int i = 0; i < 4; i++) {
        char h = *r->p++;
        uint32_t x = h >= '0' && h <= '9' ? h - '0' : (h | 32) >= 'a' && (h | 32) <= 'f' ? (h | 32) - 'a' + 10 : 16;
        if (x > 15) return false;
        *c = *c << 4 | x;
    }
    return true;
}

/* Behind a backslash. */
static enum fm_status read_escape(struct reader *r, struct fm_buf *b)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *start = r->p - 1;
    if (r->p == r->end) return bad(r, start, "the text ends inside a string");
    char c = *r->p++;
    const char *hit = c ? strchr(from, c) : NULL;
    if (hit) {
        fm_buf_char(b, to[hit - from]);
        return FM_OK;
    }
    uint32_t hi, lo;
    if (c != 'u' || !hex4(r, &hi)) return bad(r, start, "no such escape");
    if (hi >= 0xDC00 && hi < 0xE000) return bad(r, start, "half of a surrogate pair");
    if (hi >= 0xD800 && hi < 0xDC00) {
        if (r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u') return bad(r, start, "half of a surrogate pair");
        r->p += 2;
        if (!hex4(r, &lo) || lo < 0xDC00 || lo >= 0xE000) return bad(r, start, "half of a surrogate pair");
        hi = 0x10000 + ((hi - 0xD800) << 10) + (lo - 0xDC00);
    }
    fm_buf_utf8(b, hi);
    return FM_OK;
}

static enum fm_status read_chars(struct reader *r, struct fm_buf *b)
{
    const char *start = r->p++;
    for (;;) {
        const char *from = r->p;
        while (r->p < r->end && *r->p != '"' && *r->p != '\\' && (unsigned char)*r->p >= 0x20) {
            int used;
            if (fm_utf8_decode(r->p, (size_t)(r->end - r->p), &used) < 0) return bad(r, r->p, "no UTF-8");
            r->p += used;
        }
        fm_buf_add(b, from, (size_t)(r->p - from));
        if (r->p == r->end) return bad(r, start, "the string has no end");
        char c = *r->p;
        if ((unsigned char)c < 0x20) return bad(r, r->p, "a control character inside a string");
        r->p++;
        if (c == '"') return FM_OK;
        FM_TRY(read_escape(r, b));
    }
}

static enum fm_status read_string(struct reader *r, struct fm_span *out)
{
    struct fm_buf b = {0};
    enum fm_status st = read_chars(r, &b);
    if (!st) {
        out->n = b.len;
        out->s = b.failed ? NULL : fm_py_copy(r->d, b.data, b.len);
        if (!out->s) st = fm_fail_memory(r->err, "JSON", b.len);
    }
    fm_buf_release(&b);
    return st;
}

static enum fm_status read_value(struct reader *r, struct fm_py **out);

/* Equal keys in their order: n holds the place while sorting. */
static int by_key(const void *a, const void *b)
{
    const struct fm_py *x = *(struct fm_py *const *)a, *y = *(struct fm_py *const *)b;
    size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
    int c = n ? memcmp(x->key.s, y->key.s, n) : 0;
    if (c) return c;
    if (x->key.n != y->key.n) return x->key.n < y->key.n ? -1 : 1;
    return x->n < y->n ? -1 : x->n > y->n;
}

static bool same_key(const struct fm_py *a, const struct fm_py *b)
{
    return a->key.n == b->key.n && (!a->key.n || !memcmp(a->key.s, b->key.s, a->key.n));
}

/* a takes b's value and keeps its own place. */
static void take_value(struct fm_py *a, const struct fm_py *b)
{
    const struct fm_py *next = a->next;
    *a = *b;
    a->next = next;
}

/* members[n] in their order; of equal keys the last value moves to the first place.  Counts wait in `count`. */
static enum fm_status unite_keys(const struct reader *r, struct fm_py *v)
{
    size_t n = v->n, kept = 0;
    struct fm_py **m = fm_malloc(2 * n * sizeof *m);
    size_t *count = fm_malloc(n * sizeof *count);
    bool *gone = fm_calloc(n, sizeof *gone);
    enum fm_status st = m && count && gone ? FM_OK : fm_fail_memory(r->err, "JSON", n * sizeof *m);
    struct fm_py *p = (struct fm_py *)v->first;
    for (size_t i = 0; !st && i < n; i++, p = (struct fm_py *)p->next) {
        m[i] = m[n + i] = p;
        count[i] = p->n;
        p->n = i;
    }
    if (!st) qsort(m, n, sizeof *m, by_key);
    for (size_t i = 0, k; !st && i < n; i = k) {
        size_t place = m[i]->n;
        for (k = i + 1; k < n && same_key(m[i], m[k]); k++) gone[m[k]->n] = true;
        if (k > i + 1) count[place] = count[m[k - 1]->n], take_value(m[i], m[k - 1]), m[i]->n = place;
    }
    struct fm_py *last = NULL;
    for (size_t i = 0; !st && i < n; i++) {
        m[n + i]->n = count[i];
        if (gone[i]) continue;
        if (last) last->next = m[n + i];
        last = m[n + i];
        last->next = NULL;
        kept++;
    }
    if (!st) v->n = kept;
    fm_free(m);
    fm_free(count);
    fm_free(gone);
    return st;
}

/* What stands between brackets; *r->p is the opening one. */
static enum fm_status read_items(struct reader *r, struct fm_py *v, char close)
{
    const char *start = r->p++;
    struct fm_py *last = NULL, *item;
    skip_blank(r);
    if (at(r, close)) {
        r->p++;
        return FM_OK;
    }
    for (;;) {
        struct fm_span key = {0};
        skip_blank(r);
        if (v->kind == FM_PY_OBJECT) {
            if (!at(r, '"')) return bad(r, r->p, "a key in quotes is missing");
            FM_TRY(read_string(r, &key));
            skip_blank(r);
            if (!at(r, ':')) return bad(r, r->p, "':' is missing behind a key");
            r->p++;
        }
        FM_TRY(read_value(r, &item));
        item->key = key;
        if (last)
            last->next = item;
        else
            v->first = item;
        last = item;
        v->n++;
        skip_blank(r);
        if (r->p == r->end) return bad(r, start, "the bracket has no end");
        char c = *r->p++;
        if (c == close) break;
        if (c != ',') return bad(r, r->p - 1, close == ']' ? "',' or ']' is missing" : "',' or '}' is missing");
    }
    return v->kind == FM_PY_OBJECT && v->n > 1 ? unite_keys(r, v) : FM_OK;
}

static bool word(struct reader *r, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, w, n) != 0) return false;
    r->p += n;
    return true;
}

static enum fm_status read_value(struct reader *r, struct fm_py **out)
{
    skip_blank(r);
    if (r->p == r->end) return bad(r, r->p, "a value is missing");
    if (r->d->n_values++ == FM_PY_MAX_VALUES) return bad(r, r->p, "too many values");
    struct fm_py *v = take(r->d, sizeof *v);
    if (!v) return fm_fail_memory(r->err, "JSON", sizeof *v);
    *v = (struct fm_py){0};
    *out = v;
    char c = *r->p;
    if (c == '{' || c == '[') {
        v->kind = c == '{' ? FM_PY_OBJECT : FM_PY_ARRAY;
        if (r->depth == FM_PY_MAX_DEPTH) return bad(r, r->p, "nested too deeply");
        r->depth++;
        FM_TRY(read_items(r, v, c == '{' ? '}' : ']'));
        r->depth--;
        return FM_OK;
    }
    if (c == '"') {
        v->kind = FM_PY_STRING;
        return read_string(r, &v->text);
    }
    if (word(r, "null")) return FM_OK;
    if (word(r, "true") || word(r, "false")) {
        v->kind = c == 't' ? FM_PY_TRUE : FM_PY_FALSE;
        return FM_OK;
    }
    return read_number(r, v);
}

enum fm_status fm_py_parse(struct fm_py_doc *d, const char *text, size_t n, const char *what, const struct fm_py **out,
                           struct fm_error *err)
{
    if (!text) text = "";
    struct reader r = {.d = d, .text = text, .p = text, .end = text + n, .what = what, .err = err};
    struct fm_py *v;
    if (n > FM_PY_MAX_BYTES) return fm_fail(err, FM_ERR_INPUT, "%s: %zu bytes: more than %d", what, n, FM_PY_MAX_BYTES);
    FM_TRY(read_value(&r, &v));
    skip_blank(&r);
    if (r.p < r.end) return bad(&r, r.p, "more behind the value");
    *out = v;
    return FM_OK;
}

/* ---- asking and writing ---- */

bool fm_span_is(struct fm_span s, const char *w) { return s.n == strlen(w) && (!s.n || !memcmp(s.s, w, s.n)); }

const struct fm_py *fm_py_get(const struct fm_py *v, const char *key)
{
    for (const struct fm_py *p = v && v->kind == FM_PY_OBJECT ? v->first : NULL; p; p = p->next)
        if (fm_span_is(p->key, key)) return p;
    return NULL;
}

bool fm_py_is(const struct fm_py *v, const char *word)
{
    return v && v->kind == FM_PY_STRING && fm_span_is(v->text, word);
}

void fm_py_write_string(struct fm_buf *out, struct fm_span s)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    fm_buf_char(out, '"');
    for (size_t i = 0, k; i < s.n; i = k + 1) {
        for (k = i; k < s.n && (unsigned char)s.s[k] >= 0x20 && s.s[k] != '"' && s.s[k] != '\\'; k++) {
        }
        fm_buf_add(out, s.s + i, k - i);
        if (k == s.n) break;
        const char *hit = s.s[k] ? strchr(from, s.s[k]) : NULL;
        if (hit)
            fm_buf_printf(out, "\\%c", to[hit - from]);
        else
            fm_buf_printf(out, "\\u%04x", (unsigned)(unsigned char)s.s[k]);
    }
    fm_buf_char(out, '"');
}

void fm_py_write_text(struct fm_buf *out, const char *s, size_t n)
{
    struct fm_buf b = {0};
    fm_buf_valid(&b, s, n);
    out->failed |= b.failed;
    if (!b.failed) fm_py_write_string(out, (struct fm_span){b.data, b.len});
    fm_buf_release(&b);
}

static void write_value(struct fm_buf *out, const struct fm_py *v, int indent, int level);

static void new_line(struct fm_buf *out, int indent, int level)
{
    if (indent) fm_buf_printf(out, "\n%*s", indent * level, "");
}

static void write_items(struct fm_buf *out, const struct fm_py *v, int indent, int level)
{
    bool object = v->kind == FM_PY_OBJECT;
    fm_buf_char(out, object ? '{' : '[');
    for (const struct fm_py *p = v->first; p; p = p->next) {
        if (p != v->first) fm_buf_str(out, indent ? "," : ", ");
        new_line(out, indent, level + 1);
        if (object) {
            fm_py_write_string(out, p->key);
            fm_buf_str(out, ": ");
        }
        write_value(out, p, indent, level + 1);
    }
    if (v->first) new_line(out, indent, level);
    fm_buf_char(out, object ? '}' : ']');
}

static void write_value(struct fm_buf *out, const struct fm_py *v, int indent, int level)
{
    static const char *const words[] = {[FM_PY_NULL] = "null", [FM_PY_FALSE] = "false", [FM_PY_TRUE] = "true"};
    if (v->kind >= FM_PY_ARRAY)
        write_items(out, v, indent, level);
    else if (v->kind == FM_PY_STRING)
        fm_py_write_string(out, v->text);
    else if (v->kind == FM_PY_NUMBER)
        fm_buf_add(out, v->text.s, v->text.n);
    else
        fm_buf_str(out, words[v->kind]);
}

void fm_py_write(struct fm_buf *out, const struct fm_py *v, int indent) { write_value(out, v, indent, 0); }
