#!/usr/bin/env python3
"""Which tasks help which, and do gradients tell it beforehand? For every pair of tasks of a set: the score of a task that is
trained with a helper, less that of the task alone, with both layers shared and with the lower one alone. Beside it what
`mtl train --watch` says of the pair, in one training of all tasks and in the pair's own: the cosine of their gradients and the
affinity (what a step for the helper does to the loss of the task). Run by `make study-transfer`; every finished run is in
build/study/transfer.tsv, so a run that was interrupted goes on where it stopped.

    study_transfer.py [--table]         --table: nothing is trained; prints what has been measured, as Markdown, and draws
                                        its figure, study_transfer.svg

Scores are those after the last update, at which the rate has fallen to 0: nothing is chosen on the validation data. Each seed
draws its own sentences.

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL [build/mtl], JOBS [2], SETS names
separated by spaces, SEEDS [4], SENTENCES of the training data at most [2000], EPOCHS [30].
"""
import itertools
import os
import random
import statistics
import sys

import runs
from runs import markdown, shown, source

OUT = "build/study"
SENTENCES, EPOCHS = runs.number("SENTENCES", 2000), runs.number("EPOCHS", 30)
SETTINGS = ["--preset", "plain", "--hidden", "64", "--embed", "64", "--lr", "0.008", "--schedule", "linear",
            "--epochs", str(EPOCHS)]
WATCH = ["--watch", "20"]
SHARING = {                     # both layers, or the lower one under a layer of each task's own: of one task alone the same model
    "both layers": ["--share", "full", "--layers", "2", "--set", "encoder.dropout_between=0.3"],
    "lower layer": ["--share", "partial", "--set", "share.above=1", "--layers", "1"],
}
BOTH, LOWER = SHARING
SETS = {"snips": runs.SETS["snips"][1], "hwu64": runs.SETS["hwu64"][1], "ewt_multi": ["genre", "upos", "xpos", "deprel", "ner"]}
OF_ALL = ["cosine", "cosine, lower layer", "cosine, upper layer", "affinity"]           # from the training of all tasks
OF_PAIR = ["cosine, own run", "affinity, own run"]                                      # from the pair's own
SIGNS = OF_ALL + OF_PAIR
COLUMNS = ["set", "how", "tasks", "seed", "task", "helper", "score", *OF_ALL, "seconds"]
SHUFFLES = 10000


def watched(lines, task, helper):
    """Means over the watched updates of OF_ALL for a task and its helper."""
    def cosine(part):
        return part["cosine"].get(f"{task}+{helper}", part["cosine"].get(f"{helper}+{task}"))
    lines = [line for line in lines if "affinity" in line]
    each = [lambda line: cosine(line["shared"]), lambda line: cosine(line["layers"]["encoder.layer0"]),
            lambda line: cosine(line["layers"]["encoder"]), lambda line: line["affinity"][helper][task]]
    return [statistics.mean(value for value in map(of, lines) if value is not None) for of in each]


def train(name, how, tasks, seed, place):
    """One model; a row for each task and each other that it is trained with, or the program's message."""
    files = [(runs.subset(name, SENTENCES, OUT, seed), source(name, "valid"))]
    watch = how == BOTH and len(tasks) > 1
    model, seconds = runs.train(tasks, seed, files, SETTINGS + SHARING[how] + (WATCH if watch else []), place)
    if seconds is None:
        return model
    scores = runs.epochs(place)[-1]["valid"]["tasks"]
    lines = [line["watch"] for line in runs.logged(place) if "watch" in line]
    rows = []
    for task in tasks:
        for helper in [of for of in tasks if of != task] or ["-"]:
            seen = watched(lines, task, helper) if watch else ["-"] * len(OF_ALL)
            rows.append([name, how, "+".join(tasks), seed, task, helper, runs.score(scores[task]), *seen, seconds])
    return rows


def ranks(values):
    """Ranks from 1; equal values share their mean rank."""
    order = sorted(values)
    return [order.index(value) + (order.count(value) + 1) / 2 for value in values]


def along(x, y):
    """The correlation of two lists of numbers; NaN where one is all alike."""
    x, y = ([value - statistics.mean(of) for value in of] for of in (x, y))
    length = (sum(a * a for a in x) * sum(b * b for b in y)) ** 0.5
    return sum(a * b for a, b in zip(x, y)) / length if length else float("nan")


