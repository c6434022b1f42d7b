#!/usr/bin/env python3
"""How far back do gradients reach in a multi-task RNN, and what helps? Trains small networks on tasks whose answer lies 10 to 400
steps back, with four cells and with one remedy at a time, alone and beside a second task that has an answer at each step. Run by
`make study-gradients`; every finished run is a line of build/study/gradients.tsv, so a run that was interrupted goes on where it
stopped. study_gradients.c says what the tasks are.

    study_gradients.py [--table]        --table: nothing is trained; prints what has been measured, as Markdown, and draws
                                        its figure, study_gradients.svg

A ladder is a training at each of RUNGS steps until one fails; at FIXED steps every network is trained, so that all can be
compared. Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], SETS [recall adding snips]: the
made tasks, and data sets with a class for each text and tags; SEEDS [3], JOBS [2].
"""
import collections
import json
import math
import os
import statistics
import subprocess
import sys

import runs
from runs import shown, source

OUT = "build/study"
PROGRAM = "build/study_gradients"
# The same for all cells and remedies
UPDATES, HIDDEN, BATCH, GOAL = 1000, 32, 32, 0.95
RATES = ("0.002", "0.01")
RUNGS, FIXED, LONGEST = (10, 30, 60, 120, 240, 400), 60, 400
JOINED = {1: 12, 8: 60}             # sentences in a row: words of the texts that gradients are shown of
DISTANCES = [0, 1, 2, 3, 5, 7, 11, 15, 20, 29, 40, 59, 80, 119, 160, 239, 300, 399]
CHANCE = {"recall": 100 / 8, "adding": 0}

CELLS = {
    "RNN": ["column.cell=rnn"],
    "RNN-ReLU": ["column.cell=rnn", "column.activation=relu"],
    "GRU": ["column.cell=gru"],
    "LSTM": ["column.cell=lstm"],
}
PLAIN, GATED = ("RNN", "RNN-ReLU"), ("GRU", "LSTM")
REMEDIES = {                        # options, cells
    "none": ([], PLAIN + GATED),
    "clip": (["trainer.clip_norm=1"], PLAIN + GATED),
    "orthogonal": (["init=orthogonal"], PLAIN + GATED),
    "identity": (["init=identity"], PLAIN),
    "identity + clip": (["init=identity", "trainer.clip_norm=1"], PLAIN),
    "gate +1": (["keep=1"], GATED),
    "gate +3": (["keep=3"], GATED),
    "chrono": (["chrono=1"], GATED),
    "mean pool": (["task.pool=mean"], PLAIN + GATED),
    "max pool": (["task.pool=max"], PLAIN + GATED),
    "two layers": (["layers=2"], PLAIN + GATED),
    "two layers + skip": (["layers=2", "skip=1"], PLAIN + GATED),
}
# The remedy that a cell has beside second tasks
OWN = {"RNN": "orthogonal", "RNN-ReLU": "identity + clip", "GRU": "gate +3", "LSTM": "gate +3"}
SECONDS = {"recall": ("echo", "echo/10", "next", "delay", "answer"), "adding": ("echo", "echo/10", "delay", "answer")}
TEXT_REMEDIES = ("none", "gate +3", "mean pool", "max pool")
COLUMNS = ["data", "cell", "remedy", "second", "rate", "seed", "steps", "score", "beside", "updates", "learnt", "diverged",
           "most", "seconds", "start", "end"]
Row = collections.namedtuple("Row", COLUMNS)


# ---- measuring ------------------------------------------------------------------------------------------------------

def sampled(curve):
    """The values at DISTANCES from the end, between commas."""
    return ",".join("nan" if curve[-1 - d] is None else f"{curve[-1 - d]:.4g}" for d in DISTANCES if d < len(curve))


