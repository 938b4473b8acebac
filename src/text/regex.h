/* Unicode regular expressions with the meaning they have in published tokenizers, run by PCRE2.
 *
 * Where PCRE2 alone would differ from Oniguruma and Rust's regex:
 *   \s \S \w \W   are spelled out (PCRE2 counts U+180E as white space)
 *   \p{Han} …     means the script, not its extensions
 *   [A&&[^B]]     becomes (?:(?![B])[A])
 *   $             is the end of the text only
 * JIT code is used where the system allows it, else the interpreter; both stop at the same kind of limit. */
#ifndef FM_TEXT_REGEX_H
#define FM_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct fm_regex;
struct fm_regex_run; /* what one thread needs while matching; serves any fm_regex */

/* FM_ERR_INPUT naming where and the offset when the pattern is wrong. */
enum fm_status fm_regex_new(const char *pattern, const char *where, struct fm_regex **out,
                            struct fm_error *err) FM_MUST_USE;
void fm_regex_free(struct fm_regex *r); /* NULL is fine */

enum fm_status fm_regex_run_new(struct fm_regex_run **out, struct fm_error *err) FM_MUST_USE;
void fm_regex_run_free(struct fm_regex_run *run); /* NULL is fine */

/* First non-empty match at or after from in text (valid UTF-8): *found, and [*begin, *end).
 * A pattern that backtracks without end, or is far too slow for this text, is FM_ERR_INPUT. */
enum fm_status fm_regex_next(const struct fm_regex *r, struct fm_regex_run *run, const char *text, size_t n,
                             size_t from, bool *found, size_t *begin, size_t *end, struct fm_error *err) FM_MUST_USE;

/* Tests: false keeps new expressions on the interpreter. */
void fm_regex_allow_jit(bool allow);

#endif
