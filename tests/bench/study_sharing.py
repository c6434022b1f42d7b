#!/usr/bin/env python3
"""How should tasks share? Trains every preset of `mtl train --share` beside single-task models, with the same settings and as
many updates for each task, on real data that lies beside the project. Run by `make study-sharing`; every finished run is
a line of build/study/sharing.tsv, so a run that was interrupted goes on where it stopped.

    study_sharing.py [--table]          --table: nothing is trained; prints what has been measured, as Markdown

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL [build/mtl], SETS and SHARES names
separated by spaces, SEEDS [3], SENTENCES of the training data at most [3000], EPOCHS [8], HIDDEN [64].
"""
import json
import os
import random
import statistics
import subprocess
import sys
import time

DATA = os.environ.get("MTL_DATA", "../shared/data")
MTL = os.environ.get("MTL", "build/mtl")
OUT = "build/study"
TABLE = os.path.join(OUT, "sharing.tsv")
SEEDS = int(os.environ.get("SEEDS", "3"))
SENTENCES = int(os.environ.get("SENTENCES", "3000"))
SETTINGS = ["--preset", "plain", "--hidden", os.environ.get("HIDDEN", "64"), "--epochs", os.environ.get("EPOCHS", "8"), "--threads", "1"]
# name: data sets, tasks
SETS = {
    "hwu64": (["hwu64"], ["scenario", "intent", "slots"]),
    "snips": (["snips"], ["intent", "slots"]),
    "ewt_multi": (["ewt_multi"], ["genre", "upos", "ner"]),
    "mr+ner": (["mr", "ewt_multi"], ["sentiment", "ner"]),
}
SHARES = ["full", "none", "partial", "gated", "hierarchical", "soft", "cross-stitch", "levels", "mmoe", "cgc", "ple",
          "adversarial", "stack"]
MORE = {"levels": ["--layers", "2"], "hierarchical": []}        # options that a preset needs to be itself
COLUMNS = ["set", "share", "seed", "task", "score", "parameters", "bytes", "ms_per_step", "us_per_sentence"]


def subset(name, count):
    """The first `count` of a training set's lines in a seeded random order, as a file."""
    path = os.path.join(OUT, f"{name}_{count}.tsv")
    if not os.path.exists(path):
        with open(os.path.join(DATA, name, "train.tsv"), encoding="utf-8") as file:
            header, *lines = file.read().splitlines()
        random.Random(1).shuffle(lines)
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join([header] + lines[:count]) + "\n")
    return path


def score(task):
    """The validation score of a task, from 0 to 100, as the command's early stopping takes it."""
    if "span_f1" in task:
        return 100 * task["span_f1"]
    return 100 * task.get("accuracy", task.get("token_accuracy", 0))


