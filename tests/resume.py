#!/usr/bin/env python3
"""Does `mtl train --resume` end with the model file, byte for byte, of a run that never stopped?

    tests/resume.py [--mtl build/mtl] [--seed 1] [--cases 150] [--kills 20] [--list] [NUMBER...]

Cases are sets of options that together hold every pair of values of two factors (pairwise covering, chosen
greedily from the seed). Each is trained to its end, and again with a stop after some updates, then another,
each time resumed in a new process with another number of threads. Then one training is ended by SIGKILL at
random moments, and resumed each time from the last checkpoint. Options that choose a kind (--schedule,
--sampler, --balance, --surgery) are covered with every kind that `mtl train --help` lists. NUMBER: these
cases alone; --list prints them all. Exit status 1 when a file differs or a run fails.
"""
import argparse
import itertools
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = "--preset plain --hidden 6 --embed 6 --epochs 3 --batch 8 --lr 0.01 --set fit.bucket=3"
FRAMES = "--frames frames.csv --sequence unit --features a,b --task left:reals --task model:class"
MOST_CASES = 150

# Factors and their values. Two values that cannot stand together are in EXCLUDED.
FACTORS = {
    "data": ["--data home.tsv", "--data home.tsv --data reviews.tsv",
             "--data home.tsv --data reviews.tsv --data names.tsv", FRAMES],
    "valid": ["", "--valid VALID", "--valid VALID --patience 1"],
    "optimizer": ["--optimizer adam", "--optimizer adamw --set trainer.decay=0.05",
                  "--optimizer sgd", "--optimizer sgd --set trainer.momentum=0.9 --set trainer.nesterov=1",
                  "--optimizer rmsprop", "--optimizer rmsprop --set trainer.momentum=0.5"],
    "average": ["", "--set trainer.average=0.9"],
    "lazy": ["", "--set trainer.lazy=1"],
    "penalty": ["", "--l2 0.01", "--l1 0.001"],
    "clip": ["", "--clip-norm 0.5", "--clip-value 0.05"],
    "warmup": ["", "--set trainer.warmup=4"],
    "dropout": ["--dropout 0", "--dropout 0.3", "--dropout 0.2 --set input.dropout_per_sequence=1"],
    "accumulate": ["", "--set fit.accumulate=3"],
    "curriculum": ["", "--set fit.curriculum=length", "--equal-length --sum-steps"],
    "regime": ["", "--set fit.keep=parts", "--set fit.task_patience=1 --set fit.keep=parts", "--set task.*.start=0.4"],
    "weight": ["", "--sampler-weight FIRST=0.4", "--sampler-weight FIRST=2.5"],
    "cell": ["--cell lstm --dir bi", "--cell gru --dir uni --layers 2", "--cell rnn --dir bi"],
    "share": ["", "--share partial", "--share cross-stitch", "--share soft"],
    "stop": ["1 2", "4 7", "EPOCH 3", "EPOCH EPOCH"],       # updates of the first and of the second process
    "threads": ["1 2", "2 1"],
}
CHOSEN = ["--schedule", "--sampler", "--balance", "--surgery"]      # of kinds that the help lists
EXTRA = {"--schedule": "--set trainer.schedule_every=4 --set trainer.plateau_patience=1"}


# ---- data: the project's own, cut short; numbers from a seed ------------------------------------------------

def copy_table(source, name, rows):
    with open(f"{ROOT}/examples/data/{source}", encoding="utf-8") as file:
        lines = list(itertools.islice(file, rows + 1))
    with open(name, "w", encoding="utf-8") as file:
        file.writelines(lines)


def write_frames(name, units, numbers):
    with open(name, "w", encoding="utf-8") as file:
        file.write("unit,a,b,left,model\n")
        for unit in range(units):
            kind = numbers.choice(["red", "blue"])
            for _ in range(numbers.randrange(3, 12)):
                a, b = 1e6 + numbers.random(), numbers.random() - 0.5
                file.write(f"u{unit},{a:.4f},{b:.4f},{'_' if numbers.random() < 0.2 else f'{a * b:.4f}'},{kind}\n")


