/* Standard input and lists of token ids. */
#ifndef FM_CLI_INPUT_H
#define FM_CLI_INPUT_H

#include "base/str.h"
#include "cli/cli.h"

/* Append all of standard input; a closed one counts as empty. */
enum fm_status fm_stdin_read(struct fm_buf *out, struct fm_error *err) FM_MUST_USE;

/* Ids separated by blanks or commas, numbers from 0 to 2^31-1.  where names the source in messages; code is the failure's.
 * *ids is on the heap, free with fm_free; NULL when there are none. */
enum fm_status fm_ids_parse(const char *text, size_t n, const char *where, enum fm_status code, int32_t **ids,
                            size_t *n_ids, struct fm_error *err) FM_MUST_USE;

/* Text as a JSON string; bytes that are no UTF-8 become U+FFFD. */
void fm_json_text(struct fm_buf *out, const char *text, size_t n);
/* A list of the n sizes. */
void fm_json_shape(struct fm_buf *out, int n, const uint64_t *shape);

#endif
