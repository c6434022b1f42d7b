"""How tasks share, in PyTorch: what tests/parity.py compares the sharing presets and all kinds of mixes and penalties with.

A description is that of golden/reference.py, and more of it: inputs may have `reads`, columns and tasks have the fields of a
mix (from, by, stop; mix.kind, mix.per_sequence, mix.reversal), columns `trains`, sequence tasks `per_step`; there are tasks
of the kind origin, and penalties [{name, kind, a, b, weight}]. `stop` may be ["*"]. Everything is written from the papers'
formulas, as mtl_rnn.h cites them, and knows nothing of the C code but the names of parts and tensors.

    PRESETS     makes such a description out of inputs, an encoder and tasks
    MIXES       several sources become one
    PENALTIES   losses without targets

A new kind is a row of its table.
"""
from collections import namedtuple

import torch
from torch import nn

import reference

# ---- rows of steps and of sequences -----------------------------------------------------------------------------------------


def spread(rows, lengths):
    """What has a row a sequence is given to each of its steps."""
    return rows.repeat_interleave(torch.as_tensor(lengths), 0)


def mean_of_steps(rows, lengths):
    return torch.stack([part.mean(0) for part in torch.split(rows, lengths)])


# ---- mixes ----------------------------------------------------------------------------------------------------------------

# parameters(sources, widths, by): modules under the names that follow the owner's; by: width of what a gate reads.
# mix(tap, xs, by, lengths): xs are the sources' rows, by the rows that a gate reads.
# appends: the result is the sources side by side; else it has the columns of the first one.
Mix = namedtuple("Mix", "parameters mix appends")


class Vector(nn.Module):
    """Numbers that are learnt."""

    def __init__(self, count, scaled=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count))
        if scaled:
            self.scale = nn.Parameter(torch.ones(1))


