/*
 * notify.h - tells systemd how the service is (Type=notify): sd_notify(3)'s protocol without its library, which is one datagram.
 */
#ifndef FOURWAY_SERVER_NOTIFY_H
#define FOURWAY_SERVER_NOTIFY_H

/*
 * Send lines such as "READY=1" to the socket in $NOTIFY_SOCKET; nothing happens where there is none. What goes wrong is logged, once: the
 * service works all the same.
 */
void notify_send(const char *lines);
/* RELOADING=1, with the time that systemd wants beside it. READY=1 ends it. */
void notify_reloading(void);

#endif
