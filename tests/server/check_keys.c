/* check_keys.c - files of API keys: what a line may be, who is let in, and what stays when the file is read again. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/log.h"
#include "server/keys.h"

/* SHA-256 of "abc", FIPS 180-2 B.1. */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static char path[] = "/tmp/fourway-check-keys-XXXXXX";
static char message[4096];

static void keep_message(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    (void)level;
    snprintf(message, sizeof(message), "%s", text);
}

static void write_bytes(const char *text, size_t n)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int open_keys(struct keys **k, const char *text)
{
    write_bytes(text, strlen(text));
    message[0] = '\0';
    return keys_open(k, path, 5);
}

static int reload(struct keys *k, const char *text)
{
    write_bytes(text, strlen(text));
    message[0] = '\0';
    return keys_reload(k);
}

/* The grant of a key that must be there; it is given back. */
static struct key_grant grant_of(struct keys *k, const char *secret)
{
    struct key_grant g;

    assert_true(keys_take(k, secret, &g));
    keys_release(k, g.number);
    return g;
}

static bool is_key(struct keys *k, const char *secret)
{
    struct key_grant g;
    const bool found = keys_take(k, secret, &g);

    if (found)
        keys_release(k, g.number);
    return found;
}

static void test_plain_lines(void **state)
{
    struct keys *k;
    char longest[300];

    (void)state;
    assert_int_equal(open_keys(&k, "# comment\n\n  \nfirst key \r\nsecond\t\n  :sha256 limit=9"), 0);
    assert_int_equal(keys_count(k), 3);
    assert_string_equal(grant_of(k, "first key").name, "line-4");
    assert_string_equal(grant_of(k, "second").name, "line-5");
    assert_string_equal(grant_of(k, ":sha256").name, "line-6");
    static const char *const others[] = { "", "secon", "secondd", "# comment", "first", "first key ", "line-4", "second limit=9" };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(is_key(k, others[i]));
    keys_close(k);

    memset(longest, 'k', sizeof(longest));
    longest[255] = '\0';
    assert_int_equal(open_keys(&k, longest), 0);
    assert_true(is_key(k, longest));
    assert_false(is_key(k, longest + 1));
    keys_close(k);
    longest[255] = 'k';
    longest[256] = '\0';
    assert_int_equal(open_keys(&k, longest), -EINVAL);
    assert_non_null(strstr(message, ":1: "));
    assert_null(strstr(message, "kkk"));
}

static void test_hashed_lines(void **state)
{
    struct keys *k;
    char hex[2 * KEYS_DIGEST_BYTES + 1];
    unsigned limit;

    (void)state;
    assert_int_equal(keys_hash("abc", hex), 0);
    assert_string_equal(hex, ABC);
    assert_int_equal(open_keys(&k, "alice@home:sha256:" ABC "\tlimit=2  priority=-20\nbob priority=19\n"), 0);
    const struct key_grant alice = grant_of(k, "abc"), bob = grant_of(k, "bob");
    assert_string_equal(alice.name, "alice@home");
    assert_int_equal(alice.priority, -20);
    assert_int_equal(bob.priority, 19);
    assert_true(alice.tag != bob.tag && alice.number != bob.number);
    assert_false(is_key(k, ABC));                   /* the hash is no key */
    assert_false(is_key(k, "alice@home:sha256:" ABC));
    for (unsigned i = 0; i < 2; i++)
        assert_true(keys_enter(k, alice.number, &limit));
    assert_false(keys_enter(k, alice.number, &limit));
    assert_true(keys_is_full(k, alice.number, &limit));
    assert_int_equal(limit, 2);
    for (unsigned i = 0; i < 5; i++)                /* the default of open_keys */
        assert_true(keys_enter(k, bob.number, &limit));
    assert_false(keys_enter(k, bob.number, &limit));
    keys_leave(k, alice.number);
    assert_true(keys_enter(k, alice.number, &limit));
    keys_close(k);
}