def make_data(seed):
    copy_table("home_train.tsv", "home.tsv", 60)
    copy_table("reviews_train.tsv", "reviews.tsv", 30)
    copy_table("names_train.tsv", "names.tsv", 20)
    copy_table("home_valid.tsv", "valid.tsv", 20)
    copy_table("home_train.tsv", "large.tsv", 600)
    write_frames("frames.csv", 60, random.Random(seed))
    write_frames("valid.csv", 20, random.Random(seed + 1))


# ---- cases --------------------------------------------------------------------------------------------------

def factors_of(mtl):
    """FACTORS and those whose values are in the help: "--schedule NAME  text: constant|step|..."."""
    text = subprocess.run([mtl, "train", "--help"], capture_output=True, text=True, check=True).stdout
    factors = dict(FACTORS)
    for option in CHOSEN:
        found = re.search(rf"^  {option} .*?: ([a-z0-9|-]+)(?: |$)", text, re.M)
        if found:
            factors[option] = [f"{option} {kind} {EXTRA.get(option, '')}".strip()
                               for kind in found.group(1).split("|")]
        elif option in ("--schedule", "--sampler"):
            sys.exit(f"resume: the help lists no kinds of {option}")
    return factors


def pairs_of(case):
    return {(a, case[a], b, case[b]) for a, b in itertools.combinations(sorted(case), 2)}


def make_cases(factors, seed):
    """Every pair of values of two factors, in few cases: of 40 random ones that hold a pair that is still
    missing, the one with most of such pairs."""
    numbers = random.Random(seed)
    missing = {(a, x, b, y) for a, b in itertools.combinations(sorted(factors), 2)
               for x in factors[a] for y in factors[b]}
    cases = []
    while missing:
        best, gain = None, 0
        wanted = sorted(missing)
        for _ in range(40):
            case = {name: numbers.choice(values) for name, values in factors.items()}
            for a, x, b, y in numbers.sample(wanted, min(4, len(wanted))) + [wanted[0]]:
                case[a], case[b] = x, y
            found = len(pairs_of(case) & missing)
            if found > gain:
                best, gain = case, found
        missing -= pairs_of(best)
        cases.append(best)
    return cases


def options_of(case):
    words = [case[name] for name in case if name not in ("stop", "threads")]
    frames = "frames" in case["data"]
    text = " ".join(words).replace("VALID", "valid.csv" if frames else "valid.tsv")
    text = text.replace("FIRST", "frames.csv" if frames else "home.tsv")
    if frames:
        text = text.replace("input.dropout_per_sequence", "frames.dropout_per_sequence")
    return f"{SMALL} {text}".split()


# ---- runs ---------------------------------------------------------------------------------------------------

class Failed(Exception):
    pass


def train(mtl, options):
    done = subprocess.run([mtl, "train", "--quiet", *options], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"status {done.returncode}: {' '.join(done.args)}\n    {done.stderr.strip()}")
    return done.stderr


def content(path):
    with open(path, "rb") as file:
        return file.read()


def tensors_of(path):
    """The names in a safetensors file, whose offsets must be without gaps and overlaps."""
    bytes_ = content(path)
    size = struct.unpack("<Q", bytes_[:8])[0]
    header = json.loads(bytes_[8:8 + size])
    header.pop("__metadata__")
    end = 0
    for begin, stop in sorted(t["data_offsets"] for t in header.values()):
        if begin != end:
            raise Failed(f"{path}: a gap at {end}")
        end = stop
    if end != len(bytes_) - 8 - size:
        raise Failed(f"{path}: {len(bytes_) - 8 - size - end} bytes too many")
    return set(header)


