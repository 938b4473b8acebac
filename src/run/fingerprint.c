/* See fingerprint.h. */
#include "run/fingerprint.h"

#include <string.h>

uint64_t fm_fingerprint(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3); /* FNV's prime */
    return h;
}

uint64_t fm_fingerprint_str(uint64_t h, const char *s) { return fm_fingerprint(h, s, strlen(s) + 1); }

uint64_t fm_fingerprint_weights(const struct fm_file *f)
{
    enum { SAMPLE = 2048 };
    uint64_t h = FM_FINGERPRINT_START;
    for (int i = 0; i < fm_file_n_tensors(f); i++) {
        const struct fm_tensor *t = fm_file_tensor(f, i);
        const uint64_t n = t->n_bytes < SAMPLE ? t->n_bytes : SAMPLE, rest = t->n_bytes - n;
        h = fm_fingerprint_str(h, t->name);
        h = fm_fingerprint_str(h, t->type_name);
        h = fm_fingerprint(h, t->shape, (size_t)t->n_dims * sizeof *t->shape);
        for (int k = 0; t->data && k < 3; k++)
            h = fm_fingerprint(h, (const char *)t->data + rest / 2 * (uint64_t)k, (size_t)n);
    }
    return h;
}
