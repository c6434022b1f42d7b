#!/usr/bin/env python3
"""Writes the machine's part of docs/performance.md, and the figures of docs/figures, from what compare.py measured.

usage: report.py [FOLDER] [--document FILE] [--figures FOLDER]         FOLDER is build/peers

The document keeps its prose: only what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced, and a block
whose figures are not there stays as it is. Plots are made by gnuplot from FOLDER/plots/*.tsv, which this program writes; a plot
without data is not made. Ratios are of the least times over all visits; above 1: ours is the faster."""
import argparse
import collections
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
GATES = {"lstm": 4, "gru": 3}
TITLES = {"mtl_rnn": "ours", "pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "jax": "JAX", "onednn": "oneDNN",
          "onednn_omp": "oneDNN (OpenMP)"}
SHORT = {"pytorch": "T", "onnxruntime": "O", "jax": "J", "onednn": "D", "onednn_omp": "D"}


def rows_of(path):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))
    except OSError:
        return []


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def short(number):
    return f"{number:.3g}" if number < 99.95 else f"{number:.0f}"


def microseconds(us):
    return f"{us:.2f}" if us < 10 else f"{us:.1f}" if us < 100 else f"{us:.0f}"


def work(cell, mode, H, B, T):
    """floating-point operations, as build/bench counts them: the products alone, three times for training"""
    return 2 * GATES[cell] * H * 2 * H * B * T * (3 if mode in ("train", "fwdbwd") else 1)


def upper_slope(points):
    """the exponent of the growth: least squares of log(us) over log(size), through the last four points"""
    logs = [(math.log(size), math.log(us)) for size, us in sorted(points)[-4:]]
    if len(logs) < 2:
        return math.nan
    x, y = (sum(pair[k] for pair in logs) / len(logs) for k in (0, 1))
    return sum((a - x) * (b - y) for a, b in logs) / sum((a - x) ** 2 for a, _ in logs)


class Figures:
    """least time of every contestant at every point, and our best share of the peak"""

    def __init__(self, folder):
        self.folder = folder
        self.least, self.share, self.way, self.rounds = {}, {}, {}, collections.Counter()
        self.peak = rows_of(f"{folder}/peak.tsv")
        for row in rows_of(f"{folder}/peers.tsv"):
            if not row["us_min"] or self.beyond_the_peak(row):
                continue
            key = (row["part"], int(row["threads"]), row["cell"], row["mode"], int(row["H"]), int(row["B"]), int(row["T"]), row["peer"])
            us = float(row["us_min"])
            self.rounds[key] += 1
            if us < self.least.get(key, math.inf):
                self.least[key], self.way[key] = us, row["way"]
            if row["share"]:
                self.share[key] = max(float(row["share"]), self.share.get(key, 0))
        try:
            with open(f"{folder}/peers.json", encoding="utf-8") as file:
                self.about = json.load(file)
        except OSError:
            self.about = None

    def beyond_the_peak(self, row):
        """a peer on one core that claims more products a second than the core's multiply-adds can do has not done them: told, left out"""
        rate = self.best_isa()[0]
        if not rate or row["part"] != "grid" or row["threads"] != "1" or row["mode"] not in ("infer", "train", "fwdbwd"):
            return False
        done = work(row["cell"], row["mode"], int(row["H"]), int(row["B"]), int(row["T"])) / float(row["us_min"]) * 1e-3
        if done <= 1.1 * rate:
            return False
        print(f"report: left out: {row['peer']} {row['mode']} {row['cell']} H={row['H']} B={row['B']}: {done:.0f} GFLOP/s of {rate:.0f}", file=sys.stderr)
        return True

    def us(self, part, threads, cell, mode, H, B, T, peer):
        return self.least.get((part, threads, cell, mode, H, B, T, peer))

    def points(self, part, mode, threads):
        """{(cell, B, T): sizes} of the points at which ours was measured"""
        found = collections.defaultdict(list)
        for p, n, cell, m, H, B, T, peer in self.least:
            if (p, m, n, peer) == (part, mode, threads, "mtl_rnn"):
                found[cell, B, T].append(H)
        return {key: sorted(found[key]) for key in sorted(found, key=lambda key: (key[0] != "lstm", key))}

    def peers(self, part, threads, cell, mode, H, B, T):
        """{name: times our speed} at a point; oneDNN has no whole training step, so its forward and backward alone stand for it"""
        ours, found = self.us(part, threads, cell, mode, H, B, T, "mtl_rnn"), {}
        for peer in SHORT:
            theirs = self.us(part, threads, cell, mode, H, B, T, peer)
            if ours and theirs:
                found[peer] = theirs / ours
        return found

    def fastest(self, *point):
        found = self.peers(*point)
        return min(found.items(), key=lambda item: item[1]) if found else None

    def best_isa(self):
        rates = [(float(row["value"]), row["isa"]) for row in self.peak if row["what"] == "fma"]
        return max(rates, default=(None, None))