def spearman(points):
    """Spearman's rank correlation, and the share of shuffles as far from 0, as text; a dash if one side is all alike."""
    x, y = (ranks(of) for of in zip(*points))
    found, dice = along(x, y), random.Random(1)
    far = sum(abs(along(x, dice.sample(y, len(y)))) >= abs(found) - 1e-9 for _ in range(SHUFFLES))
    return f"{found:+.2f} (p {far / SHUFFLES:.2f})" if found == found else "-"


class Measured:
    """What has been measured. A pair is (set, task, helper)."""

    def __init__(self, rows):
        self.score, self.of_all, self.of_pair = {}, {}, {}
        self.names = list(dict.fromkeys(row[0] for row in rows))
        self.seeds = list(dict.fromkeys(row[3] for row in rows))
        for name, how, tasks, seed, task, helper, score, *seen, _ in rows:
            every, count = len(SETS[name]), tasks.count("+") + 1
            self.score[name, task, helper if count <= 2 else "all", how, seed] = float(score)
            if seen[0] != "-" and count == every:
                self.of_all[name, task, helper, seed] = [float(x) for x in seen]
            if seen[0] != "-" and count == 2:
                self.of_pair[name, task, helper, seed] = [float(seen[0]), float(seen[3])]
        every = [(name, *pair) for name in self.names for pair in itertools.permutations(SETS[name], 2)]
        self.pairs = [key for key in every if self.signs(*key) and self.gains(*key, BOTH) and self.gains(*key, LOWER)]

    def alone(self, name, task):
        return [score for key, score in self.score.items() if key[:3] == (name, task, "-")]

    def gains(self, name, task, helper, how):
        """Points with the helper (or all) less alone, a seed each."""
        found = [(self.score.get((name, task, helper, how, seed)), self.score.get((name, task, "-", BOTH, seed)))
                 for seed in self.seeds]
        return [one - other for one, other in found if None not in (one, other)]

    def signs(self, *key):
        """Means over seeds of SIGNS; [] if there are none."""
        found = [(self.of_all.get((*key, seed)), self.of_pair.get((*key, seed))) for seed in self.seeds]
        return [statistics.mean(of) for of in zip(*(every + own for every, own in found if every and own))]

    def gain(self, key, how, part=slice(None)):
        """Mean gain over a part of the seeds."""
        return statistics.mean(self.gains(*key, how)[part])

    def points(self, name, sign, value):
        """(sign, value) of each pair. A cosine is the same in both directions: there the two are one point, their mean."""
        pairs = [key for key in self.pairs if name in (None, key[0])]
        index = SIGNS.index(sign)
        if sign.startswith("affinity"):
            return [(self.signs(*key)[index], value(key)) for key in pairs]
        return [(self.signs(of, a, b)[index], (value((of, a, b)) + value((of, b, a))) / 2) for of, a, b in pairs if a < b]


def matrices(m):
    """A row a task, a column a helper."""
    for name in m.names:
        for how in SHARING:
            print(f"\n**{name}, {how} shared.** Points of the task in the row when it learns with that in the column, less "
                  "alone; means over seeds, 95 % intervals\n")
            helpers = SETS[name] + (["all"] if len(SETS[name]) > 2 and how == BOTH else [])
            lines = [[task, shown(m.alone(name, task), "")]
                     + [shown(m.gains(name, task, of, how)) if of != task else "" for of in helpers] for task in SETS[name]]
            print(markdown(["task", "alone"] + ["with " + helper for helper in helpers], lines))


def pair_table(m):
    """Every pair with what foretells it."""
    print("\n**Pairs.** Gains in points, 95 % intervals; signs are means over updates and seeds, affinity is the per mille of "
          "the task's loss that a step for the helper takes away\n")
    lines = []
    for key in m.pairs:
        both, lower = (m.gains(*key, how) for how in SHARING)
        signs = [f"{1000 * x:+.2f}" if name.startswith("affinity") else f"{x:+.3f}" for name, x in zip(SIGNS, m.signs(*key))]
        lines.append([*key, shown(both), shown(lower), shown([b - a for a, b in zip(both, lower)])] + signs)
    print(markdown(["set", "task", "helper", BOTH, LOWER, "difference"] + SIGNS, lines))


