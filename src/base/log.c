/* See log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

static fm_log_fn sink;
static void *sink_arg;
static enum fm_log_level sink_level;

void fm_log_set(fm_log_fn fn, void *arg, enum fm_log_level max_level)
{
    sink = fn;
    sink_arg = arg;
    sink_level = max_level;
}

void fm_log(enum fm_log_level level, const char *fmt, ...)
{
    if (!sink || level > sink_level) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    sink(sink_arg, level, line);
}
