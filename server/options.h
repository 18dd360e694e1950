/*
 * options.h - one table describes every option of a command: parsing, --help, and errors that suggest the nearest name.
 *
 * Precedence: command line, environment FOURWAY_NAME, configuration file (name = value), default.
 */
#ifndef FOURWAY_SERVER_OPTIONS_H
#define FOURWAY_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_FLAG,        /* bool *out */
    OPTION_U64,         /* uint64_t *out, least..most */
    OPTION_F64,         /* double *out, least..most */
    OPTION_SIZE,        /* uint64_t *out; 512M, 2G, 1.5GiB */
    OPTION_STRING,      /* const char **out (the text lives as long as argv and the environment) */
    OPTION_CHOICE,      /* int *out = index in choices */
    OPTION_U64_LIST     /* struct option_list *out; "1,4,16" */
};

enum { OPTION_LIST_MAX = 32 };
struct option_list { uint64_t values[OPTION_LIST_MAX]; size_t n; };

struct option {
    const char *name;           /* "threads" for --threads */
    char letter;                /* 'n' for -n, or 0 */
    enum option_type type;
    void *out;                  /* holds the default before parsing */
    const char *metavar;        /* "N" in --help */
    const char *help;           /* one line, with the default in it */
    double least, most;
    const char *const *choices; /* NULL-terminated */
    bool *given;                /* set when the user gave a value; may be NULL */
    const char *heading;        /* of this option and those after it in --help; NULL: as the one before */
};

struct command {
    const char *name;           /* "serve" */
    const char *usage;          /* "serve MODEL [options]" */
    const char *summary;        /* one or two lines */
    const struct option *options;
    size_t n_options;
    size_t min_args, max_args;  /* positional arguments */
    const char *epilogue;       /* more of --help, or NULL */
    const char *(*config_path)(void);   /* NULL: the command reads no configuration file */
};

/*
 * Parse argv[1..]. Returns -1 to go on, or the exit status: 0 after --help, 2 after wrong usage (one line on stderr says what, and
 * the nearest name).
 * args gets the positional arguments (command->max_args entries). A lone "--" ends options.
 */
int options_parse(const struct command *command, int argc, char **argv, const char **args, size_t *n_args);

/* The options that every command with a model has; *out entries point into `model_flags`. */
struct model_flags {
    uint64_t threads, virtual_nodes, ctx;
    const char *nodes, *machine;
    int isa;            /* index: 0 auto, then scalar, avx2, avx512 */
    int gemm;           /* index: auto, native, onednn, openblas */
    int activations;    /* index: auto, q8, bf16, f32 */
    int type;           /* index: 0 as the file has it, then f16, bf16, q8_0 ... */
    int kv_type;        /* index: bf16, q8, f32 */
    int huge_pages;     /* index: auto, explicit, thp, off */
    bool kv_type_given, allow_nonfinite;
    uint64_t kv_bytes;
};
void model_flags_init(struct model_flags *f);
enum { MODEL_FLAGS_OPTIONS = 13 };
void model_flags_options(struct model_flags *f, struct option out[MODEL_FLAGS_OPTIONS]);

struct model_options;
/* Turn the flags into model options. Returns 0, or 2 after one line on stderr (what is not in this build or on this machine). */
int model_flags_apply(const struct model_flags *f, struct model_options *o);

/* MODEL of the command line: a path, or the name of a preset, which must have been fetched (scripts/get-model).
 * Returns 0 with the path in out, or 1 after one line on stderr that says what to do. */
int model_resolve(const char *name, char *out, size_t out_size);

/* The names of the presets, NULL-terminated; and is this one of them, fetched or not? */
extern const char *const model_presets[];
bool model_names_preset(const char *name);

#endif
