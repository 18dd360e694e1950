/*
 * tests/server/check_options.c - every option type from every source, their order, and the one line that each mistake gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "server/options.h"
#include "server/suggest.h"

static char last_line[4096];
static size_t n_lines;

static void take_line(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    assert_int_equal(level, LOG_ERROR);
    snprintf(last_line, sizeof(last_line), "%s", message);
    n_lines++;
}

/* One command with an option of each type; reset before each test. */
static struct values {
    uint64_t port, kv_bytes, seed;
    double temp;
    bool json, json_given, port_given;
    int isa;
    const char *host, *config;
    struct option_list batch;
} v;

static const char *config_path(void)
{
    return v.config;
}

static const char *const isas[] = { "auto", "scalar", "avx2", NULL };
static const struct option options[] = {
    { .name = "port", .letter = 'p', .type = OPTION_U64, .out = &v.port, .metavar = "N", .most = 65535,
      .help = "port", .given = &v.port_given },
    { .name = "seed", .type = OPTION_U64, .out = &v.seed, .metavar = "N", .help = "seed" },
    { .name = "kv-bytes", .type = OPTION_SIZE, .out = &v.kv_bytes, .metavar = "SIZE", .help = "memory" },
    { .name = "temp", .type = OPTION_F64, .out = &v.temp, .metavar = "T", .least = 0, .most = 2, .help = "temperature" },
    { .name = "json", .letter = 'j', .type = OPTION_FLAG, .out = &v.json, .help = "JSON", .given = &v.json_given },
    { .name = "isa", .type = OPTION_CHOICE, .out = &v.isa, .choices = isas, .help = "level" },
    { .name = "host", .type = OPTION_STRING, .out = &v.host, .metavar = "H", .help = "address" },
    { .name = "batch", .type = OPTION_U64_LIST, .out = &v.batch, .metavar = "LIST", .least = 1, .most = 512, .help = "sizes" },
    { .name = "config", .type = OPTION_STRING, .out = &v.config, .metavar = "F", .help = "file" },
};
static const struct command command = {
    .name = "try", .usage = "try MODEL [options]", .summary = "For tests.", .options = options,
    .n_options = sizeof(options) / sizeof(options[0]), .min_args = 1, .max_args = 2, .config_path = config_path,
};

static const char *args[2];
static size_t n_args;

static int reset(void **state)
{
    (void)state;
    v = (struct values){ .port = 8080, .host = "localhost" };
    n_lines = 0;
    last_line[0] = '\0';
    log_set_sink(take_line, NULL);
    return 0;
}

static int parse_words(const char *first, ...)
{
    char *argv[16] = { (char *)"try" };
    int argc = 1;
    va_list more;

    va_start(more, first);
    for (const char *word = first; word; word = va_arg(more, const char *))
        argv[argc++] = (char *)word;
    va_end(more);
    return options_parse(&command, argc, argv, args, &n_args);
}
#define PARSE(...) parse_words(__VA_ARGS__, NULL)

/* Wrong usage: exit status 2 and exactly this line. */
#define WRONG(line, ...)                        \
    do {                                        \
        n_lines = 0;                            \
        assert_int_equal(PARSE(__VA_ARGS__), 2); \
        assert_string_equal(last_line, line);   \
        assert_int_equal(n_lines, 1);           \
    } while (0)

static void check_every_type(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--port", "81", "m.gguf", "--seed=18446744073709551615", "--kv-bytes", "1.5GiB", "--temp", "0.25", "-j",
                           "--isa=avx2", "--host", "--odd", "--batch", "1,4,16"), -1);
    assert_int_equal(n_args, 1);
    assert_string_equal(args[0], "m.gguf");
    assert_int_equal(v.port, 81);
    assert_true(v.port_given && v.json_given && v.json);
    assert_true(v.seed == UINT64_MAX);
    assert_int_equal(v.kv_bytes, 3u << 29);
    assert_true(v.temp == 0.25);
    assert_int_equal(v.isa, 2);
    assert_string_equal(v.host, "--odd");
    assert_int_equal(v.batch.n, 3);
    assert_int_equal(v.batch.values[2], 16);
    assert_int_equal(n_lines, 0);
}

static void check_defaults_stay(void **state)
{
    (void)state;
    assert_int_equal(PARSE("m"), -1);
    assert_int_equal(v.port, 8080);
    assert_string_equal(v.host, "localhost");
    assert_false(v.port_given || v.json_given || v.json);
}

static void check_letters_and_repeats(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-p", "1", "-p2", "m"), -1);
    assert_int_equal(v.port, 2);
    assert_int_equal(PARSE("--json=no", "m"), -1);
    assert_true(v.json_given && !v.json);
}

