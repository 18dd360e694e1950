/*
 * torch_file.h - the tensors of a pytorch_model.bin (torch.save of 1.6 and later): a ZIP archive (torch_zip.h) with a pickled state_dict
 * (pickle.h) that says how each tensor is seen in the entry that holds its storage.
 *
 * Views are the rule: tied weights share a storage, and a transposed matrix is one with other strides. Each must lie in its storage.
 */
#ifndef FOURWAY_WEIGHTS_TORCH_FILE_H
#define FOURWAY_WEIGHTS_TORCH_FILE_H

#include "weights/safetensors.h"

/* As safetensors_read(). */
int torch_file_read(struct safetensors_list *list, const char *path, int fd, uint64_t size, uint32_t part);

#endif
