/*
 * tests/server/check_message.c - text to the parts of a message: every family, at every split of the bytes; what is no call stays text,
 * byte for byte; hostile text costs no more than its length. And grammars of calls: what the matcher accepts, the parser reads as calls.
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

#include "server/matcher.h"
#include "server/message.h"
#include "server/schema.h"
#include "server/tool_grammar.h"

#define DEEPSEEK(x) "<\xef\xbd\x9ctool\xe2\x96\x81" x "\xef\xbd\x9c>"
#define CALLS(x) DEEPSEEK("calls\xe2\x96\x81" x)
#define CALL(x) DEEPSEEK("call\xe2\x96\x81" x)
#define SEP DEEPSEEK("sep")

static char *functions[] = { (char *)"get", (char *)"get_time", (char *)"f" };

static const char *const templates[] = {
    "{{ tools }} <tool_call> <think>", "{{ tools }} <|python_tag|>", "{{ tools }} [TOOL_CALLS] [/THINK]", "{{ tools }} [TOOL_CALLS] [ARGS]",
    "{{ tools }} " CALL("begin") " ```json", "{{ tools }} " CALL("begin") " </think>",
};
enum { HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, DEEPSEEK_R1, DEEPSEEK_V31, FAMILIES };

static struct message_rules rules_of(int family)
{
    return (struct message_rules){
        .think = think_markers_find(templates[family]), .syntax = tool_syntax_find(TOOL_FORMAT_AUTO, templates[family]),
        .names = functions, .n_names = sizeof(functions) / sizeof(functions[0]),
    };
}

/* Parts as a text: "R|reasoning" "T|text" "C|name|arguments", one a line of its own; an end is "." */
static void on_begin(void *arg, enum part_kind kind, const char *name, size_t n_name)
{
    assert_true((kind == PART_TOOL_CALL) == (name != NULL));
    buf_printf(arg, "%c|%.*s%s", "RTC"[kind], (int)n_name, name ? name : "", name ? "|" : "");
}

static void on_text(void *arg, const char *text, size_t n)
{
    assert_true(n >= 1);
    buf_append(arg, text, n);
}

static void on_end(void *arg)
{
    buf_puts(arg, ".\n");
}

/* In pieces: of `size` bytes (0: whole), the first of `first`. Returns the parser's number of calls. */
static size_t parse(const struct message_rules *rules, const char *text, size_t n, size_t first, size_t size, struct buf *out)
{
    const struct message_sink sink = { on_begin, on_text, on_end, out };
    struct message_parser p;

    message_begin(&p, rules, &sink);
    for (size_t at = 0; at < n;) {
        size_t piece = at == 0 && first ? first : size ? size : n - at;
        if (piece > n - at)
            piece = n - at;
        message_push(&p, text + at, piece);
        at += piece;
    }
    message_end(&p);
    const size_t n_calls = p.n_calls;
    message_free(&p);
    return n_calls;
}

/* JSON in the tables below has ' for quotes. To be freed. */
static char *quoted(const char *text)
{
    char *copy = strdup(text);

    for (char *at = strchr(copy, '\''); at; at = strchr(at, '\''))
        *at = '"';
    return copy;
}

static void expect(const struct message_rules *rules, const char *case_text, const char *case_want)
{
    char *text = quoted(case_text), *want = quoted(case_want);
    const size_t n = strlen(text);

    for (size_t first = 0; first < n; first++)
        for (size_t size = 0; size <= 3; size++) {
            struct buf out = { 0 };
            parse(rules, text, n, first, size, &out);
            if (strcmp(out.data ? out.data : "", want) != 0)
                fail_msg("%s\ncut at %zu, then every %zu:\n%s\nwant:\n%s", text, first, size, out.data ? out.data : "", want);
            buf_free(&out);
        }
    free(text);
    free(want);
}

