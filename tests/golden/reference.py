"""The models of mtl_rnn.h written with PyTorch, as plainly as possible: what the fixtures and tests/parity.py compare with.

A model is described by a dictionary with the fields of the C descs under their names:

    inputs   [{name, vocabulary, width, scale, padding_zero}, {name, features, mean, deviation, batch_norm} or
              {name, kind: characters, vocabulary, character_width, widths and filters, or speller and hidden}]
    columns  [{name, from, cell, hidden, layers, bidirectional, activation, reset, no_bias, norm_input, norm_between,
               norm_output, norm_epsilon, residual}, or of the kinds conv and attention (parts.py) with their fields]
    tasks    [{name, from, kind, level, classes or width, weight, loss, huber_delta, label_smoothing, pool, pool_beside,
               pool_width, pool_of, hidden, activation, batch_norm, class_weights, evaluate_only, mean, deviation, tied}]
    trainer  {optimizer, lr, momentum, ..., clip_norm, clip_value}
    freeze   [prefix, ...]            rate {prefix: factor}
    run      {updates, data, batches, carry}: how many updates, over how many different data (then from the first again), each
             of how many micro-batches; carry: hidden states go on from update to update

What is left out has the C header's default. `from` is a list of names of inputs and columns, set side by side.
Mixes of other kinds, penalties and sharing presets are those of tests/parity_sharing.py; as text they are lines of further
lists: penalties; encoders (of a plain description, at most one), shares (the preset, at most one), edits (of its parts).

A batch is ragged, as in C: {"lengths": [B], "inputs": {name: ids [N] or rows [N][features]}, "targets": {task: ...}}, all
steps of all sequences end to end. Targets: int64 labels (-1: missing), float values (NaN: missing), or distributions. Inputs
of characters are ids of words, which "spellings" has: {name: [[character, ...], ...]}.

Parameters have the names that mtl_rnn.h gives them, which are PyTorch's: words.weight, encoder.weight_ih_l0_reverse,
intent.hidden.0.weight, intent.output.bias.
"""
import re
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

import parts

ACTIVATIONS = {"none": lambda x: x, "tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "gelu": F.gelu,
               "silu": F.silu}


# Numbers of the C descs are floats. In these fields they mean the decimal number that was written, 0.999; in all others the
# float nearest to it, 0.99900001287, and that is what a comparison to 1e-9 has to use.
AS_WRITTEN = {"momentum", "beta1", "beta2", "epsilon", "l1", "l2", "decay"}


def single(x):
    return float(np.float32(x))


def setting(desc, field, default=0):
    value = desc.get(field, default)
    return float(value) if field in AS_WRITTEN else single(value)


# ---- recurrent columns over ragged rows -------------------------------------------------------------------------------


def pad(rows, lengths):
    """[N][width] end to end -> [B][longest][width] with zeros."""
    return pad_sequence(list(torch.split(rows, lengths)), batch_first=True)


def ragged(padded, lengths):
    """[B][longest][width] -> [N][width]."""
    return torch.cat([padded[b, :n] for b, n in enumerate(lengths)])


class TorchColumn(nn.Module):
    """nn.RNN, nn.GRU or nn.LSTM over packed sequences. state: what the last call returned, or None for zeros."""

    def __init__(self, kind, inputs, hidden, layers, directions, bias, activation):
        super().__init__()
        options = {"nonlinearity": activation} if kind == "rnn" else {}
        net = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.net = net(inputs, hidden, layers, bias=bias, bidirectional=directions == 2, batch_first=True, **options)

    def forward(self, rows, lengths, state=None):
        packed = pack_padded_sequence(pad(rows, lengths), lengths, batch_first=True, enforce_sorted=False)
        output, state = self.net(packed, state)
        return ragged(pad_packed_sequence(output, batch_first=True)[0], lengths), state


