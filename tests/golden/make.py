#!/usr/bin/env python3
"""Writes the fixtures beside this script: what PyTorch computes for small problems, in float64.

    pip install torch==2.13.0 numpy safetensors && python tests/golden/make.py [FILE...]

FILE: which of them, such as norms; else all. Another processor may make other last bits.
Every file is a safetensors file whose metadata has one text, "cases": for each case a line `case NAME`, then a line per desc
(reference.py). The tensors of a case are called NAME/tensor; `share=OTHER` means that those which are not there are OTHER's.
Inputs, weights and targets are exact in float32; results are float64, so that both builds of the header are tested.

    cells.safetensors        one recurrent stack or linear layer: x, h0, c0 -> y, h_n, c_n; the loss is the sum of each of
                             the outputs times the tensor of the same name + ".grad"; gradients of everything
    models.safetensors       whole models: losses and gradients of one update
    norms, .. .safetensors   whole models of the parts that their names say: the same of one update, or the parameters that
                             several end in; answers by the first weights, or these
    optimisers.safetensors   50 updates: losses, gradient norms and learning rates of each, the parameters at the end
    state_dict.safetensors   no cases: what a PyTorch user saves of a tagger
    tagger.safetensors       an input of that tagger and the probabilities that it gives
"""
import copy
import itertools
import pathlib
import sys
import zlib
from collections import namedtuple

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_save_file
from torch.nn import functional as F

sys.dont_write_bytecode = True
import reference
from reference import random_values

FOLDER = pathlib.Path(__file__).parent
RAGGED = [3, 1, 5, 2, 5]                        # unsorted, with equal lengths and a single step


def save(name, cases, tensors):
    """cases: texts. One key of metadata: with several their order in the file would be random."""
    path = FOLDER / f"{name}.safetensors"
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, {"cases": "\n".join(cases)})
    path.chmod(0o644)
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


def single(tensor):
    return tensor.detach().numpy().astype(np.float32)


# ---- layers --------------------------------------------------------------------------------------------------------------


def results(outputs, leaves, generator):
    """Values of the outputs, the factors that their sum is weighted with, and the gradients of that sum at the leaves."""
    tensors, total = {}, 0
    for name, output in outputs.items():
        factor = random_values(generator, *output.shape)
        total = total + (output * factor).sum()
        tensors[name] = output.detach().numpy()
        tensors[name + ".grad"] = single(factor)
    total.backward()
    for name, leaf in leaves.items():
        tensors[name] = single(leaf)
        tensors[name + ".grad"] = leaf.grad.numpy()
    return tensors


def cell_case(name, generator, lengths, inputs, states=True, **fields):
    """A stack of cells over ragged rows, from given states if wanted. h0, c0: [layers * directions][B][H], as in PyTorch."""
    column = reference.make_column(fields, inputs).double()
    leaves = {k.removeprefix("net."): p for k, p in column.named_parameters()}
    with torch.no_grad():
        for p in leaves.values():
            p.copy_(random_values(generator, *p.shape, scale=0.4))
    cells = fields.get("layers", 1) * (2 if fields.get("bidirectional") else 1)
    leaves["x"] = random_values(generator, sum(lengths), inputs).requires_grad_()
    for state in ("h0", "c0") if fields["cell"] == "lstm" else ("h0",):
        if states:
            leaves[state] = random_values(generator, cells, len(lengths), fields["hidden"], scale=0.5).requires_grad_()
    given = [leaves[s] for s in ("h0", "c0") if s in leaves]
    y, final = column(leaves["x"], lengths, None if not given else tuple(given) if len(given) == 2 else given[0])
    final = final if isinstance(final, tuple) else (final,)
    outputs = {"y": y} | dict(zip(("h_n", "c_n"), final))
    tensors = results(outputs, leaves, generator) | {"lengths": np.asarray(lengths, np.int32)}
    return reference.config_line("case", name, fields), {f"{name}/{k}": v for k, v in tensors.items()}


def linear_case(name, generator, rows, inputs, outputs, bias):
    layer = torch.nn.Linear(inputs, outputs, bias=bias).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(random_values(generator, *p.shape, scale=0.4))
    leaves = dict(layer.named_parameters()) | {"x": random_values(generator, rows, inputs).requires_grad_()}
    tensors = results({"y": layer(leaves["x"])}, leaves, generator) | {"lengths": np.asarray([rows], np.int32)}
    line = reference.config_line("case", name, {"linear": 1, "no_bias": not bias})
    return line, {f"{name}/{k}": v for k, v in tensors.items()}