static void check_positional(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-", "--", "--port"), -1);
    assert_int_equal(n_args, 2);
    assert_string_equal(args[0], "-");
    assert_string_equal(args[1], "--port");
    WRONG("try: unexpected argument 'c' (usage: fourway try MODEL [options])", "a", "b", "c");
    WRONG("try: an argument is missing (usage: fourway try MODEL [options])", "--port", "1");
}

static void check_sizes(void **state)
{
    static const struct { const char *text; uint64_t bytes; } good[] = {
        { "0", 0 }, { "17", 17 }, { "17b", 17 }, { "2K", 2048 }, { "2kb", 2000 }, { "2KiB", 2048 }, { "512M", 512u << 20 },
        { "2G", 2ull << 30 }, { "2 GB", 2000000000u }, { "0.5T", 1ull << 39 }, { "16777215T", 16777215ull << 40 }, { "1.1K", 1126 },
    };
    static const char *const bad[] = {
        "", "-1", " 1", "G", "1X", "1GG", "1GiBs", "16777216T", "99999999999999999999", "1e3", "0x10", "1.5.1G",
    };
    char line[128];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(PARSE("m", "--kv-bytes", good[i].text), -1);
        assert_true(v.kv_bytes == good[i].bytes);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(line, sizeof(line), "--kv-bytes: '%s' is not a size such as 512M, 2G or 1.5GiB", bad[i]);
        WRONG(line, "m", "--kv-bytes", bad[i]);
    }
}

static void check_wrong_values(void **state)
{
    (void)state;
    WRONG("--port: 'abc' is not a whole number", "m", "--port", "abc");
    WRONG("--port: '-1' is not a whole number", "m", "--port", "-1");
    WRONG("--port: '8 ' is not a whole number", "m", "--port", "8 ");
    WRONG("-p: '' is not a whole number", "m", "-p", "");
    WRONG("--port: 65536 is out of range: it must be from 0 to 65535", "m", "--port", "65536");
    WRONG("--seed: '18446744073709551616' is not a whole number", "m", "--seed", "18446744073709551616");
    WRONG("--temp: 'nan' is not a number", "m", "--temp", "nan");
    WRONG("--temp: '1e999' is not a number", "m", "--temp", "1e999");
    WRONG("--temp: -0.5 is out of range: it must be from 0 to 2", "m", "--temp", "-0.5");
    WRONG("--isa: 'avx' is none of auto, scalar, avx2", "m", "--isa", "avx");
    WRONG("--batch: '1,,2' is not a list of whole numbers such as 1,4,16", "m", "--batch", "1,,2");
    WRONG("--batch: '1,' is not a list of whole numbers such as 1,4,16", "m", "--batch", "1,");
    WRONG("--batch: 0,1 is out of range: it must be from 1 to 512", "m", "--batch", "0,1");
    WRONG("--batch: more than 32 numbers", "m", "--batch",
          "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33");
    WRONG("--json: 'maybe' is neither true nor false", "m", "--json=maybe");
    WRONG("-j takes no value, but is followed by 'p'", "m", "-jp");
    WRONG("--port needs a value", "m", "--port");
    WRONG("-p needs a value", "m", "-p");
}

static void check_unknown_names(void **state)
{
    (void)state;
    WRONG("try has no option --prot: did you mean --port?", "m", "--prot", "1");
    WRONG("try has no option --kv_bytes: did you mean --kv-bytes?", "m", "--kv_bytes=1");
    WRONG("try has no option --bytes: did you mean --kv-bytes?", "m", "--bytes");
    WRONG("try has no option --hlep: did you mean --help?", "--hlep");
    WRONG("try has no option --zzzzzz: 'fourway try --help' lists them", "--zzzzzz");
    WRONG("try has no option -z: 'fourway try --help' lists them", "-z");
}

static void check_environment(void **state)
{
    (void)state;
    setenv("FOURWAY_PORT", "7", 1);
    setenv("FOURWAY_KV_BYTES", "1K", 1);
    setenv("FOURWAY_JSON", "1", 1);
    setenv("FOURWAY_TEMP", "", 1);
    assert_int_equal(PARSE("m", "--port", "9"), -1);
    assert_int_equal(v.port, 9);
    assert_int_equal(v.kv_bytes, 1024);
    assert_true(v.json);
    setenv("FOURWAY_PORT", "many", 1);
    WRONG("FOURWAY_PORT: 'many' is not a whole number", "m");
    assert_int_equal(PARSE("m", "--port", "9"), -1);    /* what is not used is not read */
}

static int clear_environment(void **state)
{
    (void)state;
    unsetenv("FOURWAY_PORT");
    unsetenv("FOURWAY_KV_BYTES");
    unsetenv("FOURWAY_JSON");
    unsetenv("FOURWAY_TEMP");
    return 0;
}

static char config_name[] = "/tmp/check_options.XXXXXX";

