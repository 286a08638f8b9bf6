"""The second family works from a file of weights to tags, and no shared file names it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from satexport.audio.clips import clip_hash
from satexport.audio.synthetic import synthetic_clip, synthetic_stream
from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.gates import verdict
from satexport.errors import BundleError, CheckpointError, UsageError
from satexport.frontends.rows import FRONT_ENDS
from satexport.models.checkpoint import find_weights, load_checkpoint, recognize_variant
from satexport.models.families import FAMILIES, find_variant
from satexport.models.family import Family
from satexport.parity.golden import run_golden
from satexport.parity.protocols import find_gate_set, run_parity
from satexport.pipeline.export import export_onnx, make_contract
from satexport.quantize.calibration_set import calibration_clips, find_calibration
from satexport.step import FloatArray
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests import ROOT
from tests.commands.calls import call
from tests.machine import need
from tests.models.tally import family
from tests.models.tally.variants import LOG_MEL, VARIANTS, Variant
from tests.tiny import SAT

TALLY = VARIANTS["tally", 1]
RATE = LOG_MEL.sample_rate
LINE = {"tally": "tests.models.tally.family"}
SOUND = synthetic_stream(5, "evaluate", rate=RATE)


def test_the_module_meets_the_protocol() -> None:
    module: Family[Variant] = family  # mypy holds each signature against it
    assert {name for name in vars(Family) if name[0] != "_"} - set(dir(module)) == set()


@pytest.fixture(autouse=True, scope="module")
def known() -> Iterator[None]:
    """Add the family: one line, and one row for its front end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "tally", LINE["tally"])
        patch.setitem(FRONT_ENDS, LOG_MEL.name, LOG_MEL)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights."""
    path = tmp_path_factory.mktemp("tally") / "tally.safetensors"
    save_file(family.random(TALLY, 527, seed=1), path)
    return path


@pytest.fixture(scope="module")
def bundle(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that `satexport onnx` writes, given only the file."""
    build = tmp_path_factory.mktemp("build")
    result = call("onnx", "--checkpoint", weights, "--output", build)
    assert result.code == 0
    return build / "tally-1s" / "onnx"


def test_the_contract_contains_the_properties_of_the_variant(bundle: Path) -> None:
    contract = load(bundle).contract
    assert (contract.family, contract.variant, contract.sample_rate) == ("tally", "tally-1s", 32_000)
    assert (contract.hop_samples, contract.memory_steps) == (32_000, 3)
    assert contract.front_end == LOG_MEL.parameters()
    assert contract.tokens == {"new": 1, "cached": 3}


def test_every_rewrite_was_proven(bundle: Path) -> None:
    report = json.loads((bundle / "reports" / "export.json").read_text("utf-8"))
    assert [stage["name"] for stage in report["stages"]][:2] == [
        "as published", "scale of the bands into the hidden layer"]
    assert report["golden"]["chunks"] == 4
    assert report["golden"]["max_difference"] < 1e-4


@pytest.mark.parametrize("options", [
    GraphOptions(), GraphOptions(input="mel"), GraphOptions(streams=2), GraphOptions(streams=ANY)], ids=str)
def test_a_stream_scores_as_the_reference(options: GraphOptions, tmp_path: Path) -> None:
    checkpoint = load_checkpoint("random", TALLY)
    tagger = load(export_onnx(checkpoint, find_target("onnx"), tmp_path, options).path)
    reference = family.reference(checkpoint)
    cache = reference.initial_cache(1)
    scores = tagger.stream().feed(SOUND)
    assert len(scores) == 5
    for row, chunk in zip(scores, SOUND.reshape(5, 1, -1), strict=True):
        expected, cache = reference(chunk, cache)
        np.testing.assert_allclose(row[None], expected.scores, atol=1e-5)
    assert np.ptp(scores, axis=0).max() > 0.01
    assert verdict(run_golden(tagger).gates) == "passed"


