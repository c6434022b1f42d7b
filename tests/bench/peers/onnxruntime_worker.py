"""ONNX Runtime's worker: onnxruntime_worker.py THREADS (see worker.py)

One LSTM or GRU node, inputs and outputs bound to memory once, so that a call copies nothing. No training: this runtime has none
on Python's registry."""
import sys

import numpy as np
import onnx.helper as make
import onnxruntime
from onnx import TensorProto, numpy_helper

import worker

threads = int(sys.argv[1])
chance = np.random.default_rng(0)


def numbers(*shape):
    return (chance.standard_normal(shape) * 0.1).astype(np.float32)


def session(cell, H, B, T, state):
    """state: the initial state is an input and the last one an output, as a stream needs it; otherwise it is zero"""
    gates = worker.GATES[cell]
    weights = {"W": numbers(1, gates * H, H), "R": numbers(1, gates * H, H), "bias": numbers(1, 2 * gates * H)}
    names = ["h", "c"] if cell == "lstm" else ["h"]
    inputs, outputs = ["x", "W", "R", "bias"], ["y"]
    if state:
        inputs += [""] + [name + "0" for name in names]     # no lengths
        outputs += [name + "1" for name in names]
    options = {"hidden_size": H} if cell == "lstm" else {"hidden_size": H, "linear_before_reset": 1}
    node = make.make_node(cell.upper(), inputs, outputs, **options)

    def shape(name, *sizes):
        return make.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
    graph = make.make_graph(
        [node], "layer", [shape("x", T, B, H)] + [shape(name, 1, B, H) for name in inputs if name.endswith("0")],
        [shape("y", T, 1, B, H)] + [shape(name, 1, B, H) for name in outputs if name.endswith("1")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def infer(cell, H, B, T):
    run = session(cell, H, B, T, False)
    binding = run.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(numbers(T, B, H)))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_shape_and_type([T, 1, B, H], np.float32))
    return {"bound": lambda: run.run_with_iobinding(binding)}


def stream(cell, H):
    """two bindings in turn: what one call writes as its last state the next one reads as its first"""
    run = session(cell, H, 1, 1, True)
    names = ["h", "c"] if cell == "lstm" else ["h"]
    states = [{name: onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, H), np.float32)) for name in names} for _ in range(2)]
    bindings = []
    for old, new in (states, states[::-1]):
        binding = run.io_binding()
        binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(numbers(1, 1, H)))
        binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_shape_and_type([1, 1, 1, H], np.float32))
        for name in names:
            binding.bind_ortvalue_input(name + "0", old[name])
            binding.bind_ortvalue_output(name + "1", new[name])
        bindings.append(binding)

    def step():
        run.run_with_iobinding(bindings[0])
        bindings.reverse()
    return {"bound": step}


def prepare(cell, mode, H, B, T):
    if mode == "infer":
        return infer(cell, H, B, T)
    return stream(cell, H) if mode == "stream" else None


worker.serve("onnxruntime", onnxruntime.__version__, prepare)
