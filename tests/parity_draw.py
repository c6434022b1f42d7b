"""Random configurations and data for tests/parity.py, drawn from (seed, number)."""
import numpy as np
import torch

import parity_sharing
import reference

UPDATES = 5


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


def draw_inputs(draw):
    return [draw_input(draw, name) for name in ["words", "shape", "sensor"][:draw.one_of([1, 1, 2, 3])]]


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
    inputs = draw_inputs(draw)
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


# ---- drawing how tasks share ------------------------------------------------------------------------------------------------

SETS = 3                                        # data sets that batches come from
GRAPH = "graph"                                 # no preset: columns and tasks that read whatever stands before them
SHARES = list(parity_sharing.PRESETS) + [GRAPH]


def draw_share(draw, preset, tasks):
    """Fields that a preset does not know do nothing."""
    how = {"name": "-", "kind": preset, "experts": draw.whole(1, 3), "own_experts": draw.whole(1, 2), "sets": SETS,
           "tie": draw.number(0.01, 1), "orthogonal": draw.number(0.001, 0.1), "adversary": draw.number(0.1, 2)}
    how |= {size: draw.size() for size in ("hidden", "own_hidden") if draw.chance(0.4)}
    how |= {flag: True for flag in ("per_sequence", "above", "distributions", "stopped") if draw.chance(0.5)}
    if preset == "hierarchical" and draw.chance(0.5):
        names = [str(n) for n in draw.generator.permutation([t["name"] for t in tasks])]
        how["order"] = "".join(n + draw.one_of("+/") for n in names[:-1]) + names[-1]
    return how


def draw_encoder(draw):
    encoder = draw_column(draw, "encoder", [])
    del encoder["from"]
    return encoder | {"layers": draw.one_of([1, 2])}


def draw_tasks(draw, preset):
    tasks = [draw_task(draw, f"task{k}", [], ["encoder"]) for k in range(draw.whole(2, 3))]
    if preset == "stack":                       # needs a task that votes and one that reads the votes
        tasks[0] = draw_task(draw, "task0", [], ["encoder"])
        while tasks[0]["kind"] == "real" or tasks[0]["level"] == "step":
            tasks[0] = draw_task(draw, "task0", [], ["encoder"])
        while tasks[1]["level"] != "step":
            tasks[1] = draw_task(draw, "task1", [], ["encoder"])
    return [{k: v for k, v in t.items() if k != "from"} for t in tasks]


def draw_edits(draw, built):
    """Which tasks may train a column, what no gradient goes back into, how strong a reversal is."""
    names, edits = [t["name"] for t in built["tasks"]], {}
    for c in built["columns"]:
        if draw.chance(0.15):
            edits[c["name"]] = {"trains": draw.some_of(names)}
    for d in built["columns"] + built["tasks"]:
        if draw.chance(0.1):
            edits.setdefault(d["name"], {})["stop"] = draw.some_of(d["from"] + d.get("by", []))
        if d.get("mix.kind") == "reversal":
            edits.setdefault(d["name"], {})["mix.reversal"] = draw.number(0, 3)
    return [{"name": name} | edits[name] for name in list(edits)[:8]]


def draw_preset(draw, preset):
    """The plain description with the preset's line, and the one that the preset makes of it."""
    plain = {"inputs": draw_inputs(draw), "encoder": draw_encoder(draw), "tasks": draw_tasks(draw, preset)}
    how = draw_share(draw, preset, plain["tasks"])
    edits = draw_edits(draw, parity_sharing.shared(plain, how, []))
    written = {"inputs": plain["inputs"], "encoders": [plain["encoder"]], "columns": [], "tasks": plain["tasks"],
               "shares": [how], "edits": edits}
    return written, parity_sharing.shared(plain, how, edits)


def draw_mix(draw, readable, width):
    """readable: of each source its width. Kinds but two take sources that are equally wide."""
    names = list(readable)
    equal = [n for n in names if readable[n] == width]
    kind = draw.one_of([k for k, mix in parity_sharing.MIXES.items() if equal or mix.appends])
    sources = names if parity_sharing.MIXES[kind].appends else equal
    mix = {"mix.kind": kind, "from": [draw.one_of(sources), draw.one_of(sources)] if kind == "gate"
           else draw.some_of(sources)[:4]}
    if kind in parity_sharing.GATED and draw.chance(0.6):
        mix["by"] = draw.some_of(names)[:2]
    if kind == "experts" and draw.chance(0.5):
        mix["mix.per_sequence"] = True
    if kind == "reversal":
        mix["mix.reversal"] = draw.number(0, 3)
    if draw.chance(0.2):
        mix["stop"] = draw.one_of([["*"], draw.some_of(mix["from"] + mix.get("by", []))])
    return mix


