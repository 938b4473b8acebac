/* What a request cost: money by --price-…, joules where the machine counts them; in usage, and in the ledger.
 *
 *   {"time":"2026-11-25T14:00:00Z","id":"…","key":"alice","path":"/v1/messages","model":"…","prompt_tokens":620,
 *    "cached_tokens":576,"answer_tokens":57,"seconds":1.9,"cost":0.0001,"joules":40.5}          a line per generation
 */
#ifndef FM_SERVER_COST_H
#define FM_SERVER_COST_H

#include "server/reply.h"

/* ,"cost":X,"joules":Y: what there is of them */
void fm_put_cost(const struct fm_server *s, struct fm_buf *b, const struct fm_answer_tokens *t);
/* The ledger that o names, opened for appending; *fd −1 where it names none. */
enum fm_status fm_ledger_open(const struct fm_serve_options *o, int *fd, struct fm_error *err) FM_MUST_USE;
/* A line for an answer that has ended, in one write. */
void fm_ledger_note(struct fm_server *s, const struct fm_web_request *r, const struct fm_answer_tokens *t);

#endif