def train(key, steps, more):
    """One training: its row, or the program's message."""
    _, cell, remedy, second, rate, seed = key
    second, _, part = second.partition("/")
    command = [PROGRAM, f"second={second}", f"weight={1 / float(part or 1)}", f"steps={steps}", f"seed={seed}",
               f"trainer.lr={rate}", f"batch={BATCH}", f"column.hidden={HIDDEN}"] + CELLS[cell] + REMEDIES[remedy][0] + more
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip()
    result = json.loads(done.stdout)
    numbers = [100 * result["score"], 100 * result["second"], result["updates"], result["learnt"], result["diverged"],
               result["most"] or float("inf"), result["seconds"]]
    return [*key, steps, *numbers, sampled(result["start"]), sampled(result["end"])]


def ladder(key):
    """Rows of the trainings from the lowest rung to the first that fails, and of the one at FIXED steps."""
    rows, failed = [], False
    for steps in RUNGS:
        if failed and steps != FIXED:
            continue
        row = train(key, steps, [f"data={key[0]}", f"updates={UPDATES}", f"goal={GOAL}"])
        if isinstance(row, str):
            return row
        rows.append(row)
        failed = failed or not Row(*row).learnt
    return rows


def untrained(key):
    """A row whose curve has LONGEST steps, of a network that has learnt nothing."""
    row = train(key[:4] + RATES[:1] + key[5:], LONGEST, [f"data={key[0]}"])
    return row if isinstance(row, str) else [[*key, *row[6:]]]


def text(key, name, join):
    """A row of the training on `join` texts in a row, the first of which has the class that is asked for."""
    row = train(key, JOINED[join], ["data=text", f"join={join}", f"updates={UPDATES}"]
                + [f"{part}={numbers_path(name, part)}" for part in ("train", "valid")])
    return row if isinstance(row, str) else [row]


def numbers_path(name, part):
    return os.path.join(OUT, f"gradients_{name}_{part}.txt")


def labelled(name, part):
    """(words, class, tags) of each text of a set: its first task of either kind."""
    titles, rows = runs.read(source(name, part))
    kinds = [title.split(":")[-1] for title in titles]
    word, label, tag = titles.index("text"), kinds.index("class"), kinds.index("tags")
    return [(row[word].split(), row[label], row[tag].split()) for row in rows]


def as_numbers(name):
    """Writes a set as the program reads it. Ids: 0 an unknown word, 1 between texts, then words seen twice."""
    parts = {part: labelled(name, part) for part in ("train", "valid")}
    counts = collections.Counter(word for words, _, _ in parts["train"] for word in words)
    ids = {word: 2 + i for i, word in enumerate(sorted(word for word, n in counts.items() if n > 1))}
    names = {label for _, label, _ in parts["train"]}, {tag for _, _, tags in parts["train"] for tag in tags}
    classes, tags = [{name: i for i, name in enumerate(sorted(of - {"_"}))} for of in names]
    for part, texts in parts.items():
        with open(numbers_path(name, part), "w", encoding="utf-8") as file:
            print(len(classes), len(tags), 2 + len(ids), len(texts), sum(len(words) for words, _, _ in texts), file=file)
            for words, label, tagged in texts:
                print(classes.get(label, -1), len(words), *[ids.get(word, 0) for word in words],
                      *[tags.get(tag, -1) for tag in (tagged if len(tagged) == len(words) else words)], file=file)


def commonest(name):
    """Per cent of the validation data that are of the commonest class."""
    if not os.path.exists(numbers_path(name, "valid")):
        as_numbers(name)
    with open(numbers_path(name, "valid"), encoding="utf-8") as file:
        labels = [line.split(maxsplit=1)[0] for line in file][1:]
    return 100 * max(collections.Counter(labels).values()) / len(labels)


