"""Dynamic quantisation by ONNX Runtime."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import helper

from satexport.bundle.target import Quantization
from satexport.graph.edit import clone, replace
from satexport.graph.roles import Graph
from satexport.quantize.products import Product
from satexport.runtimes import import_runtime


def quantize_dynamic(graph: Graph, quantization: Quantization, chosen: Sequence[Product]) -> Graph:
    """Quantise the chosen products with ONNX Runtime's `quantize_dynamic`. It quantises MatMul and Conv, so
    each Gemm is first split into MatMul and Add."""
    library = import_runtime("onnxruntime.quantization")
    split = clone(graph.model)
    nodes: list[onnx.NodeProto] = []
    names = []
    chosen_outputs = {product.node.output[0] for product in chosen}
    for node in split.graph.node:
        if node.op_type != "Gemm" or node.output[0] not in chosen_outputs:
            nodes.append(node)
            if node.output[0] in chosen_outputs:
                names.append(node.name)
            continue
        product = f"{node.output[0]}/product"
        names.append(product)
        nodes += [helper.make_node("MatMul", node.input[:2], [product], product),
                  helper.make_node("Add", [product, node.input[2]], node.output, f"{product}/bias")]
    replace(split.graph.node, nodes)
    replace(split.graph.value_info, [])  # quantize_dynamic fails on some inferred shapes
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(split, before)
        logging.disable(logging.WARNING)  # it recommends preprocessing, which is not needed here
        try:
            library.quantize_dynamic(
                before, after, per_channel=quantization.per_channel, weight_type=library.QuantType.QInt8,
                reduce_range=quantization.weight_bits == 7, nodes_to_quantize=names,
                extra_options={"MatMulConstBOnly": False})  # attention multiplies two activations
        finally:
            logging.disable(logging.NOTSET)
        result: onnx.ModelProto = onnx.load(after)
    replace(result.metadata_props, graph.model.metadata_props)
    return graph.with_renamed_nodes(result)
