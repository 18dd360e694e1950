/*
 * serve_access.h - the options of `fourway serve` that say where it listens and who may ask: address, TLS, keys, sites of browsers.
 */
#ifndef FOURWAY_SERVER_SERVE_ACCESS_H
#define FOURWAY_SERVER_SERVE_ACCESS_H

#include "server/http.h"
#include "server/keys.h"
#include "server/options.h"

enum { SERVE_ACCESS_OPTIONS = 9, ACCESS_MAX_NAMES = 16 };

/* Names separated by commas, split. */
struct access_names {
    char text[1024];
    const char *name[ACCESS_MAX_NAMES];
    size_t n;
};

struct serve_access {
    /* from the command line */
    const char *host, *key_file, *certificate, *certificate_key, *origin_list, *host_list;
    uint64_t port, key_limit;
    bool no_auth_ok;
    /* opened */
    struct keys *keys;              /* NULL: none are needed */
    struct http_tls *tls;           /* NULL: plain text */
    struct access_names origins, hosts;
};

void serve_access_init(struct serve_access *a);
void serve_access_options(struct serve_access *a, struct option out[SERVE_ACCESS_OPTIONS]);

/* Read the files, check the rest, and fill in what HTTP gets of it. Returns 0, or a negative errno (logged). */
int serve_access_open(struct serve_access *a, struct http_options *http);
/* Read keys and certificate again; of each one that is bad the old stays, which is logged. From one thread at a time. */
void serve_access_reload(struct serve_access *a);
void serve_access_close(struct serve_access *a);        /* when HTTP and the front are closed */

#endif