# ---- the blocks of the document: text, or None where nothing was measured -------------------------------------------

def block_machine(f):
    if not f.about:
        return None
    m, versions = f.about["machine"], f.about["versions"]
    rounds = [count for key, count in f.rounds.items() if key[0] in ("grid", "two")]
    clock = next((row["value"] for row in f.peak if row["what"] == "clock"), None)
    rows = [["processor", m["processor"] + f", {m['cores']} cores" + (f", {clock} GHz" if clock else "")], ["system", m["system"]],
            ["compiler", m["compiler"] + ", the Makefile's own -O2"], ["measured on", f.about["date"]],
            ["visits of each contestant at each point", f"{min(rounds)} to {max(rounds)}" if rounds else "none"]]
    rows += [[TITLES[name], versions[name]] for name in TITLES if name in versions and name != "mtl_rnn"]
    return table(["", ""], rows)


def block_peaks(f):
    if not f.peak:
        return None
    isas = list(dict.fromkeys(row["isa"] for row in f.peak if row["isa"] != "-"))
    value = {(row["what"], row["isa"], int(row["bytes"])): row for row in f.peak}

    def cells(what, size=0, scale=1.0):
        return [short(scale * float(value[what, isa, size]["value"])) if (what, isa, size) in value else "" for isa in isas]
    rows = [["multiply-add peak, GFLOP/s"] + cells("fma"),
            ["the same per cycle"] + [value["fma", isa, 0]["per_cycle"] if ("fma", isa, 0) in value else "" for isa in isas]]
    for what, title in (("load_fma", "load-fed multiply-add"), ("triad", "triad")):
        for size in [16 << k for k in range(10, 23, 2)]:    # every second one, for the table; all are in peak.tsv
            if not any((what, isa, size) in value for isa in isas):
                continue
            text = f"{size >> 10} KB" if size < 1 << 20 else f"{size >> 20} MB"
            rows.append([f"{title}, {text}, GB/s"] + cells(what, size))
    rows += [[f"{what}, elements a nanosecond"] + cells(what, 0, 1e-9) for what in ("exp", "tanh")]
    rows += [["bfloat16 products, GFLOP/s"] + cells("bf16_product")] if any(row["what"] == "bf16_product" for row in f.peak) else []
    return table(["one core"] + isas, rows)


def by_size(f, part, mode, threads, cell_text, head="cell, B, T"):
    """a table with a row for every cell and shape and a column for every H"""
    found = f.points(part, mode, threads)
    sizes = sorted({H for list_of in found.values() for H in list_of})
    if not sizes:
        return None
    rows = [[f"{cell.upper()}, {B}, {T}"] + [cell_text(cell, H, B, T) if H in here else "" for H in sizes] for (cell, B, T), here in found.items()]
    return table([head] + [f"H = {H}" for H in sizes], rows)


def block_share(f):
    parts = []
    for mode in ("train", "infer"):
        text = by_size(f, "grid", mode, 1, lambda cell, H, B, T: "%.0f %%" % (100 * f.share.get(("grid", 1, cell, mode, H, B, T, "mtl_rnn"), 0)),
                       f"{mode}: cell, B, T")
        if text:
            parts.append(text)
    return "\n\n".join(parts) or None


