/* From token bytes to text for the user: whole code points, stop texts held back until they are sure not to be one. */
#ifndef FM_RUN_STREAM_H
#define FM_RUN_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "text/tokenizer.h"

struct fm_stream {
    struct fm_buf held;      /* bytes that came but are not out yet */
    const char *const *stop; /* the caller's */
    int n_stop;
    bool stopped;                                       /* a stop text was met: nothing comes out any more */
    const char *met;                                    /* which one                                        */
    bool (*out)(void *arg, const char *text, size_t n); /* may be NULL; false: the user wants no more */
    void *arg;
    bool refused; /* out said false */
};

/* Add n bytes and hand out what is sure.  Bytes that are no UTF-8 come out as U+FFFD.  false: memory is short. */
bool fm_stream_push(struct fm_stream *s, const char *bytes, size_t n);
/* The text of id as it continues before (-1: nothing): some tokenizers drop a space in front of a text, so the token before
 * comes along, unless it is a control token: behind one a text begins.  a, b: room that is reused. */
enum fm_status fm_stream_token(struct fm_stream *s, const struct fm_tokenizer *t, int32_t before, int32_t id,
                               struct fm_buf *a, struct fm_buf *b, struct fm_error *err) FM_MUST_USE;
/* Nothing more comes: hand out what was held back. */
bool fm_stream_end(struct fm_stream *s);
void fm_stream_release(struct fm_stream *s);

#endif
