#!/usr/bin/env python3
"""Does this tree train to the same bits as a git revision? `make same-bits REV=main` asks.

    tests/same_bits.py REV [NAME...]       NAME...: these configurations alone

Both command and header are built, there and here. Twelve configurations of `mtl train` and the recipes of
tests/same_bits.c (columns over columns, states, streams) are trained on every instruction set of this
machine. Tensors of the model files, the trainer's state among them, must agree in name, order, type, shape
and every byte; printed losses, scores and predictions in every character; and the model of the revision
must predict here what it predicts there. Metadata may differ, and this tree may print more, which is told.
Exit status 1 when anything else differs, with its configuration, instruction set, tensor and first
differing element.
"""
import json
import os
import random
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

OUT = "build/same_bits"
DATA = OUT + "/data"
JOBS = 2
SMALL = "--epochs 2 --embed 24 --hidden 24 --lr 0.01 --batch 16 --seed 3"
HOME = f"--data {DATA}/home.tsv"
VALID = f"--valid {DATA}/valid.tsv"
FRAMES = (f"--frames {DATA}/frames.csv --sequence unit --features a,b,c --task left:reals --task size:real "
          "--task state:tags --task model:class --clamp left=-1:1")

# name: data and options; what predicts and is scored afterwards is DATA/valid.tsv or DATA/frames.csv
TRAININGS = {
    "lstm": f"{HOME} {VALID} --cell lstm --dir bi --clip-norm 0.5 --threads 1",
    "gru-layers": f"{HOME} --cell gru --dir uni --layers 2 --pool mean --set encoder.dropout_between=0.2 "
                  "--set trainer.average=0.9 --threads 2",
    "rnn-missing": f"--data {DATA}/missing.tsv {VALID} --cell rnn --set encoder.activation=relu --pool last "
                   "--threads 1",
    "two-sets": f"--data {DATA}/reviews.tsv --data {DATA}/missing.tsv --sampler temperature --weight slots=2 "
                "--set input.dropout_per_sequence=1 --threads 2",
    "lazy": f"{HOME} --set trainer.lazy=1 --clip-value 0.01 --lowercase --digits --min-count 2 --threads 1",
    "sgd": f"{HOME} --optimizer sgd --set trainer.momentum=0.9 --set trainer.nesterov=1 --l1 1e-4 --l2 1e-3 "
           "--schedule one-cycle --set fit.accumulate=2 --threads 2",
    "rmsprop": f"{HOME} {VALID} --optimizer rmsprop --set trainer.momentum=0.5 --schedule plateau "
               "--patience 1 --threads 1",
    "adamw": f"--data {DATA}/missing.tsv --optimizer adamw --set trainer.decay=0.01 "
             "--set trainer.decay_biases=1 --schedule cosine --set trainer.warmup=5 "
             "--set trainer.average=0.8 --set trainer.lazy=1 --threads 2",
    "frames": f"{FRAMES} --cell gru --dir uni --batch 4 --threads 1",
    "frames-layers": f"{FRAMES} --cell lstm --dir bi --layers 2 --batch 4 --set frames.dropout=0.2 "
                     "--set task.left.loss=mae --threads 2",
    "heads": f"{HOME} --cell gru --set encoder.reset=before --set encoder.no_bias=1 --set task.*.hidden=12,8 "
             "--set task.*.dropout=0.2 --set task.intent.label_smoothing=0.1 --set task.mood.loss=huber "
             "--threads 1",
    "wide-bf16": f"{HOME} --precision bf16 --hidden 64 --embed 48 --layers 2 --set encoder.forget_bias=1 "
                 "--batch 32 --threads 2",
}

differences, notes = [], {}              # configurations that differ; what was noted: in which configurations


# ---- data: the project's own, cut short; numbers from a formula and a seed ---------------------------------

def copy_table(source, name, rows, hide=0):
    """The first rows of examples/data/SOURCE; hide: every so many-th label is replaced by `_`."""
    with open(f"examples/data/{source}", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line, _ in zip(file, range(rows + 1))]
    text = lines[0].index("text")
    for number, line in enumerate(lines[1:] if hide else []):
        for column in range(len(line)):
            if column != text and (number + 2 * column) % hide == 0:
                line[column] = "_"
    with open(f"{DATA}/{name}", "w", encoding="utf-8") as file:
        file.writelines("\t".join(line) + "\n" for line in lines)


def write_frames(name, units):
    numbers = random.Random(1)
    with open(f"{DATA}/{name}", "w", encoding="utf-8") as file:
        file.write("unit,a,b,c,left,size,state,model\n")
        for unit in range(units):
            size, kind = f"{numbers.random():.3f}", numbers.choice(["red", "blue"])
            for _ in range(numbers.randrange(3, 20)):
                a, b = numbers.random() - 0.5, numbers.random() - 0.5
                left = "_" if numbers.random() < 0.3 else f"{3 * a * b:.4f}"
                file.write(f"u{unit},{a:.4f},{b:.4f},2,{left},{size},{'up' if a > b else 'down'},{kind}\n")