class Reversal(torch.autograd.Function):
    """Ganin & Lempitsky 2015."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.factor * gradient, None


def no_parameters(widths, by):
    return {}


def blend(weights, xs):
    """weights: a number for each source, or a row of them for each row."""
    return sum(weights[..., i:i + 1] * x for i, x in enumerate(xs))


def concat(tap, xs, by, lengths):
    return torch.cat(xs, 1)


def add(tap, xs, by, lengths):
    return sum(xs)


def gate(tap, xs, by, lengths):
    g = torch.sigmoid(tap.parts["gate"](by))
    return g * xs[0] + (1 - g) * xs[1]


def experts(tap, xs, by, lengths):
    """Ma et al. 2018, Tang et al. 2020."""
    if tap.desc.get("mix.per_sequence") and tap.level == "step":
        by = spread(mean_of_steps(by, lengths), lengths)
    return blend(torch.softmax(tap.parts["gates"](by), 1), xs)


def cross_stitch(tap, xs, by, lengths):
    """Misra et al. 2016."""
    return blend(tap.parts["stitch"].weight, xs)


def levels(tap, xs, by, lengths):
    """Peters et al. 2018."""
    of = tap.parts["levels"]
    return of.scale * blend(torch.softmax(of.weight, 0), xs)


def reversal(tap, xs, by, lengths):
    return Reversal.apply(torch.cat(xs, 1), reference.setting(tap.desc, "mix.reversal", 1))


MIXES = {
    "concat": Mix(no_parameters, concat, True),
    "sum": Mix(no_parameters, add, False),
    "gate": Mix(lambda widths, by: {"gate": nn.Linear(by, widths[0])}, gate, False),
    "experts": Mix(lambda widths, by: {"gates": nn.Linear(by, len(widths))}, experts, False),
    "cross-stitch": Mix(lambda widths, by: {"stitch": Vector(len(widths))}, cross_stitch, False),
    "levels": Mix(lambda widths, by: {"levels": Vector(len(widths), scaled=True)}, levels, False),
    "reversal": Mix(no_parameters, reversal, True),
}
GATED = ("gate", "experts")                     # kinds that read `by`


# ---- penalties --------------------------------------------------------------------------------------------------------------


def distance(a, b):
    return sum(((a[name] - b[name]) ** 2).sum() for name in a)


def tie(model, penalty, rows):
    """Duong et al. 2015."""
    return distance(model.tensors(penalty["a"]), model.tensors(penalty["b"]))


def anchor(model, penalty, rows):
    return distance(model.tensors(penalty["a"]), model.anchors[penalty["name"]])


def orthogonal(model, penalty, rows):
    """Bousmalis et al. 2016, Liu et al. 2017."""
    a, b = rows[penalty["a"]], rows[penalty["b"]]
    return ((a.T @ b / len(a)) ** 2).sum()


PENALTIES = {"tie": tie, "anchor": anchor, "orthogonal": orthogonal}


# ---- the model ------------------------------------------------------------------------------------------------------------


Node = namedtuple("Node", "level reverse")      # reverse [width]: which columns read from the end


def node_of(source):
    """"TASK.probabilities" is of TASK."""
    return source.partition(".")[0]


def head_level(task):
    return "step" if task.get("per_step") else task.get("level", "sequence")


class Tap:
    """What a column or a task reads. It has a row a step when its owner or one of its sources has."""

    def __init__(self, desc, level, nodes):
        self.desc, self.sources, self.by, self.stop = desc, desc["from"], desc.get("by", []), desc.get("stop", [])
        read = [nodes[node_of(s)] for s in self.sources + self.by]
        self.level = "step" if "step" in [level] + [n.level for n in read] else "sequence"
        self.kind = MIXES[desc.get("mix.kind", "concat")]
        widths, reverse = [len(n.reverse) for n in read], [n.reverse for n in read[:len(self.sources)]]
        count = len(self.sources)
        self.reverse = torch.cat(reverse) if self.kind.appends else reverse[0]
        self.parts = nn.ModuleDict(self.kind.parameters(widths[:count], sum(widths[count:]) if self.by else sum(widths)))

    def stops(self, source):
        return source in self.stop or self.stop == ["*"]


class Pass:
    """A batch on its way through a model: pass["NAME"] are a part's rows, made when somebody reads them first."""

    def __init__(self, model, batch, states):
        self.model, self.batch, self.states = model, batch, states
        self.lengths, self.rows, self.final = list(batch["lengths"]), {}, {}

    def __getitem__(self, source):
        if source not in self.rows:
            make, desc = self.model.descs[node_of(source)]
            self.rows[source] = distribution(desc, self[desc["name"]]) if "." in source else getattr(self, make)(desc)
        return self.rows[source]

    def input(self, desc):
        of = self.model.descs[desc.get("reads", desc["name"])][1]
        values = self.batch["inputs"][of["name"]]
        return self.model.read_input(desc if "vocabulary" in desc else of, values)

    def column(self, desc):
        name = desc["name"]
        rows, self.final[name] = self.model.parts[name](self.mixed(desc), self.lengths, self.states and self.states[name])
        return rows

    def task(self, desc):
        tap, x = self.model.taps[desc["name"]], self.mixed(desc)
        if tap.level != head_level(desc):
            before = self.states and self.states.get(desc["name"])
            x, self.final[desc["name"]] = reference.pool_on(x, self.lengths, desc.get("pool", "last"), tap.reverse, before)
        return self.model.parts[desc["name"]](x)

    def mixed(self, desc):
        tap = self.model.taps[desc["name"]]
        xs = [self.source(tap, s) for s in tap.sources]
        by = torch.cat([self.source(tap, s) for s in tap.by] or xs, 1) if tap.kind in [MIXES[k] for k in GATED] else None
        return tap.kind.mix(tap, xs, by, self.lengths)

    def source(self, tap, source):
        rows = self[source].detach() if tap.stops(source) else self[source]
        return rows if self.model.nodes[node_of(source)].level == tap.level else spread(rows, self.lengths)


def distribution(task, outputs):
    return torch.softmax(outputs, 1) if task["kind"] in reference.CLASSES else torch.sigmoid(outputs)


