#include "server/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

static int send_lines(const char *path, const char *lines)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const size_t n = strlen(path);

    if ((path[0] != '/' && path[0] != '@') || n >= sizeof(address.sun_path))
        return -EINVAL;
    memcpy(address.sun_path, path, n);
    if (path[0] == '@')         /* an abstract name begins with a NUL and has no end but its length */
        address.sun_path[0] = '\0';
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const ssize_t sent = sendto(fd, lines, strlen(lines), MSG_NOSIGNAL, (struct sockaddr *)&address,
                                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    const int err = sent < 0 ? -errno : 0;
    close(fd);
    return err;
}

void notify_send(const char *lines)
{
    static bool warned;
    const char *path = getenv("NOTIFY_SOCKET");
    const int err = path && *path ? send_lines(path, lines) : 0;

    if (err && !warned)
        log_warn("systemd cannot be told how this service is: NOTIFY_SOCKET %s: %s", path, strerror(-err));
    warned |= err != 0;
}

void notify_reloading(void)
{
    char lines[64];

    snprintf(lines, sizeof(lines), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_now_ns() / 1000);
    notify_send(lines);
}
