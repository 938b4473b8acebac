/* Failing and passing failures on.  See include/fathom_status.h for the contract. */
#ifndef FM_BASE_STATUS_H
#define FM_BASE_STATUS_H

#include "fathom_status.h"

/* Fill err (may be NULL) with code and a printf-formatted "WHAT: WHERE: WHY"; clears the hint; returns code. */
enum fm_status fm_fail(struct fm_error *err, enum fm_status code, const char *fmt, ...) FM_PRINTF(3, 4);

/* Set the hint line of err (may be NULL). */
void fm_hint(struct fm_error *err, const char *fmt, ...) FM_PRINTF(2, 3);

/* "cannot allocate N bytes for WHAT" with code FM_ERR_MEMORY. */
enum fm_status fm_fail_memory(struct fm_error *err, const char *what, unsigned long long bytes);

/* Exit code of the command line for a status (spec: 0 1 2 3 4 130). */
int fm_exit_code(enum fm_status st);

#define FM_TRY(expr)                       \
    do {                                   \
        enum fm_status fm_try_st = (expr); \
        if (fm_try_st) return fm_try_st;   \
    } while (0)

/* For functions with one `out:` label and a local `enum fm_status st`. */
#define FM_GOTO(expr)                \
    do {                             \
        if ((st = (expr))) goto out; \
    } while (0)

#endif