def make_cells():
    g = np.random.default_rng(1)
    many = [int(n) for n in g.integers(1, 4, 18)]   # more than one block of 16 sequences and of 16 units
    cases = [
        linear_case("linear", g, 7, 5, 3, True),
        linear_case("linear_plain", g, 3, 18, 17, False),
        cell_case("rnn_tanh", g, RAGGED, 3, cell="rnn", hidden=4),
        cell_case("rnn_relu_2_bi", g, RAGGED, 3, cell="rnn", activation="relu", hidden=4, layers=2, bidirectional=True),
        cell_case("rnn_plain_zero_start", g, RAGGED, 3, False, cell="rnn", hidden=4, no_bias=True),
        cell_case("rnn_sigmoid_bi", g, RAGGED, 3, cell="rnn", activation="sigmoid", hidden=4, bidirectional=True),
        cell_case("rnn_many", g, many, 3, cell="rnn", hidden=17),
        cell_case("gru", g, RAGGED, 3, cell="gru", hidden=4),
        cell_case("gru_2_bi", g, RAGGED, 3, cell="gru", hidden=4, layers=2, bidirectional=True),
        cell_case("gru_plain_zero_start", g, RAGGED, 3, False, cell="gru", hidden=4, no_bias=True),
        cell_case("gru_reset_before_2_bi", g, RAGGED, 3, cell="gru", reset="before", hidden=4, layers=2, bidirectional=True),
        cell_case("gru_reset_before_plain", g, RAGGED, 3, cell="gru", reset="before", hidden=4, no_bias=True),
        cell_case("gru_many", g, many, 3, cell="gru", hidden=17),
        cell_case("lstm", g, RAGGED, 3, cell="lstm", hidden=4),
        cell_case("lstm_2_bi", g, RAGGED, 3, cell="lstm", hidden=4, layers=2, bidirectional=True),
        cell_case("lstm_plain_zero_start_bi", g, RAGGED, 3, False, cell="lstm", hidden=4, bidirectional=True, no_bias=True),
        cell_case("lstm_many", g, many, 3, cell="lstm", hidden=17),
    ]
    save("cells", [line for line, _ in cases], {k: v for _, tensors in cases for k, v in tensors.items()})


# ---- models ---------------------------------------------------------------------------------------------------------------


def labels(generator, items, classes, missing=0.0):
    values = generator.integers(0, classes, items)
    values[generator.random(items) < missing] = -1
    return torch.as_tensor(values)


def reals(generator, items, width, missing=0.0):
    values = random_values(generator, items, width)
    values[torch.as_tensor(generator.random(items) < missing)] = float("nan")
    return values


def distributions(generator, items, classes, missing=0.0):
    """Rows of multiples of 1/64, so that they sum to 1 in float32 too."""
    counts = generator.multinomial(64, np.ones(classes) / classes, items)
    values = torch.as_tensor(counts / 64.0)
    values[torch.as_tensor(generator.random(items) < missing), 0] = float("nan")
    return values


def target(generator, task, batch_rows, sequences):
    items = batch_rows if task.get("level") == "step" else sequences
    missing = 0.3 if task["name"].endswith("some") else 0.0
    if task["kind"] == "count":
        counts = torch.as_tensor(generator.poisson(2.0, (items, task.get("width", 1))).astype(np.float64))
        counts[torch.as_tensor(generator.random(items) < missing)] = float("nan")
        return counts
    if task["kind"] == "real":
        return reals(generator, items, task.get("width", 1), missing)
    if task["kind"] == "multi":
        values = reals(generator, items, task["classes"], missing)
        return torch.where(torch.isnan(values), values, (values > 0).to(values.dtype))
    make = distributions if task["name"].startswith("soft") else labels
    return make(generator, items, task["classes"], missing)


def words(generator, vocabulary):
    """Of no character to seven."""
    return [[int(c) for c in generator.integers(0, vocabulary, n)] for n in (4, 1, 7, 0, 2)]


