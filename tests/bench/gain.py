#!/usr/bin/env python3
"""Does learning tasks together pay? Trains single-task models, full and partial sharing, and what `mtl train` chooses by itself,
with the same recipe and as many updates for each task, on real data that lies beside the project. Run by `make gain`; every
finished run is a line of build/gain/gain.tsv, so a run that was interrupted goes on where it stopped.

    gain.py [--cut] [--table]     --cut: of one task 1, 3 and 10 % of the labels are left (CUTS), all others are kept
                                  --table: nothing is trained; prints what has been measured, as Markdown

Scores are from the validation data, by which models are chosen, and from a tenth of the training data that is taken away before
anything else and that nothing is chosen by ("apart"). Environment (defaults in brackets): MTL_DATA the folder with the sets
[../shared/data], MTL [build/mtl], SETS, HOW names separated by spaces, SEEDS [5; with --cut 3], JOBS [2], OPTIONS of mtl train.
"""
import json
import os
import random
import statistics
import sys

import runs
from runs import SETS, shown, source

OUT = "build/gain"
CUT = "--cut" in sys.argv
FIRST = "hwu64 snips" if CUT else "hwu64 snips atis mr+ner"
HOWS = "single auto" if CUT else "single full partial auto"
COLUMNS = ["set", "cut", "how", "seed", "task", "valid", "apart", "bytes", "us_per_sentence", "seconds", "updates"]


def sequences_of(name, header, rows):
    """Which sequence each row belongs to: a line of text is one by itself."""
    if name not in runs.FRAMES:
        return list(range(len(rows)))
    return [row[header.index(runs.FRAMES[name][0])] for row in rows]