def answer_time(model, valid):
    """Microseconds for each line of text, of `mtl predict`; starting it is taken off."""
    with open(valid, encoding="utf-8") as file:
        header = file.readline().rstrip("\n").split("\t")
        texts = [line.rstrip("\n").split("\t")[header.index("text")] for line in file][:400]
    seconds = []
    for lines in (texts[:1], texts):
        start = time.perf_counter()
        subprocess.run([MTL, "predict", "--model", model, "--threads", "1"], input="\n".join(lines) + "\n", text=True,
                       stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    return 1e6 * (seconds[1] - seconds[0]) / (len(texts) - 1)


def train(name, share, seed):
    """One model; returns a row for each task."""
    sets, tasks = SETS[name]
    only = [share[len("only "):]] if share.startswith("only ") else tasks
    log, model = os.path.join(OUT, "run.log"), os.path.join(OUT, "run.safetensors")
    command = [MTL, "train", "--only", ",".join(only), "--seed", str(seed), "--log", log, "--out", model, "--quiet"]
    for part in sets:
        with open(os.path.join(DATA, part, "train.tsv"), encoding="utf-8") as file:
            known = {column.split(":")[0] for column in file.readline().strip().split("\t")}
        if known & set(only):
            command += ["--data", subset(part, SENTENCES // len(sets)), "--valid", os.path.join(DATA, part, "valid.tsv")]
    if not share.startswith("only "):
        command += ["--share", share]
    command += SETTINGS + MORE.get(share, [])
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    with open(log, encoding="utf-8") as file:
        epochs = [json.loads(line) for line in file]
    best = max(epochs, key=lambda epoch: epoch["score"])
    settings = json.loads(subprocess.run([MTL, "info", "--model", model, "--json"], capture_output=True, text=True,
                                         check=True).stdout)
    updates = settings["training"]["updates"]
    valid = os.path.join(DATA, sets[0], "valid.tsv")
    common = [settings["parameters"], os.path.getsize(model), 1000 * epochs[-1]["train_seconds"] / updates,
              answer_time(model, valid)]
    return [[name, share, seed, task, score(best["valid"]["tasks"][task])] + common for task in only
            if task in best["valid"]["tasks"]]


def rows():
    if not os.path.exists(TABLE):
        return []
    with open(TABLE, encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file][1:]


def mean(values):
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def print_tables(measured):
    for name in dict.fromkeys(row[0] for row in measured):
        tasks = SETS[name][1]
        single = {(row[2], row[3]): float(row[4]) for row in measured if row[0] == name and row[1].startswith("only")}
        print(f"\n**{name}**: difference from the single-task model, points of the same seed\n")
        print("| sharing | " + " | ".join(tasks) + " | mean | parameters | file, KB | ms a step | us an answer |")
        print("|---|" + "---|" * (len(tasks) + 5))
        cells = [mean([v for (_, t), v in single.items() if t == task]) if any(t == task for _, t in single) else "" for task in tasks]
        alone = {}
        for row in measured:
            if row[0] == name and row[1].startswith("only"):
                alone.setdefault(row[3], []).append([float(x) for x in row[5:]])
        total = [sum(statistics.mean(values[i] for values in rows_) for rows_ in alone.values()) for i in range(4)]
        print("| single | " + " | ".join(cells) + f" | | {total[0]:.0f} | {total[1] / 1024:.0f} | {total[2]:.2f} | {total[3]:.0f} |")
        for share in SHARES:
            of = [row for row in measured if row[0] == name and row[1] == share]
            if not of:
                continue
            gains = {task: [float(row[4]) - single[row[2], task] for row in of if row[3] == task and (row[2], task) in single]
                     for task in tasks}
            if not all(gains.values()):
                continue
            both = [statistics.mean(values) for values in zip(*gains.values())]
            size = [statistics.mean(float(row[i]) for row in of) for i in range(5, 9)]
            print(f"| {share} | " + " | ".join(mean(gains[task]) for task in tasks) + f" | {mean(both)} | {size[0]:.0f} | "
                  f"{size[1] / 1024:.0f} | {size[2]:.2f} | {size[3]:.0f} |")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    os.makedirs(OUT, exist_ok=True)
    measured = rows()
    if sys.argv[1:] == ["--table"]:
        return print_tables(measured)
    done = {(row[0], row[1], row[2]) for row in measured}
    with open(TABLE, "a", encoding="utf-8") as file:
        if not measured:
            print(*COLUMNS, sep="\t", file=file)
        for seed in range(1, SEEDS + 1):
            for name in os.environ.get("SETS", " ".join(SETS)).split():
                singles = ["only " + task for task in SETS[name][1]]
                for share in singles + os.environ.get("SHARES", " ".join(SHARES)).split():
                    if (name, share, str(seed)) in done:
                        continue
                    result = train(name, share, seed)
                    if isinstance(result, str):
                        print(f"{name} {share} {seed}: {result}", flush=True)
                        continue
                    for row in result:
                        print(*[f"{x:.6g}" if isinstance(x, float) else x for x in row], sep="\t", file=file, flush=True)
                    print(f"{name} {share} {seed}: " + ", ".join(f"{row[3]} {row[4]:.1f}" for row in result), flush=True)
    print_tables(rows())


if __name__ == "__main__":
    sys.exit(main())