def batch_of(generator, config, lengths):
    rows = sum(lengths)
    spelled = {i["name"]: words(generator, i["vocabulary"]) for i in config["inputs"] if i.get("kind") == "characters"}
    ids = {i["name"]: len(spelled.get(i["name"], ())) or i.get("vocabulary") for i in config["inputs"]}
    inputs = {i["name"]: torch.as_tensor(generator.integers(0, ids[i["name"]], rows)) if ids[i["name"]]
              else random_values(generator, rows, i["features"]) for i in config["inputs"]}
    return {"lengths": lengths, "inputs": inputs, "spellings": spelled,
            "targets": {t["name"]: target(generator, t, rows, len(lengths)) for t in config["tasks"] if t["kind"] != "lm"}}


def without_rounding(gradient):
    """Zeros where a gradient is what rounding left of one: of a bias below batch normalisation."""
    return gradient if np.abs(gradient).max() > 1e-13 else np.zeros_like(gradient)


def model_case(name, config, data, generator, share=None, answers=False):
    """One training. With `share`, weights and data are those of another case, whose tensors are not written again."""
    model = reference.Model(config)
    reference.randomise(model, share[1] if share else generator)
    tensors = reference.problem_tensors(model, data)
    answered = reference.answers(model, data[0][0]) if answers else {}
    steps, gradients, final = reference.train(model, data)
    if share:
        tensors = {}
    if config["run"]["updates"] == 1:
        tensors |= {f"grad.{k}": without_rounding(v.numpy()) for k, v in gradients.items()}
        tensors["task_losses"] = np.array([steps[0]["task_loss"].get(t["name"], 0.0) for t in config["tasks"]])
    else:
        tensors |= {f"final.{k}": v.numpy() for k, v in final.items()}
        tensors["lr"] = np.array([s["lr"] for s in steps])
        answered = reference.answers(model, data[0][0]) if answers else {}
    tensors |= {f"answer.{k}": v.numpy() for k, v in answered.items()}
    tensors["losses"] = np.array([s["loss"] for s in steps])
    tensors["norms"] = np.array([s["grad_norm"] for s in steps])
    text = reference.config_text(name, config, **({"share": share[0]} if share else {}))
    return text, {f"{name}/{k}": v for k, v in tensors.items()}


ONE_UPDATE = {"trainer": {"optimizer": "sgd", "lr": 0.125}, "run": {"updates": 1, "data": 1, "batches": 1}}


def losses_config():
    """Every loss as a head of its own straight on the features."""
    weights = [0.5, 2.0, 1.0, 0.25, 1.5]
    kinds = {
        "plain": {"classes": 5},
        "some": {"classes": 5},
        "weighted_some": {"classes": 5, "class_weights": weights},
        "smooth_some": {"classes": 5, "label_smoothing": 0.25},
        "smooth_weighted_some": {"classes": 5, "label_smoothing": 0.25, "class_weights": weights},
        "soft_some": {"classes": 5},
        "soft_smooth_weighted": {"classes": 5, "label_smoothing": 0.25, "class_weights": weights},
        "mse_some": {"width": 1, "weight": 0.5},
        "mse_vector_some": {"width": 3},
        "mae_vector": {"width": 2, "loss": "mae", "weight": 2.0},
        "huber_some": {"width": 2, "loss": "huber", "huber_delta": 0.75},
    }
    tasks = [{"name": name, "kind": "class" if "classes" in fields else "real", "level": "step", "from": ["x"]} | fields
             for name, fields in kinds.items()]
    return {"inputs": [{"name": "x", "features": 4}], "columns": [], "tasks": tasks} | ONE_UPDATE


def check_losses(config, batch, model):
    """That the reference's losses are what PyTorch's own means say."""
    outputs, _ = model(batch)
    losses, _ = model.losses([batch])
    for t in config["tasks"]:
        x, y = outputs[t["name"]], batch["targets"][t["name"]]
        if t["kind"] == "class":
            chosen = reference.labelled(y)
            if reference.is_distribution(t, y):
                x, y = x[chosen], y[chosen]
            expected = F.cross_entropy(x, y, weight=reference.class_weights(t, x), ignore_index=-1,
                                       label_smoothing=t.get("label_smoothing", 0))
        else:
            x, y = (v[reference.labelled(y)] for v in (x, y))
            kind = t.get("loss", t["kind"] if t["kind"] == "multi" else "mse")
            expected = F.binary_cross_entropy_with_logits(x, y) if kind == "multi" else F.huber_loss(x, y, delta=t["huber_delta"]) if kind == "huber" else \
                {"mse": F.mse_loss, "mae": F.l1_loss}[kind](x, y)
        assert abs((expected - losses[t["name"]]).item()) < 1e-12, t["name"]