class MinGruTensors(nn.Module):
    """Those of minGRU, under the names that nn.GRU has for its own."""

    def __init__(self, inputs, hidden, layers, bias, bidirectional):
        super().__init__()
        ends = ["", "_reverse"] if bidirectional else [""]
        for layer in range(layers):
            for end in ends:
                self.register_parameter(f"weight_ih_l{layer}{end}", nn.Parameter(torch.zeros(2 * hidden, inputs)))
                self.register_parameter(f"bias_ih_l{layer}{end}", nn.Parameter(torch.zeros(2 * hidden)))
            inputs = len(ends) * hidden


class LoopColumn(nn.Module):
    """The cells that PyTorch lacks, one sequence and one step at a time: RNN with any activation, GRU with the reset gate
    before the hidden product (Cho et al. 2014), minGRU (Feng et al. 2024)."""

    def __init__(self, kind, inputs, hidden, layers, directions, bias, activation):
        super().__init__()
        net = {"rnn": nn.RNN, "gru": nn.GRU, "mingru": MinGruTensors}[kind]
        self.net = net(inputs, hidden, layers, bias=bias, bidirectional=directions == 2)    # only for its parameters
        self.kind, self.hidden, self.layers, self.directions = kind, hidden, layers, directions
        self.activation = ACTIVATIONS[activation]

    def step(self, x, h, end):
        """x: [G * H], the input product with every bias of it; end: which layer and direction, as in PyTorch's names."""
        n = self.hidden
        if self.kind == "mingru":
            z = torch.sigmoid(x[:n])
            return (1 - z) * h + z * x[n:]
        w, b = self.parameter("weight_hh" + end), self.parameter("bias_hh" + end)
        if self.kind == "rnn":
            return self.activation(x + w @ h + b)
        z = x[:2 * n] + w[:2 * n] @ h + b[:2 * n]
        r, u = torch.sigmoid(z[:n]), torch.sigmoid(z[n:])
        new = torch.tanh(x[2 * n:] + w[2 * n:] @ (r * h) + b[2 * n:])
        return (1 - u) * new + u * h

    def parameter(self, name):
        gates = 3 if self.kind == "gru" else 1
        return getattr(self.net, name) if hasattr(self.net, name) else self.net.weight_hh_l0.new_zeros(gates * self.hidden)

    def forward(self, rows, lengths, state=None):
        final = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                end = f"_l{layer}" + ("_reverse" if direction else "")
                product = rows @ self.parameter("weight_ih" + end).T + self.parameter("bias_ih" + end)
                initial = None if state is None else state[len(final)]
                output, last = self.direction(product, lengths, initial, end, direction == 1)
                outputs.append(output)
                final.append(last)
            rows = torch.cat(outputs, 1)
        return rows, torch.stack(final)

    def direction(self, product, lengths, initial, end, reverse):
        outputs, last = [], []
        for b, x in enumerate(torch.split(product, lengths)):
            h = torch.zeros(self.hidden, dtype=x.dtype) if initial is None else initial[b]
            steps = []
            for t in (reversed(range(len(x))) if reverse else range(len(x))):
                h = self.step(x[t], h, end)
                steps.append(h)
            last.append(h)
            outputs += reversed(steps) if reverse else steps
        return torch.stack(outputs), torch.stack(last)


class NormedColumn(nn.Module):
    """Cells layer by layer, each a column of its own, with layer norms and residual sums around them."""

    def __init__(self, column, inputs):
        super().__init__()
        layers, directions = column.get("layers", 1), 2 if column.get("bidirectional") else 1
        width, epsilon = directions * column["hidden"], setting(column, "norm_epsilon", 1e-5)
        plain = {k: v for k, v in column.items() if k not in NORMS + ["layers"]}
        self.cells = nn.ModuleList(make_column(plain, width if layer else inputs) for layer in range(layers))
        between = range(layers - 1 if column.get("norm_between") else 0)
        self.residual = column.get("residual")
        self.norm_input = nn.LayerNorm(inputs, epsilon) if column.get("norm_input") else None
        self.norm_between = nn.ModuleList(nn.LayerNorm(width, epsilon) for _ in between)
        self.norm_output = nn.LayerNorm(width, epsilon) if column.get("norm_output") else None

    def forward(self, rows, lengths, state=None):
        if self.norm_input:
            rows = self.norm_input(rows)
        for layer, cells in enumerate(self.cells):
            below = rows
            if layer and self.norm_between:
                rows = self.norm_between[layer - 1](rows)
            rows = cells(rows, lengths)[0]
            if layer and self.residual:
                rows = rows + below
        return (self.norm_output(rows) if self.norm_output else rows), None


