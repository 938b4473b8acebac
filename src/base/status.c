/* Error records: formatting only, no state. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

enum fm_status fm_fail(struct fm_error *err, enum fm_status code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
        for (char *p = err->message; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = '?'; /* one line, whatever names a file holds */
        err->code = code;
        err->hint[0] = 0;
    }
    return code;
}

void fm_hint(struct fm_error *err, const char *fmt, ...)
{
    if (!err) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
}

enum fm_status fm_fail_memory(struct fm_error *err, const char *what, unsigned long long bytes)
{
    return fm_fail(err, FM_ERR_MEMORY, "allocate memory: %s: %llu bytes are not available", what, bytes);
}

int fm_exit_code(enum fm_status st)
{
    static const int code[FM_STATUS_COUNT] = {
        [FM_OK] = 0,         [FM_ERR_FAILED] = 1, [FM_ERR_USAGE] = 2,       [FM_ERR_INPUT] = 3,
        [FM_ERR_MEMORY] = 4, [FM_ERR_DISK] = 4,   [FM_ERR_CANCELLED] = 130,
    };
    return code[st];
}
