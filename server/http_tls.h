/*
 * http_tls.h - the certificate and private key that HTTP shows, read from PEM files, and again at SIGHUP. By GnuTLS, as libmicrohttpd.
 */
#ifndef FOURWAY_SERVER_HTTP_TLS_H
#define FOURWAY_SERVER_HTTP_TLS_H

struct http_tls;

/*
 * A certificate, perhaps with those of its issuers behind it, and its key. 0, or a negative errno (logged: which file, and why). One that
 * has expired, or is not valid yet, is taken with a warning. One at a time in a process: libmicrohttpd's callback has no argument.
 */
int http_tls_open(struct http_tls **t, const char *certificate_path, const char *key_path);
/* The same files again, for connections from now on. At an error the old ones stay. From one thread at a time. */
int http_tls_reload(struct http_tls *t);
void http_tls_close(struct http_tls *t);        /* after http_stop; NULL is fine */

/* For MHD_OPTION_HTTPS_CERT_CALLBACK: a gnutls_certificate_retrieve_function2. */
void *http_tls_callback(void);

#endif