def make_data():
    os.makedirs(DATA, exist_ok=True)
    copy_table("home_train.tsv", "home.tsv", 160)
    copy_table("home_train.tsv", "missing.tsv", 160, hide=3)
    copy_table("home_valid.tsv", "valid.tsv", 40)
    copy_table("reviews_train.tsv", "reviews.tsv", 120)
    write_frames("frames.csv", 24)


# ---- comparing ---------------------------------------------------------------------------------------------

def read_model(path):
    """Tensors (name: type, shape, bytes, in the file's order) and metadata of a safetensors file."""
    with open(path, "rb") as file:
        content = file.read()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    metadata = header.pop("__metadata__", {})
    body = content[8 + size:]
    tensors = {name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])]) for name, t in header.items()}
    order = sorted(header, key=lambda name: header[name]["data_offsets"])
    return {name: tensors[name] for name in order}, metadata


def element(data, size, index):
    piece = data[index * size:(index + 1) * size]
    number = {4: "<f", 8: "<d"}.get(size)
    return f"{struct.unpack(number, piece)[0]!r} ({piece[::-1].hex()})" if number else piece[::-1].hex()


def first_element(name, shape, before, after):
    """Says where two tensors of one shape part."""
    count = 1
    for extent in shape:
        count *= extent
    size = len(before) // count
    parted = [i for i in range(count) if before[i * size:(i + 1) * size] != after[i * size:(i + 1) * size]]
    place, rest = "", parted[0]
    for extent in reversed(shape):
        place, rest = f"[{rest % extent}]{place}", rest // extent
    was, now = element(before, size, parted[0]), element(after, size, parted[0])
    share = f"{len(parted)} of {count} elements differ"
    return f"tensor {name}{place}: {was} at the revision, {now} here; {share}"


def compare_tensors(before, after):
    """What differs first between two files' tensors, or None."""
    shared = [name for name in before if name in after]
    for name in shared:
        kind, shape, data = before[name]
        if after[name][:2] != (kind, shape):
            return f"tensor {name}: {kind} {shape} at the revision, {after[name][0]} {after[name][1]} here"
        if after[name][2] != data:
            return first_element(name, shape, data, after[name][2])
    for was, now in zip(shared, [name for name in after if name in before]):
        if was != now:
            return f"order: tensor {was} stands where {now} stands here; their values are the same"
    for name in before:
        if name not in after:
            return f"tensor {name} is missing here; what both have is the same"
    for name in after:
        if name not in before:
            return f"tensor {name} is new here; what both have is the same"
    return None


def note(name, text):
    notes.setdefault(text, set()).add(name)


def compare_metadata(name, before, after):
    for key in sorted(set(before) | set(after)):
        was, now = before.get(key, "nothing"), after.get(key, "nothing")
        if was != now:
            at = len(os.path.commonprefix([was, now]))
            start = max(0, at - 30)
            was, now = was[start:at + 40], now[start:at + 40]
            note(name, f"metadata {key}: ...{was!r} at the revision, ...{now!r} here")


def compare_models(name, folder):
    """None, or what differs first between the two files before.st and after.st of a folder."""
    before, was = read_model(folder + "/before.st")
    after, now = read_model(folder + "/after.st")
    compare_metadata(name, was, now)
    return compare_tensors(before, after)


def compare_texts(what, before, after):
    """What differs first between two texts, or None."""
    for number, (was, now) in enumerate(zip(before.split("\n"), after.split("\n")), 1):
        if was != now:
            at = len(os.path.commonprefix([was, now]))
            start = max(0, at - 60)
            was, now = was[start:at + 30], now[start:at + 30]
            return f"{what}, line {number}: {was!r} at the revision, {now!r} here"
    return None if before == after else f"{what}: one has more lines than the other"


