/* Unicode's normalisation form C: what Qwen's tokenizers do to a text between added tokens.
 * UAX 15; the tables are those of utf8proc (code points that its version does not know yet stay as they are). */
#ifndef FM_TEXT_NFC_H
#define FM_TEXT_NFC_H

#include <stddef.h>

#include "base/status.h"
#include "base/str.h"

/* False when s[n] is sure to be its own form C (most texts are): then fm_nfc need not run. */
bool fm_nfc_matters(const char *s, size_t n);

/* Appends the form C of s[n] to out.  Bytes that are no UTF-8 stay where they are and part the text around them. */
enum fm_status fm_nfc(const char *s, size_t n, struct fm_buf *out, struct fm_error *err) FM_MUST_USE;

#endif
