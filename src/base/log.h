/* One logger: a callback, so that the library never prints. */
#ifndef FM_BASE_LOG_H
#define FM_BASE_LOG_H

#include "fathom_status.h"

enum fm_log_level { FM_LOG_ERROR, FM_LOG_WARN, FM_LOG_INFO, FM_LOG_DEBUG };
typedef void (*fm_log_fn)(void *arg, enum fm_log_level level, const char *message);

void fm_log_set(fm_log_fn fn, void *arg, enum fm_log_level max_level); /* fn NULL: silence */
void fm_log(enum fm_log_level level, const char *fmt, ...) FM_PRINTF(2, 3);

#endif
