"""The parts of reference.py's models that are no recurrent layer, in PyTorch: columns of convolutions and of self-attention,
pools by attention, the spelling of words, ranks and next words.

Attributes are named so that the paths of parameters are mtl_rnn.h's names: encoder.attention.0.in.weight. A column is called
with rows [N][width], all sequences end to end, their lengths and a state, which these have not.
"""
import torch
from torch import nn
from torch.nn import functional as F

# ---- columns --------------------------------------------------------------------------------------------------------------


class Conv(nn.Module):
    """nn.Conv1d with the padding `same`, or causal; a weight is [hidden][K * inputs] here, [hidden][inputs][K] there."""

    def __init__(self, column, inputs):
        super().__init__()
        self.widths, self.causal, self.dilation = column["widths"], column.get("causal"), column.get("dilation", 1)
        for layer in range(column.get("layers", 1)):
            windows = {f"window{k}": nn.Linear(k * inputs, column["hidden"]) for k in self.widths}
            self.add_module(f"layer{layer}", nn.ModuleDict(windows))
            inputs = len(self.widths) * column["hidden"]
        self.width = inputs

    def window(self, x, k, of, apart):
        """x: [T][inputs] of one sequence."""
        weight, x = of.weight.reshape(len(of.weight), k, -1).transpose(1, 2), x.T
        if self.causal:
            return F.conv1d(F.pad(x, ((k - 1) * apart, 0)), weight, of.bias, dilation=apart).T
        return F.conv1d(x, weight, of.bias, dilation=apart, padding="same").T

    def beside(self, x, windows, apart):
        return torch.cat([self.window(x, k, of, apart) for k, of in zip(self.widths, windows.values())], 1)

    def forward(self, rows, lengths, state=None):
        for layer, windows in enumerate(self.children()):
            apart = self.dilation ** layer
            rows = torch.relu(torch.cat([self.beside(x, windows, apart) for x in torch.split(rows, lengths)]))
        return rows, None


def turned(x):
    """Rotary positions (Su et al. 2021) of x [heads][steps][d]: columns 2i and 2i + 1 are a complex number."""
    steps, d = x.shape[1:]
    angles = torch.arange(steps)[:, None] * 10000.0 ** (-torch.arange(0, d, 2, dtype=x.dtype) / d)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:2], d // 2, 2)) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(pairs).flatten(2)


