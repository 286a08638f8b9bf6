"""The text of config.pbtxt. `test_server.py` (long) has the real server read the files compared here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from satexport.bundle.contract import Contract
from satexport.triton.config import quoted
from satexport.triton.serving import Serving
from tests.triton.configs import CPU, NAMES, PASSED, contract_of, example, text_of


def lines_of(contract: Contract, serving: Serving = CPU) -> list[str]:
    """The lines of a config, without indents."""
    return [line.strip() for line in text_of(contract, serving).splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_one_that_the_server_has_read(name: str) -> None:
    assert example(name) == (PASSED / f"{name}.pbtxt").read_text("utf-8")


@pytest.mark.parametrize(("dtype", "expected"), [("fp16", "TYPE_FP16"), ("int8", "TYPE_INT8")])
def test_a_smaller_cache_has_its_own_type(dtype: str, expected: str) -> None:
    lines = lines_of(contract_of().with_cache_dtype(dtype))
    types = [line.split("data_type: ")[1].split()[0] for line in lines
             if ("cache_in" in line and "input_name" in line) or line.startswith("initial_state")]
    assert types == 24 * [expected]
    assert '{ name: "audio" data_type: TYPE_FP32 dims: [ 32000 ] }' in lines


def test_an_embedding_is_a_second_output_without_labels() -> None:
    lines = lines_of(contract_of(embedding="mean"))
    first = lines.index("output [") + 1
    assert lines[first].endswith('label_filename: "labels.txt" },')
    assert lines[first + 1] == '{ name: "embedding" data_type: TYPE_FP32 dims: [ 192 ] }'


def test_the_sizes_are_those_of_the_serving_table() -> None:
    table = replace(CPU, instances=3, threads=5, max_batch_size=9, preferred_batch_sizes=(), max_idle_s=0.5,
                    max_microphones=7, max_queue_delay_ms=1.5)
    lines = lines_of(contract_of(), table)
    for line in ("max_batch_size: 9", "max_sequence_idle_microseconds: 500000", "max_candidate_sequences: 7",
                 "max_queue_delay_microseconds: 1500", "instance_group [ { kind: KIND_CPU count: 3 } ]",
                 'parameters { key: "intra_op_thread_count" value: { string_value: "5" } }'):
        assert line in lines
    assert not [line for line in lines if line.startswith("preferred_batch_size")]


def test_the_parameters_say_where_a_model_comes_from() -> None:
    text = text_of(contract_of("vit-t", 1, 10))
    for key, value in (("bundle_sha256", 64 * "0"), ("version", "0.1.0"), ("variant", "vit-t-1s-window-10s"),
                       ("checkpoint_sha256", 64 * "2"), ("target", "my-target"), ("precision", "fp32"),
                       ("window_samples", "160000"), ("hop_samples", "16000"), ("sample_rate", "16000")):
        assert f'"satexport.{key}" value: {{ string_value: "{value}" }}' in text


@pytest.mark.parametrize(("contract", "has_state"), [
    (contract_of(), True), (contract_of("vit-t", 2), False), (contract_of("vit-t", 1, 10), False)])
def test_only_a_model_without_a_cache_has_a_warm_up_in_its_config(
        contract: Contract, has_state: bool) -> None:
    lines = lines_of(contract)
    assert ("model_warmup [" in lines, "sequence_batching {" in lines) == (not has_state, has_state)


@pytest.mark.parametrize(("text", "expected"), [
    ('a "b" \\', '"a \\"b\\" \\\\"'), ("a\nb\x7f", '"a\\012b\\177"'), ("Schläge", '"Schläge"')])
def test_strings_are_quoted_as_protocol_buffers_read_them(text: str, expected: str) -> None:
    assert quoted(text) == expected
