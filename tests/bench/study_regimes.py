#!/usr/bin/env python3
"""Data sets in turn or together, and how much the weights matter. Run by `make study-regimes`; every finished run is a line of
build/study/regimes.tsv, so a run that was interrupted goes on where it stopped.

    study_regimes.py [--table]     --table: nothing is trained; prints what has been measured, as Markdown, and draws the figure

1. Two data sets with one task each, one four times as large as the other: a batch is from one of them, chosen by a sampler, or
   each update takes a batch of each. All see as many sentences in sum. Beside them: each task alone, with half as many.
2. One data set with three tasks: the weights of two of them on a grid, the third has 1.

Every training takes the epoch with the best mean validation score; what is told are scores of sentences of the training data
that no model sees and nothing is chosen by.

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL the command [build/mtl], SETS pairs of
tasks and "map", separated by spaces, SEEDS [5; the map 3 at most], JOBS [2].
"""
import os
import statistics
import sys

import runs
from runs import shown

OUT = "build/study"
APART = 2000                            # sentences that nothing is trained on or chosen by
SETTINGS = ["--preset", "plain", "--hidden", "64", "--lr", "0.002", "--schedule", "linear"]
BATCH, EPOCHS, MAP_EPOCHS = 32, 24, 40
SMALL, LARGE = 1000, 4000               # sentences to learn from
PAIRS = {"sentiment+ner": {"sentiment": ("mr", SMALL), "ner": ("ewt_multi", LARGE)},
         "slots+intent": {"slots": ("hwu64", SMALL), "intent": ("snips", LARGE)}}
