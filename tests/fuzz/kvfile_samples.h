/* Places that the files of fuzz_kvfile.c stand for, and of which make_seeds.c writes some. */
#ifndef FM_TESTS_KVFILE_SAMPLES_H
#define FM_TESTS_KVFILE_SAMPLES_H

#include "run/kvfile.h"

enum { KVFILE_BODY = 64, KVFILE_PLACES = 4 };

static const struct fm_kvorigin kvfile_origin = {KVFILE_BODY, 77, "q8_0", "tier", "", "1.2.3"};

static inline void kvfile_place(struct fm_kvplace *p, int which)
{
    int32_t ids[FM_KV_BLOCK];
    for (int i = 0; i < FM_KV_BLOCK; i++) ids[i] = 10 * i + which;
    fm_kvplace_root(p, &kvfile_origin, which / 2 ? "a" : "");
    for (int i = 0; i <= which % 2; i++) fm_kvplace_next(p, ids);
}

#endif
