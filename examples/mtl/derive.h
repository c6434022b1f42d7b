/* The desc of a model that the tensors of a file fit: what the command line leaves open is taken from their
   shapes, and what it says against them ends the program. */
#ifndef MTL_DERIVE_H
#define MTL_DERIVE_H

#include "tensors.h"

typedef struct derivation {
    const char *path;
    const mtl_safetensors *file;
    const mtl_import *mappings;
} derivation;

/* Cell, units, layers, directions and biases, by the names and shapes of PyTorch's recurrent layers.
   dir_told: the command line has set `bidirectional`. Returns the width of the rows that the encoder
   reads. */
int derive_encoder(const derivation *from, int dir_told, mtl_column_desc *encoder);

/* An embedding's vocabulary and width; 0: no mapping leads to one. reads: what the encoder reads. */
int derive_embedding(const derivation *from, int reads, mtl_input_desc *input);

/* A head's hidden layers, and how many classes or numbers there are in *outputs, which holds what the command
   line says, or 0. */
void derive_head(const derivation *from, mtl_task_desc *desc, int *outputs);

/* The file's name of what a tensor of the model is read from, with its shape: "fc.weight (4x128)". Static
   memory. */
const char *derived_from(const derivation *from, const char *name);

#endif
