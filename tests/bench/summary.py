#!/usr/bin/env python3
"""Makes the tables of docs/results.md from what results.sh left.

usage: summary.py PART OUT [DATA]      PART is snips, two_sets, frames, search or missing; DATA is the CSV files' folder (frames)

The best epoch of a run is the one with the highest validation score: the mean over its tasks of accuracy (class, plain tags),
span F1 (B-/I- tags) and R2 (reals). Scores are means over the seeds, with their standard deviation; times are minima."""
import csv
import glob
import json
import math
import re
import statistics
import sys


def seeds_of(folder, name):
    found = [path for path in glob.glob(f"{folder}/{name}_*.time") if re.fullmatch(rf".*/{name}_\d+\.time", path)]
    if not found:
        sys.exit(f"summary.py: no finished run of {name} in {folder}; results.sh makes them")
    return sorted(int(path.rsplit("_", 1)[1][:-5]) for path in found)


def epochs_of(folder, name, seed):
    """a run of ours: its epochs, each {"score", "seconds" of training alone, task or "joint": {...}}"""
    with open(f"{folder}/{name}_{seed}.log", encoding="utf-8") as lines:
        epochs = [json.loads(line) for line in lines]
    before = 0
    for epoch in epochs:
        before, epoch["alone"] = epoch["train_seconds"], epoch["train_seconds"] - before
    return epochs


def peer_epochs(folder, seed):
    """the same of pytorch_snips.py"""
    epochs = []
    for line in open(f"{folder}/pytorch_{seed}.out", encoding="utf-8"):
        word = line.split()
        intent, f1, joint = float(word[7]), float(word[9]), float(word[11])
        epochs.append({"score": (intent + f1) / 2, "alone": float(word[2]), "valid": {"joint_accuracy": joint, "tasks": {
            "intent": {"accuracy": intent}, "slots": {"span_f1": f1}}}})
    return epochs


def best(epochs):
    return max(epochs, key=lambda epoch: epoch["score"])


def figure(epoch, task, name):
    return epoch["valid"]["joint_accuracy"] if task == "joint" else epoch["valid"]["tasks"][task][name]


def mean(values, scale=100, digits=2):
    deviation = statistics.stdev(values) if len(values) > 1 else 0
    return f"{scale * statistics.mean(values):.{digits}f} ± {scale * deviation:.{digits}f}"


def times(folder, name):
    """the smallest wall-clock and processor seconds of a whole run"""
    both = [open(f"{folder}/{name}_{seed}.time", encoding="utf-8").read().split() for seed in seeds_of(folder, name)]
    return min(float(pair[0]) for pair in both), min(float(pair[1]) for pair in both)


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def snips(folder):
    rows, means, shortest = [], {}, {}
    for name, title in (("snips", "mtl"), ("pytorch", "PyTorch")):
        runs = [epochs_of(folder, name, seed) if name == "snips" else peer_epochs(folder, seed) for seed in seeds_of(folder, name)]
        tops = [best(run) for run in runs]
        columns = [[figure(top, *which) for top in tops] for which in
                   (("slots", "span_f1"), ("intent", "accuracy"), ("joint", ""))]
        wall, used = times(folder, name)
        means[name] = [100 * statistics.mean(column) for column in columns]
        shortest[name] = wall, used, min(epoch["alone"] for run in runs for epoch in run)
        rows.append([title, len(runs)] + [mean(column) for column in columns] +
                    [f"{wall:.1f}", f"{used:.1f}", f"{shortest[name][2]:.2f}"])
    rows.append(["difference", ""] + [f"{a - b:+.2f}" for a, b in zip(means["snips"], means["pytorch"])] +
                [f"{b / a:.2f} times as fast" for a, b in zip(shortest["snips"], shortest["pytorch"])])
    table(["", "seeds", "slot F1 %", "intent %", "joint %", "whole run, s", "of it processor, s", "fastest epoch's training, s"], rows)


