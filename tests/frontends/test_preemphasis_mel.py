"""The front ends of EfficientAT and PaSST: numpy and ONNX nodes against recorded features, for every row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from satexport.audio.synthetic import synthetic_stream
from satexport.frontends.nodes.mel_power import MelPower
from satexport.frontends.nodes.preemphasis_mel import preemphasis_mel
from satexport.frontends.preemphasis_mel import PreEmphasisMel
from satexport.frontends.rows import FRONT_ENDS, PREEMPHASIS_MEL_32K, find_front_end
from satexport.graph.writer import Writer
from satexport.step import FloatArray
from tests import ROOT
from tests.machine import need
from tests.models import seeded

BASELINES = ROOT / "tests" / "data" / "baselines"
ROWS = [row for row in FRONT_ENDS.values() if isinstance(row, PreEmphasisMel)]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
TOLERANCE = 5e-5  # of (features + 4.5) / 5


def by_nodes(row: PreEmphasisMel, audio: FloatArray, shift: float = 0.0) -> FloatArray:
    runtime = need("onnxruntime", "cpu")
    g = Writer(17)
    output = preemphasis_mel(g, row, audio.shape[1], "audio", shift)
    shape: list[str | int | None] = ["N", row.bands, row.frame_count(audio.shape[1])]
    graph = helper.make_graph(
        g.nodes, "front end",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", audio.shape[1]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)], list(g.constants.values()))
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset],
                              ir_version=helper.find_min_ir_version_for([opset]))
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"audio": audio})[0], np.float32)


@pytest.mark.parametrize("seconds", [1, 10])
def test_numpy_and_nodes_give_the_published_features(seconds: int) -> None:
    expected = np.load(BASELINES / f"mn04_real_{seconds}s.npz")
    wave = seeded.waveform(seconds, 32_000)[None]
    frames = expected["features"].shape[2]
    for features in (PREEMPHASIS_MEL_32K.compute(wave, 100 * seconds), by_nodes(PREEMPHASIS_MEL_32K, wave)):
        assert features.shape == (1, 128, 100 * seconds)
        normalised = (features + 4.5) / 5
        np.testing.assert_allclose(normalised[..., :frames], expected["features"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(normalised.mean(2), expected["features_mean"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("key", ["hop_5", "hop_15", "hop_20", "hop_25", "mels_40", "mels_64", "mels_256"])
def test_other_hops_and_bands_give_the_published_means(key: str) -> None:
    vectors: Any = np.load(BASELINES / "mn_seeded.npz")
    kind, number = key.split("_")
    suffix = f"hop-{32 * int(number)}" if kind == "hop" else f"bands-{number}"
    row = FRONT_ENDS[f"{PREEMPHASIS_MEL_32K.name}-{suffix}"]
    features = (row.compute(seeded.waveform(2, 32_000)[None], row.frame_count(64_000)) + 4.5) / 5
    # the published filters are in float32: with 256 bands, a log differs by up to 5e-4
    np.testing.assert_allclose(features.mean(2), vectors[f"mn10_{key}/features_mean_2s"], rtol=0, atol=2e-4)


@rows
@pytest.mark.parametrize("seconds", [1, 2])
def test_nodes_agree_with_numpy_for_every_row(row: PreEmphasisMel, seconds: int) -> None:
    audio = synthetic_stream(2 * seconds, "calibrate", rate=row.sample_rate).reshape(2, -1)
    expected = row.compute(audio, row.frame_count(audio.shape[1]))
    np.testing.assert_allclose(by_nodes(row, audio), expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(by_nodes(row, audio, 4.5), expected + 4.5, rtol=0, atol=1e-3)


@rows
def test_a_front_end_is_found_by_its_description(row: PreEmphasisMel) -> None:
    assert find_front_end(row.parameters()) is row


def test_frames_that_are_dropped_do_not_change_the_others() -> None:
    audio = synthetic_stream(1, "calibrate", rate=32_000)[None]
    row = PREEMPHASIS_MEL_32K
    np.testing.assert_array_equal(row.compute(audio, 30), row.compute(audio, 100)[..., :30])


def test_groups_of_bands_give_the_power_of_one_product_with_fewer_operations() -> None:
    row = PREEMPHASIS_MEL_32K
    one = MelPower(n_fft=row.n_fft, hop=row.hop, window=row.window(), filters=row.filters(), groups=1)
    sizes = []
    for power in (one, replace(one, groups=4)):
        g = Writer(20)
        power.write(g, "signal", 31_000, 97)
        weights = [value for name, value in g.constants.items() if name.startswith("mel.filters")]
        sizes.append(sum(int(np.prod(value.dims)) for value in weights))
    assert sizes[1] < sizes[0] / 3


@pytest.mark.parametrize(("changes", "samples"), [
    ({}, 32), ({"hop": 100}, 4), ({"window_length": 408}, 8), ({"n_fft": 1056}, 16), ({"hop": 101}, 1)],
    ids=str)
def test_rows_are_as_long_as_every_hop_and_window_allows(changes: dict[str, int], samples: int) -> None:
    row = replace(PREEMPHASIS_MEL_32K, name="odd", **changes)
    power = MelPower(n_fft=row.n_fft, hop=row.hop, window=row.window(), filters=row.filters())
    assert power.row == samples
    audio = synthetic_stream(1, "calibrate", rate=row.sample_rate)[None, :8_000]
    expected = row.compute(audio, row.frame_count(audio.shape[1]))
    np.testing.assert_allclose(by_nodes(row, audio), expected, rtol=0, atol=1e-3)
