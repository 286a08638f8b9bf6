"""The `config.pbtxt` of a bundle for Triton, as text of the protocol buffer `ModelConfig`
(https://github.com/triton-inference-server/common, protobuf/model_config.proto).

A model with a cache uses Triton's implicit state: the server keeps the caches of each sequence (microphone),
gives the graph the initial ones when a sequence starts, and batches steps of different sequences. Only its
backends for ONNX Runtime, TensorRT and PyTorch can do so (docs/user_guide/implicit_state_management.md of
triton-inference-server/server).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from satexport.bundle.contract import Contract, TensorSpec
from satexport.bundle.folder import LABELS
from satexport.triton.serving import Serving

TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int8": "TYPE_INT8"}
INITIAL_STATE = "initial_state"  # folder in a model's folder; Triton expects this name
PREFIX = "satexport."            # of the parameters that say what a client must know
MARK = "# Written by satexport: "  # first line of the file


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a config needs besides the contract and the serving table."""

    name: str           # of the model, and of its folder
    runtime: str        # "onnxruntime" or "tensorrt"
    target: str         # name of the bundle's target
    precision: str
    bundle_sha256: str
    version: str        # of satexport


def config_text(contract: Contract, serving: Serving, model: ModelFacts) -> str:
    """Return the content of config.pbtxt."""
    is_batched = model.runtime == "onnxruntime"
    engine = 'platform: "tensorrt_plan"' if model.runtime == "tensorrt" else 'backend: "onnxruntime"'
    lines = [
        f"{MARK}{contract.variant}, target {model.target}. `satexport triton` writes it again.",
        f"name: {quoted(model.name)}", engine,
        f"max_batch_size: {serving.max_batch_size if is_batched else 0}",
        *_tensors("input", [contract.input], is_batched),
        *_tensors("output", contract.outputs, is_batched),
        *(_sequence_batching if contract.cache_in else _dynamic_batching)(contract, serving, is_batched),
        f"instance_group [ {{ kind: KIND_{serving.device.upper()} count: {serving.instances} }} ]",
        *_parameters(contract, serving, model),
        *([] if contract.cache_in else _warm_up(contract, serving, is_batched))]
    return "".join(f"{line}\n" for line in lines)


def quoted(text: str) -> str:
    """A string in the text format of protocol buffers. Control characters are octal escapes."""
    return '"{}"'.format("".join(
        f"\\{character}" if character in '\\"' else
        f"\\{ord(character):03o}" if ord(character) < 32 or ord(character) == 127 else character
        for character in text))


def _shape(spec: TensorSpec, is_batched: bool) -> list[int]:
    """The dims of a tensor: without the number of streams, which Triton adds if the model is batched."""
    return list(spec.shape[1:] if is_batched else spec.shape)


def _type(spec: TensorSpec, is_batched: bool) -> str:
    return f"data_type: {TYPES[spec.dtype]} dims: {_list(_shape(spec, is_batched))}"


def _list(values: Iterable[int]) -> str:
    return f"[ {', '.join(map(str, values))} ]"


def _tensors(field: str, specs: Iterable[TensorSpec], is_batched: bool) -> Iterator[str]:
    yield f"{field} ["
    entries = []
    for spec in specs:
        labels = f" label_filename: {quoted(LABELS)}" if spec.name == "scores" else ""
        entries.append(f"  {{ name: {quoted(spec.name)} {_type(spec, is_batched)}{labels} }}")
    yield ",\n".join(entries)
    yield "]"


def _sequence_batching(contract: Contract, serving: Serving, is_batched: bool) -> Iterator[str]:
    """`oldest` puts chunks of any sequences into a batch; `direct` would give each sequence a place in the
    batch and fill the places of silent ones."""
    yield "sequence_batching {"
    yield f"  max_sequence_idle_microseconds: {round(serving.max_idle_s * 1e6)}"
    yield "  oldest {"
    yield f"    max_candidate_sequences: {serving.max_microphones}"
    yield from (f"    {line}" for line in _batching(serving, is_batched))
    yield "  }"
    yield "  state ["
    states = []
    for old, new in zip(contract.cache_in, contract.cache_out, strict=True):
        kind = _type(old, is_batched)
        states.append(
            f"    {{ input_name: {quoted(old.name)} output_name: {quoted(new.name)} {kind}\n"
            f"      initial_state {{ name: \"after silence\" {kind} data_file: {quoted(old.name)} }} }}")
    yield ",\n".join(states)
    yield "  ]"
    yield "}"


def _dynamic_batching(contract: Contract, serving: Serving, is_batched: bool) -> Iterator[str]:
    """For a model without a cache, whose chunks need not come in order."""
    if is_batched:
        yield "dynamic_batching {"
        yield from (f"  {line}" for line in _batching(serving, is_batched))
        yield "}"


def _batching(serving: Serving, is_batched: bool) -> Iterator[str]:
    if is_batched and serving.preferred_batch_sizes:
        yield f"preferred_batch_size: {_list(serving.preferred_batch_sizes)}"
    if is_batched:
        yield f"max_queue_delay_microseconds: {round(serving.max_queue_delay_ms * 1e3)}"


def _parameters(contract: Contract, serving: Serving, model: ModelFacts) -> Iterator[str]:
    """Threads, which the backend reads, and facts for clients and people, which it ignores."""
    values: dict[str, object] = {}
    if model.runtime == "onnxruntime" and serving.threads:
        values["intra_op_thread_count"] = serving.threads
    values |= {f"{PREFIX}{key}": value for key, value in {
        "variant": contract.variant, "target": model.target, "precision": model.precision,
        "sample_rate": contract.sample_rate, "window_samples": contract.window_samples,
        "hop_samples": contract.hop_samples, "memory_steps": contract.memory_steps,
        "checkpoint": contract.checkpoint.name, "checkpoint_sha256": contract.checkpoint.sha256,
        "bundle_sha256": model.bundle_sha256, "version": model.version}.items()}
    for key, value in values.items():
        yield f"parameters {{ key: {quoted(key)} value: {{ string_value: {quoted(str(value))} }} }}"


def _warm_up(contract: Contract, serving: Serving, is_batched: bool) -> Iterator[str]:
    """A request of silence that the server runs before a model is ready. Only without a cache: the server
    gives such a request no state, so a backend that returns one fails, and the model would not load
    (backend_model_instance.cc and TRITONBACKEND_StateNew of triton-inference-server/core)."""
    yield "model_warmup ["
    size = max(serving.preferred_batch_sizes, default=1) if is_batched else 1
    spec = contract.input
    warm_ups = [
        f"  {{ name: \"silence for {count}\" batch_size: {count}\n"
        f"    inputs {{ key: {quoted(spec.name)} value: {{ {_type(spec, is_batched)} zero_data: true }} }} }}"
        for count in dict.fromkeys((1, size))]
    yield ",\n".join(warm_ups)
    yield "]"
