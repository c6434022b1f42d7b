#!/usr/bin/env python3
"""Removes labels from a task TSV, or keeps only the rows that still have all of theirs.

usage: drop_labels.py [--share X] [--seed N] [--only-complete] FILE >NEW

Of every task, exactly the share X of the labels that are there (rounded down) is replaced by `_`, rows chosen at random and
independently of the other tasks; a tags cell goes as a whole. With --only-complete the rows that lost none are printed and no
other, which is what a trainer that cannot do without labels would have left. The same seed removes the same labels."""
import argparse
import random
import sys


def main():
    options = argparse.ArgumentParser(description="removes labels from a task TSV")
    options.add_argument("file")
    options.add_argument("--share", type=float, default=0.5)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only-complete", action="store_true")
    options = options.parse_args()
    with open(options.file, encoding="utf-8", newline="\n") as lines:
        header, *rows = [line.rstrip("\r\n").split("\t") for line in lines]
    chance = random.Random(options.seed)
    for column, name in enumerate(header):
        if name == "text":
            continue
        labelled = [row for row in rows if row[column] != "_"]
        for row in chance.sample(labelled, int(options.share * len(labelled))):
            row[column] = "_"
    if options.only_complete:
        rows = [row for row in rows if all(cell != "_" for cell, name in zip(row, header) if name != "text")]
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for row in [header] + rows:
        print("\t".join(row))


main()
