/* JSON inside prompts: read so that nothing is lost, written as Python's json.dumps(ensure_ascii=False) would.
 *
 *   {"a":0.10,"b":[1e22]}  →  {"a": 0.10, "b": [1e22]}      numbers keep the text they came with, keys their order
 *
 * jansson serves our own files; it can neither keep a number's text nor hold one of 20 digits.  Strict RFC 8259 in
 * UTF-8: no NaN, no lone surrogates.  Of a key that comes twice the last value is taken, at the first one's place, as
 * Python's dict does. */
#ifndef FM_BASE_PYJSON_H
#define FM_BASE_PYJSON_H

#include "base/str.h"

enum fm_py_kind { FM_PY_NULL, FM_PY_FALSE, FM_PY_TRUE, FM_PY_NUMBER, FM_PY_STRING, FM_PY_ARRAY, FM_PY_OBJECT };

enum {
    FM_PY_MAX_BYTES = 64 << 20, /* of one text */
    FM_PY_MAX_DEPTH = 256,      /* Python's own limit is near 1000; people's schemas stay below 20 */
    FM_PY_MAX_VALUES = 4 << 20, /* a value takes 80 bytes here and may take 2 in the text */
};

struct fm_span {
    const char *s;
    size_t n;
};

struct fm_py {
    enum fm_py_kind kind;
    struct fm_span text;       /* a string decoded, a number as it came */
    struct fm_span key;        /* where it is a member of an object     */
    const struct fm_py *first; /* of an array or object                 */
    const struct fm_py *next;  /* the sibling behind                    */
    size_t n;                  /* of first                              */
};

/* Owns every value parsed into it. */
struct fm_py_doc {
    struct fm_py_chunk *chunks;
    size_t n_values;
};
void fm_py_release(struct fm_py_doc *d);

/* Parse n bytes, which may go away afterwards.  FM_ERR_INPUT "WHAT: byte N: WHY", what as given. */
enum fm_status fm_py_parse(struct fm_py_doc *d, const char *text, size_t n, const char *what, const struct fm_py **out,
                           struct fm_error *err) FM_MUST_USE;

/* A copy that lives as long as d; with a NUL behind.  NULL: memory is short. */
char *fm_py_copy(struct fm_py_doc *d, const char *s, size_t n);

/* Zeroed bytes that live as long.  NULL: memory is short. */
void *fm_py_room(struct fm_py_doc *d, size_t bytes);

/* NULL when absent or when v is no object. */
const struct fm_py *fm_py_get(const struct fm_py *v, const char *key);

/* indent 0: on one line, ", " and ": "; else json.dumps(indent=…), whose separators are "," and ": ". */
void fm_py_write(struct fm_buf *out, const struct fm_py *v, int indent);
/* One string with its quotes. */
void fm_py_write_string(struct fm_buf *out, struct fm_span s);
/* The same of any bytes: those that are no UTF-8 become U+FFFD. */
void fm_py_write_text(struct fm_buf *out, const char *s, size_t n);

bool fm_span_is(struct fm_span s, const char *word);
/* v is a string, and this one; NULL is none. */
bool fm_py_is(const struct fm_py *v, const char *word);

#endif
