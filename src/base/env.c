/* See env.h. */
#include "base/env.h"

#include <stddef.h>
#include <stdlib.h>

const char *fm_env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}
