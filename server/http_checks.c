/*
 * http_checks.c - what libmicrohttpd 0.9.75 lets through and a server must not: framing that a proxy may read differently, foreign hosts.
 *
 * Two lengths, or a length beside chunked, make two servers disagree where a request ends (request smuggling, CWE-444): 400 and
 * close. A page of any site can make a browser post to 127.0.0.1; so on a loopback address the Host must be ours (DNS rebinding,
 * CVE-2024-28224), and an Origin must be ours or listed, whatever the Content-Type.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/http_internal.h"

struct headers {
    unsigned n_host, n_length, n_encoding, n_origin;
    const char *host, *length, *encoding, *origin, *label;
    size_t encoding_bytes;
    const char *bad;            /* what is wrong with a name or value; NULL: nothing */
};

static bool is_token(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char c = name[i];
        if (!((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c))))
            return false;
    }
    return n > 0;
}

static bool has_control(const char *value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
            return true;
    return false;
}

static enum MHD_Result look_at(void *arg, enum MHD_ValueKind kind, const char *name, size_t n_name, const char *value, size_t n_value)
{
    struct headers *s = arg;

    (void)kind;
    if (!value)
        value = "";
    if (!is_token(name, n_name))
        s->bad = "a header name holds a character that no name may have";
    if (has_control(value, n_value))
        s->bad = "a header value holds a control byte";
    if (strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0) {
        s->host = value;
        s->n_host++;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        s->length = value;
        s->n_length++;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        s->encoding = value;
        s->n_encoding++;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_ORIGIN) == 0) {
        s->origin = value;
        s->n_origin++;
    } else if (strcasecmp(name, "X-Request-Id") == 0) {
        s->label = value;
    }
    return MHD_YES;
}

static int bad(struct http_exchange *x, struct api_error *e, const char *why)
{
    x->close = true;
    return api_error_set(e, API_BAD_REQUEST, NULL, "%s", why);
}

static int check_framing(struct http_exchange *x, const struct headers *s, const char *version, struct api_error *e)
{
    const size_t most = x->http->options.max_body;

    if (s->bad)
        return bad(x, e, s->bad);
    if (s->n_encoding && s->n_length)
        return bad(x, e, "Transfer-Encoding and Content-Length together");
    if (s->n_encoding > 1 || (s->n_encoding && strcasecmp(s->encoding, "chunked") != 0))
        return bad(x, e, "Transfer-Encoding must be chunked, once");
    if (s->n_length > 1)
        return bad(x, e, "Content-Length twice");
    if (s->n_length && (!*s->length || s->length[strspn(s->length, "0123456789")]))
        return bad(x, e, "Content-Length must be digits");
    if (s->n_host > 1)
        return bad(x, e, "Host twice");
    if (!s->n_host && strcmp(version, MHD_HTTP_VERSION_1_0) != 0)
        return bad(x, e, "Host is missing");
    if (s->n_length && (strlen(s->length) > 18 || strtoull(s->length, NULL, 10) > most)) {
        x->close = true;
        return api_error_set(e, API_BODY_TOO_LARGE, NULL, "the body is larger than %zu bytes", most);
    }
    /* A bare LF in chunk framing is accepted and cannot be seen from here; closing keeps the rest from being read as a request. */
    if (s->n_encoding)
        x->close = true;
    return 0;
}

/* Is the host part of host[:port] this name? */
static bool host_is(const char *host, const char *name)
{
    const size_t n = strlen(name);

    return strncasecmp(host, name, n) == 0 && (!host[n] || (host[n] == ':' && host[n + 1 + strspn(host + n + 1, "0123456789")] == '\0'));
}

static bool host_allowed(const struct http *h, const char *host)
{
    bool configured = false;

    for (size_t i = 0; i < h->options.n_hosts; i++)
        configured |= host_is(host, h->options.hosts[i]);
    return configured || host_is(host, "localhost") || host_is(host, "127.0.0.1") || host_is(host, "[::1]") || host_is(host, h->host);
}

static int check_site(struct http_exchange *x, const struct headers *s, struct api_error *e)
{
    const struct http *h = x->http;
    bool own, listed = false;
    char address[300];

    if (h->loopback && s->host && !host_allowed(h, s->host)) {
        x->close = true;
        return api_error_set(e, API_HOST_NOT_ALLOWED, NULL, "Host \"%.100s\" is not this server; see --allowed-host", s->host);
    }
    if (!s->n_origin)
        return 0;
    snprintf(address, sizeof(address), "%s://%.256s", h->options.tls ? "https" : "http", s->host ? s->host : "");
    own = s->n_origin == 1 && strcasecmp(address, s->origin) == 0;
    for (size_t i = 0; i < h->options.n_origins; i++)
        listed |= s->n_origin == 1 && strcmp(s->origin, h->options.origins[i]) == 0;
    if (!own && !listed) {
        x->close = true;
        return api_error_set(e, API_ORIGIN_NOT_ALLOWED, NULL, "Origin \"%.100s\" is not allowed; see --cors-origin", s->origin);
    }
    if (listed)
        snprintf(x->origin, sizeof(x->origin), "%s", s->origin);
    return 0;
}

int http_check(struct http_exchange *x, struct MHD_Connection *conn, const char *version, bool *preflight, bool *has_body,
               struct api_error *e)
{
    const union MHD_ConnectionInfo *size = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    struct headers s = { 0 };

    MHD_get_connection_values_n(conn, MHD_HEADER_KIND, look_at, &s);
    if (s.label && *s.label)
        http_set_label(x, s.label);
    int err = check_framing(x, &s, version, e);
    if (err)
        return err;
    if (size && size->header_size > HTTP_MAX_HEADER) {
        x->close = true;
        return api_error_set(e, API_HEADERS_TOO_LARGE, NULL, "the headers are larger than %d bytes", HTTP_MAX_HEADER);
    }
    err = check_site(x, &s, e);
    if (err)
        return err;
    *has_body = s.n_encoding || (s.n_length && strtoull(s.length, NULL, 10) > 0);
    *preflight = *x->origin && strcmp(x->method, MHD_HTTP_METHOD_OPTIONS) == 0;
    if (*preflight) {
        http_add_header(x, "Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
        /* The star covers what browsers' clients add, such as x-stainless-os, but never Authorization. */
        http_add_header(x, "Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id, Anthropic-Version, *");
        http_add_header(x, "Access-Control-Max-Age", "600");
    }
    return 0;
}
