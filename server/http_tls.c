#include "server/http_tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "common/clock.h"
#include "common/log.h"

enum { MOST_CERTIFICATES = 16 };

/*
 * A handshake uses the pair that the callback gave it until it ends, which nobody tells us; but it ends by the header deadline, an hour at
 * most. So a pair that was replaced is kept for two hours, and goes at the first reload after that.
 */
static const uint64_t kept_ns = 2 * 3600 * (uint64_t)1000000000;

struct pair {
    struct pair *older;
    gnutls_pcert_st chain[MOST_CERTIFICATES];
    unsigned n_chain;
    gnutls_privkey_t key;
    uint64_t replaced_ns;
};

struct http_tls {
    char *certificate_path, *key_path;
    pthread_mutex_t lock;
    struct pair *newest;        /* under lock */
};

static struct http_tls *in_force;       /* for the callback: set before HTTP starts, cleared after it has stopped */

static void free_pairs(struct pair *p)
{
    while (p) {
        struct pair *older = p->older;
        for (unsigned i = 0; i < p->n_chain; i++)
            gnutls_pcert_deinit(&p->chain[i]);
        if (p->key)
            gnutls_privkey_deinit(p->key);
        free(p);
        p = older;
    }
}

static int failed(const char *path, int code)
{
    log_error("TLS: %s: %s", path, gnutls_strerror(code));
    return code == GNUTLS_E_FILE_ERROR ? -ENOENT : code == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
}

static int read_chain(struct pair *p, const char *path)
{
    gnutls_datum_t text = { 0 };
    unsigned n = MOST_CERTIFICATES;

    int code = gnutls_load_file(path, &text);
    if (!code)
        code = gnutls_pcert_list_import_x509_raw(p->chain, &n, &text, GNUTLS_X509_FMT_PEM, 0);
    if (!code)
        p->n_chain = n;
    gnutls_free(text.data);
    return code ? failed(path, code) : 0;
}

static int read_key(struct pair *p, const char *path)
{
    gnutls_datum_t text = { 0 };

    int code = gnutls_load_file(path, &text);
    if (!code)
        code = gnutls_privkey_init(&p->key);
    if (!code)
        code = gnutls_privkey_import_x509_raw(p->key, &text, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (text.data)
        gnutls_memset(text.data, 0, text.size);
    gnutls_free(text.data);
    return code ? failed(path, code) : 0;
}

static int check_match(const struct http_tls *t, const struct pair *p)
{
    unsigned char of_certificate[64], of_key[64];
    size_t n_certificate = sizeof(of_certificate), n_key = sizeof(of_key);
    gnutls_pubkey_t public = NULL;

    int code = gnutls_pubkey_init(&public);
    if (!code)
        code = gnutls_pubkey_import_privkey(public, p->key, 0, 0);
    if (!code)
        code = gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, of_key, &n_key);
    if (!code)
        code = gnutls_pubkey_get_key_id(p->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_certificate, &n_certificate);
    if (public)
        gnutls_pubkey_deinit(public);
    if (code)
        return failed(t->key_path, code);
    if (n_key == n_certificate && !memcmp(of_key, of_certificate, n_key))
        return 0;
    log_error("TLS: %s is not the key of the certificate in %s", t->key_path, t->certificate_path);
    return -EINVAL;
}

static int check_time(const struct http_tls *t, const struct pair *p)
{
    gnutls_x509_crt_t certificate = NULL;
    const time_t now = time(NULL);
    char text[32];

    int code = gnutls_x509_crt_init(&certificate);
    if (!code)
        code = gnutls_x509_crt_import(certificate, &p->chain[0].cert, GNUTLS_X509_FMT_DER);
    const time_t from = code ? now : gnutls_x509_crt_get_activation_time(certificate);
    const time_t until = code ? now : gnutls_x509_crt_get_expiration_time(certificate);
    if (certificate)
        gnutls_x509_crt_deinit(certificate);
    if (code)
        return failed(t->certificate_path, code);
    if (now > until || now < from) {
        struct tm utc;
        const time_t *at = now > until ? &until : &from;
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(at, &utc));
        log_warn("TLS: the certificate in %s %s %s: clients will refuse it", t->certificate_path,
                 now > until ? "expired at" : "is not valid before", text);
    }
    return 0;
}

static int load(struct http_tls *t)
{
    struct pair *p = calloc(1, sizeof(*p));
    const uint64_t now = clock_now_ns();

    int err = p ? read_chain(p, t->certificate_path) : -ENOMEM;
    if (!err)
        err = read_key(p, t->key_path);
    if (!err)
        err = check_match(t, p);
    if (!err)
        err = check_time(t, p);
    if (err) {
        free_pairs(p);
        return err;
    }
    pthread_mutex_lock(&t->lock);
    p->older = t->newest;
    t->newest = p;
    struct pair **at = &p->older;
    if (*at)
        (*at)->replaced_ns = now;
    while (*at && now - (*at)->replaced_ns < kept_ns)
        at = &(*at)->older;
    struct pair *unused = *at;
    *at = NULL;
    pthread_mutex_unlock(&t->lock);
    free_pairs(unused);
    return 0;
}

int http_tls_open(struct http_tls **out, const char *certificate_path, const char *key_path)
{
    struct http_tls *t = calloc(1, sizeof(*t));
    int err = -ENOMEM;

    *out = NULL;
    if (!t)
        return err;
    pthread_mutex_init(&t->lock, NULL);
    t->certificate_path = strdup(certificate_path);
    t->key_path = strdup(key_path);
    if (t->certificate_path && t->key_path)
        err = load(t);
    if (err) {
        http_tls_close(t);
    } else {
        in_force = t;
        *out = t;
    }
    return err;
}

int http_tls_reload(struct http_tls *t)
{
    return load(t);
}

void http_tls_close(struct http_tls *t)
{
    if (!t)
        return;
    if (in_force == t)
        in_force = NULL;
    free_pairs(t->newest);
    pthread_mutex_destroy(&t->lock);
    free(t->certificate_path);
    free(t->key_path);
    free(t);
}

static int give_pair(gnutls_session_t session, const gnutls_datum_t *issuers, int n_issuers, const gnutls_pk_algorithm_t *algorithms,
                     int n_algorithms, gnutls_pcert_st **chain, unsigned *n_chain, gnutls_privkey_t *key)
{
    (void)session;
    (void)issuers;
    (void)n_issuers;
    (void)algorithms;
    (void)n_algorithms;
    pthread_mutex_lock(&in_force->lock);
    struct pair *p = in_force->newest;
    pthread_mutex_unlock(&in_force->lock);
    *chain = p->chain;
    *n_chain = p->n_chain;
    *key = p->key;
    return 0;
}

void *http_tls_callback(void)
{
    return (void *)give_pair;
}
