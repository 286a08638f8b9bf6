"""Which bundles Triton can serve, and how to make one that it can."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from satexport import facts, targets
from satexport.backends.backend import check_known
from satexport.backends.tensorrt.settings import JETSON_MODULE
from satexport.backends.tensorrt.step import find_engine
from satexport.bundle.contract import ANY, DEFAULT_OPSET
from satexport.bundle.folder import Bundle
from satexport.errors import UsageError
from satexport.models.families import find_contract_variant
from satexport.triton.serving import Serving

TABLES = {"onnxruntime": "triton-cpu", "tensorrt": "triton-gpu"}  # backend -> its usual serving table
REFUSED = {
    "openvino": "Triton's OpenVINO backend keeps no state for a model",
    "web": "it is a page for a browser"}
SERVED = "cpu-int8"  # a target that Triton can serve


def check_served(bundle: Bundle, serving: Serving) -> None:
    """Raise `UsageError` if Triton cannot serve a bundle as the table says, with the command that makes one
    that it can; `MissingError` if the bundle's engine has not been built or this version does not know its
    backend, `BundleError` if the engine is of another bundle."""
    check_known(bundle)
    contract, target, options = bundle.contract, bundle.target, bundle.contract.options
    if contract.cache_in and serving.max_idle_s <= contract.hop_seconds:
        raise UsageError(f"{bundle.path} has a chunk every {contract.hop_seconds:g} s, and {serving.name} "
                         f"forgets a microphone after {serving.max_idle_s:g} s without one. Set max_idle_s "
                         f"to several times {contract.hop_seconds:g} in a table of your own.")
    if reason := REFUSED.get(target.backend):
        raise UsageError(f"{bundle.path} is for {target.backend}, and Triton cannot serve it: {reason}. "
                         f"Expected a bundle for {' or '.join(TABLES)}. Make one: "
                         f"{make_command(bundle, SERVED, ANY)}")
    if target.backend == "tensorrt":
        _check_engine(bundle, serving)
        return
    if options.streams != ANY:
        raise UsageError(f"{bundle.path} is for {_streams(options.streams)} in each step; Triton expects a "
                         "bundle for any number, because it decides which microphones share a step. Make "
                         f"one: {make_command(bundle, target.name, ANY)}")
    if serving.device == "gpu" and target.precision != "fp32":
        raise UsageError(f"{bundle.path} is {target.precision} for ONNX Runtime, which has no such kernels "
                         f"for a GPU and would run them on the CPU; {serving.name} is for a GPU. Expected a "
                         f"bundle in fp32: {make_command(bundle, 'cpu-fp32', ANY)}, or a serving table with "
                         f'device = "cpu", such as --serving {TABLES["onnxruntime"]}.')


def _check_engine(bundle: Bundle, serving: Serving) -> None:
    """An engine has fixed shapes, so the server cannot form batches of its own."""
    options, target = bundle.contract.options, bundle.target
    if options.streams != 1:
        raise UsageError(f"{bundle.path} has engines for {_streams(options.streams)} in each step; Triton "
                         "expects one for one stream, because an engine has fixed shapes and not all "
                         "microphones have a chunk at the same time. Make one: "
                         f"{make_command(bundle, target.name, 1)}")
    if serving.device != "gpu":
        raise UsageError(f"{bundle.path} has an engine of TensorRT, which needs a GPU; {serving.name} is for "
                         f"a CPU. Pass --serving {TABLES['tensorrt']}, or a table of your own with "
                         'device = "gpu".')
    _, record = find_engine(bundle)
    if (module := record.get("module", JETSON_MODULE)) != JETSON_MODULE:
        raise UsageError(f"{bundle.path} has an engine of {module}; Triton's backend reads only "
                         "those of TensorRT itself. Make a bundle for a target of TensorRT "
                         "(`satexport targets`), and build its engine on the server.")


def engine_path(bundle: Bundle) -> Path:
    """Return the engine of a bundle that `check_served` accepts."""
    return find_engine(bundle)[0]


def make_command(bundle: Bundle, target: str, streams: int) -> str:
    """Return the command that makes a bundle of the same model, weights and options for another number of
    streams and, if it is the name of another one, another target."""
    options, opset = bundle.contract.options, bundle.contract.opset
    graph = {"--cache": (options.cache, "kv"), "--input": (options.input, "audio"),
             "--opset": (str(opset), str(DEFAULT_OPSET))}  # only `satexport onnx` has these options
    special = [word for option, (value, usual) in graph.items() if value != usual for word in (option, value)]
    model = list(_model_words(bundle, streams))
    if target not in facts.names(targets.FOLDER):
        target = "FILE.toml"  # where it is, a bundle does not say
    made = ["satexport", "bundle", "--target", target]
    dtype = [] if options.cache_dtype == "fp32" else ["--cache-dtype", options.cache_dtype]
    if target == "onnx":
        commands = [["satexport", "onnx", *model, *special]]
    elif special:
        commands = [["satexport", "onnx", *model, *special], [*made, *dtype]]
    else:
        commands = [[*made, *model, *dtype]]
    return " && ".join(map(shlex.join, commands))


def _model_words(bundle: Bundle, streams: int) -> Iterator[str]:
    contract = bundle.contract
    variant = find_contract_variant(contract)
    yield from ("--model", variant.model, "--delay", f"{contract.hop_samples // contract.sample_rate}")
    if contract.history_samples:
        yield from ("--window", f"{contract.window_samples // contract.sample_rate}")
    origin = contract.checkpoint
    yield from ("--checkpoint", origin.source if origin.source in ("demo", "random") else origin.name)
    if contract.options.embedding:
        yield from ("--embedding", contract.options.embedding)
    if streams != 1:
        yield from ("--streams", "dynamic" if streams == ANY else str(streams))


def _streams(streams: int) -> str:
    return "any number of streams" if streams == ANY else f"{streams} stream{'s' if streams > 1 else ''}"
