/*
 * tests/server/check_pattern.c - what regular expressions, rules and choices accept, how they are refused, and that hostile ones cost
 * little.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/ebnf.h"
#include "server/matcher.h"
#include "server/regex.h"
#include "server/schema.h"

typedef int compiler(const char *text, size_t n, struct grammar **g, struct pattern_error *e);

static const struct token_trie no_tokens = { .n_vocab = 1 };

static int try_text(struct grammar *g, const char *text)
{
    struct matcher *m;

    assert_null(grammar_check(g, g->n_bytes));
    assert_int_equal(matcher_create(&m, g, &no_tokens), 0);
    const int result = matcher_read_text(m, text, strlen(text));
    matcher_destroy(m);
    return result;
}

/* texts: those that are accepted, NULL, those that are not, NULL. */
struct row { const char *source, *texts[12]; };

static void check_rows(compiler *compile, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct pattern_error e;
        struct grammar *g;
        bool accepted = true;
        if (compile(rows[i].source, strlen(rows[i].source), &g, &e))
            fail_msg("%s: %s", rows[i].source, e.message);
        for (size_t k = 0; k < 12; k++) {
            const char *text = rows[i].texts[k];
            if (!text && !accepted)
                break;
            if (text && (try_text(g, text) == 0) != accepted)
                fail_msg("%s: \"%s\" is %saccepted", rows[i].source, text, accepted ? "not " : "");
            accepted = accepted && text;
        }
        free(g);
    }
}

static void regex_meaning(void **state)
{
    static const struct row rows[] = {
        { "\\d{4}-\\d{2}", { "2024-01", NULL, "2024-1", "x2024-01", "2024-011" } },
        { "a|bc|", { "a", "bc", "", NULL, "b", "abc" } },
        { "(a|a)*b", { "b", "aaaab", NULL, "a", "" } },
        { "(a*)*c", { "c", "aac", NULL, "ab" } },
        { "^(?:ab+?|[^a-y\\d])$", { "abb", "z", "\xc3\xa9", NULL, "a", "5", "abbz" } },
        { "a{2,}b{0,2}c{1}", { "aac", "aaabbc", NULL, "ac", "aabbbc" } },
        { "(?P<x>\\w)(?<y>\\W)\\s\\S", { "a- b", "_\xc3\xa9\t0", NULL, "a-  ", "-- b" } },
        { ".", { "a", "\xf0\x9f\x98\x80", "\x7f", NULL, "\n", "\r", "\xe2\x80\xa8", "ab" } },
        { "[\\u4e00-\\u9fff]{1,3}", { "\xe4\xb8\xad", "\xe4\xb8\xad\xe6\x96\x87", NULL, "", "a", "\xe4" } },
        { "\\ud83d\\ude00|\\x41\\/", { "\xf0\x9f\x98\x80", "A/", NULL, "\xf0\x9f\x98\x81" } },
        { "[]a\\-]+{x}", { "]a-{x}", NULL, "b{x}" } },
        { "a^b|c", { "c", NULL, "ab", "a^b" } },
        { "(^a|b)$", { "a", "b", NULL, "ab", "a$" } },
    };
    (void)state;
    check_rows(regex_compile, rows, sizeof(rows) / sizeof(rows[0]));
}

static void ebnf_meaning(void **state)
{
    static const struct row rows[] = {
        { "root ::= item+ # a list\nitem ::= \"- \" [^\\r\\n]+ \"\\n\"\n", { "- a\n", "- a\n- bc\n", NULL, "- a", "a\n", "- \n" } },
        { "root ::= \"(\" root \")\" | [0-9]+", { "7", "((12))", NULL, "((1)", "()", "(" } },
        { "root ::= (\n  \"a\"\n  | b )\nb ::=\n \"\\\"\" . \"\\x41\\u00e9\\U0001F600\" ",
          { "a", "\"xA\xc3\xa9\xf0\x9f\x98\x80", NULL, "b", "\"A" } },
        { "root ::= a-b{2} c_d? [\\]x-z^]*\na-b ::= \"1\"\nc_d ::= \"2\" | \"\"", { "11", "112", "11]^y", NULL, "1", "113" } },
        { "root ::= ws (ws \"a\" ws)* \"\"\nws ::= [ \\t]*", { "", " a\ta ", NULL, "b" } },
    };
    (void)state;
    check_rows(ebnf_compile, rows, sizeof(rows) / sizeof(rows[0]));
}

