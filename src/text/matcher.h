/* Where a text stands in a grammar, and which bytes and tokens may come next.
 *
 *   thread = an operation that waits for a byte, and the frames of the rules and loops around it
 *   state  = a set of threads; each set exists once, and what a byte makes of it is computed once
 *
 * A state is a number, so going back costs nothing.  What a matcher learned stays until it outgrows its limit; then only the
 * current state is kept. */
#ifndef FM_TEXT_MATCHER_H
#define FM_TEXT_MATCHER_H

#include "text/grammar.h"
#include "text/token_trie.h"

struct fm_matcher;

/* g must outlive it. */
enum fm_status fm_matcher_new(const struct fm_grammar *g, struct fm_matcher **out, struct fm_error *err) FM_MUST_USE;
void fm_matcher_free(struct fm_matcher *m);

void fm_matcher_reset(struct fm_matcher *m); /* to the beginning */
/* To another beginning: entry i of the grammar.  false: a fault. */
bool fm_matcher_enter(struct fm_matcher *m, int i);
/* One byte of ordinary text; false: the grammar has no such text, or fm_matcher_fault. */
bool fm_matcher_byte(struct fm_matcher *m, unsigned char byte);
/* All of a text, from where the matcher stands. */
bool fm_matcher_text(struct fm_matcher *m, const char *s, size_t n);
bool fm_matcher_accepts(const struct fm_matcher *m); /* the text may end here */

/* Bits of the tokens that may come next; end tokens' where the text may end.  The result lives until the next call.  NULL: a
 * fault.  *any: whether a bit is set. */
const uint64_t *fm_matcher_mask(struct fm_matcher *m, const struct fm_token_trie *t, bool *any);
/* false: it may not come, or a fault; the state is as before. */
bool fm_matcher_token(struct fm_matcher *m, const struct fm_token_trie *t, int32_t id);

/* FM_OK, or why nothing more can be computed: memory, or a grammar with too many ways to read one text. */
enum fm_status fm_matcher_fault(const struct fm_matcher *m, struct fm_error *err) FM_MUST_USE;

#endif
