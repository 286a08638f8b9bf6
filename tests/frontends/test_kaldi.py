"""Kaldi's log-mel front ends: numpy, ONNX nodes and torch agree, and they are the published ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from satexport.audio.synthetic import synthetic_stream
from satexport.frontends.kaldi import PRE_EMPHASIS, KaldiMel
from satexport.frontends.nodes.kaldi import kaldi_mel
from satexport.frontends.rows import KALDI_MEL_16K, KALDI_MEL_16K_POVEY
from satexport.graph.writer import Writer
from satexport.step import FloatArray
from tests import ROOT
from tests.machine import need
from tests.models import seeded

OTHER = replace(KALDI_MEL_16K, name="other", sample_rate=32_000, frame=500, hop=300, n_fft=1024, bands=40,
                f_max=15_000.0)
ROWS = [KALDI_MEL_16K, KALDI_MEL_16K_POVEY, OTHER]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
AUDIO = synthetic_stream(4, "calibrate", rate=16_000).reshape(2, -1)


def by_torch(row: KaldiMel, audio: FloatArray) -> FloatArray:
    """The same features, step by step in float64, [N, bands, frames]."""
    x = torch.from_numpy(audio.astype(np.float64)).unfold(-1, row.frame, row.hop) * row.scale
    x = x - x.mean(-1, keepdim=True)
    x = x - PRE_EMPHASIS * torch.cat((x[..., :1], x[..., :-1]), -1)
    hann = torch.hann_window(row.frame, periodic=False, dtype=torch.float64)
    x = x * (hann if row.shape == "hann" else hann ** 0.85)
    power = torch.fft.rfft(x, row.n_fft).abs().square()
    mel = (power @ torch.from_numpy(row.filters())).clamp(min=row.floor)
    return np.asarray(mel.log().transpose(1, 2).numpy(), np.float32)


def by_nodes(row: KaldiMel, audio: FloatArray) -> FloatArray:
    runtime = need("onnxruntime", "cpu")
    g = Writer(20)
    output = kaldi_mel(g, row, audio.shape[1], "audio")
    graph = helper.make_graph(
        g.nodes, "front end",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", audio.shape[1]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT,
                                       ["N", row.bands, row.frame_count(audio.shape[1])])],
        list(g.constants.values()))
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset],
                              ir_version=helper.find_min_ir_version_for([opset]))
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"audio": audio})[0], np.float32)


@rows
def test_numpy_and_onnx_nodes_agree_with_torch(row: KaldiMel) -> None:
    expected = by_torch(row, AUDIO)
    frames = row.frame_count(AUDIO.shape[1])
    assert expected.shape == (2, row.bands, frames)
    np.testing.assert_allclose(row.compute(AUDIO, frames), expected, atol=1e-5)
    np.testing.assert_array_equal(row.compute(AUDIO, 7), row.compute(AUDIO, frames)[..., :7])
    found = by_nodes(row, AUDIO)
    np.testing.assert_allclose(found, expected, atol=0.02)  # float32, quiet bins
    assert np.abs(found - expected).mean() < 1e-4


@pytest.mark.parametrize("seconds", [1, 2])
def test_nodes_compute_the_features_of_the_published_ast(seconds: int) -> None:
    expected = np.load(ROOT / "tests" / "data" / "baselines" / f"ast_tiny_{seconds}s.npz")["features"]
    audio = seeded.waveform(seconds, 16_000)[None]
    frames = KALDI_MEL_16K.frame_count(audio.shape[1])
    for mel in (KALDI_MEL_16K.compute(audio, frames), by_nodes(KALDI_MEL_16K, audio)):
        found = (mel.swapaxes(1, 2) + 4.2677393) / (2 * 4.5689974)
        np.testing.assert_allclose(found, expected[:, :frames], rtol=0, atol=1e-4)


def test_a_povey_window_and_scaled_audio_give_the_features_of_the_published_beats(shared: Path) -> None:
    for seconds in (1, 2):
        expected = np.load(shared / "golden" / "baselines" / f"beats_tiny_{seconds}s.npz")["features"]
        mel = KALDI_MEL_16K_POVEY.compute(seeded.waveform(seconds, 16_000)[None], expected.shape[1])
        found = (mel.swapaxes(1, 2) - 15.41663) / (2 * 6.55582)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


def test_only_whole_frames_count() -> None:
    assert [KALDI_MEL_16K.frame_count(n) for n in (0, 399, 400, 559, 560, 16_000, 160_000)] == [
        0, 0, 1, 1, 2, 98, 998]


def test_a_constant_offset_does_not_change_the_features() -> None:
    np.testing.assert_allclose(KALDI_MEL_16K.compute(AUDIO + np.float32(0.25), 50),
                               KALDI_MEL_16K.compute(AUDIO, 50), atol=2e-3)
    silence = np.full((1, 800), 0.5, np.float32)
    np.testing.assert_allclose(by_nodes(KALDI_MEL_16K, silence), np.log(2.0 ** -23), rtol=1e-6)