@pytest.mark.long
def test_parity_holds_over_a_stream_and_a_set(bundle: Path, few_clips: Path) -> None:
    tagger = load(bundle)
    parity = run_parity(tagger, gate_set=find_gate_set(tagger.bundle, str(few_clips)), minutes=0.1)
    assert [gate.status for gate in parity.gates[:2]] == ["passed", "passed"]
    assert parity.labelled_set
    assert (parity.labelled_set.clips, parity.labelled_set.clip_protocol_map) == (28, None)  # it has no paper
    report = bundle.parent / "r.json"
    result = call("parity", bundle, "--minutes", 0.1, "--data", few_clips, "--report", report)
    assert "mAP, bundle" in result.out
    assert "paper's protocol" not in result.out


@pytest.mark.long
def test_its_linear_layer_becomes_int8(bundle: Path, quick: tuple[object, ...]) -> None:
    result = call("cpu", "--int8", "--from", bundle, "--output", bundle.parents[1], *quick)
    assert result.code in (0, 1)  # random weights: int8 may cost mAP
    int8 = load(bundle.parents[1] / "tally-1s" / "cpu-int8")
    assert int8.bundle.int8_layers() == 1
    calibration = find_calibration("synthetic")
    hashes = {clip_hash(clip.read(RATE)) for clip in calibration_clips(calibration, None)}
    assert int8.bundle.calibrated_on() <= hashes  # at the rate of the model
    np.testing.assert_allclose(int8.stream().feed(SOUND), load(bundle).stream().feed(SOUND), atol=0.05)


def test_run_takes_a_file_of_any_rate_and_a_pipe_at_the_rate_of_the_model(
        bundle: Path, tmp_path: Path) -> None:
    soundfile = need("soundfile", "audio")
    soundfile.write(tmp_path / "a.wav", synthetic_clip("evaluate", 4, 3.0, rate=16_000)[0], 16_000)
    assert call("run", bundle, tmp_path / "a.wav").out.count(" s  ") == 3
    pcm = (SOUND[:2 * RATE] * 32_767).astype("<i2").tobytes()
    program = ("from satexport.models.families import FAMILIES; from satexport.cli import main; "
               f"FAMILIES.update({LINE}); main()")
    process = subprocess.run([sys.executable, "-c", program, "run", bundle, "-"], input=pcm,
                             capture_output=True, check=True, cwd=ROOT)
    lines = process.stdout.decode().splitlines()
    assert lines[0] == "standard input, mono 16-bit PCM at 32000 Hz"
    assert len(lines) == 3  # two seconds at 32 kHz are two chunks


def test_models_lists_it() -> None:
    result = call("models")
    assert "family tally, 32000 Hz" in result.out
    *_, entry = json.loads(call("models", "--json").out)["models"]
    assert (entry["name"], entry["hidden"], entry["cache_bytes"]) == ("tally-1s", 32, 4 * 3 * 32)
    assert entry["licence"] is None
    assert entry["files"] == entry["papers"] == []


# Bad input.

