#!/usr/bin/env python3
"""The baseline to beat: multinomial logistic regression on word counts, for the intent of home_*.tsv.

    python3 logistic.py               trains on home_train.tsv, chooses on home_valid.tsv, reports on home_test.tsv
    python3 logistic.py --bigrams     counts pairs of neighbouring words too, which see a little of the word order

It knows which words a sentence has, not their order.  Standard library only and deterministic.
Model: p(class | x) = softmax(W x + b), x the word counts; loss: cross-entropy + decay/2 |W|^2, minimised by stochastic
gradient steps scaled as in AdaGrad (Duchi et al. 2011).  The decay and the epoch are those that validate best.
"""

import math
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DECAYS = [0.0, 1e-4, 1e-3]
EPOCHS = 15
RATE = 0.3
BIAS = "<bias>"


def read_intents(name):
    """[(words, intent)] of the rows that have an intent."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    return [(row[0].split(), row[1]) for row in rows if row[1] != "_"]


def count_features(words, bigrams):
    counts = {BIAS: 1.0}
    for word in words + ([a + " " + b for a, b in zip(words, words[1:])] if bigrams else []):
        counts[word] = counts.get(word, 0.0) + 1.0
    return counts


def probabilities(weights, features, classes):
    scores = [0.0] * classes
    for feature, count in features.items():
        row = weights.get(feature)
        if row:                                 # a word never seen in training says nothing
            for k in range(classes):
                scores[k] += row[k] * count
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def accuracy(weights, data, classes):
    right = 0
    for features, label in data:
        p = probabilities(weights, features, classes)
        right += p.index(max(p)) == label
    return right / len(data)


def one_epoch(weights, squares, train, classes, decay):
    for features, label in train:
        gradient = probabilities(weights, features, classes)
        gradient[label] -= 1.0                  # d loss / d score = p - one_hot
        for feature, count in features.items():
            row = weights.setdefault(feature, [0.0] * classes)
            sums = squares.setdefault(feature, [1e-8] * classes)
            for k in range(classes):
                g = gradient[k] * count + decay * row[k]
                sums[k] += g * g
                row[k] -= RATE * g / math.sqrt(sums[k])


def fit(train, valid, classes, decay):
    """(best validation accuracy, its weights)."""
    order, shuffler = list(train), random.Random(1)
    weights, squares, best = {}, {}, (-1.0, {})
    for _ in range(EPOCHS):
        order.sort(key=lambda _: shuffler.random())     # random() is stable across Python versions, shuffle() need not be
        one_epoch(weights, squares, order, classes, decay)
        score = accuracy(weights, valid, classes)
        if score > best[0]:
            best = (score, {feature: list(row) for feature, row in weights.items()})
    return best


def main():
    bigrams = "--bigrams" in sys.argv[1:]
    parts = {split: read_intents("home_%s.tsv" % split) for split in ("train", "valid", "test")}
    labels = sorted({intent for _, intent in parts["train"]})
    index = {intent: k for k, intent in enumerate(labels)}
    data = {split: [(count_features(words, bigrams), index[intent]) for words, intent in rows]
            for split, rows in parts.items()}

    label_counts = [sum(label == k for _, label in data["train"]) for k in range(len(labels))]
    common = label_counts.index(max(label_counts))
    majority = sum(label == common for _, label in data["test"]) / len(data["test"])

    fits = [(fit(data["train"], data["valid"], len(labels), decay), decay) for decay in DECAYS]
    (valid_score, weights), decay = max(fits, key=lambda entry: entry[0][0])
    print("intents            %d" % len(labels))
    print("majority           test accuracy %.4f  (always %s)" % (majority, labels[common]))
    print("logistic %-9s test accuracy %.4f  (validation %.4f, decay %g)" % (
        "bigrams" if bigrams else "words", accuracy(weights, data["test"], len(labels)), valid_score, decay))


if __name__ == "__main__":
    main()
