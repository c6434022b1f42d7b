#!/usr/bin/env python3
"""Frames of spoken digits as the CSV file that `mtl --frames` reads: a row a frame, utt,m0..m15,digit,speaker,pitch.

    join_frames.py FOLDER train|valid OUT.csv       FOLDER has PART_logmel16.npy (float32, [frames, 16]) and PART_utts.csv
"""
import array
import ast
import csv
import struct
import sys


def read_npy(path):
    """The numbers of a .npy file of float32, and how many a row has."""
    with open(path, "rb") as file:
        if file.read(8) != b"\x93NUMPY\x01\x00":
            sys.exit(f"{path}: is no .npy file of version 1.0")
        header = ast.literal_eval(file.read(struct.unpack("<H", file.read(2))[0]).decode("latin-1"))
        if header["descr"] != "<f4" or header["fortran_order"] or len(header["shape"]) != 2:
            sys.exit(f"{path}: expected rows of float32 in C order")
        numbers = array.array("f", file.read())
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers, header["shape"][1]


def join(folder, part, out):
    numbers, width = read_npy(f"{folder}/{part}_logmel16.npy")
    with open(f"{folder}/{part}_utts.csv", encoding="utf-8") as file, open(out, "w", encoding="utf-8") as to:
        print("utt", *[f"m{i}" for i in range(width)], "digit", "speaker", "pitch", sep=",", file=to)
        for utt in csv.DictReader(file):
            first = int(utt["start_frame"])
            for row in range(first, first + int(utt["n_frames"])):
                values = [f"{x:.5g}" for x in numbers[row * width:(row + 1) * width]]
                print(utt["utt"], *values, utt["digit"], utt["speaker"], utt["f0_median_hz"], sep=",", file=to)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    join(*sys.argv[1:])