class Model(reference.Model):
    """Parts in the order in which they can be made: whoever is read stands before who reads it."""

    def __init__(self, config):
        nn.Module.__init__(self)
        self.config, self.parts, self.nodes, self.taps, self.anchors = config, {}, {}, {}, {}
        self.descs = {d["name"]: (kind, d) for kind in ("input", "column", "task") for d in config[kind + "s"]}
        for name in self.descs:
            self.place(name)
        self.double()

    def place(self, name):
        kind, desc = self.descs[name]
        if name in self.nodes:
            return
        for source in desc.get("from", []) + desc.get("by", []):
            self.place(node_of(source))
        self.nodes[name] = getattr(self, "place_" + kind)(desc)

    def tap(self, desc, level):
        tap = self.taps[desc["name"]] = Tap(desc, level, self.nodes)
        self.add_module("mix_" + desc["name"], tap.parts)
        return len(tap.reverse)

    def place_input(self, desc):
        width = desc["width"] if "vocabulary" in desc else desc["features"]
        if "vocabulary" in desc:
            padding = 0 if desc.get("padding_zero") else None
            self.put(desc["name"], nn.Embedding(desc["vocabulary"], width, padding_idx=padding))
        return Node("step", torch.zeros(width, dtype=torch.bool))

    def place_column(self, desc):
        self.put(desc["name"], reference.make_column(desc, self.tap(desc, "step")))
        forward = torch.zeros(desc["hidden"], dtype=torch.bool)
        return Node("step", torch.cat([forward, ~forward]) if desc.get("bidirectional") else forward)

    def place_task(self, desc):
        level = head_level(desc)
        self.put(desc["name"], reference.Head(desc, self.tap(desc, level)))
        return Node(level, torch.zeros(reference.outputs_of(desc), dtype=torch.bool))

    def named(self):
        return {name.removeprefix("mix_"): p for name, p in super().named().items()}

    def tensors(self, prefix):
        """Parameters of a part, or of part of it, by what follows the prefix."""
        return {name[len(prefix):]: p for name, p in self.named().items() if (name + ".").startswith(prefix + ".")}

    def hold_anchors(self):
        anchored = [p for p in self.config.get("penalties", []) if p["kind"] == "anchor"]
        self.anchors = {p["name"]: {k: v.detach().clone() for k, v in self.tensors(p["a"]).items()} for p in anchored}

    def buffers_held(self):
        held = {f"buffers.{p['name']}.{p['a']}{end}": value for p in self.config.get("penalties", [])
                for end, value in self.anchors.get(p["name"], {}).items()}
        return super().buffers_held() | held

    def forward(self, batch, states=None):
        rows = Pass(self, batch, states)
        for desc in self.config["columns"]:
            rows[desc["name"]]                  # its last states are wanted, whoever reads it
        return rows, rows.final

    def target(self, t, batch):
        target = super().target(t, batch)
        if t["kind"] == "origin":
            target = torch.full((len(batch["lengths"]),), batch["set"])
        return target if target is None or not t.get("per_step") else spread(target, batch["lengths"])

    def losses_of(self, batches, passes):
        losses = super().losses_of(batches, passes)
        for p in self.config.get("penalties", []):
            losses[p["name"]] = sum(PENALTIES[p["kind"]](self, p, rows) for rows in passes) / len(passes)
        return losses

    def connections(self):
        """Pairs of parts that a mix or a penalty connects."""
        for name, tap in self.taps.items():
            yield from ((name, node_of(source)) for source in tap.sources + tap.by)
        for p in self.config.get("penalties", []):
            if "b" in p:
                yield node_of(p["a"]), node_of(p["b"])

    def components(self):
        """Which connected part of the model each node belongs to."""
        number = {name: i for i, name in enumerate(self.nodes)}
        for a, b in self.connections():
            number = {name: number[a] if n == number[b] else n for name, n in number.items()}
        return number


