#!/usr/bin/env python3
"""Measures build/bench and the peers on the same points in one run, and has report.py write docs/performance.md and the plots.

usage: compare.py [--quick] [--rounds N] [--budget-ms N] [--parts grid,two,growth,ragged,snips,machine] [...]     (--help lists all)

Contestants alternate: for every round, for every point, each of them is visited for --budget-ms; the tables take the least time
of all visits. Peers are processes that live on (worker.py), so neither starting nor compiling counts. One thread is pinned to one
core, then two threads to two. Every visit is a row of build/peers/peers.tsv, written at once: a run that was stopped goes on where
it was (--seconds stops it by itself, with exit status 3), and --fresh begins anew, as does any change of machine, program or version. A
peer that is missing or cannot do a point is reported and left out.

Parts: machine (build/bench peak), grid (one thread), two (the same and B = T = 32 with two), growth (time of ours by T, B, H and what build/bench
growth offers, and by part), ragged (real lengths, needs --data), snips (the whole program, needs --data)."""
import argparse
import contextlib
import csv
import fcntl
import hashlib
import json
import os
import platform
import random
import select
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
COLUMNS = ["part", "round", "threads", "cell", "mode", "H", "B", "T", "peer", "version", "us_min", "us_median", "calls", "way", "share"]
GATES = {"lstm": 4, "gru": 3}
SHAPES = [(1, 64), (16, 32), (64, 32)]                      # (B, T)
ANSWER_LIMIT = 300                                          # seconds; a worker that takes longer is given up


class OutOfTime(Exception):
    """--seconds have passed"""


# ---- contestants ----------------------------------------------------------------------------------------------------

