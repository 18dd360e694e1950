/*
 * served_model.h - what text needs of a model file: tokenizer and chat template, and the names it is served under.
 */
#ifndef FOURWAY_SERVER_SERVED_MODEL_H
#define FOURWAY_SERVER_SERVED_MODEL_H

#include "common/buf.h"
#include "server/api.h"
#include "server/token_trie.h"
#include "weights/gguf.h"

enum { SERVED_MODEL_MAX_NAMES = 17 };

struct served_model {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct chat_template *chat_template;
    struct token_trie *trie;        /* of the vocabulary, for grammars; served_model_make_trie */
    struct buf template_source;
    char name[128];                 /* the file's, without folder and .gguf */
    char aliases[1024];
    const char *names[SERVED_MODEL_MAX_NAMES];
    struct api_model api;           /* points into this struct */
};

/*
 * Open `path`. template_file: a chat template to use instead of the file's own, or NULL. aliases: "a,b", or NULL. Returns 0, or a negative
 * errno (logged). A template of the model that cannot be used is one warning; one that the user named is an error.
 */
int served_model_open(struct served_model *m, const char *path, const char *template_file, const char *aliases);
/* For an engine that constrains its output. Returns 0 or a negative errno (logged). */
int served_model_make_trie(struct served_model *m);
/* A draft model for this one: its file, closed by the caller with gguf_close. -EINVAL (logged): its tokens are others. */
int served_model_open_draft(const struct served_model *m, const char *path, struct gguf **draft);
void served_model_close(struct served_model *m);

#endif
