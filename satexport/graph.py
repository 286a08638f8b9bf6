"""Weights to the ONNX graph of one step: (audio, caches) -> (scores, new caches).

Written node by node, so that the graph is exactly what a device needs: waveform in (framing,
DFT, mel, decibels and their clamp are matrix products and elementwise nodes that every parser
accepts; no STFT or DFT node), keys and values cached, identities left out, the same bytes for
the same weights. Standard operators only, static shapes, names that say what a value is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from satexport import frontend
from satexport.contract import Contract, TensorSpec
from satexport.fold import DB_PER_LN, Weights
from satexport.variants import (
    BLOCK_EPS,
    DEPTH,
    HOP,
    OUTPUT_EPS,
    PATCH,
    ROWS,
    Variant,
)

OPSETS = range(17, 24)  # LayerNormalization came with 17, Gelu as one node with 20
DEFAULT_OPSET = 20


class _Writer:
    """Collects nodes and constants; a value is known by its name."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        """Add an initializer, floats as float32; the same name is the same constant."""
        if name not in self.constants:
            dtype = np.float32 if array.dtype.kind == "f" else array.dtype
            value = np.ascontiguousarray(array, dtype).reshape(array.shape)
            self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(str(v).replace("-", "m") for v in values),
                             np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.asarray(value, np.float64))

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, which bears the node's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def split(self, name: str, x: str, axis: int, *sizes: int) -> list[str]:
        outputs = [f"{name}_{i}" for i in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [x, self.ints(*sizes)], outputs, name, axis=axis))
        return outputs

    def slice(self, name: str, x: str, axis: int, start: int, stop: int) -> str:
        return self.op("Slice", name, x, *(self.ints(n) for n in (start, stop, axis)))

    def reshape(self, name: str, x: str, *shape: int) -> str:
        return self.op("Reshape", name, x, self.ints(*shape))

    def linear(self, name: str, x: str, w: Weights, key: str) -> str:
        """x @ weight + bias, without the bias where it is zero."""
        y = self.op("MatMul", f"{name}/product", x, self.constant(f"{key}.weight", w[f"{key}.weight"]))
        bias = w[f"{key}.bias"]
        return self.op("Add", f"{name}/sum", y, self.constant(f"{key}.bias", bias)) if bias.any() else y

    def norm(self, name: str, x: str, w: Weights, key: str, epsilon: float) -> str:
        """LayerNorm over the last axis; a folded one shares its ones and has no shift."""
        scale, shift = w[f"{key}.scale"], w[f"{key}.shift"]
        plain = bool((scale == 1).all())
        inputs = [x, self.constant("ones" if plain else f"{key}.scale", scale)]
        if shift.any():
            inputs.append(self.constant(f"{key}.shift", shift))
        return self.op("LayerNormalization", name, *inputs, axis=-1, epsilon=epsilon)

    def gelu(self, name: str, x: str) -> str:
        """The exact (erf) GELU."""
        if self.opset >= 20:
            return self.op("Gelu", name, x)
        erf = self.op("Erf", f"{name}/erf", self.op(
            "Mul", f"{name}/scaled", x, self.scalar("sqrt_half", 0.5 ** 0.5)))
        gate = self.op("Add", f"{name}/gate", erf, self.scalar("one", 1.0))
        return self.op("Mul", name, self.op("Mul", f"{name}/half", x, self.scalar("half", 0.5)), gate)


def build_graph(variant: Variant, w: Weights, contract: Contract) -> onnx.ModelProto:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = _Writer(contract.opset)
    x = _tokens(g, variant, w, _log_mel(g, variant, contract.audio.name))
    for layer in range(DEPTH):
        x = _block(g, variant, w, layer, x)
    _head(g, variant, w, x)
    graph = helper.make_graph(
        g.nodes, contract.variant, [_value(s) for s in (contract.audio, *contract.cache_in)],
        [_value(s) for s in (contract.scores, *contract.cache_out)], list(g.constants.values()))
    opset = helper.make_opsetid("", contract.opset)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="satexport",
                              ir_version=helper.find_min_ir_version_for([opset]))
    helper.set_model_props(model, contract.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    assert spec.dtype == "float32"
    return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape)


def _dft() -> NDArray[np.float64]:
    """Window and real DFT in one matrix [512, 510]: cosines, then sines, of bins 1 to 255.
    Bins 0 and 256 are left out: every mel filter is zero there."""
    angles = 2 * np.pi / frontend.N_FFT * np.outer(
        np.arange(frontend.N_FFT), np.arange(1, frontend.BINS - 1))
    waves: NDArray[np.float64] = np.hstack((np.cos(angles), np.sin(angles)))
    return frontend.window()[:, None] * waves


def _log_mel(g: _Writer, variant: Variant, audio: str) -> str:
    """Waveform [1, samples] to the natural logarithm of the mel power, clamped, [1, F, 64].

    Frames overlap by whole hops but for their tail, so framing is four shifted views of the
    padded signal as rows of one hop; the reflection on the right is longer than any frame needs.
    """
    frames = frontend.frame_count(variant.chunk_samples)
    whole, tail = divmod(frontend.N_FFT, HOP)                              # 3 hops and 32 samples
    rows = frames + whole
    left = frontend.N_FFT // 2
    right = rows * HOP - left - variant.chunk_samples
    x = g.op("Pad", "mel/padded", audio, g.ints(0, left, 0, right), mode="reflect")
    x = g.reshape("mel/hops", x, -1, rows, HOP)
    views = [g.slice(f"mel/view_{i}", x, 1, i, i + frames) for i in range(whole + 1)]
    views[-1] = g.slice("mel/view_tail", views[-1], 2, 0, tail)
    x = g.op("Concat", "mel/frames", *views, axis=2)
    x = g.op("MatMul", "mel/spectrum", x, g.constant("mel.dft", _dft()))
    x = g.op("Mul", "mel/squares", x, x)
    bank = frontend.mel_filterbank()[1:-1]
    x = g.op("MatMul", "mel/power", x, g.constant("mel.filters", np.vstack((bank, bank))))
    x = g.op("Max", "mel/floored", x, g.scalar("mel.floor", frontend.FLOOR))
    x = g.op("Log", "mel/log", x)
    axes = g.ints(1, 2)
    peak = (g.op("ReduceMax", "mel/peak", x, axes, keepdims=1) if g.opset >= 18
            else g.op("ReduceMax", "mel/peak", x, axes=[1, 2], keepdims=1))
    bound = g.op("Sub", "mel/bound", peak, g.scalar("mel.top", frontend.TOP_DB / DB_PER_LN))
    return g.op("Max", "mel/clamped", x, bound)


def _tokens(g: _Writer, variant: Variant, w: Weights, x: str) -> str:
    """Logarithms [1, F, 64] to tokens [T, d], frequency-major, position codes added."""
    columns, d = variant.columns, variant.width
    x = g.slice("patch/used", x, 1, 0, columns * PATCH)
    if (w["mel.scale"] != 1).any() or w["mel.shift"].any():
        x = g.op("Mul", "mel/scaled", x, g.constant("mel.scale", w["mel.scale"]))
        x = g.op("Add", "mel/shifted", x, g.constant("mel.shift", w["mel.shift"]))
    x = g.reshape("patch/grid", x, columns, PATCH, ROWS, PATCH)
    x = g.op("Transpose", "patch/rows", x, perm=[2, 0, 1, 3])
    x = g.reshape("patch/patches", x, ROWS, columns, PATCH**2)
    x = g.op("MatMul", "patch/product", x, g.constant("patch.weight", w["patch.weight"]))
    x = g.op("Add", "patch/placed", x, g.constant("position", w["position"]))
    x = g.reshape("tokens", x, ROWS * columns, d)
    if variant.cls_tokens:
        x = g.op("Concat", "tokens_with_class", g.constant("token", w["token"]), x, axis=0)
    return x


def _block(g: _Writer, variant: Variant, w: Weights, layer: int, x: str) -> str:
    """One pre-norm block on tokens [T, d]."""
    name, key = f"block_{layer:02d}", f"{layer:02d}"
    mixed = _attention(g, variant, w, layer, x)
    x = g.op("Add", f"{name}/attended", x, g.linear(f"{name}/proj", mixed, w, f"{key}.proj"))
    y = g.norm(f"{name}/norm2", x, w, f"{key}.norm2", BLOCK_EPS)
    y = g.gelu(f"{name}/gelu", g.linear(f"{name}/fc1", y, w, f"{key}.fc1"))
    return g.op("Add", f"{name}/out", x, g.linear(f"{name}/fc2", y, w, f"{key}.fc2"))


def _attention(g: _Writer, variant: Variant, w: Weights, layer: int, x: str) -> str:
    """Attention of the new tokens [T, d] over cached and new ones; returns [T, d]."""
    name, key = f"block_{layer:02d}", f"{layer:02d}"
    normed = g.norm(f"{name}/norm1", x, w, f"{key}.norm1", BLOCK_EPS)
    q = _heads(g, f"{name}/q", g.linear(f"{name}/q", normed, w, f"{key}.q"), variant.heads, variant)
    if (w["attention.scale"] != 1).any():
        q = g.op("Mul", f"{name}/q/scaled", q, g.constant("attention.scale", w["attention.scale"]))
    kv = _keys_values(g, variant, w, layer, x, normed)
    k, v = g.split(f"{name}/kv", kv, 1, variant.heads, variant.heads)
    k = g.op("Transpose", f"{name}/k", k, perm=[0, 1, 3, 2])
    logits = g.op("MatMul", f"{name}/logits", q, k)
    mixed = g.op("MatMul", f"{name}/mixed", g.op("Softmax", f"{name}/softmax", logits, axis=-1), v)
    mixed = g.op("Transpose", f"{name}/mixed/tokens", mixed, perm=[0, 2, 1, 3])
    return g.reshape(f"{name}/mixed/flat", mixed, variant.new_tokens, variant.width)


def _keys_values(g: _Writer, variant: Variant, w: Weights, layer: int, x: str, normed: str) -> str:
    """Keys and values [1, 2 heads, C + T, d / heads] of all tokens; writes the layer's cache."""
    name, key = f"block_{layer:02d}", f"{layer:02d}"
    old, out = f"cache_in_{layer:02d}", f"cache_out_{layer:02d}"
    c, t = variant.cache_tokens, variant.new_tokens

    def project(part: str, tokens: str, output: str) -> str:
        linear = g.linear(f"{name}/{part}", tokens, w, f"{key}.kv")
        return _heads(g, f"{name}/{part}", linear, 2 * variant.heads, variant, output)

    if not variant.has_cache:
        return project("kv", normed, f"{name}/kv/all")
    if layer == 0 and variant.keeps_hidden_layer_0:
        return _hidden_layer_0(g, variant, w, x, project)
    if layer == 0:  # what the cache keeps carries the position code twice
        last = g.slice(f"{name}/kept", x, 0, t - c, t) if t > c else x
        twice = g.op("Add", f"{name}/again", last, g.constant("again", w["again"]))
        project("kv/kept", g.norm(f"{name}/again/norm1", twice, w, f"{key}.norm1", BLOCK_EPS), out)
    new = project("kv/new", normed, out if layer and t == c else f"{name}/kv/new")
    both = g.op("Concat", f"{name}/kv/all", old, new, axis=2)
    if layer and t != c:
        g.op("Slice", out, both, g.ints(t), g.ints(c + t), g.ints(2))
    return both


