#!/usr/bin/env python3
"""make parity: random models trained side by side in PyTorch (float64) and in mtl_rnn.h, in a double and in a float build.

    python tests/parity.py [--quick] [--of plain|sharing] [--count N] [--seed N] [--only I]

Each configuration is drawn from (seed, its number): inputs, columns, cells, tasks, losses, missing labels, micro-batches,
carried states, optimiser, clipping, schedule, frozen parts (parity_draw.py). Those of `sharing` take the presets of
mtl_share in turn, and then parts that read any mix of one another: tasks of several data sets, columns that some tasks
alone may train, stopped and reversed gradients, penalties. The preset is a line for the C side; PyTorch's side makes its
own of it (parity_sharing.py). Both sides start from the same weights and see the same five updates. What must agree, with
PyTorch's float64 as the truth:

    double build    each parameter after five updates, to 1e-9 of max(1, its size); predictions, losses, norms likewise
    float build     each update's loss to 1e-5 of its size; each tensor's first gradient to 1e-5 of its norm

Some problems cannot be computed so exactly in float, whoever does it: sums that cancel, and optimisers that make a full step
of what is left of such a sum. They are known by PyTorch's own float32 run, which then misses float64 by more than a tenth of
the tolerance; they are compared in double only, and counted.

A configuration that does not agree prints one line that begins with how to repeat it. The last line counts them.
"""
import argparse
import copy
import math
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
from collections import namedtuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOP / "tests" / "golden"))
import parity_draw  # noqa: E402
import parity_sharing  # noqa: E402
import reference  # noqa: E402

TOLERANCE = {"double": 1e-9, "float": 1e-5}
ILL_CONDITIONED = TOLERANCE["float"] / 10
AT_ONCE = 20                                    # configurations


# ---- one configuration ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def predictions(model, batch):
    """What mtl_predict gives: probabilities, or values in the original units."""
    outputs, _ = model(batch)
    return {t["name"]: answer(t, outputs[t["name"]], batch["lengths"]).numpy().ravel() for t in model.config["tasks"]}


def answer(task, x, lengths):
    if task["kind"] != "real":
        x = parity_sharing.distribution(task, x)
    elif "mean" in task:
        x = x * torch.as_tensor(task["deviation"]) + torch.as_tensor(task["mean"])
    return parity_sharing.mean_of_steps(x, lengths) if task.get("per_step") else x


def as_float(batch):
    """The batch with its float64 numbers in float32."""
    def convert(tensors):
        return {k: v.float() if v.dtype == torch.float64 else v for k, v in tensors.items()}
    return batch | {"inputs": convert(batch["inputs"]), "targets": convert(batch["targets"])}


def relative(got, want):
    """Distance as a share of the size; what is zero but for rounding has no size to speak of."""
    got, want = (np.asarray(v, np.float64) for v in (got, want))
    return float(np.linalg.norm(got - want)) / max(float(np.linalg.norm(want)), 1e-6)


def draw_plain(draw, index):
    config = parity_draw.draw_config(draw)
    return config, config


# draw(draw, index): the description for the C side, and that for PyTorch's, which is model and trainer. count: how many.
Kind = namedtuple("Kind", "draw model trainer count")
KINDS = {
    "plain": Kind(draw_plain, reference.Model, reference.Trainer, 250),
    "sharing": Kind(parity_draw.draw_sharing, parity_sharing.Model, parity_sharing.Trainer, 140),
}


