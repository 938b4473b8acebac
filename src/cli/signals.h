/* Interrupts.  First SIGINT: stop what runs and keep what it made.  Second within a second, or at an idle prompt: leave. */
#ifndef FM_CLI_SIGNALS_H
#define FM_CLI_SIGNALS_H

#include <stdbool.h>

/* Take SIGINT, SIGTERM and SIGHUP from now on; until a first `busy` or `prompt` they leave with exit code 130. */
void fm_signals_init(void);

/* While busy a signal calls cancel(arg), which must be safe in a handler.  false: one came already, do not begin. */
bool fm_signals_busy(void (*cancel)(void *), void *arg);
/* Back to no work.  True when a signal came while busy. */
bool fm_signals_done(void);
bool fm_signals_pending(void); /* a signal came while busy */

/* While at a prompt signals arrive as bytes on this descriptor: 'i' interrupt, 'l' leave, 'w' new window size,
 * 'c' continued after a stop. */
int fm_signals_prompt(void);
void fm_signals_prompt_done(void);

bool fm_signals_leaving(void); /* the user wants out */

/* For long jobs: *flag counts signals; the third leaves at once. */
const volatile int *fm_signals_flag(void);

#endif
