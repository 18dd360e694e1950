/*
 * cmd_hash_key.c - `fourway hash-key [NAME]`: from an API key to its line in the file of keys, which does not tell the key.
 *
 * The line goes to stdout, so that >> appends it; a generated key goes to stderr, once, for whoever is to have it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>

#include "common/log.h"
#include "server/commands.h"
#include "server/keys.h"
#include "server/options.h"

enum { RANDOM_BYTES = 32, KEY_BYTES = 256, FEW_BYTES = 16 };

/* Marked, so that whoever finds one in a log or a repository knows what it is. */
static int generate(char key[KEY_BYTES])
{
    unsigned char random[RANDOM_BYTES];
    size_t n = (size_t)snprintf(key, KEY_BYTES, "fourway-");

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        log_error("hash-key: the system has no random numbers");
        return 1;
    }
    for (size_t i = 0; i < sizeof(random); i++)
        n += (size_t)snprintf(key + n, KEY_BYTES - n, "%02x", random[i]);
    fprintf(stderr, "key: %s\n", key);
    return 0;
}

/* On a terminal the key is asked for and not shown. */
static char *read_unseen(char *to, int n)
{
    struct termios seen, unseen;
    const bool terminal = tcgetattr(STDIN_FILENO, &seen) == 0;

    if (terminal) {
        unseen = seen;
        unseen.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen);
        fputs("key: ", stderr);
    }
    char *line = fgets(to, n, stdin);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &seen);
        fputc('\n', stderr);
    }
    return line;
}

static int read_key(char key[KEY_BYTES])
{
    char line[KEY_BYTES + 2];       /* the longest key, its line feed, and a NUL */

    if (!read_unseen(line, sizeof(line)))
        line[0] = '\0';
    size_t n = strcspn(line, "\r\n");
    if (n >= KEY_BYTES) {
        log_error("hash-key: a key has at most %d bytes", KEY_BYTES - 1);
        return 1;
    }
    line[n] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (line[i] < 0x21 || line[i] > 0x7e) {
            log_error("hash-key: a key is printable ASCII without blanks, as the header Authorization carries it");
            return 1;
        }
    }
    if (!n) {
        log_error("hash-key: the key is read from the standard input, which has none; --generate makes one");
        return 1;
    }
    if (n < FEW_BYTES)
        log_warn("a key of %zu bytes can be guessed, and then be checked against its hash: --generate makes a random one", n);
    memcpy(key, line, n + 1);
    return 0;
}

static int print_line(const char *key, const char *name, uint64_t limit, const char *priority)
{
    char hex[2 * KEYS_DIGEST_BYTES + 1];

    if (keys_hash(key, hex)) {
        log_error("hash-key: the key cannot be hashed");
        return 1;
    }
    printf("%s:sha256:%s", name, hex);
    if (limit)
        printf(" limit=%llu", (unsigned long long)limit);
    if (priority)
        printf(" priority=%s", priority);
    putchar('\n');
    return 0;
}

int cmd_hash_key(int argc, char **argv)
{
    uint64_t limit = 0;
    const char *priority = NULL, *args[1] = { "key" };
    bool generates = false;
    const struct option options[] = {
        { .name = "generate", .letter = 'g', .type = OPTION_FLAG, .out = &generates,
          .help = "make a random key, which is shown on stderr (default: read one from stdin)" },
        { .name = "limit", .type = OPTION_U64, .out = &limit, .metavar = "N", .least = 0, .most = KEYS_MAX_LIMIT,
          .help = "requests in flight (default 0: the server's --key-limit)" },
        { .name = "priority", .type = OPTION_STRING, .out = &priority, .metavar = "N",
          .help = "-20 to 19: how much it gets when others wait, too; lower is more, a quarter for each step (default 0)" },
    };
    const struct command command = {
        .name = "hash-key", .usage = "hash-key [NAME] [options]",
        .summary = "Print the line of an API key for the file of 'fourway serve --api-key-file'. It holds the key's SHA-256, not the key; "
                   "NAME (default: key) is what logs call it.",
        .options = options, .n_options = sizeof(options) / sizeof(options[0]), .max_args = 1,
        .epilogue = "Example: fourway hash-key alice --generate >> keys",
    };
    char key[KEY_BYTES];
    size_t n_args;
    long level;

    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    if (!keys_is_name(args[0], strlen(args[0]))) {
        log_error("hash-key: '%s' is no name: 1 to %d letters, digits, dots, dashes, underscores or @", args[0], KEYS_NAME_BYTES - 1);
        return 2;
    }
    if (priority && !keys_read_number(priority, KEYS_LEAST_PRIORITY, KEYS_MOST_PRIORITY, &level)) {
        log_error("hash-key: --priority must be from %d to %d, not '%s'", KEYS_LEAST_PRIORITY, KEYS_MOST_PRIORITY, priority);
        return 2;
    }
    status = generates ? generate(key) : read_key(key);
    if (!status)
        status = print_line(key, args[0], limit, priority);
    explicit_bzero(key, sizeof(key));
    return status;
}
