#!/usr/bin/env python3
"""make pytorch: every kind of recurrent network of PyTorch through `mtl import`, and the same answers.

    python tests/pytorch_import.py [FOLDER]     with the program mtl in FOLDER (build)

Cells, layers, directions, with and without biases, every pool, heads with and without a hidden layer, tokens and rows of
numbers, float32, float16 and bfloat16. All cells, sizes, directions and biases meet one another; the rest is changed one at
a time. `mtl import` is told the mappings, the tasks and what no file holds (pool, words, relu), and has to find the rest.
A line for each network that fails, and a last line that counts.
"""
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file
from torch import nn

TOP = pathlib.Path(__file__).resolve().parent.parent
CLASSES, HIDDEN, WIDTH, WORDS = 3, 7, 5, 9
CELLS = {"lstm": (nn.LSTM, {}), "gru": (nn.GRU, {}), "rnn": (nn.RNN, {}), "relu": (nn.RNN, {"nonlinearity": "relu"})}
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Net(nn.Module):
    def __init__(self, cell, layers, both, bias, pool, deep, tokens):
        super().__init__()
        kind, options = CELLS[cell]
        self.embed = nn.Embedding(WORDS, WIDTH) if tokens else None
        self.net = kind(WIDTH, HIDDEN, layers, bias=bias, bidirectional=both, batch_first=True, **options)
        width = HIDDEN * (2 if both else 1)
        self.head = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, CLASSES)) if deep else nn.Linear(width, CLASSES)
        self.steps, self.pool, self.both = nn.Linear(width, 1), pool, both

    def forward(self, x):
        """One sequence: probabilities of its classes, and a number for each step."""
        output, final = self.net((self.embed(x) if self.embed else x)[None])
        final = final[0] if isinstance(final, tuple) else final
        last = torch.cat([final[-2], final[-1]], 1) if self.both else final[-1]
        pooled = {"last": last, "mean": output.mean(1), "max": output.max(1).values}[self.pool]
        return torch.softmax(self.head(pooled), 1)[0], self.steps(output)[0, :, 0]


def command(mtl, config, folder):
    cell, _, _, _, pool, deep, tokens, _ = config
    maps = ["net.=encoder.", "steps.=steps.output."]
    maps += ["head.0.=kind.hidden.0.", "head.2.=kind.output."] if deep else ["head.=kind.output."]
    how = ["--map", "embed.=text.", "--words", folder / "words.txt"] if tokens else ["--features", "a,b,c,d,e"]
    how += ["--set", "encoder.activation=relu"] if cell == "relu" else []
    return [mtl, "import", folder / "net.safetensors", *itertools.chain(*(("--map", m) for m in maps)), *how, "--quiet",
            "--task", "kind:class", "--task", "steps:reals", "--pool", pool, "--out", folder / "model.safetensors"]


def answer(mtl, x, tokens, folder):
    if tokens:
        more, given = [], " ".join(f"w{i}" for i in x.tolist()) + "\n"
    else:
        lines = ["a,b,c,d,e"] + [",".join(map(repr, row)) for row in x.tolist()]
        (folder / "rows.csv").write_text("\n".join(lines) + "\n")
        more, given = ["--frames", folder / "rows.csv"], ""
    run = subprocess.run([mtl, "predict", "--model", folder / "model.safetensors", "--json", *more], input=given,
                         capture_output=True, text=True, check=True)
    tasks = json.loads(run.stdout)["tasks"]
    return torch.tensor(list(tasks["kind"]["probabilities"].values())), torch.tensor(tasks["steps"]["values"])


def difference(mtl, config, folder):
    """The largest difference of an answer."""
    *made, tokens, dtype = config
    net = Net(*made, tokens).eval()
    state = {name: tensor.to(TYPES[dtype]) for name, tensor in net.state_dict().items()}
    save_file(state, folder / "net.safetensors")
    net.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    subprocess.run(command(mtl, config, folder), check=True)
    x = torch.randint(WORDS, (6,)) if tokens else torch.randn(6, WIDTH)
    with torch.no_grad():
        wanted = net(x)
    return max((a - b).abs().max().item() for a, b in zip(answer(mtl, x, tokens, folder), wanted))


def configurations():
    axes = [list(CELLS), [1, 2, 3], [False, True], [True, False], ["last", "mean", "max"], [False, True], [True, False], list(TYPES)]
    usual = [axis[0] for axis in axes]
    corners = itertools.product(list(CELLS), [1, 3], [False, True], [True, False], ["last"], [True], [True], ["f32"])
    single = (tuple(usual[:i] + [value] + usual[i + 1:]) for i, axis in enumerate(axes) for value in axis)
    return dict.fromkeys(itertools.chain(corners, single))


def main():
    mtl = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else TOP / "build").resolve() / "mtl"
    torch.manual_seed(1)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "words.txt").write_text("".join(f"w{i}\n" for i in range(WORDS)))
        for config in configurations():
            try:
                off = difference(mtl, config, folder)
                fault = None if off < 1e-5 else f"differs by {off:.2g}"
            except Exception as error:          # of the command: its message stands above
                fault = repr(error)
            passed, failed = passed + (not fault), failed + bool(fault)
            if fault:
                print(f"FAILED {'-'.join(map(str, config))}: {fault}")
    print(f"{passed} networks imported with the same answers, {failed} failed")
    return failed > 0 or passed < 30


if __name__ == "__main__":
    sys.exit(main())