NORMS = ["norm_input", "norm_between", "norm_output", "residual"]


def make_column(column, inputs):
    if column.get("kind") == "conv":
        return parts.Conv(column, inputs)
    if column.get("kind") == "attention":
        return parts.SelfAttention(column, inputs, setting(column, "norm_epsilon", 1e-5))
    if any(column.get(norm) for norm in NORMS):
        return NormedColumn(column, inputs)
    kind, activation = column.get("cell", "lstm"), column.get("activation", "tanh")
    in_torch = activation in ("tanh", "relu") and column.get("reset", "after") == "after" and kind != "mingru"
    make = TorchColumn if kind == "lstm" or in_torch else LoopColumn
    return make(kind, inputs, column["hidden"], column.get("layers", 1), 2 if column.get("bidirectional") else 1,
                not column.get("no_bias"), activation)


# ---- heads and losses ---------------------------------------------------------------------------------------------------


def pools_of(task):
    return [task[field] for field in ("pool", "pool_beside") if field in task] or ["last"]


class Head(nn.Module):
    def __init__(self, task, inputs, lender=None):
        """lender: the head of the task whose scores pool."""
        super().__init__()
        self.pools = pools_of(task)
        self.lender = [lender]                  # a list hides its parameters from this module
        for kind in set(self.pools) & {"attention", "additive", "dot"} if not lender else ():
            self.attention = parts.Scores(kind, inputs, task.get("pool_width"))
        widths = [inputs * len(self.pools)] + list(task.get("hidden", []))
        self.activation = ACTIVATIONS[task.get("activation", "relu")]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.norm = nn.ModuleList(nn.BatchNorm1d(w) for w in widths[1:] if task.get("batch_norm"))
        self.cuts = nn.Parameter(torch.zeros(task["classes"] - 1)) if task["kind"] == "ordinal" else None
        self.output = nn.Linear(widths[-1], 1 if task["kind"] == "ordinal" else outputs_of(task))

    def pool(self, rows, lengths, reverse, before):
        """Pools side by side, and what they leave for the next batch."""
        attention = getattr(self.lender[0] or self, "attention", None)
        pooled = [pool_on(rows, lengths, kind, reverse, before and before[i]) if kind in ("last", "mean", "max")
                  else attention(rows, lengths, before and before[i]) for i, kind in enumerate(self.pools)]
        return torch.cat([y for y, _ in pooled], 1), [left for _, left in pooled]

    def normalised(self, norm, x, asked):
        return x.index_put((asked,), norm(x[asked])) if self.training else norm(x)

    def forward(self, x, asked=None):
        """asked [N]: the rows with labels, by which batch normalisation goes in training."""
        for i, layer in enumerate(self.hidden):
            x = layer(x)
            if self.norm:
                x = self.normalised(self.norm[i], x, asked)
            x = self.activation(x)
        x = self.output(x)
        return x if self.cuts is None else parts.ranks(x, self.cuts)


# Kinds with one label an item; of `origin` the batch gives it, of `lm` the words do. Outputs of `ordinal` are logarithms of
# probabilities, of which softmax and cross-entropy make what they make of logits.
CLASSES = ("class", "origin", "ordinal", "lm")


def outputs_of(task):
    return task.get("width", 1) if task["kind"] in ("real", "count") else task["classes"]


def pool(rows, lengths, kind, reverse):
    """[N][width] -> [B][width]. reverse [width]: 1 for the columns of cells that read from the end, whose last state
    stands at the first step."""
    parts = torch.split(rows, lengths)
    if kind == "mean":
        return torch.stack([p.mean(0) for p in parts])
    if kind == "max":
        return torch.stack([p.max(0).values for p in parts])
    return torch.stack([torch.where(reverse, p[0], p[-1]) for p in parts])