def leaves(value, path=""):
    """(path, value) of every text and number within a JSON value."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield path, value
        return
    for key, below in value.items():
        yield from leaves(below, f"{path}.{key}")


def compare_answers(name, what, before, after):
    """The same for lines of JSON, of which this tree's may tell more than the revision's."""
    before, after = before.splitlines(), after.splitlines()
    if len(before) != len(after):
        return f"{what}: {len(before)} lines at the revision, {len(after)} here"
    for number, (was, now) in enumerate(zip(before, after), 1):
        was, now = dict(leaves(json.loads(was))), dict(leaves(json.loads(now)))
        for path, value in was.items():
            if path not in now or now[path] != value:
                told = repr(now[path]) if path in now else "nothing"
                return f"{what}, line {number}, {path[1:]}: {value!r} at the revision, {told} here"
        if len(now) > len(was):
            new = next(path for path in now if path not in was)
            note(name, f"{what} tell more here: {new[1:]}")
    return None


# ---- running -----------------------------------------------------------------------------------------------

class Failed(Exception):
    pass


def output_of(command, text=None):
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    if result.returncode:
        raise Failed(f"{' '.join(command)} ended with {result.returncode}: {result.stderr.strip()[-300:]}")
    return result.stdout


def read_log(path):
    """`--log` without its times: the losses and scores of each epoch."""
    with open(path, encoding="utf-8") as file:
        epochs = [json.loads(line) for line in file]
    for epoch in epochs:
        for timing in ("seconds", "train_seconds", "tokens_per_second"):
            epoch.pop(timing, None)
    return "\n".join(json.dumps(epoch) for epoch in epochs)


def answers(command, model, name, isa):
    """Predictions and scores of a model file, as the command prints them in JSON."""
    how = ["--model", model, "--json", "--threads", "1", "--isa", isa]
    if "frames" in name:
        return output_of([command, "predict", "--frames", DATA + "/frames.csv", *how])
    with open(DATA + "/valid.tsv", encoding="utf-8") as file:
        texts = "".join(line.split("\t")[0] + "\n" for line in file.readlines()[1:])
    return (output_of([command, "predict", *how], texts) +
            output_of([command, "eval", "--data", DATA + "/valid.tsv", *how]))


def together(parted):
    return "; ".join(what for what in parted if what) or None


def training(name, isa, trees):
    """One configuration on one instruction set: what differs, or None."""
    folder = f"{OUT}/{name}.{isa}"
    os.makedirs(folder, exist_ok=True)
    printed, said = {}, {}
    for side, tree in trees.items():
        log, model = f"{folder}/{side}.log", f"{folder}/{side}.st"
        options = f"--preset plain {SMALL} {TRAININGS[name]} --isa {isa} --quiet --log {log} --out {model}"
        output_of([tree + "/build/mtl", "train", *options.split()])
        printed[side] = read_log(log)
        said[side] = answers(tree + "/build/mtl", model, name, isa)
    reread = answers(trees["after"] + "/build/mtl", folder + "/before.st", name, isa)
    return together([compare_models(name, folder),
                     compare_answers(name, "losses and scores", printed["before"], printed["after"]),
                     compare_answers(name, "answers", said["before"], said["after"]),
                     compare_answers(name, "answers from the revision's file", said["before"], reread)])


def recipe(name, isa, trees):
    """One recipe of tests/same_bits.c, likewise, with one thread and with two."""
    folder = f"{OUT}/{name}.{isa}"
    os.makedirs(folder, exist_ok=True)
    for threads in "12":
        printed = {side: output_of([program(side), name, isa, threads, f"{folder}/{side}.st"])
                   for side in trees}
        parted = compare_models(name, folder) if os.path.exists(folder + "/after.st") else None
        parted = together([parted, compare_texts("printed", printed["before"], printed["after"])])
        if parted:
            return f"{threads} threads: {parted}"
    return None


def program(side):
    return f"{OUT}/{side}"


def build_program(side, tree):
    compiler = f"{os.environ.get('CC', 'cc')} -std=c99 {os.environ.get('CFLAGS', '-O2')} -pthread -I{tree}"
    output_of([*compiler.split(), "-o", program(side), "tests/same_bits.c", tree + "/build/mtl_rnn.o", "-lm"])


def attempt(job):
    run, name, isa, trees = job
    try:
        return name, isa, run(name, isa, trees)
    except Failed as failure:
        return name, isa, str(failure)


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    if len(sys.argv) < 2 or not sys.argv[1]:
        sys.exit("same_bits: which revision? make same-bits REV=COMMIT")
    os.makedirs(OUT, exist_ok=True)
    revision = output_of([".ci/revision.sh", sys.argv[1], "build/mtl", "build/mtl_rnn.o"]).strip()
    trees = {"before": revision, "after": "."}
    for side, tree in trees.items():
        build_program(side, tree)
    make_data()
    isas = output_of([program("after"), "isas"]).split()
    runs = {name: training for name in TRAININGS}
    runs.update({name: recipe for name in output_of([program("after"), "recipes"]).split()})
    wanted = sys.argv[2:] or list(runs)
    unknown = [name for name in wanted if name not in runs]
    if unknown:
        sys.exit(f"same_bits: no configuration {', '.join(unknown)}; there are {', '.join(runs)}")
    print(f"{os.path.basename(revision)} and this tree, {' '.join(isas)}:", flush=True)
    jobs = [(runs[name], name, isa, trees) for name in wanted for isa in isas]
    with ThreadPoolExecutor(max_workers=JOBS) as pool:
        for name, isa, parted in pool.map(attempt, jobs):
            if parted:
                differences.append(name)
                print(f"DIFFERS {name} {isa}: {parted}", flush=True)
            elif isa == isas[-1] and name not in differences:
                print(f"same {name}", flush=True)
    for text, names in sorted(notes.items()):
        print(f"note: {text} ({', '.join(name for name in wanted if name in names)})")
    print(f"{len(differences)} of {len(jobs)} differ" if differences else "every bit is the same")
    return 1 if differences else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(f"same_bits: {failed}")