def made_jobs(data, seed):
    """Keys and functions of a made task: the gradients at first, one remedy at a time, second tasks."""
    found = []
    for remedy, (_, cells) in REMEDIES.items():
        for cell in cells:
            key = (data, cell, remedy, "none", "0", seed)
            found.append((key, lambda place, key=key: untrained(key)))
            seconds = ("none",) + (SECONDS[data] if remedy in ("none", OWN[cell]) else ())
            for key in [(data, cell, remedy, second, rate, seed) for second in seconds for rate in RATES]:
                found.append((key, lambda place, key=key: ladder(key)))
    return found


def text_jobs(name, seed):
    """Keys and functions of a data set."""
    found = []
    for join in JOINED:
        for remedy in TEXT_REMEDIES:
            for cell in [cell for cell in ("RNN", "GRU", "LSTM") if cell in REMEDIES[remedy][1]]:
                for second, rate in [(second, rate) for second in ("none", "tags") for rate in RATES]:
                    key = (f"{name} x{join}", cell, remedy, second, rate, seed)
                    found.append((key, lambda place, key=key, join=join: text(key, name, join)))
    return found


# ---- tables ---------------------------------------------------------------------------------------------------------

def curve(row, part="start"):
    """distance: gradient, of those that are known."""
    values = [float(x) for x in getattr(row, part).split(",")]
    return {d: value for d, value in zip(DISTANCES, values) if value > 0}


def geometric(values):
    return math.exp(statistics.mean(math.log(v) for v in values)) if values else 0


def rung(rows):
    """The number of rungs that a ladder climbed, and the last one's steps."""
    done = [row for row in rows if row.learnt != "0"]
    climbed = [steps for i, steps in enumerate(RUNGS) if sum(int(row.steps) <= steps for row in done) == i + 1]
    return len(climbed), max(climbed, default=0)


class Network:
    """The ladders of one network, a seed each, at the rate at which they are the better: longer, then with the better score."""

    def __init__(self, measured, data, cell, remedy, second):
        self.key, of = (data, cell, remedy, second), {}
        for row in measured:
            if row[:4] == self.key and row.rate != "0":
                of.setdefault(row.rate, {}).setdefault(row.seed, []).append(row)
        self.untrained = [row for row in measured if row[:5] == (data, cell, remedy, "none", "0")]
        self.rate = max(of, key=lambda rate: self.quality(of[rate]), default=None)
        self.ladders = of.get(self.rate, {})
        self.rungs = [rung(rows)[1] for rows in self.ladders.values()]
        self.fixed = {seed: row for seed, rows in self.ladders.items() for row in rows
                      if int(row.steps) in (FIXED, *JOINED.values())}
        self.scores = {seed: float(row.score) for seed, row in self.fixed.items()}

    @staticmethod
    def quality(ladders):
        return sum(rung(rows)[0] for rows in ladders.values()), sum(float(rows[-1].score) for rows in ladders.values())

    def norm(self, part, distance):
        """The gradient at that distance, a geometric mean over seeds, as text; 0 where it is below the smallest float."""
        rows = self.untrained if part == "untrained" else self.fixed.values()
        curves = [curve(row, "end" if part == "end" else "start") for row in rows if part != "end" or row.diverged == "0"]
        if not curves or not all(distance in c for c in curves):
            return "0" if curves else "-"
        return f"{geometric([c[distance] for c in curves]):.0e}"

    def against(self, other):
        """Differences of the same seeds' scores, as text; nothing against itself."""
        if self.key == other.key:
            return ""
        return shown([score - other.scores[seed] for seed, score in self.scores.items() if seed in other.scores])

    def cells(self, base):
        """What all tables say of it: score, gain over `base`, steps learnt."""
        return [shown(self.scores.values(), ""), self.against(base), " ".join(map(str, sorted(self.rungs)))]

    def most(self):
        """The largest norm of a whole gradient in training."""
        stopped = sum(row.diverged == "1" for row in self.fixed.values())
        return f"{max(float(row.most) for row in self.fixed.values()):.0e}" + (f" ({stopped} stopped)" if stopped else "")


def table_of(title, head, rows):
    print(f"\n{title}\n\n{runs.markdown(head, rows)}")


