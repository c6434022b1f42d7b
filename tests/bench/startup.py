#!/usr/bin/env python3
"""Measures how fast the command itself is: start-up, one line of `mtl predict`, and the reading of data.

    python3 tests/bench/startup.py --model MODEL --data FILE.tsv [--mtl build/mtl] [--starts 50] [--lines 1000]
                                   [--megabytes 100] [--reads 3] [--threads N]

MODEL was trained on the task TSV (`build/mtl train --data FILE.tsv --epochs 1 --out MODEL`). For steady figures on one
processor: `taskset -c 1 python3 ...`; this script then shares it with the command, as a shell pipe would.

Prints TSV with a header line on standard output, one figure a line:

    first_answer_min, _median       from the start of `mtl predict` to its first answer, the line waiting in its pipe
    line_min, _median, _p99         a line written to a running `mtl predict` until its answer has come
    read_tsv, _conllu, _frames      a file of --megabytes read as training data (open the file ... the data are in memory), as
                                    the command itself reports it; the best of --reads; nothing is trained
    read_tsv_eval                   the same by `mtl eval`, whose labels are known beforehand

The files to read are made from the data: texts over and over, every tenth word varied, so that the vocabulary grows as
that of a real file of the size would; CoNLL-U of the same words; CSV frames of random numbers."""
import argparse
import contextlib
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

MEGABYTE = 1000000
REPORT = re.compile(rb": ([0-9.]+) MB read in ([0-9.]+) s")


def load_tsv(path):
    """header cells and rows of cells"""
    with open(path, encoding="utf-8") as lines:
        rows = [line.rstrip("\r\n").split("\t") for line in lines]
    if "text" not in rows[0]:
        sys.exit(f"startup.py: {path}: no column named text in the first line")
    return rows[0], rows[1:]


@contextlib.contextmanager
def started(arguments):
    """a process that has ended when the block has, whichever way that is left"""
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(process, line, answers, output):
    """writes a line and waits for `answers` lines; they are left in output[0]"""
    process.stdin.write(line)
    got = b""
    while got.count(b"\n") < answers:
        piece = os.read(process.stdout.fileno(), 65536)
        if not piece:
            sys.exit("startup.py: mtl predict ended before its answer")
        got += piece
    output[0] = got


def measure_start(arguments, line, repeats):
    """seconds from process start to the first answer (which stands behind the header line), sorted"""
    seconds, output = [], [b""]
    for _ in range(repeats):
        begin = time.perf_counter()
        with started(arguments) as process:
            ask(process, line, 2, output)
            seconds.append(time.perf_counter() - begin)
    return sorted(seconds)


def measure_lines(arguments, lines, count):
    seconds, output = [], [b""]
    with started(arguments) as process:
        ask(process, lines[0], 2, output)
        for i in range(count):
            line = lines[i % len(lines)]
            begin = time.perf_counter()
            ask(process, line, 1, output)
            seconds.append(time.perf_counter() - begin)
            if not output[0].startswith(line.rstrip(b"\n") + b"\t"):
                sys.exit(f"startup.py: {line!r} was answered by {output[0]!r}")
    return sorted(seconds)


def vary(words, copy, chance):
    return [word + str(copy) if chance.random() < 0.1 else word for word in words]


def write_tsv(path, header, rows, size):
    """the rows over and over, every tenth word varied, until the file has `size` bytes"""
    chance, text = random.Random(1), header.index("text")
    written, copy = 0, 0
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        written += out.write("\t".join(header) + "\n")
        while written < size:
            lines = []
            for row in rows:
                words = " ".join(vary(row[text].split(" "), copy, chance))
                lines.append("\t".join(row[:text] + [words] + row[text + 1:]) + "\n")
            written += out.write("".join(lines))
            copy += 1