def pooling_config(pool, source):
    """Gradients reach the embedding through the pool (source words) or through a bidirectional column."""
    return {
        "inputs": [{"name": "words", "vocabulary": 7, "width": 3, "scale": 1.5, "padding_zero": True},
                   {"name": "x", "features": 2, "mean": [0.5, -1.0], "deviation": [2.0, 0.5]}],
        "columns": [{"name": "encoder", "from": ["words", "x"], "cell": "gru", "hidden": 3, "bidirectional": True}],
        "tasks": [{"name": "class", "kind": "class", "classes": 3, "pool": pool, "from": source}],
    } | ONE_UPDATE


def joint_config():
    """Several inputs, a deep encoder, heads with hidden layers, every level and kind, labels missing."""
    return {
        "inputs": [{"name": "words", "vocabulary": 11, "width": 4}, {"name": "shape", "vocabulary": 3, "width": 2},
                   {"name": "sensor", "features": 2}],
        "columns": [{"name": "encoder", "from": ["words", "shape", "sensor"], "cell": "lstm", "hidden": 4, "layers": 2,
                     "bidirectional": True}],
        "tasks": [
            {"name": "intent", "kind": "class", "classes": 4, "from": ["encoder"], "hidden": [5, 3], "activation": "tanh"},
            {"name": "slots_some", "kind": "class", "level": "step", "classes": 5, "from": ["encoder"], "weight": 0.5,
             "class_weights": [0.5, 1, 2, 1, 1.5]},
            {"name": "mood", "kind": "real", "pool": "mean", "from": ["encoder"], "weight": 2.0, "hidden": [4],
             "mean": [0.25], "deviation": [2.0]},
            {"name": "force_some", "kind": "real", "level": "step", "width": 2, "loss": "huber", "from": ["encoder"]},
            {"name": "topic_some", "kind": "class", "classes": 3, "pool": "max", "label_smoothing": 0.125, "from": ["encoder"]},
        ],
    } | ONE_UPDATE


def hierarchy_config():
    """A low and a high column, of different cells; tasks tap inputs, one column, or both; two micro-batches; one task is
    only scored."""
    return {
        "inputs": [{"name": "words", "vocabulary": 9, "width": 3}],
        "columns": [{"name": "low", "from": ["words"], "cell": "rnn", "hidden": 3, "bidirectional": True},
                    {"name": "high", "from": ["low", "words"], "cell": "gru", "hidden": 4, "layers": 2}],
        "tasks": [
            {"name": "tags_some", "kind": "class", "level": "step", "classes": 4, "from": ["low"]},
            {"name": "class", "kind": "class", "classes": 3, "from": ["high", "low", "words"], "weight": 0.75},
            {"name": "scored", "kind": "real", "from": ["high"], "evaluate_only": True},
            {"name": "value", "kind": "real", "pool": "max", "loss": "mae", "from": ["high", "low"]},
        ],
    } | ONE_UPDATE | {"run": {"updates": 1, "data": 1, "batches": 2}}


def sets_config():
    """Sets of labels: many classes straight on the features, and few behind a hidden layer; some items missing."""
    return {
        "inputs": [{"name": "x", "features": 4}],
        "columns": [{"name": "encoder", "from": ["x"], "cell": "gru", "hidden": 3, "bidirectional": True}],
        "tasks": [
            {"name": "many_some", "kind": "multi", "level": "step", "classes": 5, "from": ["x"], "weight": 0.5},
            {"name": "topics_some", "kind": "multi", "classes": 3, "pool": "max", "from": ["encoder"], "hidden": [4]},
        ],
    } | ONE_UPDATE


def make_models():
    g = np.random.default_rng(2)
    cases = []

    def add(name, config, *lengths):
        data = [[batch_of(g, config, n) for n in lengths]]
        cases.append(model_case(name, config, data, g))
        return data

    config = losses_config()
    data = add("losses", config, [6, 1, 9])
    check_losses(config, data[0][0], reference.Model(config))
    for pool in ("last", "mean", "max"):
        add(f"pool_{pool}", pooling_config(pool, ["words", "x"]), RAGGED)
        add(f"pool_{pool}_bi", pooling_config(pool, ["encoder"]), RAGGED)
    add("joint", joint_config(), [4, 1, 6, 3])
    add("hierarchy", hierarchy_config(), [2, 5, 1], [3, 3, 1, 4])
    config = sets_config()
    data = add("sets", config, [6, 1, 9])
    check_losses(config, data[0][0], reference.Model(config))
    save("models", [text for text, _ in cases], {k: v for _, tensors in cases for k, v in tensors.items()})