def print_steps(measured, data):
    """The ladders alone: remedies by cells, second tasks by cells as they are and with their own remedies."""
    def steps(*network):
        return " ".join(map(str, sorted(Network(measured, data, *network).rungs)))
    rows = [[remedy] + [steps(cell, remedy, "none") for cell in CELLS] for remedy in REMEDIES]
    table_of(f"**{data}, steps learnt alone**, each seed; 0: not even {RUNGS[0]}", ["remedy", *CELLS], rows)
    networks = [(cell, remedy) for cell in CELLS for remedy in ("none", OWN[cell])]
    rows = [[second] + [steps(*of, second) for of in networks] for second in ("none",) + SECONDS[data]]
    table_of(f"**{data}, steps learnt beside a second task**, each seed",
             ["second task", *[cell if remedy == "none" else f"{cell}, {remedy}" for cell, remedy in networks]], rows)


def print_made(measured, data):
    """One remedy at a time."""
    rows = []
    for cell in CELLS:
        base = Network(measured, data, cell, "none", "none")
        for remedy in REMEDIES:
            of = Network(measured, data, cell, remedy, "none")
            if of.scores:
                norms = of.norm("start", FIXED - 1), of.norm("untrained", LONGEST - 1), of.norm("end", FIXED - 1)
                rows.append([cell, remedy, of.rate, *of.cells(base), *norms, of.most()])
    table_of(f"**{data}, one remedy at a time**, alone: score at {FIXED} steps (chance {CHANCE[data]:g}), 95 % intervals",
             ["cell", "remedy", "rate", "score", "gain", "steps learnt, each seed", f"dL/dh at first: {FIXED - 1} back",
              f"{LONGEST - 1} back", f"after: {FIXED - 1} back", "largest gradient"], rows)


def print_second(measured, data):
    """Each cell, as it is and with its own remedy, beside second tasks."""
    rows = []
    for cell, remedy in [(cell, remedy) for cell in CELLS for remedy in ("none", OWN[cell])]:
        alone = Network(measured, data, cell, remedy, "none")
        for second in ("none",) + SECONDS[data]:
            of = Network(measured, data, cell, remedy, second)
            if of.scores:
                beside = shown([float(row.beside) for row in of.fixed.values()], "") if second != "none" else ""
                rows.append([cell, remedy, second, of.rate, *of.cells(alone), beside, of.norm("end", FIXED - 1)])
    table_of(f"**{data}, beside a second task**: score of the long task at {FIXED} steps, gain over training it alone",
             ["cell", "remedy", "second task", "rate", "score", "gain", "steps learnt, each seed", "second task's score",
              f"dL/dh after: {FIXED - 1} back"], rows)


def print_text(measured, data):
    """Each cell and pool, alone and beside tags."""
    name, join = data.rsplit(" x", 1)
    rows, back = [], JOINED[int(join)] - 1
    for cell, remedy in [(cell, remedy) for cell in CELLS for remedy in TEXT_REMEDIES]:
        base = Network(measured, data, cell, "none", "none")
        alone, beside = [Network(measured, data, cell, remedy, second) for second in ("none", "tags")]
        if alone.scores and beside.scores:
            rows.append([cell, remedy, *alone.cells(base)[:2], *beside.cells(alone)[:2], alone.norm("start", back),
                         alone.norm("end", back), beside.norm("end", back)])
    table_of(f"**{name}, {join} in a row**: accuracy of the first text's class on the validation data, after {UPDATES} updates "
             f"(the commonest class: {commonest(name):.1f})",
             ["cell", "remedy", "alone", "gain over no remedy", "beside tags", "gain of tags", f"dL/dh at first: {back} back",
              "after, alone", "after, beside tags"], rows)


