/*
 * main.c - picks the subcommand. `fourway MODEL` is short for `fourway serve MODEL`.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "server/commands.h"
#include "server/options.h"
#include "server/suggest.h"

static const struct { const char *name; int (*run)(int argc, char **argv); const char *summary; } commands[] = {
    { "serve", cmd_serve, "answer completions and chats over HTTP" },
    { "run", cmd_run, "complete one text, or chat, on this terminal" },
    { "bench", cmd_bench, "measure prefill and decode: tok/s, GB/s, share of the machine's bandwidth" },
    { "doctor", cmd_doctor, "what of this machine costs speed, and how to mend it" },
    { "membw", cmd_membw, "measure this machine's memory: bandwidth and latency of nodes, links and cores" },
    { "hash-key", cmd_hash_key, "the line of an API key for the server's file of keys" },
    { "info", cmd_info, "what a model file holds" },
    { "quantize", cmd_quantize, "write a model with its weights in another type" },
    { "tokenize", cmd_tokenize, "text on stdin to token ids" },
    { "perplexity", cmd_perplexity, "how well a model predicts a text" },
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_usage(FILE *f)
{
    fputs("usage: fourway COMMAND [arguments]\n"
          "       fourway MODEL [options]        the same as fourway serve MODEL\n\n", f);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fputs("\n'fourway COMMAND --help' lists the options of a command; 'fourway --version' prints the version.\n"
          "MODEL is a .gguf file, or a preset that scripts/get-model fetches:", f);
    for (size_t i = 0; model_presets[i]; i++)
        fprintf(f, "%s %s", i ? "," : "", model_presets[i]);
    fputs(".\n", f);
}

/* A word that can only be a model: a path, a .gguf file, something that exists, or a preset's name. */
static bool names_model(const char *word)
{
    size_t n = strlen(word);

    return strchr(word, '/') || (n > 5 && !strcmp(word + n - 5, ".gguf")) || model_names_preset(word) || !access(word, F_OK);
}

static int unknown(const char *word)
{
    struct suggestion s = suggest_start(word);

    if (word[0] == '-') {
        log_error("there is no option %s here: options follow the command ('fourway --help' lists the commands)", word);
        return 2;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        suggest_offer(&s, commands[i].name);
    for (size_t i = 0; model_presets[i]; i++)
        suggest_offer(&s, model_presets[i]);
    if (suggest_best(&s))
        log_error("there is no command or model '%s': did you mean %s?", word, suggest_best(&s));
    else
        log_error("'%s' is neither a command nor a model: 'fourway --help' lists the commands", word);
    return 2;
}

static int dispatch(int argc, char **argv)
{
    static char serve[] = "serve";

    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
        print_usage(stdout);
        return 0;
    }
    if (!strcmp(word, "--version")) {
        puts("fourway " FOURWAY_VERSION);
        return 0;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (!strcmp(word, commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    }
    if (word[0] != '-' && names_model(word)) {
        argv[0] = serve;
        return commands[0].run(argc, argv);
    }
    return unknown(word);
}

/* Started with a closed standard file, the model file or a socket would take its number, and messages would go there. */
static void hold_standard_files(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)      /* reads and writes still fail */
            return;
}

int main(int argc, char **argv)
{
    hold_standard_files();
    int status = dispatch(argc, argv);

    /* A result that did not reach a full disk or a closed pipe is no success. */
    if (fflush(stdout) || ferror(stdout)) {
        log_error("not everything could be written to the standard output");
        return status ? status : 1;
    }
    return status;
}
