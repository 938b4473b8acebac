/* Write-behind: one thread that passes filled buffers on, in order, while the next ones are being filled. */
#ifndef FM_BASE_BEHIND_H
#define FM_BASE_BEHIND_H

#include <stddef.h>

#include "base/status.h"

struct fm_behind;

/* What becomes of a buffer; runs on the thread of the fm_behind, one call at a time. */
typedef enum fm_status (*fm_behind_fn)(void *arg, const void *data, size_t n, struct fm_error *err);

/* Three buffers of `bytes` each. */
enum fm_status fm_behind_new(size_t bytes, fm_behind_fn fn, void *arg, struct fm_behind **out,
                             struct fm_error *err) FM_MUST_USE;
/* *buffer: one that is free, waited for; or the failure of an earlier call of fn. */
enum fm_status fm_behind_take(struct fm_behind *b, void **buffer, struct fm_error *err) FM_MUST_USE;
/* Pass the buffer taken last on, filled with n bytes. */
void fm_behind_give(struct fm_behind *b, size_t n);
/* Wait until everything has been passed on. */
enum fm_status fm_behind_finish(struct fm_behind *b, struct fm_error *err) FM_MUST_USE;
/* Without finish, buffers that are waiting are dropped.  NULL is fine. */
void fm_behind_free(struct fm_behind *b);

#endif
