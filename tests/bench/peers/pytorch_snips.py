#!/usr/bin/env python3
"""The joint intent and slots model of `mtl train --preset plain`, written with PyTorch as its users would.

usage: pytorch_snips.py FOLDER [--threads N] [--epochs N] [--packed] [--seed N]        FOLDER has train.tsv and valid.tsv

Embedding 128 from N(0,1), dropout 0.3 on embeddings and outputs, Bi-LSTM 128, max pooling for the intent, softmax heads, the sum of
both losses, Adam 1e-3 (fused), gradient norm clipped at 5, batches of 32 of similar length (pools of 50 batches). One JSON object
for each epoch: seconds of training (making the batches included) and of evaluation, tokens a second, validation scores."""
import argparse
import json
import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

BATCH, POOL, UNKNOWN = 32, 50, 1


def read(path):
    with open(path, encoding="utf-8") as lines:
        header = next(lines).rstrip("\n").split("\t")
        rows = [line.rstrip("\n").split("\t") for line in lines]
    intent, text, slots = (header.index(name) for name in ("intent:class", "text", "slots:tags"))
    return [(row[text].split(" "), row[intent], row[slots].split(" ")) for row in rows]


def numbered(rows, words, intents, tags):
    return [(torch.tensor([words.get(word, UNKNOWN) for word in text]), intents.get(intent, -1),
             torch.tensor([tags.get(tag, -1) for tag in slots])) for text, intent, slots in rows]


class Joint(nn.Module):
    def __init__(self, words, intents, tags, packed):
        super().__init__()
        self.packed = packed
        self.embedding = nn.Embedding(words, 128, padding_idx=0)
        self.dropout = nn.Dropout(0.3)
        self.lstm = nn.LSTM(128, 128, bidirectional=True, batch_first=True)
        self.intent, self.slots = nn.Linear(256, intents), nn.Linear(256, tags)

    def encode(self, e, lengths):
        if not self.packed:
            return self.lstm(e)[0]
        rows = pack_padded_sequence(e, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(rows)[0], batch_first=True)[0]

    def forward(self, x, lengths):
        h = self.dropout(self.encode(self.dropout(self.embedding(x)), lengths))
        padding = torch.arange(x.shape[1])[None, :] >= lengths[:, None]
        return self.intent(h.masked_fill(padding.unsqueeze(-1), -torch.inf).amax(1)), self.slots(h)


def batches_of(rows, size, shuffled):
    rows = list(rows)
    if shuffled:
        random.shuffle(rows)
    pools = [sorted(rows[k:k + size * POOL], key=lambda row: len(row[0])) for k in range(0, len(rows), size * POOL)]
    batches = [pool[k:k + size] for pool in pools for k in range(0, len(pool), size)]
    if shuffled:
        random.shuffle(batches)
    return batches


def tensors(batch):
    return (pad_sequence([row[0] for row in batch], batch_first=True), torch.tensor([len(row[0]) for row in batch]),
            torch.tensor([row[1] for row in batch]), pad_sequence([row[2] for row in batch], batch_first=True, padding_value=-1))


def train_epoch(model, optimizer, rows, schedule=None):
    model.train()
    for batch in batches_of(rows, BATCH, True):
        x, lengths, intent, slots = tensors(batch)
        a, b = model(x, lengths)
        loss = F.cross_entropy(a, intent, ignore_index=-1) + F.cross_entropy(b.flatten(0, 1), slots.flatten(), ignore_index=-1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if schedule:
            schedule.step()


def spans(tags):
    """(first, end, kind) of each chunk, by the CoNLL evaluation's rules"""
    found, start, kind = set(), None, None
    for k, tag in enumerate(tags + ["O"]):
        if start is not None and not (tag.startswith("I-") and tag[2:] == kind):
            found.add((start, k, kind))
            start = None
        if start is None and tag != "O":
            start, kind = k, tag[2:]
    return found


def evaluate(model, rows, texts, tags):
    """intent accuracy, slot F1, share of sentences with everything right; `texts` are the same rows as they were read"""
    model.eval()
    order = sorted(range(len(rows)), key=lambda k: len(rows[k][0]))
    names, right, both, hit, guessed, real = list(tags), 0, 0, 0, 0, 0
    with torch.inference_mode():
        for k in range(0, len(order), BATCH):
            chosen = order[k:k + BATCH]
            x, lengths, intent, _ = tensors([rows[i] for i in chosen])
            a, b = model(x, lengths)
            a, b = (a.argmax(-1) == intent).tolist(), b.argmax(-1).tolist()
            for i, correct, guess in zip(chosen, a, b):
                guess, truth = [names[t] for t in guess[:len(texts[i][2])]], texts[i][2]
                mine, true = spans(guess), spans(truth)
                hit, guessed, real = hit + len(mine & true), guessed + len(mine), real + len(true)
                right, both = right + correct, both + (correct and guess == truth)
    return {"intent": right / len(rows), "slot_f1": 2 * hit / max(1, guessed + real), "joint": both / len(rows)}


def dictionaries(rows):
    words, intents, tags = {"<pad>": 0, "<unknown>": UNKNOWN}, {}, {}
    for text, intent, slots in rows:
        intents.setdefault(intent, len(intents))
        for word in text:
            words.setdefault(word, len(words))
        for tag in slots:
            tags.setdefault(tag, len(tags))
    return words, intents, tags


def main():
    options = argparse.ArgumentParser(description="joint intent and slots with PyTorch")
    options.add_argument("folder")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--packed", action="store_true")
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    train, valid = read(options.folder + "/train.tsv"), read(options.folder + "/valid.tsv")
    words, intents, tags = dictionaries(train)
    rows, checks = numbered(train, words, intents, tags), numbered(valid, words, intents, tags)
    tokens = sum(len(row[0]) for row in rows)
    model = Joint(len(words), len(intents), len(tags), options.packed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        train_epoch(model, optimizer, rows)
        middle = time.perf_counter()
        scores = evaluate(model, checks, valid, tags)
        print(json.dumps({"epoch": epoch, "train_seconds": middle - start, "eval_seconds": time.perf_counter() - middle,
                          "tokens_per_second": tokens / (middle - start), **scores}), flush=True)


if __name__ == "__main__":
    main()
