/* See alphabet.h. */
#include "text/alphabet.h"

#include <string.h>

/* Bytes 33–126, 161–172 and 174–255 stand for themselves. */
static bool is_visible(int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; }

/* The 68 others, in increasing order, are U+0100 … U+0143. */
static int hidden_index(int b) { return b <= 32 ? b : b <= 160 ? b - 127 + 33 : 67; /* 0–32, 127–160, 173 */ }

uint32_t fm_alphabet_codepoint(unsigned char b) { return is_visible(b) ? b : 0x100 + (uint32_t)hidden_index(b); }

int fm_alphabet_byte(int32_t c)
{
    if (c >= 0 && c < 256) return is_visible(c) ? c : -1;
    if (c < 0x100 || c > 0x143) return -1;
    int i = c - 0x100;
    return i <= 32 ? i : i < 67 ? i - 33 + 127 : 173;
}

unsigned char fm_alphabet_nth(int i)
{
    int k = 0;
    for (int b = 0; b < 256; b++)
        if (is_visible(b) && k++ == i) return (unsigned char)b;
    return (unsigned char)fm_alphabet_byte(0x100 + i - k);
}

void fm_alphabet_write(struct fm_buf *out, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) fm_buf_utf8(out, fm_alphabet_codepoint((unsigned char)bytes[i]));
}

bool fm_alphabet_read(const char *text, size_t n, char *dst, size_t *n_dst)
{
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        int used, b = fm_alphabet_byte(fm_utf8_decode(text + i, n - i, &used));
        if (b < 0) {
            memcpy(dst, text, n);
            *n_dst = n;
            return false;
        }
        dst[k++] = (char)b;
        i += (size_t)used;
    }
    *n_dst = k;
    return true;
}
