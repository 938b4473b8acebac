/* Training curves through gnuplot, called as a program. */
#ifndef FM_CLI_PLOT_H
#define FM_CLI_PLOT_H

#include "cli/cli.h"

/* Draw the log at log_path (JSON lines, as the trainer writes them) with the terminal kind "svg", "png" or "dumb" (text).
 * out_path NULL: to standard output.  A file appears under its name only when it is complete.
 * FM_ERR_INPUT names the first malformed line; FM_ERR_FAILED when gnuplot is missing or fails. */
enum fm_status fm_plot(const char *log_path, const char *kind, const char *out_path, struct fm_error *err) FM_MUST_USE;

bool fm_plot_available(void); /* gnuplot is in PATH */

#endif
