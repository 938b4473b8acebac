/* Who may ask, and how much.  A key is a line: the key itself, then its limits, apart by blanks.
 *
 *   sk-3f9a…  name=alice  requests-per-minute=60  tokens-per-day=1000000  concurrent=2  max-tokens=4096  models=a,b
 *
 * Rates are buckets that hold one period's worth and fill evenly.  A request enters while there is anything in each of
 * them; what it took is known at its end and may leave the bucket below empty, so that the next one waits longer. */
#ifndef FM_SERVER_KEYS_H
#define FM_SERVER_KEYS_H

#include <stdbool.h>

#include "base/status.h"

struct fm_keys;
struct fm_fault;

/* Lines as above; keys of at most 255 bytes.  FM_ERR_INPUT names the entry and what is wrong, never the key. */
enum fm_status fm_keys_new(const char *const *lines, int n, struct fm_keys **out, struct fm_error *err) FM_MUST_USE;
void fm_keys_free(struct fm_keys *k); /* NULL is fine */

/* The entry of the key that was presented, or −1.  All entries are compared to their ends, whatever differs. */
int fm_keys_find(const struct fm_keys *k, const char *presented);
const char *fm_keys_name(const struct fm_keys *k, int i);        /* name=…, or "key-1" for the first line */
int fm_keys_cap(const struct fm_keys *k, int i, int max_tokens); /* −1: no limit, in and out; i < 0: none either */

/* Begin a request for model at the time now (fm_seconds).  false: f says why not, *retry after how many seconds it may be
 * otherwise (0: never).  Each call is followed by one leave, with the tokens
 * computed. */
bool fm_keys_enter(struct fm_keys *k, int i, const char *model, double now, struct fm_fault *f, int *retry);
void fm_keys_leave(struct fm_keys *k, int i, double now, int tokens);

#endif