def against(f, part, mode, threads):
    """µs of ours; times PyTorch's speed; times the fastest peer's, named by a letter"""
    def text(cell, H, B, T):
        point = (part, threads, cell, mode, H, B, T)
        found, best = f.peers(*point), f.fastest(*point)
        return (f"{microseconds(f.us(*point, 'mtl_rnn'))} µs" + (f" · {short(found['pytorch'])}" if "pytorch" in found else "")
                + (f" · **{best[1]:.2f}** {SHORT[best[0]]}" if best else ""))
    return by_size(f, part, mode, threads, text)


def onednn_training(f):
    """oneDNN has no whole step: its forward and backward beside ours, alone where build/bench has that, and beside our whole step"""
    def text(cell, H, B, T):
        parts = []
        for mode in ("fwdbwd", "train"):
            ours = f.us("grid", 1, cell, mode, H, B, T, "mtl_rnn")
            theirs = [us for us in (f.us("grid", 1, cell, "fwdbwd", H, B, T, peer) for peer in ("onednn", "onednn_omp")) if us]
            parts.append(f"{min(theirs) / ours:.2f}" if ours and theirs else "–")
        return " · ".join(parts)
    return by_size(f, "grid", "train", 1, text)


def block_train(f):
    return against(f, "grid", "train", 1)


def block_onednn(f):
    return onednn_training(f)


def block_infer(f):
    return against(f, "grid", "infer", 1)


def block_stream(f):
    found = f.points("grid", "stream", 1)
    if not found:
        return None
    loads = {int(row["bytes"]): float(row["value"]) for row in f.peak if row["what"] == "load_fma" and row["isa"] == f.best_isa()[1]}
    rows = []
    for (cell, B, T), sizes in found.items():
        for H in sizes:
            us = {peer: f.us("grid", 1, cell, "stream", H, B, T, peer) for peer in TITLES}
            bytes_ = GATES[cell] * H * 2 * H * 4
            size = min((size for size in loads if size >= bytes_), default=max(loads, default=None))
            bound = bytes_ / loads[size] * 1e-3 if size else None               # GB/s = KB/µs
            rows.append([f"{cell.upper()} {H}", microseconds(us["mtl_rnn"])] +
                        [f"{microseconds(us[peer])} ({short(us[peer] / us['mtl_rnn'])})" if us[peer] else ""
                         for peer in ("onnxruntime", "pytorch", "jax")] +
                        [f"{bytes_ >> 10} KB", f"{100 * bound / us['mtl_rnn']:.0f} %" if bound else ""])
    return table(["cell, H", "ours, µs", "ONNX Runtime, µs (ratio)", "PyTorch", "JAX", "weights", "share of the load-fed bound"], rows)


def block_threads(f):
    found = f.points("two", "train", 2)
    if not found:
        return None

    def gain(cell, H, B, T):
        return " · ".join(f"{one / two:.2f}" if one and two else "–" for one, two in (
            (f.us("grid", 1, cell, "train", H, B, T, peer), f.us("two", 2, cell, "train", H, B, T, peer)) for peer in ("mtl_rnn", "pytorch")))
    parts = ["Speed with two threads against one, training, ours · PyTorch:\n", by_size(f, "two", "train", 2, gain)]
    for mode, title in (("train", "Training"), ("infer", "Inference")):
        text = against(f, "two", mode, 2)
        if text:
            parts += [f"\n{title} with two threads on both sides (cells as above):\n", text]
    return "\n".join(parts)


def block_snips(f):
    runs = sorted({(key[1], key[3], key[7]) for key in f.least if key[0] == "snips"})
    if not runs:
        return None
    def seconds(threads, mode, peer):
        us = f.us("snips", threads, "lstm", mode, 128, 32, 0, peer)
        return us * 1e-6 if us else None
    rows = []
    for threads in sorted({run[0] for run in runs}):
        # PyTorch's best thread count is what two cores are compared with
        base = {mode: min((s for s in (seconds(n, f"{mode}-padded", "pytorch") for n in range(1, threads + 1)) if s), default=None)
                for mode in ("train", "eval")}
        for peer, way, title in (("mtl", "adam", "mtl, exact Adam"), ("mtl", "lazy", "mtl, lazy Adam"), ("pytorch", "padded", "PyTorch, padded"),
                                 ("pytorch", "packed", "PyTorch, packed")):
            train, evaluate = seconds(threads, f"train-{way}", peer), seconds(threads, f"eval-{way}", peer)
            if train:
                rows.append([title, threads, f"{train:.2f}", f"{evaluate:.3f}"] + [
                    f"{base[mode] / s:.2f}" if base[mode] else "" for mode, s in (("train", train), ("eval", evaluate))])
    return table(["", "threads", "an epoch of training, s", "evaluation, s", "times PyTorch padded: training", "evaluation"], rows)