class Case:
    """One configuration: the file that describes it, and what PyTorch makes of it."""

    def __init__(self, kind, seed, index, folder):
        self.kind, self.seed, self.index, self.trainer = kind, seed, index, KINDS[kind].trainer
        draw = parity_draw.Draw(seed, index)
        description, config = KINDS[kind].draw(draw, index)
        data = parity_draw.draw_data(draw, config)
        model = KINDS[kind].model(config)
        reference.randomise(model, draw.generator)
        self.text = reference.config_text("case", written(description))
        self.path = folder / f"{kind}-{seed}-{index}.safetensors"
        tensors = reference.problem_tensors(model, data)
        save_file({f"case/{k}": np.ascontiguousarray(v) for k, v in tensors.items()}, self.path, {"cases": self.text})
        self.predictions = predictions(model, data[0][0])
        self.tasks = [t["name"] for t in config["tasks"]]
        in_float = copy.deepcopy(model).float()
        self.steps, self.gradients, self.final = reference.train(model, data, self.trainer)
        self.final |= model.buffers_held()
        self.ill_conditioned = self.float_error(in_float, data) > ILL_CONDITIONED

    def float_error(self, model, data):
        """How far PyTorch's float32 is from its float64 in what the float build is judged by."""
        data = [[as_float(batch) for batch in batches] for batches in data]
        steps, gradients, _ = reference.train(model, data, self.trainer)
        losses = [relative(a["loss"], b["loss"]) for a, b in zip(steps, self.steps)]
        norms = [relative(gradients[name], gradient) for name, gradient in self.gradients.items()]
        return max(losses + norms)

    def forget(self):
        """Lets go of what has been compared: it is large."""
        self.predictions = self.gradients = self.final = None

    def repeat(self):
        return f"--of {self.kind} --seed {self.seed} --only {self.index}"


def written(config):
    """Without what tells how targets were drawn, which is no field."""
    def without(desc, names):
        return {k: v for k, v in desc.items() if k not in names}
    return config | {"tasks": [without(t, ["soft"]) for t in config["tasks"]], "run": without(config["run"], ["sets", "parted"])}


# ---- the C side -------------------------------------------------------------------------------------------------------------


def compile_driver(build):
    program = TOP / "build" / f"parity_{build}"
    program.parent.mkdir(exist_ok=True)
    command = shlex.split(os.environ.get("CC", "cc")) + ["-std=c99", "-O2", "-Wall", "-Wextra", "-pthread", f"-I{TOP}"]
    command += ["-DMTL_REAL=double"] if build == "double" else []
    subprocess.run(command + ["-o", program, TOP / "tests" / "parity.c", "-lm"], check=True)
    return program


def run_driver(program, build, cases):
    """The lines about each case. A case that ends the program is one failure: the rest go to a new one."""
    lines, waiting = {}, [c.path for c in cases]
    while waiting:
        output = subprocess.run([program, build, *waiting], capture_output=True, text=True)
        for line in output.stdout.splitlines():
            word, _, rest = line.partition(" ")
            if word == "file":
                path = pathlib.Path(rest)
                lines[path] = []
            else:
                lines[path].append((word, rest))
        if output.returncode == 0:
            break
        lines.setdefault(waiting[0], [])
        last = list(lines)[-1]
        lines[last].append(("error", f"the program ended with status {output.returncode} {output.stderr.strip()[-300:]}"))
        waiting = waiting[waiting.index(last) + 1:]
    return lines


# ---- comparing ----------------------------------------------------------------------------------------------------------------


class Comparison:
    """Differences as shares of what they may be: above 1 is a failure."""

    def __init__(self):
        self.worst = {}                         # what -> (share, where)

    def add(self, what, where, difference, allowed):
        share = difference / allowed if difference == difference else math.inf
        self.worst[what] = max(self.worst.get(what, (0, "")), (share, where))

    def compare(self, what, where, got, want, allowed, scale):
        """scale "each": every element by max(1, its size); "largest": all by the largest; "norm": by norms, as one number."""
        got, want = (np.atleast_1d(np.asarray(v, np.float64)) for v in (got, want))
        if got.shape != want.shape:
            self.add(what, f"{where}: shape {got.shape}, not {want.shape}", math.inf, 1)
        elif scale == "norm":
            self.add(what, where, relative(got, want), allowed)
        else:
            size = np.maximum(1, np.abs(want)) if scale == "each" else np.max(np.abs(want), initial=1e-6)
            self.add(what, where, float(np.max(np.abs(got - want) / size, initial=0)), allowed)

    def failures(self):
        return [f"{what} of {where}: {share:.3g} times the tolerance" for what, (share, where) in self.worst.items() if share > 1]


def numbers(text):
    return np.array([float(x) for x in text.split()])


