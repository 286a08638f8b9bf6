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
but two where it has rank 2: such a pair is put between Unsqueeze and Squeeze, which cost nothing (SAT-T 12 %,
SAT-S 9 %, SAT-B 5 % faster, 2 cores of an AMD EPYC, OpenVINO 2026.4.1).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.openvino.step import CONTRACT, QUANTISED, lanes, state_name, written
from satexport.bundle.contract import Contract
from satexport.errors import RunError
from satexport.frontends.log_mel import FRONT_END
from satexport.runtimes import import_runtime

if TYPE_CHECKING:
    import openvino

GRAPH = "model.xml"
WEIGHT = ".weight"      # ends the names of the weights that are stored in fewer bytes
FLOATS = "/float"       # ends the names of those weights as floats again
BY_ELEMENT = {"Multiply", "Subtract", "Convert", "FakeQuantize"}  # of a quantisation and its inverse


def write_ir(folder: Path, model: onnx.ModelProto, contract: Contract, settings: OpenVinoSettings,
             initial: Iterable[NDArray[Any]], quantised: int) -> str:
    """Write `model.xml` and `model.bin` of a graph as a target wants it; returns the former's name.
    `quantised` is the number of products with a weight that must be computed in int8."""
    ir = import_runtime("openvino").Core().read_model(model.SerializeToString())
    return save_ir(folder, ir, contract, settings, initial, quantised)


def save_ir(folder: Path, ir: openvino.Model, contract: Contract, settings: OpenVinoSettings,
            initial: Iterable[NDArray[Any]], quantised: int) -> str:
    """The same for a model that OpenVINO has read. Raises `RunError` where it cannot be written."""
    count = lanes(contract, settings)
    if count != contract.options.streams:
        ir.reshape({spec.name: [count, *spec.shape[1:]] for spec in (contract.input, *contract.cache_in)})
    _keep_marks(ir)
    _fuse_norms(ir)
    if settings.weights == "fp16":
        _store_as_fp16(ir)
    if settings.stateful and contract.cache_in:
        _make_stateful(ir, contract, initial, count)
    ir.validate_nodes_and_infer_types()
    ir.set_rt_info(written(contract), CONTRACT)
    ir.set_rt_info(str(quantised), QUANTISED)
    try:
        import_runtime("openvino").save_model(ir, folder / GRAPH, compress_to_fp16=False)
        _mark(folder / GRAPH)
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


def _keep_marks(ir: openvino.Model) -> None:
    """Write those two nodes of the front end anew whose mark would be lost."""
    op, opset1 = import_runtime("openvino.opset13"), import_runtime("openvino.opset1")
    nodes = {node.get_friendly_name(): node for node in ir.get_ops()}
    if pad := nodes.get(f"{FRONT_END}padded"):
        again = opset1.pad(*(pad.input_value(i) for i in range(3)), "reflect")
        again.set_friendly_name(pad.get_friendly_name())
        pad.output(0).replace(again.output(0))
    if clamped := nodes.get(f"{FRONT_END}clamped"):  # max(x, peak - top) as max(x + top, peak) - top
        x, bound = clamped.input_value(0), clamped.input_value(1).get_node()
        raised = op.add(x, bound.input_value(1))
        above = op.maximum(raised, bound.input_value(0))
        again = op.subtract(above, bound.input_value(1))
        for node, name in ((raised, "raised"), (above, "above"), (again, "clamped")):
            node.set_friendly_name(f"{FRONT_END}{name}")
        clamped.output(0).replace(again.output(0))


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


def _store_as_fp16(ir: openvino.Model) -> None:
    """Weights of the model, not of the front end, to fp16 and a Convert."""
    op = import_runtime("openvino.opset13")
    for node in ir.get_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Constant" or not name.endswith(WEIGHT) or node.data.dtype != np.float32:
            continue
        readers = list(node.output(0).get_target_inputs())
        stored = op.constant(node.data.astype(np.float16))
        stored.set_friendly_name(name)
        floats = op.convert(stored, "f32")
        floats.set_friendly_name(f"{name}{FLOATS}")
        for reader in readers:
            reader.replace_source_output(floats.output(0))


def _mark(path: Path) -> None:
    """Add the attributes, which no function of OpenVINO's Python package can."""
    tree = ET.parse(path)  # noqa: S314, written a moment ago
    for layer in tree.getroot().iter("layer"):
        name, attribute = layer.get("name", ""), ""
        if name.startswith(FRONT_END) and layer.get("type") != "Const":
            attribute = "precise"
        elif name.endswith(f"{WEIGHT}{FLOATS}") and layer.get("type") == "Convert":
            attribute = "decompression"
        if attribute:
            info = layer.find("rt_info")
            if info is None:
                info = ET.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ET.SubElement(info, "attribute", name=attribute, version="0")
    tree.write(path)