def block_ragged(f):
    names = sorted({key[3].rsplit("-", 1)[0] for key in f.least if key[0] == "ragged"})
    rows = []
    for name in names:
        for peer in ("mtl_rnn", "pytorch"):
            us = {way: f.us("ragged", 1, "lstm", f"{name}-{way}", 128, 32, 0, peer) for way in ("packed", "padded", "equal")}
            if us["equal"]:
                rows.append([name, TITLES[peer], f"{us['equal'] / 1e3:.1f}"] + [
                    f"{us[way] / 1e3:.1f} ({us[way] / us['equal']:.3f})" if us[way] else "" for way in ("packed", "padded")])
    return table(["lengths of", "", "equal lengths, ms", "real lengths packed, ms (ratio)", "padded"], rows) if rows else None


def growth_of(f):
    series = collections.defaultdict(list)
    for row in rows_of(f"{f.folder}/growth.tsv"):
        series[row["series"]].append((float(row["size"]), float(row["us"])))
    return series


def block_growth(f):
    series = growth_of(f)
    rows = [[name.replace("_", " "), f"{min(points)[0]:.0f} … {max(points)[0]:.0f}",
             f"{microseconds(min(points)[1])} … {microseconds(max(points)[1])}", f"{upper_slope(points):.2f}"] for name, points in series.items()]
    return table(["series", "sizes", "µs of a step", "slope of the last four points"], rows) if rows else None


# ---- plots ----------------------------------------------------------------------------------------------------------

def write(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines("\t".join(map(str, line)) + "\n" for line in lines)


def blocks_of(path, blocks):
    """gnuplot's index blocks: {title: rows}, each opened by a line with its title, two empty lines between"""
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n\n".join("\n".join(['"' + title + '"'] + ["\t".join(map(str, row)) for row in rows]) + "\n"
                               for title, rows in blocks.items() if rows))
    return any(blocks.values())


def data_roofline(f, folder):
    """GFLOP/s over FLOP per byte of the passes' own memory (weights, inputs and outputs each moved once; three times for training)"""
    peak, isa = f.best_isa()
    if not peak:
        return None
    loads = {int(row["bytes"]): float(row["value"]) for row in f.peak if row["what"] == "load_fma" and row["isa"] == isa}
    far = [float(row["value"]) for row in f.peak if row["what"] == "triad" and row["isa"] == isa and int(row["bytes"]) == max(
        int(r["bytes"]) for r in f.peak if r["what"] == "triad")]
    intensity = [2.0 ** (k / 4) for k in range(-8, 49)]
    roofs = {}
    for text, rate in [(f"{name}: {loads[size]:.0f} GB/s", loads[size]) for name, size in
                       (("L1, 16 KB", 16 << 10), ("L2, 256 KB", 256 << 10), ("L3, 4 MB", 4 << 20)) if size in loads] + \
            ([(f"memory: {far[0]:.0f} GB/s", far[0])] if far else []):
        roofs[text] = [(x, min(peak, x * rate)) for x in intensity]
    dots = {}
    for mode in ("train", "infer", "stream"):
        for (cell, B, T), sizes in f.points("grid", mode, 1).items():
            here = dots.setdefault(f"{mode}, {cell.upper()}", [])
            for H in sizes:
                flops, times = work(cell, mode, H, B, T), 3 if mode == "train" else 1
                moved = 4 * times * (GATES[cell] * H * 2 * H + 2 * H * B * T)
                here.append((flops / moved, flops / f.us("grid", 1, cell, mode, H, B, T, "mtl_rnn") * 1e-3))
    if not dots:
        return None
    blocks_of(f"{folder}/roofline.tsv", {**roofs, **dots})
    return {"roofs": len(roofs), "dots": len(dots), "peak": peak, "isa": f"'{isa}'"}


