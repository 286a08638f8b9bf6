"""CED: the architecture of a ViT, the names of its weights on Zenodo and on the Hub, and its own clip
protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor

from satexport.errors import CheckpointError
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.family import State
from satexport.models.sat.family import reference
from satexport.models.sat.keys import FRONT_END, expected_shapes
from satexport.models.sat.network import Transformer
from satexport.models.sat.variants import LOG_MEL, VARIANTS, find_model
from tests import ROOT
from tests.commands.calls import START, call
from tests.data import seeded
from tests.forked import Forks
from tests.hub_site import Hub
from tests.models.checkpoints import hollow, refusal, save_safetensors, save_torch
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

GOLDEN = np.load(ROOT / "tests" / "data" / "published.npz")
SMALL = find_model(f"ced-small-{TINY}")[10]
FRAMES = 1012  # of a piece


def hub_names(state: State) -> State:
    """Return a state dict with the names in the Hub's repositories mispeech/ced-*, without the code under
    test."""
    renamed = {}
    for key, value in state.items():
        if key.startswith("outputlayer."):
            renamed[key] = value
        elif key.startswith("init_bn.1."):
            renamed[f"encoder.init_bn.{key.removeprefix('init_bn.1.')}"] = value
        elif not key.startswith("front_end."):
            renamed[f"encoder.{key}"] = value
    return renamed


def bare(path: Path, state: State) -> Path:
    return save_torch(path / "bare.pt", {key: torch.from_numpy(value) for key, value in state.items()})


def under_model(path: Path, state: State) -> Path:
    return save_torch(path / "model.pt", {
        "model": {key: torch.from_numpy(value) for key, value in state.items()}, "epoch": 1})


def from_hub(path: Path, state: State) -> Path:
    counter = {"encoder.init_bn.num_batches_tracked": np.asarray(7)}
    save_file(hub_names(state) | counter, path / "hub.safetensors")
    return path / "hub.safetensors"


Save = Callable[[Path, State], Path]


def seeded_state(model: str) -> State:
    """Return the weights from which the published vectors were computed, in the size of a model."""
    shapes = expected_shapes(VARIANTS[model, 10], 527)
    return seeded.state_dict(shapes) | {key: make().astype(np.float32) for key, make in FRONT_END.items()}


@pytest.mark.parametrize("save", [bare, under_model, from_hub])
@pytest.mark.parametrize(("model", "published"), [
    ("ced-tiny", "audiotransformer_tiny"),
    pytest.param("ced-base", "audiotransformer_base", marks=pytest.mark.long)])
def test_weights_under_all_names_give_the_scores_of_the_published_vit(
        model: str, published: str, save: Save, tmp_path: Path) -> None:
    path = str(save(tmp_path, seeded_state(model)))
    for delay in (1, 2):
        step = reference(load_checkpoint(path, VARIANTS[model, delay]))
        outputs, cache = step(seeded.waveform(4 * delay).reshape(4, -1), None)
        assert cache is None
        assert np.abs(outputs.scores - GOLDEN[f"{published}/chunks_{delay}s"]).max() < 5e-5
    step = reference(load_checkpoint(path, VARIANTS[model, 10]))
    for seconds in (5, 10):  # no longer than a piece: the protocols do not differ
        scores = step.clip_scores(seeded.waveform(seconds)[None])
        assert np.abs(scores - GOLDEN[f"{published}/clip_{seconds}s"]).max() < 5e-5


# The clip protocol.

@pytest.fixture(scope="module")
def ced() -> Transformer:
    model = Transformer(SMALL).eval().requires_grad_(False)
    state = load_checkpoint("random", SMALL).state
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return model


def clip_of(frames: int) -> Tensor:
    """Return sound [1, samples] whose spectrogram has that many frames."""
    return torch.from_numpy(seeded.waveform((frames - 1) * LOG_MEL.hop / LOG_MEL.sample_rate))[None]


def scores_of(model: Transformer, features: Tensor) -> Tensor:
    return model.logits(features, None)[0].sigmoid()


def features_of(model: Transformer, clip: Tensor) -> Tensor:
    """Return the features of the whole clip, decibels after the batch norm, [1, 1, 64, F]."""
    weight, bias, mean, variance = (model.state_dict()[f"init_bn.1.{name}"][:, None] for name in (
        "weight", "bias", "running_mean", "running_var"))
    bands: Tensor = model.front_end(clip)
    normed: Tensor = (bands - mean) * weight / torch.sqrt(variance + 1e-5) + bias
    return normed[:, None]


@pytest.mark.parametrize("frames", [FRAMES + 1, 1500, 2 * FRAMES + 100])
def test_the_last_incomplete_piece_is_padded_with_zeros_after_the_batch_norm(
        ced: Transformer, frames: int) -> None:
    clip = clip_of(frames)
    features = features_of(ced, clip)
    assert features.shape[-1] == frames
    whole = frames // FRAMES
    padded = torch.zeros(1, 1, 64, FRAMES)
    padded[..., :frames - whole * FRAMES] = features[..., whole * FRAMES:]
    pieces = [features[..., n * FRAMES:(n + 1) * FRAMES] for n in range(whole)] + [padded]
    expected = torch.stack([scores_of(ced, piece) for piece in pieces]).mean(0)
    torch.testing.assert_close(ced.clip_scores(clip), expected, atol=1e-5, rtol=0)
    dropped = torch.stack([scores_of(ced, piece) for piece in pieces[:-1]]).mean(0)
    assert (dropped - expected).abs().max() > 1e-3  # as a ViT would


@pytest.mark.parametrize("pieces", [2, 3])
def test_the_last_of_several_complete_pieces_is_left_out(ced: Transformer, pieces: int) -> None:
    clip = clip_of(pieces * FRAMES)
    features = features_of(ced, clip)
    parts = torch.split(features, FRAMES, -1)
    assert [part.shape[-1] for part in parts] == pieces * [FRAMES]
    scored = [scores_of(ced, part) for part in parts]
    expected = torch.stack(scored[:-1]).mean(0)
    torch.testing.assert_close(ced.clip_scores(clip), expected, atol=1e-5, rtol=0)
    assert (torch.stack(scored).mean(0) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("frames", [50, 1001, FRAMES])
def test_a_clip_no_longer_than_a_piece_is_scored_without_padding(ced: Transformer, frames: int) -> None:
    clip = clip_of(frames)
    expected = scores_of(ced, features_of(ced, clip))
    torch.testing.assert_close(ced.clip_scores(clip), expected, atol=1e-5, rtol=0)


def test_reports_say_which_clip_protocol_it_is() -> None:
    protocols = [reference(load_checkpoint("random", find_model(f"{model}-{TINY}")[2])).clip_protocol
                 for model in ("ced-tiny", "vit-t")]
    assert ["padded with zeros after the batch norm" in protocol for protocol in protocols] == [True, False]
    assert ["incomplete piece dropped" in protocol for protocol in protocols] == [False, True]


# Recognising the model of a file.

def tiny_state(model: str = "ced-mini") -> State:
    return load_checkpoint("random", find_model(f"{model}-{TINY}")[2]).state


@pytest.mark.parametrize(("change", "words"), [
    (lambda state: state | {"extra": np.zeros(2, np.float32)}, r"extra \(2,\) is not expected"),
    (lambda state: state | {"init_bn.1.bias": state["encoder.init_bn.bias"]},
     r"init_bn\.1\.bias \(64,\) is not expected"),
    (lambda state: state | {"front_end.0.spectrogram.window": np.zeros(512, np.float32)},
     r"front_end\.0\.spectrogram\.window \(512,\) is not expected"),
    (lambda state: {key: value for key, value in state.items() if key != "encoder.norm.bias"},
     r"encoder\.norm\.bias \(48,\) is missing"),
    (lambda state: {key: value for key, value in state.items() if key != "outputlayer.0.bias"},
     r"outputlayer\.0\.bias \(48,\) is missing"),
    (lambda state: state | {"encoder.blocks.1.mlp.fc1.bias": np.zeros(5, np.float32)},
     r"encoder\.blocks\.1\.mlp\.fc1\.bias is \(5,\), expected \(192,\)"),
    (lambda state: state | {"encoder.init_bn.running_var": -np.ones(64, np.float32)},
     r"encoder\.init_bn\.running_var has negative values")], ids=range(7))
def test_files_with_the_names_of_the_hub_are_read_strictly(
        change: Callable[[State], State], words: str, tmp_path: Path) -> None:
    save_file(change(hub_names(tiny_state())), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(tmp_path / "w.safetensors"), find_model(f"ced-mini-{TINY}")[2])


def test_only_a_file_from_the_hub_may_lack_the_front_end(tmp_path: Path) -> None:
    state = {key: value for key, value in tiny_state().items() if key not in FRONT_END}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"front_end\.0\.spectrogram\.window \(512,\) is missing"):
        load_checkpoint(str(tmp_path / "w.safetensors"), find_model(f"ced-mini-{TINY}")[2])
    loaded = load_checkpoint(str(from_hub(tmp_path, state)), find_model(f"ced-mini-{TINY}")[2])
    for key, value in tiny_state().items():
        np.testing.assert_array_equal(loaded.state[key], value)


@pytest.mark.parametrize("model", ["ced-tiny", "ced-mini", "ced-small", "ced-base"])
def test_a_file_from_the_hub_tells_its_model(model: str, tmp_path: Path) -> None:
    state = {key: torch.zeros(value.shape) for key, value in hollow(VARIANTS[model, 2]).items()}
    renamed = hub_names(state)  # type: ignore[arg-type]  # only the names matter
    path = save_safetensors(tmp_path / "w.safetensors", renamed)  # type: ignore[arg-type]
    assert recognize_variant(str(path)).model == model
    if model == "ced-tiny":
        message = refusal(path, VARIANTS["vit-t", 2])
        assert "This looks like ced-tiny at 1 s or 2 s or 10 s" in message
        assert "pass --model ced-tiny --delay 2." in message
        assert load_checkpoint(str(path), VARIANTS["ced-tiny", 2]).caution == ""


@pytest.mark.parametrize(("vit", "ced"), [("vit-t", "ced-tiny"), ("vit-b", "ced-base")])
def test_a_file_that_fits_a_vit_and_a_ced_needs_a_model(vit: str, ced: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(VARIANTS[ced, 2]))
    result = call("onnx", "--checkpoint", path, "--output", tmp_path / "build")
    assert (result.code, result.out) == (2, "")
    assert f"w.pt could be a checkpoint of {vit} or of {ced}: say which with --model" in result.err


@pytest.mark.parametrize(("model", "other"), [("ced-tiny", "vit-t"), ("vit-t", "ced-tiny")])
def test_the_report_says_that_the_shapes_do_not_tell_the_model(
        model: str, other: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(VARIANTS[model, 1]))
    result = call("onnx", "--model", model, "--delay", 1, "--checkpoint", path, "--no-simplify",
                  "--output", tmp_path)
    assert result.code == 0, result.err
    report = json.loads((tmp_path / f"{model}-1s" / "onnx" / "reports" / "export.json").read_text("utf-8"))
    assert f"checkpoints of {model} and {other} have the same shapes" in report["caution"]
    assert f"w.pt: {report['caution']}" in result.err


@pytest.mark.long
def test_a_bundle_repeats_the_caution_of_its_export(tmp_path: Path, quick: tuple[object, ...]) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(VARIANTS["ced-tiny", 1]))
    result = call("cpu", "--fp32", "--model", "ced-tiny", "--delay", 1, "--checkpoint", path,
                  "--output", tmp_path, *quick)
    assert "w.pt: checkpoints of ced-tiny and vit-t have the same shapes" in result.err.lower()


@pytest.mark.parametrize("model", ["ced-mini", "ced-small", "vit-s"])
def test_width_and_class_token_tell_the_model(model: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(VARIANTS[model, 2]))
    assert recognize_variant(str(path)) == VARIANTS[model, 2]
    assert load_checkpoint(str(path), VARIANTS[model, 2]).caution == ""


def test_a_published_file_is_known_to_be_a_ced(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "published"
    folder.mkdir(parents=True)
    save_torch(folder / "audiotransformer_tiny_mAP_4814.pt", hollow(VARIANTS["ced-tiny", 2]))
    loaded = load_checkpoint("published", VARIANTS["ced-tiny", 2])
    assert (loaded.name, loaded.caution) == ("audiotransformer_tiny_mAP_4814.pt", "")


def test_the_error_for_prefixed_names_of_the_hub_has_code_that_removes_the_prefix(tmp_path: Path) -> None:
    state = {f"model.{key}": value for key, value in hub_names(tiny_state()).items()}
    save_file(state, tmp_path / "w.safetensors")
    message = refusal(tmp_path / "w.safetensors", find_model(f"ced-mini-{TINY}")[2])
    assert "k.removeprefix('model.')" in message


LOAD = """
import sys
from satexport.models.checkpoint import load_checkpoint, recognize_variant
variant = recognize_variant(sys.argv[1])
print(variant.name, repr(load_checkpoint(sys.argv[1], variant).caution))
"""


def test_the_config_of_a_repository_tells_a_ced_from_a_vit(hub: Hub, tmp_path: Path, forks: Forks) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(VARIANTS["ced-tiny", 2]))
    hub.repositories["mispeech/ced-tiny"] = {
        "config.json": b'{"architectures": ["CedForAudioClassification"], "model_type": "ced"}',
        "w.pt": path.read_bytes()}
    assert forks.run(LOAD, "hub:mispeech/ced-tiny").out == "ced-tiny-2s ''\n"
    result = forks.run(START, "onnx", "--model", "vit-t", "--checkpoint", "hub:mispeech/ced-tiny",
                       "--output", tmp_path)
    assert result.code == 4
    assert "expected the type of the model that --model names: pass --model ced-tiny or ced-mini or" in (
        result.err)
