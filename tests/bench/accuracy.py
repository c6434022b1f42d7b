#!/usr/bin/env python3
"""What does the preset `best` reach? Trains it with full sharing on each data set, whole, and shows its scores on the validation
data as means over seeds. Run by `make accuracy`; every finished run is a line for each score in build/accuracy/accuracy.tsv, so a
run that was interrupted goes on where it stopped.

    accuracy.py [--table]               --table: nothing is trained; prints what has been measured, as Markdown

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL [build/mtl], JOBS [2], SEEDS [3], SETS
with "; " between [all], OPTIONS of `mtl train` [--preset best --share full].
"""
import json
import os
import random
import statistics
import subprocess
import sys

import runs
from runs import markdown, source

OUT = "build/accuracy"
COLUMNS = ["set", "seed", "score", "value", "seconds"]
# set: the folder, the tasks, options beside those of the environment
SETS = {
    "snips": ("snips", "intent,slots", []), "atis": ("atis", "intent,slots", []),
    "atis, templates apart": ("atis", "intent,slots", []), "hwu64": ("hwu64", "scenario,intent,slots", []),
    "clinc150": ("clinc150", "domain,intent", []), "goemotions": ("goemotions", "emotions,ekman,polarity", []),
    "ud_en_ewt": ("ud_en_ewt", "upos,feats", []),
    "ewt_multi": ("ewt_multi", "genre,upos,ner", []), "wnut17": ("wnut17", "ner", []), "btc": ("btc", "ner", []),
    "mr": ("mr", "sentiment", []), "subj": ("subj", "subjective", []),
    "fsdd": ("fsdd", "digit,speaker,pitch", ["--sequence", "utt", "--features", ",".join(f"m{i}" for i in range(16)), "--task", "digit:class",
                                             "--task", "speaker:class", "--task", "pitch:real"]),
}


def template(row, header):
    """A sentence with its spans' types in place of their words: sentences alike but for values have one template."""
    words, tags = (row[header.index(title)].split(" ") for title in ("text", "slots:tags"))
    return " ".join(word if tag == "O" else tag[2:] for word, tag in zip(words, tags) if not tag.startswith("I-"))


def apart(name):
    """Training data in two parts, of which the second has a tenth of the templates, those that the first has not."""
    paths = [os.path.join(OUT, f"{name}_templates_{part}.tsv") for part in ("train", "valid")]
    header, rows = runs.read(source(name, "train"))
    templates = sorted({template(row, header) for row in rows})
    random.Random(1).shuffle(templates)
    away = set(templates[:len(templates) // 10])
    for path, wanted in zip(paths, (False, True)):
        runs.write(path, header, [row for row in rows if (template(row, header) in away) == wanted])
    return paths


def in_scope(path):
    """The file without the sentences of the class oos, which are none of the others'."""
    to = os.path.join(OUT, "in_scope.tsv")
    header, rows = runs.read(path)
    runs.write(to, header, [row for row in rows if "oos" not in row])
    return to


def files(name):
    """Training and validation data."""
    folder = SETS[name][0]
    if "templates" in name:
        return apart(folder)
    paths = [source(folder, part) for part in ("train", "valid")]
    if not os.path.exists(paths[0]):
        paths = [os.path.join(runs.DATA, folder, part + ".conllu") for part in ("train", "valid")]
    return paths


def scores_of(model, how, path):
    """(name, value) pairs of what `mtl eval` says of a model on a file."""
    command = [runs.MTL, "eval", "--model", model, how, path, "--json"]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for task, of in answer["tasks"].items():
        for name in ("span_f1", "accuracy", "token_accuracy", "macro_f1", "micro_f1", "rmse", "r2"):
            if name in of and task != "lm":
                yield f"{task} {name}", of[name] * (1 if name == "rmse" else 100)
                if name == "span_f1":
                    break
    if "joint_accuracy" in answer:
        yield "all right", 100 * answer["joint_accuracy"]


def train(name, seed, place):
    """One model; a row for each score, or the program's message."""
    train_path, valid_path = files(name)
    how = "--frames" if train_path.endswith(".csv") else "--data"
    _, tasks, more = SETS[name]
    model = f"{place}.safetensors"
    command = [runs.MTL, "train", how, train_path, "--valid", valid_path, "--only", tasks, "--seed", str(seed), "--threads", "1",
               "--quiet", "--out", model] + more + runs.chosen("OPTIONS", "--preset best --share full")
    status, said, seconds = runs.timed(command, place)
    if status:
        return (said or "?").splitlines()[-1]
    scores = list(scores_of(model, how, valid_path))
    if name == "clinc150":
        scores += [(f"in scope: {score}", value) for score, value in scores_of(model, how, in_scope(valid_path))]
    return [[name, str(seed), score, value, seconds] for score, value in scores]


def main():
    runs.enter(OUT)
    results, jobs = runs.Table(os.path.join(OUT, "accuracy.tsv"), COLUMNS), []
    for seed in range(1, 1 + runs.number("SEEDS", 3)):
        for name in os.environ["SETS"].split("; ") if "SETS" in os.environ else SETS:
            jobs.append(((name, str(seed)), lambda place, of=(name, seed): train(*of, place)))
    found = {}
    for name, _, score, value, seconds in results.rows() if "--table" in sys.argv else results.measure(jobs):
        found.setdefault((name, score), []).append((float(value), float(seconds)))
    print("\nValidation data; means over seeds ± the standard deviation; processor seconds of a training\n")
    print(markdown(["set", "score", "seeds", "mean", "each", "s"],
                   [[name, score, len(of), f"{statistics.mean(v for v, _ in of):.1f}" +
                     (f" ± {statistics.stdev(v for v, _ in of):.1f}" if len(of) > 1 else ""), ", ".join(f"{v:.1f}" for v, _ in of),
                     f"{statistics.mean(s for _, s in of):.0f}"] for (name, score), of in found.items()]))


if __name__ == "__main__":
    sys.exit(main())
