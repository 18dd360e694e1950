/*
 * tests/weights/check_chat_template.c - chat templates against recorded renderings of jinja2, the marks of the request's text, and
 * templates that mean harm.
 *
 * tests/data/chat-templates.json has templates in the style of the model families and sweeps over the language;
 * tests/data/template-cases.json has small cases, rendered by jinja2 with compare_jinja.py beside this file.
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

#include <jansson.h>

#include "weights/chat_template.h"

/* 2026-11-21T09:05:07Z, the `now` of the recorded cases */
#define NOW 1795251907

struct result {
    int err;
    bool compiled;
    struct template_error error;
    struct buf text, literal;
};

static void render(struct result *r, const char *source, size_t n, const json_t *vars, size_t max_output)
{
    const struct template_options options = { .max_output = max_output, .now = NOW };
    struct chat_template *t;

    *r = (struct result){ 0 };
    r->err = chat_template_compile(&t, source, n, &r->error);
    r->compiled = !r->err;
    if (r->compiled)
        r->err = chat_template_render(t, vars, &options, &r->text, &r->literal, &r->error);
    if (r->compiled)
        chat_template_free(t);
    if (!r->err)
        assert_int_equal(r->text.len, r->literal.len);
}

static void result_free(struct result *r)
{
    buf_free(&r->text);
    buf_free(&r->literal);
}

static const char *text_of(const struct result *r)
{
    return r->text.data ? r->text.data : "";
}

static json_t *read_json(const char *path)
{
    json_error_t error;
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &error);

    if (!json)
        fail_msg("%s: %s", path, error.text);
    return json;
}

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);

    if (!json)
        fail_msg("%s: %s", text, error.text);
    return json;
}

/* ---- against jinja2 ---- */

static void compare(const char *name, const json_t *source, const json_t *vars, const json_t *test)
{
    const json_t *expected = json_object_get(test, "expected"), *error = json_object_get(test, "error");
    struct result r;

    render(&r, json_string_value(source), json_string_length(source), vars, 0);
    if (expected && (r.err || r.text.len != json_string_length(expected) ||
                     memcmp(text_of(&r), json_string_value(expected), r.text.len)))
        fail_msg("%s\n  got  %s\n  want %s", name, r.err ? r.error.message : text_of(&r), json_string_value(expected));
    if (error && !r.err)
        fail_msg("%s\n  got  %s\n  want the error %s", name, text_of(&r), json_string_value(error));
    /* the text of raise_exception() is the template's and reaches the client; the wording of the others is ours */
    if (error && !strncmp(json_string_value(error), "TemplateError: ", 15)) {
        assert_string_equal(r.error.message, json_string_value(error) + 15);
        assert_int_equal(r.error.limit, 2);
    }
    assert_true(expected || error);
    result_free(&r);
}

static void check_golden(void **state)
{
    json_t *data = read_json("tests/data/chat-templates.json"), *cases = json_object_get(data, "cases"), *test;
    size_t i;

    (void)state;
    json_array_foreach(cases, i, test) {
        const char *name = json_string_value(json_object_get(test, "template"));
        json_t *vars = json_deep_copy(json_object_get(test, "vars"));
        char label[100];
        json_object_set(vars, "messages", json_object_get(test, "messages"));
        snprintf(label, sizeof(label), "case %zu: %s", i, name);
        compare(label, json_object_get(json_object_get(data, "templates"), name), vars, test);
        json_decref(vars);
    }
    assert_int_equal(i, 55);
    json_decref(data);
}

static void check_cases(void **state)
{
    json_t *data = read_json("tests/data/template-cases.json"), *cases = json_object_get(data, "cases"), *test;
    size_t i;

    (void)state;
    json_array_foreach(cases, i, test) {
        const json_t *source = json_object_get(test, "template");
        compare(json_string_value(source), source, json_object_get(data, "vars"), test);
    }
    assert_true(i > 300);
    json_decref(data);
}

/* ---- what came from the request ---- */

/* `want` has a digit for every byte of the output. */
static void check_marks_of(const char *source, const char *vars_text, const char *text, const char *want)
{
    json_t *vars = parse(vars_text);
    struct result r;

    render(&r, source, strlen(source), vars, 0);
    if (r.err)
        fail_msg("%s: %s", source, r.error.message);
    for (size_t i = 0; i < r.literal.len; i++)
        r.literal.data[i] += '0';
    if (strcmp(text_of(&r), text) || strcmp(r.literal.data ? r.literal.data : "", want))
        fail_msg("%s\n  got  %s\n       %s\n  want %s\n       %s", source, text_of(&r), r.literal.data, text, want);
    result_free(&r);
    json_decref(vars);
}

