"""What the scripts that train many models have in common: data sets and parts of them, one training, jobs on several cores whose
finished runs are lines of a table, so that a script that was interrupted goes on where it stopped; means with their intervals.

Environment (defaults in brackets): MTL_DATA the folder with the sets [../shared/data], MTL the command [build/mtl], JOBS trainings
at a time [2].
"""
import json
import math
import os
import queue
import random
import statistics
import subprocess
import threading

DATA = os.environ.get("MTL_DATA", "../shared/data")
MTL = os.environ.get("MTL", "build/mtl")
JOBS = int(os.environ.get("JOBS", "2"))
# name: data sets, tasks
SETS = {
    "hwu64": (["hwu64"], ["scenario", "intent", "slots"]),
    "snips": (["snips"], ["intent", "slots"]),
    "atis": (["atis"], ["intent", "slots"]),
    "mr+ner": (["mr", "ewt_multi"], ["sentiment", "ner"]),
    "ewt_multi": (["ewt_multi"], ["genre", "upos", "ner"]),
    "clinc150": (["clinc150"], ["domain", "intent"]),
    "home": (["examples"], ["intent", "slots", "mood", "urgency"]),
}


def chosen(name, default):
    """The words of an environment variable."""
    return os.environ.get(name, default).split()


def number(name, default):
    return int(os.environ.get(name, str(default)))


def enter(folder):
    """Goes to the project's root and makes the folder of results."""
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    os.makedirs(folder, exist_ok=True)


def source(name, part):
    """Path of a set's `part`, train or valid."""
    return f"examples/data/home_{part}.tsv" if name == "examples" else os.path.join(DATA, name, part + ".tsv")


def read(path):
    """Header and rows of a TSV file."""
    with open(path, encoding="utf-8") as file:
        header, *rows = [line.rstrip("\n").split("\t") for line in file]
    return header, rows


def write(path, header, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in [header] + rows:
            file.write("\t".join(row) + "\n")


def tasks_of(path):
    return [title.split(":")[0] for title in read(path)[0] if ":" in title]


def subset(name, count, folder):
    """The first `count` of a training set's lines in a seeded random order, as a file."""
    path = os.path.join(folder, f"{name}_{count}.tsv")
    if not os.path.exists(path):
        header, lines = read(source(name, "train"))
        random.Random(1).shuffle(lines)
        write(path, header, lines[:count])
    return path


def score(task):
    """A task's score from 0 to 100, as the command's early stopping takes it."""
    if "span_f1" in task:
        return 100 * task["span_f1"]
    if "r2" in task:
        return 100 * max(0, task["r2"])
    return 100 * task.get("accuracy", task.get("token_accuracy", task.get("micro_f1", 0)))


def evaluate(model, paths, tasks):
    """task: score, on all files."""
    command = [MTL, "eval", "--json", "--model", model, "--only", ",".join(tasks)]
    for path in paths:
        command += ["--data", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name: score(task) for name, task in json.loads(done.stdout)["tasks"].items()}


def describe(model):
    """What `mtl info` says of a model."""
    return json.loads(subprocess.run([MTL, "info", "--model", model, "--json"], capture_output=True, text=True, check=True).stdout)


def timed(command, place):
    """Runs a command that reads the file PLACE.in; its status, its messages, and its processor seconds alone."""
    with open(f"{place}.in", "a+", encoding="utf-8") as lines, open(f"{place}.err", "w+", encoding="utf-8") as said:
        lines.seek(0)
        child = subprocess.Popen(command, stdin=lines, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return child.returncode, said.read().strip(), used.ru_utime


def answer_time(model, path, place):
    """Processor microseconds for each line of text of `mtl predict`, the least of three; starting it is taken off."""
    header, rows = read(path)
    texts = [row[header.index("text")] for row in rows][:1000]
    least = []
    for lines in (texts[:1], texts):
        with open(f"{place}.in", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        least.append(min(timed([MTL, "predict", "--model", model, "--threads", "1"], place)[2] for _ in range(3)))
    return 1e6 * (least[1] - least[0]) / (len(texts) - 1)


def train(tasks, seed, files, options, place):
    """One model of these tasks: its path and its processor seconds, or the program's message. files: (training, validation) paths,
    of which those are taken that know one of the tasks. The log is PLACE.log."""
    model = f"{place}.safetensors"
    command = [MTL, "train", "--only", ",".join(tasks), "--seed", str(seed), "--out", model, "--log", f"{place}.log",
               "--threads", "1", "--quiet"]
    for training, validation in files:
        if set(tasks_of(training)) & set(tasks):
            command += ["--data", training, "--valid", validation]
    status, said, seconds = timed(command + options, place)
    return ((said or "?").splitlines()[-1], None) if status else (model, seconds)


def epochs(place):
    """The log of the training at that place, a dict for each epoch."""
    with open(f"{place}.log", encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if "epoch" in line and "loss" in line]


class Table:
    """Finished runs, a line each, in a TSV file."""

    def __init__(self, path, columns):
        self.path, self.columns = path, columns

    def rows(self):
        return read(self.path)[1] if os.path.exists(self.path) else []

    def measure(self, jobs):
        """Runs what is missing. jobs: (key, function) where the key is the first columns of a row, as texts, and function(place) gives
        the run's rows, or a message. Files of a run begin with its `place`."""
        folder = os.path.dirname(self.path)
        known = self.rows()
        with open(self.path, "a", encoding="utf-8") as file:
            if not file.tell():
                print(*self.columns, sep="\t", file=file, flush=True)
            waiting, lock = queue.Queue(), threading.Lock()
            for key, function in jobs:
                if not any(tuple(row[:len(key)]) == tuple(key) for row in known):
                    waiting.put((key, function))

            def work(place):
                while True:
                    try:
                        key, function = waiting.get_nowait()
                    except queue.Empty:
                        return
                    result = function(place)
                    with lock:
                        print(*key, result if isinstance(result, str) else "", flush=True)
                        for row in [] if isinstance(result, str) else result:
                            print(*[f"{x:.6g}" if isinstance(x, float) else x for x in row], sep="\t", file=file, flush=True)
            workers = [threading.Thread(target=work, args=(os.path.join(folder, f"run{i}"),)) for i in range(JOBS)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        return self.rows()


def interval(values):
    """Half the width of the 95 % interval of the mean, by Student's t."""
    quantiles = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                 2.110, 2.101, 2.093]
    n = len(values)
    if n < 2:
        return float("nan")
    t = quantiles[n - 1] if n - 1 < len(quantiles) else 1.96 + 2.4 / (n - 1)
    return t * statistics.stdev(values) / math.sqrt(n)


def shown(values, sign="+"):
    """Mean ± interval, as text."""
    return f"{statistics.mean(values):{sign}.2f}" + (f" ± {interval(values):.2f}" if len(values) > 1 else "")
