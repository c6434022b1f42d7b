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
import math
import os
import queue
import random
import statistics
import subprocess
import sys
import threading
import time

DATA = os.environ.get("MTL_DATA", "../shared/data")
MTL = os.environ.get("MTL", "build/mtl")
OUT = "build/gain"
CUT = "--cut" in sys.argv
SEEDS = int(os.environ.get("SEEDS", "3" if CUT else "5"))
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
FIRST = "hwu64 snips" if CUT else "hwu64 snips atis mr+ner"
HOWS = "single auto" if CUT else "single full partial auto"
CUTS = [int(x) for x in os.environ.get("CUTS", "1 3 10").split()]
COLUMNS = ["set", "cut", "how", "seed", "task", "valid", "apart", "bytes", "us_per_sentence", "seconds", "updates"]


def source(name, part):
    if name == "examples":
        return f"examples/data/home_{part}.tsv"
    return os.path.join(DATA, name, part + ".tsv")


def read(path):
    with open(path, encoding="utf-8") as file:
        header, *rows = [line.rstrip("\n").split("\t") for line in file]
    return header, rows


def write(path, header, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in [header] + rows:
            file.write("\t".join(row) + "\n")


def split(name, cut_task=None, cut=0):
    """Paths of a set's training data, with all labels or with cut % of one task's, and of the tenth that is apart."""
    train = os.path.join(OUT, f"{name}_{cut_task}_{cut}.tsv" if cut else f"{name}.tsv")
    apart = os.path.join(OUT, f"{name}_apart.tsv")
    if not os.path.exists(train):
        header, rows = read(source(name, "train"))
        order = list(range(len(rows)))
        random.Random(1).shuffle(order)
        away = set(order[: len(rows) // 10])
        write(apart, header, [row for i, row in enumerate(rows) if i in away])
        rows = [list(row) for i, row in enumerate(rows) if i not in away]
        if cut:
            column = [title.split(":")[0] for title in header].index(cut_task)
            labelled = [row for row in rows if row[column] != "_"]
            kept = {id(row) for row in random.Random(2).sample(labelled, max(1, len(labelled) * cut // 100))}
            for row in labelled:
                if id(row) not in kept:
                    row[column] = "_"
        write(train, header, rows)
    return train, apart


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


def train(name, cut_task, cut, how, seed, tasks, place):
    """One model; a row for each task, or the program's message."""
    model, log = f"{place}.safetensors", f"{place}.log"
    command = [MTL, "train", "--only", ",".join(tasks), "--seed", str(seed), "--out", model, "--log", log, "--threads", "1",
               "--quiet"]
    valid, apart = [], []
    for part in SETS[name][0]:
        paths = split(part, cut_task, cut)
        if {title.split(":")[0] for title in read(paths[0])[0]} & set(tasks):
            valid.append(source(part, "valid"))
            apart.append(paths[1])
            command += ["--data", paths[0], "--valid", valid[-1]]
    if how in ("full", "partial"):
        command += ["--share", how]
    start = time.time()
    status, said, seconds = timed(command + os.environ.get("OPTIONS", "").split(), place)
    if status:
        return (said or "?").splitlines()[-1]
    info = json.loads(subprocess.run([MTL, "info", "--model", model, "--json"], capture_output=True, text=True, check=True).stdout)
    if how == "auto":
        with open(os.path.join(OUT, f"auto_{name}_{cut_task}_{cut}_{seed}.json"), "w", encoding="utf-8") as file:
            json.dump(info["auto"], file, indent=1)
    scores = [evaluate(model, paths, tasks) for paths in (valid, apart)]
    common = [os.path.getsize(model), answer_time(model, valid[0], place), seconds, info["training"]["updates"]]
    print(f"{name} {cut_task or ''} {cut or ''} {how} {seed}: " + ", ".join(f"{t} {scores[0][t]:.1f}/{scores[1][t]:.1f}" for t in tasks) +
          f", {time.time() - start:.0f} s", flush=True)
    return [[name, f"{cut_task} {cut}" if cut else "-", how, seed, task, scores[0][task], scores[1][task]] + common for task in tasks]


def rows():
    path = os.path.join(OUT, "gain.tsv")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file][1:]


def interval(values):
    """Half the width of the 95 % interval of the mean, by Student's t."""
    quantiles = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 14: 2.145, 19: 2.093}
    n = len(values)
    if n < 2:
        return float("nan")
    t = quantiles.get(n - 1, 2.0 if n > 20 else 2.2)
    return t * statistics.stdev(values) / math.sqrt(n)


def shown(values):
    return f"{statistics.mean(values):+.2f} ± {interval(values):.2f}" if len(values) > 1 else f"{values[0]:+.2f}"


def print_table(measured):
    single, cost = {}, {}
    for row in measured:
        if row[2] == "single":
            single[tuple(row[i] for i in (0, 1, 3, 4))] = [float(row[5]), float(row[6])]
            cost.setdefault(tuple(row[i] for i in (0, 1, 3)), []).append([float(x) for x in row[7:10]])
    for how in dict.fromkeys(row[2] for row in measured if row[2] != "single"):
        gains, by_seed = {}, {}
        print(f"\n**{how}** against single-task models, points of the same seed, 95 % intervals\n")
        print("| set | labels left | task | seeds | alone, valid | gain, valid | alone, apart | gain, apart |\n|---|---|---|---|---|---|---|---|")
        for row in measured:
            key = tuple(row[i] for i in (0, 1, 3, 4))
            if row[2] != how or key not in single:
                continue
            difference = [float(row[5 + i]) - single[key][i] for i in (0, 1)]
            gains.setdefault((row[0], row[1], row[4]), []).append((difference, single[key]))
            by_seed.setdefault((row[0], row[1], row[3]), []).append(difference)
        for (name, cut, task), of in gains.items():
            columns = [[g[0][i] for g in of] for i in (0, 1)]
            alone = [statistics.mean(g[1][i] for g in of) for i in (0, 1)]
            mark = "**" if cut.split()[0] == task else ""
            print(f"| {name} | {cut} | {mark}{task}{mark} | {len(of)} | {alone[0]:.1f} | {shown(columns[0])} | {alone[1]:.1f} | {shown(columns[1])} |")
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
                alone = cost.get((row[0], row[1], row[3]))
                if alone:
                    total = [sum(c[i] for c in alone) for i in range(3)]
                    ratios.append([float(row[9]) / total[2], float(row[7]) / total[0], float(row[8]) / total[1]])
            if ratios:
                print(f"| {key[0]} | {key[1]} | " + " | ".join(f"{statistics.mean(r[i] for r in ratios):.2f}" for i in range(3)) + " |")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    os.makedirs(OUT, exist_ok=True)
    measured = rows()
    if "--table" in sys.argv:
        return print_table([row for row in measured if (row[1] != "-") == CUT])
    done = {tuple(row[:5]) for row in measured}
    jobs, lock = queue.Queue(), threading.Lock()
    for seed in range(1, SEEDS + 1):
        for name in os.environ.get("SETS", FIRST).split():
            tasks = SETS[name][1]
            for cut_task, cut in [(task, cut) for task in tasks for cut in CUTS] if CUT else [(None, 0)]:
                for part in SETS[name][0]:
                    split(part, cut_task, cut)
                for how in os.environ.get("HOW", HOWS).split():
                    for of in [[task] for task in tasks] if how == "single" else [tasks]:
                        if (name, f"{cut_task} {cut}" if cut else "-", how, str(seed), of[-1]) not in done:
                            jobs.put((name, cut_task, cut, how, seed, of))
    with open(os.path.join(OUT, "gain.tsv"), "a", encoding="utf-8") as file:
        if not measured and not file.tell():
            print(*COLUMNS, sep="\t", file=file, flush=True)

        def work(number):
            while True:
                try:
                    job = jobs.get_nowait()
                except queue.Empty:
                    return
                result = train(*job, os.path.join(OUT, f"run{number}"))
                with lock:
                    if isinstance(result, str):
                        print(*job, result, flush=True)
                        continue
                    for row in result:
                        print(*[f"{x:.6g}" if isinstance(x, float) else x for x in row], sep="\t", file=file, flush=True)
        workers = [threading.Thread(target=work, args=(i,)) for i in range(int(os.environ.get("JOBS", "2")))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print_table([row for row in rows() if (row[1] != "-") == CUT])


if __name__ == "__main__":
    sys.exit(main())