static void families(void **state)
{
    static const struct { int family; const char *text, *want; } cases[] = {
        { HERMES, "Hello <b>there</b>.\n", "T|Hello <b>there</b>.\n.\n" },
        { HERMES, "<tool_call>\n{'name': 'get', 'arguments': {'a': '}</tool_call>', 'b': [1, -2.5e3, {}]}}\n</tool_call>",
          "C|get|{'a': '}</tool_call>', 'b': [1, -2.5e3, {}]}.\n" },
        { HERMES, "Let me see.\n\n<tool_call>{'arguments':{},'name':'f'}</tool_call>\n<tool_call>{'name':'get'}\n</tool_call>\n",
          "T|Let me see..\nC|f|{}.\nC|get|{}.\n" },
        { HERMES, "<tool_call>[{'name': 'get', 'arguments': {'x': 1}}, {'name': 'f', 'arguments': {}}]</tool_call> done",
          "C|get|{'x': 1}.\nC|f|{}.\nT|done.\n" },
        { HERMES, "<think>\nA <tool_call> {\n\n</think>\n\n<tool_call>{'name':'f','arguments':{}}", "R|A <tool_call> {.\nC|f|{}.\n" },
        { HERMES, " <think></think> x ", "T|x .\n" },
        { HERMES, "<think>no end ", "R|no end .\n" },
        { HERMES, "x <think>y</think>", "T|x <think>y</think>.\n" },
        { HERMES, "<tool_call>{'name':'unknown','arguments':{}}</tool_call>",
          "T|<tool_call>{'name':'unknown','arguments':{}}</tool_call>.\n" },
        { HERMES, "<tool_call>{'name':'f','arguments':'{}'}</tool_call>", "T|<tool_call>{'name':'f','arguments':'{}'}</tool_call>.\n" },
        { HERMES, "<tool_call>{'name':'f','arguments':{'a':01}}</tool_call>",
          "T|<tool_call>{'name':'f','arguments':{'a':01}}</tool_call>.\n" },
        { HERMES, "<tool_call>{'name':'f','arg", "T|<tool_call>{'name':'f','arg.\n" },
        { HERMES, "<tool_call> nothing <tool_call>{'name':'f','arguments':{}}</tool_call>", "T|<tool_call> nothing.\nC|f|{}.\n" },
        { HERMES, "a <tool_cal", "T|a <tool_cal.\n" },
        { HERMES, "<tool_call>{'type':'function','n':{'name':'get','arguments':{}},'name':'f','arguments':{'name':'get'}}</tool_call>",
          "C|f|{'name':'get'}.\n" },
        { LLAMA3, "{'name': 'get', 'parameters': {'a': true}}", "C|get|{'a': true}.\n" },
        { LLAMA3, "\n{'name': 'get', 'arguments': {}}; {'name': 'f', 'parameters': {}}\n", "C|get|{}.\nC|f|{}.\n" },
        { LLAMA3, "<|python_tag|>{'name': 'f', 'parameters': {}}", "C|f|{}.\n" },
        { LLAMA3, "{'a': 1} is JSON", "T|{'a': 1} is JSON.\n" },
        { LLAMA3, "{ int x; }", "T|{ int x; }.\n" },
        { LLAMA3, "I say {'name': 'f', 'parameters': {}}", "T|I say {'name': 'f', 'parameters': {}}.\n" },
        { MISTRAL, "[TOOL_CALLS] [{'name': 'get', 'arguments': {'a': [']']}}, {'name': 'f', 'arguments': {}, 'id': '123456789'}]",
          "C|get|{'a': [']']}.\nC|f|{}.\n" },
        { MISTRAL, "See [TOOL_CALLS][{'name': 'get', 'arguments': {}}]", "T|See.\nC|get|{}.\n" },
        { MISTRAL, "[TOOL_CALLS] []", "T|[TOOL_CALLS] [].\n" },
        { MISTRAL, "[THINK]hm[/THINK]so", "R|hm.\nT|so.\n" },
        { MISTRAL_ARGS, "[TOOL_CALLS]get[ARGS]{'a': '[TOOL_CALLS]'}[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{}",
          "C|get|{'a': '[TOOL_CALLS]'}.\nC|f|{}.\n" },
        { MISTRAL_ARGS, "ok[TOOL_CALLS]get_time{'a': 1}", "T|ok.\nC|get_time|{'a': 1}.\n" },
        { MISTRAL_ARGS, "[TOOL_CALLS]nothing[ARGS]{}", "T|[TOOL_CALLS]nothing[ARGS]{}.\n" },
        { DEEPSEEK_R1, CALLS("begin") CALL("begin") "function" SEP "get\n```json\n{'a': 'b'}\n```" CALL("end") "\n"
          CALL("begin") "function" SEP "f\n```json\n{}\n```" CALL("end") CALLS("end"), "C|get|{'a': 'b'}.\nC|f|{}.\n" },
        { DEEPSEEK_V31, "<think>t</think>" CALLS("begin") CALL("begin") "get" SEP "{'a': 1}" CALL("end")
          CALL("begin") "f" SEP "{}" CALL("end") CALLS("end"), "R|t.\nC|get|{'a': 1}.\nC|f|{}.\n" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct message_rules rules = rules_of(cases[i].family);
        expect(&rules, cases[i].text, cases[i].want);
    }
}

static void without_rules(void **state)
{
    const struct message_rules none = { .think = NULL };
    struct message_rules text = rules_of(HERMES);

    (void)state;
    expect(&none, " <think>x</think> <tool_call>{'name':'f','arguments':{}}</tool_call> \n", "T| <think>x</think> <tool_call>"
           "{'name':'f','arguments':{}}</tool_call> \n.\n");
    text.think_is_text = true;
    expect(&text, "<think>x</think>\n<tool_call>{'name':'f','arguments':{}}", "T|<think>x</think>.\nC|f|{}.\n");
    struct message_rules one = rules_of(HERMES);
    one.most_calls = 1;
    expect(&one, "a <tool_call>{'name':'f','arguments':{}} <tool_call>{'name':'f','arguments':{}} b", "T|a.\nC|f|{}.\n");
    struct message_rules opened = rules_of(HERMES);
    opened.prefix = "<think>";
    expect(&opened, "\nso\n</think>\n\nyes", "R|so.\nT|yes.\n");
}

/* Arguments leave at once where a grammar makes sure of them; a text that is cut within them keeps what came. */
static void live(void **state)
{
    static const struct { int family; const char *text, *want; } cases[] = {
        { HERMES, "<tool_call>\n{'name': 'get', 'arguments': {'a': 'x", "C|get|{'a': 'x.\n" },
        { HERMES, "<tool_call>\n{'name': 'get', 'arguments': {'a': {}}", "C|get|{'a': {}}.\n" },
        { HERMES, "<think>hm</think><tool_call>\n{'name': 'get', 'argu", "R|hm.\n" },
        { MISTRAL_ARGS, "[TOOL_CALLS]get[AR", "" },
        { HERMES, "<tool_call>\n{'name': 'get', 'arguments': {'a': {}}}\n</tool_call>\n"
          "<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>", "C|get|{'a': {}}.\nC|f|{}.\n" },
        { MISTRAL, "[TOOL_CALLS] [{'name': 'get', 'arguments': {'a': 1", "C|get|{'a': 1.\n" },
        { MISTRAL_ARGS, "[TOOL_CALLS]get[ARGS]{'a': 1", "C|get|{'a': 1.\n" },
    };
    const struct message_sink none = { on_begin, on_text, on_end, NULL };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message_rules rules = rules_of(cases[i].family);
        rules.follows_grammar = true;
        expect(&rules, cases[i].text, cases[i].want);
    }
    struct message_rules rules = rules_of(HERMES);
    struct message_sink sink = none;
    struct message_parser p;
    struct buf out = { 0 };
    rules.follows_grammar = true;
    sink.arg = &out;
    message_begin(&p, &rules, &sink);
    char *text = quoted(cases[0].text);
    message_push(&p, text, strlen(text));
    assert_string_equal(out.data, "C|get|{\"a\": \"x");
    free(text);
    message_end(&p);
    assert_int_equal(p.n_calls, 0);
    assert_true(p.cut);
    message_free(&p);
    buf_free(&out);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A hundred thousand of what a stranger's text may repeat. All of it comes out again, and in no time: pieces of one byte. */
static void hostile(void **state)
{
    static const char *const units[] = {
        "{", "[", "<tool_call>", "<tool_call>{", "<tool_call>{\"", "<tool_call>{\"a\":\"", "<tool_call>{\"a\":{", "<", "\\", " ", "\n<",
        "[TOOL_CALLS]", "[TOOL_CALLS] [", "[TOOL_CALLS]f", "[TOOL_CALLS]f[ARGS]{\"a\":[", "{\"name\":\"f\",\"parameters\":{\"a\":[",
        "<think>", "</think>", CALL("begin"), CALL("begin") "function" SEP, "\xff", "<tool_call>{\"\\",
    };
    static const char *const starts[] = { "", "<tool_call>", "{", "<tool_call>{\"", "<think>", "[TOOL_CALLS] [{\"" };
    const double began = seconds();

    (void)state;
    for (int family = 0; family < FAMILIES; family++)
        for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++)
            for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
                const struct message_rules rules = rules_of(family);
                struct buf text = { 0 }, out = { 0 };
                buf_puts(&text, starts[s]);
                while (text.len < (s ? 10000 : 100000))
                    buf_puts(&text, units[u]);
                assert_int_equal(parse(&rules, text.data, text.len, 0, 1, &out), 0);
                const bool dropped = strcmp(units[u], "<think>") == 0 || strcmp(units[u], "</think>") == 0 ||
                                     strcmp(starts[s], "<think>") == 0 || units[u][0] == ' ';
                if (!dropped) {     /* "T|" before, ".\n" behind */
                    assert_int_equal(out.len, text.len + 4);
                    assert_memory_equal(out.data + 2, text.data, text.len);
                }
                buf_free(&text);
                buf_free(&out);
            }
    assert_true(seconds() - began < 60);
}

