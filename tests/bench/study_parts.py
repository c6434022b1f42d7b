#!/usr/bin/env python3
"""What are single parts worth? Trains a model for each variant of a study on a part of each data set, and shows every task's score
beside that of the study's first variant. Run by `make study-NAME`; every finished run is a line for each task in
build/study/NAME.tsv, so a run that was interrupted goes on where it stopped.

    study_parts.py NAME [--table]       --table: nothing is trained; prints what has been measured, as Markdown

    ablation    the preset `best` for 16 epochs, one part off at a time
    curves      the preset `best` at 5, 20 and 100 % of the data, joint and single
    crf         tags each for itself, or as one choice, under two presets
    characters  what is read of words beside themselves
    attention   how a sequence's rows become one, with and without self-attention below

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL [build/mtl], JOBS [2], SEEDS [3],
SENTENCES of a training set [1500], SETS separated by spaces [the study's].
"""
import os
import sys

import runs
from runs import markdown, shown, source

OUT = "build/study"
PLAIN, BEST = ["--preset", "plain", "--share", "full"], ["--preset", "best", "--share", "full"]
SHORT = BEST + ["--epochs", "16"]           # not the 41 that 1,500 sentences get: there are 90 trainings
OFF = {
    "characters": ["--chars", "none"], "affixes": ["--no-affixes"], "gazetteer": ["--gazetteer", "none"],
    "word dropout": ["--word-dropout", "0"], "language model": ["--lm", "none"],
    "self-attention": ["--set", "share.attention=0"], "crf": ["--head", "slots=softmax"], "R-Drop": ["--set", "trainer.rdrop=0"],
    "swapped spans": ["--swap", "0"], "masks per sequence": [word for of in ("input", "characters", "affixes", "gazetteer", "task.*")
                                                             for word in ("--set", f"{of}.dropout_per_sequence=0")],
    "equal lengths": ["--set", "fit.equal_length=0"], "sums over steps": ["--set", "trainer.sum_steps=0"],
    "average of the weights": ["--set", "trainer.average=0"], "attention beside max": ["--pool", "max"],
}
POOLS = ["max", "last", "mean", "attention", "additive", "dot", "attention+max"]
WORDS = {"words alone": [], "characters, cnn": ["--chars", "cnn"], "characters, gru": ["--chars", "gru"],
         "characters, lstm": ["--chars", "lstm"], "affixes": ["--affixes"], "cnn and affixes": ["--chars", "cnn", "--affixes"]}
# study: sets, shares of the sentences in %, whether single tasks are trained, too, {variant: options}
STUDIES = {
    "ablation": ("snips atis", [100], False, {"best": SHORT, **{f"without {name}": SHORT + off for name, off in OFF.items()}}),
    "curves": ("snips hwu64", [5, 20, 100], True, {"best": BEST}),
    "crf": ("snips atis hwu64", [100], False, {f"{preset}, {head}": options + ["--head", f"slots={head}"]
                                               for preset, options in (("plain", PLAIN), ("best", BEST))
                                               for head in ("softmax", "crf")}),
    "characters": ("snips atis hwu64", [100], False, {name: PLAIN + options for name, options in WORDS.items()}),
    "attention": ("snips hwu64 clinc150", [100], False,
                  {f"{pool}{title}": PLAIN + ["--pool", pool] + options for pool in POOLS
                   for title, options in (("", []), (", self-attention", ["--set", "share.attention=1"]))}),
}
COLUMNS = ["set", "amount", "variant", "how", "seed", "task", "score", "seconds"]
SENTENCES = runs.number("SENTENCES", 1500)


def train(name, amount, how, seed, options, place):
    """One model; a row for each task, or the program's message."""
    tasks = runs.SETS[name][1] if how == "joint" else [how]
    path = runs.subset(name, SENTENCES * amount // 100, OUT, seed)
    model, seconds = runs.train(tasks, seed, [(path, source(name, "valid"))], options, place)
    if seconds is None:
        return model
    scores = runs.evaluate(model, [source(name, "valid")], tasks)
    return [[task, scores[task], seconds] for task in tasks]


def table(rows, variants, amounts, single):
    """Of each set: scores of the study's first variant, or of single tasks, then what the others gain on these."""
    scores, first = {}, "alone" if single else list(variants)[0]
    for name, amount, variant, how, seed, task, value, _ in rows:
        of = first if how != "joint" else variant
        scores.setdefault(name, {}).setdefault(task, {}).setdefault((int(amount), of), {})[seed] = float(value)
    for name, tasks in scores.items():
        lines = []
        for amount in amounts:
            for variant in dict.fromkeys([first, *variants]):
                entries = [entry(of.get((amount, first), {}), of.get((amount, variant), {}), variant == first) for of in tasks.values()]
                lines.append([f"{amount} %, {variant}" if len(amounts) > 1 else variant] + entries)
        print(markdown([name, *tasks], lines) + "\n")


def entry(base, found, is_base):
    return shown(list(base.values()), "") if is_base else shown([found[seed] - base[seed] for seed in found if seed in base])


def main():
    study = sys.argv[1]
    sets, amounts, single, variants = STUDIES[study]
    runs.enter(OUT)
    results, jobs = runs.Table(os.path.join(OUT, f"{study}.tsv"), COLUMNS), []
    for seed in range(1, 1 + runs.number("SEEDS", 3)):
        for name in runs.chosen("SETS", sets):
            for amount in amounts:
                for variant, options in variants.items():
                    for how in ["joint"] + (runs.SETS[name][1] if single else []):
                        key = (name, str(amount), variant, how, str(seed))

                        def run(place, key=key, of=(name, amount, how, seed, options)):
                            rows = train(*of, place)
                            return rows if isinstance(rows, str) else [list(key) + row for row in rows]
                        jobs.append((key, run))
    rows = results.rows() if "--table" in sys.argv else results.measure(jobs)
    print(f"\n{SENTENCES} sentences are 100 %; points on the validation data, means over seeds with 95 % intervals\n")
    table(rows, variants, amounts, single)


if __name__ == "__main__":
    sys.exit(main())
