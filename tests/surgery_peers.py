#!/usr/bin/env python3
"""make surgery-peers: what trainer.surgery makes of tasks' gradients, beside TorchJD.

    python tests/surgery_peers.py [--sets N] [--seed N]

Random sets of gradients of 2 to 8 tasks, some of them at odds, some of very different length, some fewer
dimensions than tasks, go to mtl_rnn.h (tests/surgery_peers.c) and to the stock package torchjd as Gram matrices in
float64. The header multiplies what the package calls a mean by the number of tasks; regularisers and the order in
which pcgrad and gradvac go through tasks are set equal. What must agree: the gradient that the weights make, to 1e-4
of its size (or of the mean gradient's, where that is larger). mgda is judged by itself, since the package's solver
stops early: no task's gradient may have a smaller product with the result than the result has with itself, to 1e-5
of the largest, and the result is not longer than the package's. A line for each method, then the count.
"""
import argparse
import os
import pathlib
import shlex
import subprocess
import sys
import warnings
from unittest import mock

import cvxpy
import torch
from torchjd.aggregation import (AlignedMTLWeighting, CAGradWeighting, GradVacWeighting, MGDAWeighting, PCGradWeighting,
                                 UPGradWeighting)

TOP = pathlib.Path(__file__).resolve().parent.parent
FLOAT = torch.finfo(torch.float32)
C, BETA = 0.5, 0.2
TOLERANCE, RESIDUAL = 1e-4, 1e-5
METHODS = ["pcgrad", "gradvac", "mgda", "cagrad", "aligned", "upgrad"]
IN_TURN = 5                     # gradvac remembers: so many sets of one number of tasks come one after the other


def draw_sets(count, seed):
    """Matrices [tasks][dimensions]."""
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for number in range(count):
        tasks = 2 + number // IN_TURN % 7
        wide = tasks + 1 + int(torch.randint(20, (1,), generator=generator))
        narrow = number % 10 == 9
        g = torch.randn(tasks, max(1, tasks - 1) if narrow else wide, generator=generator, dtype=torch.float64)
        if number % 3 == 1:     # at odds: all but one lean away from a common direction
            g[1:] -= 0.7 * g[0]
        if number % 4 == 2:     # lengths from 0.03 to 30
            g *= 10 ** (3 * torch.rand(tasks, 1, generator=generator, dtype=torch.float64) - 1.5)
        sets.append(g)
    return sets


def compile_driver():
    program = TOP / "build" / "surgery_peers"
    program.parent.mkdir(exist_ok=True)
    command = shlex.split(os.environ.get("CC", "cc")) + ["-std=c99", "-O2", "-Wall", "-Wextra", "-pthread", f"-I{TOP}"]
    subprocess.run(command + ["-o", program, TOP / "tests" / "surgery_peers.c", "-lm"], check=True)
    return program


def ours(program, method, grams):
    """Weights and orders of each Gram matrix."""
    cases = [f"{method} {len(g)} {C} {BETA} {i + 1} " + " ".join(f"{x:.17g}" for x in g.flatten().tolist())
             for i, g in enumerate(grams)]
    lines = subprocess.run([program], input="\n".join(cases), capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2 * len(grams), "the C side stopped early"
    for g, weights, orders in zip(grams, lines[::2], lines[1::2]):
        order = torch.tensor([int(x) for x in orders.split()]).reshape(len(g), len(g) - 1)
        yield torch.tensor([float(x) for x in weights.split()], dtype=torch.float64), order


def precise(stock):
    """cvxpy's solve to the last digits: at its default the objective is 1e-9 off, and its place 1e-4."""
    return lambda problem, solver: stock(problem, solver, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)


def theirs(method, peer, gram, order):
    """The package's weights, times the number of tasks where they are of a mean. Set equal: the orders that the C side
    took (gradvac numbers the others alone), how well cagrad's solver solves, and the rounding below which aligned takes
    an eigenvalue for 0, which is float's, as the header's gradients are."""
    rows = [[j - (j > i) for j in row] if method == "gradvac" else row + [i] for i, row in enumerate(order.tolist())]
    orders = iter(torch.tensor(row) for row in rows)
    with mock.patch("torch.randperm", lambda n: next(orders)), \
            mock.patch("cvxpy.Problem.solve", precise(cvxpy.Problem.solve)), \
            mock.patch("torch.finfo", lambda _: FLOAT):
        weights = peer(gram)
    return weights * (1 if method in ("pcgrad", "gradvac") else len(gram))


def distance(gram, a, b):
    """Of the gradients that the weights make, as a share of the larger of theirs and the plain sum."""
    def length(w):
        return float((w @ gram @ w).clamp(min=0).sqrt())
    return length(a - b) / max(length(b), length(torch.ones(len(gram), dtype=gram.dtype)))


def residual(gram, weights):
    """How far convex weights, times their number, are from the shortest combination's conditions."""
    w = weights / len(gram)
    products, size = gram @ w, float(w @ gram @ w)
    off = max(abs(float(w.sum()) - 1), -float(w.min()))
    return max(off, (size - float(products.min())) / float(gram.diagonal().max()))


def compare(program, method, sets):
    grams = [g @ g.T for g in sets if method != "aligned" or g.shape[0] < g.shape[1]]   # ranks by rounding differ there
    worst = 0
    peers = {"pcgrad": PCGradWeighting(), "gradvac": GradVacWeighting(beta=BETA), "mgda": MGDAWeighting(),
             "cagrad": CAGradWeighting(c=C), "aligned": AlignedMTLWeighting(), "upgrad": UPGradWeighting()}
    tasks = 0
    for gram, (weights, order) in zip(grams, ours(program, method, grams)):
        if len(gram) != tasks:                  # what is remembered of pairs begins anew on both sides
            peers["gradvac"].reset()
            tasks = len(gram)
        peer = theirs(method, peers[method], gram, order)
        if method == "mgda":
            longer = float(weights @ gram @ weights) / float(peer @ gram @ peer) - 1
            worst = max(worst, residual(gram, weights) / RESIDUAL, longer / RESIDUAL)
        else:
            worst = max(worst, distance(gram, weights, peer) / TOLERANCE)
    print(f"{method:8} {len(grams)} sets, largest difference as a share of what is allowed: {worst:.2g}")
    return worst <= 1 and len(grams) >= 50


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=140, help="sets of gradients (140)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Solution may be inaccurate")     # than asked for: still far below what is compared
    sets, program = draw_sets(options.sets, options.seed), compile_driver()
    good = sum(compare(program, method, sets) for method in METHODS)
    print(f"{good} methods agree, {len(METHODS) - good} do not")
    return good < len(METHODS)


if __name__ == "__main__":
    sys.exit(main())