static void check_marks(void **state)
{
    static const char vars[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"<a> b\", \"k\": {\"x\": \"it's\"}}], \"t\": \"<s>\","
                               " \"tools\": [\"u\"], \"documents\": [{\"d\": \"v\"}]}";
    static const struct { const char *source, *text, *marks; } tests[] = {
        { "<a>{{ messages[0].content }}{{ t }}", "<a><a> b<s>", "00011111000" },
        { "{{ '<' + messages[0].content + '>' }}", "<<a> b>", "0111110" },
        { "{{ '<' ~ messages[0].content ~ 1 ~ t }}", "<<a> b1<s>", "0111110000" },
        { "{{ messages[0].content[1:3] }}{{ messages[0].content[::-1] }}", "a>b >a<", "1111111" },
        { "{{ ('[' ~ messages[0].content ~ ']')[::-2] }}", "] a[", "0110" },
        { "{{ messages[0].content | replace('a', '<x>') }}", "<<x>> b", "1000111" },
        { "{{ 'qaq' | replace('a', messages[0].content) }}", "q<a> bq", "0111110" },
        { "{{ (' ' ~ messages[0].content ~ ' ') | trim }}", "<a> b", "11111" },
        { "{{ messages[0].content.split(' ') | join('|') }}", "<a>|b", "11101" },
        { "{{ messages[0].content | upper }}{{ messages[0].content.title() }}", "<A> B<A> B", "1111111111" },
        { "{{ messages[0].content | tojson }}", "\"<a> b\"", "0111110" },
        { "{{ messages[0].k | tojson }}", "{\"x\": \"it's\"}", "0010000111100" },
        { "{{ messages[0].k }}", "{'x': \"it's\"}", "0010000111100" },
        { "{{ ['\\n' ~ messages[0].content] }}", "['\\n<a> b']", "00001111100" },
        { "{% set x %}[{{ messages[0].content }}]{% endset %}{{ x }}", "[<a> b]", "0111110" },
        { "{% filter upper %}x{{ messages[0].content }}{% endfilter %}", "X<A> B", "011111" },
        { "{% macro m(c) %}<{{ c }}>{% endmacro %}{{ m(messages[0].content) }}", "<<a> b>", "0111110" },
        { "{{ '%s:%5s' % (messages[0].content, 'x') }}", "<a> b:    x", "11111000000" },
        { "{{ '<{}>'.format(messages[0].content) }}", "<<a> b>", "0111110" },
        { "{{ 'x\\ny' ~ messages[0].content | indent(2) }}", "x\ny<a> b", "00011111" },
        { "{{ ('x\\n' ~ messages[0].content) | indent(2) }}", "x\n  <a> b", "000011111" },
        { "{% for c in messages[0].content %}{{ c }}.{% endfor %}", "<.a.>. .b.", "1010101010" },
        { "{{ tools[0] }}{{ documents[0].d }}{% for k in documents[0] %}{{ k }}{% endfor %}", "uvd", "111" },
        { "{{ messages[0].content * 2 }}", "<a> b<a> b", "1111111111" },
        { "{{ 'ab'.join(['c', messages[0].content]) }}", "cab<a> b", "00011111" },
        { "{{ messages | map(attribute='content') | join(',') }}", "<a> b", "11111" },
        { "{% set ns = namespace(s='') %}{% for i in range(3) %}{% set ns.s = ns.s ~ '<' ~ tools[0] %}{% endfor %}{{ ns.s }}",
          "<u<u<u", "010101" },
        { "{{ strftime_now('%d' ~ tools[0]) }}", "21u", "111" },
        /* a role of the API's vocabulary is part of the format; any other is the client's text */
        { "<|{{ messages[0].role }}|>", "<|user|>", "00000000" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
        check_marks_of(tests[i].source, vars, tests[i].text, tests[i].marks);
    check_marks_of("<|{{ messages[0].role }}|>", "{\"messages\": [{\"role\": \"|><|x\"}]}", "<||><|x|>", "001111100");
}

/* Two strings that grow from the same one must not see each other's bytes. */
static void check_append_in_place(void **state)
{
    (void)state;
    check_marks_of("{% set a = messages[0].content ~ '-' %}{% set b = a ~ 'b' %}{% set c = a ~ 'cc' %}{% set d = b ~ c %}"
                   "{{ a }} {{ b }} {{ c }} {{ d }}",
                   "{\"messages\": [{\"content\": \"x\"}]}", "x- x-b x-cc x-bx-cc", "1001000100001001000");
}

/* ---- refusals ---- */

static void check_compile_errors(void **state)
{
    static const struct { const char *source, *message; } tests[] = {
        { "a\nb\n{{ x | xmlattr }}", "line 3: unsupported filter \"xmlattr\"" },
        { "{{ x is escaped }}", "line 1: unsupported test \"escaped\"" },
        { "{{ x | map('urlize') | list }}", "line 1: unsupported filter \"urlize\"" },
        { "{{ x | selectattr('a', 'weird') | list }}", "line 1: unsupported test \"weird\"" },
        { "\n{% include 'x' %}", "line 2: unsupported tag \"include\"" },
        { "{% block b %}{% endblock %}", "line 1: unsupported tag \"block\"" },
        { "{% raw %}{{ x }}{% endraw %}", "line 1: unsupported tag \"raw\"" },
        { "{% call m() %}{% endcall %}", "line 1: unsupported tag \"call\"" },
        { "{% for x in y recursive %}{% endfor %}", "line 1: unsupported loop modifier \"recursive\"" },
        { "{{ f(*args) }}", "line 1: unsupported argument \"*\"" },
        { "{{ f(**args) }}", "line 1: unsupported argument \"**\"" },
        { "{{ 'x'.encode() }}", "line 1: unsupported method \"encode\"" },
        { "{% macro m() %}{{ varargs }}{% endmacro %}", "line 1: unsupported macro variable \"varargs\"" },
        { "{% if x %}\na\nb", "line 3: expected tag \"endif\", got the end of the template" },
        { "{% endfor %}", "line 1: unexpected tag \"endfor\"" },
        { "{% if x %}{% endfor %}", "line 1: unexpected tag \"endfor\"" },
        { "{{ 'abc }}", "line 1: string without an end" },
        { "{{ x", "line 1: expected '}}', got the end of the template" },
        { "{{ (1, 2 }}", "line 1: unexpected '}', expected ')'" },
        { "{{ 1 + }}", "line 1: expected an expression, got '}}'" },
        { "{{ x. }}", "line 1: expected a name, got '}}'" },
        { "{{ x[] }}", "line 1: expected an index, got ']'" },
        { "{{ a b }}", "line 1: expected '}}', got \"b\"" },
        { "{# x", "line 1: missing end of comment tag" },
        { "{{ $ }}", "line 1: unexpected character '$'" },
        { "{{ \xc3\xa9 }}", "line 1: unexpected character \\xc3" },
        { "x\n\xff", "line 2: invalid UTF-8" },
        { "{{ '\\ud800' }}", "line 1: invalid escape in a string" },
        { "{{ 99999999999999999999 }}", "line 1: integer of more than 64 bits" },
        { "{% set none = 1 %}", "line 1: cannot assign to \"none\"" },
        { "{% break %}", "line 1: \"break\" outside of a loop" },
        { "{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}", "line 1: \"continue\" outside of a loop" },
        { "{{ f(a=1, 2) }}", "line 1: positional argument after a named one" },
        { "{% macro m(a=1, b) %}{% endmacro %}", "line 1: non-default argument follows default argument" },
        { "{{ x is y is z }}", "line 1: unsupported test \"y\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
        struct result r;
        render(&r, tests[i].source, strlen(tests[i].source), NULL, 0);
        if (r.compiled || r.err != -EINVAL || strcmp(r.error.message, tests[i].message))
            fail_msg("%s\n  got  %s\n  want %s", tests[i].source, r.compiled ? "compiled" : r.error.message, tests[i].message);
        assert_int_equal(r.error.limit, 0);
        assert_int_equal(r.error.line, atoi(r.error.message + 5));
        result_free(&r);
    }
}

static void check_render_errors(void **state)
{
    static const struct { const char *source, *message; int limit; } tests[] = {
        { "\n{{ x.y }}", "line 2: 'x' is undefined", 0 },
        { "{{ {}.a.b }}", "line 1: 'dict object' has no attribute 'a'", 0 },
        { "{{ [].append(1) }}", "line 1: access to attribute 'append' of 'list' object is unsafe", 0 },
        { "{{ ''.__class__.mro() }}", "line 1: access to attribute '__class__' of 'str' object is unsafe", 0 },
        { "{{ '5' + 1 }}", "line 1: '+' is not supported between 'str' and 'int'", 0 },
        { "{{ 1 // 0 }}", "line 1: division by zero", 0 },
        { "{{ 9223372036854775807 + 1 }}", "line 1: integer of more than 64 bits", 0 },
        { "{{ x() }}", "line 1: 'x' is undefined", 0 },
        { "{{ 'a'() }}", "line 1: 'str' object is not callable", 0 },
        { "{% for a, b in [[1]] %}{% endfor %}", "line 1: not enough values to unpack (expected 2, got 1)", 0 },
        { "{{ x | tojson }}", "line 1: Object of type Undefined is not JSON serializable", 0 },
        { "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "line 1: macro \"m\" takes not more than 1 arguments", 0 },
        { "{{ 'a' | trim(1, 2) }}", "line 1: trim() takes at most 1 arguments", 0 },
        { "{{ range(100001) }}", "line 1: range of more than 100000 items", 1 },
        { "a\n{{ raise_exception('no: \xc3\xa9') }}", "no: \xc3\xa9", 2 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
        struct result r;
        render(&r, tests[i].source, strlen(tests[i].source), NULL, 0);
        if (!r.compiled || r.err != -EINVAL || strcmp(r.error.message, tests[i].message))
            fail_msg("%s\n  got  %s\n  want %s", tests[i].source, r.err ? r.error.message : text_of(&r), tests[i].message);
        assert_int_equal(r.error.limit, tests[i].limit);
        assert_int_equal(r.text.len, 0);
        result_free(&r);
    }
}

/* A long message is cut between characters. */
static void check_long_message(void **state)
{
    static const char source[] = "{{ raise_exception('x' ~ '\xe4\xb8\xad' * 200) }}";
    struct result r;

    (void)state;
    render(&r, source, sizeof(source) - 1, NULL, 0);
    assert_int_equal(r.error.limit, 2);
    assert_int_equal(strlen(r.error.message), 1 + 84 * 3);
    result_free(&r);
}

/* ---- templates that mean harm: each must stop at a limit within a second ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOST_S 10.0
#else
#define MOST_S 1.0
#endif

/* Of this thread: other work on the machine must not make the test fail. */
static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void expect_limit(const char *source, size_t n, size_t max_output, const char *message)
{
    double start = cpu_s();
    struct result r;

    render(&r, source, n, NULL, max_output);
    if (r.err != -EINVAL || r.error.limit != 1 || !strstr(r.error.message, message))
        fail_msg("%.200s\n  got  %s\n  want %s", source, r.err ? r.error.message : "a text", message);
    if (cpu_s() - start > MOST_S)
        fail_msg("%.200s took %.1f s", source, cpu_s() - start);
    result_free(&r);
}

static void check_limits(void **state)
{
    static const struct { const char *source; const char *message; } tests[] = {
        { "{% for i in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}", "step limit of 1000000 reached" },
        { "{% for i in range(99999) %}\n{% set x = 1 %}\n{% for k in range(99999) %}{{ k }}{% endfor %}{% endfor %}",
          "line 3: output limit" },
        { "{% for i in range(9999) %}{{ 'x' * 100000 }}{% endfor %}", "output limit of 1048576 bytes reached" },
        { "{{ 'x' * 1073741824 }}", "memory limit" },
        { "{{ [1] * 1073741824 }}", "memory limit" },
        { "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", "memory limit" },
        { "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "limit" },
        { "{% set ns = namespace(s='x') %}{% for i in range(20) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
          "{% for i in range(99999) %}{% if 'y' in ns.s %}{% endif %}{% endfor %}", "step limit" },
        { "{% set ns = namespace(s='x') %}{% for i in range(20) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
          "{% for i in range(99999) %}{% if ns.s.rfind('y') %}{% endif %}{% endfor %}", "step limit" },
        { "{% set ns = namespace(s='x') %}{% for i in range(18) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
          "{% for i in range(99999) %}{% set x = ns.s | replace('x', 'yy') %}{% endfor %}", "limit" },
        { "{% for i in range(99999) %}{% set x = i / 7 ~ '' %}{% endfor %}", "limit" },
        { "{% for i in range(99999) %}{% set x = '%999.500f' % 1e300 %}{% endfor %}", "limit" },
        { "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper than 100" },
        { "{% macro m(x) %}{% if x %}{{ m(x) ~ m(x) }}{% endif %}{% endmacro %}{{ m(1) }}", "nested deeper than 100" },
        { "{% macro m(x) %}{% if x %}{{ m(x - 1) ~ m(x - 1) }}{% endif %}{% endmacro %}{{ m(30) }}", "step limit" },
        { "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
          "data nested deeper" },
        { "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson }}",
          "data nested deeper" },
        { "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l == [ns.l] }}",
          "data nested deeper" },
        { "{% set ns = namespace(l=(1, 2)) %}{% for i in range(99) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ ns.l | string | length }}",
          "limit" },
        { "{% set ns = namespace(l=(1, 2)) %}{% for i in range(99) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ {ns.l: 1} }}",
          "step limit" },
        { "{% set ns = namespace(l=(1,2), k=(1,2)) %}{% for i in range(99) %}{% set ns.l = (ns.l, ns.l) %}{% set ns.k = (ns.k, ns.k) %}"
          "{% endfor %}{{ ns.l == ns.k }}{{ ns.l < ns.k }}", "step limit" },
        { "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "data nested deeper" },
        { "{{ range(99999) | map('string') | map('upper') | map('lower') | map('title') | join | length }}", "limit" },
        { "{{ range(99999) | unique | list }}", "step limit" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
        expect_limit(tests[i].source, strlen(tests[i].source), 0, tests[i].message);
    expect_limit("0123456789", 10, 9, "output limit of 9 bytes reached");
}

static char *repeat(const char *part, size_t times)
{
    size_t n = strlen(part);
    char *text = malloc(n * times + 1);

    assert_non_null(text);
    for (size_t i = 0; i < times; i++)
        memcpy(text + i * n, part, n);
    text[n * times] = '\0';
    return text;
}

/* Deep nesting is refused; long chains of one level are not deep, and must not use up the stack. */
static void check_deep_sources(void **state)
{
    static const struct { const char *before, *part; } deep[] = {
        { "", "{% if 1 %}" }, { "", "{% for x in y %}" }, { "", "{% set a %}" }, { "", "{% macro m() %}" }, { "{% for ", "(" },
        { "{{ ", "(" }, { "{{ ", "[" }, { "{{ ", "{1:" }, { "{{ ", "-" }, { "{{ ", "x[" }, { "{{ ", "f(" }, { "{{ ", "x is eq (" },
        { "{{ ", "1 if 2 else " }, { "{{ 1", " if 1" },
    };
    static const struct { const char *before, *part, *after; } longs[] = {
        { "{{ 1", "+1", "}}" }, { "{{ x", "|d(x)", "}}" }, { "{{ 1", "~1", "}}" }, { "{{ 1", " or 1", "}}" }, { "{{ 1", " and 1", "}}" },
        { "{{ 1", " < 1", "}}" }, { "{{ ", "not ", "1 }}" }, { "{{ 1", "**1", "}}" }, { "{{ '", "x", "'}}" },
        { "{% if 0 %}", "{% elif 0 %}", "{% endif %}" }, { "{{ [", "1,", "] | length }}" }, { "{{ '' ", "''", "}}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(deep) / sizeof(*deep); i++) {
        char *parts = repeat(deep[i].part, 60000);
        struct buf source = { 0 };
        buf_printf(&source, "%s%s", deep[i].before, parts);
        expect_limit(source.data, source.len, 0, "nested deeper than 100");
        buf_free(&source);
        free(parts);
    }
    for (size_t i = 0; i < sizeof(longs) / sizeof(*longs); i++) {
        char *middle = repeat(longs[i].part, 50000);
        struct buf source = { 0 };
        struct result r;
        buf_printf(&source, "%s%s%s", longs[i].before, middle, longs[i].after);
        render(&r, source.data, source.len, NULL, 0);
        if (r.err)
            fail_msg("%s...: %s", longs[i].before, r.error.message);
        result_free(&r);
        buf_free(&source);
        free(middle);
    }
}

static void check_nested_ifs(void **state)
{
    char *source = repeat("{% if 1 %}", 100000);
    (void)state;
    expect_limit(source, 1000000, 0, "nested deeper than 100");
    free(source);
    source = repeat("x", 1048577);
    expect_limit(source, 1048577, 0, "template of 1048577 bytes, the limit is 1048576");
    free(source);
}

/* A conversation of 4 MiB goes through a template that gathers it in a variable. */
static void check_long_conversation(void **state)
{
    static const char source[] = "{% set ns = namespace(out='') %}{% for m in messages %}"
                                 "{% set ns.out = ns.out ~ '<|im_start|>' ~ m.role ~ '\n' ~ (m.content | trim) ~ '<|im_end|>\n' %}"
                                 "{% if '</think>' in m.content %}!{% endif %}{% endfor %}{{ ns.out }}";
    char *content = repeat("word ", 4000);
    json_t *vars = json_object(), *messages = json_array();
    struct result r;

    (void)state;
    for (int i = 0; i < 200; i++)
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", content));
    json_object_set_new(vars, "messages", messages);
    render(&r, source, sizeof(source) - 1, vars, 16 << 20);
    if (r.err)
        fail_msg("%s", r.error.message);
    assert_int_equal(r.text.len, 200 * (28 + 19999));
    result_free(&r);
    json_decref(vars);
    free(content);
}

/* ---- memory that is not there ---- */

static int fail_at;     /* allocations until one fails; 0: none does */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_calloc(size_t n, size_t size)
{
    return fail_at && --fail_at == 0 ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fail_at && --fail_at == 0 ? NULL : __real_realloc(p, n);
}

/* Each allocation fails in turn, until a rendering passes without meeting the failure. */
static void check_out_of_memory(void **state)
{
    json_t *data = read_json("tests/data/chat-templates.json"), *test = json_array_get(json_object_get(data, "cases"), 6);
    const char *name = json_string_value(json_object_get(test, "template"));
    json_t *source = json_object_get(json_object_get(data, "templates"), name), *vars = json_object_get(test, "vars");
    int n;

    (void)state;
    json_object_set(vars, "messages", json_object_get(test, "messages"));
    for (n = 1;; n++) {
        struct result r;
        fail_at = n;
        render(&r, json_string_value(source), json_string_length(source), vars, 0);
        bool met = !fail_at;
        fail_at = 0;
        assert_int_equal(r.err, met ? -ENOMEM : 0);
        result_free(&r);
        if (!met)
            break;
    }
    assert_true(n > 5);
    json_decref(data);
}

/* ---- the built-in format ---- */

static void check_builtin(void **state)
{
    json_t *vars = parse("{\"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"}, {\"role\": \"user\", \"content\":"
                         " [{\"type\": \"text\", \"text\": \"Hi\"}, {\"type\": \"image\"}, {\"type\": \"text\", \"text\": \"you\"}]},"
                         " {\"role\": \"assistant\", \"content\": null}], \"add_generation_prompt\": true, \"bos_token\": \"<s>\"}");
    struct result r;

    (void)state;
    render(&r, chat_template_builtin(), strlen(chat_template_builtin()), vars, 0);
    assert_int_equal(r.err, 0);
    assert_string_equal(text_of(&r), "<s>System: Be kind.\n\nUser: Hi\nyou\n\nAssistant: \n\nAssistant:");
    result_free(&r);
    json_object_del(vars, "bos_token");
    json_object_set_new(vars, "add_generation_prompt", json_false());
    render(&r, chat_template_builtin(), strlen(chat_template_builtin()), vars, 0);
    assert_string_equal(text_of(&r), "System: Be kind.\n\nUser: Hi\nyou\n\nAssistant: \n\n");
    result_free(&r);
    json_decref(vars);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_golden),          cmocka_unit_test(check_cases),        cmocka_unit_test(check_marks),
        cmocka_unit_test(check_append_in_place), cmocka_unit_test(check_compile_errors), cmocka_unit_test(check_render_errors),
        cmocka_unit_test(check_long_message),    cmocka_unit_test(check_limits),       cmocka_unit_test(check_deep_sources),
        cmocka_unit_test(check_nested_ifs),      cmocka_unit_test(check_long_conversation), cmocka_unit_test(check_builtin),
        cmocka_unit_test(check_out_of_memory),
    };

    return cmocka_run_group_tests_name("chat_template", tests, NULL, NULL);
}
