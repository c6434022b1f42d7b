#!/usr/bin/env python3
"""The model of the most accurate recipe for intent and slots, written with PyTorch as its users would, as best.py asks for it.

usage: pytorch_best.py FILE [--threads N]       FILE: a task TSV with the columns intent:class, text, slots:tags and no label missing

Says {"ready": ...} and then, for each line of standard input, trains an epoch and says what it took, a JSON object a line.

Word embedding 128, a CNN over the characters of the batch's distinct words, tables of prefixes, suffixes and shapes 24, phrases of the
data's spans; Bi-LSTM 200; self-attention of 4 heads; pooling by attention and maximum for the intent, a conditional random field for
the slots, a language model in both directions beside. Each batch runs twice for R-Drop. Batches are of one length, time-major, so
nothing is padded; what costs least is done: features of words once for each distinct word, both runs as one batch of twice the size,
sums over paths as products of matrices, LSTM by oneDNN or PyTorch's own, whichever is faster, fused Adam, denormal numbers off."""
import argparse
import collections
import json
import random
import re
import sys
import time
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F

BATCH, LM_CLASSES, LONGEST_PHRASE = 32, 501, 7
LSTM, HEADS, HEAD = 200, 4, 32


def read(path):
    with open(path, encoding="utf-8") as lines:
        header = next(lines).rstrip("\n").split("\t")
        rows = [line.rstrip("\n").split("\t") for line in lines]
    intent, text, slots = (header.index(name) for name in ("intent:class", "text", "slots:tags"))
    return [(row[text].split(" "), row[intent], row[slots].split(" ")) for row in rows]


def numbered(items, first):
    """numbers from `first` on, the commonest item first"""
    return {item: k for k, (item, _) in enumerate(collections.Counter(items).most_common(), first)}


