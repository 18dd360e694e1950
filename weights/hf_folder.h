/*
 * hf_folder.h - a Hugging Face model folder as the index of the GGUF file that llama.cpp's converter would make of it.
 *
 * config.json gives the architecture's keys (hf_config.h), tokenizer.json or tokenizer.model and their companions the
 * vocabulary's (hf_tokenizer.h), and model.safetensors or pytorch_model.bin, or the files of their index, the tensors (safetensors.h,
 * torch_file.h, hf_names.h). Nothing of the folder is run, and no name in it opens a file outside of it but through a symbolic link,
 * of which the cache of Hugging Face is made.
 */
#ifndef FOURWAY_WEIGHTS_HF_FOLDER_H
#define FOURWAY_WEIGHTS_HF_FOLDER_H

#include "weights/gguf.h"

/* As gguf_open(), which calls it for folders. */
int hf_folder_open(struct gguf **g, const char *path);

#endif
