/* Read-only file mapping. */
#ifndef FM_BASE_MAP_H
#define FM_BASE_MAP_H

#include <stddef.h>

#include "base/status.h"

struct fm_map {
    const unsigned char *data; /* NULL when size is 0 */
    size_t size;
};

/* Regular files only: a directory, a missing or unreadable file gives FM_ERR_INPUT naming path. */
enum fm_status fm_map_open(struct fm_map *m, const char *path, struct fm_error *err) FM_MUST_USE;
void fm_map_close(struct fm_map *m);

#endif
