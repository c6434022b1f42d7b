#!/usr/bin/env python3
"""Does sharing hold overfitting back, and which remedy is worth how much at which amount of data? Trains joint and single-task
models on 1, 5, 10 and 100 % of the training data, without a remedy and with one remedy at a time. Run by
`make study-overfitting`; every finished run is a line for each task in build/study/overfitting.tsv, so a run that was
interrupted goes on where it stopped.

    study_overfitting.py [--table]      --table: nothing is trained; prints what has been measured, as Markdown, and draws
                                        its figure, study_overfitting.svg

An epoch is as many updates at each amount: a small part stands in the file several times. Training is the same, bit for bit,
whatever it is validated on. So a second run that is validated on sentences apart ("apart") tells what an epoch that was chosen
on the validation data is worth on sentences that nothing was chosen by.

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL [build/mtl], JOBS [2], SEEDS [3],
EPOCHS of 100 updates [20]; SETS and AMOUNTS (%) separated by spaces, REMEDIES by commas.
"""
import os
import statistics
import sys

import runs
from runs import markdown, shown, source

OUT = "build/study"
EPOCHS = runs.number("EPOCHS", 20)
BATCH, ROWS, CAP, APART = 32, 3200, 6400, 1000          # ROWS: sentences of an epoch at least; CAP: of 100 % at most
UPDATES = EPOCHS * ROWS // BATCH
SETTINGS = ["--preset", "plain", "--share", "full", "--hidden", "64", "--embed", "64", "--lr", "0.004", "--batch", str(BATCH),
            "--set", "fit.bucket=1", "--dropout", "0"]
REMEDIES = {
    "none": [],
    "dropout of the input": ["--set", "input.dropout=0.3"],
    "dropout of the encoder": ["--set", "encoder.dropout=0.3"],
    "dropout of the heads": ["--set", "task.*.dropout=0.3"],
    "dropout of input and encoder": ["--dropout", "0.3"],
    "one mask for each sentence": ["--dropout", "0.3", "--set", "input.dropout_per_sequence=1",
                                   "--set", "encoder.dropout_per_sequence=1"],
    "decoupled decay (AdamW)": ["--optimizer", "adamw", "--set", "trainer.decay=0.3"],
    "L2 in the gradient": ["--l2", "0.0001"],
    "average of the weights": ["--set", "trainer.average=0.99"],
}
DRAWN = {"no remedy": "none", "dropout": "dropout of input and encoder"}
COLUMNS = ["set", "amount", "how", "remedy", "seed", "task", "score", "train_loss", "valid_loss", "seconds"]


