"""What the peers' workers share: the clock, the points, and the conversation with compare.py.

A worker is a process that lives through the whole comparison, so that starting it is no part of any figure. It prints
`ready NAME VERSION`, then answers each line `CELL MODE H B T MILLISECONDS` on its standard input by one line:

    ok US_MIN US_MEDIAN CALLS VARIANT        the point was measured
    none REASON                              this peer has no such thing

The modes, for a layer with as many inputs as hidden units, sequences time-major:
    infer   the layer's forward pass over (T, B, H)
    train   forward, a 32-class softmax head on every step, cross-entropy, backward with the gradient of the inputs, Adam
    fwdbwd  forward and backward of the layer alone, from a given gradient of its outputs, with that of the inputs: for a peer that
            has no `train`
    stream  one step of one sequence, its state kept between calls
A library often has more than one way to do the same thing. Where that is so, each way is tried at the first visit of a point
and the fastest is kept: a peer is measured at its best."""
import math
import sys
import time

CLASSES = 32                    # of the head in `train`
GATES = {"lstm": 4, "gru": 3}


def measure(call, milliseconds):
    """microseconds of `call`, least and median, and how often it ran; a call too short for the clock is timed in bunches"""
    clock = time.perf_counter
    call(), call()
    start = clock()
    call()
    once = max(clock() - start, 1e-7)
    bunch = max(1, math.ceil(50e-6 / once)) if once < 50e-6 else 1
    seconds = milliseconds * 1e-3
    end, times = clock() + seconds, []
    while len(times) < 3 or clock() < end:
        start = clock()
        for _ in range(bunch):
            call()
        times.append((clock() - start) / bunch)
    times.sort()
    return times[0] * 1e6, times[len(times) // 2] * 1e6, len(times) * bunch


def fastest(ways, milliseconds):
    """of `ways`, {name: call}, the name with the least time; a way that fails at its first call is left out"""
    if len(ways) == 1:
        return next(iter(ways))
    best, least = None, math.inf
    for name, call in ways.items():
        try:
            took = measure(call, milliseconds)[0]
        except Exception as problem:                        # whatever it is, it is the peer's: the other ways remain
            print(f"{name}: {problem}", file=sys.stderr)
            continue
        if took < least:
            best, least = name, took
    if best is None:
        raise RuntimeError("no way of measuring it works")
    return best


def serve(name, version, prepare, ragged=None):
    """answers requests until the input ends; prepare(cell, mode, H, B, T) gives {way: call} or None

    ragged(way, cell, H, path) gives the call that trains on the batches of lengths in a file: `ragged WAY CELL H PATH MS`."""
    prepared = {}
    out = sys.stdout
    sys.stdout = sys.stderr                                 # what a library prints must not be taken for an answer
    print("ready", name, version, file=out, flush=True)
    for line in sys.stdin:
        try:
            word = line.split()
            key, milliseconds = tuple(word[:-1]), float(word[-1])
            if key not in prepared:
                if word[0] == "ragged":
                    ways = {word[1]: ragged(word[1], word[2], int(word[3]), word[4])} if ragged else None
                else:
                    ways = prepare(word[0], word[1], *map(int, word[2:5]))
                if ways is None:
                    prepared[key] = None
                else:
                    chosen = fastest(ways, milliseconds / 4)
                    prepared[key] = chosen, ways[chosen]
            if prepared[key] is None:
                answer = f"none it has no {word[1]}"
            else:
                variant, call = prepared[key]
                answer = "ok %.3f %.3f %d " % measure(call, milliseconds) + variant
        except Exception as problem:                        # the comparison goes on without this point
            answer = "none " + f"{type(problem).__name__}: {problem}".replace("\n", " ")[:300]
        print(answer, file=out, flush=True)