def compare(case, build, lines):
    result, allowed = Comparison(), TOLERANCE[build]
    errors = [rest for word, rest in lines if word == "error"]
    if errors or not lines or lines[-1][0] != "done":
        result.add(f"{build}: {errors[0] if errors else 'no answer'}", "the C side", math.inf, 1)
        return result
    if build == "float" and case.ill_conditioned:
        return result
    for word, rest in lines:
        if word == "predict":
            name, _, values = rest.partition(" ")
            result.compare(f"{build} predictions", name, numbers(values), case.predictions[name], allowed, "largest")
    first = next(numbers(rest) for word, rest in lines if word == "first")
    task_losses = [case.steps[0]["task_loss"].get(name, 0.0) for name in case.tasks]
    result.compare(f"{build} losses", "the tasks of update 1", first[2:], task_losses, allowed, "largest")
    steps = [numbers(rest) for word, rest in lines if word == "step"]
    for u, (got, want) in enumerate(zip(steps, case.steps, strict=True)):
        result.compare(f"{build} losses", f"update {u + 1}", got[0], want["loss"], allowed, "largest")
        if "rate " not in case.text:            # parts with rates of their own: PyTorch's first group may be one
            result.compare(f"{build} learning rate", f"update {u + 1}", got[2], want["lr"], allowed, "largest")
    result.compare(f"{build} gradient norm", "update 1", first[1], case.steps[0]["grad_norm"], allowed, "largest")
    gradients = load_file(f"{case.path}.gradients.{build}")
    for name, gradient in case.gradients.items():
        result.compare(f"{build} gradients", name, gradients[name], gradient.numpy(), allowed, "norm")
    final = load_file(f"{case.path}.final.{build}")
    if set(final) != set(case.final):
        result.add(f"{build} parameters", f"names {sorted(set(final) ^ set(case.final))}", math.inf, 1)
    elif build == "double":
        for name, parameter in case.final.items():
            result.compare(f"{build} parameters", name, final[name], parameter.numpy(), allowed, "each")
    return result


def report(cases, results, describe):
    """A line per failure, the largest difference of each kind, the count. Returns how many failed."""
    failed, worst = 0, {}
    for case, comparisons in zip(cases, results):
        failures = [f for c in comparisons for f in c.failures()]
        if failures:
            failed += 1
            print(f"FAILED {case.repeat()}: {'; '.join(failures)}")
        if describe:
            print(case.text)
        for c in comparisons:
            for what, (share, where) in c.worst.items():
                worst[what] = max(worst.get(what, (0, "")), (share, f"{where}, {case.repeat()}"))
    for what, (share, where) in sorted(worst.items()):
        print(f"largest difference, as a share of what is allowed: {share:8.2g}  {what} ({where})")
    print(f"{sum(c.ill_conditioned for c in cases)} of {len(cases)} configurations were compared in double only")
    for kind in dict.fromkeys(c.kind for c in cases):
        print(f"{sum(c.kind == kind for c in cases)} of kind {kind}")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return failed


def run_some(which, seed, folder, programs):
    """Cases and what was compared of each."""
    cases = [Case(kind, seed, i, folder) for kind, i in which]
    answers = {build: run_driver(program, build, cases) for build, program in programs.items()}
    results = [[compare(case, build, answers[build].get(case.path, [])) for build in programs] for case in cases]
    for case in cases:
        case.forget()
    return cases, results


def run(which, seed, folder, describe):
    """which: pairs of a kind and a number. Some at a time, so that memory does not grow with their number."""
    programs = {build: compile_driver(build) for build in TOLERANCE}
    cases, results = [], []
    for i in range(0, len(which), AT_ONCE):
        some, compared = run_some(which[i:i + AT_ONCE], seed, folder, programs)
        cases += some
        results += compared
    return report(cases, results, describe)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the configurations")
    parser.add_argument("--of", choices=list(KINDS), help="configurations of this kind alone")
    parser.add_argument("--count", type=int, help="configurations of each kind (250 plain ones, 140 of sharing)")
    parser.add_argument("--seed", type=int, default=1, help="of all of them (1)")
    parser.add_argument("--only", type=int, metavar="I", help="number I alone; it is shown, its files stay in build/parity")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    if options.only is not None:
        folder = TOP / "build" / "parity"
        folder.mkdir(parents=True, exist_ok=True)
        return run([(options.of or "plain", options.only)], options.seed, folder, True) > 0
    counts = {kind: options.count or KINDS[kind].count for kind in ([options.of] if options.of else KINDS)}
    which = [(kind, i) for kind, n in counts.items() for i in range(n // 10 if options.quick else n)]
    with tempfile.TemporaryDirectory() as folder:
        return run(which, options.seed, pathlib.Path(folder), False) > 0


if __name__ == "__main__":
    sys.exit(main())