def draw_penalties(draw, config):
    nodes = parity_sharing.Model(config).nodes
    names, penalties = list(nodes), []
    if draw.chance(0.3):
        penalties.append({"kind": "anchor", "a": draw.one_of([d["name"] for d in config["columns"] + config["tasks"]])})
    a = draw.one_of(names)
    if draw.chance(0.5):
        b = draw.one_of([n for n in names if nodes[n].level == nodes[a].level])
        penalties.append({"kind": "orthogonal", "a": a, "b": b, "weight": draw.number(0.001, 0.1)})
    a, b = (draw.one_of([t["name"] for t in config["tasks"]]) + ".output.bias" for _ in "ab")
    if len(nodes[a.partition(".")[0]].reverse) == len(nodes[b.partition(".")[0]].reverse):
        penalties.append({"kind": "tie", "a": a, "b": b})
    return [{"name": f"penalty{i}", "weight": draw.number(0.01, 1)} | p for i, p in enumerate(penalties)]


def draw_wide_column(draw, name, width):
    column = draw_column(draw, name, []) | {"hidden": width, "layers": draw.one_of([1, 2])}
    if column.get("bidirectional"):
        column |= {"hidden": width // 2} if width % 2 == 0 else {"bidirectional": False}
    return column


def draw_graph(draw):
    """Columns of one width and tasks, each reading any mix of what stands before it; written in another order."""
    inputs, width = draw_inputs(draw), draw.size()
    for i in inputs:
        if "vocabulary" in i and draw.chance(0.5):
            i["width"] = width
    if draw.chance(0.3):
        inputs.append({k: v for k, v in inputs[0].items() if k not in ("mean", "deviation")}
                      | {"name": "again", "reads": inputs[0]["name"]})
    readable = {i["name"]: i["width"] if "vocabulary" in i else i["features"] for i in inputs}
    columns, tasks = [], []
    for k in range(draw.whole(2, 4)):
        column = draw_wide_column(draw, f"column{k}", width) | draw_mix(draw, readable, width)
        readable[column["name"]] = width
        columns.append(column)
        if k == 0 or draw.chance(0.6):
            tasks.append(draw_graph_task(draw, f"task{k}", readable, width))
    for c in columns:
        if draw.chance(0.2):
            c["trains"] = draw.some_of([t["name"] for t in tasks])
    if draw.chance(0.3):
        tasks.append({"name": "origin", "kind": "origin", "level": "sequence", "classes": SETS, "pool": "mean"}
                     | draw_mix(draw, readable, width))
    config = {"inputs": inputs, "columns": columns[::draw.one_of([1, -1])], "tasks": tasks}
    config["penalties"] = draw_penalties(draw, config)
    return config, config


def draw_graph_task(draw, name, readable, width):
    """The task, of which later parts may read outputs and distribution."""
    task = draw_task(draw, name, [], ["-"]) | draw_mix(draw, readable, width)
    if task["kind"] == "class" and task["level"] == "sequence" and draw.chance(0.3):
        task["per_step"] = True
    readable[name] = reference.outputs_of(task)
    if task["kind"] != "real":
        readable[name + ".probabilities"] = readable[name]
    return task


def draw_sharing(draw, index):
    """What is written for the C side, and the description that PyTorch gets: every preset in its turn."""
    preset = SHARES[index % len(SHARES)]
    written, built = draw_graph(draw) if preset == GRAPH else draw_preset(draw, preset)
    run = {"updates": UPDATES, "data": UPDATES, "batches": draw.one_of([1, 2, 3]), "sets": SETS, "parted": draw.chance(0.3)}
    rest = {"trainer": draw_trainer(draw), "run": run}
    if draw.chance(0.2):
        run["carry"] = True
    if draw.chance(0.15):
        rest["freeze"] = [draw.one_of([d["name"] for d in built["inputs"] + built["columns"] + built["tasks"]]) + "."]
    if draw.chance(0.15) and "schedule" not in rest["trainer"]:
        rest["rate"] = {draw.one_of(built["columns"])["name"] + ".": draw.number(0.1, 3)}
    return written | rest, built | rest


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
              else reference.random_values(draw.generator, rows, i["features"]) for i in config["inputs"] if "reads" not in i}
    targets = {t["name"]: draw_target(draw, t, rows if t["level"] == "step" else sequences)
               for t in config["tasks"] if t["kind"] != "origin" and not draw.chance(0.15)}
    return {"lengths": lengths, "inputs": inputs, "targets": targets} | draw_set(draw, config, targets)


def draw_set(draw, config, targets):
    """Which data set a batch comes from; where they have tasks of their own it keeps those targets alone."""
    if "sets" not in config["run"]:
        return {}
    number = draw.whole(0, config["run"]["sets"] - 1)
    if config["run"].get("parted"):
        for k, t in enumerate(config["tasks"]):
            if k % config["run"]["sets"] != number:
                targets.pop(t["name"], None)
    return {"set": number}


def draw_data(draw, config):
    """Carried states need as many sequences in every update."""
    sequences = [draw.one_of([1, draw.whole(2, 8), draw.whole(9, 40)]) for _ in range(config["run"]["batches"])]
    return [[draw_batch(draw, config, n if config["run"].get("carry") else draw.whole(1, n)) for n in sequences]
            for _ in range(UPDATES)]
