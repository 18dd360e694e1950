/*
 * pickle.h - the tensors of a state_dict that torch.save pickled, read as data: no code is run and nothing is called.
 *
 * Pickle is a program for a stack machine (CPython Lib/pickletools.py). Of it this machine has what state_dicts use: numbers, texts,
 * tuples, lists, dicts, the memo, and the few globals of torch that make a tensor out of a storage. Any other global, and what a call
 * of it would give, is a value that nothing can be done with; any other opcode ends the reading.
 */
#ifndef FOURWAY_WEIGHTS_PICKLE_H
#define FOURWAY_WEIGHTS_PICKLE_H

#include "weights/safetensors.h"

/* A view of a storage; in elements of it. */
struct pickle_tensor {
    struct gguf_string name;        /* of the state_dict; in the program's bytes, as is key */
    struct gguf_string key;         /* the entry data/KEY of the archive holds the storage */
    enum safetensors_type type;
    uint64_t n_storage, first;
    uint32_t rank;
    uint64_t size[SAFETENSORS_MAX_RANK], stride[SAFETENSORS_MAX_RANK];
};

/*
 * Call found() for each tensor of the program's result until it returns an error. Returns 0, its error, -ENOMEM, or -EINVAL with
 * *why (static) and *at, a place in the program, where reading ended.
 */
int pickle_read(const char *program, size_t n, int (*found)(void *arg, const struct pickle_tensor *t), void *arg, const char **why,
                size_t *at);

#endif
