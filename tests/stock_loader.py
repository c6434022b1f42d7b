#!/usr/bin/env python3
"""Opens safetensors files with the stock Python loader and says what is wrong with them.

    python tests/stock_loader.py FILE_OR_FOLDER...      (needs numpy and safetensors; not PyTorch)

Of a folder every *.safetensors below it is taken. A line per file: `ok FILE: ...` or `FAILED FILE: ...`. Beyond what the
loader demands: every tensor is read, is finite, and its data are aligned in the file to the size of its numbers; metadata
that look like JSON are JSON. Exit status 0 when all files are right and there was one at least.
"""
import json
import pathlib
import struct
import sys

import numpy as np
from safetensors import safe_open


def header_of(path):
    """The JSON header and where the data begin, read by hand."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)), 8 + length


def check_alignment(path):
    header, data = header_of(path)
    sizes = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
    for name, tensor in header.items():
        if name != "__metadata__" and (data + tensor["data_offsets"][0]) % sizes.get(tensor["dtype"], 1):
            raise ValueError(f"tensor {name} is not aligned in the file")


def check_metadata(metadata):
    for key, text in metadata.items():
        if text[:1] in ("{", "["):
            try:
                json.loads(text)
            except ValueError as error:
                raise ValueError(f"metadata {key} is not JSON: {error}") from None


def check(path):
    """What the file holds, in words. Raises what is wrong."""
    elements = 0
    with safe_open(path, "np") as file:
        names = list(file.keys())
        check_metadata(file.metadata() or {})
        for name in names:
            values = file.get_tensor(name)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(f"tensor {name} has numbers that are not finite")
            elements += values.size
    check_alignment(path)
    return f"{len(names)} tensors, {elements} numbers"


def files_of(arguments):
    for argument in map(pathlib.Path, arguments):
        yield from sorted(argument.rglob("*.safetensors")) if argument.is_dir() else [argument]


def main():
    failed = count = 0
    for path in files_of(sys.argv[1:]):
        count += 1
        try:
            print(f"ok {path}: {check(path)}")
        except Exception as error:              # the loader's own errors have no common base but this
            failed += 1
            print(f"FAILED {path}: {error}")
    if not count:
        print("FAILED no_files: there is no file to open")
    return failed > 0 or count == 0


if __name__ == "__main__":
    sys.exit(main())