static unsigned random_state = 5;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

#define SPACES "                 "   /* one more than MESSAGE_MOST_SPACE */

/* Pieces of calls at random: the parts do not depend on the pieces, and no byte but white space and markers is lost. */
static void random_pieces(void **state)
{
    static const char *const pieces[] = {
        "<tool_call>", "</tool_call>", "{\"name\":\"f\",\"arguments\":{}}", "{\"name\": \"get\", \"parameters\": {\"a\": \"x\"}}",
        "{", "}", "[", "]", ",", ";", " ", "\n", SPACES, "text",
        "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "f", "get", "<|python_tag|>", "\"", "\\",
        CALLS("begin"), CALLS("end"), CALL("begin"), CALL("end"), SEP, "function", "\n```json\n", "\n```", "<",
    };

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct message_rules rules = rules_of((int)random_below(FAMILIES));
        struct buf text = { 0 }, whole = { 0 };
        rules.follows_grammar = random_below(4) == 0;
        rules.most_calls = random_below(3) == 0;
        for (unsigned n = 1 + random_below(14); n > 0; n--)
            buf_puts(&text, pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))]);
        parse(&rules, text.data, text.len, 0, 0, &whole);
        for (int k = 0; k < 6; k++) {
            struct buf out = { 0 };
            parse(&rules, text.data, text.len, random_below((unsigned)text.len), 1 + (size_t)random_below(5), &out);
            if (!rules.follows_grammar && (out.len != whole.len || (out.len && memcmp(out.data, whole.data, out.len) != 0)))
                fail_msg("%s:\n%s\nbut whole:\n%s", text.data, out.data ? out.data : "", whole.data ? whole.data : "");
            buf_free(&out);
        }
        buf_free(&text);
        buf_free(&whole);
    }
}