static void write_config(const char *text, size_t n)
{
    FILE *f = fopen(config_name, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* The line that `text` as a configuration file gives, after the file's name. */
static void wrong_config(const char *text, size_t n, const char *line)
{
    write_config(text, n);
    reset(NULL);
    assert_int_equal(PARSE("m", "--config", config_name), 2);
    assert_int_equal(n_lines, 1);
    assert_non_null(strstr(last_line, config_name));
    assert_string_equal(strstr(last_line, config_name) + strlen(config_name), line);
}

static void check_config(void **state)
{
    static const char good[] = "# a comment\n\n port = 99   # half\r\nkv-bytes=2G\njson = yes\nhost = \"a # b\"   # quoted\ntemp = 1";

    (void)state;
    int fd = mkstemp(config_name);
    assert_true(fd >= 0);
    close(fd);
    write_config(good, sizeof(good) - 1);
    setenv("FOURWAY_TEMP", "0.5", 1);
    assert_int_equal(PARSE("m", "--config", config_name, "--kv-bytes", "1K"), -1);
    assert_int_equal(v.port, 99);
    assert_int_equal(v.kv_bytes, 1024);         /* the command line goes first */
    assert_true(v.temp == 0.5);                 /* then the environment */
    assert_true(v.json && v.json_given);
    assert_string_equal(v.host, "a # b");
    unsetenv("FOURWAY_TEMP");

#define WRONG_CONFIG(text, line) wrong_config(text, sizeof(text) - 1, line)
    WRONG_CONFIG("\nprot = 1\n", ":2: there is no option 'prot': did you mean port?");
    WRONG_CONFIG("port\n", ":1: expected 'name = value'");
    WRONG_CONFIG("= 3\n", ":1: there is no option ''");
    WRONG_CONFIG("port = 70000", ":1: port: 70000 is out of range: it must be from 0 to 65535");
    WRONG_CONFIG("host = \"a", ":1: host: the quote is not closed, or text follows it");
    WRONG_CONFIG("host = \"a\" b", ":1: host: the quote is not closed, or text follows it");
    WRONG_CONFIG("port = 1\0", ": a configuration file is text, this one holds NUL bytes");
    unlink(config_name);
}

static void check_config_missing(void **state)
{
    (void)state;
    WRONG("cannot read the configuration file /nonexistent/f: No such file or directory", "m", "--config", "/nonexistent/f");
    WRONG("cannot read the configuration file /tmp: Is a directory", "m", "--config", "/tmp");
}

/* --help goes to stdout, names every option, and fits 100 columns. */
static void check_help(void **state)
{
    char text[8192];
    FILE *copy = tmpfile();
    int out = dup(STDOUT_FILENO);

    (void)state;
    assert_non_null(copy);
    fflush(stdout);
    dup2(fileno(copy), STDOUT_FILENO);
    int status = PARSE("--help", "--nonsense");
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    assert_int_equal(status, 0);
    rewind(copy);
    size_t n = fread(text, 1, sizeof(text) - 1, copy);
    text[n] = '\0';
    fclose(copy);
    assert_int_equal(strncmp(text, "usage: fourway try MODEL [options]\n", 35), 0);
    for (size_t i = 0; i < command.n_options; i++) {
        char name[64];
        snprintf(name, sizeof(name), "--%s", options[i].name);
        assert_non_null(strstr(text, name));
    }
    assert_non_null(strstr(text, "--isa auto|scalar|avx2"));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 100);
}

static const char *nearest(const char *wanted)
{
    struct suggestion s = suggest_start(wanted);

    suggest_offer(&s, "serve");
    suggest_offer(&s, "tokenize");
    suggest_offer(&s, "perplexity");
    suggest_offer(&s, "info");
    return suggest_best(&s) ? suggest_best(&s) : "";
}

static void check_suggestions(void **state)
{
    char longest[1000];

    (void)state;
    assert_string_equal(nearest("srve"), "serve");
    assert_string_equal(nearest("sevre"), "serve");         /* a swap is one slip */
    assert_string_equal(nearest("tokenise"), "tokenize");
    assert_string_equal(nearest("complexity"), "perplexity");
    assert_string_equal(nearest("ppl"), "");
    assert_string_equal(nearest("inof"), "info");
    assert_string_equal(nearest("download"), "");
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_string_equal(nearest(longest), "");
    assert_string_equal(nearest(""), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(check_every_type, reset),
        cmocka_unit_test_setup(check_defaults_stay, reset),
        cmocka_unit_test_setup(check_letters_and_repeats, reset),
        cmocka_unit_test_setup(check_positional, reset),
        cmocka_unit_test_setup(check_sizes, reset),
        cmocka_unit_test_setup(check_wrong_values, reset),
        cmocka_unit_test_setup(check_unknown_names, reset),
        cmocka_unit_test_setup_teardown(check_environment, reset, clear_environment),
        cmocka_unit_test_setup(check_config, reset),
        cmocka_unit_test_setup(check_config_missing, reset),
        cmocka_unit_test_setup(check_help, reset),
        cmocka_unit_test_setup(check_suggestions, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
