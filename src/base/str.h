/* Growing byte buffer; a failed growth sticks, so that only the end has to be checked. */
#ifndef FM_BASE_STR_H
#define FM_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct fm_buf {
    char *data; /* always followed by a NUL once anything was added; NULL when empty from init */
    size_t len, cap;
    bool failed;
};

void fm_buf_release(struct fm_buf *b);
void fm_buf_clear(struct fm_buf *b); /* len = 0, keeps the room */
void fm_buf_add(struct fm_buf *b, const void *p, size_t n);
void fm_buf_str(struct fm_buf *b, const char *s);
void fm_buf_char(struct fm_buf *b, char c);
void fm_buf_printf(struct fm_buf *b, const char *fmt, ...) FM_PRINTF(2, 3);
void fm_buf_valid(struct fm_buf *b, const char *s, size_t n); /* bytes that are no UTF-8 become U+FFFD, each */
void fm_buf_utf8(struct fm_buf *b, uint32_t codepoint); /* at most 10FFFF; a surrogate is encoded like any other */

/* Append the whole of path; FM_ERR_INPUT when it cannot be read or is larger than limit bytes. */
enum fm_status fm_buf_read_file(struct fm_buf *b, const char *path, size_t limit, struct fm_error *err) FM_MUST_USE;

/* For qsort of const char *: by strcmp. */
int fm_compare_strings(const void *a, const void *b);

bool fm_ends_with(const char *s, const char *tail);

/* Decode one code point of at most n >= 1 bytes; *used is 1…4.  Invalid bytes give -1 with *used = 1. */
int32_t fm_utf8_decode(const char *s, size_t n, int *used);
/* True when the n bytes are valid UTF-8. */
bool fm_utf8_valid(const char *s, size_t n);

#endif
