"""ONNX graph to OpenVINO IR: states that begin with silence, a front end that stays in f32.

OpenVINO's own MakeStateful turns each pair of cache input and output into a state, which an infer request
keeps by itself. A state would begin with zeros; here its initial value is the cache after silence, so a
request that is new or reset has heard silence.

Whatever the precision hint says, the mel front end must be computed in f32: in bf16 the demo's scores are
off by 0.1. OpenVINO's CPU plugin keeps nodes in f32 that carry the attribute `precise`, which the IR
stores. Two nodes of the front end would lose it on the way and are written in another form: Pad of opset 12,
which is converted, and the bound of the clamp, which is fused with the peak. A front end in a model of its
own was the other way; one file is simpler for an application.

Weights stored as fp16 stay so until they are packed for the kernels where their Convert is marked as
`decompression`; without that mark OpenVINO turns them into f32 first, and nothing is saved.

A normalisation and the quantisation after it are one node of the CPU plugin where their tensor has rank 3,
but two where it has rank 2: such a pair is put between Unsqueeze and Squeeze, which cost nothing (5 % faster
for the largest model, 12 % for the smallest, 2 cores of an AMD EPYC, OpenVINO 2026.4.1).
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.openvino.step import (
    CONTRACT,
    FRONT_END_LAYERS,
    QUANTIZED,
    contract_json,
    lanes,
    state_name,
)
from satexport.bundle.contract import Contract
from satexport.bundle.roles import FRONT
from satexport.errors import RunError
from satexport.graph.roles import Graph
from satexport.runtimes import import_runtime

if TYPE_CHECKING:
    import openvino

GRAPH = "model.xml"
BY_ELEMENT = {"Multiply", "Subtract", "Convert", "FakeQuantize"}  # of a quantisation and its inverse


def write_ir(folder: Path, graph: Graph, contract: Contract, settings: OpenVinoSettings,
             initial: Iterable[NDArray[Any]], quantized: int) -> str:
    """Write `model.xml` and `model.bin` of a graph as a target wants it; returns the former's name.
    `quantized` is the number of products with a weight that must be computed in int8."""
    ir = import_runtime("openvino").Core().read_model(graph.model.SerializeToString())
    return save_ir(folder, ir, graph, contract, settings, initial, quantized)


def save_ir(folder: Path, ir: openvino.Model, graph: Graph, contract: Contract, settings: OpenVinoSettings,
            initial: Iterable[NDArray[Any]], quantized: int) -> str:
    """The same for a model that OpenVINO has read from a graph: it keeps the names of
    tensors, if not those of nodes. Raises `RunError` where it cannot be written."""
    count = lanes(contract, settings)
    if count != contract.options.streams:
        ir.reshape({spec.name: [count, *spec.shape[1:]] for spec in (contract.input, *contract.cache_in)})
    front_end = _front_end(ir, graph)
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
        _mark(folder / GRAPH, {"precise": front_end, "decompression": weights})
    except (OSError, RuntimeError) as error:
        raise RunError(f"{folder / GRAPH}: cannot be written ({error}). What was there before is "
                       "untouched.") from None
    return GRAPH


def _make_stateful(ir: openvino.Model, contract: Contract, initial: Iterable[NDArray[Any]],
                   count: int) -> None:
    """Pairs of cache input and output to states of so many streams, named as their input and output
    together."""
    op, passes = import_runtime("openvino.opset13"), import_runtime("openvino.passes")
    manager = passes.Manager()
    pairs = list(zip(contract.cache_in, contract.cache_out, strict=True))
    manager.register_pass(passes.MakeStateful({old.name: new.name for old, new in pairs}))
    manager.run_passes(ir)
    silence = {state_name(old, new): array for (old, new), array in zip(pairs, initial, strict=True)}
    for node in ir.get_ops():
        if node.get_type_name() == "ReadValue":
            array = silence[node.get_attributes()["variable_id"]]
            begin = op.constant(array)
            if count > 1:
                begin = op.broadcast(begin, op.constant(np.array((count, *array.shape[1:]), np.int64)))
            node.set_arguments([begin.output(0)])


def _front_end(ir: openvino.Model, graph: Graph) -> list[str]:
    """Write the nodes of the front end in another form that would lose their mark; returns the names of all
    its layers."""
    tensors = {x for node in graph.model.graph.node if graph.kind(node) == FRONT for x in node.output}
    names = []
    for node in ir.get_ops():
        if any(output.get_names() & tensors for output in node.outputs()):
            names.append(node.get_friendly_name())
            kind = node.get_type_name()
            if kind == "Pad":
                _pad_again(node)
            elif kind == "Maximum" and node.input_value(1).get_node().get_type_name() == "Subtract":
                names += _clamp_again(node)
    return names


def _pad_again(pad: Any) -> None:
    """A Pad of opset 1, which is not converted."""
    again = import_runtime("openvino.opset1").pad(*(pad.input_value(i) for i in range(3)), "reflect")
    again.set_friendly_name(pad.get_friendly_name())
    pad.output(0).replace(again.output(0))


def _clamp_again(clamped: Any) -> list[str]:
    """max(x, peak - top) as max(x + top, peak) - top; returns the names of the two nodes that are new."""
    op = import_runtime("openvino.opset13")
    name, x, bound = clamped.get_friendly_name(), clamped.input_value(0), clamped.input_value(1).get_node()
    raised = op.add(x, bound.input_value(1))
    above = op.maximum(raised, bound.input_value(0))
    again = op.subtract(above, bound.input_value(1))
    place = "".join(name.rpartition("/")[:2])
    names = [f"{place}raised", f"{place}above"]
    for node, new in zip((raised, above, again), (*names, name), strict=True):
        node.set_friendly_name(new)
    clamped.output(0).replace(again.output(0))
    return names


def _fuse_norms(ir: openvino.Model) -> None:
    """Put normalisations that are quantised, and their quantisation, at rank 3."""
    op = import_runtime("openvino.opset13")
    first = op.constant(np.array([0], np.int64))
    for norm in ir.get_ops():
        if norm.get_type_name() != "MVN" or norm.get_output_partial_shape(0).rank.get_length() != 2:
            continue
        chain = list(_alone(norm))
        if not any(node.get_type_name() == "FakeQuantize" for node in chain):
            continue
        last = chain[-1].output(0)
        readers = list(last.get_target_inputs())
        norm.input(0).replace_source_output(op.unsqueeze(norm.input_value(0), first).output(0))
        ir.validate_nodes_and_infer_types()
        below = op.squeeze(last, first)
        for reader in readers:
            reader.replace_source_output(below.output(0))
    ir.validate_nodes_and_infer_types()


def _alone(node: Any) -> Iterator[Any]:
    """The nodes by element that follow one after another, none of them read by two but the last."""
    while len(readers := list(node.output(0).get_target_inputs())) == 1:
        node = readers[0].get_node()
        if node.get_type_name() not in BY_ELEMENT:
            return
        yield node


def _store_as_fp16(ir: openvino.Model, weights: set[str]) -> list[str]:
    """Store constants as fp16 and a Convert; returns the names of those."""
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


def _mark(path: Path, layers: Mapping[str, Collection[str]]) -> None:
    """Add attributes, each to the layers of its names, which no function of OpenVINO's Python package can."""
    marks = {name: attribute for attribute, names in layers.items() for name in names}
    tree = ET.parse(path)  # noqa: S314, written a moment ago
    for layer in tree.getroot().iter("layer"):
        attribute = marks.get(layer.get("name", ""))
        if attribute and layer.get("type") != "Const":
            info = layer.find("rt_info")
            if info is None:
                info = ET.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ET.SubElement(info, "attribute", name=attribute, version="0")
    tree.write(path)