TEMPERATURE = 2                         # the command's default, also where annealed ends
SAMPLERS = ["proportional", "annealed", "temperature", "uniform", "round-robin"]
TOGETHER = ["--sampler", "together"]
HALVES = TOGETHER + ["--batch", str(BATCH // 2)]
REGIMES = {sampler: ["--sampler", sampler] for sampler in SAMPLERS}
REGIMES |= {"together": TOGETHER, "together, pcgrad": TOGETHER + ["--surgery", "pcgrad"],
            "together, half batches": HALVES, "together, half batches, pcgrad": HALVES + ["--surgery", "pcgrad"]}
ALONE = ["alone, the small", "alone, the large"]
MAP_SET, MAP_SENTENCES, MAP_SEEDS, FIXED = "hwu64", 2000, 3, "intent"
GRID = {"slots": [1 / 3, 1, 3, 9, 27], "scenario": [1 / 9, 1 / 3, 1, 3, 9]}
COLUMNS = ["pair", "regime", "seed", "task", "score", "updates", "seconds"]


def one_task(path, task):
    """A file with the texts of another and one task's labels alone."""
    out = os.path.join(OUT, f"{os.path.basename(os.path.dirname(path))}_{os.path.basename(path)[:-4]}_{task}.tsv")
    if not os.path.exists(out):
        header, rows = runs.read(path)
        names = [title.split(":")[0] for title in header]
        kept = [names.index(task), names.index("text")]
        runs.write(out, [header[i] for i in kept], [[row[i] for i in kept] for row in rows])
    return out


def files_of(pair):
    """For each task of a pair (or of the map): files to train on, to choose by, and apart."""
    if pair == "map":
        return {task: (runs.subset(MAP_SET, MAP_SENTENCES, OUT), runs.source(MAP_SET, "valid"),
                       runs.subset(MAP_SET, APART, OUT, skip=MAP_SENTENCES)) for task in runs.SETS[MAP_SET][1]}
    return {task: tuple(one_task(path, task) for path in (runs.subset(name, count, OUT), runs.source(name, "valid"),
                                                          runs.subset(name, APART, OUT, skip=count)))
            for task, (name, count) in PAIRS[pair].items()}


def alone(pair, task):
    """Passes over a task's own sentences that are half as many sentences as a joint training sees."""
    sizes = {name: count for name, (_, count) in PAIRS[pair].items()}
    return EPOCHS * sum(sizes.values()) // (2 * sizes[task])


def options_of(pair, regime):
    """Tasks and options of a training."""
    if pair == "map":
        weights = [word for weight in regime.split() for word in ("--weight", weight)]
        return runs.SETS[MAP_SET][1], ["--epochs", str(MAP_EPOCHS)] + weights
    if regime in ALONE:
        task = list(PAIRS[pair])[ALONE.index(regime)]
        return [task], ["--epochs", str(alone(pair, task))]
    return list(PAIRS[pair]), ["--epochs", str(EPOCHS)] + REGIMES[regime]


def train(pair, regime, seed, place):
    """One model; a row for each task, or the program's message."""
    tasks, options = options_of(pair, regime)
    files = list(dict.fromkeys(of for task, of in files_of(pair).items() if task in tasks))
    model, seconds = runs.train(tasks, seed, [of[:2] for of in files], SETTINGS + ["--batch", str(BATCH)] + options, place)
    if seconds is None:
        return model
    scores = runs.evaluate(model, [of[2] for of in files], tasks)
    updates = runs.describe(model)["training"]["updates"]
    return [[pair, regime, seed, task, scores[task], updates, seconds] for task in tasks]


def passes(pair, regime):
    """How often a training reads each file: by the samplers' rules, in the mean where they draw."""
    sizes = [count for _, count in PAIRS[pair].values()]
    powers = {"proportional": [1], "temperature": [1 / TEMPERATURE],
              "annealed": [1 - i / (EPOCHS - 1) * (1 - 1 / TEMPERATURE) for i in range(EPOCHS)]}.get(regime, [0])
    shares = [statistics.mean(n ** a / sum(m ** a for m in sizes) for a in powers) for n in sizes]
    return [EPOCHS * sum(sizes) * share / n for share, n in zip(shares, sizes)]


def means(of):
    """{task: score} for each seed: the mean over tasks for each seed."""
    return {seed: statistics.mean(scores.values()) for seed, scores in of.items()}


def print_pair(pair, measured):
    """A table with a row for each regime, and the tasks alone."""
    of, cost = {}, {}
    for _, regime, seed, task, value, updates, seconds in (row for row in measured if row[0] == pair):
        label = "alone" if regime in ALONE else regime
        of.setdefault(label, {}).setdefault(seed, {})[task] = float(value)
        cost.setdefault(label, {})[seed, regime] = (int(updates), float(seconds))
    of = {label: {seed: scores for seed, scores in seeds.items() if len(scores) == 2} for label, seeds in of.items()}
    bases, rows = {base: means(of.get(base, {})) for base in ("proportional", "round-robin")}, []
    for label in [label for label in ["alone"] + list(REGIMES) if of.get(label)]:
        less = [[value - of_base[seed] for seed, value in means(of[label]).items() if seed in of_base and label != base]
                for base, of_base in bases.items()]
        read = [alone(pair, task) for task in PAIRS[pair]] if label == "alone" else passes(pair, label)
        total = [sum(x[i] for x in cost[label].values()) / len({seed for seed, _ in cost[label]}) for i in (0, 1)]
        rows.append([label, f"{total[0]:.0f}"] + [f"{times:.0f}" for times in read] +
                    [shown([scores[task] for scores in of[label].values()], "") for task in PAIRS[pair]] +
                    [shown(list(means(of[label]).values()), ""), *[shown(x) if x else "" for x in less], f"{total[1]:.0f}"])
    print(f"\n**{pair}**: " + ", ".join(f"{task} ({name}, {count} sentences)" for task, (name, count) in PAIRS[pair].items())
          + f"; {len(bases['proportional'])} seeds, 95 % intervals\n")
    print(runs.markdown(["regime", "updates"] + [f"{task} read, times" for task in PAIRS[pair]] + list(PAIRS[pair])
                        + ["mean"] + [f"less that of {base}" for base in bases] + ["processor s"], rows))


def weight(x):
    """A weight of the grid as text."""
    return f"{x:g}" if x >= 1 else f"1/{1 / x:.0f}"


def point(slots, scenario):
    """A point of the map, as it is written in the table."""
    return f"slots={slots:.4g} scenario={scenario:.4g}"


def map_of(measured):
    """{panel: {(slots, scenario): score for each seed}}, panels: each task, and their mean."""
    of = {}
    for _, regime, seed, task, value, *_ in (row for row in measured if row[0] == "map"):
        of.setdefault(regime, {}).setdefault(seed, {})[task] = float(value)
    tasks, panels = runs.SETS[MAP_SET][1], {}
    for slots in GRID["slots"]:
        for scenario in GRID["scenario"]:
            seeds = [scores for scores in of.get(point(slots, scenario), {}).values() if len(scores) == len(tasks)]
            for panel in tasks + ["mean"] if seeds else []:
                panels.setdefault(panel, {})[slots, scenario] = [
                    statistics.mean(scores.values()) if panel == "mean" else scores[panel] for scores in seeds]
    return panels


def spread(cells):
    """Half of the 95 % interval of a cell's mean, by the deviation within cells, which all of them share; None for one seed."""
    within = [(statistics.variance(cell), len(cell)) for cell in cells if len(cell) > 1]
    if not within:
        return None
    freedom = sum(n - 1 for _, n in within)
    deviation = (sum(v * (n - 1) for v, n in within) / freedom) ** 0.5
    return (1.96 + 2.4 / freedom) * deviation / statistics.mean(n for _, n in within) ** 0.5


def print_map(measured):
    """A table for each panel of the map: rows are weights of slots, columns of scenario."""
    panels = map_of(measured)
    for panel, cells in panels.items():
        known, best = spread(cells.values()), max(cells, key=lambda key: statistics.mean(cells[key]))
        print(f"\n**{panel}** by the weights of slots (rows) and scenario (columns), {FIXED} has 1; "
              f"{len(cells[best])} seeds" + (f", a cell ± {known:.1f}" if known else "") + "\n")
        rows = []
        for slots in GRID["slots"]:
            texts = {key: f"{statistics.mean(values):.1f}" for key, values in cells.items()}
            texts[best] = f"**{texts[best]}**"
            rows.append([weight(slots)] + [texts.get((slots, scenario), "") for scenario in GRID["scenario"]])
        print(runs.markdown([""] + [weight(x) for x in GRID["scenario"]], rows))
    return panels


def draw(panels):
    """The map as a figure: for each panel its points as places on the grid, the score, and the score as text."""
    blocks = {panel: [(GRID["scenario"].index(scenario), GRID["slots"].index(slots), f"{statistics.mean(values):.4g}",
                       f"{statistics.mean(values):.1f}") for (slots, scenario), values in cells.items()]
              for panel, cells in panels.items()}
    runs.draw("study_regimes", {"regimes_map.tsv": blocks}, panels=" ".join(panels),
              xlabels=" ".join(map(weight, GRID["scenario"])), ylabels=" ".join(map(weight, GRID["slots"])))


def print_tables(measured):
    """Prints all tables and draws the figure."""
    print(f"Settings: mtl train {' '.join(SETTINGS)} --batch {BATCH}; pairs: --epochs {EPOCHS}; map: {MAP_SENTENCES} sentences "
          f"of {MAP_SET}, --epochs {MAP_EPOCHS}; scores of {APART} sentences apart")
    for pair in PAIRS:
        if any(row[0] == pair for row in measured):
            print_pair(pair, measured)
    panels = print_map(measured)
    if panels and all(len(cells) == len(GRID["slots"]) * len(GRID["scenario"]) for cells in panels.values()):
        draw(panels)


def main():
    runs.enter(OUT)
    table, jobs = runs.Table(f"{OUT}/regimes.tsv", COLUMNS), []
    if "--table" in sys.argv:
        return print_tables(table.rows())
    for pair in runs.chosen("SETS", " ".join(PAIRS) + " map"):
        files_of(pair)
        regimes = ALONE + list(REGIMES)
        if pair == "map":
            regimes = [point(slots, scenario) for slots in GRID["slots"] for scenario in GRID["scenario"]]
        for seed in range(1, 1 + min(runs.number("SEEDS", 5), MAP_SEEDS if pair == "map" else 99)):
            jobs += [((pair, regime, str(seed)), lambda place, job=(pair, regime, seed): train(*job, place))
                     for regime in regimes]
    print_tables(table.measure(jobs))


if __name__ == "__main__":
    sys.exit(main())
