/* Where doctor leaves its figures, and how other commands get them. */
#ifndef FM_CLI_MACHINE_H
#define FM_CLI_MACHINE_H

#include <limits.h>
#include <stdbool.h>

#include "cli/cli.h"

enum { FM_MEASURE_SECONDS = 2 }; /* for one model's formats */

/* $XDG_CACHE_HOME/fathom, or ~/.cache/fathom, made if need be; NULL when there is neither or it cannot be made. */
const char *fm_cache_folder(char path[PATH_MAX]);
/* doctor.json in it; false: no folder. */
bool fm_machine_path(char path[PATH_MAX]);

/* fm_doctor_run with a progress bar; Ctrl-C stops it. */
enum fm_status fm_measure_machine(const struct fm_doctor_options *o, struct fm_machine *m,
                                  struct fm_error *err) FM_MUST_USE;

#endif
