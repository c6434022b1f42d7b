#!/usr/bin/env python3
"""make parity: random models trained side by side in PyTorch (float64) and in mtl_rnn.h, in a double and in a float build.

    python tests/parity.py [--quick] [--count N] [--seed N] [--only I]

Each configuration is drawn from (seed, its number): inputs, columns, cells, tasks, losses, missing labels, micro-batches,
carried states, optimiser, clipping, schedule, frozen parts. Both sides start from the same weights and see the same five
updates. What must agree, with PyTorch's float64 as the truth:

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

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOP / "tests" / "golden"))
import reference  # noqa: E402

UPDATES = 5
TOLERANCE = {"double": 1e-9, "float": 1e-5}
ILL_CONDITIONED = TOLERANCE["float"] / 10


# ---- drawing a configuration ----------------------------------------------------------------------------------------------


class Draw:
    """Random choices of one configuration."""

    def __init__(self, seed, index):
        self.generator = np.random.default_rng([seed, index])

    def chance(self, share):
        return self.generator.random() < share

    def whole(self, low, high):
        return int(self.generator.integers(low, high + 1))

    def one_of(self, items):
        return items[self.whole(0, len(items) - 1)]

    def some_of(self, items):
        """One at least, in a random order."""
        return [str(x) for x in self.generator.permutation(items)[:self.whole(1, len(items))]]

    def size(self):
        """1 .. 40: small ones, those around blocks of 16, anything."""
        return self.one_of([self.whole(1, 5), self.one_of([15, 16, 17, 31, 32, 33]), self.whole(1, 40)])

    def number(self, low, high):
        """As one writes it: three digits behind the point."""
        return round(float(self.generator.uniform(low, high)), 3)

    def numbers(self, count, low, high):
        """Exact in float32."""
        return [reference.single(self.generator.uniform(low, high)) for _ in range(count)]


def draw_input(draw, name):
    if draw.chance(0.35):
        features = draw.size()
        desc = {"name": name, "features": features}
        if draw.chance(0.5):
            desc["mean"] = draw.numbers(features, -1, 1)
            desc["deviation"] = draw.numbers(features, 0.5, 2)
        return desc
    desc = {"name": name, "vocabulary": draw.whole(2, 40), "width": draw.size()}
    if draw.chance(0.2):
        desc["scale"] = draw.number(0.5, 3)
    if draw.chance(0.2):
        desc["padding_zero"] = True
    return desc


def draw_column(draw, name, sources):
    cell = draw.one_of(["rnn", "gru", "lstm"])
    desc = {"name": name, "from": sources, "cell": cell, "hidden": draw.size(), "layers": draw.one_of([1, 1, 2, 3])}
    if draw.chance(0.5):
        desc["bidirectional"] = True
    if draw.chance(0.2):
        desc["no_bias"] = True
    if cell == "rnn":
        desc["activation"] = draw.one_of(["tanh", "relu", "sigmoid"])
    if cell == "gru" and draw.chance(0.3):
        desc["reset"] = "before"
    return desc


def draw_columns(draw, inputs):
    """The last column is the top of the encoder; one above others takes the one below it and perhaps inputs."""
    columns = []
    for i in range(draw.one_of([1, 1, 1, 2, 3])):
        below = [columns[-1]["name"]] if columns else []
        sources = below + (draw.some_of(inputs) if not below or draw.chance(0.4) else [])
        columns.append(draw_column(draw, "encoder" if i == 0 else f"level{i}", sources))
    return columns


def draw_task(draw, name, inputs, columns):
    kind = draw.one_of(["class", "class", "real", "multi"])
    desc = {"name": name, "kind": kind, "level": draw.one_of(["sequence", "step"]),
            "from": [columns[-1]] if draw.chance(0.7) else draw.some_of(columns + inputs)}
    if kind == "class":
        desc["classes"] = draw.one_of([1, 2, 3, 5, 17, draw.whole(2, 40)])
        if draw.chance(0.3):
            desc["label_smoothing"] = draw.number(0.05, 0.5)
        if draw.chance(0.3):
            desc["class_weights"] = draw.numbers(desc["classes"], 0.25, 3)
        desc["soft"] = draw.chance(0.25)        # targets are distributions
    elif kind == "multi":
        desc["classes"] = draw.one_of([1, 2, 5, 28])
    else:
        desc |= {"width": draw.one_of([1, 1, 2, 5, 17]), "loss": draw.one_of(["mse", "mae", "huber"])}
        if desc["loss"] == "huber":
            desc["huber_delta"] = draw.number(0.25, 2)
        if draw.chance(0.3):
            desc["mean"] = draw.numbers(desc["width"], -1, 1)
            desc["deviation"] = draw.numbers(desc["width"], 0.5, 2)
    if desc["level"] == "sequence":
        desc["pool"] = draw.one_of(["last", "mean", "max"])
    if draw.chance(0.4):
        desc["hidden"] = [draw.size() for _ in range(draw.whole(1, 3))]
        desc["activation"] = draw.one_of(["relu", "tanh", "sigmoid", "none"])
    if draw.chance(0.5):
        desc["weight"] = draw.number(0.1, 2)
    if draw.chance(0.05):
        desc["evaluate_only"] = True
    return desc


def draw_trainer(draw):
    kind = draw.one_of(["sgd", "rmsprop", "adam", "adam", "adamw"])
    how = {"optimizer": kind, "lr": {"sgd": 0.05, "rmsprop": 0.002}.get(kind, 0.01), "threads": draw.one_of([1, 1, 2, 3])}
    if kind in ("sgd", "rmsprop") and draw.chance(0.6):
        how["momentum"] = draw.number(0.3, 0.95)
    if kind == "sgd" and "momentum" in how and draw.chance(0.5):
        how["nesterov"] = True
    if kind == "rmsprop":
        how["beta2"] = 0.99
    if kind in ("adam", "adamw") and draw.chance(0.4):
        how |= {"beta1": draw.number(0.5, 0.95), "beta2": draw.number(0.8, 0.999)}
    if kind != "sgd" and draw.chance(0.75):     # the default, 1e-8, makes a full step of what rounding leaves of a zero gradient
        how["epsilon"] = draw.one_of([1e-4, 1e-5])
    if kind == "adamw":
        how["decay"] = draw.number(0.01, 0.5)
    elif draw.chance(0.3):
        how["l2"] = draw.number(0.001, 0.1)
    if draw.chance(0.1):
        how["l1"] = draw.number(0.001, 0.01)
    if {"decay", "l2", "l1"} & how.keys():
        how["decay_biases"] = True
    if draw.chance(0.4):
        how["clip_norm"] = draw.number(0.05, 2)
    if draw.chance(0.2):
        how["clip_value"] = draw.number(0.005, 0.1)
    return how | draw_schedule(draw)


def draw_schedule(draw):
    if draw.chance(0.6):
        return {}
    kind = draw.one_of(["step", "exponential", "linear", "cosine", "one-cycle"])
    if kind in ("step", "exponential"):
        return {"schedule": kind, "schedule_every": draw.whole(1, 3), "schedule_factor": draw.number(0.2, 0.9)}
    if kind == "one-cycle":
        return {"schedule": kind, "total_steps": draw.one_of([10, 20])}
    how = {"schedule": kind, "total_steps": draw.whole(5, 9), "lr_final": draw.number(0.1, 0.5)}
    return how | ({"warmup": draw.whole(2, 3)} if draw.chance(0.5) else {})


def draw_config(draw):
    inputs = [draw_input(draw, name) for name in ["words", "shape", "sensor"][:draw.one_of([1, 1, 2, 3])]]
    input_names = [i["name"] for i in inputs]
    columns = draw_columns(draw, input_names)
    column_names = [c["name"] for c in columns]
    tasks = [draw_task(draw, f"task{k}", input_names, column_names) for k in range(draw.whole(1, 4))]
    config = {"inputs": inputs, "columns": columns, "tasks": tasks, "trainer": draw_trainer(draw),
              "run": {"updates": UPDATES, "data": UPDATES, "batches": draw.one_of([1, 1, 2, 3])}}
    if draw.chance(0.2):
        config["run"]["carry"] = True
    if draw.chance(0.15):
        config["freeze"] = [draw.one_of(input_names + column_names + [t["name"] for t in tasks]) + "."]
    if draw.chance(0.15) and "schedule" not in config["trainer"]:
        config["rate"] = {draw.one_of(column_names) + ".": draw.number(0.1, 3)}
    return config


# ---- drawing data -----------------------------------------------------------------------------------------------------------


def draw_lengths(draw, config, sequences):
    """Few rows where PyTorch's side goes step by step in Python."""
    slow = any(c.get("reset") == "before" or c.get("activation") == "sigmoid" for c in config["columns"])
    longest = draw.one_of([1, 3, 6]) if slow else draw.one_of([1, 4, 10, 25])
    return [draw.whole(1, longest) for _ in range(sequences)]


