/* See notify.h: one datagram to the socket that $NOTIFY_SOCKET names, a path or, with @, an abstract name. */
#include "cli/notify.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/env.h"

void fm_notify(const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *name = fm_env("NOTIFY_SOCKET");
    const size_t n = name ? strlen(name) : 0;
    if (!n || n >= sizeof to.sun_path || (*name != '/' && *name != '@')) return;
    memcpy(to.sun_path, name, n);
    if (*name == '@') to.sun_path[0] = 0;
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    (void)!sendto(fd, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&to, length);
    (void)close(fd);
}