def pool_on(rows, lengths, kind, reverse, before):
    """A pool, and what it leaves for the next batch: (y, steps). before: what the batch before has left, or None."""
    y, steps = pool(rows, lengths, kind, reverse), torch.as_tensor(lengths, dtype=rows.dtype)[:, None]
    if before is not None and kind != "last":
        old, gone = before
        y = torch.maximum(y, old) if kind == "max" else (gone * old + steps * y) / (gone + steps)
        steps = steps + gone
    return y, (y.detach(), steps)


def labelled(target):
    """Which items have a target."""
    if target.dtype == torch.int64:
        return target >= 0
    return ~torch.isnan(target.reshape(len(target), -1)).any(1)


def is_distribution(task, target):
    return task["kind"] in CLASSES and target.dtype != torch.int64


def class_weights(task, like):
    weights = task.get("class_weights")
    return None if weights is None else torch.as_tensor(weights, dtype=like.dtype)


def loss_divisor(task, target):
    """What the sum of a task's losses is divided by: items, or the sum of their class weights; vectors: times the width.
    Targets that are distributions count as items whatever the class weights, as in PyTorch."""
    target = target[labelled(target)]
    if task["kind"] not in CLASSES:
        return float(len(target) * outputs_of(task))
    if task.get("class_weights") is None or is_distribution(task, target):
        return float(len(target))
    return float(torch.as_tensor(task["class_weights"], dtype=torch.float64)[target].sum())


def standardised(desc, values):
    if "mean" not in desc:
        return values
    mean, deviation = (torch.as_tensor(desc[key], dtype=values.dtype) for key in ("mean", "deviation"))
    return (values - mean) / deviation


def loss_sum(task, x, target):
    """The sum of one task's losses over the labelled items."""
    chosen = labelled(target)
    x, target = x[chosen], target[chosen]
    if task["kind"] in CLASSES:
        return F.cross_entropy(x, target, weight=class_weights(task, x), reduction="sum",
                               label_smoothing=setting(task, "label_smoothing"))
    target = target.reshape(x.shape)
    if task["kind"] == "multi":
        return F.binary_cross_entropy_with_logits(x, target, pos_weight=class_weights(task, x), reduction="sum")
    target = standardised(task, target)
    if task["kind"] == "count":
        return F.poisson_nll_loss(x, target, log_input=True, full=False, reduction="sum")
    if task.get("loss") == "mae":
        return F.l1_loss(x, target, reduction="sum")
    if task.get("loss") == "huber":
        return F.huber_loss(x, target, reduction="sum", delta=setting(task, "huber_delta", 1))
    return F.mse_loss(x, target, reduction="sum")


# ---- the model ------------------------------------------------------------------------------------------------------------


def input_width(i):
    if i.get("kind") == "characters":
        return parts.speller_width(i)
    return i["width"] if "vocabulary" in i else i["features"]


def make_input(i):
    """The part of an input that has parameters, or None."""
    if i.get("kind") == "characters":
        return parts.Speller(i)
    if "vocabulary" in i:
        return nn.Embedding(i["vocabulary"], i["width"], padding_idx=0 if i.get("padding_zero") else None)
    return nn.ModuleDict({"norm": nn.BatchNorm1d(i["features"])}) if i.get("batch_norm") else None