static void refused(void **state)
{
    static const struct { compiler *compile; const char *source, *why; } rows[] = {
        { regex_compile, "^+", "position 1: there is nothing to repeat" }, { regex_compile, "a**", "position 2: there is nothing" },
        { regex_compile, "\xc3\xa9(", "position 1: a group without" }, { regex_compile, "a)", "position 1: a ) without" },
        { regex_compile, "[a", "position 0: a class" }, { regex_compile, "[b-a]", "position 1: a range" },
        { regex_compile, "a{1,1000000}", "position 4: a repeat may be at most 10000" }, { regex_compile, "a{3,2}", "least" },
        { regex_compile, "(a)\\1", "position 3: references" }, { regex_compile, "(?=a)", "position 0: of groups" },
        { regex_compile, "(?<!a)b", "position 0: of groups" }, { regex_compile, "(?i)a", "(?" }, { regex_compile, "\\bx", "\\b" },
        { regex_compile, "a++", "possessive" }, { regex_compile, "a{,3}", "{0,n}" }, { regex_compile, "\\", "backslash" },
        { regex_compile, "\\xg0", "hexadecimal" }, { regex_compile, "\\ud83d", "surrogate" }, { regex_compile, "\xff", "UTF-8" },
        { regex_compile, "a^b", "no text matches" }, { regex_compile, "[^\\s\\S]", "no text matches" },
        { ebnf_compile, "", "line 1, column 1: there is no rule \"root\"" }, { ebnf_compile, "root ::= \"a\"\n\n  x", "line 3, column 3" },
        { ebnf_compile, "root ::= root \"a\" | \"b\"", "line 1, column 10: a reference leads back to itself" },
        { ebnf_compile, "root ::= a\na ::= \"x\"? b\nb ::= a \"y\"", "line 2, column 12: a reference leads back" },
        { ebnf_compile, "root ::= w*\nw ::= \" \"*", "line 1, column 10: what is repeated may be empty" },
        { ebnf_compile, "root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: the rule \"root\" is defined twice" },
        { ebnf_compile, "root ::= \"a\" (x", "column 14: a group without" },
        { ebnf_compile, "root ::= x{20000} x ::= \"\"", "at most 10000" },
        { ebnf_compile, "root ::= \"a\nb\"", "closing quote" }, { ebnf_compile, "root ::= \"\\q\"", "column 11: of escapes" },
        { ebnf_compile, "root ::= \"a\" ) \"b\"", "a ) without" }, { ebnf_compile, "root ::= \"a\" root", "no text satisfies it" },
        { ebnf_compile, "root ::= ((x?){0,10000}){0,10000}\nx ::= \"a\"", "nodes" }, { ebnf_compile, "root ::= \"a\" | \xff", "UTF-8" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pattern_error e;
        struct grammar *g;
        const int err = rows[i].compile(rows[i].source, strlen(rows[i].source), &g, &e);
        if (err != -EINVAL || g || !strstr(e.message, rows[i].why))
            fail_msg("%s: %d %s", rows[i].source, err, e.message);
    }
}

static char *repeated(const char *head, const char *part, size_t n, const char *tail)
{
    const size_t length = strlen(part);
    char *text = malloc(strlen(head) + n * length + strlen(tail) + 1), *at = stpcpy(text, head);

    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, part);
    strcpy(at, tail);
    return text;
}