static struct grammar *compile(const char *case_schema)
{
    char *schema = quoted(case_schema);
    json_t *json = json_loads(schema, 0, NULL);
    struct schema_error why;
    struct grammar *g = NULL;

    assert_int_equal(schema_compile(json, &g, &why), 0);
    json_decref(json);
    free(schema);
    return g;
}

/* -1: refused; 0: complete; 1: so far. A matcher without a vocabulary's trie is enough to read text. */
static int read_text(const struct grammar *g, const char *case_text)
{
    char *text = quoted(case_text);
    struct token_trie trie = { .n_vocab = 0 };
    struct matcher *m;

    assert_int_equal(matcher_create(&m, g, &trie), 0);
    const int result = matcher_read_text(m, text, strlen(text));
    matcher_destroy(m);
    free(text);
    return result < 0 ? -1 : result;
}

static void grammars(void **state)
{
    static const struct { int family; size_t most; bool marker, think, open; const char *text; int result; const char *parts; } cases[] = {
        { HERMES, 2, false, false, false, "<tool_call>\n{'name': 'get', 'arguments': {'a': 5}}\n</tool_call>", 0, "C|get|{'a': 5}.\n" },
        { HERMES, 2, false, false, false, "<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>\n"
          "<tool_call>\n{'name': 'get', 'arguments': {'a':1}}\n</tool_call>", 0, "C|f|{}.\nC|get|{'a':1}.\n" },
        { HERMES, 1, false, false, false, "<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>\n", -1, NULL },
        { HERMES, 2, false, false, false, "<tool_call>\n{'name': 'get', 'arguments': {'b'", -1, NULL },
        { HERMES, 2, false, false, false, "<tool_call>\n{'name': 'other", -1, NULL },
        { HERMES, 2, false, false, false, "<think>", -1, NULL },
        { HERMES, 2, false, true, false, "<think>\n<tool_call> </</think </think>\n\n"
          "<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>", 0,
          "R|<tool_call> </</think.\nC|f|{}.\n" },
        { HERMES, 2, false, true, false, "<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>", 0, "C|f|{}.\n" },
        { HERMES, 2, false, true, true, "hm</think>\n<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>", 0, "R|hm.\nC|f|{}.\n" },
        { HERMES, 2, false, true, true, "hm</think>\nno", -1, NULL },
        { LLAMA3, 2, false, false, false, "{'name': 'get', 'parameters': {'a': 5}}", 0, "C|get|{'a': 5}.\n" },
        { MISTRAL, 2, false, false, false, "[TOOL_CALLS] [{'name': 'f', 'arguments': {}}, {'name': 'f', 'arguments': {}}]", 0,
          "C|f|{}.\nC|f|{}.\n" },
        { MISTRAL, 2, true, false, false, " [{'name': 'f', 'arguments': {}}]", 0, "C|f|{}.\n" },
        { MISTRAL, 1, true, false, false, "[TOOL_CALLS]", -1, NULL },
        { MISTRAL_ARGS, 2, true, false, false, "f[ARGS]{}[TOOL_CALLS]get[ARGS]{'a':2}", 0, "C|f|{}.\nC|get|{'a':2}.\n" },
        { DEEPSEEK_R1, 2, false, false, false, CALLS("begin") CALL("begin") "function" SEP "f\n```json\n{}\n```" CALL("end") CALLS("end"),
          0, "C|f|{}.\n" },
        { DEEPSEEK_V31, 1, false, false, false, CALLS("begin") CALL("begin") "f" SEP "{}" CALL("end") CALLS("end"), 0, "C|f|{}.\n" },
    };
    const char *const names[] = { "get", "f" };
    struct grammar *const arguments[] = {
        compile("{'type': 'object', 'properties': {'a': {'$ref': '#/$defs/n'}}, 'required': ['a'], '$defs': {'n': {'type': 'integer'}}}"),
        compile("{'type': 'object', 'properties': {'x': {'anyOf': [{'type': 'string'}, {'type': 'array', 'items': true}]}}}"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message_rules rules = rules_of(cases[i].family);
        const struct tool_grammar_wish w = {
            .syntax = rules.syntax, .names = names, .arguments = arguments, .n = 2, .most_calls = cases[i].most,
            .marker_given = cases[i].marker, .think = cases[i].think ? rules.think : NULL, .think_open = cases[i].open,
        };
        struct grammar *g;
        const char *why;
        assert_int_equal(tool_grammar_make(&w, &g, &why), 0);
        if (read_text(g, cases[i].text) != cases[i].result)
            fail_msg("case %zu: %s", i, cases[i].text);
        free(g);
        rules.follows_grammar = true;
        rules.prefix = cases[i].marker ? rules.syntax->marker : cases[i].open ? rules.think->open : NULL;
        if (cases[i].parts)
            expect(&rules, cases[i].text, cases[i].parts);
    }
    /* Beside an answer that is no call. */
    struct grammar *instead = compile("{'type': 'object', 'properties': {'answer': {'type': 'string'}}}"), *g;
    const struct message_rules rules = rules_of(HERMES);
    const struct tool_grammar_wish w = { .syntax = rules.syntax, .names = names, .arguments = arguments, .n = 2, .most_calls = 1,
                                         .instead = instead };
    const char *why;
    assert_int_equal(tool_grammar_make(&w, &g, &why), 0);
    assert_int_equal(read_text(g, "{'answer': 'yes'}"), 0);
    assert_int_equal(read_text(g, "<tool_call>\n{'name': 'f', 'arguments': {}}\n</tool_call>"), 0);
    assert_int_equal(read_text(g, "yes"), -1);
    free(g);
    free(instead);
    free(arguments[0]);
    free(arguments[1]);
}

static void detection(void **state)
{
    static const struct { const char *source, *name; bool tools; const char *think; } cases[] = {
        { "{{ messages }}", "hermes", false, NULL }, { "{% if tools %}<tool_call>", "hermes", true, NULL },
        { "{% if tools %}<|python_tag|>", "llama3", true, NULL },
        { "{{ tools }} {\"name\": function name, \"parameters\": ..", "llama3", true, NULL },
        { "{% if custom_tools %}{{ message.tool_calls }} [TOOL_CALLS]", "hermes", false, NULL },
        { "{{tools}}[TOOL_CALLS]", "mistral", true, NULL },
        { "{{tools}}[TOOL_CALLS]{{n}}[ARGS]", "mistral (name first)", true, NULL }, { "{{tools}}" CALL("begin"), "deepseek v3.1", true, NULL },
        { "tools {{ '</think>' }}", "hermes", true, "<think>" }, { "[/THINK]", "hermes", false, "[THINK]" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct think_markers *think = think_markers_find(cases[i].source);
        assert_string_equal(tool_syntax_find(TOOL_FORMAT_AUTO, cases[i].source)->name, cases[i].name);
        assert_int_equal(tool_template_knows_tools(cases[i].source), cases[i].tools);
        assert_string_equal(think ? think->open : "", cases[i].think ? cases[i].think : "");
    }
    assert_null(tool_syntax_find(TOOL_FORMAT_NONE, "{{ tools }}"));
    assert_string_equal(tool_syntax_find(TOOL_FORMAT_LLAMA3, "[TOOL_CALLS]")->name, "llama3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families), cmocka_unit_test(without_rules), cmocka_unit_test(live), cmocka_unit_test(hostile),
        cmocka_unit_test(random_pieces), cmocka_unit_test(grammars), cmocka_unit_test(detection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
