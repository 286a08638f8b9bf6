"""Front ends: numpy, ONNX nodes and torch agree for all parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from satexport.audio.synthetic import synthetic_stream
from satexport.bundle.contract import GraphOptions
from satexport.errors import BundleError
from satexport.frontends.log_mel import DB_PER_LN, LogMel
from satexport.frontends.nodes.log_mel import log_mel as write_nodes
from satexport.frontends.prepare import front_end_bytes, model_input
from satexport.frontends.rows import FRONT_ENDS, LOG_MEL_16K, SLANEY_MEL_32K, find_front_end
from satexport.graph.writer import Writer
from satexport.models.sat.variants import VARIANTS
from satexport.step import FloatArray
from tests.machine import need
from tests.models.sat.graphs import contract_of
from tests.models.tally.variants import LOG_MEL as LOG_MEL_32K

ROWS = [LOG_MEL_16K, LOG_MEL_32K, SLANEY_MEL_32K,
        replace(LOG_MEL_32K, name="short frames", n_fft=640, hop=160, bands=64, f_min=0.0),
        replace(LOG_MEL_16K, name="rows of 8 samples", n_fft=400)]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def by_torch(row: LogMel, audio: FloatArray) -> FloatArray:
    """The same features with torch.stft, [N, bands, frames]."""
    signal = np.pad(audio.astype(np.float64), ((0, 0), (0, max(0, row.padded - audio.shape[1]))))
    spectrum = torch.stft(torch.from_numpy(signal), row.n_fft, row.hop,
                          window=torch.from_numpy(row.window()), center=True, pad_mode="reflect",
                          return_complex=True)
    mel = torch.from_numpy(row.filters()).T @ spectrum.abs().square()
    decibels = 10 * torch.log10(mel.clamp(min=row.floor))
    bounded = torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - row.top_db)
    return np.asarray(bounded.numpy()[..., :row.frame_count(audio.shape[1])], np.float32)


def by_nodes(row: LogMel, audio: FloatArray) -> FloatArray:
    runtime = need("onnxruntime", "cpu")
    g = Writer(20)
    output = write_nodes(g, row, audio.shape[1], "audio")
    shape: list[str | int | None] = ["N", row.bands, row.frame_count(audio.shape[1])]
    graph = helper.make_graph(
        g.nodes, "front end",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", audio.shape[1]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)], list(g.constants.values()))
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset],
                              ir_version=helper.find_min_ir_version_for([opset]))
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"audio": audio})[0] * DB_PER_LN, np.float32)


@rows
def test_numpy_and_onnx_nodes_agree_with_torch(row: LogMel) -> None:
    audio = synthetic_stream(2, "calibrate", rate=row.sample_rate).reshape(2, -1)
    expected = by_torch(row, audio)
    assert expected.shape == (2, row.bands, row.frame_count(row.sample_rate))
    np.testing.assert_allclose(row.compute(audio, expected.shape[2]), expected, atol=1e-4)
    np.testing.assert_allclose(by_nodes(row, audio), expected, atol=0.05)  # float32, quiet bins


@pytest.mark.parametrize("row", [row for row in ROWS if row.scale == "htk"], ids=lambda row: row.name)
@pytest.mark.parametrize("hertz", [440.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_its_band(row: LogMel, hertz: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(row.sample_rate) / row.sample_rate)[None].astype(np.float32)
    found = int(row.compute(tone, 20)[0, :, 10].argmax())
    mel = [2595 * np.log10(1 + f / 700) for f in (row.f_min, hertz, row.f_max)]
    band = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (row.bands + 1) - 1  # its position among the bands
    assert abs(found - band) < 1


@pytest.mark.parametrize("seconds", [1, 2, 5, 10])
def test_zero_samples_behind_a_chunk_are_not_computed_where_they_are_alone_in_a_frame(seconds: int) -> None:
    row, audio = SLANEY_MEL_32K, synthetic_stream(seconds, "calibrate", rate=32_000)[None]
    frames = row.frame_count(audio.shape[1])
    everything = replace(row, padded=0).compute(np.pad(audio, ((0, 0), (0, 320_000 - audio.shape[1]))), 1001)
    for features in (row.compute(audio, 1001), everything):
        np.testing.assert_array_equal(features[..., frames:], 10 * np.log10(row.floor))
        np.testing.assert_array_equal(features, everything)
    assert seconds == 10 or (everything[..., frames - 1] > -100).any()  # it has the last samples
    np.testing.assert_allclose(by_nodes(row, audio), everything[..., :frames], atol=0.05)


@rows
def test_a_front_end_is_found_by_its_description_in_a_contract(
        row: LogMel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FRONT_ENDS, row.name, row)
    assert find_front_end(row.parameters()) is row


@pytest.mark.parametrize("changes", [
    {"name": "mel-2"}, {"hop": 320}, {"extra": 1}, {"name": None}, {"name": []}], ids=str)
def test_an_unknown_front_end_needs_a_newer_version(changes: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="a newer version of satexport created this bundle"):
        find_front_end(LOG_MEL_16K.parameters() | changes)


def test_a_chunk_is_converted_to_the_input_of_the_graph() -> None:
    audio = synthetic_stream(4, "calibrate", rate=16_000).reshape(2, -1)
    variant, row = VARIANTS["sat-t", 2], LOG_MEL_16K
    np.testing.assert_array_equal(model_input(contract_of(variant), audio), audio)
    mel = model_input(contract_of(variant, options=GraphOptions(input="mel")), audio)
    np.testing.assert_array_equal(mel, row.compute(audio, 192))
    assert model_input(contract_of(variant), audio[:, ::2]).flags.c_contiguous


def test_the_memory_of_a_front_end_is_computed_from_its_frames() -> None:
    contract = contract_of(VARIANTS["sat-t", 2])
    assert front_end_bytes(contract) == 2 * 4 * 512 * 200
    for unknown in ({}, {"n_fft": "512", "hop": 160}, {"n_fft": 512, "hop": 0}):
        assert front_end_bytes(replace(contract, front_end=unknown)) == 0