def correlation_table(m):
    """How well each sign foretells each gain."""
    wanted = {BOTH: lambda key: m.gain(key, BOTH), LOWER: lambda key: m.gain(key, LOWER),
              "lower less both": lambda key: m.gain(key, LOWER) - m.gain(key, BOTH)}
    print("\n**Rank correlations (Spearman) of a sign and the gain.** n: points, for a cosine a pair, for an affinity an "
          f"ordered pair; p: share of {SHUFFLES} shuffles that are as far from 0\n")
    lines = []
    for name in [None] + m.names:
        for sign in SIGNS:
            points = [m.points(name, sign, value) for value in wanted.values()]
            if len(points[0]) > 2:
                lines.append([name or "all sets", sign, len(points[0])] + [spearman(of) for of in points])
    print(markdown(["set", "sign", "n"] + list(wanted), lines))


def choice_line(m, title, how, value, part=slice(None)):
    """How often a number, value(pair), has the sign of the gain, and finds the best of several helpers."""
    groups = [[key for key in m.pairs if key[:2] == of] for of in dict.fromkeys(key[:2] for key in m.pairs)]
    groups = [of for of in groups if len(of) > 1]
    same = sum((value(key) > 0) == (m.gain(key, how, part) > 0) for key in m.pairs)
    best = sum(max(of, key=value) == max(of, key=lambda key: m.gain(key, how, part)) for of in groups)
    rank = spearman([(value(key), m.gain(key, how, part)) for key in m.pairs])
    dice = sum(1 / len(of) for of in groups)
    return [title, how, f"{same} of {len(m.pairs)}", f"{best} of {len(groups)} (by chance {dice:.1f})", rank]


def choice_table(m):
    """What a sign is worth for a choice, and as a ceiling, what the gain in other seeds is worth."""
    odd, even = slice(0, None, 2), slice(1, None, 2)
    print("\n**What a sign is worth for a choice.** Sign: how often it and the gain are both above 0, or neither is; helper: how "
          "often the helper with the largest number is that with the largest gain. Last: gains of every other seed foretell "
          "those of the others\n")
    lines = [choice_line(m, sign, how, lambda key, i=i: m.signs(*key)[i]) for i, sign in enumerate(SIGNS) for how in SHARING]
    if all(len(m.gains(*key, how)) > 1 for key in m.pairs for how in SHARING):
        lines += [choice_line(m, "the gain itself", how, lambda key, how=how: m.gain(key, how, even), odd) for how in SHARING]
    print(markdown(["number", "shared", "right sign", "right helper", "rank correlation, ordered pairs"], lines))


def figure(m):
    """Heat maps of the gains, and gains by cosine and by affinity."""
    heat, files = {}, {}
    for name in m.names:
        tasks = SETS[name]
        heat[name] = [(x, len(tasks) - 1 - y, m.gain((name, task, helper), BOTH) if task != helper else "NaN", helper, task)
                      for y, task in enumerate(tasks) for x, helper in enumerate(tasks)]
        for sign, scale in (("cosine", 1), ("affinity", 1000)):
            files.setdefault(f"transfer_{sign}.tsv", {})[name] = [
                (scale * x, y) for x, y in m.points(name, sign, lambda key: m.gain(key, BOTH))]
    names = "".join(f"{name}|" for name in heat)
    runs.draw("study_transfer", {"transfer_heat.tsv": heat, **files}, sets=len(heat), names=names)


def main():
    runs.enter(OUT)
    results, jobs = runs.Table(os.path.join(OUT, "transfer.tsv"), COLUMNS), []
    for seed in range(1, 1 + runs.number("SEEDS", 4)):
        for name in runs.chosen("SETS", " ".join(SETS)):
            runs.subset(name, SENTENCES, OUT, seed)
            several = [list(pair) for pair in itertools.combinations(SETS[name], 2)]
            every = [SETS[name]] if SETS[name] not in several else []
            for how, tasks in ([(BOTH, of) for of in [[task] for task in SETS[name]] + several + every]
                               + [(LOWER, of) for of in several]):
                jobs.append(((name, how, "+".join(tasks), str(seed)),
                             lambda place, job=(name, how, tasks, seed): train(*job, place)))
    m = Measured(results.rows() if "--table" in sys.argv else results.measure(jobs))
    print(f"\nAll: `{' '.join(SETTINGS)}`, {SENTENCES} sentences; "
          + "; ".join(f"{how}: `{' '.join(options)}`" for how, options in SHARING.items()) + f"; signs: `{' '.join(WATCH)}`")
    matrices(m)
    if m.pairs:
        pair_table(m)
        correlation_table(m)
        choice_table(m)
    if len(m.pairs) == sum(len(SETS[name]) * (len(SETS[name]) - 1) for name in m.names) > 0:
        figure(m)


if __name__ == "__main__":
    sys.exit(main())
