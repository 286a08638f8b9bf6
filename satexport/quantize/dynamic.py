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


def quantize_dynamic(graph: Graph, wanted: Quantization, chosen: Sequence[Product]) -> Graph:
    """ONNX Runtime's `quantize_dynamic`, which knows MatMul alone: a Gemm is taken apart before."""
    library = import_runtime("onnxruntime.quantization")
    apart = clone(graph.model)
    nodes: list[onnx.NodeProto] = []
    names = []
    wanted_outputs = {product.node.output[0] for product in chosen}
    for node in apart.graph.node:
        if node.op_type != "Gemm" or node.output[0] not in wanted_outputs:
            nodes.append(node)
            if node.output[0] in wanted_outputs:
                names.append(node.name)
            continue
        product = f"{node.output[0]}/product"
        names.append(product)
        nodes += [helper.make_node("MatMul", node.input[:2], [product], product),
                  helper.make_node("Add", [product, node.input[2]], node.output, f"{product}/bias")]
    replace(apart.graph.node, nodes)
    replace(apart.graph.value_info, [])  # quantize_dynamic fails on shapes that it does not expect
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(apart, before)
        logging.disable(logging.WARNING)  # it advises a preparation that is not needed here
        try:
            library.quantize_dynamic(
                before, after, per_channel=wanted.per_channel, weight_type=library.QuantType.QInt8,
                reduce_range=wanted.weight_bits == 7, nodes_to_quantize=names,
                extra_options={"MatMulConstBOnly": False})  # attention has two activations
        finally:
            logging.disable(logging.NOTSET)
        result: onnx.ModelProto = onnx.load(after)
    replace(result.metadata_props, graph.model.metadata_props)
    return graph.renamed(result)
