/* The only reader of the environment.  Variables: FATHOM_CPU (force a kernel tier), FATHOM_SYS (another machine's processors, base/topology.h), HOME and XDG folders, NO_COLOR;
 * of the service manager NOTIFY_SOCKET; of the hub HF_… and SSL_CERT_FILE, see hub/hub_env.c. */
#ifndef FM_BASE_ENV_H
#define FM_BASE_ENV_H

const char *fm_env(const char *name); /* NULL when unset or empty */

#endif