def test_a_device_that_does_not_know_the_family_runs_its_bundle(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load(bundle).stream().feed(SOUND)
    monkeypatch.delitem(FAMILIES, "tally")
    monkeypatch.delitem(FRONT_ENDS, LOG_MEL.name)
    np.testing.assert_array_equal(load(bundle).stream().feed(SOUND), expected)
    assert call("parity", bundle, "--golden", "--report", bundle.parent / "g.json").code == 0
    result = call("parity", bundle, "--report", bundle.parent / "p.json")
    assert result.code == 4
    assert ("the model is of the family 'tally', which this satexport does not have "
            f"(it has {', '.join(FAMILIES)})") in result.err
    assert "newer version" in result.err


def test_a_bundle_of_an_unknown_variant_needs_a_newer_version(bundle: Path) -> None:
    opened = load(bundle).bundle
    newer = replace(opened, contract=replace(opened.contract, variant="tally-7s"))
    with pytest.raises(BundleError, match=r"the model is a 'tally-7s', which .*newer version"):
        find_weights(newer)


def test_a_device_that_needs_a_front_end_it_does_not_know_says_so(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = export_onnx(load_checkpoint("random", TALLY), find_target("onnx"), tmp_path,
                         GraphOptions(input="mel"))
    monkeypatch.delitem(FRONT_ENDS, LOG_MEL.name)
    with pytest.raises(BundleError, match=r"needs the front end 'log-mel-32k'.*newer version"):
        load(export.path)


def test_an_option_that_the_family_does_not_take_is_wrong_use(weights: Path, tmp_path: Path) -> None:
    result = call("onnx", "--checkpoint", weights, "--cache", "hidden", "--output", tmp_path)
    assert (result.code, "tally-1s has no cache: leave --cache out" in result.err) == (2, True)
    with pytest.raises(UsageError, match="has no cache"):
        make_contract(TALLY, 2, GraphOptions(cache="hidden"), labels_sha256="", checkpoint=None)  # type: ignore[arg-type]


def test_a_file_of_another_family_is_recognised(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="This looks like tally at 1 s: pass --model tally --delay 1"):
        load_checkpoint(str(weights), find_variant("sat-t", 2))
    save_file(load_checkpoint("random", find_variant("sat-t", 2)).state, tmp_path / "sat.safetensors")
    with pytest.raises(CheckpointError, match="This looks like sat-t at 2 s: pass --model sat-t --delay 2"):
        load_checkpoint(str(tmp_path / "sat.safetensors"), TALLY)


def test_a_file_that_the_family_knows_but_does_not_support_is_refused(weights: Path, tmp_path: Path) -> None:
    music = tmp_path / "music.safetensors"
    music.write_bytes(weights.read_bytes())
    for model in ([], ["--model", "tally"], ["--model", "sat-t"]):
        result = call("onnx", "--checkpoint", music, *model, "--output", tmp_path / "build")
        assert result.code == 4
        assert f"{music}: is a tally for music, which is not supported; expected one" in result.err


def test_a_file_that_matches_two_families_needs_a_model(tmp_path: Path) -> None:
    both = load_checkpoint("random", find_variant("sat-t", 2)).state | family.random(TALLY, 527, 0)
    save_file(both, tmp_path / "both.safetensors")
    result = call("onnx", "--checkpoint", tmp_path / "both.safetensors", "--output", tmp_path / "build")
    assert result.code == 2
    assert "could be a checkpoint of sat-t or of tally: say which with --model" in result.err


@pytest.mark.parametrize("what", ["published", "demo", "random"])
def test_published_demo_and_random_need_a_model(what: str, tmp_path: Path) -> None:
    result = call("onnx", "--checkpoint", what, "--output", tmp_path)
    assert (result.code, "add --model NAME" in result.err) == (2, True)


def test_the_error_for_an_unpublished_checkpoint_says_what_to_pass() -> None:
    with pytest.raises(UsageError, match="no published checkpoint of tally-1s: pass --checkpoint FILE"):
        load_checkpoint("published", TALLY)
    with pytest.raises(UsageError, match="the demo checkpoint is a sat-t at 2 s, not a tally at 1 s"):
        load_checkpoint("demo", TALLY)


@pytest.mark.parametrize(("model", "trained", "asked", "delay"), [
    ("sat-t", 2, None, 2), ("sat-t", 1, None, 1), ("sat-t", 2, 1, 1), ("vit-s", 10, None, 2),
    ("vit-s", 10, 10, 10), ("sat-s", 1, None, 2), ("ced-mini", 10, None, 2), ("ced-small", 2, 1, 1)])
def test_a_file_tells_its_model_and_its_delay_if_its_shapes_do(
        model: str, trained: int, asked: int | None, delay: int, tmp_path: Path) -> None:
    save_file(load_checkpoint("random", find_variant(model, trained)).state, tmp_path / "w.safetensors")
    assert recognize_variant(str(tmp_path / "w.safetensors"), asked) == find_variant(model, delay)


def test_a_file_of_no_known_model_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "w.safetensors")
    result = call("onnx", "--checkpoint", tmp_path / "w.safetensors", "--output", tmp_path / "build")
    assert (result.code, "its shapes match no known model" in result.err) == (4, True)


def test_without_a_delay_a_model_takes_two_seconds_or_its_first() -> None:
    assert find_variant(SAT).delay == find_variant("vit-b").delay == 2
    assert find_variant("tally").delay == 1


def silence_of(bundle: Path) -> FloatArray:
    return np.asarray(next(iter(load(bundle).bundle.initial_cache())))


def test_a_stream_begins_with_the_state_after_silence(bundle: Path, weights: Path) -> None:
    expected = family.reference(load_checkpoint(str(weights), TALLY)).initial_cache(1)
    np.testing.assert_allclose(silence_of(bundle), expected, atol=1e-6)
