/* Words to the service manager that started this program (systemd's sd_notify protocol). */
#ifndef FM_CLI_NOTIFY_H
#define FM_CLI_NOTIFY_H

/* state: "READY=1", "STOPPING=1".  Without a manager nothing happens; nor does a failure matter. */
void fm_notify(const char *state);

#endif
