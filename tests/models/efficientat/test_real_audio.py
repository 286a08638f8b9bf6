"""The trained mn04 on real clips, and audio of other sample rates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from satexport.audio.files import read_audio
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import GraphOptions
from satexport.errors import AudioError
from satexport.models.checkpoint import load_checkpoint
from satexport.models.efficientat.variants import find_model
from satexport.tagging.tagger import load
from tests.commands.calls import call
from tests.machine import need
from tests.models.efficientat.graphs import pytorch_scores, stages
from tests.models.efficientat.vectors import KINDS, wave

CLIPS = 10


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a seeded mn01 at 1 s."""
    build = tmp_path_factory.mktemp("build")
    result = call("onnx", "--model", "mn01", "--delay", 1, "--checkpoint", "random", "--output", build)
    assert result.code == 0
    return build / "mn01-1s" / "onnx"


def test_run_resamples_a_file_and_feed_refuses_another_rate(bundle: Path, tmp_path: Path) -> None:
    soundfile = need("soundfile", "audio")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (8000 * 2, 2))  # 2 s of stereo at 8 kHz
    soundfile.write(tmp_path / "a.wav", noise, 8000)
    assert call("run", bundle, tmp_path / "a.wav").out.count(" s  ") == 2
    stream = load(bundle).stream()
    with pytest.raises(AudioError, match="at 16000 Hz, expected 32000 Hz"):
        stream.feed(np.zeros(16_000, np.float32), 16_000)
    assert len(stream.feed(np.zeros(32_000, np.float32), 32_000)) == 1


@pytest.mark.parametrize("delay", [1, 5])
def test_the_trained_mn04_scores_real_clips_as_pytorch(delay: int, shared: Path) -> None:
    need("soundfile", "audio")
    file = shared / "checkpoints" / "mn04_as_mAP_432.pt"
    checkpoint = load_checkpoint(str(file), find_model("mn04")[delay])
    graph = stages(checkpoint)[-1]
    clips = sorted((shared / "esc10" / "audio").iterdir())[::32][:CLIPS]
    audio = np.concatenate([read_audio(clip, 32_000)[:5 * 32_000] for clip in clips])
    chunks = audio[:len(audio) // (delay * 32_000) * delay * 32_000].reshape(-1, delay * 32_000)
    expected = pytorch_scores(checkpoint, chunks)
    assert np.abs(graph.scores(chunks)[0] - expected).max() < 1e-4
    assert (expected.max(1) > 0.3).mean() > 0.3  # it hears something


@pytest.mark.parametrize("kind", ["h-clf1", "mb+l", "m-se", "h-clf2"])
def test_the_graph_of_the_trained_mn04_gives_the_published_embeddings(kind: str, shared: Path) -> None:
    checkpoint = load_checkpoint(str(shared / "checkpoints" / "mn04_as_mAP_432.pt"), find_model("mn04")[1])
    stage = stages(checkpoint, options=GraphOptions(embedding=kind))[-1]
    step = OnnxRuntimeStep(stage.graph.model.SerializeToString(), stage.contract, [])
    expected = np.load(shared / "golden" / "baselines" / "mn04_real_1s.npz")
    found = step(wave(1).numpy(), step.initial_cache(1))[0]
    name = next(name for name, other in KINDS.items() if other == kind)
    assert found.embedding is not None
    np.testing.assert_allclose(found.embedding, expected[name], rtol=0, atol=3e-5)
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def trained(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of the trained mn04 at 1 s."""
    build = tmp_path_factory.mktemp("trained")
    weights = shared / "checkpoints" / "mn04_as_mAP_432.pt"
    assert call("onnx", "--checkpoint", weights, "--delay", 1, "--output", build).code == 0
    return build / "mn04-1s" / "onnx"


@pytest.mark.long
@pytest.mark.parametrize("target", ["cpu-int8", "openvino-int8", "jetson-orin-nano"])
def test_int8_keeps_99_percent_of_the_map_on_real_clips(target: str, trained: Path, shared: Path) -> None:
    result = call("bundle", "--target", target, "--from", trained, "--calibration", "esc50", "--data",
                  shared / "esc10", "--minutes", 1, "--no-measure", "--output", trained.parents[1], "--json")
    assert result.code == 0, result.err
    parity = json.loads(result.out)["parity"]["labelled_set"]
    assert parity["bundle_map"] >= 0.99 * parity["pytorch_map"] > 0.9


@pytest.mark.long
def test_sensitivity_names_convolutions_and_auto_leaves_none_in_float(trained: Path, shared: Path) -> None:
    result = call("cpu", "--int8", "--from", trained, "--calibration", "esc50", "--data", shared / "esc10",
                  "--sensitivity", "--leave-out", "auto", "--minutes", 0.2, "--no-measure", "--output",
                  trained.parents[1], "--json")
    assert result.code == 0, result.err
    content = json.loads(result.out)
    layers = {layer["layer"] for layer in content["sensitivity"]["layers"]}
    assert {"02.expand", "02.project", "04.squeeze", "16.conv"} <= layers
    assert not any("depthwise" in layer for layer in layers)
    assert content["left_out"] == []