def print_tables(measured):
    print(f"{HIDDEN} units, embeddings of 32, Adam at the better of the rates {' and '.join(RATES)} (chosen for each line), "
          f"{BATCH} sequences an update, {UPDATES} updates at most. A made task is learnt at a score of {100 * GOAL:g} %, which "
          "ends the training. Scores: recall and text accuracy, adding R2, in %; NAME/10: a second task of weight 0.1.")
    for data in dict.fromkeys(row.data for row in measured):
        if data in CHANCE:
            print_steps(measured, data)
            print_made(measured, data)
            print_second(measured, data)
        else:
            print_text(measured, data)


# ---- the figure -----------------------------------------------------------------------------------------------------

def line(rows, part, relative=True):
    """(steps back, gradient) points, relative: as shares of that at the last step; geometric means over rows."""
    curves = [curve(row, part) for row in rows if row.diverged == "0"]
    curves = [{d: v / (c[0] if relative else 1) for d, v in c.items()} for c in curves if 0 in c]
    return [(d, geometric([c[d] for c in curves])) for d in DISTANCES if curves and all(d in c for c in curves)]


def reach(measured, cell, remedy):
    """(number of the second task, steps learnt) points: geometric means, 1 where nothing is learnt."""
    networks = [Network(measured, "recall", cell, remedy, second) for second in ("none",) + SECONDS["recall"]]
    return [(i, geometric([max(1, steps) for steps in of.rungs])) for i, of in enumerate(networks) if of.rungs]


def panels(measured, text_set):
    """name: {title: points} of each panel of the figure."""
    first = [("RNN", "none"), ("RNN", "orthogonal"), ("RNN-ReLU", "identity"), ("GRU", "none"), ("GRU", "gate +3"),
             ("LSTM", "none"), ("LSTM", "gate +3"), ("LSTM", "chrono")]
    pools = [(cell, pool, second) for cell in GATED for pool in ("none", "max pool") for second in ("none", "tags")]
    return {
        "first": {f"{cell}, {remedy}": line(Network(measured, "recall", cell, remedy, "none").untrained, "start")
                  for cell, remedy in first},
        "second": {f"{cell}, {second}": line(Network(measured, "recall", cell, "none", second).fixed.values(), "end")
                   for cell in GATED for second in ("none", "echo", "next", "answer")},
        "learnt": {f"{cell}, {remedy}": reach(measured, cell, remedy)
                   for cell in CELLS for remedy in ("none", OWN[cell])},
        "text": {f"{cell}, {'last' if pool == 'none' else 'max'}{', tags' if second == 'tags' else ''}":
                 line(Network(measured, text_set, cell, pool, second).fixed.values(), "end", False)
                 for cell, pool, second in pools},
    }


def draw(measured):
    """The figure, of what there is."""
    text_set = next((row.data for row in measured if row.data.endswith(f" x{max(JOINED)}")), "")
    lines = {name: {title: points for title, points in of.items() if points} for name, of in panels(measured, text_set).items()}
    runs.draw("study_gradients", {f"gradients_{name}.tsv": of for name, of in lines.items()}, fixed=FIXED,
              texts=text_set.replace(" x", ", ") + " in a row", names=" ".join(("none",) + SECONDS["recall"]),
              networks="".join(f"{name}|" for name in lines["learnt"]),
              **{name: len(of) for name, of in lines.items()})


def main():
    runs.enter(OUT)
    table, jobs = runs.Table(os.path.join(OUT, "gradients.tsv"), COLUMNS), []
    if "--table" in sys.argv:
        measured = [Row(*row) for row in table.rows()]
        print_tables(measured)
        draw(measured)
        return
    sets = runs.chosen("SETS", "recall adding snips")
    for name in sets:
        if name not in CHANCE:
            as_numbers(name)
    for seed in map(str, range(1, 1 + runs.number("SEEDS", 3))):
        for name in sets:
            jobs += made_jobs(name, seed) if name in CHANCE else text_jobs(name, seed)
    print_tables([Row(*row) for row in table.measure(jobs)])


if __name__ == "__main__":
    sys.exit(main())
