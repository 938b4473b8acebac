/* Status codes and the error record shared by every part of fathom.
 *
 * An expected failure (file, input, memory, device) is returned as an enum fm_status that the
 * compiler does not let you ignore; the optional last argument `struct fm_error *err` receives one
 * line for the user in the form "WHAT: WHERE: WHY".  Outputs are untouched on failure. */
#ifndef FATHOM_STATUS_H
#define FATHOM_STATUS_H

#if defined(__GNUC__)
#define FM_MUST_USE          __attribute__((warn_unused_result))
#define FM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define FM_MUST_USE
#define FM_PRINTF(fmt, args)
#endif

enum fm_status {
    FM_OK = 0,
    FM_ERR_FAILED,    /* failed while running                         → exit code 1   */
    FM_ERR_USAGE,     /* a flag, argument or request that makes no sense → 2          */
    FM_ERR_INPUT,     /* an input file is missing or malformed        → 3             */
    FM_ERR_MEMORY,    /* not enough memory                            → 4             */
    FM_ERR_DISK,      /* not enough disk, or a write failed           → 4             */
    FM_ERR_CANCELLED, /* stopped by the user                          → 130           */
    FM_STATUS_COUNT
};

struct fm_error {
    enum fm_status code;
    char message[512]; /* "WHAT: WHERE: WHY", no newline, no "fathom: " in front */
    char hint[256];    /* second line for the user, or empty                     */
};

#endif
