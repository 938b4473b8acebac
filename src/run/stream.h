/* From token bytes to text for the user: whole code points, stop texts held back until they are sure not to be one. */
#ifndef FM_RUN_STREAM_H
#define FM_RUN_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct fm_stream {
    struct fm_buf held;      /* bytes that came but are not out yet */
    const char *const *stop; /* the caller's */
    int n_stop;
    bool stopped;                                       /* a stop text was met: nothing comes out any more */
    bool (*out)(void *arg, const char *text, size_t n); /* may be NULL; false: the user wants no more */
    void *arg;
    bool refused; /* out said false */
};

/* Add n bytes and hand out what is sure.  Bytes that are no UTF-8 come out as U+FFFD.  false: memory is short. */
bool fm_stream_push(struct fm_stream *s, const char *bytes, size_t n);
/* Nothing more comes: hand out what was held back. */
bool fm_stream_end(struct fm_stream *s);
void fm_stream_release(struct fm_stream *s);

#endif