def _hidden_layer_0(g: _Writer, variant: Variant, w: Weights, x: str,
                    project: Callable[[str, str, str], str]) -> str:
    """Layer 0 of SAT-S at 1 s: old tokens survive and get the code again at every step, so the
    cache keeps hidden tokens [1, C, d] and all of them are projected."""
    c, t, d = variant.cache_tokens, variant.new_tokens, variant.width
    old = g.reshape("block_00/cached", "cache_in_00", c, d)
    old = g.op("Add", "block_00/again", old, g.constant("again", w["again"]))
    both = g.op("Concat", "block_00/hidden", old, x, axis=0)
    g.reshape("cache_out_00", g.slice("block_00/kept", both, 0, t, c + t), 1, c, d)
    normed = g.norm("block_00/hidden/norm1", both, w, "00.norm1", BLOCK_EPS)
    return project("kv", normed, "block_00/kv/all")


def _heads(g: _Writer, name: str, x: str, heads: int, variant: Variant, output: str = "") -> str:
    """Tokens [T, heads * f] to [1, heads, T, f]."""
    x = g.reshape(f"{name}/split", x, 1, -1, heads, variant.head_width)
    return g.op("Transpose", output or f"{name}/heads", x, perm=[0, 2, 1, 3])


def _head(g: _Writer, variant: Variant, w: Weights, x: str) -> None:
    """Tokens [T, d] to the graph's scores [1, classes]."""
    if variant.cls_tokens:
        x = g.slice("class_token", x, 0, 0, 1)
    x = g.norm("norm", x, w, "norm", BLOCK_EPS)
    if not variant.cls_tokens:
        x = (g.op("ReduceMean", "pooled", x, g.ints(0), keepdims=1) if g.opset >= 18
             else g.op("ReduceMean", "pooled", x, axes=[0], keepdims=1))
    x = g.norm("head/norm", x, w, "head_norm", OUTPUT_EPS)
    g.op("Sigmoid", "scores", g.linear("head", x, w, "head"))
