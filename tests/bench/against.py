#!/usr/bin/env python3
"""Has this tree become slower than a git revision? `make bench-against REV=main` asks.

    tests/bench/against.py REV [--quick]       about five minutes; --quick: one

Environment: CORE the processor to pin everything to [the last one], ISA the instruction set [the best].

Points of build/bench and epochs of `mtl train` on examples/data, one thread, are measured with the
revision's build and this tree's by turns, and the least time of each counts. A point whose ratio (time of
the revision / time here; above 1 is faster here) is under 0.97 is measured ten more times before it counts,
and so is one that seems as much faster: a figure that was disturbed there would hide what is slower. Exit
status 1 when the geometric mean of the ratios is under 0.99, or a point is still under 0.97. Only a machine
that does nothing else tells.
"""
import json
import math
import os
import shutil
import subprocess
import sys

MEAN_LIMIT, POINT_LIMIT = 0.99, 0.97
ROUNDS, AGAIN = 7, 10
LOG = "build/against.log"
ISA = os.environ.get("ISA", "auto")
HOME = "--data examples/data/home_train.tsv"
EPOCHS = "--preset plain --epochs 4 --batch 32 --hidden 64 --embed 64 --threads 1 --quiet"


def grid(mode, cells, hidden, shape=""):
    return [f"{mode} --cell {cell} --hidden {h} {shape}".strip() for cell in cells for h in hidden]


QUICK = (grid("train", ["lstm"], [32, 128]) + grid("train", ["gru"], [128]) + grid("infer", ["lstm"], [128]) +
         grid("infer", ["gru"], [32]) + grid("stream", ["lstm"], [128]))
QUICK_EPOCHS = [HOME]
FULL = (grid("train", ["lstm", "gru"], [32, 64, 128, 256]) + grid("train", ["rnn"], [128]) +
        grid("train", ["lstm"], [128], "--batch 1 --steps 64") + grid("train", ["lstm"], [64], "--dir bi") +
        grid("infer", ["lstm", "gru"], [32, 128, 256]) +
        grid("infer", ["lstm"], [128], "--batch 1 --steps 64") + grid("stream", ["lstm", "gru"], [32, 128]) +
        ["parts --only embedding", "parts --only heads", "parts --only ragged"])
FULL_EPOCHS = [HOME, HOME + " --cell gru --dir uni --layers 2 --set trainer.lazy=1",
               "--data examples/data/reviews_train.tsv --data examples/data/names_train.tsv --dropout 0"]

least = {}              # (function, arguments, row): [least microseconds of the revision, of this tree]


def run(command):
    """The output of a command, or None with a note of what it said."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode == 0:
        return result.stdout
    said = (result.stderr.strip().splitlines() or ["?"])[0]
    print(f"note: {' '.join(command)} ended with {result.returncode}: {said}", file=sys.stderr)
    return None


def bench_rows(pinned, tree, arguments):
    """{row: microseconds} of one visit to build/bench; a row is called by its columns before the time."""
    isa = "" if arguments.startswith("parts") else f"--isa {ISA}"
    output = run([*pinned, tree + "/build/bench", *f"{arguments} {isa}".split()])
    if output is None:
        return {}
    header, *rows = [line.split("\t") for line in output.splitlines()]
    time = header.index("us_min")
    return {" ".join(row[:time]): float(row[time]) for row in rows}


def epoch_rows(pinned, tree, arguments):
    """The same of the fastest epoch of a few, without reading the data."""
    options = f"{arguments} {EPOCHS} --isa {ISA} --log {LOG} --out {LOG}.safetensors"
    if run([*pinned, tree + "/build/mtl", "train", *options.split()]) is None:
        return {}
    with open(LOG, encoding="utf-8") as file:
        ends = [0] + [json.loads(line)["train_seconds"] for line in file]
    return {"": min(after - before for before, after in zip(ends, ends[1:])) * 1e6}


def visit(points, rounds, trees, pinned):
    """Measures every point with both builds `rounds` times; who goes first changes from round to round."""
    for number in range(rounds):
        if sys.stderr.isatty():
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for rows_of, arguments in points:
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                for row, time in rows_of(pinned, trees[side], arguments).items():
                    best = least.setdefault((rows_of, arguments, row), [math.inf, math.inf])
                    best[side] = min(best[side], time)


def ratios():
    return {key: best[0] / best[1] for key, best in least.items() if max(best) < math.inf}


def show(trees):
    print(f"\n{'microseconds, least':74} {'revision':>11} {'here':>11}   ratio")
    for (rows_of, arguments, row), best in least.items():
        name = row or "epoch " + arguments.replace("--data examples/data/", "")
        if max(best) == math.inf:
            print(f"{name:74} only {'here' if best[0] == math.inf else 'in the revision'}: left out")
            continue
        ratio = best[0] / best[1]
        mark = "  slower" if ratio < POINT_LIMIT else ""
        print(f"{name:74} {best[0]:11.2f} {best[1]:11.2f}  {ratio:6.3f}{mark}")
    print(f"(revision: {os.path.basename(trees[0])})")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    revision, quick = (sys.argv[1:] or [""])[0], "--quick" in sys.argv[2:]
    if not revision:
        sys.exit("against: which revision? make bench-against REV=COMMIT")
    build = [".ci/revision.sh", revision, "build/mtl", "build/bench"]
    built = subprocess.run(build, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        return 1
    trees = [built.stdout.strip(), "."]
    core = os.environ.get("CORE", str((os.cpu_count() or 1) - 1))
    pinned = ["taskset", "-c", core] if shutil.which("taskset") else []
    points = [(bench_rows, arguments) for arguments in (QUICK if quick else FULL)]
    points += [(epoch_rows, arguments) for arguments in (QUICK_EPOCHS if quick else FULL_EPOCHS)]
    visit(points, ROUNDS, trees, pinned)
    odd = {key[:2] for key, ratio in ratios().items() if min(ratio, 1 / ratio) < POINT_LIMIT}
    if odd:
        print(f"measuring again what seems to have changed: {len(odd)} of {len(points)}", file=sys.stderr)
        visit([point for point in points if point in odd], AGAIN, trees, pinned)
    found = ratios()
    show(trees)
    if not found:
        sys.exit("against: no point could be measured with both")
    mean = math.exp(sum(map(math.log, found.values())) / len(found))
    slower = sum(ratio < POINT_LIMIT for ratio in found.values())
    failed = mean < MEAN_LIMIT or slower > 0
    print(f"geometric mean of {len(found)} ratios: {mean:.3f} (at least {MEAN_LIMIT}); "
          f"{slower} under {POINT_LIMIT}: {'FAILED' if failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