# ---- models of parts -----------------------------------------------------------------------------------------------------


def norms_config():
    """Layer norms wherever a column has them, around cells of both directions."""
    return {
        "inputs": [{"name": "x", "features": 3}],
        "columns": [{"name": "encoder", "from": ["x"], "cell": "gru", "hidden": 2, "layers": 2, "bidirectional": True,
                     "norm_input": True, "norm_between": True, "norm_output": True, "norm_epsilon": 0.001, "residual": True}],
        "tasks": [{"name": "class", "kind": "class", "classes": 3, "from": ["encoder"]},
                  {"name": "value", "kind": "real", "level": "step", "from": ["encoder"]}],
    } | ONE_UPDATE


def norms_beside_config():
    """Around the other cells, one norm each."""
    norms = {"lstm": ["norm_input"], "rnn": ["norm_between"], "mingru": ["norm_output", "residual"]}
    columns = [{"name": cell, "from": ["x"], "cell": cell, "hidden": 2, "layers": 2, "bidirectional": True} | dict.fromkeys(of, True)
               for cell, of in norms.items()]
    return {
        "inputs": [{"name": "x", "features": 3}], "columns": columns,
        "tasks": [{"name": "class", "kind": "class", "classes": 3, "level": "step", "from": list(norms)}],
    } | ONE_UPDATE


def batch_norm_config(updates):
    """Of standardised features, and of the rows of a head that have labels; two micro-batches, each by itself."""
    return {
        "inputs": [{"name": "x", "features": 2, "batch_norm": True, "mean": [0.5, -1.0], "deviation": [2.0, 0.5]}],
        "columns": [{"name": "encoder", "from": ["x"], "cell": "gru", "hidden": 3}],
        "tasks": [{"name": "steps_some", "kind": "class", "level": "step", "classes": 3, "from": ["encoder"], "hidden": [4, 2],
                   "activation": "tanh", "batch_norm": True},
                  {"name": "value", "kind": "real", "from": ["encoder"], "hidden": [3], "activation": "tanh",
                   "batch_norm": True}],
    } | ONE_UPDATE | {"run": {"updates": updates, "data": 1, "batches": 2}}


def activations_config():
    """The dense layers' activations that cells have not, straight on the features."""
    tasks = [{"name": name, "kind": "real", "level": "step", "from": ["x"], "hidden": [5, 3], "activation": name}
             for name in ("gelu", "silu")]
    return {"inputs": [{"name": "x", "features": 4}], "columns": [], "tasks": tasks} | ONE_UPDATE


def pools_config():
    """Every pool with scores, one of them beside another pool."""
    pools = {"attention": {}, "additive": {"pool_width": 2}, "dot": {},
             "beside": {"pool": "additive", "pool_beside": "max"}}
    return {
        "inputs": [{"name": "words", "vocabulary": 7, "width": 4, "scale": 4.0}], "columns": [],
        "tasks": [{"name": name, "kind": "real", "from": ["words"], "pool": name} | fields for name, fields in pools.items()],
    } | ONE_UPDATE


def shared_pools_config():
    """Scores that tasks share, of a hidden layer and of the rows."""
    shared = {"keys": {"pool": "additive"}, "keys_too": {"pool": "additive", "pool_of": "keys"},
              "rows": {"pool": "attention"}, "rows_too": {"pool": "attention", "pool_of": "rows", "pool_beside": "mean"}}
    return {
        "inputs": [{"name": "words", "vocabulary": 7, "width": 3, "scale": 4.0}], "columns": [],
        "tasks": [{"name": name, "kind": "real", "from": ["words"]} | fields for name, fields in shared.items()],
    } | ONE_UPDATE


def carried(config):
    """Three updates on parts of the same sequences, each from what the one before left."""
    return config | {"run": {"updates": 3, "data": 1, "batches": 1, "carry": True}}


def attention_config():
    """Two layers without positions, and one with, whose heads are wider than what they read."""
    return {
        "inputs": [{"name": "words", "vocabulary": 6, "width": 4, "scale": 2.0}],
        "columns": [{"name": "plain", "from": ["words"], "kind": "attention", "heads": 2, "layers": 2},
                    {"name": "turned", "from": ["words"], "kind": "attention", "heads": 3, "head_width": 4, "rotary": True,
                     "norm_epsilon": 0.001}],
        "tasks": [{"name": "class", "kind": "class", "level": "step", "classes": 3, "from": ["plain"]},
                  {"name": "value", "kind": "real", "pool": "mean", "from": ["turned"]}],
    } | ONE_UPDATE