def run_case(mtl, case):
    options = options_of(case)
    for path in ("whole.st", "cut.st", "cut.st.checkpoint"):
        if os.path.exists(path):
            os.remove(path)
    threads = case["threads"].split()
    train(mtl, options + ["--out", "whole.st", "--threads", threads[0]])
    updates = int(re.search(rb"updates=(\d+)", content("whole.st")).group(1))
    epoch = max(1, updates // 3)
    resume = []
    for number, stop in enumerate(case["stop"].split()):
        after = min(epoch if stop == "EPOCH" else int(stop), updates - 1)
        train(mtl, options + resume + ["--out", "cut.st", "--checkpoint-every", str(2 + number),
                                       "--stop-after", str(after), "--threads", threads[number]])
        if not os.path.exists("cut.st.checkpoint"):         # it was at its end before
            break
        if not {"fit.counts", "fit.train", "optimizer.counts"} <= tensors_of("cut.st.checkpoint"):
            raise Failed("cut.st.checkpoint lacks what a run needs")
        resume = ["--resume", "cut.st.checkpoint"]
    if os.path.exists("cut.st.checkpoint"):
        train(mtl, options + resume + ["--out", "cut.st", "--checkpoint-every", "1000000",
                                       "--threads", threads[0]])
    if os.path.exists("cut.st.checkpoint"):
        raise Failed("the checkpoint is still there at the end")
    if not resume:
        raise Failed("the run was never interrupted")
    if content("whole.st") != content("cut.st"):
        raise Failed("another model file")


# ---- SIGKILL ------------------------------------------------------------------------------------------------

def kill_once(mtl, options, wait, seconds):
    """Starts a training and kills it after a while, which begins at its first checkpoint where `wait` says so.
    Returns whether it was still running."""
    process = subprocess.Popen([mtl, "train", "--quiet", *options], stderr=subprocess.DEVNULL)
    while wait and process.poll() is None and not os.path.exists("kill.st.checkpoint"):
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    return process.wait() != 0


def run_kills(mtl, kills, seed):
    """Returns how many kills left a checkpoint that training went on from. Kills that come too late are not
    counted, and the next ones come sooner."""
    numbers = random.Random(seed)
    options = ("--preset plain --data large.tsv --data reviews.tsv --valid valid.tsv --hidden 16 --embed 16 "
               "--epochs 4 --batch 8 --sampler temperature --set trainer.average=0.9 --schedule cosine --threads 2 --out kill.st").split()
    train(mtl, options)
    whole = content("kill.st")
    keeping = options + ["--checkpoint-every", "3"]
    begin = time.monotonic()
    train(mtl, keeping)
    seconds = time.monotonic() - begin
    if content("kill.st") != whole:
        raise Failed("checkpoints change the model")
    resumed = done = 0
    while done < kills:
        os.remove("kill.st")
        wait = done % 2
        if not kill_once(mtl, keeping, wait, numbers.random() * seconds * (0.7 if wait else 1)):
            seconds *= 0.8
            continue
        there = os.path.exists("kill.st.checkpoint")
        if there:
            tensors_of("kill.st.checkpoint")
        resumed += there
        done += 1
        train(mtl, keeping + (["--resume", "kill.st.checkpoint"] if there else []))
        if content("kill.st") != whole or os.path.exists("kill.st.checkpoint"):
            raise Failed(f"kill {done}: another model file")
    return resumed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mtl", default=f"{ROOT}/build/mtl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=MOST_CASES, help="the first N alone")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("numbers", type=int, nargs="*")
    given = parser.parse_args()
    mtl = os.path.abspath(given.mtl)
    cases = make_cases(factors_of(mtl), given.seed)
    if given.list:
        for number, case in enumerate(cases):
            print(number, " ".join(options_of(case)), "stop", case["stop"])
        return 0
    if len(cases) > MOST_CASES:
        print(f"not ok {len(cases)} cases; at most {MOST_CASES}")
        return 1
    folder, failed, begin = tempfile.mkdtemp(), 0, time.monotonic()
    try:
        os.chdir(folder)
        make_data(given.seed)
        chosen = given.numbers or range(min(given.cases, len(cases)))
        for number in chosen:
            try:
                run_case(mtl, cases[number])
            except Failed as problem:
                failed += 1
                print(f"not ok case {number}: {problem}\n    {' '.join(options_of(cases[number]))} "
                      f"stop {cases[number]['stop']}", flush=True)
        seconds = time.monotonic() - begin
        print(f"{'ok' if not failed else 'not ok'} {len(chosen)} of {len(cases)} cases, {seconds:.1f} s "
              f"({seconds / max(1, len(chosen)):.2f} s each), {failed} failed", flush=True)
        if given.kills:
            try:
                resumed = run_kills(mtl, given.kills, given.seed)
                enough = 3 * resumed >= given.kills
                failed += not enough
                print(f"{'ok' if enough else 'not ok'} {given.kills} kills, {resumed} left a checkpoint, each model "
                      "is the same file")
            except Failed as problem:
                failed += 1
                print(f"not ok {problem}")
    finally:
        os.chdir(ROOT)
        shutil.rmtree(folder)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
