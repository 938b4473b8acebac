/* Giving up rights that a process will not need again.  There is no way back.
 *
 *   fm_sandbox_files   Landlock: for this thread and those it starts from now on
 *   fm_sandbox_calls   seccomp: for all threads of the process
 *
 * Both leave alone what is open already.  A kernel without one of them says false, and nothing has changed. */
#ifndef FM_BASE_SANDBOX_H
#define FM_BASE_SANDBOX_H

#include <stdbool.h>

/* No file or folder can be opened, made or removed, no TCP port bound or connected to, and no other process signalled; the
 * last two where the kernel knows how. */
bool fm_sandbox_files(void);

/* EPERM for starting programs and processes, looking into other processes, sockets but local ones, connecting, memory that
 * can be executed, mounts, modules and other doors of the kernel; with files false for opening and changing files, too. */
bool fm_sandbox_calls(bool files);

#endif
