"""Time the attention of int8 blocks as exported and as one node of ONNX Runtime, in turns in one process,
with one thread: python benchmarks/attention.py. Prints the median of the ratios for each size."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from satexport.backends.onnxruntime.attention import fuse_attention

SIZES = {"sat-t": (48, 48, 192, 3), "sat-s": (49, 48, 384, 6), "sat-b": (48, 48, 768, 12),
         "vit-t, 2 s": (48, 0, 192, 3), "vit-b, 2 s": (48, 0, 768, 12),
         "ced-tiny, 10 s": (250, 0, 192, 3), "ced-base, 10 s": (250, 0, 768, 12),
         "ast, 10 s": (1214, 0, 768, 12)}  # new tokens, cached tokens, width, heads
BLOCKS, TURNS, TURN_SECONDS = 4, 12, 0.15


class Blocks:
    """Writes blocks of nothing but attention, each with weights of its own, and with keys and values of
    cached tokens if there are any: input NAME/old, output NAME/kv/heads, both [1, 2 * heads, tokens, f]."""

    def __init__(self, tokens: int, cached: int, width: int, heads: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)
        self.tokens, self.cached, self.width, self.heads = tokens, cached, width, heads
        self.inputs, self.outputs = [self.value("x", tokens, width)], [self.value("y", tokens, width)]
        self.constant("scale", np.float32(0.03))
        self.constant("zero", np.uint8(128))

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, name: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, domain=domain, **attributes))
        return name

    def value(self, name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def split_heads(self, name: str, rows: str, count: int) -> str:
        """Write a product of int8 rows [T, d] with random weights and split it into heads [1, count, T,
        f]."""
        features = self.width // self.heads
        columns = count * features
        weight = self.random.integers(-127, 128, (self.width, columns), np.int8)
        factors = (rows, self.constant(f"{name}.weight", weight), "scale",
                   self.constant(f"{name}.scale", np.full(columns, 1e-3, np.float32)), "zero")
        x = self.op("MatMulIntegerToFloat", f"{name}/product", *factors, domain="com.microsoft")
        shape = self.constant(f"{name}.shape", np.array([-1, self.tokens, count, features]))
        return self.op("Transpose", f"{name}/heads", self.op("Reshape", f"{name}/split", x, shape),
                       perm=[0, 2, 1, 3])

    def block(self, name: str, x: str) -> str:
        heads = self.heads
        rows = self.op("QuantizeLinear", f"{name}/rows", x, "scale", "zero")
        q, kv = self.split_heads(f"{name}/q", rows, heads), self.split_heads(f"{name}/kv", rows, 2 * heads)
        if self.cached:
            old, f = f"{name}/old", self.width // heads
            self.inputs.append(self.value(old, 1, 2 * heads, self.cached, f))
            self.outputs.append(self.value(kv, 1, 2 * heads, self.tokens, f))
            kv = self.op("Concat", f"{name}/all", old, kv, axis=2)
        parts = f"{name}/k", f"{name}/v"
        sizes = self.constant(f"{name}.sizes", np.array([heads, heads]))
        self.nodes.append(helper.make_node("Split", [kv, sizes], parts, f"{name}/parts", axis=1))
        logits = self.op("MatMul", f"{name}/logits", q,
                         self.op("Transpose", f"{name}/kt", parts[0], perm=[0, 1, 3, 2]))
        mixed = self.op("MatMul", f"{name}/mixed", self.op("Softmax", f"{name}/softmax", logits, axis=-1),
                        parts[1])
        tokens = self.op("Transpose", f"{name}/tokens", mixed, perm=[0, 2, 1, 3])
        rows = self.constant(f"{name}.rows", np.array([-1, self.width]))
        return self.op("Reshape", f"{name}/flat", tokens, rows)

    def finish(self) -> onnx.ModelProto:
        x = "x"
        for number in range(BLOCKS):
            x = self.block(f"block_{number}", x)
        self.op("Identity", "y", x)
        graph = helper.make_graph(self.nodes, "blocks", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def load(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def make_inputs(session: onnxruntime.InferenceSession) -> dict[str, NDArray[np.float32]]:
    """Return noise for the inputs of a graph."""
    random = np.random.default_rng(1)
    return {value.name: random.standard_normal(value.shape).astype(np.float32)
            for value in session.get_inputs()}


def time_turn(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[np.float32]]) -> float:
    """Return the median seconds of a run over one turn."""
    seconds: list[float] = []
    while sum(seconds) < TURN_SECONDS:
        start = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    for name, size in SIZES.items():
        before = Blocks(*size).finish()
        after, count = fuse_attention(before)
        assert count == BLOCKS
        sessions = load(before), load(after)
        inputs = make_inputs(sessions[0])
        results = [session.run(None, inputs) for session in sessions]
        moved = max(np.abs(a - b).max() for a, b in zip(*results, strict=True))
        turns = [[time_turn(session, inputs) for session in sessions] for _ in range(TURNS)]
        ratio = statistics.median(old / new for old, new in turns)
        print(f"{name:16s} {ratio:.3f} times as fast, outputs differ by {moved:.1e}", flush=True)


if __name__ == "__main__":
    main()
