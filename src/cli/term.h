/* The two streams.  Standard output carries the result and nothing else; all the rest goes to standard error. */
#ifndef FM_CLI_TERM_H
#define FM_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"

/* ---- standard output ------------------------------------------------------------------------------------------- */

bool fm_out(const void *bytes, size_t n); /* false: writing failed, stop producing */
bool fm_out_flush(void);
bool fm_out_closed(void); /* the reader went away (EPIPE): no error, but nobody listens */
/* Flush; FM_ERR_DISK when anything could not be written for another reason than a closed pipe. */
enum fm_status fm_out_finish(struct fm_error *err) FM_MUST_USE;

/* ---- standard error -------------------------------------------------------------------------------------------- */

void fm_term_quiet(bool quiet); /* notes and progress off; failures and warnings stay */
bool fm_term_is_quiet(void);
void fm_note(const char *fmt, ...) FM_PRINTF(1, 2);     /* one line, unless quiet */
void fm_progress(const char *fmt, ...) FM_PRINTF(1, 2); /* a terminal: one line rewritten; else a line every 10 s */
void fm_progress_end(void);                             /* leaves the last progress line standing */
/* Part of a long job: done of total, its rate and when it ends.  start: fm_clock() when it began; done0: how much of it an
 * earlier, resumed run had done; note may be empty. */
struct fm_bar {
    const char *what, *unit; /* "perplexity", "chunks"; unit "B": shown as bytes */
    double start;
    unsigned long long done0, total;
};
void fm_progress_bar(const struct fm_bar *b, unsigned long long done, const char *note);
void fm_print_failure(const struct fm_error *err); /* "fathom: WHAT: WHERE: WHY" and the hint */
bool fm_show_reasoning(const char *text,
                       size_t n);          /* dim, unless quiet: thinking aloud is no result.  Whether it did */
const char *fm_dim(void), *fm_plain(void); /* escape codes, empty without colours */

int fm_term_width(void);
double fm_clock(void); /* seconds, monotonic */

/* "1.2 GB", "512 B": decimal units, three digits. */
const char *fm_bytes_text(unsigned long long bytes, char buf[16]);
/* "1:02:03" or "2:03" */
const char *fm_time_text(double seconds, char buf[24]);

#endif