def data_ratio(f, folder):
    blocks = {}
    for mode in ("train", "infer"):
        for (cell, B, T), sizes in f.points("grid", mode, 1).items():
            rows = [(H, f.fastest("grid", 1, cell, mode, H, B, T)) for H in sizes]
            blocks[f"{mode} {cell.upper()} {B}x{T}"] = [(H, best[1]) for H, best in rows if best]
    by_mode = {mode: {title.split(" ", 1)[1]: rows for title, rows in blocks.items() if title.startswith(mode) and rows}
               for mode in ("train", "infer")}
    if not any(by_mode.values()):
        return None
    for mode, those in by_mode.items():
        blocks_of(f"{folder}/ratio_{mode}.tsv", those)
    return {"train": len(by_mode["train"]), "infer": len(by_mode["infer"])}


def data_growth(f, folder):
    kinds = collections.defaultdict(dict)
    for name, points in growth_of(f).items():
        cell, kind = name.rsplit(" ", 1)
        title = cell.upper() if cell in GATES else cell
        kinds[kind][f"{title}, slope {upper_slope(points):.2f}"] = sorted(points)
    known = [kind for kind in ("T", "B", "H", "vocabulary", "tasks") if kind in kinds]
    for kind in known:
        blocks_of(f"{folder}/growth_{kind}.tsv", kinds[kind])
    return {"kinds": "'" + " ".join(known) + "'", **{f"series_{kind}": len(kinds[kind]) for kind in known}} if known else None


def data_parts(f, folder):
    """a column for each part of a step, a row for each size"""
    rows = rows_of(f"{f.folder}/parts.tsv")
    if not rows:
        return None
    us = {(f"{row['cell'].upper()} {row['H']}", row["part"]): float(row["us_min"]) for row in rows}
    names, steps = list(dict.fromkeys(part for _, part in us)), list(dict.fromkeys(step for step, _ in us))
    write(f"{folder}/parts.tsv", [["step"] + ['"' + name.replace("_", " ") + '"' for name in names]] +
          [[f'"{step}"'] + [100 * us[step, name] / sum(us[step, n] for n in names) for name in names] for step in steps])
    return {"columns": len(names) + 1}


PLOTS = {"roofline": data_roofline, "ratio": data_ratio, "growth": data_growth, "parts": data_parts}


def plot(f, figures):
    folder = f"{f.folder}/plots"
    os.makedirs(folder, exist_ok=True)
    if not shutil.which("gnuplot"):
        print("report.py: no plots: there is no gnuplot")
        return
    for name, data in PLOTS.items():
        settings = data(f, folder)
        if not settings:
            print(f"report.py: no figure {name}: nothing measured for it")
            continue
        os.makedirs(figures, exist_ok=True)
        out = os.path.abspath(f"{figures}/{name}.svg")
        given = "".join(f"{key}={value};" for key, value in settings.items()) + f"out='{out}';"
        subprocess.run(["gnuplot", "-e", given, f"{HERE}/../plots/{name}.gp"], cwd=folder, check=True)


# ---- the document ---------------------------------------------------------------------------------------------------

def fill(document, f):
    with open(document, encoding="utf-8") as file:
        text = file.read()
    for name in re.findall(r"<!-- begin (\w+) -->", text):
        make = globals().get(f"block_{name}")
        if not make:
            sys.exit(f"report.py: {document} has a block '{name}' that nobody knows")
        content = make(f)
        if content is None:
            print(f"report.py: block {name} stays as it is: nothing measured for it")
            continue
        start, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"report.py: {document}: the markers of '{name}' must stand once each")
        head, tail = text.index(start) + len(start), text.index(end)
        text = text[:head] + "\n" + content + "\n" + text[tail:]
    with open(document + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(document + ".new", document)


def main():
    options = argparse.ArgumentParser(description="writes the tables and figures of the performance chapter")
    options.add_argument("folder", nargs="?", default=f"{ROOT}/build/peers")
    options.add_argument("--document", default=f"{ROOT}/docs/performance.md")
    options.add_argument("--figures", default=f"{ROOT}/docs/figures")
    options = options.parse_args()
    figures = Figures(options.folder)
    fill(options.document, figures)
    plot(figures, options.figures)


if __name__ == "__main__":
    main()
