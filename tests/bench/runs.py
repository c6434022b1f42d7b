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
import shutil
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
    "cmapss": (["cmapss_fd001"], ["rul", "fail_within_30"]),
    "fsdd": (["fsdd"], ["digit", "speaker"]),
}
# of sets of numbers: the column of the sequence's name, the features, the tasks' kinds, a task's options
FRAMES = {
    "cmapss_fd001": ("unit", [f"s{i}" for i in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)],
                     {"rul": "reals", "fail_within_30": "tags"}, {"rul": ["--clamp", "rul=0:125"]}),
    "fsdd": ("utt", [f"m{i}" for i in range(16)], {"digit": "class", "speaker": "class"}, {}),
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
    """Path of a set's `part`, train or valid. Spoken digits are joined to one file first."""
    if name in FRAMES:
        path = os.path.join(DATA, name, part + ".csv")
        joined = os.path.join("build", f"{name}_{part}.csv")
        if not os.path.exists(path) and not os.path.exists(joined):
            subprocess.run(["tests/bench/join_frames.py", os.path.join(DATA, name), part, joined], check=True)
        return path if os.path.exists(path) else joined
    return f"examples/data/home_{part}.tsv" if name == "examples" else os.path.join(DATA, name, part + ".tsv")


def between(path):
    return "," if path.endswith(".csv") else "\t"


def read(path):
    """Header and rows of a TSV file, or of a CSV file without quotes."""
    with open(path, encoding="utf-8") as file:
        header, *rows = [line.rstrip("\n").split(between(path)) for line in file]
    return header, rows


def titles(path):
    with open(path, encoding="utf-8") as file:
        return file.readline().rstrip("\n").split(between(path))


def write(path, header, rows):
    """Writes such a file, which is there whole or not at all: several scripts may want the same one."""
    part = f"{path}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        for row in [header] + rows:
            file.write(between(path).join(row) + "\n")
    os.replace(part, path)


def frames_of(path):
    """What FRAMES says of a CSV file, which has its sequence's column; None: it is text."""
    return next((of for of in FRAMES.values() if path.endswith(".csv") and of[0] in titles(path)), None)


def tasks_of(path):
    frames = frames_of(path)
    return list(frames[2]) if frames else [title.split(":")[0] for title in titles(path) if ":" in title]


def data_options(paths, tasks=()):
    """Options of the command that name data; tasks: those to be learnt, where CSV files must be told."""
    options, frames = [], frames_of(paths[0])
    for path in paths:
        options += ["--frames" if frames else "--data", path]
    if frames:
        options += ["--sequence", frames[0], "--features", ",".join(frames[1])]
        for task in tasks:
            options += ["--task", f"{task}:{frames[2][task]}"] + frames[3].get(task, [])
    return options


def subset(name, count, folder, seed=1, skip=0):
    """`count` of a training set's lines in a seeded random order, as a file: the first ones, or those after the first `skip`."""
    path = os.path.join(folder, f"{name}_{f'after{skip}_' if skip else ''}{count}{'' if seed == 1 else f'_{seed}'}.tsv")
    if not os.path.exists(path):
        header, lines = read(source(name, "train"))
        random.Random(seed).shuffle(lines)
        write(path, header, lines[skip:skip + count])
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
    command = [MTL, "eval", "--json", "--model", model, "--only", ",".join(tasks)] + data_options(paths, tasks)
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
    """Processor microseconds for each sequence of `mtl predict`, the least of three; starting it is taken off."""
    header, rows = read(path)
    if frames_of(path):
        return frames_answer_time(model, path, place)
    texts = [row[header.index("text")] for row in rows][:1000]
    least = []
    for lines in (texts[:1], texts):
        with open(f"{place}.in", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        least.append(min(timed([MTL, "predict", "--model", model, "--threads", "1"], place)[2] for _ in range(3)))
    return 1e6 * (least[1] - least[0]) / (len(texts) - 1)


def frames_answer_time(model, path, place):
    """The same of a CSV file, whose first sequence alone gives the start."""
    header, rows = read(path)
    names = [row[header.index(frames_of(path)[0])] for row in rows]
    one = f"{place}.csv"
    write(one, header, rows[:names.count(names[0])])
    least = [min(timed([MTL, "predict", "--model", model, "--threads", "1", "--frames", of], place)[2] for _ in range(3))
             for of in (one, path)]
    return 1e6 * (least[1] - least[0]) / (len(set(names)) - 1)


def train(tasks, seed, files, options, place):
    """One model of these tasks: its path and its processor seconds, or the program's message. files: (training, validation) paths,
    of which those are taken that know one of the tasks. The log is PLACE.log."""
    model = f"{place}.safetensors"
    command = [MTL, "train", "--only", ",".join(tasks), "--seed", str(seed), "--out", model, "--log", f"{place}.log",
               "--threads", "1", "--quiet"]
    files = [of for of in files if set(tasks_of(of[0])) & set(tasks)]
    command += data_options([of[0] for of in files], tasks)
    for of in files:
        command += ["--valid", of[1]]
    status, said, seconds = timed(command + options, place)
    return ((said or "?").splitlines()[-1], None) if status else (model, seconds)


def logged(place):
    """The log of the training at that place, a dict for each line."""
    with open(f"{place}.log", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def epochs(place):
    """Those lines that are of epochs."""
    return [line for line in logged(place) if "epoch" in line and "loss" in line]


class Table:
    """Finished runs, a line each, in a TSV file."""

    def __init__(self, path, columns):
        self.path, self.columns = path, columns

    def rows(self):
        return read(self.path)[1] if os.path.exists(self.path) else []

    def measure(self, jobs):
        """Runs what is missing. jobs: (key, function) where the key is the first columns of a row, as texts, and function(place) gives
        the run's rows, or a message. Files of a run begin with its `place`."""
        known, base = self.rows(), os.path.splitext(self.path)[0]
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
            workers = [threading.Thread(target=work, args=(f"{base}.run{i}",)) for i in range(JOBS)]
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
    """Mean ± interval, as text; of nothing a dash."""
    return "-" if not values else f"{statistics.mean(values):{sign}.2f}" + (f" ± {interval(values):.2f}" if len(values) > 1 else "")


def markdown(head, rows):
    """A Markdown table as text."""
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head)] + rows)


def draw(name, files, **values):
    """Draws the figure NAME.svg of docs/figures by plots/NAME.gp. files: {file: {title: rows}}, which become gnuplot's index blocks, each with its
    title as the first line; values: numbers and texts that the plot script is given."""
    if not shutil.which("gnuplot"):
        print("\nnote: no figure, there is no gnuplot")
        return
    folder = "build/study/plots"
    os.makedirs(folder, exist_ok=True)
    for path, blocks in files.items():
        with open(os.path.join(folder, path), "w", encoding="utf-8") as file:
            for title, rows in blocks.items():
                print(f'"{title}"', *("\t".join(map(str, row)) for row in rows), "\n", sep="\n", file=file)
    values["out"] = os.path.abspath(f"docs/figures/{name}.svg")
    given = "".join(f"{key}={json.dumps(value) if isinstance(value, str) else value};" for key, value in values.items())
    subprocess.run(["gnuplot", "-e", given, os.path.abspath(f"tests/bench/plots/{name}.gp")], cwd=folder, check=True)
