/*
 * pace.h - how many prompt tokens a step may read so that those who are answered wait no longer than they should for their next token.
 *
 * A step's time is that of its decodes plus so much for each prompt token. Both are learned from steps that were run. Pure arithmetic, in
 * nanoseconds; only the engine's thread uses one. After Agrawal et al., "Sarathi-Serve", OSDI 2024, with a budget of time in place of one
 * of tokens.
 */
#ifndef FOURWAY_SERVER_PACE_H
#define FOURWAY_SERVER_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PACE_LEAST = 32 };       /* prompt tokens a step: less would read all weights for next to nothing */

struct pace {                   /* all zeros but `target_ns` and `most`: nothing is known yet */
    double target_ns;           /* between two tokens of an answer; 0: none, the budget is always `most` */
    bool stretches;             /* but at least five times what the decodes alone take: four fifths of a step are for prompts */
    size_t most;                /* prompt tokens a step */
    double decode_ns;           /* of a step without prompt tokens, for each sequence in it, and the part that all share */
    double shared_ns;
    double prompt_ns;           /* a prompt token */
};

/* Prompt tokens for a step in which n_decodes sequences get a token: PACE_LEAST .. most; most where nobody waits. */
size_t pace_budget(const struct pace *p, size_t n_decodes);

/* A step of so many decodes and prompt tokens took this long. */
void pace_observe(struct pace *p, size_t n_decodes, size_t n_prompt, double ns);

#endif