class Peer:
    """a worker process: started at the first question, asked by lines"""

    def __init__(self, name, command, threads, cores, environment=None):
        self.name, self.command, self.threads, self.cores = name, command, threads, cores
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                            "OPENBLAS_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.process, self.version, self.problem = None, None, None

    def start(self, log):
        try:
            self.process = subprocess.Popen(self.command + [str(self.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            env=self.environment, preexec_fn=lambda: os.sched_setaffinity(0, self.cores))
        except OSError as problem:
            self.problem = str(problem)

    def greet(self):
        if self.process:
            word = self.read().split()
            if word[:1] == ["ready"]:
                self.version = word[2]
            else:
                self.stop("it did not start; the log says why")
        return self.version is not None

    def read(self):
        """the next line of the answer, or nothing when it took too long or the process ended"""
        line, end = b"", time.monotonic() + ANSWER_LIMIT
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                return ""
            some = os.read(self.process.stdout.fileno(), 65536)
            if not some:
                return ""
            line += some
        return line.decode()

    def stop(self, problem):
        self.problem = problem
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def ask(self, request):
        """{"us_min", "us_median", "calls", "way"} or a text that says why not"""
        if not self.process:
            return self.problem or "not started"
        try:
            self.process.stdin.write((request + "\n").encode())
            self.process.stdin.flush()
            answer = self.read()
        except OSError:
            answer = ""
        word = answer.split()
        if word[:1] == ["ok"]:
            return {"us_min": word[1], "us_median": word[2], "calls": word[3], "way": word[4], "share": ""}
        if not answer:
            self.stop("it died or hung at: " + request)
            return self.problem
        return answer.strip().removeprefix("none ")

    def measure(self, cell, mode, H, B, T, milliseconds):
        return self.ask(f"{cell} {mode} {H} {B} {T} {milliseconds}")


class Ours:
    """build/bench, one process a visit: it has nothing to start or to compile"""
    name = "mtl_rnn"

    def __init__(self, program, threads, cores, isa):
        self.program, self.threads, self.cores, self.isa = program, threads, cores, isa
        self.version, self.problem, self.speed = None, None, {}

    def start(self, log):
        self.log = log

    def greet(self):
        try:
            with open(self.program, "rb") as file:
                self.version = hashlib.sha256(file.read()).hexdigest()[:12]
        except OSError as problem:
            self.problem = str(problem)
        return self.version is not None

    def stop(self, problem):
        self.problem = problem

    def rows(self, *arguments):
        """the table that the program prints, as dictionaries; or a text that says why not"""
        done = subprocess.run([self.program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              preexec_fn=lambda: os.sched_setaffinity(0, self.cores))
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["exit status %d" % done.returncode])[0]
        lines = [line.split("\t") for line in done.stdout.splitlines() if line]
        return [dict(zip(lines[0], line)) for line in lines[1:]]

    def measure(self, cell, mode, H, B, T, milliseconds):
        key = cell, mode, H, B, T
        guess = self.speed.get(key) or max(1.0, 2e-6 * GATES[cell] * H * 2 * H * B * T * (1 if mode in ("infer", "stream") else 3) / 0.05)
        repeats = str(max(3, min(20000, int(milliseconds * 1e3 / guess))))
        # forward and backward alone: a step without the head, which still has Adam and the packing of weights in it
        command = ["train", "--no-head"] if mode == "fwdbwd" else [mode]
        found = self.rows(*command, "--cell", cell, "--dir", "uni", "--hidden", str(H), "--batch", str(B), "--steps", str(T),
                          "--threads", str(self.threads), "--repeats", repeats, *(["--isa", self.isa] if self.isa else []))
        if isinstance(found, str) or not found:
            return found or "no rows"
        row = found[0]
        self.speed[key] = max(1e-3, float(row["us_min"]))
        return {"us_min": row["us_min"], "us_median": row["us_median"], "calls": repeats, "way": row["isa"], "share": row.get("share", "")}


def build_onednn(folder, out):
    """compiles the worker in C against the package in `folder`; its path, or None with the reason told"""
    program = f"{out}/{os.path.basename(folder)}_worker"
    libraries = f"{folder}/lib"
    if not os.path.exists(f"{libraries}/libdnnl.so"):
        return program                                      # is not there: the worker will say so when it is started
    source = f"{HERE}/onednn_worker.c"
    if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
        done = subprocess.run([os.environ.get("CC", "cc"), "-std=c99", "-O2", f"-I{folder}/include", "-o", program, source, f"-L{libraries}",
                               "-ldnnl", f"-Wl,-rpath,{libraries}", "-Wl,--allow-shlib-undefined"], capture_output=True, text=True)
        if done.returncode:
            print(f"compare.py: {program}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return program


def contestants(options, threads, cores):
    python = f"{options.venvs}/python/bin/python"
    found = [Ours(options.bench, threads, cores, options.isa)]
    for name in ("pytorch", "onnxruntime", "jax"):
        found.append(Peer(name, [python, f"{HERE}/{name}_worker.py"], threads, cores))
    for name in ("onednn", "onednn_omp"):
        folder = os.path.abspath(f"{options.venvs}/{name}")
        # The build of the package "onednn" runs on SYCL, whose processor device is an OpenCL driver beside it.
        device = {"LD_LIBRARY_PATH": f"{folder}/lib", "OCL_ICD_FILENAMES": f"{folder}/lib/libintelocl.so",
                  "ONEAPI_DEVICE_SELECTOR": "opencl:cpu", "ONEDNN_VERBOSE": "0"} if name == "onednn" else {}
        found.append(Peer(name, [build_onednn(folder, options.venvs)], threads, cores, device))
    wanted = options.peers.split(",") if options.peers else None
    return [one for one in found if not wanted or one.name in wanted or one.name == Ours.name]


# ---- the file of visits ---------------------------------------------------------------------------------------------

def machine():
    """what the figures were measured on"""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            about = dict((part.strip() for part in line.split(":", 1)) for line in lines if ":" in line)
        model = f"{about['model name']} (family {about['cpu family']}, model {about['model']})"
    except (OSError, KeyError):
        pass
    compiler = subprocess.run([os.environ.get("CC", "cc"), "--version"], capture_output=True, text=True).stdout.splitlines()
    return {"processor": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
            "compiler": compiler[0] if compiler else "?"}


class Visits:
    """the rows measured so far; a later run adds those that are missing"""

    def __init__(self, path, fresh):
        self.path, self.run = path, path.removesuffix(".tsv") + ".json"
        self.fresh, self.rows, self.done, self.versions = fresh, [], set(), {}

    def open(self, versions):
        """keeps what is there if it comes from this machine and these versions; otherwise puts it aside"""
        about = {"machine": machine(), "versions": versions}
        try:
            with open(self.run, encoding="utf-8") as file:
                before = json.load(file)
        except (OSError, ValueError):
            before = None
        known = before["versions"] if before else {}
        same = before and before["machine"] == about["machine"] and all(known.get(name, what) == what for name, what in versions.items())
        if before and (self.fresh or not same):
            print("compare.py: begins anew" + ("" if self.fresh else ": machine, program or a version changed; the old rows are in "
                                               + self.path + ".old"), flush=True)
            os.replace(self.path, self.path + ".old")
            known = {}
        self.fresh = False
        about["versions"] = {**known, **versions}
        about["date"] = time.strftime("%Y-%m-%d")
        with open(self.run, "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)
        if not os.path.exists(self.path):
            with open(self.path, "w", encoding="utf-8") as file:
                file.write("\t".join(COLUMNS) + "\n")
        with open(self.path, encoding="utf-8", newline="") as file:
            self.done = {self.key(row) for row in csv.DictReader(file, delimiter="\t")}

    @staticmethod
    def key(row):
        return tuple(str(row[name]) for name in COLUMNS[:9])

    def has(self, row):
        return self.key(row) in self.done

    def add(self, row):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\t".join(str(row[name]).replace("\t", " ") for name in COLUMNS) + "\n")
        self.done.add(self.key(row))


# ---- the parts ------------------------------------------------------------------------------------------------------

def split(text, convert=str):
    return [convert(part) for part in text.split(",") if part]


def points(options, threads):
    """(cell, mode, H, B, T) in the order in which they are visited"""
    sizes = split(options.hidden, int) if options.hidden else [32, 128] if options.quick else [32, 64, 128, 256, 512]
    shapes = [tuple(map(int, shape.split("x"))) for shape in split(options.shapes)] if options.shapes else \
        [(16, 32)] if options.quick else SHAPES
    for cell in split(options.cells):
        for mode in split(options.modes):
            if mode == "fwdbwd" and threads > 1:
                continue
            if mode == "stream":
                for H in [64] if options.quick else [16, 32, 64, 128, 256]:
                    if threads == 1:
                        yield cell, mode, H, 1, 1
                continue
            for B, T in shapes + ([(32, 32)] if mode == "train" and (32, 32) not in shapes else []):
                for H in sizes:
                    yield cell, mode, H, B, T


class Comparison:
    def __init__(self, options):
        self.options = options
        self.visits = Visits(f"{options.out}/peers.tsv", options.fresh)
        self.end = time.monotonic() + options.seconds if options.seconds else None
        self.log = open(f"{options.out}/peers.log", "a", encoding="utf-8")
        self.told = set()

    @contextlib.contextmanager
    def alone(self):
        """holds --lock, if there is one, so that measurements of other programs that honour it wait, and waits for theirs"""
        self.left()
        if not self.options.lock:
            yield
            return
        with open(self.options.lock, "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        time.sleep(0.2)                                     # those who wait come first

    def left(self):
        if self.end and time.monotonic() > self.end:
            raise OutOfTime

    def tell(self, text):
        if text not in self.told:
            self.told.add(text)
            print("compare.py: " + text, flush=True)

    def cores(self, threads):
        last = self.options.core
        return {last} if threads == 1 else {(last - k) % os.cpu_count() for k in range(threads)}

    def start(self, threads):
        """all contestants that can be had, each started once, and their versions in the file"""
        all_of_them = contestants(self.options, threads, self.cores(threads))
        for one in all_of_them:
            one.start(self.log)
        here = [one for one in all_of_them if one.greet()]
        for one in all_of_them:
            if one not in here:
                self.tell(f"without {one.name}: {one.problem}")
        self.visits.open({one.name: one.version for one in here})
        return here

    @staticmethod
    def row(part, number, threads, one, point):
        return dict(zip(COLUMNS, (part, number, threads, *point, one.name, one.version)))

    def visit(self, part, number, threads, one, point, ask):
        """one contestant at one point, unless an earlier run has been there"""
        cell, mode, H, B, T = point
        row = self.row(part, number, threads, one, point)
        if self.visits.has(row):
            return
        if threads > 1:
            time.sleep(0.03)                                # the workers of the one before must have gone to sleep
        answer = ask()
        if isinstance(answer, str):
            if (one.name, mode, answer) not in self.told:   # once for all points that fail alike
                self.told.add((one.name, mode, answer))
                self.tell(f"{one.name}, {mode} (first at {cell} H={H} B={B} T={T}): {answer}")
            answer = dict(us_min="", us_median="", calls=0, way="none", share="")
        self.visits.add({**row, **answer})

    def grid(self, threads):
        here, part = self.start(threads), "grid" if threads == 1 else "two"
        todo = list(points(self.options, threads))
        try:
            for number in range(1, self.options.rounds + 1):
                began = time.monotonic()
                for point in todo:
                    if all(self.visits.has(self.row(part, number, threads, one, point)) for one in here):
                        continue
                    with self.alone():
                        for one in here:
                            self.visit(part, number, threads, one, point, lambda: one.measure(*point, self.options.budget_ms))
                print(f"compare.py: {threads} thread(s), round {number} of {self.options.rounds}: {time.monotonic() - began:.0f} s", flush=True)
        finally:
            for one in here:
                one.stop("the end")

    def machine(self):
        """what the machine can do, measured by build/bench itself"""
        ours = Ours(self.options.bench, 1, self.cores(1), None)
        with self.alone():
            self.table("peak.tsv", ours.rows("peak"))

    def table(self, name, rows):
        if isinstance(rows, str) or not rows:
            self.tell(f"no {name}: {rows or 'nothing was printed'}")
            return False
        with open(f"{self.options.out}/{name}", "w", encoding="utf-8") as file:
            for row in [dict(zip(rows[0], rows[0]))] + rows:
                file.write("\t".join(row.values()) + "\n")
        return True

    def growth(self):
        """ours alone, so nobody to alternate with: least time of several calls while one size doubles and the others stay"""
        ours = Ours(self.options.bench, 1, self.cores(1), self.options.isa)
        if not ours.greet():
            return self.tell(f"no growth: {ours.problem}")
        most = 3 if self.options.quick else 6
        series = {"T": [(128, 16, 8 << k) for k in range(most)], "B": [(128, 1 << k, 32) for k in range(most + 2)],
                  "H": [(32 << k, 16, 32) for k in range(min(most, 5))]}
        rows = []
        for cell in split(self.options.cells):
            for name, sizes in series.items():
                for H, B, T in sizes:
                    with self.alone():
                        found = [ours.measure(cell, "train", H, B, T, self.options.budget_ms) for _ in range(min(3, self.options.rounds))]
                    times = [float(one["us_min"]) for one in found if not isinstance(one, str)]
                    if times:
                        size = {"T": T, "B": B, "H": H}[name]
                        rows.append({"series": f"{cell} {name}", "size": str(size), "us": f"{min(times):.3f}"})
        with self.alone():
            more = ours.rows("growth")                      # by vocabulary and number of tasks: series, size, us
        if isinstance(more, str):
            self.tell(f"no growth by vocabulary and tasks: {more}")
        else:
            rows += [{name: row[name] for name in ("series", "size", "us")} for row in more]
        self.table("growth.tsv", rows)
        with self.alone():
            self.table("parts.tsv", ours.rows("train", "--parts", "--cell", self.options.cells, "--hidden", "32,128,512", "--batch", "16",
                                              "--steps", "32", *(["--isa", self.options.isa] if self.options.isa else [])))

    # -- real lengths --

    def ragged(self):
        """training on batches of real lengths, and on as many tokens in equal ones: PyTorch packed, padded, equal; ours ragged, equal"""
        if not self.options.data:
            return self.tell("no ragged part: --data names no folder")
        rows = []
        for name in ("snips", "tang_poetry"):
            path = self.lengths(name)
            if path:
                rows.append((name, path, self.equal(path)))
        here = [one for one in self.start(1) if one.name in ("mtl_rnn", "pytorch")]
        try:
            for number in range(1, self.options.rounds + 1):
                for name, real, equal in rows:
                    for one in here:
                        for way, path in (("packed", real), ("padded", real), ("equal", equal)):
                            if isinstance(one, Ours) and way == "padded":
                                continue                    # nothing of ours is padded
                            def ask():
                                if isinstance(one, Ours):
                                    return self.ragged_ours(one, real, way)
                                return one.ask(f"ragged {'padded' if way == 'equal' else way} lstm 128 {path} {self.options.budget_ms}")
                            with self.alone():
                                self.visit("ragged", number, 1, one, ("lstm", f"{name}-{way}", 128, 32, 0), ask)
        finally:
            for one in here:
                one.stop("the end")

    @staticmethod
    def ragged_ours(ours, path, way):
        """one run gives microseconds of a token in both ways; here of all tokens, as the peers count"""
        found = ours.rows("parts", "--only", "ragged", "--lengths", path)
        if isinstance(found, str):
            return found
        row = next(row for row in found if row["part"] == ("equal_lengths" if way == "equal" else "ragged_lengths"))
        us = f"{float(row['us_min']) * int(row['size'].rsplit('=', 1)[1]):.1f}"
        return {"us_min": us, "us_median": us, "calls": 1, "way": way, "share": ""}

    def lengths(self, name):
        """a file with the lengths of `name`'s batches, a line each, made as mtl_fit makes them: pools of 50 batches sorted by length"""
        path, batch, pool = f"{self.options.out}/{name}.lengths", 32, 50
        try:
            if name == "tang_poetry":                       # a poem a line, a token a character
                with open(f"{self.options.data}/{name}/train.txt", encoding="utf-8") as lines:
                    counts = [len(line.strip()) for line in lines if line.strip()]
            else:
                with open(f"{self.options.data}/{name}/train.tsv", encoding="utf-8") as lines:
                    column = next(lines).rstrip("\n").split("\t").index("text")
                    counts = [len(line.rstrip("\n").split("\t")[column].split(" ")) for line in lines]
        except OSError as problem:
            return self.tell(f"no lengths of {name}: {problem}")
        chance = random.Random(1)
        chance.shuffle(counts)
        counts = sorted(counts[:batch * pool], reverse=True)
        with open(path, "w", encoding="utf-8") as file:
            for k in range(0, len(counts), 5 * batch):      # every fifth of the pool's batches: from the longest to the shortest
                file.write(" ".join(map(str, counts[k:k + batch])) + "\n")
        return path

    def equal(self, path):
        """as many batches, sequences and (nearly: to the rounding) tokens, every sequence of one length"""
        with open(path, encoding="utf-8") as lines:
            batches = [[int(word) for word in line.split()] for line in lines]
        tokens, sequences = sum(map(sum, batches)), sum(map(len, batches))
        low, more = divmod(tokens, sequences)
        more = round(more / 32)                             # so many batches of sequences that are longer by one
        with open(path + ".equal", "w", encoding="utf-8") as file:
            for k, batch in enumerate(batches):
                file.write(" ".join([str(low + (k < more))] * len(batch)) + "\n")
        return path + ".equal"

    # -- the whole program --

    def snips(self):
        """mtl train beside pytorch_snips.py, whole programs in turn: seconds of training and of evaluation, epoch by epoch"""
        folder = self.options.snips or (f"{self.options.data}/snips" if self.options.data else None)
        if not folder or not os.path.exists(f"{folder}/train.tsv"):
            return self.tell("no snips part: --snips (or --data) names no folder with it")
        here = self.start(1)
        versions = {one.name: one.version for one in here}
        for one in here:
            one.stop("only its version was asked")
        if os.path.exists(self.options.mtl):
            with open(self.options.mtl, "rb") as file:
                versions["mtl"] = hashlib.sha256(file.read()).hexdigest()[:12]
            self.visits.open({"mtl": versions["mtl"]})
        python = f"{self.options.venvs}/python/bin/python"
        epochs = str(1 if self.options.quick else 2)
        for number in range(1, self.options.rounds + 1):
            for threads in (1, 2):
                if threads > os.cpu_count():
                    continue
                ours = [self.options.mtl, "train", "--data", f"{folder}/train.tsv", "--valid", f"{folder}/valid.tsv", "--preset", "plain", "--epochs",
                        epochs, "--threads", str(threads), "--quiet", "--log", f"{self.options.out}/snips.log",
                        "--out", f"{self.options.out}/snips.safetensors"]
                theirs = [python, f"{HERE}/pytorch_snips.py", folder, "--threads", str(threads), "--epochs", epochs]
                for peer, way, command in (("mtl", "adam", ours), ("mtl", "lazy", ours + ["--set", "trainer.lazy=1"]),
                                           ("pytorch", "padded", theirs), ("pytorch", "packed", theirs + ["--packed"])):
                    if peer in versions:
                        self.program(number, threads, peer, versions[peer], way, command)

    def program(self, number, threads, peer, version, way, command):
        """two rows a run: train and eval, seconds of the fastest epoch as microseconds"""
        row = dict(part="snips", round=number, threads=threads, cell="lstm", H=128, B=32, T=0, peer=peer, version=version, calls=1, share="")
        if self.visits.has({**row, "mode": "train-" + way}):
            return
        with self.alone():
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                                  preexec_fn=lambda: os.sched_setaffinity(0, self.cores(threads)))
        if done.returncode:
            return self.tell(f"snips, {peer}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        if peer == "mtl":
            with open(f"{self.options.out}/snips.log", encoding="utf-8") as lines:
                epochs = [json.loads(line) for line in lines]
            steps = [(b["train_seconds"] - a["train_seconds"], b["seconds"] - a["seconds"])
                     for a, b in zip([{"train_seconds": 0, "seconds": 0}] + epochs, epochs)]
            train, evaluate = min(t for t, _ in steps), min(s - t for t, s in steps)
        else:
            epochs = [json.loads(line) for line in done.stdout.splitlines()]
            train, evaluate = min(e["train_seconds"] for e in epochs), min(e["eval_seconds"] for e in epochs)
        for mode, seconds in (("train-" + way, train), ("eval-" + way, evaluate)):
            self.visits.add({**row, "mode": mode, "us_min": f"{seconds * 1e6:.0f}", "us_median": "", "way": way})
        print(f"compare.py: snips round {number}, {threads} thread(s), {peer} {way}: an epoch {train:.2f} s, "
              f"evaluation {evaluate:.3f} s", flush=True)


def main():
    options = argparse.ArgumentParser(description="measures build/bench and the peers on the same points",
                                      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--bench", default=f"{ROOT}/build/bench", help="our benchmark")
    options.add_argument("--mtl", default=f"{ROOT}/build/mtl", help="our command")
    options.add_argument("--venvs", default=f"{ROOT}/build/peers", help="the folder with the peers' environments")
    options.add_argument("--out", default=f"{ROOT}/build/peers", help="the folder of the results")
    options.add_argument("--data", help="a folder with snips/ and tang_poetry/ (train.tsv), for the parts ragged and snips")
    options.add_argument("--snips", help="a folder with train.tsv and valid.tsv, if it is not DATA/snips")
    options.add_argument("--parts", default="machine,grid,two,growth,ragged,snips")
    options.add_argument("--cells", default="lstm,gru")
    options.add_argument("--modes", default="infer,train,fwdbwd,stream")
    options.add_argument("--hidden", help="sizes by commas")
    options.add_argument("--shapes", help="BxT by commas: 1x64,16x32")
    options.add_argument("--peers", help="only these, by commas")
    options.add_argument("--isa", help="ours with this instruction set instead of the best")
    options.add_argument("--rounds", type=int, default=0, help="0: 5, or 1 with --quick")
    options.add_argument("--budget-ms", type=int, default=0, help="of a visit; 0: 250, or 60 with --quick")
    options.add_argument("--seconds", type=float, help="stop after so many, to go on in another run")
    options.add_argument("--lock", default=os.environ.get("BENCH_LOCK"), help="a file to hold a lock on (flock) while a point is measured")
    options.add_argument("--core", type=int, default=os.cpu_count() - 1, help="where one thread runs")
    options.add_argument("--quick", action="store_true", help="few points, one round")
    options.add_argument("--fresh", action="store_true", help="forget earlier rows")
    options.add_argument("--no-report", action="store_true", help="measure only")
    options = options.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.budget_ms = options.budget_ms or (60 if options.quick else 250)
    os.makedirs(options.out, exist_ok=True)
    comparison, status = Comparison(options), 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))    # so that what runs is ended too
    part = {"machine": comparison.machine, "grid": lambda: comparison.grid(1), "two": lambda: comparison.grid(2),
            "growth": comparison.growth, "ragged": comparison.ragged, "snips": comparison.snips}
    unknown = [name for name in split(options.parts) if name not in part]
    if unknown:
        sys.exit(f"compare.py: --parts: there is no part {', '.join(unknown)}; the parts are {', '.join(part)}")
    try:
        for name in split(options.parts):
            if name == "two" and os.cpu_count() < 2:
                comparison.tell("no part with two threads: one processor")
            else:
                part[name]()
    except OutOfTime:
        print(f"compare.py: {options.seconds:.0f} s have passed: the same command goes on from here", flush=True)
        status = 3
    if not options.no_report:
        subprocess.run([sys.executable, f"{HERE}/report.py", options.out], check=True)
    sys.exit(status)


main()
