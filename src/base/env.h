/* The only reader of the environment.  Variables: FATHOM_CPU (force a kernel tier), HOME and XDG folders, NO_COLOR. */
#ifndef FM_BASE_ENV_H
#define FM_BASE_ENV_H

const char *fm_env(const char *name); /* NULL when unset or empty */

#endif