class Model(nn.Module):
    """In float64, which is the truth that everything is compared with; .float() makes it as exact as others are."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.source_reverse = {}                # of each input and column: [width] which columns read from the end
        self.parts = {}
        for i in config["inputs"]:
            self.source_reverse[i["name"]] = torch.zeros(input_width(i), dtype=torch.bool)
            part = make_input(i)
            if part is not None:
                self.put(i["name"], part)
        for c in config["columns"]:
            column = make_column(c, len(self.reverse(c["from"])))
            self.put(c["name"], column)
            hidden = torch.zeros(column.width if hasattr(column, "width") else c["hidden"], dtype=torch.bool)
            self.source_reverse[c["name"]] = torch.cat([hidden, ~hidden]) if c.get("bidirectional") else hidden
        for t in config["tasks"]:
            self.put(t["name"], self.make_head(t))
        self.double()

    def make_head(self, t):
        reverse = self.reverse(t["from"])
        if t["kind"] == "lm":
            return parts.Words(t, len(reverse), self.ways(t), self.words()["width"])
        return Head(t, len(reverse), self.parts.get(t.get("pool_of")))

    def words(self):
        """The input whose ids language models predict."""
        return next(i for i in self.config["inputs"] if "width" in i)

    def ways(self, t):
        return 2 if self.reverse(t["from"]).any() else 1

    def put(self, name, module):
        self.add_module("part_" + name, module)     # a plain name could hide a method of nn.Module
        self.parts[name] = module

    def named(self):
        """Parameters under mtl_rnn.h's names."""
        return {c_name(k): p for k, p in self.named_parameters()}

    def running(self):
        """Running averages of batch normalisation, which mtl_rnn.h has among its parameters, frozen."""
        return {"buffers." + c_name(k): b for k, b in self.named_buffers() if ".running_" in k}

    def buffers_held(self):
        """State that is no parameter, under mtl_rnn.h's names."""
        held = [d for d in self.config["inputs"] + self.config["tasks"] if "mean" in d and not d.get("reads")]
        means = {f"buffers.{d['name']}.mean": torch.as_tensor(d["mean"]) for d in held}
        return means | {f"buffers.{d['name']}.scale": torch.as_tensor(d["deviation"]) for d in held}

    def reverse(self, names):
        return torch.cat([self.source_reverse[n] for n in names])

    def read_input(self, i, values, spellings=None):
        if i.get("kind") == "characters":
            return self.parts[i["name"]](values, spellings)
        if "vocabulary" in i:
            return self.parts[i["name"]](values) * setting(i, "scale", 1)
        rows = standardised(i, values)
        return self.parts[i["name"]]["norm"](rows) if i.get("batch_norm") else rows

    def forward(self, batch, states=None):
        """Outputs of every task's head, and each column's final states and pool's. states: what an earlier call returned."""
        lengths = list(batch["lengths"])
        spellings = batch.get("spellings", {})
        rows = {i["name"]: self.read_input(i, batch["inputs"][i["name"]], spellings.get(i["name"]))
                for i in self.config["inputs"]}
        final, outputs = {}, {}
        for c in self.config["columns"]:
            x = torch.cat([rows[n] for n in c["from"]], 1)
            rows[c["name"]], final[c["name"]] = self.parts[c["name"]](x, lengths, states and states[c["name"]])
        for t in self.config["tasks"]:
            x = torch.cat([rows[n] for n in t["from"]], 1)
            if t.get("level", "sequence") == "sequence":
                before = states and states[t["name"]]
                x, final[t["name"]] = self.parts[t["name"]].pool(x, lengths, self.reverse(t["from"]), before)
            outputs[t["name"]] = self.answer(t, x, batch)
        return outputs, final

    def answer(self, t, x, batch):
        head, target = self.parts[t["name"]], self.target(t, batch)
        if t["kind"] == "lm":
            return head(x, self.parts[self.words()["name"]].weight)
        return head(x, None if target is None else labelled(target))

    def losses(self, batches, states=None):
        """L_k of the tasks that are trained and have labels in the update's micro-batches, and the columns' final states.
        states: for each micro-batch what an earlier call returned."""
        outputs, final = zip(*(self(batch, states[i] if states else None) for i, batch in enumerate(batches)))
        return self.losses_of(batches, outputs), final

    def target(self, t, batch):
        if t["kind"] == "lm":
            ids = batch["inputs"][self.words()["name"]]
            return parts.words_beside(ids, list(batch["lengths"]), t["classes"], self.ways(t))
        return batch["targets"].get(t["name"])

    def losses_of(self, batches, outputs):
        totals = {}
        for batch, out in zip(batches, outputs):
            for t in self.config["tasks"]:
                target = self.target(t, batch)
                if t.get("evaluate_only") or target is None or not labelled(target).any():
                    continue
                total, divisor = totals.get(t["name"], (0, 0))
                totals[t["name"]] = (total + loss_sum(t, out[t["name"]], target), divisor + loss_divisor(t, target))
        return {name: total / divisor for name, (total, divisor) in totals.items()}


