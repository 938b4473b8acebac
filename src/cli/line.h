/* One line at a time from the user: with editing and history on a terminal, plainly otherwise. */
#ifndef FM_CLI_LINE_H
#define FM_CLI_LINE_H

#include "base/str.h"
#include "cli/cli.h"

struct fm_line;

enum fm_line_end { FM_LINE_READ, FM_LINE_EOF, FM_LINE_INTERRUPT };

/* Editing when standard input and standard error are terminals.  The prompt goes to standard error.  History lies in
 * $XDG_STATE_HOME/fathom/history, or ~/.local/state/fathom/history, readable by its owner only. */
enum fm_status fm_line_new(struct fm_line **out, struct fm_error *err) FM_MUST_USE;
void fm_line_free(struct fm_line *l);
bool fm_line_is_terminal(const struct fm_line *l);

/* Read one line into text (cleared first), without its end.  INTERRUPT: Ctrl-C on an empty line, or a signal to leave;
 * on a line with text Ctrl-C only clears it. */
enum fm_line_end fm_line_read(struct fm_line *l, const char *prompt, struct fm_buf *text);

#endif