def split(name, cut_task=None, cut=0):
    """Paths of a set's training data, with all labels or with cut % of one task's, and of the tenth that is apart."""
    kind = source(name, "train")[-4:]
    train = os.path.join(OUT, (f"{name}_{cut_task}_{cut}" if cut else name) + kind)
    apart = os.path.join(OUT, f"{name}_apart{kind}")
    if not os.path.exists(train):
        header, rows = runs.read(source(name, "train"))
        sequences = sequences_of(name, header, rows)
        order = list(dict.fromkeys(sequences))
        random.Random(1).shuffle(order)
        away = set(order[: len(order) // 10])
        runs.write(apart, header, [row for row, of in zip(rows, sequences) if of in away])
        rows = [list(row) for row, of in zip(rows, sequences) if of not in away]
        if cut:
            column = [title.split(":")[0] for title in header].index(cut_task)
            labelled = [row for row in rows if row[column] != "_"]
            kept = {id(row) for row in random.Random(2).sample(labelled, max(1, len(labelled) * cut // 100))}
            for row in labelled:
                if id(row) not in kept:
                    row[column] = "_"
        runs.write(train, header, rows)
    return train, apart


def label(cut_task, cut):
    return f"{cut_task} {cut}" if cut else "-"


def train(name, cut_task, cut, how, seed, tasks, place):
    """One model; a row for each task, or the program's message."""
    files = [split(part, cut_task, cut) + (source(part, "valid"),) for part in SETS[name][0]]
    files = [of for of in files if set(runs.tasks_of(of[0])) & set(tasks)]
    options = ["--share", how] if how in ("full", "partial") else []
    model, seconds = runs.train(tasks, seed, [(of[0], of[2]) for of in files], options + runs.chosen("OPTIONS", ""), place)
    if seconds is None:
        return model
    info = runs.describe(model)
    if how == "auto":
        with open(os.path.join(OUT, f"auto_{name}_{cut_task}_{cut}_{seed}.json"), "w", encoding="utf-8") as file:
            json.dump(info["auto"], file, indent=1)
    scores = [runs.evaluate(model, paths, tasks) for paths in ([of[2] for of in files], [of[1] for of in files])]
    common = [os.path.getsize(model), runs.answer_time(model, files[0][2], place), seconds, info["training"]["updates"]]
    return [[name, label(cut_task, cut), how, seed, task, scores[0][task], scores[1][task]] + common for task in tasks]


def print_table(measured):
    single = {tuple(row[i] for i in (0, 1, 3, 4)): [float(x) for x in row[5:10]] for row in measured if row[2] == "single"}

    def alone(name, cut, seed, task):
        return single.get((name, cut if cut.split()[0] == task else "-", seed, task))

    measured = [row for row in measured if (row[1] != "-") == CUT and alone(row[0], row[1], row[3], row[4])]
    for how in dict.fromkeys(row[2] for row in measured if row[2] != "single"):
        gains, by_seed = {}, {}
        print(f"\n**{how}** against single-task models, points of the same seed, 95 % intervals\n")
        print("| set | labels left | task | seeds | alone, valid | gain, valid | alone, apart | gain, apart |\n|---|---|---|---|---|---|---|---|")
        for row in measured:
            if row[2] != how:
                continue
            of = alone(row[0], row[1], row[3], row[4])
            difference = [float(row[5 + i]) - of[i] for i in (0, 1)]
            gains.setdefault((row[0], row[1], row[4]), []).append((difference, of))
            by_seed.setdefault((row[0], row[1], row[3]), []).append(difference)
        for (name, cut, task), of in gains.items():
            columns = [[g[0][i] for g in of] for i in (0, 1)]
            means = [statistics.mean(g[1][i] for g in of) for i in (0, 1)]
            mark = "**" if cut.split()[0] == task else ""
            print(f"| {name} | {cut} | {mark}{task}{mark} | {len(of)} | {means[0]:.1f} | {shown(columns[0])} | {means[1]:.1f} | {shown(columns[1])} |")
        for i, what in enumerate(("valid", "apart")):
            sets = {}
            for (name, cut, seed), of in by_seed.items():
                sets.setdefault((name, cut), []).append(statistics.mean(d[i] for d in of))
            means = [statistics.mean(values) for values in sets.values()]
            every = [v for values in sets.values() for v in values]
            worst = min((statistics.mean(g[0][i] for g in of), key) for key, of in gains.items())
            wins = sum(g[0][i] >= 0 for of in gains.values() for g in of) / sum(len(of) for of in gains.values())
            print(f"\n{what}: mean gain {statistics.mean(means):+.2f} over sets (seeds of all sets: {shown(every)}); worst task "
                  f"{worst[0]:+.2f} ({' '.join(worst[1])}); at least as good in {100 * wins:.0f} % of the runs")
        print("\n| set | labels left | time of training / alone | file / alone | an answer / alone |\n|---|---|---|---|---|")
        for key in dict.fromkeys((row[0], row[1]) for row in measured if row[2] == how):
            ratios = []
            for row in {row[3]: row for row in measured if row[2] == how and (row[0], row[1]) == key}.values():
                of = [alone(*key, row[3], task) for task in SETS[key[0]][1]]
                if all(of):
                    ratios.append([float(row[i]) / sum(one[i - 5] for one in of) for i in (9, 7, 8)])
            if ratios:
                print(f"| {key[0]} | {key[1]} | " + " | ".join(f"{statistics.mean(r[i] for r in ratios):.2f}" for i in range(3)) + " |")


def main():
    runs.enter(OUT)
    table, jobs = runs.Table(os.path.join(OUT, "gain.tsv"), COLUMNS), {}
    for seed in range(1, 1 + runs.number("SEEDS", 3 if CUT else 5)):
        for name in runs.chosen("SETS", FIRST):
            tasks = SETS[name][1]
            for cut_task, cut in [(task, int(cut)) for task in tasks for cut in runs.chosen("CUTS", "1 3 10")] if CUT else [(None, 0)]:
                for part in SETS[name][0]:
                    split(part, cut_task, cut)
                    split(part)
                for how in runs.chosen("HOW", HOWS):
                    for of in [[task] for task in tasks] if how == "single" else [tasks]:
                        left = (cut_task, cut) if cut_task in of else (None, 0)     # alone, a task does not see what others lack
                        key = (name, label(*left), how, str(seed), of[-1])
                        jobs[key] = lambda place, job=(name, *left, how, seed, of): train(*job, place)
    measured = table.rows() if "--table" in sys.argv else table.measure(list(jobs.items()))
    print_table(measured)


if __name__ == "__main__":
    sys.exit(main())