def draw_target(draw, task, items):
    g = draw.generator
    missing = torch.as_tensor(g.random(items) < draw.one_of([0, 0, 0.3, 0.9]))
    if task["kind"] == "real":
        target = reference.random_values(g, items, task["width"])
        target[missing] = float("nan")
    elif task["kind"] == "multi":
        target = torch.as_tensor((g.random((items, task["classes"])) < 0.3).astype(np.float64))
        target[missing] = float("nan")
    elif task["soft"]:
        target = torch.as_tensor(g.multinomial(64, np.ones(task["classes"]) / task["classes"], items) / 64.0)
        target[missing, 0] = float("nan")
    else:
        target = torch.as_tensor(g.integers(0, task["classes"], items))
        target[missing] = -1
    return target


def draw_batch(draw, config, sequences):
    lengths = draw_lengths(draw, config, sequences)
    rows = sum(lengths)
    inputs = {i["name"]: torch.as_tensor(draw.generator.integers(0, i["vocabulary"], rows)) if "vocabulary" in i
              else reference.random_values(draw.generator, rows, i["features"]) for i in config["inputs"]}
    targets = {t["name"]: draw_target(draw, t, rows if t["level"] == "step" else sequences)
               for t in config["tasks"] if not draw.chance(0.15)}
    return {"lengths": lengths, "inputs": inputs, "targets": targets}