def shape(word):
    kinds = "".join("X" if c.isupper() else "x" if c.isalpha() else "d" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1+", r"\1\1", kinds)


PARTS = [lambda word: word[:2].lower(), lambda word: word[:3].lower(), lambda word: word[-2:].lower(), lambda word: word[-3:].lower(), shape]


def spans(tags):
    """(first, end, type) of runs B-TYPE I-TYPE .."""
    found, start = [], None
    for k, tag in enumerate(tags + ["O"]):
        if start is not None and tag != "I-" + tags[start][2:]:
            found.append((start, k, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = k
    return found


def phrase_bits(text, phrases, types):
    """[T][2 types]: where a phrase of a type begins, and where one goes on"""
    bits = torch.zeros(len(text), 2 * len(types))
    for first in range(len(text)):
        for end in range(first + 1, min(len(text), first + LONGEST_PHRASE) + 1):
            for kind in phrases.get(tuple(text[first:end]), ()):
                bits[first, 2 * types[kind]] = 1
                bits[first + 1:end, 2 * types[kind] + 1] = 1
    return bits


class Data:
    """sequences by length, time-major; what the words' parts are, by word"""
    def __init__(self, rows):
        counts = collections.Counter(word for text, _, _ in rows for word in text)
        words, self.tokens = numbered((word for text, _, _ in rows for word in text), 1), sum(counts.values())
        self.words, letters = 1 + len(words), numbered("".join(words), 3)               # 0: none, 1 and 2: ends of a word
        self.letters, self.chances = 3 + len(letters), torch.tensor([0] + [0.25 / (0.25 + counts[word]) for word in words])
        spelled = [[]] + [[1] + [letters[c] for c in word] + [2] for word in words]
        self.lengths = torch.tensor([len(word) for word in spelled])
        self.spelled = nn.utils.rnn.pad_sequence([torch.tensor(word, dtype=torch.long) for word in spelled], batch_first=True)
        tables = [numbered((part(word) for word in words), 1) for part in PARTS]
        self.parts = [1 + len(table) for table in tables]
        self.part_of = torch.tensor([[0] * len(PARTS)] + [[table[part(word)] for part, table in zip(PARTS, tables)] for word in words])
        intents, tags = numbered((row[1] for row in rows), 0), numbered((tag for row in rows for tag in row[2]), 0)
        types, phrases = numbered((kind for _, _, row in rows for _, _, kind in spans(row)), 0), collections.defaultdict(set)
        for text, _, slots in rows:
            for first, end, kind in spans(slots):
                phrases[tuple(text[first:end])].add(kind)
        self.intents, self.tags, self.bits, self.sets = len(intents), len(tags), 2 * len(types), []
        by_length = collections.defaultdict(list)
        for row in rows:
            by_length[len(row[0])].append(row)
        for same in by_length.values():
            self.sets.append((torch.tensor([[words[word] for word in row[0]] for row in same]).T,
                              torch.stack([phrase_bits(row[0], phrases, types) for row in same], 1),
                              torch.tensor([intents[row[1]] for row in same]), torch.tensor([[tags[tag] for tag in row[2]] for row in same]).T))

    def batches(self):
        """of an epoch, shuffled"""
        cut = []
        for words, bits, intent, slots in self.sets:
            order = torch.randperm(len(intent))
            cut += [(words, bits, intent, slots, order[k:k + BATCH]) for k in range(0, len(order), BATCH)]
        random.shuffle(cut)
        for words, bits, intent, slots, k in cut:
            yield words[:, k], bits[:, k], intent[k], slots[:, k]


def same_dropout(x, rate=0.5):
    """one mask for all steps"""
    return x * torch.empty_like(x[:1]).bernoulli_(1 - rate).div_(1 - rate)


class Inputs(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.data, self.word = data, nn.Embedding(data.words, 128)
        self.letter = nn.Embedding(data.letters, 32, padding_idx=0)
        self.filters = nn.ModuleList([nn.Conv1d(32, 32, width, padding=width - 1) for width in (2, 3, 4)])
        self.parts, self.phrases = nn.ModuleList([nn.Embedding(count, 24) for count in data.parts]), nn.Linear(data.bits, 32)
        self.width = 128 + 3 * 32 + 24 * len(PARTS) + 32

    def forward(self, words, bits):
        distinct, place = torch.unique(words, return_inverse=True)
        letters = self.letter(self.data.spelled[distinct, :int(self.data.lengths[distinct].max())]).transpose(1, 2)
        of_word = [F.relu(filters(letters)).amax(2) for filters in self.filters]
        of_word += [table(part) for table, part in zip(self.parts, self.data.part_of[distinct].unbind(1))]
        seen = words.masked_fill(torch.rand(words.shape) < self.data.chances[words], 0)
        return torch.cat([self.word(seen), F.embedding(place, torch.cat(of_word, 1)), torch.tanh(self.phrases(bits))], 2)


class SelfAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.into, self.out, self.norm = nn.Linear(width, 3 * HEADS * HEAD), nn.Linear(HEADS * HEAD, width), nn.LayerNorm(width)

    def forward(self, h):
        steps, batch = h.shape[:2]
        q, k, v = self.into(h).view(steps, batch, 3, HEADS, HEAD).permute(2, 1, 3, 0, 4)
        o = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).reshape(steps, batch, HEADS * HEAD)
        return self.norm(h + F.dropout(self.out(o), 0.2))


class Crf(nn.Module):
    def __init__(self, tags):
        super().__init__()
        self.start, self.end, self.transitions = (nn.Parameter(torch.empty(size).uniform_(-0.1, 0.1)) for size in (tags, tags, (tags, tags)))

    def forward(self, x, tags):
        """minus the log likelihood of each sequence; x [T][B][tags], tags [T][B]"""
        score = self.start[tags[0]] + self.end[tags[-1]] + x.gather(2, tags.unsqueeze(2)).sum((0, 2))
        score = score + self.transitions[tags[:-1], tags[1:]].sum(0)
        matrix, x = self.transitions.exp(), x.unbind(0)
        paths = self.start + x[0]
        for step in x[1:]:
            top = paths.detach().amax(1, keepdim=True)
            paths = ((paths - top).exp() @ matrix).log() + top + step
        return torch.logsumexp(paths + self.end, 1) - score


class Best(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.inputs, self.onednn = Inputs(data), True
        self.lstm = nn.LSTM(self.inputs.width, LSTM, bidirectional=True)
        self.attention, self.score = SelfAttention(2 * LSTM), nn.Linear(2 * LSTM, 1, bias=False)
        self.intent, self.slots, self.crf = nn.Linear(4 * LSTM, data.intents), nn.Linear(2 * LSTM, data.tags), Crf(data.tags)
        self.next, self.last = nn.Linear(LSTM, LM_CLASSES), nn.Linear(LSTM, LM_CLASSES)

    def language(self, h, words):
        """the next word, and from the end the one before, summed over steps"""
        h, words = F.dropout(h, 0.5), words.where(words < LM_CLASSES, 0)
        loss = F.cross_entropy(self.next(h[:-1, :, :LSTM]).flatten(0, 1), words[1:].flatten(), reduction="sum")
        return loss + F.cross_entropy(self.last(h[1:, :, LSTM:]).flatten(0, 1), words[:-1].flatten(), reduction="sum")

    def forward(self, words, bits, intent, slots):
        """the loss of the batch, which runs twice"""
        x = same_dropout(self.inputs(words, bits).repeat(1, 2, 1))
        with torch.backends.mkldnn.flags(enabled=self.onednn):
            h, _ = self.lstm(x)
        g = self.attention(h)
        pooled = torch.cat([(F.softmax(self.score(g), 0) * g).sum(0), g.amax(0)], 1)
        p = F.log_softmax(self.intent(F.dropout(pooled, 0.5)), 1)
        p, q = p.chunk(2)
        loss = 0.5 * (F.nll_loss(p, intent) + F.nll_loss(q, intent)) + 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(1).mean()
        loss = loss + self.crf(self.slots(same_dropout(g)), slots.repeat(1, 2)).mean()
        return loss + 0.1 * self.language(h, words.repeat(1, 2)) / h.shape[1]


class Trainer:
    def __init__(self, data):
        self.data, self.model = data, Best(data)
        self.parameters = list(self.model.parameters())
        self.means = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr=0.004, fused=True)

    def step(self, batch):
        loss = self.model(*batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 5.0, foreach=True)
        self.optimizer.step()
        torch._foreach_lerp_(self.means, self.parameters, 0.001)                        # the average of the weights
        return loss.detach()

    def choose(self, count=12):
        """who runs the LSTM: whoever is faster over the same batches"""
        batches, seconds = [batch for _, batch in zip(range(count), self.data.batches())], {}
        for onednn in (True, False, True, False):
            self.model.onednn, start = onednn, time.perf_counter()
            for batch in batches:
                self.step(batch)
            seconds[onednn] = min(seconds.get(onednn, 1e9), time.perf_counter() - start)
        self.model.onednn = seconds[True] <= seconds[False]

    def epoch(self):
        wall, processor, loss, count = time.perf_counter(), time.process_time(), 0, 0
        for batch in self.data.batches():
            loss, count = loss + self.step(batch), count + 1
        return {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor, "loss": float(loss) / count,
                "batches": count}


def main():
    options = argparse.ArgumentParser(description="the most accurate recipe's model with PyTorch")
    options.add_argument("file")
    options.add_argument("--threads", type=int, default=1)
    options = options.parse_args()
    warnings.filterwarnings("ignore", "TF32")           # what switching oneDNN says on a machine without such a device
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    random.seed(1)
    trainer = Trainer(Data(read(options.file)))
    trainer.choose()
    print(json.dumps({"ready": torch.__version__, "onednn": trainer.model.onednn, "tokens": trainer.data.tokens,
                      "parameters": sum(p.numel() for p in trainer.parameters)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(trainer.epoch()), flush=True)


if __name__ == "__main__":
    main()
