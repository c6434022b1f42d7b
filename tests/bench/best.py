#!/usr/bin/env python3
"""An epoch of the most accurate recipe for intent and slots: `mtl train` beside PyTorch, one core, in turns.

    make bench-best [DATA=FILE.tsv] [ARGS="--turns 5"]          `taskset -c 1 make bench-best` keeps both on one processor

The file is a task TSV with the columns intent:class, text and slots:tags, by default examples/data/home_train.tsv; sequences with a
missing label are left out. The model and its training are those of RECIPE below and of peers/pytorch_best.py, which the Python that
runs this script needs PyTorch for; without it `mtl train` is measured alone.

Prints TSV: a row a turn, then the least of each column; the ratios are PyTorch's time over that of `mtl train`. Seconds are those of
training, making the batches included; processor seconds of `mtl train` are of the whole program, with reading and scoring."""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.path.join(HERE, "..", "..", "examples", "data", "home_train.tsv")
COLUMNS = ("intent:class", "text", "slots:tags")
SCORED = 32                                             # sequences of the file to score, which the command wants
INPUTS = ("input", "characters", "affixes", "gazetteer", "task.*")
RECIPE = ("--share full --chars cnn --affixes --gazetteer spans --word-dropout 0.25 --hidden 200 --embed 128 --batch 32 --lr 0.004 "
          "--set trainer.warmup=200 --schedule linear --set trainer.lr_final=0.05 --clip-norm 5 --set trainer.average=0.999 "
          "--set encoder.dropout=0 --set share.attention=1 --set share.attention_dropout=0.2 --set encoder.heads=4 "
          "--set encoder.head_width=32 --pool attention+max --head slots=crf --lm 0.1 --set trainer.rdrop=0.5 --sum-steps "
          "--equal-length").split() + [word for name in INPUTS
                                       for word in ("--set", f"{name}.dropout=0.5", "--set", f"{name}.dropout_per_sequence=1")]


def copy_rows(path, limit, train, valid):
    """the columns wanted, of rows with all labels; the first ones are the validation data. Returns how many"""
    with open(path, encoding="utf-8") as lines:
        rows = [line.rstrip("\r\n").split("\t") for line in lines]
    if missing := [name for name in COLUMNS if name not in rows[0]]:
        sys.exit(f"best.py: {path}: no column {', '.join(missing)} in the first line")
    at = [rows[0].index(name) for name in COLUMNS]
    rows = [[row[i] for i in at] for row in rows[1:]]
    rows = [row for row in rows if row[0] != "_" and "_" not in row[2].split(" ")][:limit]
    for name, kept in ((train, rows), (valid, rows[:SCORED])):
        with open(name, "w", encoding="utf-8", newline="\n") as out:
            out.writelines("\t".join(row) + "\n" for row in [COLUMNS] + kept)
    return len(rows)


def train_epoch(mtl, threads, train, valid, folder):
    """seconds of an epoch, and processor seconds of the program"""
    log, before = os.path.join(folder, "log"), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([mtl, "train", "--data", train, "--valid", valid, "--epochs", "1", "--threads", str(threads), "--quiet", "--log", log,
                    "--out", os.path.join(folder, "model")] + RECIPE, check=True)
    with open(log, encoding="utf-8") as lines:
        return json.loads(lines.readline())["train_seconds"], resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


class Peer:
    """pytorch_best.py, which lives through the run"""
    def __init__(self, train, threads):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "peers", "pytorch_best.py"), train, "--threads", str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.says = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def epoch(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.answer()
        return answer["seconds"], answer["processor"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def row(name, times):
    """times: seconds and processor seconds of mtl, and of PyTorch where there is one"""
    ratios = [times[2] / times[0], times[3] / times[1]] if len(times) == 4 else []
    print("\t".join([name] + [f"{x:.2f}" for x in times + ratios]), flush=True)


def main():
    parser = argparse.ArgumentParser(description="An epoch of the most accurate recipe, mtl train beside PyTorch.")
    parser.add_argument("--data", default=HOME, help="a task TSV with the columns " + ", ".join(COLUMNS))
    parser.add_argument("--mtl", default="build/mtl")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="so many sequences alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        train, valid = os.path.join(folder, "train.tsv"), os.path.join(folder, "valid.tsv")
        count = copy_rows(given.data, given.limit, train, valid)
        peer = Peer(train, given.threads)
        if not peer.says:
            print("best.py: no PyTorch: mtl train alone", file=sys.stderr)
        print(f"best.py: {count} sequences; PyTorch {json.dumps(peer.says)}", file=sys.stderr)
        print("\t".join(["turn", "mtl_s", "mtl_processor_s"] + ["pytorch_s", "pytorch_processor_s", "ratio", "processor_ratio"]
                        * bool(peer.says)))
        turns = []
        for turn in range(1, given.turns + 1):
            times = train_epoch(given.mtl, given.threads, train, valid, folder)
            turns.append(times + peer.epoch() if peer.says else times)
            row(str(turn), list(turns[-1]))
        row("least", [min(column) for column in zip(*turns)])
        peer.close()


if __name__ == "__main__":
    main()
