#!/usr/bin/env python3
"""How should tasks share? Trains every preset of `mtl train --share` beside single-task models, with the same settings and as
many updates for each task, on real data that lies beside the project. Run by `make study-sharing`; every finished run is
a line of build/study/sharing.tsv, so a run that was interrupted goes on where it stopped.

    study_sharing.py [--table]          --table: nothing is trained; prints what has been measured, as Markdown

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL [build/mtl], SETS and SHARES names
separated by spaces, SEEDS [3], SENTENCES of the training data at most [3000], EPOCHS [8], HIDDEN [64].
"""
import os
import statistics
import sys

import runs
from runs import source

OUT = "build/study"
SENTENCES = runs.number("SENTENCES", 3000)
SETTINGS = ["--preset", "plain", "--hidden", os.environ.get("HIDDEN", "64"), "--epochs", os.environ.get("EPOCHS", "8")]
SETS = {name: runs.SETS[name] for name in ("hwu64", "snips", "ewt_multi", "mr+ner")}
SHARES = ["full", "none", "partial", "gated", "hierarchical", "soft", "cross-stitch", "levels", "mmoe", "cgc", "ple",
          "adversarial", "stack"]
MORE = {"levels": ["--layers", "2"], "hierarchical": []}        # options that a preset needs to be itself
COLUMNS = ["set", "share", "seed", "task", "score", "parameters", "bytes", "ms_per_step", "us_per_sentence"]


def train(name, share, seed, place):
    """One model; a row for each task."""
    sets, tasks = SETS[name]
    only = [share[len("only "):]] if share.startswith("only ") else tasks
    options = SETTINGS + ([] if share.startswith("only ") else ["--share", share]) + MORE.get(share, [])
    files = [(runs.subset(part, SENTENCES // len(sets), OUT), source(part, "valid")) for part in sets]
    model, seconds = runs.train(only, seed, files, options, place)
    if seconds is None:
        return model
    epochs = runs.epochs(place)
    best = max(epochs, key=lambda epoch: epoch["score"])
    settings = runs.describe(model)
    common = [settings["parameters"], os.path.getsize(model), 1000 * epochs[-1]["train_seconds"] / settings["training"]["updates"],
              runs.answer_time(model, source(sets[0], "valid"), place)]
    return [[name, share, seed, task, runs.score(best["valid"]["tasks"][task])] + common for task in only
            if task in best["valid"]["tasks"]]


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
    runs.enter(OUT)
    table, jobs = runs.Table(os.path.join(OUT, "sharing.tsv"), COLUMNS), []
    for seed in range(1, 1 + runs.number("SEEDS", 3)):
        for name in runs.chosen("SETS", " ".join(SETS)):
            for part in SETS[name][0]:
                runs.subset(part, SENTENCES // len(SETS[name][0]), OUT)
            singles = ["only " + task for task in SETS[name][1]]
            for share in singles + runs.chosen("SHARES", " ".join(SHARES)):
                jobs.append(((name, share, str(seed)), lambda place, job=(name, share, seed): train(*job, place)))
    print_tables(table.rows() if "--table" in sys.argv else table.measure(jobs))


if __name__ == "__main__":
    sys.exit(main())
