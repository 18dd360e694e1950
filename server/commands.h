/*
 * commands.h - one function a subcommand: argv[0] is the command's name; the result is the exit status (0, 1 failed, 2 wrong usage).
 */
#ifndef FOURWAY_SERVER_COMMANDS_H
#define FOURWAY_SERVER_COMMANDS_H

int cmd_serve(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_membw(int argc, char **argv);
int cmd_hash_key(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);

#endif
