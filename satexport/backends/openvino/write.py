"""Convert an ONNX graph to an OpenVINO IR.

States. OpenVINO's MakeStateful turns each pair of cache input and cache output into a state, which the infer
request keeps. By default a state starts from zeros; here its initial value is the cache after silence, so a
new or reset request starts from silence.

Front end. Whatever the precision hint says, the mel front end must be computed in f32: in bf16 the scores of
the demo are off by 0.1. OpenVINO's CPU plugin keeps nodes in f32 that have the attribute `precise`, which the
IR stores. Two nodes of the front end would lose the attribute during compilation and are therefore written in
another form: Pad of opset 12, which OpenVINO converts, and the lower bound of the clamp, which it fuses with
the peak. The alternative, a separate model for the front end, would be more work for an application than one
file.

Weights. Weights stored as fp16 stay fp16 until they are packed for the kernels if their Convert is marked as
`decompression`. Without that mark OpenVINO converts them to f32 first, which saves no memory.

Normalisation. The CPU plugin fuses a normalisation with the quantisation after it if their tensor has rank 3,
but not if it has rank 2. Such a pair is put between Unsqueeze and Squeeze, which cost nothing (a step takes
5 % less time for the largest model, 12 % for the smallest; 2 cores of an AMD EPYC, OpenVINO 2026.4.1).
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satexport.backends.openvino.heads import join_heads
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.openvino.simplify import simplify
from satexport.backends.openvino.step import (
    CONTRACT,
    FRONT_END_LAYERS,
    QUANTIZED,
    contract_json,
    state_name,
    streams_per_request,
)
from satexport.backends.openvino.zero_points import move_zero_points
from satexport.bundle.contract import Contract
from satexport.bundle.roles import FRONT
from satexport.errors import RunError
from satexport.graph.roles import Graph
from satexport.runtimes import import_runtime

if TYPE_CHECKING:
    import openvino

GRAPH = "model.xml"
ELEMENTWISE = {"Multiply", "Subtract", "Convert", "FakeQuantize"}  # of quantising and dequantising


def write_ir(folder: Path, graph: Graph, contract: Contract, settings: OpenVinoSettings,
             initial: Iterable[NDArray[Any]], quantized: int) -> str:
    """Convert a graph and write `model.xml` and `model.bin`; returns the name of the former. `quantized` is
    the number of products with a weight that must be computed in int8. Raises `RunError` if the files cannot
    be written."""
    ir = import_runtime("openvino").Core().read_model(graph.model.SerializeToString())
    return save_ir(folder, ir, graph, contract, settings, initial, quantized)


def save_ir(folder: Path, ir: openvino.Model, graph: Graph, contract: Contract, settings: OpenVinoSettings,
            initial: Iterable[NDArray[Any]], quantized: int) -> str:
    """Do the same as `write_ir` for a model that OpenVINO has read from `graph`, which keeps the names of
    tensors but not of nodes."""
    count = streams_per_request(contract, settings)
    if count != contract.options.streams:
        ir.reshape({spec.name: [count, *spec.shape[1:]] for spec in (contract.input, *contract.cache_in)})
    simplify(ir)
    move_zero_points(ir)
    quantized -= join_heads(ir)
    front_end = _rewrite_front_end(ir, graph)
    _fuse_norms(ir)
    weights = _store_as_fp16(ir, graph.weights()) if settings.weights == "fp16" else ()
    if settings.stateful and contract.cache_in:
        _make_stateful(ir, contract, initial, count)
    ir.validate_nodes_and_infer_types()
    ir.set_rt_info(contract_json(contract), CONTRACT)
    ir.set_rt_info(str(quantized), QUANTIZED)
    ir.set_rt_info(json.dumps(front_end), FRONT_END_LAYERS)
    try:
        import_runtime("openvino").save_model(ir, folder / GRAPH, compress_to_fp16=False)
        _add_attributes(folder / GRAPH, {"precise": front_end, "decompression": weights})
    except (OSError, RuntimeError) as error:
        raise RunError(f"{folder / GRAPH}: cannot be written ({error}). An existing bundle is "
                       "unchanged.") from None
    return GRAPH


def _make_stateful(ir: openvino.Model, contract: Contract, initial: Iterable[NDArray[Any]],
                   count: int) -> None:
    """Turn pairs of cache input and output into states of `count` streams each, named by `state_name`."""
    op, passes = import_runtime("openvino.opset13"), import_runtime("openvino.passes")
    manager = passes.Manager()
    pairs = list(zip(contract.cache_in, contract.cache_out, strict=True))
    manager.register_pass(passes.MakeStateful({old.name: new.name for old, new in pairs}))
    manager.run_passes(ir)
    silence = {state_name(old, new): array for (old, new), array in zip(pairs, initial, strict=True)}
    for node in ir.get_ops():
        if node.get_type_name() == "ReadValue":
            array = silence[node.get_attributes()["variable_id"]]
            value = op.constant(array)
            if count > 1:
                value = op.broadcast(value, op.constant(np.array((count, *array.shape[1:]), np.int64)))
            node.set_arguments([value.output(0)])


def _rewrite_front_end(ir: openvino.Model, graph: Graph) -> list[str]:
    """Rewrite the nodes of the front end that would lose the attribute `precise`; returns the names of all
    layers of the front end."""
    tensors = {x for node in graph.model.graph.node if graph.kind(node) == FRONT for x in node.output}
    names = []
    for node in ir.get_ops():
        if any(output.get_names() & tensors for output in node.outputs()):
            names.append(node.get_friendly_name())
            kind = node.get_type_name()
            if kind == "Pad":
                _rewrite_pad(node)
            elif kind == "Maximum" and node.input_value(1).get_node().get_type_name() == "Subtract":
                names += _rewrite_clamp(node)
    return names


def _rewrite_pad(pad: Any) -> None:
    """Replace a Pad by one of opset 1, which OpenVINO does not convert."""
    x, before, after, *value = (pad.input_value(i) for i in range(pad.get_input_size()))
    pad_1 = import_runtime("openvino.opset1").pad(x, before, after, pad.get_attributes()["pad_mode"], *value)
    pad_1.set_friendly_name(pad.get_friendly_name())
    pad.output(0).replace(pad_1.output(0))


def _rewrite_clamp(clamp: Any) -> list[str]:
    """Rewrite max(x, peak - top) as max(x + top, peak) - top; returns the names of the two additional
    nodes."""
    op = import_runtime("openvino.opset13")
    name, x, bound = clamp.get_friendly_name(), clamp.input_value(0), clamp.input_value(1).get_node()
    peak, top = bound.input_value(0), bound.input_value(1)
    raised = op.add(x, top)
    above = op.maximum(raised, peak)
    result = op.subtract(above, top)
    prefix = "".join(name.rpartition("/")[:2])
    names = [f"{prefix}raised", f"{prefix}above"]
    for node, new in zip((raised, above, result), (*names, name), strict=True):
        node.set_friendly_name(new)
    clamp.output(0).replace(result.output(0))
    return names


def _fuse_norms(ir: openvino.Model) -> None:
    """Compute each normalisation of rank 2 and the quantisation after it at rank 3."""
    op = import_runtime("openvino.opset13")
    first = op.constant(np.array([0], np.int64))
    for norm in ir.get_ops():
        if norm.get_type_name() != "MVN" or norm.get_output_partial_shape(0).rank.get_length() != 2:
            continue
        chain = list(_elementwise_chain(norm))
        if not any(node.get_type_name() == "FakeQuantize" for node in chain):
            continue
        last = chain[-1].output(0)
        readers = list(last.get_target_inputs())
        norm.input(0).replace_source_output(op.unsqueeze(norm.input_value(0), first).output(0))
        ir.validate_nodes_and_infer_types()
        squeezed = op.squeeze(last, first)
        for reader in readers:
            reader.replace_source_output(squeezed.output(0))
    ir.validate_nodes_and_infer_types()


def _elementwise_chain(node: Any) -> Iterator[Any]:
    """The elementwise nodes that follow `node` one after another, as long as each has a single reader."""
    while len(readers := list(node.output(0).get_target_inputs())) == 1:
        node = readers[0].get_node()
        if node.get_type_name() not in ELEMENTWISE:
            return
        yield node


def _store_as_fp16(ir: openvino.Model, weights: set[str]) -> list[str]:
    """Store these constants as fp16, each with a Convert to f32; returns the names of the Converts."""
    op, names = import_runtime("openvino.opset13"), []
    for node in ir.get_ops():
        if (node.get_type_name() != "Constant" or not node.output(0).get_names() & weights
                or node.data.dtype != np.float32):
            continue
        name = node.get_friendly_name()
        readers = list(node.output(0).get_target_inputs())
        stored = op.constant(node.data.astype(np.float16))
        stored.set_friendly_name(name)
        floats = op.convert(stored, "f32")
        floats.set_friendly_name(f"{name}/float")
        names.append(f"{name}/float")
        for reader in readers:
            reader.replace_source_output(floats.output(0))
    return names


def _add_attributes(path: Path, layers: Mapping[str, Collection[str]]) -> None:
    """Add attributes to layers of an IR file; `layers` has the layers' names by attribute. OpenVINO's Python
    package has no function for this."""
    marks = {name: attribute for attribute, names in layers.items() for name in names}
    tree = ET.parse(path)  # noqa: S314, our own file
    for layer in tree.getroot().iter("layer"):
        attribute = marks.get(layer.get("name", ""))
        if attribute and layer.get("type") != "Const":
            info = layer.find("rt_info")
            if info is None:
                info = ET.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ET.SubElement(info, "attribute", name=attribute, version="0")
    tree.write(path)