class Trainer(reference.Trainer):
    def __init__(self, model):
        super().__init__(model)
        model.hold_anchors()
        owner = {id(p): node_of(name) for name, p in model.named().items()}
        component = model.components()
        self.component = {id(p): component[owner[id(p)]] for p in self.trained}
        trains = {c["name"]: c.get("trains") for c in model.config["columns"]}
        self.trains = {id(p): trains.get(owner[id(p)]) for p in self.trained}

    def backward(self, losses):
        """A task's gradient goes where `trains` lets it; a penalty's everywhere."""
        penalties = [p["name"] for p in self.model.config.get("penalties", [])]
        for name, loss in losses.items():
            gradients = torch.autograd.grad(loss, self.trained, retain_graph=True, allow_unused=True)
            for p, gradient in zip(self.trained, gradients):
                allowed = self.trains[id(p)]
                if gradient is not None and (allowed is None or name in allowed + penalties):
                    p.grad = gradient.clone() if p.grad is None else p.grad + gradient

    def clip(self, limit):
        """Parts of a model that nothing connects are clipped each by its own norm."""
        for number in set(self.component.values()):
            torch.nn.utils.clip_grad_norm_([p for p in self.reached() if self.component[id(p)] == number], limit)


# ---- presets ----------------------------------------------------------------------------------------------------------------


class Plan:
    """What a preset fills in: columns, penalties, and whence the tasks read. how: the fields of mtl_share_desc."""

    def __init__(self, plain, how):
        self.how, self.encoder, self.words = how, plain["encoder"], [i["name"] for i in plain["inputs"]]
        self.inputs, self.tasks = [dict(i) for i in plain["inputs"]], [dict(t) for t in plain["tasks"]]
        self.columns, self.penalties = [], []

    def column(self, name, sources=None, hidden="hidden", **fields):
        """A copy of the encoder; hidden: which of the preset's fields has its size."""
        size = self.how.get(hidden) or self.encoder["hidden"]
        self.columns.append(self.encoder | {"name": name, "from": sources or self.words, "hidden": size} | fields)
        return name

    def penalty(self, kind, name, a, b):
        self.penalties.append({"name": f"{name}{len(self.penalties)}", "kind": kind, "a": a, "b": b,
                               "weight": self.how[kind]})


def full(plan):
    """Caruana 1997."""
    plan.column("encoder")
    for t in plan.tasks:
        t["from"] = ["encoder"]


def none(plan):
    """Each task its own inputs, which read the data of the first one's, and its own column."""
    for k, t in enumerate(plan.tasks):
        words = plan.words
        if k:
            copies = [i | {"name": f"{t['name']}-{i['name']}", "reads": i["name"]} for i in plan.inputs[:len(plan.words)]]
            plan.inputs += copies
            words = [i["name"] for i in copies]
        t["from"] = [plan.column(t["name"] + "-own", words, "own_hidden")]


def beside(plan, hidden):
    """A shared column and one of each task's own, which may stand on it."""
    above = plan.how.get("above") and hidden == "own_hidden"
    shared = plan.column("shared")
    for t in plan.tasks:
        own = plan.column(t["name"] + "-own", [shared] if above else None, hidden)
        t["from"] = [own] if above else [shared, own]


def partial(plan):
    """Ruder 2017, section 4."""
    beside(plan, "own_hidden")


def gated(plan):
    beside(plan, "hidden")
    for t in plan.tasks:
        t["mix.kind"] = "gate"


def hierarchical(plan):
    """Soegaard & Goldberg 2016; with distributions Hashimoto et al. 2017."""
    by_level = [[t["name"] for t in plan.tasks if t["level"] == level] for level in ("step", "sequence")]
    if "order" in plan.how:
        by_level = [names.split("+") for names in plan.how["order"].split("/")]
    below, predicted = [], []
    for number, names in enumerate(by_level):
        if not names:
            continue
        stop = {"stop": list(predicted)} if predicted and plan.how.get("stopped") else {}
        below = [plan.column(f"level{number}", plan.words + below + predicted, **stop)]
        here = [t for t in plan.tasks if t["name"] in names]
        for t in here:
            t["from"] = below
        if plan.how.get("distributions"):
            predicted = predicted + [t["name"] + ".probabilities" for t in here if t["kind"] != "real"]


def each_first(names, first):
    return [first] + [n for n in names if n != first]


def cross_stitched(plan):
    """Misra et al. 2016: a column a task and layer; the first source is the task's own."""
    layers, names = plan.encoder.get("layers", 1), [t["name"] for t in plan.tasks]
    stitched = {name: {} for name in names}
    for layer in range(layers):
        for name in names:
            plan.column(f"{name}-layer{layer}", hidden="own_hidden", layers=1, **stitched[name])
        stitched = {name: {"from": [f"{n}-layer{layer}" for n in each_first(names, name)], "mix.kind": "cross-stitch"}
                    for name in names}
    for t in plan.tasks:
        t |= stitched[t["name"]]