static void test_bad_lines(void **state)
{
    static const struct { const char *text, *says; } bad[] = {
        { "", "no key" }, { "#\n", "no key" }, { "good\nalice:sha256:abcd\n", ":2: after :sha256:" },
        { "alice:sha256:" ABC "0", ":1: after" }, { "alice:sha256:" ABC " more", ":1: after" }, { ":sha256:" ABC, ":1: the name" },
        { "a b:sha256:" ABC, ":1: the name" },
        { "a123456789b123456789c123456789d123456789e123456789f123456789abcd:sha256:" ABC, ":1: the name" },
        { "alice:" ABC, ":1: this looks like a hash" }, { "alice:md5:" ABC, ":1: this looks like a hash" },
        { "k limit=0", ":1: limit" }, { "k limit=65537", ":1: limit" }, { "k limit=4x", ":1: limit" }, { "k limit=", ":1: limit" },
        { "k priority=20", ":1: priority" }, { "k priority=-21", ":1: priority" }, { "k limits=4", ":1: behind a key" },
        { "k limit=99999999999999999999", ":1: limit" }, { "same\nother\nsame", ":3: this key stands in the file twice" },
        { "abc\nalice:sha256:" ABC, ":2: this key stands" },
        { "a:sha256:" ABC "\na:sha256:0000000000000000000000000000000000000000000000000000000000000000", ":2: this name stands" },
    };
    struct keys *k;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(open_keys(&k, bad[i].text), -EINVAL);
        assert_null(k);
        assert_non_null(strstr(message, bad[i].says));
        assert_null(strstr(message, ABC));
    }
    write_bytes("a\0b\n", 4);
    assert_int_equal(keys_open(&k, path, 5), -EINVAL);
    assert_int_equal(keys_open(&k, "/nonexistent/keys", 5), -ENOENT);
    assert_non_null(strstr(message, "/nonexistent/keys"));
    assert_int_equal(keys_open(&k, "/", 5), -EISDIR);
}

static void test_number_of_keys(void **state)
{
    struct buf text = { 0 };
    struct keys *k;

    (void)state;
    for (int i = 0; i < KEYS_MAX; i++)
        buf_printf(&text, "key number %d\n", i);
    assert_int_equal(open_keys(&k, text.data), 0);
    assert_true(is_key(k, "key number 0") && is_key(k, "key number 2047"));
    buf_puts(&text, "one more");
    assert_int_equal(reload(k, text.data), -EINVAL);
    assert_non_null(strstr(message, "at most 2048"));
    buf_clear(&text);
    for (int i = 0; i < KEYS_MAX; i++)
        buf_printf(&text, "other number %d\n", i);
    for (int i = 0; i < 3; i++)
        assert_int_equal(reload(k, text.data), 0);  /* all others */
    assert_false(is_key(k, "key number 0"));
    assert_true(is_key(k, "other number 2047"));
    keys_close(k);
    buf_clear(&text);
    for (int i = 0; i < 1 << 17; i++)
        buf_puts(&text, "#\n       ");
    assert_int_equal(open_keys(&k, text.data), -EFBIG);
    buf_free(&text);
}

static void test_reload(void **state)
{
    struct keys *k;
    unsigned limit;
    struct key_grant held;

    (void)state;
    assert_int_equal(open_keys(&k, "one\ntwo\nthree\n"), 0);
    const struct key_grant one = grant_of(k, "one"), three = grant_of(k, "three");
    assert_true(keys_take(k, "two", &held));
    assert_true(keys_enter(k, held.number, &limit));

    /* Whatever moves, a key that stays has its number; its name, limit and priority are the new ones. */
    assert_int_equal(reload(k, "# new\nfour\nthree limit=1 priority=3\none\n"), 0);
    assert_int_equal(grant_of(k, "one").number, one.number);
    assert_int_equal(grant_of(k, "one").holder, one.holder);
    assert_int_equal(grant_of(k, "three").number, three.number);
    assert_int_equal(grant_of(k, "three").priority, 3);
    assert_string_equal(grant_of(k, "three").name, "line-3");
    assert_true(keys_enter(k, three.number, &limit));
    assert_false(keys_enter(k, three.number, &limit));
    assert_false(is_key(k, "two"));
    assert_true(grant_of(k, "four").number != held.number);

    /* A bad file changes nothing. */
    assert_int_equal(reload(k, "one\nfive limit=0\n"), -EINVAL);
    assert_true(is_key(k, "three") && is_key(k, "four") && !is_key(k, "five"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(keys_reload(k), -ENOENT);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(keys_reload(k), -ESPIPE);      /* and does not wait for a writer */
    assert_int_equal(unlink(path), 0);
    assert_true(is_key(k, "four"));

    /* The number of a removed key is not given away while a request of it is there; afterwards it is, to another holder. */
    bool given = false;
    for (int round = 0; round < 12; round++) {      /* each takes a quarter of the numbers */
        struct buf text = { 0 };
        char key[32];
        for (int i = 0; i < KEYS_SLOTS / 4; i++)
            buf_printf(&text, "key %d of %d\n", i, round);
        assert_int_equal(reload(k, text.data), 0);
        buf_free(&text);
        for (int i = 0; i < KEYS_SLOTS / 4; i++) {
            snprintf(key, sizeof(key), "key %d of %d", i, round);
            const struct key_grant g = grant_of(k, key);
            assert_true(round >= 6 || g.number != held.number);
            given |= g.number == held.number && g.holder != held.holder;
        }
        if (round == 5) {
            keys_leave(k, held.number);
            keys_release(k, held.number);
        }
    }
    assert_true(given);
    keys_close(k);
    keys_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_lines), cmocka_unit_test(test_hashed_lines), cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_number_of_keys), cmocka_unit_test(test_reload),
    };
    const int fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    log_set_sink(keep_message, NULL);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
