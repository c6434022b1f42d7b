#!/usr/bin/env python3
"""Does balancing help? Trains one encoder under all tasks with six methods that weigh losses or combine gradients, beside equal
weights, beside static weights that were tried on the validation data in as many trainings, and beside single-task models.
Run by `make study-balance`; every finished run is a line of build/study/balance.tsv, so a run that was interrupted goes on where
it stopped.

    study_balance.py [--table]     --table: nothing is trained; prints what has been measured, as Markdown, and draws the figure

Every training takes the epoch with the best mean validation score, and weights are tuned by that score. What is told are scores
of sentences of the training data that no model sees and nothing is chosen by ("apart"), and those of the validation data.

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL the command [build/mtl], SETS names
separated by spaces, SEEDS [5], JOBS [2].
"""
import statistics
import sys

import runs
from runs import SETS, shown

OUT = "build/study"
SENTENCES, APART = 2000, 2000           # of the training data: to learn from, and apart
SETTINGS = ["--preset", "plain", "--hidden", "64", "--epochs", "40", "--lr", "0.002", "--schedule", "linear"]
NAMES = runs.chosen("SETS", "hwu64 snips ewt_multi")
# by how large losses are, how fast they fall, by chance, by norms of gradients; by their directions: pair by pair, all at once
METHODS = {"uncertainty": "--balance", "dwa": "--balance", "random": "--balance", "gradnorm": "--balance",
           "pcgrad": "--surgery", "cagrad": "--surgery"}
JOINT = ["equal", "tuned"] + list(METHODS)
TUNING_SEED = 1
COLUMNS = ["set", "method", "seed", "task", "valid", "apart", "seconds"]