class SelfAttention(nn.Module):
    """Layers of nn.MultiheadAttention over each sequence, a residual sum and a layer norm behind each. make.py compares it
    with that module, which has no rotary positions and no heads of other widths."""

    def __init__(self, column, inputs, epsilon):
        super().__init__()
        self.heads, self.rotary, self.width = column.get("heads", 4), column.get("rotary"), inputs
        inner = self.heads * column.get("head_width", -(-inputs // self.heads))
        self.attention = nn.ModuleList(
            nn.ModuleDict({"in": nn.Linear(inputs, 3 * inner), "out": nn.Linear(inner, inputs),
                           "norm": nn.LayerNorm(inputs, epsilon)}) for _ in range(column.get("layers", 1)))

    def attend(self, x):
        """x: [T][q, k, v][heads][d] of one sequence."""
        q, k, v = x.reshape(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)
        if self.rotary:
            q, k = turned(q), turned(k)
        return F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)

    def seen(self, layer, rows, lengths):
        return layer["out"](torch.cat([self.attend(x) for x in torch.split(layer["in"](rows), lengths)]))

    def forward(self, rows, lengths, state=None):
        for layer in self.attention:
            rows = layer["norm"](rows + self.seen(layer, rows, lengths))
        return rows, None


# ---- inputs ---------------------------------------------------------------------------------------------------------------


def speller_width(i):
    return len(i["widths"]) * i["filters"] if i.get("speller", "cnn") == "cnn" else 2 * i["hidden"]


class Speller(nn.Module):
    """Words by their characters between a symbol for the begin (row 0) and one for the end (row 1): the maximum of each
    nn.Conv1d over the word (Kim 2014), or the last states of a bidirectional nn.LSTM or nn.GRU (Lample et al. 2016)."""

    def __init__(self, i):
        super().__init__()
        inputs = i["character_width"]
        self.weight = nn.Parameter(torch.zeros(2 + i["vocabulary"], inputs))
        self.cells = i.get("speller", "cnn") != "cnn"
        if self.cells:
            net = {"gru": nn.GRU, "lstm": nn.LSTM}[i["speller"]]
            self.net = net(inputs, i["hidden"], bidirectional=True, batch_first=True)
            return
        self.widths, self.filters = i["widths"], i["filters"]
        for k in self.widths:
            self.add_module(f"width{k}", nn.ParameterDict({"weight": torch.zeros(k * self.filters, inputs),
                                                           "bias": torch.zeros(self.filters)}))

    def found(self, x, k):
        """What filters of k symbols find in a word x [symbols][inputs]; of a shorter one the rest is zeros."""
        of = getattr(self, f"width{k}")
        weight = of["weight"].reshape(k, self.filters, -1).permute(1, 2, 0)
        x = F.pad(x.T, (0, max(0, k - len(x))))
        return torch.relu(F.conv1d(x[None], weight, of["bias"])).amax((0, 2))

    def word(self, characters):
        x = F.embedding(torch.tensor([0] + [2 + c for c in characters] + [1]), self.weight)
        if not self.cells:
            return torch.cat([self.found(x, k) for k in self.widths])
        state = self.net(x[None])[1]
        return (state[0] if isinstance(state, tuple) else state).flatten()

    def forward(self, ids, spellings):
        return torch.stack([self.word(s) for s in spellings])[ids]


# ---- heads ----------------------------------------------------------------------------------------------------------------


class Scores(nn.Module):
    """Attention over the steps of each sequence: rows weighted by a softmax of their scores."""

    def __init__(self, kind, inputs, width):
        super().__init__()
        self.factor = inputs ** -0.5 if kind == "dot" else 1
        self.keys = nn.Linear(inputs, width or inputs) if kind == "additive" else None
        self.score = nn.Linear((width or inputs) if self.keys else inputs, 1, bias=False)

    def forward(self, rows, lengths, before=None):
        """[B][width], and what goes on to the next batch: all steps so far stand for one more of theirs."""
        scores = torch.split(self.factor * self.score(torch.tanh(self.keys(rows)) if self.keys else rows), lengths)
        rows = torch.split(rows, lengths)
        if before:
            scores = [torch.cat(both) for both in zip(before[0], scores)]
            rows = [torch.cat(both) for both in zip(before[1], rows)]
        y = torch.cat([torch.softmax(s, 0).T @ x for s, x in zip(scores, rows)])
        total = torch.stack([torch.logsumexp(s, 0) for s in scores])
        return y, (total[:, None].detach(), y[:, None].detach())


def ranks(scores, cuts):
    """Logarithms of the classes' probabilities, by cumulative logits (McCullagh 1980). scores: [N][1]."""
    thresholds = torch.cumsum(torch.cat([cuts[:1] - (len(cuts) - 1), F.softplus(cuts[1:] + 2)]), 0)
    below = F.pad(torch.sigmoid(thresholds - scores), (1, 0))
    return torch.diff(F.pad(below, (0, 1), value=1.0)).log()


class Bias(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes))


class Words(nn.Module):
    """Logits of the next word and, of the half of a bidirectional column that reads from the end, of the previous one."""

    def __init__(self, task, inputs, ways, embedding):
        super().__init__()
        self.ways, self.tied = ["", "_reverse"][:ways], task.get("tied")
        for way in self.ways:
            output = Bias(task["classes"]) if self.tied else nn.Linear(inputs // ways, task["classes"])
            self.add_module("output" + way, output)
            if self.tied:
                self.add_module("project" + way, nn.Linear(inputs // ways, embedding))

    def way(self, way, x, table):
        output = getattr(self, "output" + way)
        if not self.tied:
            return output(x)
        return getattr(self, "project" + way)(x) @ table[:len(output.bias)].T + output.bias

    def forward(self, x, table):
        """[N * ways][classes]. table: the words' embeddings."""
        logits = [self.way(way, half, table) for way, half in zip(self.ways, x.chunk(len(self.ways), 1))]
        return torch.stack(logits, 1).flatten(0, 1)


def words_beside(ids, lengths, classes, ways):
    """[N * ways] what Words predicts: the next word, then the previous one; -1 beyond a sequence, 0 for rare words."""
    ids = torch.where(ids < classes, ids, 0)
    next_words = torch.cat([F.pad(part[1:], (0, 1), value=-1) for part in torch.split(ids, lengths)])
    previous = torch.cat([F.pad(part[:-1], (1, 0), value=-1) for part in torch.split(ids, lengths)])
    return torch.stack([next_words, previous][:ways], 1).flatten()
