"""Give each int8 product a weight of its own.

On a CPU without dot-product instructions, ONNX Runtime rewrites weights when it loads a graph
(satexport.backends.onnxruntime.step), and version 1.31 fails if two products read the same one.
"""

from __future__ import annotations

import onnx

WEIGHTS = {"MatMulIntegerToFloat": (1, 5), "MatMulInteger": (1, 3), "QLinearConv": (3, 5)}  # operator ->
# positions of the inputs with the weight and its zero point


def copy_shared_weights(model: onnx.ModelProto) -> None:
    """Copy the weight and the zero point of each product that reads those of an earlier one. The model is
    changed in place."""
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    taken: set[str] = set()
    copies: list[onnx.TensorProto] = []
    for node in graph.node:
        for position in WEIGHTS.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            if name in taken:
                copy = onnx.TensorProto()
                copy.CopyFrom(constants[name])
                copy.name = node.input[position] = f"{name}/of/{node.output[0]}"
                copies.append(copy)
            elif name in constants:
                taken.add(name)
    graph.initializer.extend(copies)