def check_attention(config):
    """That a layer of the reference without positions is nn.MultiheadAttention, a sum and nn.LayerNorm."""
    x = random_values(np.random.default_rng(1), 9, 4)
    column = reference.make_column(config["columns"][0] | {"layers": 1}, 4)
    layer = column.attention[0]
    theirs = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    with torch.no_grad():
        theirs.load_state_dict({"in_proj_weight": layer["in"].weight, "in_proj_bias": layer["in"].bias,
                                "out_proj.weight": layer["out"].weight, "out_proj.bias": layer["out"].bias})
        seen = torch.cat([theirs(part, part, part)[0] for part in torch.split(x, [7, 2])])
        assert (layer["norm"](x + seen) - column(x, [7, 2])[0]).abs().max() < 1e-12


def conv_config():
    """Windows of several widths, with the padding `same` and causal, with steps apart; the maximum over time (Kim 2014)."""
    return {
        "inputs": [{"name": "words", "vocabulary": 6, "width": 3, "scale": 2.0}],
        "columns": [{"name": "same", "from": ["words"], "kind": "conv", "hidden": 3, "layers": 2, "widths": [2, 3], "dilation": 2},
                    {"name": "causal", "from": ["words"], "kind": "conv", "hidden": 3, "layers": 2, "widths": [3], "dilation": 3,
                     "causal": True},
                    {"name": "kim", "from": ["words"], "kind": "conv", "hidden": 3, "widths": [2, 3, 4]}],
        "tasks": [{"name": "tags", "kind": "class", "level": "step", "classes": 3, "from": ["same", "causal"]},
                  {"name": "class", "kind": "class", "classes": 3, "pool": "max", "from": ["kim"]}],
    } | ONE_UPDATE


def mingru_config():
    return {
        "inputs": [{"name": "x", "features": 3}],
        "columns": [{"name": "encoder", "from": ["x"], "cell": "mingru", "hidden": 3, "layers": 2, "bidirectional": True}],
        "tasks": [{"name": "class", "kind": "class", "classes": 3, "from": ["encoder"]},
                  {"name": "value", "kind": "real", "level": "step", "from": ["encoder"]}],
    } | ONE_UPDATE


def kinds_config():
    """Kinds of task straight on the features."""
    weights = [0.5, 2.0, 1.0, 1.5]
    kinds = {
        "stars_some": {"kind": "ordinal", "classes": 4},
        "stars_weighted": {"kind": "ordinal", "classes": 4, "class_weights": weights, "hidden": [3]},
        "soft_stars": {"kind": "ordinal", "classes": 4, "class_weights": weights},
        "counts_some": {"kind": "count", "weight": 0.5},
        "counts_scaled": {"kind": "count", "width": 2, "mean": [0, 0], "deviation": [2.5, 0.5]},
        "topics_weighted_some": {"kind": "multi", "classes": 4, "class_weights": weights},
    }
    tasks = [{"name": name, "level": "step", "from": ["x"]} | fields for name, fields in kinds.items()]
    return {"inputs": [{"name": "x", "features": 3}], "columns": [], "tasks": tasks} | ONE_UPDATE


def lm_config():
    """Language models: both directions with an output of their own and with the words' embeddings, which `scale` is no part
    of, and forwards over all words; the others tell some apart."""
    lm = {"kind": "lm", "level": "step", "classes": 6}
    return {
        "inputs": [{"name": "words", "vocabulary": 8, "width": 3, "scale": 1.5}],
        "columns": [{"name": "both", "from": ["words"], "cell": "gru", "hidden": 2, "bidirectional": True},
                    {"name": "ahead", "from": ["words"], "kind": "conv", "hidden": 3, "widths": [2], "causal": True}],
        "tasks": [{"name": "untied", "from": ["both"]} | lm, {"name": "tied", "from": ["both"], "tied": True, "weight": 0.5} | lm,
                  {"name": "forwards", "from": ["ahead"]} | lm | {"classes": 8}],
    } | ONE_UPDATE


