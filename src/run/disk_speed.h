/* How fast a file comes from its disk, when none of it is in memory. */
#ifndef FM_RUN_DISK_SPEED_H
#define FM_RUN_DISK_SPEED_H

#include <stddef.h>

#include "base/status.h"

struct fm_disk_speed {
    double cached, direct; /* bytes per second through the page cache and past it; 0: could not be measured */
    char path[256];        /* what was read                                                                 */
};
/* path: a file, or a folder whose largest file is taken.  At most `seconds` for each of the two. */
enum fm_status fm_disk_speed_of(const char *path, double seconds, struct fm_disk_speed *out,
                                struct fm_error *err) FM_MUST_USE;
/* Of a temporary file of that many bytes in folder; all 0 where there is no room for it. */
enum fm_status fm_disk_speed_in(const char *folder, size_t bytes, double seconds, struct fm_disk_speed *out,
                                struct fm_error *err) FM_MUST_USE;

#endif
