#include "server/serve_access.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "server/http_tls.h"

void serve_access_init(struct serve_access *a)
{
    *a = (struct serve_access){ .host = "127.0.0.1", .port = 8080, .key_limit = KEYS_DEFAULT_LIMIT };
}

void serve_access_options(struct serve_access *a, struct option out[SERVE_ACCESS_OPTIONS])
{
    const struct option options[] = {
        { .name = "host", .type = OPTION_STRING, .out = &a->host, .metavar = "HOST", .heading = "access",
          .help = "address to listen on (default 127.0.0.1: only this machine)" },
        { .name = "port", .letter = 'p', .type = OPTION_U64, .out = &a->port, .metavar = "N", .least = 0, .most = 65535,
          .help = "port; 0 takes a free one (default 8080)" },
        { .name = "api-key-file", .type = OPTION_STRING, .out = &a->key_file, .metavar = "FILE",
          .help = "keys, one a line, as 'fourway hash-key' prints them; every route but health then needs one; read again at SIGHUP" },
        { .name = "key-limit", .type = OPTION_U64, .out = &a->key_limit, .metavar = "N", .least = 1, .most = KEYS_MAX_LIMIT,
          .help = "requests in flight of one key, where its line has no limit=N; more get 429 (default 32)" },
        { .name = "no-auth-ok", .type = OPTION_FLAG, .out = &a->no_auth_ok, .help = "allow other machines without a key" },
        { .name = "tls-cert", .type = OPTION_STRING, .out = &a->certificate, .metavar = "FILE",
          .help = "serve https with this certificate (PEM, those of its issuers behind it); read again at SIGHUP" },
        { .name = "tls-key", .type = OPTION_STRING, .out = &a->certificate_key, .metavar = "FILE",
          .help = "the certificate's private key (PEM)" },
        { .name = "cors-origin", .type = OPTION_STRING, .out = &a->origin_list, .metavar = "URL,..",
          .help = "sites whose pages may call this server, such as http://localhost:3000" },
        { .name = "allowed-host", .type = OPTION_STRING, .out = &a->host_list, .metavar = "NAME,..",
          .help = "names, beside localhost, by which clients may call a server on a loopback address: those of a proxy before it" },
    };

    _Static_assert(sizeof(options) / sizeof(options[0]) == SERVE_ACCESS_OPTIONS, "the header counts them");
    memcpy(out, options, sizeof(options));
}

static bool is_origin(const char *text)
{
    const char *host = strstr(text, "://");
    return host && host != text && host[3] && !strchr(host + 3, '/');
}

static bool is_host(const char *text)
{
    return *text && !strpbrk(text, "/ ");
}

static int split(struct access_names *names, const char *list, const char *option, const char *form, bool (*is_good)(const char *))
{
    if (!list)
        return 0;
    if (snprintf(names->text, sizeof(names->text), "%s", list) >= (int)sizeof(names->text)) {
        log_error("%s: the list is longer than %zu bytes", option, sizeof(names->text) - 1);
        return -EINVAL;
    }
    char *rest = names->text;
    for (char *name = strtok_r(rest, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        if (names->n == ACCESS_MAX_NAMES || !is_good(name)) {
            log_error("%s: at most %d of the form %s, got '%s'", option, ACCESS_MAX_NAMES, form, name);
            return -EINVAL;
        }
        names->name[names->n++] = name;
    }
    return 0;
}

static int open_tls(struct serve_access *a)
{
    if (!a->certificate && !a->certificate_key)
        return 0;
    if (!a->certificate || !a->certificate_key) {
        log_error("TLS needs a certificate and its key: --tls-cert FILE --tls-key FILE; %s is missing",
                  a->certificate ? "--tls-key" : "--tls-cert");
        return -EINVAL;
    }
    return http_tls_open(&a->tls, a->certificate, a->certificate_key);
}

int serve_access_open(struct serve_access *a, struct http_options *http)
{
    int err = split(&a->origins, a->origin_list, "--cors-origin", "scheme://host:port", is_origin);

    if (!err)
        err = split(&a->hosts, a->host_list, "--allowed-host", "name", is_host);
    if (!err && a->key_file)
        err = keys_open(&a->keys, a->key_file, (unsigned)a->key_limit);
    if (!err)
        err = open_tls(a);
    http->host = a->host;
    http->port = (uint16_t)a->port;
    http->tls = a->tls;
    http->origins = a->origins.name;
    http->n_origins = a->origins.n;
    http->hosts = a->hosts.name;
    http->n_hosts = a->hosts.n;
    return err;
}

void serve_access_reload(struct serve_access *a)
{
    if (!a->keys && !a->tls)
        log_info("SIGHUP: there is neither a file of keys nor a certificate to read again");
    if (a->keys && keys_reload(a->keys) == 0)
        log_info("SIGHUP: %zu key%s read from %s", keys_count(a->keys), keys_count(a->keys) == 1 ? "" : "s", a->key_file);
    else if (a->keys)
        log_info("SIGHUP: the keys stay as they were");
    if (a->tls && http_tls_reload(a->tls) == 0)
        log_info("SIGHUP: certificate read from %s", a->certificate);
    else if (a->tls)
        log_info("SIGHUP: the certificate stays as it was");
}

void serve_access_close(struct serve_access *a)
{
    keys_close(a->keys);
    http_tls_close(a->tls);
}