/* Each is compiled or refused, in CPU time that is bounded whatever the machine does meanwhile. */
static void hostile(void **state)
{
    struct { compiler *compile; char *source; bool fine; } rows[] = {
        { regex_compile, repeated("", "(", 60000, ""), false }, { regex_compile, repeated("", "(", 101, "a"), false },
        { regex_compile, repeated("", "a", 5000, ""), false }, { regex_compile, repeated("", "a", 4096, ""), true },
        { regex_compile, repeated("", "|", 4000, ""), true }, { regex_compile, repeated("(a+)+$", "", 0, ""), true },
        { regex_compile, repeated("", "(a*)*", 500, ""), true }, { regex_compile, repeated("", ".*", 1000, "x"), true },
        { regex_compile, repeated("", "a?", 1300, ""), true }, { regex_compile, repeated("(a{0,50}){0,100}", "", 0, ""), false },
        { regex_compile, repeated("(((((){10000}){10000}){10000}){10000})", "", 0, ""), false },
        { regex_compile, repeated("(a|b)*a(a|b){10}", "", 0, ""), true },
        { regex_compile, repeated("(a|b)*a(a|b){200}", "", 0, ""), false },
        { regex_compile, repeated("((((a{100}){100}){100}){100})", "", 0, ""), false },
        { regex_compile, repeated(".{0,10000}", "", 0, ""), true },
        { ebnf_compile, repeated("root ::= ", "(", 60000, ""), false },
        { ebnf_compile, repeated("root ::= a", "*", 60000, "\na ::= \"x\""), false },
        { ebnf_compile, repeated("root ::= ", "r | ", 15000, "r\nr ::= \"a\""), true },
        { ebnf_compile, repeated("root ::= ", "[a-z]* | ", 7000, "\"a\""), true },
        { ebnf_compile, repeated("root ::= ", "\"ab\" ", 12000, ""), true },
    };
    char chain[80000] = "root ::= r0\n", *at = chain + strlen(chain);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pattern_error e;
        struct grammar *g;
        const clock_t start = clock();
        const int err = rows[i].compile(rows[i].source, strlen(rows[i].source), &g, &e);
        const double ms = 1e3 * (double)(clock() - start) / CLOCKS_PER_SEC;
        if (err != (rows[i].fine ? 0 : -EINVAL) || ms > 2000)          /* 100 without a sanitizer or an emulator */
            fail_msg("%.60s: %d after %.0f ms: %s", rows[i].source, err, ms, e.message);
        free(g);
        free(rows[i].source);
    }
    /* rules that only call the next */
    for (int i = 0; i < 3000; i++)
        at += sprintf(at, "r%d ::= r%d\n", i, i + 1);
    struct pattern_error e;
    struct grammar *g;
    assert_int_equal(ebnf_compile(chain, strlen(chain), &g, &e), -EINVAL);
    assert_non_null(strstr(e.message, "at most 1024 rules"));
}

static void choices(void **state)
{
    json_t *strings = json_loads("[\"red\", \"reddish\", \"gr\xc3\xbcn\", \"\"]", 0, NULL);
    struct schema_error e;
    struct grammar *g;

    (void)state;
    assert_int_equal(schema_compile_choice(strings, &g, &e), 0);
    assert_int_equal(try_text(g, "red"), 0);
    assert_int_equal(try_text(g, ""), 0);
    assert_int_equal(try_text(g, "gr\xc3\xbcn"), 0);
    assert_int_equal(try_text(g, "redd"), 1);
    assert_int_equal(try_text(g, "\"red\""), -EINVAL);
    free(g);
    json_array_clear(strings);
    assert_int_equal(schema_compile_choice(strings, &g, &e), -EINVAL);
    for (int i = 0; i < 10001; i++)
        json_array_append_new(strings, json_sprintf("%d", i));
    assert_int_equal(schema_compile_choice(strings, &g, &e), -EINVAL);
    json_decref(strings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regex_meaning), cmocka_unit_test(ebnf_meaning), cmocka_unit_test(refused), cmocka_unit_test(hostile),
        cmocka_unit_test(choices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
