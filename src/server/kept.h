/* Calls of tools as the model wrote them, so that a client that sends one back in other words – keys in another order, other
 * blanks – gets the prompt that the model has seen, and with it the prefix cache.
 *
 *   answer's end ─► keep: owner, id ─► name, arguments          request ─► restore: the same value? the kept text
 *
 * Bounded: 512 sets of 8 calls, each set of at most 64 KiB; a set's least recently used calls go first.  Any thread. */
#ifndef FM_SERVER_KEPT_H
#define FM_SERVER_KEPT_H

#include "base/pyjson.h"

enum { FM_KEPT_SETS = 512, FM_KEPT_WAYS = 8, FM_KEPT_BYTES = 64 << 10 };

struct fm_kept;

/* NULL: memory is short.  Every function takes NULL for one that never holds anything. */
struct fm_kept *fm_kept_new(void);
void fm_kept_free(struct fm_kept *k);

/* Keep a call; one with the same id goes.  owner: an API key's index, −1 without keys.  What does not fit, and what there is
 * no memory for, is not kept. */
void fm_kept_add(struct fm_kept *k, int owner, struct fm_span id, struct fm_span name, struct fm_span arguments);

/* In json[n], a prompt in chat-encode's shape, give those calls that owner's kept ones equal in id (whatever "toolu_" stands
 * in front), name and value of the arguments the kept text, verbatim.  false: there is none, and out is as it was. */
bool fm_kept_restore(struct fm_kept *k, int owner, const char *json, size_t n, struct fm_buf *out);

#endif
