#!/usr/bin/env python3
"""Would layer norm inside the cells gain anything? The joint model of pytorch_snips.py with nn.LSTM or nn.GRU, and with the same
cells normalised inside (Ba, Kiros and Hinton 2016, appendix: each product of a cell by itself and, of an LSTM, the cell state).

usage: pytorch_cell_norm.py FOLDER... [--cells lstm,gru] [--seeds N] [--epochs N] [--sentences N] [--lr X] [--linear]

Each FOLDER has train.tsv and valid.tsv. --sentences: the first so many of train.tsv; --linear: the rate falls to a twentieth, update by
update. Prints TSV: a row for each training, of the epoch best by the mean of intent and F1 on valid.tsv, in points; then what the
norms gain, as means over seeds with their standard deviation."""
import argparse
import os
import random
import statistics

import torch
import torch.nn as nn

from pytorch_snips import BATCH, Joint, dictionaries, evaluate, numbered, read, train_epoch


class NormedCell(nn.Module):
    """One direction. x [B][T][inputs] -> [B][T][H]; rows beyond a sequence's end are computed and mean nothing."""

    def __init__(self, kind, inputs, hidden):
        super().__init__()
        self.kind, self.hidden, gates = kind, hidden, 4 if kind == "lstm" else 3
        self.ih, self.hh = nn.Linear(inputs, gates * hidden, bias=False), nn.Linear(hidden, gates * hidden, bias=False)
        self.norm_ih, self.norm_hh, self.norm_c = nn.LayerNorm(gates * hidden), nn.LayerNorm(gates * hidden), nn.LayerNorm(hidden)
        for weight in (self.ih.weight, self.hh.weight):
            nn.init.uniform_(weight, -hidden ** -0.5, hidden ** -0.5)       # as nn.LSTM and nn.GRU begin

    def lstm(self, x, h, c):
        i, f, g, o = (x + self.norm_hh(self.hh(h))).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self.norm_c(c)), c

    def gru(self, x, h, c):
        (xr, xz, xn), (hr, hz, hn) = x.chunk(3, 1), self.norm_hh(self.hh(h)).chunk(3, 1)
        z = torch.sigmoid(xz + hz)
        return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h, c

    def forward(self, x):
        step, h = getattr(self, self.kind), x.new_zeros(len(x), self.hidden)
        c, outputs = h, []
        for row in self.norm_ih(self.ih(x)).unbind(1):
            h, c = step(row, h, c)
            outputs.append(h)
        return torch.stack(outputs, 1)


class NormedJoint(Joint):
    def __init__(self, words, intents, tags, kind):
        super().__init__(words, intents, tags, True)
        self.lstm = nn.ModuleList(NormedCell(kind, 128, 128) for _ in range(2))

    def encode(self, e, lengths):
        steps = torch.arange(e.shape[1])[None, :]
        turned = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)[..., None]
        ahead, back = self.lstm
        y = back(e.gather(1, turned.expand(-1, -1, e.shape[2])))
        return torch.cat([ahead(e), y.gather(1, turned.expand(-1, -1, y.shape[2]))], 2)


def make(kind, normed, sizes):
    if normed:
        return NormedJoint(*sizes, kind)
    model = Joint(*sizes, True)
    if kind == "gru":
        model.lstm = nn.GRU(128, 128, bidirectional=True, batch_first=True)
    return model


def best(kind, normed, seed, train, valid, options):
    torch.manual_seed(seed)
    random.seed(seed)
    words, intents, tags = dictionaries(train)
    rows, checks = numbered(train, words, intents, tags), numbered(valid, words, intents, tags)
    model = make(kind, normed, (len(words), len(intents), len(tags)))
    optimizer, scores = torch.optim.Adam(model.parameters(), lr=options.lr, fused=True), []
    updates = options.epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, updates) if options.linear else None
    for _ in range(options.epochs):
        train_epoch(model, optimizer, rows, schedule)
        scores.append(evaluate(model, checks, valid, tags))
    score = max(scores, key=lambda s: s["intent"] + s["slot_f1"])
    return [100 * score[name] for name in ("intent", "slot_f1", "joint")]


def main():
    options = argparse.ArgumentParser(description="layer norm inside the cells, with PyTorch")
    options.add_argument("folders", nargs="+", metavar="FOLDER")
    options.add_argument("--cells", default="lstm,gru")
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--linear", action="store_true")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--sentences", type=int)
    options = options.parse_args()
    torch.set_num_threads(1)
    print("\t".join(["set", "cell", "norms", "seed", "intent", "slot_f1", "all_right"]), flush=True)
    for folder in options.folders:
        name = os.path.basename(os.path.normpath(folder))
        train, valid = read(folder + "/train.tsv")[:options.sentences], read(folder + "/valid.tsv")
        for kind in options.cells.split(","):
            gains = []
            for seed in range(1, options.seeds + 1):
                of = [best(kind, normed, seed, train, valid, options) for normed in (False, True)]
                gains.append([b - a for a, b in zip(*of)])
                for normed in (0, 1):
                    print("\t".join([name, kind, str(normed), str(seed)] + [f"{x:.2f}" for x in of[normed]]), flush=True)
            columns = zip(*gains)
            print("\t".join([name, kind, "gain", "mean"] + [f"{statistics.mean(c):+.2f} ± {statistics.pstdev(c):.2f}" for c in columns]),
                  flush=True)


if __name__ == "__main__":
    main()