def weightings(name):
    """The static weights that are tried: one task's raised at a time, as many weightings as there are methods. name: options."""
    tasks = SETS[name][1]
    factors = [3 ** (i + 1) for i in range(len(METHODS) // len(tasks))]
    return {f"{task}={factor}": ["--weight", f"{task}={factor}"] for task in tasks for factor in factors}


def train(name, method, seed, place):
    """One model; a row for each task, or the program's message."""
    only = [method[len("only "):]] if method.startswith("only ") else SETS[name][1]
    options = [METHODS[method], method] if method in METHODS else weightings(name).get(method, [])
    files = [(runs.subset(part, SENTENCES, OUT), runs.source(part, "valid")) for part in SETS[name][0]]
    model, seconds = runs.train(only, seed, files, SETTINGS + options, place)
    if seconds is None:
        return model
    best = max(runs.epochs(place), key=lambda epoch: epoch["score"])["valid"]["tasks"]
    apart = runs.evaluate(model, [runs.subset(part, APART, OUT, skip=SENTENCES) for part in SETS[name][0]], only)
    return [[name, method, seed, task, runs.score(best[task]), apart[task], seconds] for task in only]


def tuned(measured, name):
    """The static weights with the best mean validation score over tasks, equal ones among them."""
    valid = {}
    for row in measured:
        if row[0] == name and int(row[2]) == TUNING_SEED and (row[1] == "equal" or row[1] in weightings(name)):
            valid.setdefault(row[1], []).append(float(row[4]))
    return max(valid, key=lambda method: statistics.mean(valid[method]), default="equal")


class Results:
    """What has been measured, of the sets and seeds that are complete."""

    def __init__(self, measured):
        self.run = {}                   # (set, method, seed): {task: (valid, apart, seconds)}
        for name, method, seed, task, *numbers in measured:
            method = "single" if method.startswith("only ") else method
            self.run.setdefault((name, method, int(seed)), {})[task] = [float(x) for x in numbers]
        self.choice = {name: tuned(measured, name) for name in NAMES}
        for name, method, seed in list(self.run):
            if self.choice.get(name) == method:
                self.run[name, "tuned", seed] = self.run[name, method, seed]
        self.names = [name for name in NAMES if (name, "equal", TUNING_SEED) in self.run]
        self.seeds = [seed for seed in sorted({key[2] for key in self.run}) if all(
            len(self.run.get((name, method, seed), [])) == len(SETS[name][1])
            for name in self.names for method in ["single"] + JOINT)]

    def scores(self, name, method, task, column=1):
        """A task's score for each seed. column: 0 on the validation data, 1 apart."""
        return [self.run[name, method, seed][task][column] for seed in self.seeds]

    def means(self, name, method):
        """The mean score over tasks for each seed, apart."""
        return [statistics.mean(of) for of in zip(*(self.scores(name, method, task) for task in SETS[name][1]))]

    def delta(self, name, method, column=1):
        """Delta_m for each seed: mean over tasks of the difference to the single-task models' mean score, in % of that."""
        of = []
        for task in SETS[name][1]:
            single = statistics.mean(self.scores(name, "single", task, column))
            of.append([100 * (score - single) / single for score in self.scores(name, method, task, column)])
        return [statistics.mean(values) for values in zip(*of)]

    def over_sets(self, method, column=1):
        """Delta_m, its mean over sets, for each seed."""
        return [statistics.mean(values) for values in zip(*(self.delta(name, method, column) for name in self.names))]

    def ranks(self, method):
        """The method's rank among the joint models, its mean over tasks, for each set and seed. 1 is the best; ties share."""
        of = []
        for name in self.names:
            for seed in self.seeds:
                apart = {task: [self.run[name, other, seed][task][1] for other in JOINT] for task in SETS[name][1]}
                mine = {task: self.run[name, method, seed][task][1] for task in apart}
                of.append(statistics.mean(sum(x > mine[task] for x in all_) + (1 + all_.count(mine[task])) / 2
                                          for task, all_ in apart.items()))
        return of

    def seconds(self, name, method):
        """Processor seconds of all trainings with one seed, the mean over seeds: one, or as many as there are tasks."""
        of = [[row[2] for row in self.run[name, method, seed].values()] for seed in self.seeds]
        return statistics.mean(sum(s) if method == "single" else s[0] for s in of)


def print_set(results, name):
    """Scores of a set's tasks by each method."""
    tasks, rows = SETS[name][1], []
    for method in ["single"] + JOINT:
        label = f"tuned ({results.choice[name]})" if method == "tuned" else method
        rows.append([label] + [shown(results.scores(name, method, task), "") for task in tasks] +
                    [shown(results.means(name, method), ""),
                     "" if method == "single" else shown(results.delta(name, method)), f"{results.seconds(name, method):.1f}"])
    print(f"\n**{name}**: scores apart, mean and 95 % interval over {len(results.seeds)} seeds\n")
    print(runs.markdown(["method"] + tasks + ["mean", "Delta_m, %", "processor s"], rows))


def print_all(results):
    """The methods over all sets."""
    rows = []
    for method in JOINT:
        delta = results.over_sets(method)
        less = ["" if method == other else shown([a - b for a, b in zip(delta, results.over_sets(other))]) for other in JOINT[:2]]
        time = [results.seconds(name, method) / results.seconds(name, "equal") for name in results.names]
        rows.append([method, shown(results.over_sets(method, 0)), shown(delta)] + less +
                    [shown(results.ranks(method), ""), f"{statistics.mean(time):.2f}"])
    print(f"\n**All**: {' '.join(results.names)}, {len(results.seeds)} seeds; differences are of the same seed\n")
    print(runs.markdown(["method", "Delta_m, valid, %", "Delta_m, apart, %", "less that of equal", "less that of tuned",
                         f"rank of {len(JOINT)}", "time / equal"], rows))


def print_tuning(results):
    """The weightings that were tried, and what trying them cost."""
    rows = []
    for name in results.names:
        tried = {method: results.run[name, method, TUNING_SEED] for method in ["equal"] + list(weightings(name))
                 if (name, method, TUNING_SEED) in results.run}
        valid = {method: statistics.mean(row[0] for row in of.values()) for method, of in tried.items()}
        cost = sum(next(iter(of.values()))[2] for method, of in tried.items() if method != "equal")
        rows.append([name] + [" ".join(f"{method}: {value:.1f}" for method, value in valid.items()),
                              f"{cost:.0f}", f"{sum(results.seconds(name, method) for method in METHODS):.0f}"])
    print(f"\n**Tuning**: mean validation score by weights, seed {TUNING_SEED}, and processor seconds\n")
    print(runs.markdown(["set", "weights", "tuning, s", "the six methods, one seed, s"], rows))


def print_tables(measured):
    """Prints all tables and draws the figure."""
    results = Results(measured)
    if not results.seeds:
        print("no seed is complete")
        return
    print(f"Settings: {SENTENCES} sentences to learn from, {APART} apart; mtl train {' '.join(SETTINGS)}")
    print_all(results)
    for name in results.names:
        print_set(results, name)
    print_tuning(results)
    blocks = {}
    for i, name in enumerate(results.names):
        of = [results.delta(name, method) for method in JOINT]
        blocks[name] = [[x + 1 + 0.16 * (i - (len(results.names) - 1) / 2), statistics.mean(values),
                         runs.interval(values) if len(values) > 1 else 0] for x, values in enumerate(of)]
    runs.draw("study_balance", {"balance.tsv": blocks}, labels=" ".join(JOINT), series=len(blocks))


def main():
    runs.enter(OUT)
    table = runs.Table(f"{OUT}/balance.tsv", COLUMNS)
    if "--table" in sys.argv:
        return print_tables(table.rows())
    for name in NAMES:
        for part in SETS[name][0]:
            runs.subset(part, SENTENCES, OUT)
            runs.subset(part, APART, OUT, skip=SENTENCES)
    seeds = range(1, 1 + runs.number("SEEDS", 5))
    plan = [(name, method, seed) for seed in seeds for name in NAMES for method in
            ["only " + task for task in SETS[name][1]] + ["equal"] + list(METHODS)]
    plan += [(name, method, TUNING_SEED) for name in NAMES for method in weightings(name)]

    def measure(of):
        return table.measure([((name, method, str(seed)), lambda place, job=(name, method, seed): train(*job, place))
                              for name, method, seed in of])
    measured = measure(plan)
    print_tables(measure([(name, tuned(measured, name), seed) for seed in seeds for name in NAMES]))


if __name__ == "__main__":
    sys.exit(main())
