/* Numbers that tell whether two things are the same, for work that goes on after a restart. No protection against malice. */
#ifndef FM_RUN_FINGERPRINT_H
#define FM_RUN_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

#include "file/tensors.h"

#define FM_FINGERPRINT_START UINT64_C(0xcbf29ce484222325) /* FNV's offset basis */
/* FNV-1a in 64 bits, going on from h: in pieces as in one. */
uint64_t fm_fingerprint(uint64_t h, const void *data, size_t n);
uint64_t fm_fingerprint_str(uint64_t h, const char *s); /* with its NUL */
/* Of a model: every tensor's name, format, shape, and some thousand bytes at its beginning, middle and end. */
uint64_t fm_fingerprint_weights(const struct fm_file *f);

#endif