def characters_config():
    """Words by filters, of which some are wider than a word, and by cells."""
    spellers = {"cnn": {"widths": [2, 3, 5], "filters": 2}, "gru": {"hidden": 2}, "lstm": {"hidden": 2}}
    inputs = [{"name": name, "kind": "characters", "vocabulary": 5, "character_width": 3, "speller": name} | fields
              for name, fields in spellers.items()]
    tasks = [{"name": "class", "kind": "class", "level": "step", "classes": 3, "from": list(spellers)}]
    return {"inputs": inputs, "columns": [], "tasks": tasks} | ONE_UPDATE


# Of each file its cases: what they are, and the lengths of the sequences of each micro-batch. A case of another's weights and
# data names it.
Case = namedtuple("Case", "config lengths share", defaults=[None])
PARTS = {
    "norms": {
        "layer_norm": Case(norms_config(), [RAGGED]),
        "layer_norm_beside": Case(norms_beside_config(), [RAGGED]),
        "batch_norm": Case(batch_norm_config(1), [[3, 1, 2, 2, 1], [1, 2, 3, 1]]),
        "batch_norm_running": Case(batch_norm_config(4), [[3, 1, 2, 2, 1], [1, 2, 3, 1]], "batch_norm"),
    },
    "heads": {
        "activations": Case(activations_config(), [[4, 2]]),
        "pools": Case(pools_config(), [RAGGED]),
        "pools_shared": Case(shared_pools_config(), [RAGGED]),
        "pools_carried": Case(carried(pools_config()), [RAGGED], "pools"),
    },
    "columns": {
        "attention": Case(attention_config(), [[4, 18, 1]]),
        "conv": Case(conv_config(), [[2, 9, 1, 4]]),
        "mingru": Case(mingru_config(), [RAGGED]),
        "mingru_carried": Case(carried(mingru_config()), [RAGGED], "mingru"),
    },
    "kinds": {
        "kinds": Case(kinds_config(), [[6, 1, 5]]),
        "lm": Case(lm_config(), [[4, 1, 2, 7]]),
    },
    "characters": {
        "characters": Case(characters_config(), [[4, 1, 3]]),
    },
}


def drawn(of, seed):
    g = np.random.default_rng(seed)
    return [[batch_of(g, of.config, lengths) for lengths in of.lengths]], g


def as_float(batch):
    def single(tensors):
        return {k: v.float() if v.dtype == torch.float64 else v for k, v in tensors.items()}
    return batch | {"inputs": single(batch["inputs"]), "targets": single(batch["targets"])}


def float_error(of, seed):
    """How far gradients of PyTorch's float32 are from those of float64, as tests/test_golden.c measures it."""
    data, g = drawn(of, seed)
    model = reference.Model(of.config)
    reference.randomise(model, g)
    in_float = copy.deepcopy(model).float()
    _, wanted, _ = reference.train(model, data)
    _, got, _ = reference.train(in_float, [[as_float(batch) for batch in batches] for batches in data])
    there = [(got[k], v) for k, v in wanted.items() if without_rounding(v.numpy()).any()]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in there)


def make_parts(name):
    """Sums that cancel nobody computes in float: such a case is drawn again. It goes by its name, so that a new case changes
    no other."""
    check_attention(attention_config())
    made, seeds = [], {}
    for case, of in PARTS[name].items():
        first = zlib.crc32(case.encode())
        seeds[case] = seeds.get(of.share) or next(s for s in itertools.count(first) if float_error(of, s) < 1e-6)
        data, g = drawn(of, seeds[case])
        share = (of.share, g) if of.share else None
        made.append(model_case(case, of.config, data, g, share, answers=True))
    save(name, [text for text, _ in made], {k: v for _, tensors in made for k, v in tensors.items()})


# ---- optimisers -------------------------------------------------------------------------------------------------------------

