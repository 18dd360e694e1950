/*
 * chat_template.h - renders a model's chat template (Jinja2): messages to the prompt text the model was trained on.
 *
 * A template is a program from a stranger (CVE-2026-5760 in another server), so this is an interpreter of the subset that
 * published templates use, without attribute access beyond maps and lists, bounded in steps, depth
 * and output. The semantics are those of jinja2 3.1 with trim_blocks and lstrip_blocks, as transformers sets it.
 *
 * Characters that came from the request's strings are marked while rendering, so that the tokenizer matches
 * no special token in them.
 */
#ifndef FOURWAY_WEIGHTS_CHAT_TEMPLATE_H
#define FOURWAY_WEIGHTS_CHAT_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#include "common/buf.h"

struct chat_template;

/* Where and why a template failed. `message` is complete: 'line 12: unsupported filter "xmlattr"'. */
struct template_error {
    char message[256];
    int line;
    int limit;      /* 1: a step, depth or output limit was met (HTTP 400 template_limit); 2: raise_exception() by the template */
};

/* Compile source[n] (at most 1 MiB). Returns 0, or -EINVAL with *error filled. Free with chat_template_free. */
int chat_template_compile(struct chat_template **t, const char *source, size_t n, struct template_error *error);
void chat_template_free(struct chat_template *t);

/* The plain built-in format, for models without a usable template: "role: content" paragraphs. Never fails to compile. */
const char *chat_template_builtin(void);

struct template_options {
    size_t max_output;      /* bytes; 0: 1 MiB */
    time_t now;             /* for strftime_now (UTC); 0: the present */
};

/*
 * Render with the top-level variables of the object `vars` (messages, tools, add_generation_prompt, bos_token, eos_token, ...).
 * `text` gets the output; `literal` one byte per output byte: 1 where it came from a string inside vars.messages, vars.tools,
 * or vars.documents. A message's role of the API's own vocabulary (user, assistant, ...) counts as the template's: some write
 * '<|' + role + '|>'. May be called from several threads at once.
 * Returns 0, -EINVAL with *error filled, or -ENOMEM.
 */
int chat_template_render(const struct chat_template *t, const json_t *vars, const struct template_options *options,
                         struct buf *text, struct buf *literal, struct template_error *error);

#endif