def write_conllu(path, header, rows, size):
    """every word with two tags made from its length, in CoNLL-U's ten columns"""
    chance, text = random.Random(2), header.index("text")
    written, copy = 0, 0
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        while written < size:
            lines = []
            for number, row in enumerate(rows):
                lines.append(f"# sent_id = {copy}-{number}\n")
                for i, word in enumerate(vary(row[text].split(" "), copy, chance)):
                    kind = len(word) % 12
                    lines.append(f"{i + 1}\t{word}\t{word}\tT{kind}\tX{kind}\tA={kind}|B={i % 3}\t{i}\tdep{kind}\t_\t_\n")
                lines.append("\n")
            written += out.write("".join(lines))
            copy += 1


def write_frames(path, size):
    """sequences of 200 rows with eight features of five digits, a real and a class a row"""
    chance = random.Random(3)
    written, number = 0, 0
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        written += out.write("unit,a,b,c,d,e,f,g,h,wear,state\n")
        while written < size:
            lines = []
            for step in range(200):
                cells = ",".join(f"{chance.random() * 100:.4f}" for _ in range(8))
                lines.append(f"u{number},{cells},{200 - step},s{step // 50}\n")
            written += out.write("".join(lines))
            number += 1


def measure_read(arguments, repeats):
    """the best of the command's own reports, in MB/s. The last file that `arguments` name does not exist: the command ends when it
    has read what is before it, and trains or scores nothing."""
    rates = []
    for _ in range(repeats):
        output = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                check=False).stderr
        report = REPORT.search(output)
        if not report:
            sys.exit("startup.py: no report of a file read (files of 16 MB and more are reported): " + output.decode(errors="replace"))
        rates.append(float(report.group(1)) / float(report.group(2)))
    return max(rates)


def show(what, value, unit):
    print(f"{what}\t{value:.1f}\t{unit}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Measures start-up, latency and reading of the command mtl.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="the task TSV that the model was trained on, or one like it")
    parser.add_argument("--mtl", default="build/mtl")
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, default=100, help="0: reading is not measured")
    parser.add_argument("--reads", type=int, default=3)
    parser.add_argument("--threads", help="of mtl predict; without it the command's own default")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))     # as an exception: processes are ended
    header, rows = load_tsv(given.data)
    lines = [(row[header.index("text")] + "\n").encode() for row in rows]
    predict = [given.mtl, "predict", "--model", given.model] + (["--threads", given.threads] if given.threads else [])

    print("what\tvalue\tunit")
    if given.starts:
        seconds = measure_start(predict, lines[0], given.starts)
        show("first_answer_min", seconds[0] * 1e3, "ms")
        show("first_answer_median", statistics.median(seconds) * 1e3, "ms")
    if given.lines:
        seconds = measure_lines(predict, lines, given.lines)
        show("line_min", seconds[0] * 1e6, "us")
        show("line_median", statistics.median(seconds) * 1e6, "us")
        show("line_p99", seconds[len(seconds) * 99 // 100] * 1e6, "us")
    if not given.megabytes:
        return
    with tempfile.TemporaryDirectory() as folder:
        size, out, absent = given.megabytes * MEGABYTE, os.path.join(folder, "out.safetensors"), os.path.join(folder, "absent")
        tsv, conllu, frames = (os.path.join(folder, name) for name in ("data.tsv", "data.conllu", "data.csv"))
        write_tsv(tsv, header, rows, size)
        show("read_tsv", measure_read([given.mtl, "train", "--preset", "plain", "--data", tsv, "--valid", absent, "--out", out], given.reads), "MB/s")
        show("read_tsv_eval", measure_read([given.mtl, "eval", "--model", given.model, "--data", tsv, "--data", absent], given.reads), "MB/s")
        os.remove(tsv)
        write_conllu(conllu, header, rows, size)
        show("read_conllu", measure_read([given.mtl, "train", "--preset", "plain", "--data", conllu, "--valid", absent, "--out", out], given.reads), "MB/s")
        os.remove(conllu)
        write_frames(frames, size)
        show("read_frames", measure_read([given.mtl, "train", "--preset", "plain", "--frames", frames, "--sequence", "unit", "--features", "a,b,c,d,e,f,g,h",
                                          "--task", "wear:reals", "--task", "state:tags", "--valid", absent, "--out", out], given.reads), "MB/s")


if __name__ == "__main__":
    main()