def c_name(path):
    """mtl_rnn.h's name of a parameter of Model's."""
    path = re.sub(r"\.cells\.(\d+)\.net\.(\w+?)_l0", r".\2_l\1", path.removeprefix("part_"))
    return path.replace(".net.", ".")


def carried(column, state):
    """What goes on to the next update of a column's last states. Cells that read from the end begin at zero each time: their
    last state is that of the chunk's first step."""
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(carried(column, s) for s in state)
    state = state.detach().clone()
    if column.get("bidirectional"):
        state[1::2] = 0
    return state


# ---- training ---------------------------------------------------------------------------------------------------------------


def make_optimizer(trainer, groups):
    lr, l2 = setting(trainer, "lr"), setting(trainer, "l2")
    momentum, epsilon = setting(trainer, "momentum"), setting(trainer, "epsilon", 1e-8)
    beta1, beta2 = setting(trainer, "beta1", 0.9), setting(trainer, "beta2", 0.999)
    kind = trainer["optimizer"]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=bool(trainer.get("nesterov")), weight_decay=l2)
    if kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr, alpha=beta2, eps=epsilon, momentum=momentum, weight_decay=l2)
    if kind == "adam":
        return torch.optim.Adam(groups, lr, (beta1, beta2), epsilon, weight_decay=l2)
    return torch.optim.AdamW(groups, lr, (beta1, beta2), epsilon, weight_decay=setting(trainer, "decay"))


def make_schedule(trainer, optimizer):
    """PyTorch's scheduler for a trainer's `schedule`, or None; it is stepped after each update. Where linear and cosine end
    differs: mtl_rnn.h has the final rate in the last of total_steps, PyTorch would have it in the update after that."""
    schedules = torch.optim.lr_scheduler
    kind, lr = trainer.get("schedule", "constant"), setting(trainer, "lr")
    every, factor = trainer.get("schedule_every", 1000), setting(trainer, "schedule_factor", 0.5)
    total, warmup = trainer.get("total_steps", 0), trainer.get("warmup", 0)
    final = setting(trainer, "lr_final")
    if kind == "step":
        return schedules.StepLR(optimizer, every, factor)
    if kind == "exponential":
        return schedules.ExponentialLR(optimizer, factor ** (1 / every))
    if kind == "one-cycle":
        return schedules.OneCycleLR(optimizer, lr, total, cycle_momentum=False)
    if kind not in ("linear", "cosine"):
        return None
    decay = {"linear": lambda: schedules.LinearLR(optimizer, 1, final, total - warmup),
             "cosine": lambda: schedules.CosineAnnealingLR(optimizer, total - warmup, lr * final)}[kind]
    if warmup:
        rise = schedules.LinearLR(optimizer, 1 / warmup, 1, warmup - 1)
        return schedules.SequentialLR(optimizer, [rise, decay()], [warmup - 1])
    schedule = decay()
    step_early(optimizer, schedule)
    return schedule