def levelled(plan):
    """Peters et al. 2018: one stack; each task reads a mixture of its layers."""
    names = []
    for layer in range(plan.encoder.get("layers", 1)):
        names.append(plan.column(f"layer{layer}", names[-1:], layers=1))
    for t in plan.tasks:
        t |= {"from": names, "mix.kind": "levels"}


def columns_of_experts(plan, owner, count, **fields):
    return [plan.column(f"{owner}expert{i}", **fields) for i in range(plan.how[count])]


def gates(plan, sources):
    """A softmax gate over experts, which reads the inputs."""
    per_sequence = {"mix.per_sequence": True} if plan.how.get("per_sequence") else {}
    return {"from": sources, "by": plan.words, "mix.kind": "experts"} | per_sequence


def mmoe(plan):
    """Ma et al. 2018."""
    of_all = columns_of_experts(plan, "", "experts")
    for t in plan.tasks:
        t |= gates(plan, of_all)


def cgc(plan):
    """Tang et al. 2020: experts of all tasks, and of each task's own."""
    of_all = columns_of_experts(plan, "", "experts")
    for t in plan.tasks:
        t |= gates(plan, columns_of_experts(plan, t["name"] + "-", "own_experts") + of_all)


def ple(plan):
    """Tang et al. 2020: two levels. An expert of the second reads gated ones of the first: the shared ones all, a task's
    own its own and the shared."""
    of_all = columns_of_experts(plan, "", "experts")
    own = {t["name"]: columns_of_experts(plan, t["name"] + "-low-", "own_experts") for t in plan.tasks}
    high = columns_of_experts(plan, "high-", "experts", **gates(plan, of_all + sum(own.values(), [])))
    for t in plan.tasks:
        of_task = columns_of_experts(plan, t["name"] + "-", "own_experts", **gates(plan, own[t["name"]] + of_all))
        t |= gates(plan, of_task + high)


def soft(plan):
    """Duong et al. 2015: each pair of columns is kept alike."""
    for k, t in enumerate(plan.tasks):
        t["from"] = [plan.column(t["name"] + "-own", hidden="own_hidden")]
        for other in plan.tasks[:k]:
            plan.penalty("tie", "tie", other["name"] + "-own", t["from"][0])


def adversarial(plan):
    """Liu et al. 2017."""
    partial(plan)
    for t in plan.tasks:
        plan.penalty("orthogonal", "apart", "shared", t["name"] + "-own")
    plan.tasks.append({"name": "origin", "kind": "origin", "level": "sequence", "classes": plan.how["sets"], "pool": "mean",
                       "weight": plan.how["adversary"], "from": ["shared"], "mix.kind": "reversal"})


def stack(plan):
    """Qin et al. 2019: the steps vote on a sequence, and tasks of steps read their votes."""
    full(plan)
    voting = [t for t in plan.tasks if t["level"] == "sequence" and t["kind"] != "real"]
    votes = [t["name"] + ".probabilities" for t in voting]
    for t in voting:
        t["per_step"] = True
    for t in plan.tasks:
        if t["level"] == "step":
            t |= {"from": ["encoder"] + votes} | ({"stop": votes} if plan.how.get("stopped") else {})


PRESETS = {"full": full, "none": none, "partial": partial, "gated": gated, "hierarchical": hierarchical,
           "cross-stitch": cross_stitched, "levels": levelled, "mmoe": mmoe, "cgc": cgc, "ple": ple, "soft": soft,
           "adversarial": adversarial, "stack": stack}


def shared(plain, how, edits):
    """The description that a preset makes, with what the edits change of its columns and tasks."""
    plan = Plan(plain, how)
    PRESETS[how["kind"]](plan)
    for edit in edits:
        next(d for d in plan.columns + plan.tasks if d["name"] == edit["name"]).update(edit)
    return {"inputs": plan.inputs, "columns": plan.columns, "tasks": plan.tasks, "penalties": plan.penalties}