def draw_data(draw, config):
    """Carried states need as many sequences in every update."""
    sequences = [draw.one_of([1, draw.whole(2, 8), draw.whole(9, 40)]) for _ in range(config["run"]["batches"])]
    return [[draw_batch(draw, config, n if config["run"].get("carry") else draw.whole(1, n)) for n in sequences]
            for _ in range(UPDATES)]


# ---- one configuration ----------------------------------------------------------------------------------------------------


def predictions(model, batch):
    """What mtl_predict gives: probabilities, or values in the original units."""
    with torch.no_grad():
        outputs, _ = model(batch)
    for t in model.config["tasks"]:
        x = outputs[t["name"]]
        if t["kind"] == "class":
            x = torch.softmax(x, 1)
        elif t["kind"] == "multi":
            x = torch.sigmoid(x)
        elif "mean" in t:
            x = x * torch.as_tensor(t["deviation"]) + torch.as_tensor(t["mean"])
        yield t["name"], x.numpy().ravel()


def as_float(batch):
    """The batch with its float64 numbers in float32."""
    def convert(tensors):
        return {k: v.float() if v.dtype == torch.float64 else v for k, v in tensors.items()}
    return batch | {"inputs": convert(batch["inputs"]), "targets": convert(batch["targets"])}


def relative(got, want):
    """Distance as a share of the size; what is zero but for rounding has no size to speak of."""
    got, want = (np.asarray(v, np.float64) for v in (got, want))
    return float(np.linalg.norm(got - want)) / max(float(np.linalg.norm(want)), 1e-6)


class Case:
    """One configuration: the file that describes it, and what PyTorch makes of it."""

    def __init__(self, seed, index, folder):
        self.seed, self.index = seed, index
        draw = Draw(seed, index)
        config = draw_config(draw)
        data = draw_data(draw, config)
        model = reference.Model(config)
        reference.randomise(model, draw.generator)
        self.text = reference.config_text("case", written(config))
        self.path = folder / f"{seed}-{index}.safetensors"
        tensors = reference.problem_tensors(model, data)
        save_file({f"case/{k}": np.ascontiguousarray(v) for k, v in tensors.items()}, self.path, {"cases": self.text})
        self.predictions = dict(predictions(model, data[0][0]))
        self.tasks = [t["name"] for t in config["tasks"]]
        in_float = copy.deepcopy(model).float()
        self.steps, self.gradients, self.final = reference.train(model, data)
        self.final |= model.buffers_held()
        self.ill_conditioned = self.float_error(in_float, data) > ILL_CONDITIONED

    def float_error(self, model, data):
        """How far PyTorch's float32 is from its float64 in what the float build is judged by."""
        data = [[as_float(batch) for batch in batches] for batches in data]
        steps, gradients, _ = reference.train(model, data)
        losses = [relative(a["loss"], b["loss"]) for a, b in zip(steps, self.steps)]
        norms = [relative(gradients[name], gradient) for name, gradient in self.gradients.items()]
        return max(losses + norms)

    def repeat(self):
        return f"--seed {self.seed} --only {self.index}"


def written(config):
    """`soft` tells how the targets were drawn and is no field."""
    tasks = [{k: v for k, v in t.items() if k != "soft"} for t in config["tasks"]]
    return config | {"tasks": tasks}


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
    print(f"{len(cases) - failed} passed, {failed} failed")
    return failed


def run(seed, indices, folder, describe):
    programs = {build: compile_driver(build) for build in TOLERANCE}
    cases = [Case(seed, i, folder) for i in indices]
    answers = {build: run_driver(program, build, cases) for build, program in programs.items()}
    results = [[compare(case, build, answers[build].get(case.path, [])) for build in programs] for case in cases]
    return report(cases, results, describe)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the configurations")
    parser.add_argument("--count", type=int, default=250, help="configurations (250)")
    parser.add_argument("--seed", type=int, default=1, help="of all of them (1)")
    parser.add_argument("--only", type=int, metavar="I", help="configuration I alone; it is shown, its files stay in build/parity")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    if options.only is not None:
        folder = TOP / "build" / "parity"
        folder.mkdir(parents=True, exist_ok=True)
        return run(options.seed, [options.only], folder, True) > 0
    with tempfile.TemporaryDirectory() as folder:
        count = options.count // 10 if options.quick else options.count
        return run(options.seed, range(count), pathlib.Path(folder), False) > 0


if __name__ == "__main__":
    sys.exit(main())