def step_early(optimizer, schedule):
    """One step of the schedule before the first of the optimiser, about which PyTorch would warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule.step()


class Trainer:
    """update() is mtl_train_step; what it returns has the names of mtl_step."""

    def __init__(self, model):
        self.model, self.how = model, model.config["trainer"]
        rates, groups = model.config.get("rate", {}), {}
        for name, p in model.named().items():
            if any(name.startswith(prefix) for prefix in model.config.get("freeze", [])):
                p.requires_grad_(False)
                continue
            rate = next((r for prefix, r in rates.items() if name.startswith(prefix)), 1)
            groups.setdefault(rate, []).append(p)
        self.trained = [p for group in groups.values() for p in group]
        lr = setting(self.how, "lr")
        groups = [{"params": p, "lr": lr * single(rate)} for rate, p in groups.items()]
        self.optimizer = make_optimizer(self.how, groups)
        self.schedule = make_schedule(self.how, self.optimizer)
        self.states = None                      # carried from update to update when batches say so

    def gradients(self, batches):
        """Losses and gradients, which are left in the parameters; the weights stay."""
        self.optimizer.zero_grad(set_to_none=True)
        losses, final = self.model.losses(batches, self.states)
        self.final = [f | {c["name"]: carried(c, f[c["name"]]) for c in self.model.config["columns"]} for f in final]
        weighted = self.model.config["tasks"] + self.model.config.get("penalties", [])
        weights = {t["name"]: setting(t, "weight", 1) for t in weighted}
        losses = {name: (loss, weights[name] * loss) for name, loss in losses.items()}
        total = sum(weighted for _, weighted in losses.values())
        self.backward({name: weighted for name, (_, weighted) in losses.items() if weighted.requires_grad})
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.reached()])
        return {"loss": float(torch.as_tensor(total).detach()), "grad_norm": float(norm),
                "task_loss": {name: float(loss.detach()) for name, (loss, _) in losses.items()}}

    def backward(self, losses):
        """losses: of tasks and penalties by name, each times its weight."""
        if losses:
            sum(losses.values()).backward()

    def clip(self, limit):
        torch.nn.utils.clip_grad_norm_(self.reached(), limit)

    def reached(self):
        return [p for p in self.trained if p.grad is not None]

    def update(self, batches):
        step = self.gradients(batches)
        if self.model.config["run"].get("carry"):
            self.states = self.final
        reached = self.reached()
        if self.how.get("clip_norm"):
            self.clip(setting(self.how, "clip_norm"))
        if self.how.get("clip_value") and reached:
            torch.nn.utils.clip_grad_value_(reached, setting(self.how, "clip_value"))
        if self.how.get("l1"):
            for p in reached:
                p.grad += setting(self.how, "l1") * p.detach().sign()
        step["lr"] = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        if self.schedule:
            self.schedule.step()
        return step


# ---- random values that both builds can hold exactly --------------------------------------------------------------------------


def random_values(generator, *shape, scale=1.0):
    """Normal numbers rounded to float32, as float64."""
    return torch.as_tensor((generator.standard_normal(shape) * scale).astype(np.float32).astype(np.float64))


def randomise(model, generator):
    """Initial weights, of a size that keeps states in range whatever the widths; embeddings of padding stay zero."""
    with torch.no_grad():
        for p in model.named().values():
            p.copy_(random_values(generator, *p.shape, scale=0.3 if p.dim() == 1 else 0.7 / p.shape[1] ** 0.5))
        for i in model.config["inputs"]:
            if i.get("padding_zero"):
                model.parts[i["name"]].weight[0] = 0
        for name, b in model.running().items():
            value = random_values(generator, *b.shape, scale=0.3)
            b.copy_((value.abs() + 0.5).float() if name.endswith("_var") else value)


# ---- the same description as text, for the C side --------------------------------------------------------------------------


NAMES = ("from", "by", "stop", "trains")        # fields that are lists of names


def config_line(kind, name, fields):
    words = [kind, name]
    for key, value in fields.items():
        if key in ("name", "mean", "deviation", "class_weights"):
            continue                            # in tensors
        if isinstance(value, (list, tuple)):
            value = ("+" if key in NAMES else ",").join(str(v) for v in value)
        words.append(f"{key}={int(value) if isinstance(value, bool) else value}")
    return " ".join(words)


LISTS = {"input": "inputs", "encoder": "encoders", "column": "columns", "task": "tasks", "penalty": "penalties",
         "share": "shares", "edit": "edits"}


def config_text(name, config, **case):
    """One line per desc: what it describes, its name, then field=value as mtl_field_set reads them."""
    lines = [config_line("case", name, case)]
    for kind, list_of in LISTS.items():
        lines += [config_line(kind, desc["name"], desc) for desc in config.get(list_of, [])]
    lines += [config_line(kind, "-", config[kind]) for kind in ("trainer", "run")]
    lines += [config_line("freeze", prefix, {}) for prefix in config.get("freeze", [])]
    lines += [f"rate {prefix} {rate}" for prefix, rate in config.get("rate", {}).items()]
    return "\n".join(lines) + "\n"


def config_tensors(config):
    """What of a description does not fit into text: class weights and standardisation."""
    tensors = {}
    for list_of in ("inputs", "tasks"):
        for desc in config[list_of]:
            for key in ("mean", "deviation", "class_weights"):
                if key in desc:
                    tensors[f"{desc['name']}.{key}"] = np.asarray(desc[key], np.float64)
    return tensors


def batch_tensors(config, prefix, batch):
    """A batch's arrays: PREFIX.lengths, PREFIX.words.ids, PREFIX.intent.labels, ... All are exact in float32."""
    tensors = {f"{prefix}.lengths": np.asarray(batch["lengths"], np.int32)}
    for name, values in batch["inputs"].items():
        is_ids = values.dtype == torch.int64
        tensors[f"{prefix}.{name}.{'ids' if is_ids else 'rows'}"] = values.numpy().astype(np.int32 if is_ids else np.float32)
    for t in config["tasks"]:
        target = batch["targets"].get(t["name"])
        if target is not None and target.dtype == torch.int64:
            tensors[f"{prefix}.{t['name']}.labels"] = target.numpy().astype(np.int32)
        elif target is not None:
            kind = "distribution" if is_distribution(t, target) else "values"
            tensors[f"{prefix}.{t['name']}.{kind}"] = target.numpy().astype(np.float32)
    for name, words in batch.get("spellings", {}).items():
        tensors[f"{prefix}.{name}.begins"] = np.cumsum([0] + [len(w) for w in words], dtype=np.int32)
        tensors[f"{prefix}.{name}.characters"] = np.asarray([c for w in words for c in w], np.int32)
    if "set" in batch:
        tensors[f"{prefix}.set"] = np.asarray([batch["set"]], np.int32)
    return tensors


