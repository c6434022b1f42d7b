"""PyTorch's worker: pytorch_worker.py THREADS (see worker.py)

Ways: oneDNN on or off behind the layer, the module as it is or traced and frozen, for one step the layer or the cell.
Training: gradients set to None, Adam fused; time-major."""
import sys
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import worker

warnings.simplefilter("ignore")                             # that tracing will go away one day
torch.set_num_threads(int(sys.argv[1]))
torch.set_num_interop_threads(1)
torch.manual_seed(0)

LAYER = {"lstm": nn.LSTM, "gru": nn.GRU}
CELL = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}


def with_onednn(call, enabled):
    """the same call with oneDNN on or off; the switch costs about a microsecond, which `on`, the default, does not pay"""
    if enabled:
        return call

    def switched():
        with torch.backends.mkldnn.flags(enabled=False):
            call()
    return switched


def infer(cell, H, B, T):
    module, x = LAYER[cell](H, H).eval(), torch.randn(T, B, H)
    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(module, x))

    def plain(run=module):
        with torch.inference_mode():
            run(x)
    ways = {"eager": plain, "frozen": lambda: plain(frozen)}
    if cell == "lstm":                                      # PyTorch has oneDNN behind LSTMs only
        ways["eager-native"] = with_onednn(plain, False)
    return ways


def trainer(module, H):
    """a function that trains `module` and a softmax head above it by one step, as its user would write it: the inputs, which want
    their gradient too, what gives the layer's outputs, the targets (-1: none)"""
    head = nn.Linear(H, worker.CLASSES)
    optimizer = torch.optim.Adam(list(module.parameters()) + list(head.parameters()), lr=1e-4, fused=True)

    def step(x, outputs, targets):
        optimizer.zero_grad(set_to_none=True)
        x.grad = None
        F.cross_entropy(head(outputs().reshape(-1, H)), targets, ignore_index=-1).backward()
        optimizer.step()
    return step


def train(cell, H, B, T):
    module, x = LAYER[cell](H, H), torch.randn(T, B, H, requires_grad=True)
    one, targets = trainer(module, H), torch.randint(0, worker.CLASSES, (T * B,))

    def step():
        one(x, lambda: module(x)[0], targets)
    ways = {"eager": step}
    if cell == "lstm":
        ways["eager-native"] = with_onednn(step, False)
    return ways


def stream(cell, H):
    layer, one = LAYER[cell](H, H).eval(), CELL[cell](H, H).eval()
    x = torch.randn(1, H)
    zero = (torch.zeros(1, H), torch.zeros(1, H)) if cell == "lstm" else torch.zeros(1, H)
    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(one, (x, zero)))
    state = {"cell": zero, "frozen": zero}

    def by_cell(name, run):
        with torch.inference_mode():
            state[name] = run(x, state[name])
    x3 = x.reshape(1, 1, H)
    state["layer"] = tuple(s.reshape(1, 1, H) for s in zero) if cell == "lstm" else zero.reshape(1, 1, H)

    def by_layer():
        with torch.inference_mode():
            state["layer"] = layer(x3, state["layer"])[1]
    return {"cell": lambda: by_cell("cell", one), "frozen-cell": lambda: by_cell("frozen", frozen), "layer": by_layer}


def prepare(cell, mode, H, B, T):
    if mode == "stream":
        return stream(cell, H)
    make = {"infer": infer, "train": train}.get(mode)
    return make(cell, H, B, T) if make else None


def ragged(way, cell, H, path):
    """training on the batches of lengths in a file, one batch a line: `packed`, `padded` (with the padding's labels ignored)"""
    module = LAYER[cell](H, H)
    step, data = trainer(module, H), []
    for line in open(path, encoding="utf-8"):
        lengths = torch.tensor(sorted(map(int, line.split()), reverse=True))
        T, B = int(lengths[0]), len(lengths)
        y = torch.randint(0, worker.CLASSES, (T, B)).masked_fill(torch.arange(T)[:, None] >= lengths, -1)
        data.append((torch.randn(T, B, H, requires_grad=True), lengths, y))

    def epoch():
        for x, lengths, y in data:
            if way == "packed":                             # the head sees the packed rows alone
                step(x, lambda: module(pack_padded_sequence(x, lengths))[0].data, pack_padded_sequence(y, lengths).data)
            else:
                step(x, lambda: module(x)[0], y.reshape(-1))
    return epoch


worker.serve("pytorch", torch.__version__.split("+")[0], prepare, ragged)