OPTIMISERS = {
    "sgd": {"optimizer": "sgd", "lr": 0.125},
    "sgd_l2": {"optimizer": "sgd", "lr": 0.125, "l2": 0.05, "decay_biases": True},
    "momentum": {"optimizer": "sgd", "lr": 0.03125, "momentum": 0.9},
    "nesterov": {"optimizer": "sgd", "lr": 0.03125, "momentum": 0.9, "nesterov": True},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.005, "beta2": 0.99},
    "rmsprop_momentum": {"optimizer": "rmsprop", "lr": 0.002, "beta2": 0.99, "momentum": 0.5},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "adam_l2": {"optimizer": "adam", "lr": 0.01, "l2": 0.05, "decay_biases": True, "beta1": 0.8, "beta2": 0.95},
    "adam_l1": {"optimizer": "adam", "lr": 0.01, "l1": 0.001, "decay_biases": True},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "decay": 0.1, "decay_biases": True},
    "adam_clip_norm": {"optimizer": "adam", "lr": 0.01, "clip_norm": 0.5},
    "sgd_clip_norm": {"optimizer": "sgd", "lr": 0.25, "clip_norm": 0.5},
    "sgd_clip_value": {"optimizer": "sgd", "lr": 0.25, "clip_value": 0.05},
    "schedule_step": {"optimizer": "sgd", "lr": 0.125, "schedule": "step", "schedule_every": 7, "schedule_factor": 0.5},
    "schedule_exponential": {"optimizer": "sgd", "lr": 0.125, "schedule": "exponential", "schedule_every": 10,
                             "schedule_factor": 0.5},
    "schedule_linear": {"optimizer": "adam", "lr": 0.01, "schedule": "linear", "total_steps": 50, "lr_final": 0.125},
    "schedule_cosine": {"optimizer": "adam", "lr": 0.01, "schedule": "cosine", "total_steps": 50},
    "schedule_warmup_linear": {"optimizer": "adam", "lr": 0.01, "schedule": "linear", "warmup": 10, "total_steps": 40,
                               "lr_final": 0.25},
    "schedule_one_cycle": {"optimizer": "adam", "lr": 0.01, "schedule": "one-cycle", "total_steps": 50},
    "schedule_warmup_cosine": {"optimizer": "adam", "lr": 0.01, "schedule": "cosine", "warmup": 10, "total_steps": 50},
}


def optimiser_config(trainer):
    """Small, but with an embedding of which each batch uses a part, and a task that some batches have no labels for."""
    return {
        "inputs": [{"name": "words", "vocabulary": 12, "width": 3}],
        "columns": [{"name": "encoder", "from": ["words"], "cell": "gru", "hidden": 3}],
        "tasks": [{"name": "class", "kind": "class", "classes": 3, "from": ["encoder"]},
                  {"name": "value", "kind": "real", "level": "step", "from": ["encoder"], "weight": 0.5}],
        "trainer": trainer, "run": {"updates": 50, "data": 4, "batches": 1},
    }


def make_optimisers():
    g = np.random.default_rng(3)
    config = optimiser_config({})
    data = [[batch_of(g, config, lengths)] for lengths in ([2, 4, 1], [3, 3], [1, 1, 5], [4, 2])]
    del data[1][0]["targets"]["value"]
    cases = []
    for name, trainer in OPTIMISERS.items():
        share = ("sgd", np.random.default_rng(4)) if cases else None
        cases.append(model_case(name, optimiser_config(trainer), data, np.random.default_rng(4), share))
    save("optimisers", [text for text, _ in cases], {k: v for _, tensors in cases for k, v in tensors.items()})


# ---- a model that comes from PyTorch -------------------------------------------------------------------------------------------


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(9, 4)
        self.rnn = torch.nn.GRU(4, 3, num_layers=2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))

    def forward(self, ids, lengths):
        rows = reference.pack_padded_sequence(self.embed(reference.pad(ids, lengths)), lengths, batch_first=True, enforce_sorted=False)
        rows = reference.pad_packed_sequence(self.rnn(rows)[0], batch_first=True)[0]
        return torch.softmax(self.head(reference.ragged(rows, lengths)), 1)


def make_tagger():
    g = np.random.default_rng(5)
    tagger = Tagger().float()
    with torch.no_grad():
        for p in tagger.parameters():
            p.copy_(random_values(g, *p.shape, scale=0.5))
        path = FOLDER / "state_dict.safetensors"
        torch_save_file({f"net.{k}": v for k, v in tagger.state_dict().items()}, path)    # as of a wrapped module
        path.chmod(0o644)
        ids = torch.as_tensor(g.integers(0, 9, sum(RAGGED)))
        probabilities = tagger.double()(ids, RAGGED)
    save("tagger", ["case tagger"], {"tagger/lengths": np.asarray(RAGGED, np.int32), "tagger/ids": ids.numpy().astype(np.int32),
                                     "tagger/probabilities": probabilities.numpy()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    files = {"cells": make_cells, "models": make_models, "optimisers": make_optimisers, "tagger": make_tagger}
    for name in sys.argv[1:] or [*files, *PARTS]:
        files[name]() if name in files else make_parts(name)