def problem_tensors(model, data):
    """All that the C side needs to repeat a training: initial weights and data. data: [updates' data][micro-batches]."""
    values = model.named() | model.running()
    tensors = {f"initial.{name}": p.detach().numpy().astype(np.float32) for name, p in values.items()}
    tensors |= config_tensors(model.config)
    for u, batches in enumerate(data):
        for m, batch in enumerate(batches):
            tensors |= batch_tensors(model.config, f"data{u}.{m}", batch)
    return tensors


def train(model, data, trainer=Trainer):
    """All updates of config["run"]. Returns what mtl_step says of each, the first update's gradients and the parameters that
    come out."""
    run, trainer = model.config["run"], trainer(model)
    running = [b.clone() for b in model.buffers()]
    trainer.gradients(data[0])
    for b, before in zip(model.buffers(), running):
        b.copy_(before)                         # gradients without an update leave running averages as they were
    gradients = {name: (torch.zeros_like(p) if p.grad is None else p.grad.clone()) for name, p in model.named().items()}
    steps = [trainer.update(data[u % len(data)]) for u in range(run["updates"])]
    return steps, gradients, {name: p.detach().clone() for name, p in (model.named() | model.running()).items()}


@torch.no_grad()
def answers(model, batch):
    """What mtl_predict gives of each task: probabilities, values in the original units, of words their logarithms."""
    model.eval()
    outputs, _ = model(batch)
    model.train()
    return {t["name"]: answer(t, outputs[t["name"]], model.target(t, batch)) for t in model.config["tasks"]}


def answer(task, x, target):
    mean, deviation = torch.as_tensor(task.get("mean", 0.0)), torch.as_tensor(task.get("deviation", 1.0))
    if task["kind"] == "lm":
        p = torch.log_softmax(x, 1).gather(1, target.clamp(min=0)[:, None])[:, 0]
        return torch.where(target >= 0, p, torch.nan)
    if task["kind"] in CLASSES:
        return torch.softmax(x, 1)
    if task["kind"] == "multi":
        return torch.sigmoid(x)
    return x.exp() * deviation if task["kind"] == "count" else x * deviation + mean
