/* Inside of fathom.h's constraints: a grammar with three beginnings, and where one generation stands in it.
 *
 *   answer                          FM_START_ANSWER
 *   (<think> … </think>)? answer    FM_START_MAY_THINK      … is free text without end tokens
 *   … </think> answer               FM_START_IN_THOUGHT     behind the mark stand up to two newlines
 */
#ifndef FM_RUN_CONSTRAINT_H
#define FM_RUN_CONSTRAINT_H

#include "fathom.h"
#include "text/matcher.h"

struct fm_constraint {
    struct fm_grammar g;
    const struct fm_token_trie *trie; /* the engine's */
};

/* All zero: bound by nothing. */
struct fm_follower {
    const struct fm_constraint *c;
    struct fm_matcher *m;
};
/* c NULL is fine, and costs nothing later on. */
enum fm_status fm_follow_begin(struct fm_follower *f, const struct fm_constraint *c, enum fm_constraint_start start,
                               struct fm_error *err) FM_MUST_USE;
/* *allowed: NULL, or bits of the tokens that may come, until the next call.  *over: nothing may come and the answer is
 * complete.  FM_ERR_INPUT when nothing may come and it is not. */
enum fm_status fm_follow_mask(struct fm_follower *f, const uint64_t **allowed, bool *over,
                              struct fm_error *err) FM_MUST_USE;
/* The token that was picked. */
enum fm_status fm_follow_token(struct fm_follower *f, int32_t id, struct fm_error *err) FM_MUST_USE;
void fm_follow_end(struct fm_follower *f);

#endif
