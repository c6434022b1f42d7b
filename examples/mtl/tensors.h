/* Safetensors files, whoever wrote them: what they hold, and which of it a model's tensors are read from. */
#ifndef MTL_TENSORS_H
#define MTL_TENSORS_H

#include "names.h"

/* Opens a file; what is no safetensors file ends the program. */
void open_tensors(const char *path, mtl_safetensors *file);

/* "512x128", or "one number", of a tensor. out[160] */
const char *shape_text(const mtl_safetensor *of, char *out);

/* A line for each tensor: name, type, shape; and the file's metadata. */
void print_tensors(const mtl_safetensors *file);
void print_metadata(const mtl_safetensors *file);

/* [{"name": .., "type": .., "shape": [..]}, ..] and {"key": "value", ..}. */
void json_tensors(const mtl_safetensors *file);
void json_metadata(const mtl_safetensors *file);

/* The mappings FROM=TO of the command line as the library takes them. A growing array of the caller's. */
mtl_import *read_mappings(char **texts);

/* The file's name for a tensor of the model by the first mapping that fits, as mtl_model_import goes by them,
   into out[512]. Returns the mapping's number, -1: none fits. */
int source_name(const mtl_import *mappings, const char *name, char *out);

/* The file's tensor that one of the model is read from; NULL: no mapping leads to one that is there. */
const mtl_safetensor *find_source(const mtl_safetensors *file, const mtl_import *mappings, const char *name);

/* "; the file has lstm.weight_hh_l0 (512x128): --map lstm.=encoder." for the model's tensor `name`, when the
   file has one that ends as it does behind its owner's name (and has `columns` columns, if that is not 0);
   else "". Static memory. */
const char *mapping_suggestion(const mtl_safetensors *file, const char *name, size_t columns);

#endif
