/*
 * fuzz_safetensors.c - libFuzzer target: the input is a safetensors file. A list has tensors that lie in the file, side by side; a
 * refusal says exactly one thing.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz_lines.h"
#include "weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct safetensors_list list = { 0 };
    uint64_t bytes = 0, header;

    if (fd < 0) {
        fd = memfd_create("fuzz.safetensors", MFD_CLOEXEC);
        log_set_sink(count_line, "FILE: ");
    }
    require(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size, "cannot write the memfd");
    n_lines = 0;
    int err = safetensors_read(&list, "FILE", fd, size, 1);
    require(n_lines == (err ? 1 : 0), "not one line for a refusal, none for a list");
    for (size_t i = 0; !err && i < list.n; i++) {
        const struct safetensors_tensor *t = &list.tensors[i];
        require(t->offset <= size && t->bytes <= size - t->offset, "a tensor reaches beyond the file");
        require(t->name.len <= SAFETENSORS_MAX_NAME && t->name.data[t->name.len] == '\0', "a name does not end");
        require(safetensors_find(&list, t->name) == t, "a tensor is not found by its name");
        require(safetensors_type_name(t->type)[0] != '\0' && t->rank <= SAFETENSORS_MAX_RANK, "no type, or too many dimensions");
        bytes += t->bytes;
    }
    if (!err) {
        memcpy(&header, data, 8);
        require(bytes == size - 8 - header, "the tensors do not fill the data");
    }
    safetensors_free(&list);
    return 0;
}