def two_sets(folder):
    rows = []
    for name in ("sentiment_alone", "ner_alone", "together"):
        runs = [epochs_of(folder, name, seed) for seed in seeds_of(folder, name)]
        cells = []
        for task, what in (("sentiment", "accuracy"), ("ner", "span_f1")):
            has = task in runs[0][0]["valid"]["tasks"]
            cells.append(mean([figure(best(run), task, what) for run in runs]) if has else "")
            cells.append(mean([max(figure(epoch, task, what) for epoch in run) for run in runs]) if has else "")
        rows.append([name.replace("_", " "), len(runs)] + cells + ["%.1f" % times(folder, name)[1]])
    table(["", "seeds", "sentiment %", "its own best epoch", "ner F1 %", "its own best epoch", "processor, s"], rows)


def frames(folder, data):
    low, high = 0.0, 125.0
    def column(part, name):
        return [float(row[name]) for row in csv.DictReader(open(f"{data}/{part}.csv", encoding="utf-8"))]
    train, valid = ([min(high, max(low, value)) for value in column(part, "rul")] for part in ("train", "valid"))
    average = statistics.mean(train)
    baseline = math.sqrt(statistics.mean((value - average) ** 2 for value in valid))
    fails = column("valid", "fail_within_30")
    rows = [["mean of the training targets; majority class", "", f"{baseline:.2f}", f"{statistics.mean(abs(value - average) for value in valid):.2f}",
             f"{1 - (baseline / statistics.pstdev(valid)) ** 2:.3f}", f"{100 * fails.count(0) / len(fails):.2f}"]]
    runs = [epochs_of(folder, "frames", seed) for seed in seeds_of(folder, "frames")]
    tops = [best(run)["valid"]["tasks"] for run in runs]
    rul = [top["rul"] for top in tops]
    rows.append(["mtl", len(runs), mean([task["rmse"] for task in rul], 1), mean([task["mae"] for task in rul], 1),
                 mean([1 - (task["rmse"] / statistics.pstdev(valid)) ** 2 for task in rul], 1, 3),
                 mean([top["fail_within_30"]["token_accuracy"] for top in tops])])
    table(["", "seeds", "rul RMSE, cycles", "MAE", "R2", "fail_within_30 accuracy %"], rows)
    print("whole run: %.1f s, of it processor %.1f s" % times(folder, "frames"))


def search(folder):
    rows = []
    for name in sorted({re.sub(r"_\d+\.time$", "", path.rsplit("/", 1)[1]) for path in glob.glob(f"{folder}/search_*.time")}):
        tops = [best(epochs_of(folder, name, seed))["valid"]["tasks"] for seed in seeds_of(folder, name)]
        rows.append([name[len("search_"):].replace("_", " "), len(tops), mean([top["rul"]["rmse"] for top in tops], 1),
                     f"{max(top['rul']['rmse'] for top in tops):.2f}", mean([top["fail_within_30"]["token_accuracy"] for top in tops])])
    table(["", "seeds", "rul RMSE, cycles", "worst seed", "fail_within_30 accuracy %"], rows)


def missing(folder):
    rows = []
    for name in ("all_labels", "half_labels", "complete_only", "complete_only_long"):
        seeds = seeds_of(folder, name)
        runs = [epochs_of(folder, name, seed) for seed in seeds]
        sentences = int(open(f"{folder}/{name}_{seeds[0]}.out", encoding="utf-8").read().split()[0])
        steps = math.ceil(sentences / 32)
        tops = [best(run) for run in runs]
        cells = [mean([figure(top, *which) for top in tops]) for which in
                 (("scenario", "accuracy"), ("intent", "accuracy"), ("slots", "span_f1"))]
        wall = min(epoch["alone"] for run in runs for epoch in run) / steps
        used = times(folder, name)[1] / (steps * len(runs[0]))
        rows.append([name.replace("_", " "), len(runs), sentences, steps * len(runs[0])] + cells +
                    [f"{1000 * wall:.3f}", f"{1000 * used:.3f}"])
    table(["", "seeds", "sentences", "updates", "scenario %", "intent %", "slots F1 %", "ms a step, fastest epoch",
           "processor ms of the whole run by its steps"], rows)


def main():
    part, arguments = sys.argv[1], sys.argv[2:]
    {"snips": snips, "two_sets": two_sets, "frames": frames, "search": search, "missing": missing}[part](*arguments)


main()
