/* GPT-2's printable alphabet: each of the 256 bytes as one visible character, so that vocabularies can be text.
 * Source: models.md §11.1, step 3. */
#ifndef FM_TEXT_ALPHABET_H
#define FM_TEXT_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Code point that stands for byte b. */
uint32_t fm_alphabet_codepoint(unsigned char b);
/* Byte that code point c stands for, or -1. */
int fm_alphabet_byte(int32_t c);
/* The i-th byte in the order of the alphabet's code points: 33, 34, … 255, 0, 1, … */
unsigned char fm_alphabet_nth(int i);

/* Bytes → text. */
void fm_alphabet_write(struct fm_buf *out, const char *bytes, size_t n);
/* Text → bytes, written to dst (n bytes of room suffice). When a character is none of the alphabet the text is
 * copied unchanged and false returned: such a token stands for itself. */
bool fm_alphabet_read(const char *text, size_t n, char *dst, size_t *n_dst);

#endif
