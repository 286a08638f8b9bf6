"""Write the nodes and constants of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from satexport.bundle.contract import ANY, Contract, TensorSpec
from satexport.bundle.roles import Role
from satexport.graph.roles import Graph
from satexport.graph.weights import without_weights

Array = NDArray[np.float64]
Weights = dict[str, Array]


class Writer:
    """Collects nodes, their roles, and constants. Methods take and return the names of values."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.roles: dict[str, Role] = {}
        self._role: Role | None = None

    def finish(self, contract: Contract) -> Graph:
        """Return the graph of all nodes, with the inputs, outputs and operator set of a contract and the
        contract in its metadata, checked by ONNX. Each output is the value of its name."""
        graph = helper.make_graph(
            self.nodes, contract.variant, [_value(s) for s in (contract.input, *contract.cache_in)],
            [_value(s) for s in (*contract.outputs, *contract.cache_out)], list(self.constants.values()))
        opset = helper.make_opsetid("", contract.opset)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="satexport",
                                  ir_version=helper.find_min_ir_version_for([opset]))
        helper.set_model_props(model, contract.to_metadata())
        onnx.checker.check_model(without_weights(model), full_check=True)
        return Graph(model, self.roles)

    @contextmanager
    def role(self, kind: str, layer: str = "") -> Iterator[None]:
        """Give this role to all nodes written in the block: `with g.role("linear", "00.fc1"): ...`"""
        before, self._role = self._role, Role(kind, layer)
        yield
        self._role = before

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        """Add an initializer, floats as float32. Adding an equal one with the same name does nothing."""
        dtype = np.float32 if array.dtype.kind == "f" else array.dtype
        value = numpy_helper.from_array(np.ascontiguousarray(array, dtype).reshape(array.shape), name)
        assert self.constants.setdefault(name, value) == value, f"two constants are named {name}"
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(str(v).replace("-", "m") for v in values),
                             np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.asarray(value, np.float64))

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; both have the same name, which is returned."""
        self._add(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def split(self, name: str, x: str, axis: int, *sizes: int, outputs: Sequence[str] = ()) -> Sequence[str]:
        outputs = outputs or [f"{name}_{i}" for i in range(len(sizes))]
        self._add(helper.make_node("Split", [x, self.ints(*sizes)], outputs, name, axis=axis))
        return outputs

    def _add(self, node: onnx.NodeProto) -> None:
        self.nodes.append(node)
        if self._role:
            self.roles[node.name] = self._role

    def slice(self, name: str, x: str, axis: int, start: int, stop: int) -> str:
        return self.op("Slice", name, x, *(self.ints(n) for n in (start, stop, axis)))

    def reshape(self, name: str, x: str, *shape: int) -> str:
        return self.op("Reshape", name, x, self.ints(*shape))

    def sum(self, name: str, x: str, axis: int) -> str:
        return self.op("ReduceSum", name, x, self.ints(axis), keepdims=0)

    def mean(self, name: str, x: str, axis: int) -> str:
        return self._reduce("ReduceMean", name, x, (axis,), keepdims=0)

    def max(self, name: str, x: str, *axes: int) -> str:
        """The maximum over some axes, which are kept with size 1."""
        return self._reduce("ReduceMax", name, x, axes, keepdims=1)

    def _reduce(self, kind: str, name: str, x: str, axes: Sequence[int], keepdims: int) -> str:
        if self.opset >= 18:
            return self.op(kind, name, x, self.ints(*axes), keepdims=keepdims)
        return self.op(kind, name, x, axes=list(axes), keepdims=keepdims)

    def linear(self, name: str, x: str, w: Weights, key: str) -> str:
        """x @ weight + bias; a bias of zeros is omitted."""
        y = self.op("MatMul", f"{name}/product", x, self.constant(f"{key}.weight", w[f"{key}.weight"]))
        bias = w[f"{key}.bias"]
        return self.op("Add", f"{name}/sum", y, self.constant(f"{key}.bias", bias)) if bias.any() else y

    def norm(self, name: str, x: str, w: Weights, key: str, epsilon: float) -> str:
        """LayerNorm over the last axis. Norms of one size share a scale of ones; a shift of 0 is left out."""
        scale, shift = w[f"{key}.scale"], w[f"{key}.shift"]
        plain = bool((scale == 1).all())
        inputs = [x, self.constant(f"ones_{len(scale)}" if plain else f"{key}.scale", scale)]
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


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    assert spec.dtype == "float32"
    shape = ["streams" if size == ANY else size for size in spec.shape]
    return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, shape)
