/*
 * torch_zip.h - the entries of a ZIP archive as torch.save writes it: stored, never compressed.
 *
 * After PKWARE's APPNOTE.TXT 6.3 (4.3.6 to 4.3.16, 4.5.3). Sizes and offsets are those of the central directory: torch leaves them out of
 * the local headers. Entries that are compressed or encrypted, overlap, or reach beyond the directory are refused.
 */
#ifndef FOURWAY_WEIGHTS_TORCH_ZIP_H
#define FOURWAY_WEIGHTS_TORCH_ZIP_H

#include "weights/name_table.h"

struct torch_entry { struct gguf_string name; uint64_t offset, size; };       /* offset of its bytes in the file */

struct torch_zip {
    char *directory;                /* the names lie in it */
    struct torch_entry *entries;
    size_t n_entries;
    struct name_table names;
};

/* Read the directory of an open file. Returns 0, -EINVAL or another negative errno; logged. torch_zip_free() in any case. */
int torch_zip_read(struct torch_zip *z, const char *path, int fd, uint64_t size);
void torch_zip_free(struct torch_zip *z);

/* NULL when there is none. */
const struct torch_entry *torch_zip_find(const struct torch_zip *z, struct gguf_string name);

#endif
