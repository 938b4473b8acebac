/* Files of log-probabilities to compare a model with: the format of llama.cpp's perplexity tool, so that either program
 * reads what the other wrote.  Little-endian.
 *
 *   "_logits_" | ctx u32 | V i32 | chunks i32 | tokens i32 [chunks, ctx] | rows [chunks, ctx − 1 − ctx/2] of logprob.h
 *
 * The tokens are those of the text, without the BOS that a window begins with. */
#ifndef FM_RUN_REFERENCE_H
#define FM_RUN_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/status.h"

struct fm_reference {
    struct fm_map map;
    int ctx, vocab, chunks;
    const int32_t *tokens; /* [chunks, ctx] */
    const uint16_t *rows;
};
bool fm_reference_is(const char *path); /* a file that begins like one */
/* Lengths, tokens and the file's size are checked; FM_ERR_INPUT otherwise. */
enum fm_status fm_reference_open(struct fm_reference *r, const char *path, struct fm_error *err) FM_MUST_USE;
void fm_reference_close(struct fm_reference *r);
/* Row i of the scored ones, counted through all windows: fm_coded_words(vocab) of them. */
const uint16_t *fm_reference_row(const struct fm_reference *r, uint64_t i);

/* What a file will take. */
uint64_t fm_reference_bytes(int ctx, int vocab, int chunks);

/* Writing: PATH.partial grows chunk by chunk and takes its name at the end. */
struct fm_reference_out {
    char *path, *partial;
    int fd;
    uint64_t written;
};
/* done: chunks that an earlier run has written; they are kept, and what may follow them is cut off.  FM_ERR_DISK when the
 * file will not fit, FM_ERR_INPUT when the partial file is another one's. */
enum fm_status fm_reference_out_open(struct fm_reference_out *o, const char *path, const struct fm_reference *shape,
                                     int done, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_reference_out_add(struct fm_reference_out *o, const void *data, uint64_t n,
                                    struct fm_error *err) FM_MUST_USE;
enum fm_status fm_reference_out_sync(struct fm_reference_out *o, struct fm_error *err) FM_MUST_USE;
enum fm_status fm_reference_out_commit(struct fm_reference_out *o, struct fm_error *err) FM_MUST_USE; /* then release */
void fm_reference_out_release(struct fm_reference_out *o); /* the partial file stays */

#endif