def files(name, amount, seed):
    """Paths of a part of a training set, drawn anew for each seed, and of sentences that are in none of the seed's parts."""
    path, whole = os.path.join(OUT, f"overfitting_{name}_{amount}_{seed}.tsv"), len(runs.read(source(name, "train"))[1])
    if not os.path.exists(path):
        header, rows = runs.read(runs.subset(name, min(CAP, whole * int(amount) // 100), OUT, seed))
        runs.write(path, header, rows if len(rows) >= ROWS else (rows * (ROWS // len(rows) + 1))[:ROWS])
    return path, runs.subset(name, APART, OUT, seed, skip=whole - APART)


def train(name, amount, how, remedy, seed, place):
    """One model; a row for each task with its scores and losses, epoch by epoch; or the program's message."""
    of, _, where = how.partition(" ")
    tasks = runs.SETS[name][1] if of == "joint" else [of]
    path, apart = files(name, amount, seed)
    options = ["--epochs", str(max(1, UPDATES * BATCH // len(runs.read(path)[1])))] + REMEDIES[remedy]
    pair = (path, apart if where else source(name, "valid"))
    model, seconds = runs.train(tasks, seed, [pair], SETTINGS + options, place)
    if seconds is None:
        return model

    def listed(value):
        return ",".join(f"{value(epoch):.5g}" for epoch in runs.epochs(place))
    return [[name, amount, how, remedy, seed, task, listed(lambda e, t=task: runs.score(e["valid"]["tasks"][t])),
             listed(lambda e, t=task: e["task_loss"][t]), listed(lambda e, t=task: e["task_loss"][t] + e["gap"][t]), seconds]
            for task in tasks]


class Curves:
    """A task's scores, training losses and validation losses, epoch by epoch."""

    def __init__(self, texts):
        self.scores, self.training, self.validation = ([float(x) for x in text.split(",")] for text in texts)

    def end(self):
        return self.scores[-1]

    def rise(self):
        """By how much the validation loss at the end is above its least."""
        return self.validation[-1] - min(self.validation)

    def gaps(self):
        return [v - t for v, t in zip(self.validation, self.training)]


class Measured:
    """What has been measured, {task: curves} by set, amount, remedy, seed and whether it is joint and apart."""

    def __init__(self, rows):
        self.of = {}
        for name, amount, how, remedy, seed, task, *texts, _ in rows:
            joint, apart = how.startswith("joint"), how.endswith("apart")
            self.of.setdefault((name, amount, remedy, seed, joint, apart), {})[task] = Curves(texts)
        self.of = {key: tasks for key, tasks in self.of.items() if len(tasks) == len(runs.SETS[key[0]][1])}
        self.cells = list(dict.fromkeys(key[:2] for key in self.of))
        self.names = [name for name in REMEDIES if any(key[2] == name for key in self.of)]

    def by_seed(self, cell, wanted, value):
        """[value({task: curves}, ...)] of the seeds for which all `wanted` (remedy, joint, apart) are there."""
        seeds = dict.fromkeys(key[3] for key in self.of)
        found = [[self.of.get((*cell, remedy, seed, *how)) for remedy, *how in wanted] for seed in seeds]
        return [value(*curves) for curves in found if all(curves)]

    def strays(self):
        """How many trainings had other losses when they were validated on other data."""
        pairs = [(tasks, self.of.get((*key[:5], False), {})) for key, tasks in self.of.items() if key[5]]
        return sum(tasks[t].training != other[t].training for tasks, other in pairs for t in other)


def over_tasks(function, *curves):
    """The mean over tasks of function(curves of the task, ...)."""
    return statistics.mean(function(*(of[task] for of in curves)) for task in curves[0])


def sharing_table(m):
    """Task by task, without a remedy: what sharing changes."""
    print("\n**Sharing, without a remedy.** Scores after the last update, in points; losses of the validation data; means over "
          "seeds, 95 % intervals\n")
    lines = []
    for cell in m.cells:
        for task in runs.SETS[cell[0]][1]:
            def of(joint, value, cell=cell, task=task):
                return shown(m.by_seed(cell, [("none", joint, False)], lambda c: value(c[task])), "")
            gain = m.by_seed(cell, [("none", True, False), ("none", False, False)],
                             lambda j, a, task=task: j[task].end() - a[task].end())
            lines.append([cell[0], f"{cell[1]} %", task, of(False, Curves.end), shown(gain), of(False, Curves.rise),
                          of(True, Curves.rise), of(False, lambda c: c.gaps()[-1]), of(True, lambda c: c.gaps()[-1])])
    print(markdown(["set", "data", "task", "score alone", "joint less alone", "rise of the loss, alone", "joint",
                    "gap at the end, alone", "joint"], lines))


def remedy_table(m, title, names, wanted, value, sign="+"):
    """A row a remedy, a column a set and an amount, and all of them. wanted(remedy): what `value` takes the curves of."""
    print(f"\n{title}; means over tasks and seeds, 95 % intervals\n")
    lines = []
    for remedy in names:
        cells = [m.by_seed(cell, wanted(remedy), value) for cell in m.cells]
        lines.append([remedy] + [shown(of, sign) for of in cells] + [shown([statistics.mean(of) for of in zip(*cells)], sign)])
    print(markdown(["remedy"] + [f"{name} {amount} %" for name, amount in m.cells] + ["mean"], lines))


def remedy_tables(m):
    def gain(one, other):
        return over_tasks(lambda a, b: a.end() - b.end(), one, other)
    for title, joint in (("alone", False), ("joint", True)):
        remedy_table(m, f"**What a remedy is worth, {title}.** Points after the last update, less those without a remedy",
                     m.names[1:], lambda remedy, joint=joint: [(remedy, joint, False), ("none", joint, False)], gain)
    remedy_table(m, "**What sharing is worth under each remedy.** Points after the last update, joint less alone", m.names,
                 lambda remedy: [(remedy, True, False), (remedy, False, False)], gain)
    for title, joint in (("alone", False), ("joint", True)):
        remedy_table(m, f"**Rise of the validation loss, {title}.** Last less least", m.names,
                     lambda remedy, joint=joint: [(remedy, joint, False)], lambda of: over_tasks(Curves.rise, of), "")


def stopped(apart, valid, own):
    """Mean over tasks of the scores apart in the epoch that is best on the validation data: the task's own, or one for all."""
    mean = [statistics.mean(of) for of in zip(*(of.scores for of in valid.values()))]

    def best(task):
        scores = valid[task].scores if own else mean
        return scores.index(max(scores))
    return statistics.mean(apart[task].scores[best(task)] for task in valid)


def stopping_table(m):
    """Epochs chosen on the validation data, scored apart."""
    print("\n**Early stopping, without a remedy.** Points on sentences apart, the epoch chosen on the validation data, less "
          "those after the last update; means over tasks and seeds, 95 % intervals\n")
    lines = []
    for cell in m.cells:
        def gain(joint, value, cell=cell):
            return shown(m.by_seed(cell, [("none", joint, True), ("none", joint, False)], value))
        lines.append([cell[0], f"{cell[1]} %",
                      gain(False, lambda a, v: stopped(a, v, True) - over_tasks(Curves.end, a)),
                      gain(True, lambda a, v: stopped(a, v, False) - over_tasks(Curves.end, a)),
                      gain(True, lambda a, v: stopped(a, v, True) - over_tasks(Curves.end, a)),
                      gain(True, lambda a, v: stopped(a, v, True) - stopped(a, v, False))])
    print(markdown(["set", "data", "alone", "joint, one epoch for all", "joint, each task's own", "own less one for all"], lines))
    print(f"\nLosses in training that depend on what was validated on: {m.strays()} (must be 0)")


def figure(m):
    """Gaps by updates: a panel for each set and amount."""
    panels = {}
    for index, cell in enumerate(m.cells):
        series = panels[f"overfitting_{index}.tsv"] = {}
        for title, remedy in DRAWN.items():
            for how, joint in (("alone", False), ("joint", True)):
                curves = m.by_seed(cell, [(remedy, joint, False)],
                                   lambda of: [statistics.mean(at) for at in zip(*(c.gaps() for c in of.values()))])
                means = [statistics.mean(of) for of in zip(*curves)]
                series[f"{how}, {title}"] = [(UPDATES * (i + 1) / len(means), mean) for i, mean in enumerate(means)]
    if m.cells and all(rows for series in panels.values() for rows in series.values()):
        titles = "".join(f"{name}, {amount} %|" for name, amount in m.cells)
        runs.draw("study_overfitting", panels, panels=len(panels), titles=titles)


def main():
    runs.enter(OUT)
    results, jobs = runs.Table(os.path.join(OUT, "overfitting.tsv"), COLUMNS), []
    remedies = os.environ.get("REMEDIES", ",".join(REMEDIES)).split(",")
    for seed in range(1, 1 + runs.number("SEEDS", 3)):
        for name in runs.chosen("SETS", "hwu64 snips"):
            for amount in runs.chosen("AMOUNTS", "1 5 10 100"):
                files(name, amount, seed)
                for remedy in remedies:
                    for how in [of + where for of in ["joint"] + runs.SETS[name][1] for where in ("", " apart")]:
                        if remedy == "none" or " " not in how:
                            jobs.append(((name, amount, how, remedy, str(seed)),
                                         lambda place, job=(name, amount, how, remedy, seed): train(*job, place)))
    measured = Measured(results.rows() if "--table" in sys.argv else results.measure(jobs))
    print(f"\nAll: `{' '.join(SETTINGS)}`, {UPDATES} updates, 100 % are {CAP} sentences at most. Remedies: "
          + "; ".join(f"{name} `{' '.join(options)}`" for name, options in REMEDIES.items() if options))
    sharing_table(measured)
    remedy_tables(measured)
    stopping_table(measured)
    figure(measured)


if __name__ == "__main__":
    sys.exit(main())
