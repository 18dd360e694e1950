/*
 * fuzz_torch.c - libFuzzer target: the first byte 'z': the input is an archive of torch.save; else 'p': it is the pickled program
 * of one. What is accepted has views that lie in the file; a refusal says exactly one thing.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz_lines.h"
#include "weights/pickle.h"
#include "weights/torch_file.h"

static int found(void *arg, const struct pickle_tensor *t)
{
    require(t->rank <= SAFETENSORS_MAX_RANK && (size_t)(t->name.len + t->key.len) <= *(size_t *)arg, "a tensor that no program can make");
    return 0;
}

static void read_archive(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct safetensors_list list = { 0 };

    if (fd < 0)
        fd = memfd_create("fuzz.bin", MFD_CLOEXEC);
    require(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size, "cannot write the memfd");
    n_lines = 0;
    int err = torch_file_read(&list, "FILE", fd, size, 1);
    require(n_lines == (err ? 1 : 0), "not one line for a refusal, none for a list");
    for (size_t i = 0; i < list.n; i++) {
        const struct safetensors_tensor *t = &list.tensors[i];
        uint64_t last = t->offset;
        for (uint32_t d = 0; d < t->rank; d++)
            last += t->shape[d] ? (t->shape[d] - 1) * t->stride[d] : 0;
        require(!t->bytes || last + safetensors_type_bits(t->type) / 8 <= size, "a tensor reaches beyond the file");
    }
    safetensors_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *why;
    size_t at;

    log_set_sink(count_line, "FILE: ");
    if (size && data[0] == 'z')
        read_archive(data + 1, size - 1);
    else if (size && data[0] == 'p')
        pickle_read((const char *)data + 1, size - 1, found, &size, &why, &at);
    return 0;
}
